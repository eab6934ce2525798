//! Earlier passes, and the order of calls.

use super::*;
use wgpu_batchnorm::GradientWrite;

#[test]
fn saved_passes_can_be_taken_back_in_any_order() {
    let shapes: [(&[usize], bool); 4] =
        [(&[4, 5, 7], true), (&[9, 5], true), (&[3, 5, 2, 2], false), (&[64, 5, 33], true)];
    let cases: Vec<Case> = shapes
        .iter()
        .zip(20..)
        .map(|((shape, training), seed)| {
            let mut case = case(shape, ChannelsFirst, seed);
            // The means differ, so that another batch's statistics would show.
            (case.training, case.mean, case.std) = (*training, seed as f64, 0.1 * seed as f64);
            // The running statistics stay unchanged, since backward takes their current values.
            case.config = case.config.momentum(0.0);
            case
        })
        .collect();
    let state = cases[0].inputs().state;
    let mut shared = BatchNorm::with_state(gpu(), cases[0].config.clone(), &state).unwrap();
    let passes: Vec<(Saved, Tensor)> = cases
        .iter()
        .map(|case| {
            let inputs = case.inputs();
            if case.training {
                shared.train();
            } else {
                shared.eval();
            }
            let (y, saved) = shared.forward_saved(&tensor(gpu(), &inputs.xs[0], ChannelsFirst)).unwrap();
            assert_eq!((saved.x().shape(), saved.mode().is_training()), (y.shape(), case.training));
            assert_eq!(saved.statistics().is_some(), case.training);
            (saved, tensor(gpu(), &inputs.dys[0], ChannelsFirst))
        })
        .collect();
    let separate: Vec<[Bits; 3]> = cases
        .iter()
        .map(|case| {
            let inputs = case.inputs();
            let mut bn = layer(gpu(), case, &state);
            let (_, saved) = bn.forward_saved(&tensor(gpu(), &inputs.xs[0], ChannelsFirst)).unwrap();
            let dy = tensor(gpu(), &inputs.dys[0], ChannelsFirst);
            let gradients = bn.backward_saved(&saved, &dy, GradientMask::ALL).unwrap();
            assert_right(case, &gradients, &state, &inputs.xs[0], &inputs.dys[0]);
            all_bits(&gradients)
        })
        .collect();
    // Go back in reverse order, as an autodiff engine does, and once more in forward order.
    for k in (0..cases.len()).rev().chain(0..cases.len()) {
        let (saved, dy) = &passes[k];
        let gradients = shared.backward_saved(saved, dy, GradientMask::ALL).unwrap();
        assert!(all_bits(&gradients) == separate[k], "{}", cases[k].name);
    }
    // Further forward passes, one of them in place, and a forgotten one change nothing.
    let (saved, dy) = &passes[0];
    shared.train();
    shared.forward(passes[1].0.x()).unwrap();
    shared.forward_in_place(&tensor(gpu(), &cases[3].inputs().xs[0], ChannelsFirst)).unwrap();
    shared.clear_saved();
    let gradients = shared.backward_saved(saved, dy, GradientMask::ALL).unwrap();
    assert!(all_bits(&gradients) == separate[0]);
}

#[test]
fn several_passes_share_one_submission() {
    // Forward and backward of two layers. The first one's y is the second one's x, as in a network.
    let case = case(&[6, 5, 7], ChannelsFirst, 31);
    let (mut first, x, dy) = on_gpu(gpu(), &case);
    let (mut second, ..) = on_gpu(gpu(), &case);
    let y = first.forward(&x).unwrap();
    second.forward(&y).unwrap();
    let upper = second.backward(&dy).unwrap();
    let lower = first.backward(upper.input.as_ref().unwrap()).unwrap();

    let (mut first, ..) = on_gpu(gpu(), &case);
    let (mut second, ..) = on_gpu(gpu(), &case);
    let [middle, out] = [(); 2].map(|()| unwritten(gpu(), &case.shape, ChannelsFirst));
    let (above, below) = (unwritten_gradients(&case, gpu()), unwritten_gradients(&case, gpu()));
    let mut encoder = gpu().device().create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    first.record_forward(&mut encoder, &x, &middle).unwrap();
    second.record_forward(&mut encoder, &middle, &out).unwrap();
    let saved = [&first, &second].map(|layer| layer.saved().unwrap().clone());
    second.record_backward(&mut encoder, &saved[1], &dy, &above, GradientWrite::Replace).unwrap();
    first
        .record_backward(
            &mut encoder,
            &saved[0],
            above.input.as_ref().unwrap(),
            &below,
            GradientWrite::Replace,
        )
        .unwrap();
    gpu().queue().submit([encoder.finish()]);
    assert!(all_bits(&above) == all_bits(&upper));
    assert!(all_bits(&below) == all_bits(&lower));
}

#[test]
fn backward_needs_a_forward_pass_that_left_its_input() {
    let case = case(&[4, 3, 5], ChannelsFirst, 40);
    let inputs = case.inputs();
    let (mut bn, x, dy) = on_gpu(gpu(), &case);
    let refused = |bn: &mut BatchNorm| {
        assert!(bn.saved().is_none());
        assert!(matches!(bn.backward(&dy), Err(Error::NoForward)));
        assert!(matches!(bn.backward_masked(&dy, GradientMask::INPUT), Err(Error::NoForward)));
        assert!(matches!(bn.backward_array(inputs.dys[0].view()), Err(Error::NoForward)));
    };
    refused(&mut bn);
    bn.forward(&x).unwrap();
    assert_right(&case, &bn.backward(&dy).unwrap(), &inputs.state, &inputs.xs[0], &inputs.dys[0]);
    let once = all_bits(&bn.backward(&dy).unwrap());
    assert!(all_bits(&bn.backward(&dy).unwrap()) == once);

    let overwritten = tensor(gpu(), &inputs.xs[0], ChannelsFirst);
    bn.forward_in_place(&overwritten).unwrap();
    refused(&mut bn);
    bn.forward(&x).unwrap();
    assert!(all_bits(&bn.backward(&dy).unwrap()) == once);
    bn.clear_saved();
    refused(&mut bn);
    bn.forward(&x).unwrap();
    assert!(all_bits(&bn.backward(&dy).unwrap()) == once);
    // A refused forward pass leaves what the last one saved.
    assert!(bn.forward(&Tensor::zeros(gpu(), &[4, 2], ChannelsFirst).unwrap()).is_err());
    assert!(all_bits(&bn.backward(&dy).unwrap()) == once);
}

#[test]
fn gradients_that_do_not_fit_are_refused_and_change_nothing() {
    let case = case(&[4, 3, 3], ChannelsFirst, 41);
    let (mut bn, x, dy) = on_gpu(gpu(), &case);
    bn.forward(&x).unwrap();
    let saved = bn.saved().unwrap().clone();
    let once = all_bits(&bn.backward(&dy).unwrap());
    let state = bn.state().unwrap();

    let other_shape = Tensor::zeros(gpu(), &[4, 3, 4], ChannelsFirst).unwrap();
    let other_layout = dy.clone().with_layout(ChannelsLast);
    let elsewhere = Gpu::new().unwrap();
    let foreign = Tensor::zeros(&elsewhere, &[4, 3, 3], ChannelsFirst).unwrap();
    let short = Tensor::zeros(gpu(), &[2], ChannelsFirst).unwrap();
    let fits = unwritten_gradients(&case, gpu());

    for wrong in [&other_shape, &other_layout] {
        let is_wrong = |error: Error, wanted: &str| {
            assert!(
                matches!(&error, Error::ShapeMismatch { name, expected, expected_layout, shape, layout }
                    if *name == wanted && *expected_layout == ChannelsFirst && *expected == [4, 3, 3]
                        && *shape == wrong.shape() && *layout == wrong.layout()),
                "{error}"
            );
        };
        is_wrong(bn.backward(wrong).unwrap_err(), "dy");
        is_wrong(bn.backward_into(&saved, wrong, &fits, GradientWrite::Replace).unwrap_err(), "dy");
        let gradients = fits.clone().input(wrong.clone());
        is_wrong(bn.backward_into(&saved, &dy, &gradients, GradientWrite::Replace).unwrap_err(), "dx");
    }
    let error = bn.backward_array(ArrayD::<f32>::zeros(vec![4, 3, 4]).view()).unwrap_err();
    assert!(matches!(error, Error::ShapeMismatch { name: "dy", .. }), "{error}");

    let mut into =
        |gradients: &Gradients| bn.backward_into(&saved, &dy, gradients, GradientWrite::Replace).unwrap_err();
    let error = into(&fits.clone().weight(short.clone()));
    assert!(
        matches!(error, Error::ParameterLength { name: "dweight", length: 2, num_features: 3 }),
        "{error}"
    );
    let error = into(&fits.clone().bias(short));
    assert!(matches!(error, Error::ParameterLength { name: "dbias", .. }), "{error}");
    for (name, gradients) in [
        ("dx", fits.clone().input(foreign.clone())),
        ("dweight", fits.clone().weight(foreign.clone())),
        ("dbias", fits.clone().bias(foreign.clone())),
    ] {
        let error = into(&gradients);
        assert!(matches!(error, Error::ForeignDevice { name: at_fault } if at_fault == name), "{error}");
    }
    let error = into(&fits.clone().input(x.clone()));
    assert!(matches!(error, Error::SharedBuffer { overlap: true, .. }), "{error}");
    for name in ["x", "dx"] {
        assert!(error.to_string().contains(name), "{error}");
    }
    let error = into(&fits.clone().bias(fits.weight.clone()));
    assert!(
        matches!(error, Error::SharedBuffer { first: "dweight", second: "dbias", overlap: true }),
        "{error}"
    );
    // dx overlaps dy in one buffer, but is not dy itself.
    let both = support::zeros(gpu(), 36 * 4 + 4);
    let [dy_part, dx_part] =
        [0, 4].map(|offset| Tensor::from_buffer(gpu(), &both, offset, &[4, 3, 3], ChannelsFirst).unwrap());
    let gradients = fits.clone().input(dx_part);
    let error = bn.backward_into(&saved, &dy_part, &gradients, GradientWrite::Replace).unwrap_err();
    assert!(matches!(error, Error::SharedBuffer { overlap: true, .. }), "{error}");
    assert!(matches!(bn.backward(&foreign), Err(Error::ForeignDevice { name: "dy" })));
    // A pass that another device saved does not fit, either.
    let mut there = BatchNorm::new(&elsewhere, case.config.clone()).unwrap();
    let (_, foreign_saved) = there.forward_saved(&foreign).unwrap();
    let error = bn.backward_saved(&foreign_saved, &dy, GradientMask::ALL).unwrap_err();
    assert!(matches!(error, Error::ForeignDevice { name: "x" }), "{error}");

    // Nothing was written meanwhile, and the layer still works.
    let unwritten = |tensor: &Option<Tensor>| values(tensor.as_ref()).iter().all(|value| value.is_nan());
    assert!([&fits.input, &fits.weight, &fits.bias].into_iter().all(unwritten));
    assert_eq!(bn.state().unwrap(), state);
    assert!(all_bits(&bn.backward(&dy).unwrap()) == once);
    bn.backward_into(&saved, &dy, &fits, GradientWrite::Replace).unwrap();
    assert!(all_bits(&fits) == once);
}

#[test]
fn gradients_of_parameters_that_are_not_there_are_refused() {
    let mut case = case(&[4, 3, 5], ChannelsFirst, 42);
    let vector = || Some(Tensor::zeros(gpu(), &[3], ChannelsFirst).unwrap());
    for (weight, bias) in [(true, false), (false, true), (false, false)] {
        case.config = case.config.weight(weight).bias(bias);
        let (mut bn, x, dy) = on_gpu(gpu(), &case);
        let (_, saved) = bn.forward_saved(&x).unwrap();
        for (wrong, is_there, gradients) in [
            ("dweight", weight, Gradients::new().weight(vector())),
            ("dbias", bias, Gradients::new().bias(vector())),
        ] {
            let result = bn.backward_into(&saved, &dy, &gradients, GradientWrite::Replace);
            assert_eq!(result.is_ok(), is_there, "{wrong}: {result:?}");
            let Err(error) = result else { continue };
            let expected = matches!(error, Error::StateMismatch { name, expected: false } if name == wrong);
            assert!(expected, "{error}");
        }
    }
    let (mut bn, x, dy) = on_gpu(gpu(), &case);
    bn.forward(&x).unwrap();
    let saved = bn.saved().unwrap().clone();
    // A mask may ask for them, since it gives no buffer to write to.
    let gradients = bn.backward_masked(&dy, GradientMask::ALL).unwrap();
    assert!(gradients.input.is_some() && gradients.weight.is_none() && gradients.bias.is_none());
    assert!(bn.backward_array(case.inputs().dys[0].view()).unwrap().weight.is_none());
    bn.backward_into(&saved, &dy, &Gradients::default(), GradientWrite::Replace).unwrap();
}

#[test]
fn the_mode_of_the_forward_pass_counts() {
    let case = case(&[4, 3, 5], ChannelsFirst, 43);
    let inputs = case.inputs();
    let (mut bn, x, dy) = on_gpu(gpu(), &case);
    let state = inputs.state.clone();
    bn.forward(&x).unwrap();
    bn.eval();
    // Backward uses batch statistics, though the layer is in eval mode now. The running ones have moved meanwhile.
    assert_right(&case, &bn.backward(&dy).unwrap(), &state, &inputs.xs[0], &inputs.dys[0]);

    // An eval pass of another shape, after the training pass. The layer is back in training mode before backward.
    let mut other = case.clone();
    (other.shape, other.training, other.seed) = (vec![9, 3], false, 44);
    let others = other.inputs();
    let moved = bn.state().unwrap();
    assert_ne!(moved, state);
    let (_, saved) = bn.forward_saved(&tensor(gpu(), &others.xs[0], ChannelsFirst)).unwrap();
    bn.train();
    // Of a pass in eval, the layer keeps nothing.
    assert!(matches!(bn.backward(&dy), Err(Error::NoForward)));
    let refused = bn.backward_saved(&saved, &dy, GradientMask::ALL);
    assert!(matches!(refused, Err(Error::ShapeMismatch { .. })));
    let of_others = tensor(gpu(), &others.dys[0], ChannelsFirst);
    let gradients = bn.backward_saved(&saved, &of_others, GradientMask::ALL).unwrap();
    assert_right(&other, &gradients, &moved, &others.xs[0], &others.dys[0]);

    // The weight is the layer's at the time of backward.
    let mut heavier = moved;
    heavier.weight = heavier.weight.map(|weight| weight * 3.0);
    bn.load_state(&heavier).unwrap();
    let gradients = bn.backward_saved(&saved, &of_others, GradientMask::ALL).unwrap();
    assert_right(&other, &gradients, &heavier, &others.xs[0], &others.dys[0]);
}

#[test]
fn async_gives_the_same_bits() {
    for case in small_cases() {
        let inputs = case.inputs();
        let mut bn = layer(gpu(), &case, &inputs.state);
        bn.forward_array(inputs.xs[0].view()).unwrap();
        let blocking = bn.backward_array(inputs.dys[0].view()).unwrap();
        let asynchronous = pollster::block_on(bn.backward_array_async(inputs.dys[0].view())).unwrap();
        assert!(blocking.input.iter().all(|value| value.is_finite()));
        assert_eq!(blocking, asynchronous, "{}", case.name);
        // Neither call overwrote the caller's array, and tensors give the same.
        let (_, _, dy) = on_gpu(gpu(), &case);
        let tensors = bn.backward(&dy).unwrap();
        assert_eq!(tensors.input.unwrap().to_array().unwrap(), blocking.input);
    }
}
