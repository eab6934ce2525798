//! Which gradients are computed, and where they go.

use super::*;
use wgpu_batchnorm::GradientWrite;

const MASKS: [GradientMask; 8] = {
    let mut masks = [GradientMask::ALL; 8];
    let mut mask = 0;
    while mask < 8 {
        masks[mask] = GradientMask::NONE.input(mask & 1 != 0).weight(mask & 2 != 0).bias(mask & 4 != 0);
        mask += 1;
    }
    masks
};

#[test]
fn what_is_wanted_is_the_same_and_the_rest_is_not_there() {
    for gpu in [gpu(), gpu_without_subgroups()] {
        for case in small_cases() {
            let (mut bn, x, dy) = on_gpu(gpu, &case);
            let (_, saved) = bn.forward_saved(&x).unwrap();
            let [dx, dweight, dbias] = all_bits(&bn.backward_saved(&saved, &dy, GradientMask::ALL).unwrap());
            let BatchNormConfig { weight, bias, .. } = case.config;
            assert_eq!([dx.is_some(), dweight.is_some(), dbias.is_some()], [true, weight, bias]);
            for wanted in MASKS {
                let some = all_bits(&bn.backward_saved(&saved, &dy, wanted).unwrap());
                let expected = [
                    dx.clone().filter(|_| wanted.input),
                    dweight.clone().filter(|_| wanted.weight),
                    dbias.clone().filter(|_| wanted.bias),
                ];
                assert!(some == expected, "{}, {wanted:?}", case.name);
            }
        }
    }
}

/// Returns whether loads of four elements reach across planes' ends.
fn has_ragged_planes(case: &Case) -> bool {
    let problem = case.config.problem(&case.shape, case.config.layout, case.training.into()).unwrap();
    let by_fours = problem.elements().is_multiple_of(4) && problem.values_per_channel() > 32;
    by_fours && problem.inner() > 4 && !problem.inner().is_multiple_of(4)
}

#[test]
fn nothing_runs_and_nothing_is_bound_for_what_is_not_wanted() {
    let profile = gpu().profile();
    for mut case in small_cases() {
        let uses_batch = case.config.uses_batch_statistics(case.training.into());
        for empty in [false, true] {
            if empty {
                case.shape[0] = 0;
            }
            for wanted in MASKS {
                let plan = backward_plan(&case, wanted, profile);
                let stems: Vec<&str> = plan.steps().iter().map(|step| step.kernel.stem()).collect();
                let BatchNormConfig { weight, bias, .. } = case.config;
                let (dweight, dbias) = (wanted.weight && weight, wanted.bias && bias);
                let dx = wanted.input && !empty;
                let sums = dweight || dbias || (dx && uses_batch);
                // If channels are not split, no partial results are merged. One dispatch can then do it all, except
                // for ragged planes.
                let divided = plan.params().reduction.count > 1;
                let one_dispatch = dx && uses_batch && !divided && !has_ragged_planes(&case);
                // After running statistics, dx needs no sums: whoever reads dy and x for dweight writes it.
                let beside = dx && !uses_batch && dweight && !has_ragged_planes(&case);
                let mut expected = Vec::new();
                if one_dispatch {
                    expected.push("backward_one_dispatch");
                } else {
                    expected.extend((sums && !empty).then_some("backward_sums"));
                    expected.extend((sums && (empty || divided)).then_some("backward_finalize"));
                    expected.extend((dx && !beside).then_some("backward_input"));
                }
                assert_eq!(stems, expected, "{}, {wanted:?}", case.name);

                let binds = |binding: Binding| plan.buffers().iter().any(|(bound, _)| *bound == binding);
                assert_eq!((binds(Binding::DWeight), binds(Binding::DBias)), (dweight, dbias));
                assert_eq!(binds(Binding::Dx), dx);
                // One dispatch needs no projections, but the plan for unaligned tensors may.
                let projections = dx && uses_batch;
                assert!(binds(Binding::Projections) == projections || (projections && one_dispatch));
                // The bias's gradient depends on dy alone, and so does dx with running statistics.
                let x = !empty && (dweight || (dx && uses_batch));
                assert_eq!(binds(Binding::X), x, "{}, {wanted:?}", case.name);
                assert_eq!(binds(Binding::Weight), dx && weight);
                assert!(!binds(Binding::Bias) && !binds(Binding::Y) && !binds(Binding::NumBatchesTracked));
            }
        }
    }
}

#[test]
fn dx_may_overwrite_dy() {
    for gpu in [gpu(), gpu_without_subgroups()] {
        for case in small_cases() {
            let (mut bn, x, dy) = on_gpu(gpu, &case);
            let (_, saved) = bn.forward_saved(&x).unwrap();
            let separate = all_bits(&bn.backward_saved(&saved, &dy, GradientMask::ALL).unwrap());
            let gradients = unwritten_gradients(&case, gpu).input(dy.clone());
            bn.backward_into(&saved, &dy, &gradients, GradientWrite::Replace).unwrap();
            assert!(all_bits(&gradients) == separate, "{}", case.name);
            assert!(Some(bits(&dy)) == separate[0], "{}", case.name);
        }
    }
}

#[test]
fn accumulated_gradients_are_added_and_dx_is_not() {
    for case in small_cases() {
        let (mut bn, x, dy) = on_gpu(gpu(), &case);
        let (_, saved) = bn.forward_saved(&x).unwrap();
        let once = bn.backward_saved(&saved, &dy, GradientMask::ALL).unwrap();
        let start = |value: f32| {
            let vector = vec![value; case.config.num_features];
            Tensor::from_array(gpu(), Array1::from_vec(vector).view()).unwrap()
        };
        // Start from 0, and from a number that makes the sum round.
        for begin in [0.0f32, 0.7] {
            let gradients = Gradients::new()
                .input(unwritten(gpu(), &case.shape, case.config.layout))
                .weight(case.config.weight.then(|| start(begin)))
                .bias(case.config.bias.then(|| start(begin)));
            for times in 1..=2 {
                bn.backward_into(&saved, &dy, &gradients, GradientWrite::Accumulate).unwrap();
                assert!(all_bits(&gradients)[0] == all_bits(&once)[0], "{}", case.name);
                for (sum, once) in [(&gradients.weight, &once.weight), (&gradients.bias, &once.bias)] {
                    let Some(sum) = sum else { continue };
                    let once = values(once.as_ref());
                    let expected: Vec<f32> =
                        once.iter().map(|once| (0..times).fold(begin, |sum, _| sum + once)).collect();
                    assert_eq!(values(Some(sum)), expected, "{}", case.name);
                    if begin == 0.0 && times == 2 {
                        assert_eq!(expected, once.iter().map(|once| 2.0 * once).collect::<Vec<f32>>());
                    }
                }
            }
        }
    }
}

#[test]
fn an_empty_batch_has_zeros_for_gradients_and_adds_nothing() {
    let shapes: [(&[usize], Layout); 4] = [
        (&[0, 5, 9], ChannelsFirst),
        (&[0, 300], ChannelsFirst),
        (&[3, 5, 0, 2], ChannelsFirst),
        (&[0, 4, 7, 5], ChannelsLast),
    ];
    for (shape, layout) in shapes {
        for (training, track) in [(true, true), (false, true), (true, false)] {
            let mut case = case(shape, layout, 1);
            case.training = training;
            case.config = case.config.track_running_stats(track);
            let (mut bn, x, dy) = on_gpu(gpu(), &case);
            let channels = case.config.num_features;
            // An earlier batch fills the layer's scratch.
            let before = Tensor::zeros(gpu(), &[3, channels], ChannelsFirst).unwrap();
            let (_, saved) = bn.forward_saved(&before).unwrap();
            let ones = tensor(gpu(), &ArrayD::ones(IxDyn(&[3, channels])), ChannelsFirst);
            bn.backward_saved(&saved, &ones, GradientMask::ALL).unwrap();

            let (_, saved) = bn.forward_saved(&x).unwrap();
            let gradients = bn.backward_saved(&saved, &dy, GradientMask::ALL).unwrap();
            assert_eq!(gradients.input.unwrap().shape(), shape);
            for wanted in MASKS {
                let mut gradients = unwritten_gradients(&case, gpu());
                gradients.input = gradients.input.filter(|_| wanted.input);
                gradients.weight = gradients.weight.filter(|_| wanted.weight);
                gradients.bias = gradients.bias.filter(|_| wanted.bias);
                bn.backward_into(&saved, &dy, &gradients, GradientWrite::Replace).unwrap();
                for vector in [&gradients.weight, &gradients.bias].into_iter().flatten() {
                    assert_eq!(values(Some(vector)), vec![0.0; channels], "{}, {wanted:?}", case.name);
                }
            }
            let numbers: Array1<f32> = (0..channels).map(|c| c as f32 - 2.5).collect();
            let upload = || Some(Tensor::from_array(gpu(), numbers.view()).unwrap());
            let gradients = Gradients::new().weight(upload()).bias(upload());
            bn.backward_into(&saved, &dy, &gradients, GradientWrite::Accumulate).unwrap();
            for vector in [&gradients.weight, &gradients.bias] {
                assert_eq!(values(vector.as_ref()), numbers.to_vec());
            }
        }
    }
}
