//! Properties that every gradient must have.

use super::*;

/// Returns cases of random shapes and layouts, without extremes in the data.
fn cases() -> impl Strategy<Value = Case> {
    let size = prop_oneof![Just(1usize), 2..10usize, 10..70usize];
    let shapes = prop::collection::vec(size, 2..=5)
        .prop_filter("of middling size", |shape| (6..20_000).contains(&shape.iter().product::<usize>()));
    (shapes, prop_oneof![Just(ChannelsFirst), Just(ChannelsLast)], any::<u64>(), [prop::bool::ANY; 2])
        .prop_map(|(shape, layout, seed, [weight, bias])| {
            let mut case = case(&shape, layout, seed);
            case.config = case.config.weight(weight).bias(bias);
            case
        })
        .prop_filter("at least three values per channel", |case| {
            case.shape.iter().product::<usize>() >= 3 * case.config.num_features
        })
}

/// Returns dx from the GPU.
fn dx_of(case: &Case, x: &ArrayD<f32>, dy: &ArrayD<f32>, state: &BatchNormState) -> ArrayD<f64> {
    let mut bn = layer(gpu(), case, state);
    bn.forward_array(x.view()).unwrap();
    bn.backward_array(dy.view()).unwrap().input.mapv(f64::from)
}

#[test]
fn dx_is_orthogonal_to_ones_and_to_x_hat() {
    // Σdx = 0 also means that a bias in front of batch norm gets no gradient. That is right, since it changes
    // nothing.
    runner(60)
        .run(&cases(), |case| {
            let inputs = case.inputs();
            let dx = dx_of(&case, &inputs.xs[0], &inputs.dys[0], &inputs.state);
            let exact = exact_layer(&case, &inputs.state, &inputs.xs[0]);
            let axis = Axis(case.config.layout.channel_axis(case.shape.len()));
            let dy = inputs.dys[0].mapv(f64::from);
            let channels =
                dx.axis_iter(axis).zip(exact.x_hat().unwrap().axis_iter(axis)).zip(dy.axis_iter(axis));
            for (c, ((dx, x_hat), dy)) in channels.enumerate() {
                let inv_std = exact.inv_std().unwrap()[c];
                let scale = inv_std * exact.weight().map_or(1.0, |weight| weight[c]);
                // Every dx may have this error, the measure of `verify`. So a sum may have the sum of these errors.
                let error = TOLERANCE * scale.abs() * largest(dy.view());
                let along_ones = dx.sum();
                prop_assert!(
                    along_ones.abs() <= error * dx.len() as f64,
                    "Σdx = {along_ones:e}, {}",
                    case.name
                );
                // This is 0 but for eps, since Σx_hat² / n is var / (var + eps).
                let eps_share = case.config.eps * inv_std.powi(2);
                let along_x_hat = (&dx * &x_hat).sum() - scale * eps_share * (&dy * &x_hat).sum();
                prop_assert!(
                    along_x_hat.abs() <= error * x_hat.mapv(f64::abs).sum(),
                    "Σdx·x_hat = {along_x_hat:e}, {}",
                    case.name
                );
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn scaling_x_scales_dx_by_the_inverse() {
    // The factors are powers of two, so x and its statistics scale without rounding. A negative one flips x_hat,
    // which dx contains twice.
    let factors = (-6..=6i32, prop::bool::ANY)
        .prop_map(|(power, sign)| if sign { 2f64.powi(power) } else { -(2f64.powi(power)) });
    runner(40)
        .run(&(cases(), factors), |(mut case, factor)| {
            case.config = case.config.eps(1e-12);
            let inputs = case.inputs();
            let (x, dy) = (&inputs.xs[0], &inputs.dys[0]);
            let dx = dx_of(&case, x, dy, &inputs.state);
            let scaled = dx_of(&case, &x.mapv(|x| x * factor as f32), dy, &inputs.state);
            let exact = exact_layer(&case, &inputs.state, x);
            let inv_std = largest(exact.inv_std().unwrap().view());
            let weight = exact.weight().map_or(1.0, |weight| largest(weight.view()));
            let scale = inv_std * weight * largest(dy.mapv(f64::from).view());
            // Both may err by the measure of `verify`, and eps does not scale with x.
            let eps = 1e-12 * inv_std.powi(2) * (1.0 + factor.powi(-2));
            compare_scaled("dx", (scaled * factor.abs()).view(), dx.view(), scale, 2.0 * TOLERANCE + eps)
                .unwrap();
            Ok(())
        })
        .unwrap();
}

#[test]
fn shifting_x_changes_neither_y_nor_dx() {
    runner(40)
        .run(&(cases(), -4000..4000i32), |(case, shift)| {
            let inputs = case.inputs();
            // Multiples of 2⁻⁹ below 2¹³ have at most 22 digits, so adding the shift rounds nothing.
            let x = inputs.xs[0].mapv(|x| (x * 512.0).round() / 512.0);
            let shifted = x.mapv(|x| x + shift as f32);
            let both = [&x, &shifted].map(|x| {
                let mut bn = layer(gpu(), &case, &inputs.state);
                let y = bn.forward_array(x.view()).unwrap().mapv(f64::from);
                (y, bn.backward_array(inputs.dys[0].view()).unwrap().input.mapv(f64::from))
            });
            let [(y, dx), (y_shifted, dx_shifted)] = both;
            // Both may err by the measure of `verify`.
            compare_scaled("y", y_shifted.view(), y.view(), largest(y.view()), 2.0 * TOLERANCE).unwrap();
            let exact = exact_layer(&case, &inputs.state, &x);
            let weight = exact.weight().map_or(1.0, |weight| largest(weight.view()));
            let scale = largest(exact.inv_std().unwrap().view())
                * weight
                * largest(inputs.dys[0].mapv(f64::from).view());
            compare_scaled("dx", dx_shifted.view(), dx.view(), scale, 2.0 * TOLERANCE).unwrap();
            Ok(())
        })
        .unwrap();
}

#[test]
fn after_running_statistics_dx_is_dy_scaled() {
    runner(40)
        .run(&cases(), |mut case| {
            case.training = false;
            let inputs = case.inputs();
            let dx = dx_of(&case, &inputs.xs[0], &inputs.dys[0], &inputs.state);
            let ones = vec![1.0; case.config.num_features];
            let weight = inputs.state.weight.map_or(ones, |weight| weight.mapv(f64::from).to_vec());
            let var = inputs.state.running_var.unwrap();
            let axis = Axis(case.config.layout.channel_axis(case.shape.len()));
            for (c, (dx, dy)) in dx.axis_iter(axis).zip(inputs.dys[0].axis_iter(axis)).enumerate() {
                let scale = weight[c] / (f64::from(var[c]) + case.config.eps).sqrt();
                for (dx, dy) in dx.iter().zip(&dy) {
                    let exact = f64::from(*dy) * scale;
                    // Each element rounds in var + eps, in inv_std by 2 units in the last place at most, and in two
                    // products. Each of these is 2⁻²⁴ to 2⁻²² of dx itself.
                    prop_assert!((dx - exact).abs() <= 5e-7 * exact.abs(), "{dx} is not {exact}");
                }
            }
            Ok(())
        })
        .unwrap();
}
