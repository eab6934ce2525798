//! The layer on tensors and arrays: errors by variant, each followed by a call that works, and what the
//! layer does besides computing.

use crate::support::{self, changed, gpu};
use ndarray::{Array, Array1, Array2, Array3, Array4, ArrayD, Axis, ShapeBuilder};
use wgpu_batchnorm::kernels::{Kernel, Lanes};
use wgpu_batchnorm::reference;
use wgpu_batchnorm::verify::{compare, table};
use wgpu_batchnorm::{
    BatchNorm, BatchNormConfig, BatchNormState, Error, ForwardOptions, Gpu, GpuOptions, Layout, Mode, Plan,
    PlanInput, Tensor, wgpu,
};

/// Returns numbers without a pattern, between −1 and 1.
fn noise<D: ndarray::Dimension, S: ShapeBuilder<Dim = D>>(shape: S, seed: u32) -> Array<f32, D> {
    let mut state = seed;
    Array::from_shape_simple_fn(shape, || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    })
}

fn layer(channels: usize) -> BatchNorm {
    BatchNorm::new(gpu(), BatchNormConfig::new(channels)).unwrap()
}

fn assert_same<D: ndarray::Dimension>(actual: &Array<f32, D>, exact: &Array<f64, D>) {
    compare("y", actual.view(), exact.view(), 1e-6).unwrap();
}

/// Checks that the layer still computes what a new one computes, and that its state has not moved.
fn assert_untouched(bn: &mut BatchNorm) {
    let new = BatchNormState::new(bn.config());
    assert_eq!(bn.state().unwrap(), new);
    let x = noise((4, bn.config().num_features, 3), 1);
    let exact =
        reference::BatchNorm::new(bn.config().clone()).unwrap().forward(x.mapv(f64::from).view()).unwrap();
    assert_same(&bn.forward_array(x.view()).unwrap(), &exact);
    bn.load_state(&new).unwrap();
}

#[test]
fn inputs_that_do_not_fit_are_refused_and_change_nothing() {
    let mut bn = layer(3);
    let refused = |bn: &mut BatchNorm, shape: &[usize]| {
        let x = Tensor::zeros(gpu(), shape, Layout::ChannelsFirst).unwrap();
        let error = bn.forward(&x).unwrap_err();
        let in_place = bn.forward_in_place(&x).unwrap_err();
        let of_array = bn.forward_array(ArrayD::<f32>::zeros(shape).view()).unwrap_err();
        assert_eq!(error.to_string(), in_place.to_string());
        assert_eq!(error.to_string(), of_array.to_string());
        assert_untouched(bn);
        error
    };
    let error = refused(&mut bn, &[3]);
    assert!(matches!(&error, Error::Rank { rank: 1, shape } if *shape == [3]), "{error}");
    let error = refused(&mut bn, &[1, 3, 1, 1, 1, 1]);
    assert!(matches!(error, Error::Rank { rank: 6, .. }), "{error}");
    let error = refused(&mut bn, &[8, 4, 2]);
    assert!(
        matches!(&error, Error::Channels { num_features: 3, channels: 4, axis: 1, shape } if *shape == [8, 4, 2]),
        "{error}"
    );
    assert!(error.to_string().contains("expected 3 channels, got 4"), "{error}");
    let error = refused(&mut bn, &[8, 0, 2]);
    assert!(matches!(error, Error::NoChannels { .. }), "{error}");
    let error = refused(&mut bn, &[1, 3, 1, 1]);
    assert!(matches!(&error, Error::OneValuePerChannel { shape } if *shape == [1, 3, 1, 1]), "{error}");
    assert!(error.to_string().contains("[1, 3, 1, 1]"), "{error}");
}

#[test]
fn one_value_per_channel_is_enough_for_running_statistics_only() {
    let x = Array2::from_elem((1, 3), 0.5f32);
    let mut bn = layer(3);
    bn.eval();
    let y = bn.forward_array(x.view()).unwrap();
    assert!((y[[0, 0]] - 0.5).abs() < 1e-5);
    let config = BatchNormConfig::new(3).track_running_stats(false);
    let mut bn = BatchNorm::new(gpu(), config).unwrap();
    bn.eval();
    assert!(matches!(bn.forward_array(x.view()), Err(Error::OneValuePerChannel { .. })));
}

#[test]
fn channels_last_input_is_named_by_its_last_axis() {
    let mut bn = BatchNorm::new(gpu(), BatchNormConfig::new(3).layout(Layout::ChannelsLast)).unwrap();
    let error = bn.forward_array(Array3::<f32>::zeros((8, 3, 5)).view()).unwrap_err();
    assert!(matches!(error, Error::Channels { channels: 5, axis: 2, .. }), "{error}");
    bn.forward_array(Array3::<f32>::zeros((8, 5, 3)).view()).unwrap();
}

#[test]
fn configurations_out_of_range_are_refused() {
    let refused = |config: BatchNormConfig, name: &str| match BatchNorm::new(gpu(), config.clone()) {
        Err(Error::InvalidConfig { option, .. }) => {
            assert_eq!(option, name);
            let reference = reference::BatchNorm::new(config).unwrap_err();
            assert!(matches!(reference, Error::InvalidConfig { .. }));
        }
        other => panic!("{name}: {other:?}"),
    };
    refused(BatchNormConfig::new(0), "num_features");
    for eps in [-1e-5, f64::NAN, f64::INFINITY, 1e300] {
        refused(BatchNormConfig::new(3).eps(eps), "eps");
    }
    for momentum in [f64::NAN, f64::INFINITY, 1e300] {
        refused(BatchNormConfig::new(3).momentum(momentum), "momentum");
    }
    // As in PyTorch, eps may be 0 for running statistics, but not for those of a batch.
    let mut bn = BatchNorm::new(gpu(), BatchNormConfig::new(3).eps(0.0)).unwrap();
    let x = noise((4, 3), 5);
    assert!(matches!(bn.forward_array(x.view()), Err(Error::InvalidConfig { option: "eps", .. })));
    bn.eval();
    assert_same(&bn.forward_array(x.view()).unwrap(), &x.mapv(f64::from));
}

#[test]
fn outputs_must_match_and_lie_elsewhere() {
    let mut bn = layer(3);
    let x = Tensor::from_array(gpu(), noise((4, 3, 5), 2).view()).unwrap();
    let other = Tensor::zeros(gpu(), &[4, 3, 6], Layout::ChannelsFirst).unwrap();
    let error = bn.forward_into(&x, &other).unwrap_err();
    assert!(
        matches!(&error, Error::ShapeMismatch { name: "y", expected, shape, .. }
            if *expected == [4, 3, 5] && *shape == [4, 3, 6]),
        "{error}"
    );
    let error = bn.forward_into(&x, &x.clone()).unwrap_err();
    assert!(matches!(error, Error::SharedBuffer { first: "x", second: "y", overlap: true }), "{error}");
    assert_untouched(&mut bn);
}

#[test]
fn tensors_of_another_device_are_refused() {
    let elsewhere = Gpu::new().unwrap();
    let mut bn = layer(3);
    let here = Tensor::from_array(gpu(), noise((4, 3, 5), 3).view()).unwrap();
    let foreign = Tensor::from_array(&elsewhere, noise((4, 3, 5), 3).view()).unwrap();
    assert!(matches!(bn.forward(&foreign), Err(Error::ForeignDevice { name: "x" })));
    assert!(matches!(bn.forward_in_place(&foreign), Err(Error::ForeignDevice { name: "x" })));
    assert!(matches!(bn.forward_into(&here, &foreign), Err(Error::ForeignDevice { name: "y" })));
    assert_untouched(&mut bn);
}

#[test]
fn a_device_of_the_callers_will_do() {
    // The device has only wgpu's default features and limits.
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle_from_env());
    let adapter =
        pollster::block_on(instance.request_adapter(&wgpu::RequestAdapterOptions::default())).unwrap();
    let (device, queue) =
        pollster::block_on(adapter.request_device(&wgpu::DeviceDescriptor::default())).unwrap();
    let gpu = Gpu::from_wgpu(&device, &queue);
    assert!(!gpu.profile().has_subgroups());
    let mut bn = BatchNorm::new(&gpu, BatchNormConfig::new(3)).unwrap();
    assert_untouched(&mut bn);
}

#[test]
fn tensors_over_buffers_are_checked() {
    let buffer = support::zeros(gpu(), 64);
    let over =
        |offset, shape: &[usize]| Tensor::from_buffer(gpu(), &buffer, offset, shape, Layout::ChannelsFirst);
    over(4, &[3, 5]).unwrap();
    assert!(matches!(
        over(8, &[3, 5]),
        Err(Error::BufferTooSmall { needed: 60, available: 56, offset: 8, .. })
    ));
    assert!(matches!(over(2, &[3]), Err(Error::Misaligned { offset: 2, alignment: 4, .. })));
    let uniform = gpu().device().create_buffer(&wgpu::BufferDescriptor {
        label: None,
        size: 64,
        usage: wgpu::BufferUsages::UNIFORM,
        mapped_at_creation: false,
    });
    let error = Tensor::from_buffer(gpu(), &uniform, 0, &[4], Layout::ChannelsFirst).unwrap_err();
    assert!(matches!(error, Error::BufferUsage { .. }), "{error}");
}

#[test]
fn a_tensor_larger_than_a_binding_is_refused() {
    let limit = gpu().profile().limits.max_storage_buffer_binding_size;
    let rows = usize::try_from(limit / 4 / 1024).unwrap() + 1;
    let problem = wgpu_batchnorm::Problem::new(&[rows, 1024], Layout::ChannelsFirst);
    // If the limit is beyond 32-bit indices, the shape itself is refused.
    let Ok(problem) = problem else { return };
    let config = BatchNormConfig::new(1024);
    let error = Plan::forward(
        &PlanInput::new(&problem, &config, Mode::Train, gpu().profile()),
        &ForwardOptions::new(),
    )
    .unwrap_err();
    assert!(
        matches!(error, Error::BindingTooLarge { name: "x", bytes, limit: l }
            if bytes == rows as u64 * 4096 && l == limit),
        "{error}"
    );
}

#[test]
fn unknown_adapters_are_named_with_those_there_are() {
    let error = Gpu::with_options(&GpuOptions::new().adapter("Voodoo 2")).unwrap_err();
    let name = &gpu().profile().name;
    assert!(
        matches!(&error, Error::NoAdapter { wanted: Some(wanted), found, .. }
            if wanted == "Voodoo 2" && found.contains(name)),
        "{error}"
    );
    let message = error.to_string();
    assert!(message.contains("Voodoo 2") && message.contains(&format!("take one of [{name:?}")), "{message}");
    assert!(Gpu::adapters(None).iter().any(|profile| profile.name == *name));
    let part = name.split_whitespace().next().unwrap().to_uppercase();
    assert_eq!(&Gpu::with_options(&GpuOptions::new().adapter(part)).unwrap().profile().name, name);
}

#[test]
fn states_are_checked_and_come_back() {
    let mut bn = layer(3);
    let mut state = BatchNormState::new(bn.config());
    state.weight = Some(Array1::ones(4));
    let error = bn.load_state(&state).unwrap_err();
    assert!(
        matches!(error, Error::ParameterLength { name: "weight", length: 4, num_features: 3 }),
        "{error}"
    );
    state.weight = None;
    let error = bn.load_state(&state).unwrap_err();
    assert!(matches!(error, Error::StateMismatch { name: "weight", expected: true }), "{error}");
    assert_untouched(&mut bn);

    let state = BatchNormState {
        weight: Some(ndarray::array![1.0, 2.0, 3.0]),
        bias: Some(ndarray::array![4.0, 5.0, 6.0]),
        running_mean: Some(ndarray::array![7.0, 8.0, 9.0]),
        running_var: Some(ndarray::array![10.0, 11.0, 12.0]),
        num_batches_tracked: Some(5_000_000_000),
    };
    bn.load_state(&state).unwrap();
    assert_eq!(bn.state().unwrap(), state);
    let config = bn.config().clone();
    assert_eq!(BatchNorm::with_state(gpu(), config, &state).unwrap().state().unwrap(), state);
    bn.forward_array(noise((4, 3, 5), 4).view()).unwrap();
    assert_eq!(bn.state().unwrap().num_batches_tracked, Some(5_000_000_001));
    // Without parameters and statistics there is no state at all.
    let bare = BatchNormConfig::new(3).affine(false).track_running_stats(false);
    let bare = BatchNorm::new(gpu(), bare).unwrap();
    assert_eq!(bare.state().unwrap(), BatchNormState::new(bare.config()));
    assert!(bare.state().unwrap().weight.is_none());
}

#[test]
fn eval_reads_what_was_written_to_the_parameters() {
    let mut bn = layer(2);
    let weight = bn.weight().unwrap();
    let error = weight.write_array(ndarray::array![1.0f32].view()).unwrap_err();
    assert!(matches!(error, Error::ShapeMismatch { name: "array", .. }), "{error}");
    weight.write_array(ndarray::array![2.0f32, 3.0].view()).unwrap();
    bn.eval();
    let y = bn.forward_array(ndarray::array![[1.0f32, 1.0]].view()).unwrap();
    assert_same(&y, &(ndarray::array![[2.0, 3.0]] / (1.0f64 + 1e-5).sqrt()));
}

#[test]
fn any_memory_order_of_an_array_will_do() {
    let x = noise((4, 3, 5, 6), 6);
    let exact = layer(3).forward_array(x.view()).unwrap();
    let mut reversed = x.clone();
    reversed.swap_axes(2, 3);
    let transposed = layer(3).forward_array(reversed.view().permuted_axes([0, 1, 3, 2])).unwrap();
    assert_eq!(transposed, exact);
    let fortran = Array4::from_shape_fn(x.raw_dim().f(), |index| x[index]);
    assert_eq!(layer(3).forward_array(fortran.view()).unwrap(), exact);
    let twice = ndarray::concatenate![Axis(0), x, x];
    let every_other = twice.slice(ndarray::s![..4, .., .., ..]);
    assert_eq!(layer(3).forward_array(every_other).unwrap(), exact);
}

#[test]
fn every_way_gives_the_same_bits_every_time() {
    let x = noise((6, 5, 7, 9), 7);
    let bits = |y: &Array4<f32>| y.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
    let first = bits(&layer(5).forward_array(x.view()).unwrap());
    let into_4d = |y: ArrayD<f32>| y.into_dimensionality().unwrap();
    for _ in 0..3 {
        assert_eq!(first, bits(&layer(5).forward_array(x.view()).unwrap()));
        assert_eq!(first, bits(&pollster::block_on(layer(5).forward_array_async(x.view())).unwrap()));
        let tensor = Tensor::from_array(gpu(), x.view()).unwrap();
        let y = layer(5).forward(&tensor).unwrap();
        assert_eq!(first, bits(&into_4d(y.to_array().unwrap())));
        assert_eq!(first, bits(&into_4d(pollster::block_on(y.to_array_async()).unwrap())));
        layer(5).forward_in_place(&tensor).unwrap();
        assert_eq!(first, bits(&into_4d(tensor.to_array().unwrap())));
    }
}

#[test]
fn futures_run_on_any_thread_and_in_any_order() {
    let x = noise((4, 3, 5), 8);
    let exact = layer(3).forward_array(x.view()).unwrap();
    let tensors: Vec<Tensor> = (0..4)
        .map(|_| {
            let tensor = Tensor::from_array(gpu(), x.view()).unwrap();
            layer(3).forward(&tensor).unwrap()
        })
        .collect();
    std::thread::scope(|scope| {
        let handles: Vec<_> = tensors
            .iter()
            .rev()
            .map(|tensor| scope.spawn(|| pollster::block_on(tensor.to_array_async()).unwrap()))
            .collect();
        for handle in handles {
            assert_eq!(handle.join().unwrap(), exact.clone().into_dyn());
        }
    });
}

#[test]
fn several_layers_share_one_submission() {
    let x = noise((4, 3, 5), 9);
    let (mut first, mut second) = (layer(3), layer(3));
    let input = Tensor::from_array(gpu(), x.view()).unwrap();
    let middle = Tensor::zeros(gpu(), &[4, 3, 5], Layout::ChannelsFirst).unwrap();
    let mut encoder = gpu().device().create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    first.record_forward(&mut encoder, &input, &middle).unwrap();
    second.record_forward_in_place(&mut encoder, &middle).unwrap();
    gpu().queue().submit([encoder.finish()]);
    let once = layer(3).forward_array(x.view()).unwrap();
    let twice = layer(3).forward_array(once.view()).unwrap();
    assert_eq!(middle.to_array().unwrap(), twice.into_dyn());
}

#[test]
fn statistics_are_those_of_the_last_pass() {
    let x = noise((4, 3, 50), 10).mapv(|value| value + 1e4);
    let mut bn = layer(3);
    assert_eq!(bn.batch_statistics().unwrap(), None);
    bn.forward_array(x.view()).unwrap();
    let batch = bn.batch_statistics().unwrap().unwrap();
    let mut exact = reference::BatchNorm::new(BatchNormConfig::new(3)).unwrap();
    exact.forward(x.mapv(f64::from).view()).unwrap();
    let var = exact.batch_var().unwrap();
    // The two parts of the mean are far more exact than one f32, which has units of 1e-3 at 1e4.
    let mean = batch.mean.mapv(f64::from) + batch.mean_remainder.mapv(f64::from);
    compare("mean", mean.view(), exact.batch_mean().unwrap().view(), 1e-11).unwrap();
    compare("var", batch.var.view(), var.view(), 1e-6).unwrap();
    let inv_std = var.mapv(|var| 1.0 / (var + 1e-5).sqrt());
    compare("inv_std", batch.inv_std.view(), inv_std.view(), 1e-6).unwrap();
    bn.eval();
    bn.forward_array(x.view()).unwrap();
    assert_eq!(bn.batch_statistics().unwrap(), None);
}

#[test]
fn more_workgroups_than_a_dimension_holds() {
    // Planes take a workgroup for each channel.
    let x = noise((2, 70_001, 2), 11);
    let mut bn = layer(70_001);
    let tensor = Tensor::from_array(gpu(), x.view()).unwrap();
    let plan = bn.plan(&tensor, &ForwardOptions::new()).unwrap();
    assert!(plan.steps().iter().any(|step| step.grid[1] > 1), "{plan}");
    let y = bn.forward_array(x.view()).unwrap();
    let mut exact = reference::BatchNorm::new(BatchNormConfig::new(70_001)).unwrap();
    assert_same(&y, &exact.forward(x.mapv(f64::from).view()).unwrap());
}

#[test]
fn subgroups_are_used_where_there_are_some() {
    let lanes = |gpu: &Gpu| {
        let case = table().into_iter().find(|case| case.name.starts_with("odd planes")).unwrap();
        let problem = case.config.problem(&case.shape, case.config.layout, Mode::Train).unwrap();
        let plan = Plan::forward(
            &PlanInput::new(&problem, &case.config, Mode::Train, gpu.profile()),
            &ForwardOptions::new(),
        )
        .unwrap();
        plan.steps()
            .iter()
            .find_map(
                |step| if let Kernel::Moments(moments) = step.kernel { Some(moments.lanes) } else { None },
            )
            .unwrap()
    };
    assert_eq!(lanes(support::gpu_without_subgroups()), Lanes::Rows { across: 1 });
    assert!(gpu().profile().has_subgroups(), "this adapter has no subgroups: the shuffles stay untested");
    assert!(matches!(lanes(gpu()), Lanes::Subgroup { .. }));
}

/// Returns a tensor over a buffer that is mapped, so that wgpu refuses to submit commands that use it.
fn mapped(shape: &[usize]) -> (Tensor, wgpu::Buffer) {
    let bytes = shape.iter().product::<usize>() as u64 * 4;
    let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST;
    let descriptor = wgpu::BufferDescriptor { label: None, size: bytes, usage, mapped_at_creation: true };
    let buffer = gpu().device().create_buffer(&descriptor);
    (Tensor::from_buffer(gpu(), &buffer, 0, shape, Layout::ChannelsFirst).unwrap(), buffer)
}

/// wgpu finds what is wrong when the commands are submitted. What the last pass saved, and the statistics, stay.
#[test]
fn a_forward_pass_that_fails_leaves_the_one_before() {
    type Pass = fn(&mut BatchNorm, &Tensor, &Tensor) -> Result<(), Error>;
    let mut bn = layer(3);
    let shape = [4, 3, 5];
    let [x, dy] = [2, 3].map(|seed| Tensor::from_array(gpu(), noise((4, 3, 5), seed).view()).unwrap());
    bn.forward(&x).unwrap();
    let statistics = bn.batch_statistics().unwrap();
    let dx = bn.backward(&dy).unwrap().input.unwrap().to_array().unwrap();
    let state = bn.state().unwrap();
    let (bad, buffer) = mapped(&shape);
    let y = Tensor::zeros(gpu(), &shape, Layout::ChannelsFirst).unwrap();
    let all: [Pass; 6] = [
        |bn, bad, _| bn.forward(bad).map(drop),
        |bn, bad, _| bn.forward_in_place(bad),
        |bn, bad, y| bn.forward_into(bad, y),
        |bn, bad, y| bn.forward_into(y, bad),
        |bn, bad, y| bn.forward_add_into(y, bad, y),
        |bn, bad, _| bn.forward_add(bad, bad).map(drop),
    ];
    for fails in all {
        let error = fails(&mut bn, &bad, &y).unwrap_err();
        assert!(matches!(error, Error::Gpu(_)), "{error}");
        assert_eq!(bn.saved().unwrap().x().buffer(), x.buffer());
        assert_eq!(bn.batch_statistics().unwrap(), statistics);
        assert_eq!(bn.backward(&dy).unwrap().input.unwrap().to_array().unwrap(), dx);
        assert_eq!(bn.state().unwrap(), state);
    }
    // The tensor is as good as any once it is no longer mapped.
    buffer.unmap();
    bn.forward(&bad).unwrap();
    assert_eq!(bn.saved().unwrap().x().buffer(), bad.buffer());
}

/// wgpu refuses to write to a destroyed buffer. Then nothing of the state is replaced.
#[test]
fn a_state_is_loaded_as_a_whole_or_not_at_all() {
    let mut bn = layer(3);
    let before = bn.state().unwrap();
    let state = changed(before.clone(), |state| {
        state.weight = Some(Array1::from_elem(3, 2.0));
        state.running_mean = Some(Array1::from_elem(3, 3.0));
        state.num_batches_tracked = Some(7);
    });
    let running_var = bn.running_var().unwrap().clone();
    let readable = [bn.weight().unwrap().clone(), bn.running_mean().unwrap().clone()];
    running_var.buffer().destroy();
    let error = bn.load_state(&state).unwrap_err();
    assert!(matches!(error, Error::Gpu(_)), "{error}");
    assert_eq!(readable[0].to_array().unwrap().iter().copied().collect::<Vec<_>>(), [1.0; 3]);
    assert_eq!(readable[1].to_array().unwrap().iter().copied().collect::<Vec<_>>(), [0.0; 3]);
    let mut whole = layer(3);
    whole.load_state(&state).unwrap();
    assert_eq!(whole.state().unwrap(), state);
}
