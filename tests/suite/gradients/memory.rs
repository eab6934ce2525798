//! Bytes, offsets and grids.

use super::*;
use wgpu_batchnorm::{ForwardOptions, GradientWrite};

/// A tensor of 3 MiB with few channels.
const LARGE: [usize; 4] = [8, 16, 64, 96];

#[test]
fn scratch_does_not_grow_with_the_tensor() {
    // Few channels are split, and need partial results.
    for (shape, layout) in [([8, 2, 256, 192], ChannelsFirst), ([8, 256, 192, 2], ChannelsLast)] {
        let case = case(&shape, layout, 45);
        let plan = backward_plan(&case, GradientMask::ALL, gpu().profile());
        let channels = case.config.num_features as u64;
        let splits = u64::from(plan.params().reduction.count);
        assert!(splits > 1, "{plan}");
        // Unaligned tensors may need more splits.
        let partials = 16 * channels * splits;
        assert!((partials + 16 * channels..=4 * partials).contains(&plan.scratch_bytes()), "{plan}");
        assert!(plan.scratch_bytes() * 8 < plan.bytes_of(Binding::X), "{plan}");
        // Without dx, there are no projections. With running statistics, dx alone needs no scratch at all.
        let parameters = backward_plan(&case, GradientMask::PARAMETERS, gpu().profile());
        assert_eq!(parameters.scratch_bytes(), plan.scratch_bytes() - 16 * channels);
        let eval = Case { training: false, ..case };
        assert_eq!(backward_plan(&eval, GradientMask::INPUT, gpu().profile()).scratch_bytes(), 0);
    }
    // Channels that are not split need none.
    let case = case(&[8, 512, 4, 4], ChannelsFirst, 45);
    assert_eq!(backward_plan(&case, GradientMask::ALL, gpu().profile()).scratch_bytes(), 0);
}

/// Measures with the device's own report of allocations.
#[test]
fn backward_allocates_dx_and_in_place_nothing_of_that_size() {
    let gpu = Gpu::new().unwrap();
    let allocated = || support::allocated(&gpu);
    let case = case(&LARGE, ChannelsFirst, 46);
    let (mut bn, x, dy) = on_gpu(&gpu, &case);
    let y = bn.forward(&x).unwrap();
    let saved = bn.saved().unwrap().clone();
    let tensor_bytes = x.bytes();
    let scratch = backward_plan(&case, GradientMask::ALL, gpu.profile()).scratch_bytes();
    // dweight and dbias, uniforms, and wgpu's rounding of sizes.
    let small = 1 << 16;
    let before = allocated();
    assert!(before >= 3 * tensor_bytes, "{before} bytes for x, dy and y");

    let gradients = bn.backward(&dy).unwrap();
    let after = allocated();
    println!("backward: {} bytes for a tensor of {tensor_bytes}", after - before);
    assert!(after >= before + tensor_bytes && after <= before + tensor_bytes + scratch + small);
    drop(gradients);
    let after = allocated();
    assert!(after <= before + scratch + small, "{after} bytes, {before} before");

    let vector = || Tensor::zeros(&gpu, &[16], ChannelsFirst).ok();
    let gradients = Gradients::new().input(dy.clone()).weight(vector()).bias(vector());
    let before = allocated();
    for _ in 0..3 {
        bn.backward_into(&saved, &dy, &gradients, GradientWrite::Replace).unwrap();
    }
    let after = allocated();
    println!("in place: {} bytes", after.abs_diff(before));
    assert!(after <= before + small, "{after} bytes, {before} before");

    let before = allocated();
    let parameters = bn.backward_masked(&dy, GradientMask::PARAMETERS).unwrap();
    assert!(allocated() <= before + small);
    drop((parameters, y));
}

/// Returns whether two right results differ only by rounding: by at most 10⁻⁶ of the largest value, which `verify`
/// allows for either of them.
fn are_close(actual: &Gradients, expected: &Gradients) -> bool {
    let tensors = |gradients: &Gradients| {
        [&gradients.input, &gradients.weight, &gradients.bias]
            .map(|tensor| tensor.as_ref().map(|tensor| tensor.to_array().unwrap()))
    };
    tensors(actual).into_iter().zip(tensors(expected)).all(|pair| match pair {
        (Some(actual), Some(expected)) => {
            compare("gradient", actual.view(), expected.mapv(f64::from).view(), 1e-6).is_ok()
        }
        (None, None) => true,
        _ => false,
    })
}

#[test]
fn any_offset_of_four_bytes_will_do() {
    for gpu in [gpu(), gpu_without_subgroups()] {
        for case in small_cases() {
            let inputs = case.inputs();
            let (mut bn, x, dy) = on_gpu(gpu, &case);
            let (_, saved) = bn.forward_saved(&x).unwrap();
            let aligned = bn.backward_saved(&saved, &dy, GradientMask::ALL).unwrap();
            let expected = all_bits(&aligned);
            // If four elements are loaded at once, unaligned tensors take another plan, which sums in another
            // order. Otherwise the offset makes no difference at all.
            let problem = case.config.problem(&case.shape, case.config.layout, case.training.into()).unwrap();
            let plan = Plan::forward(
                &PlanInput::new(&problem, &case.config, case.training.into(), gpu.profile()),
                &ForwardOptions::new(),
            )
            .unwrap();
            let by_fours = plan.width() == VectorWidth::Four;
            let same = |gradients: &Gradients| {
                if by_fours { are_close(gradients, &aligned) } else { all_bits(gradients) == expected }
            };

            let elements = x.shape().iter().product::<usize>();
            // Puts NaN on both sides of the tensor, which must be neither read nor written.
            let guarded = |array: Option<&ArrayD<f32>>, guard: usize| {
                let mut all = vec![f32::NAN; elements + 2 * guard];
                if let Some(array) = array {
                    all[guard..guard + elements].copy_from_slice(array.as_slice().unwrap());
                }
                let buffer = buffer(gpu, &all);
                Tensor::from_buffer(gpu, &buffer, guard as u64 * 4, &case.shape, case.config.layout).unwrap()
            };
            let guards_hold = |tensor: &Tensor| {
                let all = support::read(gpu, tensor.buffer());
                let guard = (all.len() - elements) / 2;
                all[..guard].iter().chain(&all[guard + elements..]).all(|value| value.is_nan())
            };
            for [x_guard, dy_guard, dx_guard] in [[1, 0, 0], [0, 3, 0], [0, 0, 5], [67, 13, 129]] {
                let (x, dy) =
                    (guarded(Some(&inputs.xs[0]), x_guard), guarded(Some(&inputs.dys[0]), dy_guard));
                let (_, saved) = bn.forward_saved(&x).unwrap();
                // The first forward pass moved the running statistics, and so did this one. Restore them.
                bn.load_state(&inputs.state).unwrap();
                let input = Some(guarded(None, dx_guard));
                let gradients = unwritten_gradients(&case, gpu).input(input);
                bn.backward_into(&saved, &dy, &gradients, GradientWrite::Replace).unwrap();
                assert!(same(&gradients), "{}: {x_guard} {dy_guard} {dx_guard}", case.name);
                assert!(guards_hold(gradients.input.as_ref().unwrap()));

                let gradients = unwritten_gradients(&case, gpu).input(dy.clone());
                bn.backward_into(&saved, &dy, &gradients, GradientWrite::Replace).unwrap();
                assert!(same(&gradients), "in place, {}: {dy_guard}", case.name);
                assert!(guards_hold(&dy));
            }
        }
    }
}

#[test]
fn more_workgroups_than_a_dimension_holds() {
    // Planes take a workgroup for each channel. Columns take one for as many channels as it has lanes, or more.
    for (shape, rows) in [(&[2, 70_001, 2][..], 2), (&[3, 70_001, 5], 2), (&[2, 530_001], 1)] {
        let case = case(shape, ChannelsFirst, 47);
        let plan = backward_plan(&case, GradientMask::ALL, gpu().profile());
        assert!(plan.steps().iter().all(|step| step.grid[1] >= rows), "{plan}");
        let inputs = case.inputs();
        let (mut bn, x, dy) = on_gpu(gpu(), &case);
        bn.forward(&x).unwrap();
        assert_right(&case, &bn.backward(&dy).unwrap(), &inputs.state, &inputs.xs[0], &inputs.dys[0]);
    }
}

#[test]
fn what_is_not_finite_in_dy_stays_in_its_channel() {
    for (shape, layout) in
        [(&[3, 4, 5, 5][..], ChannelsFirst), (&[3, 5, 7, 4], ChannelsLast), (&[70, 4], ChannelsFirst)]
    {
        for training in [true, false] {
            for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                let mut case = case(shape, layout, 48);
                case.training = training;
                let mut inputs = case.inputs();
                let axis = Axis(layout.channel_axis(shape.len()));
                *inputs.dys[0].index_axis_mut(axis, 2).first_mut().unwrap() = value;
                let mut bn = layer(gpu(), &case, &inputs.state);
                bn.forward_array(inputs.xs[0].view()).unwrap();
                let gradients = bn.backward_array(inputs.dys[0].view()).unwrap();
                let exact = exact_layer(&case, &inputs.state, &inputs.xs[0]);
                let exact = exact.backward(inputs.dys[0].mapv(f64::from).view()).unwrap();
                for (c, (dx, exact)) in
                    gradients.input.axis_iter(axis).zip(exact.dx.axis_iter(axis)).enumerate()
                {
                    assert!(dx.iter().all(|dx| dx.is_finite()) || c == 2, "{}", case.name);
                    // An infinity minus an infinity may give NaN or an infinity, so the check only asks whether
                    // values are finite.
                    for (dx, exact) in dx.iter().zip(&exact) {
                        assert_eq!(dx.is_finite(), exact.is_finite(), "{}, {value}", case.name);
                    }
                }
                let sums = [(gradients.weight, exact.dweight), (gradients.bias, exact.dbias)];
                for (vector, exact) in sums {
                    let (vector, exact) = (vector.unwrap(), exact.unwrap());
                    compare_scaled("sums", vector.view(), exact.view(), largest(exact.view()), 1e-5).unwrap();
                }
            }
        }
    }
}
