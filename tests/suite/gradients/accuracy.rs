//! Accuracy of the sums, and of what cancellation leaves of them.

use super::*;

/// dweight and dbias of a case, with the summed magnitudes of their terms.
struct LongSums {
    case: Case,
    x: ArrayD<f32>,
    dy: ArrayD<f32>,
    state: BatchNormState,
    exact: [Array1<f64>; 2],
    terms: [Array1<f64>; 2],
}

impl LongSums {
    /// Gives dy a mean of 1 and a slope of 1 along x, so that the sums grow with the number of values. Terms around
    /// 0 would hide it if a long sum stopped growing.
    fn new(shape: &[usize], layout: Layout, mean: f64) -> Self {
        let mut case = case(shape, layout, 7);
        case.mean = mean;
        let Inputs { mut xs, mut dys, state, .. } = case.inputs();
        let (x, mut dy) = (xs.remove(0), dys.remove(0));
        ndarray::Zip::from(&mut dy).and(&x).for_each(|dy, &x| *dy += 1.0 + (x - mean as f32));
        let layer = exact_layer(&case, &state, &x);
        let exact_dy = dy.mapv(f64::from);
        let sums = layer.backward(exact_dy.view()).unwrap();
        let axis = Axis(layout.channel_axis(shape.len()));
        let magnitudes = |terms: ArrayD<f64>| -> Array1<f64> {
            terms.axis_iter(axis).map(|channel| channel.iter().map(|term| term.abs()).sum()).collect()
        };
        let terms = [magnitudes(&exact_dy * layer.x_hat().unwrap()), magnitudes(exact_dy)];
        Self { case, x, dy, state, exact: [sums.dweight.unwrap(), sums.dbias.unwrap()], terms }
    }

    /// Returns the worst error of dweight and of dbias over all channels, relative to each channel's terms.
    fn errors(&self, gpu: &Gpu) -> [f64; 2] {
        let mut bn = layer(gpu, &self.case, &self.state);
        bn.forward_array(self.x.view()).unwrap();
        let gradients = bn.backward_array(self.dy.view()).unwrap();
        let actual = [gradients.weight.unwrap(), gradients.bias.unwrap()].map(|sums| sums.mapv(f64::from));
        [0, 1].map(|k| {
            let errors = (&actual[k] - &self.exact[k]) / &self.terms[k];
            assert!(errors.iter().all(|error| error.is_finite()));
            largest(errors.view())
        })
    }
}

#[test]
fn sums_of_a_million_values_are_as_good_as_short_ones() {
    // A term rounds by 2⁻²⁴ ≈ 6·10⁻⁸ of itself in x − mean and in the product. A block of 64 terms rounds by at
    // most 32 · 2⁻²⁴ of its magnitudes, and by a tenth of that if roundings are as often up as down. dweight rounds
    // once more in inv_std and in the product with it. The pairs that add the blocks lose nothing that counts. That
    // is 4·10⁻⁷ in all. One f32 that takes a million terms one by one may lose up to 3·10⁻².
    const BOUND: f64 = 4e-7;
    let gpus = [("subgroups", gpu()), ("no subgroups", gpu_without_subgroups())];
    // Kernels for columns use no subgroups.
    let shapes =
        [(&[1, 2, 1000, 1000][..], ChannelsFirst, &gpus[..]), (&[1000, 1000, 3], ChannelsLast, &gpus[..1])];
    for (shape, layout, gpus) in shapes {
        for mean in [0.0, 1e5] {
            let sums = LongSums::new(shape, layout, mean);
            for (name, gpu) in gpus {
                let [dweight, dbias] = sums.errors(gpu);
                println!("{name}, {shape:?}, mean {mean}: dweight {dweight:.1e}, dbias {dbias:.1e}");
                assert!(dweight <= BOUND && dbias <= BOUND, "{shape:?}: {dweight:e}, {dbias:e}");
            }
        }
    }
}

#[test]
fn long_sums_keep_what_each_term_adds() {
    // 64 of these numbers sum without rounding. But from the 65th block of 64 on, a single f32 would lose the 2⁻¹⁸
    // of every further one: 2·10⁻⁶ of the sum. With many channels, a lane takes 8192 values.
    const TERM: f32 = 1.0 + 1.0 / (1 << 18) as f32;
    const COUNT: usize = 65_536;
    for shape in [[1, 64, COUNT], [COUNT, 64, 1]] {
        let mut bn = BatchNorm::new(gpu(), BatchNormConfig::new(64)).unwrap();
        bn.eval();
        let [x, dy] =
            [1.0, TERM].map(|value| tensor(gpu(), &ArrayD::from_elem(&shape[..], value), ChannelsFirst));
        let (_, saved) = bn.forward_saved(&x).unwrap();
        let gradients = bn.backward_saved(&saved, &dy, GradientMask::PARAMETERS).unwrap();
        let exact = COUNT as f32 * TERM;
        assert_eq!(values(gradients.bias.as_ref()), [exact; 64], "{shape:?}");
        // x_hat is inv_std here, which is rounded. The product with it is rounded, too.
        let dweight = Array1::from_vec(values(gradients.weight.as_ref()));
        let exact = Array1::from_elem(64, f64::from(exact) / (1.0 + 1e-5f64).sqrt());
        compare_scaled("dweight", dweight.view(), exact.view(), exact[0], 3e-7).unwrap();
    }
}

#[test]
fn merged_sums_keep_what_cancellation_leaves() {
    // No workgroup has fewer than four lanes, so each lane takes one value at most. Values two lanes apart are
    // added first. Their sums take a digit more than an f32 has, and both cancel but for a few of the last digits.
    // Without that digit, the two would not be off in the same direction.
    const CHANNELS: usize = 30;
    const LAST_DIGITS: [usize; 4] = [0, 2, 1, 5];
    let sign = |k: usize| if k.is_multiple_of(2) { 1.0f32 } else { -1.0 };
    let shape = [1, CHANNELS, 4];
    let x = ArrayD::from_shape_fn(IxDyn(&shape), |index| 3.0 + sign(index[2]));
    let dy = ArrayD::from_shape_fn(IxDyn(&shape), |index| {
        16.0 + ((2 * index[1] + 1) * LAST_DIGITS[index[2]]) as f32 / (1 << 19) as f32
    });
    for gpu in [gpu(), gpu_without_subgroups()] {
        let mut bn = BatchNorm::new(gpu, BatchNormConfig::new(CHANNELS)).unwrap();
        bn.forward_array(x.view()).unwrap();
        let dweight = bn.backward_array(dy.view()).unwrap().weight.unwrap();
        for (c, dweight) in dweight.iter().enumerate() {
            let sum: f64 = (0..4).map(|k| f64::from(dy[[0, c, k]]) * f64::from(sign(k))).sum();
            let exact = sum / (1.0 + 1e-5f64).sqrt();
            assert!(
                exact != 0.0 && (f64::from(*dweight) - exact).abs() <= 1e-6 * exact.abs(),
                "{dweight:e}, {exact:e}"
            );
        }
    }
}

/// With two values, x takes all of dy but the share eps / (var + eps). So dx is what cancellation leaves. Its
/// digits come from the low parts of mean and slope, and from exact products. The measure of `verify` allows errors
/// as large as dx itself here. This check allows 10⁻⁶·|dx|.
fn check_what_remains_of_two_values(gpu: &Gpu) {
    type OfChannel<'a> = &'a dyn Fn(usize) -> [f32; 2];
    const CHANNELS: usize = 40;
    // x − mean, its square and dy − mean take few digits, so they are not rounded. In planes, sums are pairs from
    // the first value on, so the mean of dy itself need not fit into an f32.
    let away = |c: usize| 2f32.powi(c as i32 % 5 - 2);
    let coarse = |c: usize| [0.25 * c as f32, 0.125 - 0.5 * c as f32];
    let fine = |c: usize| [16.0 - c as f32 * 2f32.powi(-20), 16.0 - (3 * c + 1) as f32 * 2f32.powi(-20)];
    let problems: [(&str, &[usize], Layout, OfChannel<'_>); 4] = [
        ("coarse", &[1, CHANNELS, 2], ChannelsFirst, &coarse),
        ("coarse", &[2, CHANNELS], ChannelsFirst, &coarse),
        ("coarse", &[1, 2, CHANNELS], ChannelsLast, &coarse),
        ("fine", &[1, CHANNELS, 2], ChannelsFirst, &fine),
    ];
    for (digits, shape, layout, dy_of) in problems {
        let case = case(shape, layout, 0);
        let axis = Axis(layout.channel_axis(shape.len()));
        let [mut x, mut dy] = [(); 2].map(|()| ArrayD::<f32>::zeros(shape));
        for c in 0..CHANNELS {
            let set = |array: &mut ArrayD<f32>, values: [f32; 2]| {
                array.index_axis_mut(axis, c).iter_mut().zip(values).for_each(|(to, value)| *to = value);
            };
            set(&mut x, [3.0 + away(c), 3.0 - away(c)]);
            set(&mut dy, dy_of(c));
        }
        let mut bn = BatchNorm::new(gpu, case.config.clone()).unwrap();
        bn.forward_array(x.view()).unwrap();
        let dx = bn.backward_array(dy.view()).unwrap().input;
        for (c, dx) in dx.axis_iter(axis).enumerate() {
            // dy − mean is ± half, and x takes away² / (away² + eps) of that. Even in f64, the sums of the
            // reference would cancel too many digits.
            let [first, second] = dy_of(c).map(f64::from);
            let (var, eps) = (f64::from(away(c)).powi(2), case.config.eps);
            let half = 0.5 * (first - second) / (var + eps).sqrt();
            for (dx, half) in dx.iter().zip([half, -half]) {
                let exact = half * eps / (var + eps);
                // inv_std, its product with the weight, eps and the last product are rounded.
                let error = (f64::from(*dx) - exact).abs();
                assert!(error <= 1e-6 * exact.abs(), "{digits}, {shape:?}: {dx:e} is not {exact:e}");
            }
        }
    }
}

#[test]
fn what_remains_of_two_values_is_right_to_the_last_digits() {
    for gpu in [gpu(), gpu_without_subgroups()] {
        check_what_remains_of_two_values(gpu);
    }
}
