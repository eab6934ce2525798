//! Numbers of a caller that no machine holds, sums that are above a limit, and objects of another device.

use crate::support::{self, gpu};
use wgpu_batchnorm::ndarray::{Array2, Array3};
use wgpu_batchnorm::{
    BackwardOptions, BatchNorm, BatchNormConfig, BatchNormState, BufferRegion, Buffers, DType, Error,
    ForwardOptions, Gpu, Layout, Mode, Plan, PlanInput, Problem, Tensor, Tuning, Tunings, plan::VectorWidth,
    wgpu,
};

#[test]
fn shapes_beyond_64_bits_are_refused() {
    let limit = gpu().profile().limits.max_buffer_size;
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        for shape in [&[1 << 40, 4, 1 << 30][..], &[usize::MAX, usize::MAX], &[1 << 62, 4], &[usize::MAX]] {
            let error = Tensor::zeros_of(gpu(), dtype, shape, Layout::ChannelsFirst).unwrap_err();
            let most = usize::try_from(limit / dtype.bytes()).unwrap();
            assert!(
                matches!(&error, Error::TooManyElements { shape: found, limit } if found == shape && *limit == most)
                    || matches!(&error, Error::BufferTooLarge { limit: found, .. } if *found == limit),
                "{error}"
            );
            let buffer = support::zeros(gpu(), 64);
            let error = Tensor::from_buffer_of(gpu(), dtype, &buffer, 0, shape, Layout::ChannelsFirst);
            assert!(matches!(
                error.unwrap_err(),
                Error::TooManyElements { .. } | Error::BufferTooSmall { available: 64, .. }
            ));
        }
        // An empty tensor is one, however large its other dimensions.
        let empty =
            Tensor::zeros_of(gpu(), dtype, &[usize::MAX, 0, usize::MAX], Layout::ChannelsFirst).unwrap();
        assert_eq!(empty.bytes(), 0);
    }
}

#[test]
fn offsets_near_the_end_of_64_bits_are_refused() {
    let buffer = support::zeros(gpu(), 64);
    for behind in [3, 7, 11, 63, 67] {
        let offset = u64::MAX - behind;
        let error = Tensor::from_buffer(gpu(), &buffer, offset, &[16], Layout::ChannelsFirst).unwrap_err();
        assert!(matches!(error, Error::BufferTooSmall { needed: 64, available: 0, .. }), "{error}");

        let (config, problem) =
            (BatchNormConfig::new(2), Problem::new(&[4, 2], Layout::ChannelsFirst).unwrap());
        let input = PlanInput::new(&problem, &config, Mode::Eval, gpu().profile());
        let prepared = gpu().prepare(&Plan::forward(&input, &ForwardOptions::new()).unwrap()).unwrap();
        let buffers = Buffers::from_fn(|_| Some(BufferRegion::from((&buffer, offset / 256 * 256))));
        let error = prepared.bind(&buffers).unwrap_err();
        assert!(matches!(error, Error::BufferTooSmall { available: 0, .. }), "{error}");
    }
}

/// Problems that only empty tensors have, and problems of another number of channels.
#[test]
fn unusual_problems_are_planned_or_refused() {
    for layout in [Layout::ChannelsFirst, Layout::ChannelsLast] {
        assert_eq!(
            layout.channel_axis(0),
            layout.channel_axis(2).min(if layout == Layout::ChannelsFirst { 1 } else { 0 })
        );
        let shape = |n, c, s| match layout {
            Layout::ChannelsFirst => [n, c, s],
            Layout::ChannelsLast => [n, s, c],
        };
        let error = Problem::new(&shape(3, 0, 5), layout).unwrap_err();
        assert!(matches!(error, Error::NoChannels { .. }), "{error}");
        for (n, c, s) in [(0, usize::MAX, 5), (0, 1 << 32, 5), (2, usize::MAX, 2)] {
            let error = Problem::new(&shape(n, c, s), layout).unwrap_err();
            assert!(matches!(error, Error::TooManyChannels { channels, .. } if channels == c), "{error}");
        }
        for (n, c, s) in
            [(usize::MAX, 3, 0), (0, 3, usize::MAX), (usize::MAX, usize::MAX / 2, 0), (usize::MAX, 3, 2)]
        {
            let Ok(problem) = Problem::new(&shape(n, c, s), layout) else { continue };
            assert_eq!((problem.elements(), problem.values_per_channel()), (0, 0));
            let config = BatchNormConfig::new(3);
            for training in [false, true] {
                let input = PlanInput::new(&problem, &config, training.into(), gpu().profile());
                Plan::forward(&input, &ForwardOptions::new()).unwrap();
                Plan::backward(&input, &BackwardOptions::default()).unwrap();
            }
            for width in [VectorWidth::Scalar, VectorWidth::Four] {
                let tuning = Tuning::new(&problem, width, gpu().profile());
                assert!(Tuning::candidates(&problem, width, gpu().profile()).contains(&tuning));
            }
        }
    }
    let problem = Problem::new(&[4, 5, 7], Layout::ChannelsFirst).unwrap();
    let config = BatchNormConfig::new(3);
    let input = PlanInput::new(&problem, &config, Mode::Train, gpu().profile());
    let refused = |error: Error| matches!(error, Error::Channels { num_features: 3, channels: 5, .. });
    assert!(refused(Plan::forward(&input, &ForwardOptions::new()).unwrap_err()));
    assert!(refused(Plan::backward(&input, &BackwardOptions::default()).unwrap_err()));
    let direction = wgpu_batchnorm::Direction::Forward;
    let tuned = Tunings::new(gpu().profile()).tune(gpu(), &problem, &config, Mode::Train, direction);
    assert!(refused(tuned.unwrap_err()));
}

#[test]
fn more_channels_than_the_device_binds_are_refused_before_the_host_fills_its_memory() {
    let error = BatchNorm::new(gpu(), BatchNormConfig::new(4_000_000_000)).unwrap_err();
    let Error::BindingTooLarge { name: "weight", bytes: 16_000_000_000, limit } = error else {
        panic!("{error}")
    };
    assert_eq!(limit, gpu().profile().limits.max_storage_buffer_binding_size);
    assert!(!error.to_string().contains("batch"), "no batch is at fault: {error}");
    assert!(BatchNormConfig::new(4_000_000_000).affine(false).validate().is_ok());
}

/// Opens a device of wgpu's defaults whose buffers have at most so many bytes.
fn small_gpu(bytes: u64) -> Gpu {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle_from_env());
    let adapter =
        pollster::block_on(instance.request_adapter(&wgpu::RequestAdapterOptions::default())).unwrap();
    let required_limits = wgpu::Limits {
        max_buffer_size: bytes,
        max_storage_buffer_binding_size: bytes,
        max_storage_buffers_per_shader_stage: adapter.limits().max_storage_buffers_per_shader_stage,
        ..wgpu::Limits::default()
    };
    let descriptor = wgpu::DeviceDescriptor { required_limits, ..Default::default() };
    let (device, queue) = pollster::block_on(adapter.request_device(&descriptor)).unwrap();
    Gpu::from_wgpu(&device, &queue)
}

/// What a call transfers may be more than a buffer holds, though each tensor is not.
#[test]
fn transfers_above_the_size_of_a_buffer_take_several() {
    const CHANNELS: usize = 1024;
    let small = small_gpu(16 * CHANNELS as u64);
    let array =
        |seed: usize| Array2::from_shape_fn((4, CHANNELS), |(n, c)| ((n * 7 + c * 3 + seed) % 11) as f32);
    let vector = |seed: usize| Some(array(seed).row(1).to_owned());
    let state = BatchNormState {
        weight: vector(1),
        bias: vector(2),
        running_mean: vector(3),
        running_var: vector(4),
        num_batches_tracked: Some(5),
    };
    let results = |gpu: &Gpu| {
        let mut layer = BatchNorm::with_state(gpu, BatchNormConfig::new(CHANNELS), &state).unwrap();
        assert_eq!(layer.state().unwrap(), state);
        layer.load_state(&state).unwrap();
        let y = layer.forward_add_array(array(6).view(), array(7).view()).unwrap();
        let gradients = layer.backward_array(array(8).view()).unwrap();
        let again =
            pollster::block_on(layer.forward_add_array_async(array(6).view(), array(7).view())).unwrap();
        assert_eq!(again, y);
        (y, gradients, layer.state().unwrap())
    };
    let (y, gradients, after) = results(&small);
    let (y_of_all, gradients_of_all, after_of_all) = results(gpu());
    assert_eq!((y, after), (y_of_all, after_of_all));
    let apart =
        |a: &Array2<f32>, b: &Array2<f32>| (a - b).iter().fold(0.0f32, |most, value| most.max(value.abs()));
    // Another geometry adds in another order.
    assert!(apart(&gradients.input, &gradients_of_all.input) <= 1e-5, "{gradients:?}");
    assert_eq!(gradients.residual, gradients_of_all.residual);

    // One row more is above the limit, and the limit is named.
    let x = Array2::<f32>::zeros((5, CHANNELS));
    let error =
        BatchNorm::new(&small, BatchNormConfig::new(CHANNELS)).unwrap().forward_array(x.view()).unwrap_err();
    assert!(matches!(error, Error::BindingTooLarge { name: "x", bytes: 20480, limit: 16384 }), "{error}");
    let error = Tensor::from_array(&small, x.view()).unwrap_err();
    assert!(matches!(error, Error::BufferTooLarge { bytes: 20480, limit: 16384, .. }), "{error}");
    assert!(error.to_string().contains("max_buffer_size"), "{error}");
}

/// Buffers and encoders of another device of this crate are wgpu's errors, and panic nowhere.
#[test]
fn objects_of_another_device_are_refused() {
    let (here, there) = (Gpu::new().unwrap(), Gpu::new().unwrap());
    let x = Array3::from_shape_fn((2, 3, 4), |(n, c, i)| (n * 5 + c * 3 + i) as f32);
    let buffers: Vec<wgpu::Buffer> = (0..2).map(|_| support::zeros(&there, 96)).collect();
    let over = |buffer| Tensor::from_buffer(&here, buffer, 0, &[2, 3, 4], Layout::ChannelsFirst).unwrap();
    let mut layer = BatchNorm::new(&here, BatchNormConfig::new(3)).unwrap();
    let y = layer.forward_array(x.view()).unwrap();
    layer.load_state(&BatchNormState::new(layer.config())).unwrap();
    let is_refused = |error: Error| assert!(matches!(error, Error::Gpu(_)), "{error}");

    is_refused(over(&buffers[0]).to_array().unwrap_err());
    is_refused(over(&buffers[0]).write_array(x.view()).unwrap_err());
    is_refused(layer.forward(&over(&buffers[0])).unwrap_err());
    is_refused(
        layer.forward_into(&Tensor::from_array(&here, x.view()).unwrap(), &over(&buffers[1])).unwrap_err(),
    );

    // wgpu reports an encoder's errors when it is finished, to whoever finishes it.
    let [input, output] = [(); 2].map(|()| Tensor::from_array(&here, x.view()).unwrap());
    let mut encoder = there.device().create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    let recorded = layer.record_forward(&mut encoder, &input, &output);
    let scope = there.device().push_error_scope(wgpu::ErrorFilter::Validation);
    let _ = encoder.finish();
    let finished = pollster::block_on(scope.pop());
    assert!(recorded.is_err() || finished.is_some(), "{recorded:?}");

    layer.load_state(&BatchNormState::new(layer.config())).unwrap();
    assert_eq!(layer.forward_array(x.view()).unwrap(), y);
}
