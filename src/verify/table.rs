//! The table of cases.

use super::case::Case;
use crate::activation::Activation;
use crate::config::BatchNormConfig;
use crate::dtype::DType;

/// Sizes around powers of two, which subgroups, workgroups and tiles have.
const BOUNDARIES: [usize; 21] =
    [7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 255, 256, 257, 1023, 1024, 1025];

/// Returns the cases that every implementation must get right, quick ones first.
///
/// The cases cover ranks 2 to 5 in both layouts, training and eval, and every option. Values per channel and channels
/// lie on both sides of each boundary. The data includes means far above the standard deviation, constant, empty and
/// non-finite batches, and shapes of real networks. No case has more than 4 million elements.
pub fn table() -> Vec<Case> {
    let plain = [shapes(), options(), data(), boundaries()].concat();
    let mut cases = Vec::new();
    // A new group goes last, so that the cases before it keep their data.
    for mut group in [plain, [fused(), half_precision()].concat(), one_parameter()] {
        group.sort_by_key(Case::elements);
        for (seed, mut case) in (1 + cases.len() as u64..).zip(group) {
            case.seed = seed;
            cases.push(case);
        }
    }
    cases.sort_by_key(Case::elements);
    cases
}

/// Returns cases of every rank and layout, and with shapes of real networks.
fn shapes() -> Vec<Case> {
    vec![
        Case::new("batch of vectors", &[4, 5]),
        Case::new("batch of vectors", &[16, 300]),
        Case::new("batch of long vectors", &[128, 2048]),
        Case::new("sequences", &[3, 16, 196]),
        Case::new("flat images", &[100, 16, 784]),
        Case::new("odd sizes", &[5, 10, 7, 9]),
        Case::new("single image", &[1, 16, 7, 7]),
        Case::new("odd planes", &[16, 32, 7, 7]),
        Case::new("one pixel", &[16, 32, 1, 1]),
        Case::new("a few images", &[8, 3, 28, 28]),
        Case::new("one channel", &[6, 1, 28, 28]),
        Case::new("one channel and feature", &[50, 1]),
        Case::new("two values per channel", &[2, 7]),
        Case::new("two values per channel in one row", &[1, 4, 2]),
        Case::new("many channels", &[2, 257, 3, 3]),
        Case::new("many channels", &[2, 3001, 2, 3]),
        Case::new("more channels than 16 bits count", &[2, 65_537]),
        Case::new("more channels than workgroups in a dimension", &[1, 70_001, 2]),
        Case::new("few channels of large images", &[2, 3, 511, 513]),
        Case::new("one channel of a million values", &[1, 1, 1024, 1024]),
        Case::new("ResNet's third stage", &[4, 1024, 14, 14]),
        Case::new("volumes", &[2, 3, 4, 5, 6]),
        Case::new("the documents' images", &[20, 100, 35, 45]),
        Case::new("the documents' images without affine", &[20, 100, 35, 45]).with(|c| c.affine(false)),
        Case::last("batch of vectors", &[16, 300]),
        Case::last("sequences", &[3, 19, 16]),
        Case::last("non-square images", &[4, 7, 10, 6]),
        Case::last("single non-square image", &[1, 5, 11, 16]),
        Case::last("non-square images, many channels", &[2, 9, 13, 257]),
        Case::last("many channels", &[2, 3, 2, 3001]),
        Case::last("one channel", &[3, 20, 31, 1]),
        Case::last("two values per channel", &[1, 2, 1, 9]),
        Case::last("few channels of a large image", &[1, 480, 640, 3]),
        Case::last("ResNet's third stage", &[4, 14, 15, 1024]),
        Case::last("volumes", &[2, 3, 4, 5, 12]),
    ]
}

/// Returns cases for every option, in training and eval.
fn options() -> Vec<Case> {
    let shape = &[4, 6, 5, 7];
    let last = &[4, 5, 7, 6];
    vec![
        Case::new("eval", shape).eval(),
        Case::new("eval, two batches", &[16, 300]).eval().steps(2),
        Case::new("eval, one value per channel", &[1, 70]).eval(),
        Case::new("eval, odd planes", &[3, 33, 7, 7]).eval(),
        Case::new("eval, volumes", &[2, 3, 4, 5, 6]).eval(),
        Case::new("eval, the documents' images", &[20, 100, 35, 45]).eval(),
        Case::new("eval, momentum 1", shape).eval().with(|c| c.momentum(1.0)),
        Case::last("eval", last).eval(),
        Case::last("eval, many channels", &[5, 3, 3001]).eval(),
        Case::new("no affine", shape).with(|c| c.affine(false)),
        Case::new("eval, no affine", shape).eval().with(|c| c.affine(false)),
        Case::last("no affine", last).with(|c| c.affine(false)),
        Case::new("no tracking", shape).steps(2).with(|c| c.track_running_stats(false)),
        Case::new("eval, no tracking", shape).eval().with(|c| c.track_running_stats(false)),
        Case::last("eval, no tracking", last).eval().with(|c| c.track_running_stats(false)),
        Case::new("no affine, no tracking", shape).with(|c| c.affine(false).track_running_stats(false)),
        Case::new("five steps", shape).steps(5),
        Case::new("cumulative average, three steps", shape).steps(3).with(|c| c.momentum(None)),
        Case::last("cumulative average, three steps", last).steps(3).with(|c| c.momentum(None)),
        Case::new("momentum 1", shape).with(|c| c.momentum(1.0)),
        Case::new("momentum 0", shape).with(|c| c.momentum(0.0)),
        Case::new("momentum 0.9, two steps", shape).steps(2).with(|c| c.momentum(0.9)),
        Case::new("momentum -1", shape).with(|c| c.momentum(-1.0)),
        Case::new("two values, momentum 1", &[2, 5]).with(|c| c.momentum(1.0)),
        Case::new("eps 1e-3", shape).with(|c| c.eps(1e-3)),
        Case::new("eps 2", shape).with(|c| c.eps(2.0)),
        Case::new("eval, eps 0.5", shape).eval().with(|c| c.eps(0.5)),
    ]
}

/// Returns cases with data that is numerically hard, constant, empty or non-finite.
fn data() -> Vec<Case> {
    let shape = &[8, 4, 16, 16];
    let skip = |c: BatchNormConfig| c.skip_non_finite(true);
    vec![
        Case::new("mean 1e4", shape).data(1e4, 1.0),
        Case::new("mean -1e4", &[256, 33]).data(-1e4, 1.0),
        Case::new("mean 1e4, large images", &[2, 3, 200, 201]).data(1e4, 1.0),
        Case::new("mean 1e5, two steps", &[3, 5, 7, 9]).data(1e5, 1.0).steps(2),
        Case::new("eval, mean 1e4", shape).data(1e4, 1.0).eval(),
        Case::last("mean 1e5", &[8, 16, 15, 4]).data(1e5, 1.0),
        Case::last("eval, mean 1e5", &[8, 16, 15, 4]).data(1e5, 1.0).eval(),
        Case::new("std 1e-4", shape).data(0.0, 1e-4),
        Case::last("std 1e-4", &[8, 16, 15, 4]).data(0.0, 1e-4),
        Case::new("mean 1, std 1e-3", shape).data(1.0, 1e-3),
        Case::new("std 1e4", shape).data(0.0, 1e4),
        Case::new("constant", &[4, 4, 8, 8]).data(3.25, 0.0),
        Case::new("constant 0", &[5, 9]).data(0.0, 0.0),
        Case::last("constant", &[4, 8, 9, 4]).data(-1000.1, 0.0),
        Case::new("empty", &[0, 5, 9]),
        Case::new("empty", &[0, 5]),
        Case::new("empty planes, two steps", &[3, 4, 0, 2]).steps(2),
        Case::new("empty, no tracking", &[0, 5, 9]).with(|c| c.track_running_stats(false)),
        Case::new("empty, eval", &[0, 5, 9]).eval(),
        Case::new("empty, cumulative average", &[0, 5, 9]).with(|c| c.momentum(None)),
        Case::last("empty", &[0, 4, 7, 5]),
        Case::new("NaN", &[3, 4, 5, 5]).poison(1, f32::NAN),
        Case::last("NaN", &[3, 5, 7, 4]).poison(3, f32::NAN),
        Case::new("eval, NaN", &[3, 4, 5, 5]).poison(1, f32::NAN).eval(),
        Case::new("infinity, two steps", &[3, 4, 5, 5]).poison(2, f32::INFINITY).steps(2),
        Case::last("negative infinity", &[3, 5, 7, 4]).poison(0, f32::NEG_INFINITY),
        Case::new("eval, infinity", &[3, 4, 5, 5]).poison(2, f32::INFINITY).eval(),
        Case::new("skip NaN, two steps", &[3, 4, 5, 5]).poison(1, f32::NAN).steps(2).with(skip),
        Case::new("skip infinity", &[9, 70]).poison(69, f32::INFINITY).with(skip),
        Case::last("skip infinity, two steps", &[3, 5, 7, 4])
            .poison(0, f32::NEG_INFINITY)
            .steps(2)
            .with(skip),
        Case::new("skip nothing", &[3, 4, 5, 5]).with(skip),
    ]
}

/// Returns cases with activations and residuals. They are small, since elements within rounding of an activation's
/// corner are not compared, and a million elements would include some.
fn fused() -> Vec<Case> {
    let mut cases = Vec::new();
    // All but the identity.
    for (k, activation) in Activation::ALL.into_iter().skip(1).enumerate() {
        let dtype = DType::ALL[k % 3];
        let of = |about: &str| format!("{activation}{about}");
        cases.extend([
            Case::new(&of(""), &[4, 6, 5, 8]).with(|c| c.activation(activation)),
            Case::new(&of(" of a sum, odd planes"), &[3, 4, 7, 9]).with(|c| c.activation(activation)).add(),
            Case::new(&of(", eval"), &[3, 5, 6, 7]).with(|c| c.activation(activation)).eval(),
            Case::new(&of(" of a sum, eval"), &[37, 24]).with(|c| c.activation(activation)).add().eval(),
            Case::last(&of(" of a sum"), &[4, 5, 7, 12]).with(|c| c.activation(activation)).add(),
            Case::last(&of(", no affine"), &[3, 5, 7]).with(|c| c.activation(activation).affine(false)),
            Case::new(&of(&format!(" of a sum, {dtype}")), &[2 + k % 2, 9, 3, 5])
                .with(|c| c.activation(activation))
                .add()
                .dtype(dtype),
            Case::new(&of(", NaN"), &[3, 4, 5, 5]).with(|c| c.activation(activation)).poison(1, f32::NAN),
            Case::new(&of(", infinity, eval"), &[3, 4, 5, 5])
                .with(|c| c.activation(activation))
                .poison(2, f32::INFINITY)
                .eval(),
        ]);
    }
    let relu = |c: BatchNormConfig| c.activation(Activation::Relu);
    cases.extend([
        Case::new("sum", &[4, 6, 5, 8]).add(),
        Case::new("sum, odd planes, eval", &[3, 4, 7, 9]).add().eval(),
        Case::last("sum, two batches", &[4, 5, 7, 12]).add().steps(2),
        Case::new("relu of a sum, two values per channel", &[2, 7]).with(relu).add(),
        Case::new("relu of a sum, many channels", &[2, 257, 3, 3]).with(relu).add(),
        Case::new("relu of a sum, long rows", &[1, 3, 8196]).with(relu).add(),
        Case::new("relu of a sum, long odd rows", &[1, 3, 8195]).with(relu).add(),
        Case::new("silu, volumes", &[2, 3, 4, 5, 6]).with(|c| c.activation(Activation::Silu)),
        Case::last("relu of a sum, many channels", &[2, 3, 5, 300]).with(relu).add(),
        Case::last("relu of a sum, many channels, eval", &[2, 3, 5, 300]).with(relu).add().eval(),
    ]);
    cases
}

/// Returns cases with 16-bit elements: every rank and layout, and odd counts and planes, since two elements share a
/// word.
fn half_precision() -> Vec<Case> {
    let mut cases = Vec::new();
    for dtype in [DType::F16, DType::BF16] {
        let of = |about: &str| format!("{dtype}{about}");
        let all = [
            Case::new(&of(""), &[4, 6, 5, 8]),
            Case::new(&of(""), &[16, 300]),
            Case::new(&of(", odd planes"), &[5, 3, 7, 7]),
            Case::new(&of(", odd planes, even count"), &[4, 3, 7, 9]),
            Case::new(&of(", three elements"), &[3, 1]),
            Case::new(&of(", one pixel"), &[5, 7, 1, 1]),
            Case::new(&of(", short planes"), &[3, 5, 3]),
            Case::new(&of(", sequences"), &[3, 16, 196]),
            Case::new(&of(", volumes"), &[2, 3, 4, 5, 6]),
            Case::new(&of(", odd volumes"), &[3, 3, 3, 5, 7]),
            Case::new(&of(", large images"), &[2, 3, 255, 257]),
            Case::new(&of(", many channels"), &[2, 3001, 2, 3]),
            Case::new(&of(", eval"), &[4, 6, 5, 8]).eval(),
            Case::new(&of(", odd planes, eval"), &[3, 33, 7, 7]).eval(),
            Case::new(&of(", no affine"), &[4, 6, 5, 7]).with(|c| c.affine(false)),
            Case::new(&of(", three steps"), &[4, 6, 5, 7]).steps(3),
            Case::new(&of(", mean 100"), &[8, 4, 16, 16]).data(100.0, 1.0),
            Case::new(&of(", empty"), &[0, 5, 9]),
            Case::new(&of(", NaN"), &[3, 4, 5, 5]).poison(1, f32::NAN),
            Case::new(&of(", infinity"), &[3, 4, 5, 5]).poison(2, f32::INFINITY),
            Case::last(&of(""), &[4, 7, 9, 16]),
            Case::last(&of(", odd channels"), &[3, 7, 5, 9]),
            Case::last(&of(", odd channels, even rows"), &[4, 7, 10, 7]),
            Case::last(&of(", one channel"), &[3, 5, 7, 1]),
            Case::last(&of(", volumes"), &[2, 3, 4, 5, 12]),
            Case::last(&of(", odd channels, eval"), &[3, 7, 5, 9]).eval(),
        ];
        cases.extend(all.map(|case| case.dtype(dtype)));
    }
    cases
}

/// Returns cases with only a weight, and with only a bias. Each changes other kernels: channels in registers, in one
/// dispatch, and split into parts; in planes and in columns; with and without an activation.
fn one_parameter() -> Vec<Case> {
    let relu = |c: BatchNormConfig| c.activation(Activation::Relu);
    let mut cases = Vec::new();
    for (name, weight) in [("only weight", true), ("only bias", false)] {
        let dtype = if weight { DType::F16 } else { DType::BF16 };
        let of = |about: &str| format!("{name}{about}");
        let all = [
            Case::new(&of(""), &[4, 6, 5, 8]),
            Case::new(&of(", odd planes, two steps"), &[3, 4, 7, 9]).steps(2),
            Case::new(&of(", batch of vectors"), &[16, 300]),
            Case::new(&of(", a long row"), &[1, 3, 4096]),
            Case::new(&of(", no tracking"), &[9, 7]).with(|c| c.track_running_stats(false)),
            Case::new(&of(", eval"), &[4, 6, 5, 7]).eval(),
            Case::new(&of(", empty"), &[0, 5, 9]),
            Case::new(&of(", relu"), &[3, 5, 6, 7]).with(relu),
            Case::new(&of(", relu of a sum, a long row"), &[1, 3, 4096]).with(relu).add(),
            Case::new(&of(&format!(", relu, {dtype}")), &[4, 6, 5, 7]).with(relu).dtype(dtype),
            Case::last(&of(""), &[4, 5, 7, 12]),
            Case::last(&of(", a long column"), &[1, 60, 70, 3]),
            Case::last(&of(", relu of a sum, eval"), &[3, 5, 7, 6]).with(relu).add().eval(),
            Case::last(&of(&format!(", {dtype}")), &[3, 7, 5, 9]).dtype(dtype),
        ];
        cases.extend(all.map(|case| case.with(|c| c.weight(weight).bias(!weight))));
    }
    cases
}

/// Returns cases around every boundary in channels and in values per channel, in rows and in columns.
fn boundaries() -> Vec<Case> {
    let sizes = BOUNDARIES.into_iter();
    let mut cases: Vec<Case> = sizes
        .flat_map(|size| {
            [
                Case::new("values in one row", &[1, 3, size]),
                Case::new("values in three rows", &[3, 2, size]),
                Case::new("values in a column", &[size, 3]),
                Case::new("channels", &[3, size, 2]),
                Case::last("channels", &[2, 3, size]),
            ]
        })
        .collect();
    for size in [4095, 4097, 65_535, 65_537, 131_073] {
        cases.push(Case::new("values in one row", &[1, 2, size]));
        cases.push(Case::new("values in a column", &[size, 2]));
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::{Case, table};
    use crate::error::Result;
    use crate::layout::Layout;
    use crate::shape::Problem;
    use std::collections::BTreeSet;

    #[test]
    fn the_table_is_sound() -> Result<()> {
        let cases = table();
        assert!(cases.len() >= 40);
        let names: BTreeSet<_> = cases.iter().map(|case| &case.name).collect();
        assert_eq!(names.len(), cases.len(), "two cases share a name");
        for case in &cases {
            let problem = Problem::new(&case.shape, case.config.layout)?;
            case.config.validate()?;
            assert_eq!(problem.channels, case.config.num_features, "{}", case.name);
            assert!(problem.elements() * case.steps <= 4_000_000, "{}", case.name);
            let batch = case.config.uses_batch_statistics(case.training.into());
            assert!(!batch || problem.values_per_channel() != 1, "{}", case.name);
        }
        let has =
            |what: &str, is: &dyn Fn(&Case) -> bool| assert!(cases.iter().any(is), "no case with {what}");
        for layout in [Layout::ChannelsFirst, Layout::ChannelsLast] {
            for rank in 2..=5 {
                has("this rank", &|case| case.shape.len() == rank && case.config.layout == layout);
            }
            has("eval", &|case| !case.training && case.config.layout == layout);
        }
        for (weight, bias) in [(true, false), (false, true)] {
            has("one parameter", &|case| (case.config.weight, case.config.bias) == (weight, bias));
        }
        has("momentum 1", &|case| case.config.momentum == Some(1.0) && case.training);
        has("no momentum", &|case| case.config.momentum.is_none() && case.steps >= 3);
        has("a batch that is skipped", &|case| case.config.skip_non_finite && case.poison.is_some());
        Ok(())
    }
}
