//! Inference without `&mut`: the bits of eval, from several threads, with nothing kept.

use crate::support::{allocated, buffer, gpu, read};
use ndarray::{Array1, ArrayD, IxDyn, array};
use wgpu_batchnorm::half::bf16;
use wgpu_batchnorm::{
    Activation, BatchNorm, BatchNormConfig, BatchNormState, DType, Error, ForwardOptions, Gpu, GpuOptions,
    Gradients, LayerTensors, Layout, Result, Saved, Tensor,
};

/// Returns a layer that has seen a batch, in training mode.
fn trained(gpu: &Gpu, config: BatchNormConfig) -> Result<BatchNorm> {
    let mut layer = BatchNorm::new(gpu, config)?;
    let channels = layer.config().num_features;
    if layer.weight().is_some() {
        layer.set_weight(Array1::from_shape_fn(channels, |c| 0.5 + c as f32).view())?;
        layer.set_bias(Array1::from_shape_fn(channels, |c| 0.25 * c as f32 - 1.0).view())?;
    }
    layer.forward_array(values(&[5, channels, 3, 4], 1).view())?;
    Ok(layer)
}

fn values(shape: &[usize], seed: usize) -> ArrayD<f32> {
    ArrayD::from_shape_fn(IxDyn(shape), |at| {
        let k = (0..shape.len()).fold(seed, |k, axis| 31 * k + at[axis]);
        (k * 2_654_435_761 % 1000) as f32 / 100.0 - 3.0
    })
}

fn bits(array: &ArrayD<f32>) -> Vec<u32> {
    assert!(array.iter().all(|value| value.is_finite()));
    array.iter().map(|value| value.to_bits()).collect()
}

#[test]
fn inference_gives_the_bits_of_eval_and_changes_nothing() -> Result<()> {
    for config in [
        BatchNormConfig::new(7),
        BatchNormConfig::new(7).affine(false).activation(Activation::Relu),
        // Statistics of the batch take the place of running ones.
        BatchNormConfig::new(7).track_running_stats(false),
    ] {
        let mut layer = trained(gpu(), config)?;
        let (x, residual) = (values(&[6, 7, 5, 8], 3), values(&[6, 7, 5, 8], 4));
        let [on_gpu, added] = [&x, &residual].map(|array| Tensor::from_array(gpu(), array.view()));
        let (on_gpu, added) = (on_gpu?, added?);
        let state = layer.state()?;
        let inferred = layer.infer(&on_gpu)?.to_array()?;
        let sum = layer.infer_add(&on_gpu, &added)?.to_array()?;
        let from_arrays = layer.infer_array(x.view())?;
        let later = pollster::block_on(layer.infer_array_async(x.view()))?;
        let halves = layer.infer_array(x.mapv(bf16::from_f32).view())?;
        let in_place = Tensor::from_array(gpu(), x.view())?;
        layer.infer_into(&in_place, &in_place)?;
        // The mode, the state and what the last pass in training left are as they were.
        assert!(layer.is_training() && layer.state()? == state);
        assert_eq!(layer.saved().unwrap().x().shape(), [5, 7, 3, 4]);
        layer.eval();
        let expected = layer.forward(&on_gpu)?.to_array()?;
        assert!(layer.saved().is_none());
        for found in [&inferred, &from_arrays, &later, &in_place.to_array()?] {
            assert_eq!(bits(found), bits(&expected));
        }
        assert_eq!(bits(&sum), bits(&layer.forward_add(&on_gpu, &added)?.to_array()?));
        assert_eq!(halves, layer.forward_array(x.mapv(bf16::from_f32).view())?);
    }
    Ok(())
}

#[test]
fn several_threads_infer_at_once() -> Result<()> {
    let layers = [
        trained(gpu(), BatchNormConfig::new(5))?,
        trained(gpu(), BatchNormConfig::new(5).track_running_stats(false))?,
    ];
    let inferred = |k: usize| -> Result<Vec<Vec<u32>>> {
        let x = values(&[3 + k, 5, 9], k);
        layers.iter().map(|layer| Ok(bits(&layer.infer_array(x.view())?))).collect()
    };
    let alone = (0..4).map(inferred).collect::<Result<Vec<_>>>()?;
    std::thread::scope(|scope| {
        let in_thread = |(k, alone)| {
            let inferred = &inferred;
            scope.spawn(move || (0..20).try_for_each(|_| inferred(k).map(|found| assert_eq!(&found, alone))))
        };
        let threads: Vec<_> = alone.iter().enumerate().map(in_thread).collect();
        threads.into_iter().try_for_each(|thread| thread.join().unwrap())
    })
}

#[test]
fn eval_does_not_keep_the_input() -> Result<()> {
    let gpu = Gpu::with_options(&GpuOptions::new())?;
    let mut layer = trained(&gpu, BatchNormConfig::new(4))?;
    layer.eval();
    layer.clear_saved();
    let x = Tensor::from_array(&gpu, values(&[64, 4, 64], 1).view())?;
    let y = Tensor::zeros(&gpu, x.shape(), x.layout())?;
    layer.forward_into(&x, &y)?;
    layer.infer_into(&x, &y)?;
    read(&gpu, y.buffer());
    let held = allocated(&gpu);
    drop(x);
    read(&gpu, y.buffer());
    assert!(allocated(&gpu) + 64 * 4 * 64 * 4 <= held, "{} of {held} bytes are left", allocated(&gpu));
    assert!(matches!(layer.backward(&y), Err(Error::NoForward)));

    // Backward in eval takes what the caller kept.
    let x = Tensor::from_array(&gpu, values(&[6, 4, 5], 1).view())?;
    let dy = Tensor::from_array(&gpu, values(&[6, 4, 5], 2).view())?;
    let (_, saved) = layer.forward_saved(&x)?;
    let all = |gradients: &Gradients| -> Result<Vec<Vec<u32>>> {
        let tensors = [&gradients.input, &gradients.weight, &gradients.bias];
        tensors.into_iter().flatten().map(|tensor| Ok(bits(&tensor.to_array()?))).collect()
    };
    let gradients = layer.backward_saved(&saved, &dy, Default::default())?;
    let names: Vec<_> = gradients.parameters().map(|(name, _)| name).collect();
    assert_eq!(names, layer.parameters().map(|(name, _)| name).collect::<Vec<_>>());
    let again = layer.backward_saved(&Saved::of_eval(&x, None), &dy, Default::default())?;
    assert!(all(&gradients)?.len() == 3 && all(&gradients)? == all(&again)?);
    Ok(())
}

#[test]
fn a_clone_shares_parameters_and_statistics_only() -> Result<()> {
    let mut layer = trained(gpu(), BatchNormConfig::new(2))?;
    let mut clone = layer.clone();
    assert!(clone.saved().is_none() && layer.saved().is_some());
    clone.eval();
    assert!(layer.is_training());
    layer.set_weight(array![3.0, 4.0].view())?;
    clone.set_bias(array![5.0, 6.0].view())?;
    assert_eq!(clone.state()?, layer.state()?);
    assert_eq!(clone.state()?.weight, Some(array![3.0, 4.0]));
    let x = values(&[9, 2], 7);
    let before = clone.infer_array(x.view())?;
    layer.forward_array(x.view())?;
    assert_ne!(bits(&clone.infer_array(x.view())?), bits(&before));
    assert_eq!(clone.state()?.num_batches_tracked, Some(2));
    Ok(())
}

#[test]
fn parameters_that_do_not_fit_are_refused() -> Result<()> {
    let mut layer = BatchNorm::new(gpu(), BatchNormConfig::new(3).bias(false))?;
    let state = layer.state()?;
    let error = layer.set_weight(array![1.0, 2.0].view());
    assert!(matches!(error, Err(Error::ParameterLength { name: "weight", length: 2, num_features: 3 })));
    let error = layer.set_bias(array![1.0, 2.0, 3.0].view());
    assert!(matches!(error, Err(Error::StateMismatch { name: "bias", expected: false })));
    assert_eq!(layer.state()?, state);
    assert_eq!(layer.num_parameters(), 3);
    assert_eq!(BatchNorm::new(gpu(), BatchNormConfig::new(3))?.num_parameters(), 6);
    assert_eq!(BatchNorm::new(gpu(), BatchNormConfig::new(3).affine(false))?.parameters().count(), 0);
    Ok(())
}

#[test]
fn a_layer_over_the_callers_tensors_is_one_of_its_own() -> Result<()> {
    let mut own = trained(gpu(), BatchNormConfig::new(6))?;
    let state = own.state()?;
    // One buffer of an optimiser for all parameters, with a number between them that stays.
    let step = u64::from(gpu().profile().limits.min_storage_buffer_offset_alignment).max(28);
    let memory = buffer(gpu(), &vec![7.0; step as usize]);
    let part = |k: u64, values: &Option<Array1<f32>>| -> Result<Tensor> {
        let tensor = Tensor::from_buffer(gpu(), &memory, k * step, &[6], Layout::ChannelsFirst)?;
        tensor.write_array(values.as_ref().unwrap().view())?;
        Ok(tensor)
    };
    let [mean, var] = [&state.running_mean, &state.running_var]
        .map(|values| Tensor::from_array(gpu(), values.as_ref().unwrap().view()));
    let tensors = LayerTensors::new().weight(part(0, &state.weight)?).bias(part(1, &state.bias)?);
    let tensors = tensors.running_mean(mean?).running_var(var?);
    let mut layer = BatchNorm::with_tensors(gpu(), own.config().clone(), &tensors)?;
    let x = values(&[5, 6, 9], 12);
    assert_eq!(bits(&layer.forward_array(x.view())?), bits(&own.forward_array(x.view())?));
    let dy = values(&[5, 6, 9], 13);
    assert_eq!(layer.backward_array(dy.view())?, own.backward_array(dy.view())?);
    let expected = own.state()?;
    assert_eq!(layer.state()?, BatchNormState { num_batches_tracked: Some(1), ..expected.clone() });
    assert_eq!(
        tensors.running_mean.as_ref().unwrap().to_array()?.into_raw_vec_and_offset().0,
        expected.running_mean.unwrap().to_vec()
    );
    assert_eq!(read(gpu(), &memory)[6], 7.0);

    let config = || own.config().clone();
    let refused = |config, tensors: &LayerTensors| BatchNorm::with_tensors(gpu(), config, tensors).map(drop);
    let error = refused(config().bias(false), &tensors);
    assert!(matches!(error, Err(Error::StateMismatch { name: "bias", expected: false })), "{error:?}");
    let error = refused(config(), &tensors.clone().running_var(None));
    assert!(matches!(error, Err(Error::StateMismatch { name: "running_var", expected: true })), "{error:?}");
    let long = Tensor::zeros(gpu(), &[7], Layout::ChannelsFirst)?;
    let error = refused(config(), &tensors.clone().weight(long));
    assert!(
        matches!(error, Err(Error::ParameterLength { name: "weight", length: 7, num_features: 6 })),
        "{error:?}"
    );
    let half = Tensor::zeros_of(gpu(), DType::F16, &[6], Layout::ChannelsFirst)?;
    let error = refused(config(), &tensors.clone().weight(half));
    assert!(matches!(error, Err(Error::ElementType { name: "weight", .. })), "{error:?}");
    let odd = Tensor::from_buffer(gpu(), &memory, 4, &[6], Layout::ChannelsFirst)?;
    let error = refused(config(), &tensors.clone().weight(odd));
    assert!(matches!(error, Err(Error::Misaligned { name: "weight", offset: 4, .. })), "{error:?}");
    Ok(())
}

/// By PyTorch 2.15, but for the name.
#[test]
fn a_layer_displays_as_pytorchs_module() -> Result<()> {
    let shown = |config| Ok::<_, Error>(BatchNorm::new(gpu(), config)?.to_string());
    assert_eq!(
        shown(BatchNormConfig::new(16))?,
        "BatchNorm(16, eps=1e-05, momentum=0.1, affine=True, track_running_stats=True)"
    );
    let config = BatchNormConfig::new(3).eps(1e-3).momentum(None).affine(false).track_running_stats(false);
    assert_eq!(
        shown(config)?,
        "BatchNorm(3, eps=0.001, momentum=None, affine=False, track_running_stats=False)"
    );
    let config =
        BatchNormConfig::new(3).bias(false).activation(Activation::Silu).layout(Layout::ChannelsLast);
    assert!(
        shown(config)?
            .ends_with("bias=False, track_running_stats=True, activation=silu, layout=channels-last)")
    );
    Ok(())
}

#[test]
fn all_that_threads_may_share_is_send_and_sync() {
    fn shared<T: Send + Sync + 'static>() {}
    shared::<BatchNorm>();
    shared::<Gpu>();
    shared::<Tensor>();
    shared::<Saved>();
    shared::<Gradients>();
    shared::<Error>();
    shared::<wgpu_batchnorm::Plan>();
    shared::<wgpu_batchnorm::PreparedPlan>();
    shared::<wgpu_batchnorm::BoundPlan>();
    shared::<wgpu_batchnorm::Checkpoint>();
    shared::<wgpu_batchnorm::Tunings>();
    shared::<wgpu_batchnorm::AdapterProfile>();
}

/// tokio moves futures between threads. They are made here and never polled.
#[test]
fn futures_are_send() {
    fn sends(_: impl Send) {}
    let mut layer = BatchNorm::new(gpu(), BatchNormConfig::new(3)).unwrap();
    let x = ndarray::Array2::<f32>::zeros((4, 3));
    sends(layer.forward_array_async(x.view()));
    sends(layer.forward_add_array_async(x.view(), x.view()));
    sends(layer.backward_array_async(x.view()));
    sends(layer.infer_array_async(x.view()));
    sends(layer.warm_up_async(&[&[4, 3]], &ForwardOptions::new()));
    sends(Tensor::from_array(gpu(), x.view()).unwrap().to_array_async());
    sends(Gpu::with_options_async(&GpuOptions::new()));
}
