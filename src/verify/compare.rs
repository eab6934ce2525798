//! The error measure and the mismatches.

use crate::dtype::DType;
use half::{bf16, f16};
use ndarray::{ArrayView, Dimension};

/// Two results differ that should agree.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Mismatch {
    /// An element is too far from the exact value, or one of the two is a NaN or an infinity that the other does not
    /// match.
    #[error("{name}{index:?} is {actual:e}, exact is {exact:e}: error {error:.1e} exceeds {tolerance:.1e}")]
    Value {
        /// The quantity, with the suffix `.k` in step k of several.
        name: String,
        /// Index of the worst element.
        index: Vec<usize>,
        /// Its value.
        actual: f64,
        /// The value it should have.
        exact: f64,
        /// Its error, relative to the quantity's scale. Infinite for a NaN or an infinity that the other value does
        /// not match.
        error: f64,
        /// The largest error allowed.
        tolerance: f64,
    },
    /// The shapes differ.
    #[error("{name} has shape {actual:?}, expected {exact:?}")]
    Shape {
        /// The quantity.
        name: String,
        /// Its shape.
        actual: Vec<usize>,
        /// The shape it should have.
        exact: Vec<usize>,
    },
    /// The quantity is missing, or present although it should not be.
    #[error("{name} {}", if *.expected { "is missing" } else { "must not be there" })]
    Presence {
        /// The quantity.
        name: String,
        /// Whether the quantity should be present.
        expected: bool,
    },
    /// A whole number differs.
    #[error("{name} is {actual}, expected {exact}")]
    Count {
        /// The quantity.
        name: String,
        /// Its value.
        actual: u64,
        /// The value it should have.
        exact: u64,
    },
}

impl Mismatch {
    /// Returns the name of the quantity, without the suffix of the step: `y`, `running_var`, `num_batches_tracked` …
    pub fn quantity(&self) -> &str {
        let (Self::Value { name, .. }
        | Self::Shape { name, .. }
        | Self::Presence { name, .. }
        | Self::Count { name, .. }) = self;
        name.split('.').next().unwrap_or(name)
    }

    /// Returns the error as a number: the worst element's, or infinity for every other mismatch.
    pub fn error(&self) -> f64 {
        if let Self::Value { error, .. } = self { *error } else { f64::INFINITY }
    }
}

/// Returns the largest finite |value|, or 0 if no value is finite.
pub fn largest<D: Dimension>(values: ArrayView<'_, f64, D>) -> f64 {
    values.iter().map(|value| value.abs()).filter(|value| value.is_finite()).fold(0.0, f64::max)
}

/// Compares `actual` (f32 or f64) with `exact`, relative to the largest exact value:
/// error = max |actual − exact| / max |exact|. See [`compare_scaled`].
///
/// # Errors
/// Returns a [`Mismatch`] if the shapes differ or the error is not at most `tolerance`.
pub fn compare<T, D, E>(
    name: &str,
    actual: ArrayView<'_, T, D>,
    exact: ArrayView<'_, f64, E>,
    tolerance: f64,
) -> Result<f64, Mismatch>
where
    T: Copy + Into<f64>,
    D: Dimension,
    E: Dimension,
{
    let scale = largest(exact.view());
    compare_scaled(name, actual, exact, scale, tolerance)
}

/// Compares `actual` (f32 or f64) with `exact`, relative to `scale`: error = max |actual − exact| / scale. The error
/// is max |actual − exact| if the scale is 0 or not a finite number. Returns the error if it is at most `tolerance`.
///
/// A NaN matches only a NaN, and an infinity only the same infinity. Such pairs have error 0. Every other pair with a
/// NaN or an infinity has an infinite error, which exceeds every tolerance.
///
/// # Errors
/// Returns a [`Mismatch`] that names the worst element if the error is not at most `tolerance`, or both shapes if
/// they differ.
pub fn compare_scaled<T, D, E>(
    name: &str,
    actual: ArrayView<'_, T, D>,
    exact: ArrayView<'_, f64, E>,
    scale: f64,
    tolerance: f64,
) -> Result<f64, Mismatch>
where
    T: Copy + Into<f64>,
    D: Dimension,
    E: Dimension,
{
    compare_by(name, actual, exact, scale, tolerance, difference)
}

/// Compares as [`compare_scaled`] does, for results that were rounded to `dtype` when they were stored.
///
/// For f16 and bf16, rounds each exact value as well, and allows a unit in its last place beside the tolerance. For
/// f32, only the tolerance applies.
///
/// Where an exact value rounds to infinity, the result must be the same infinity. Within tolerance · scale of the
/// least number that rounds to infinity, with a scale up to the largest number, it may be infinite, and it may be the
/// largest number.
///
/// # Errors
/// As [`compare_scaled`].
pub fn compare_stored<D, E>(
    name: &str,
    actual: ArrayView<'_, f64, D>,
    exact: ArrayView<'_, f64, E>,
    dtype: DType,
    scale: f64,
    tolerance: f64,
) -> Result<f64, Mismatch>
where
    D: Dimension,
    E: Dimension,
{
    let scale = usable(scale);
    // A sum's terms may be larger than any number of the type, but overflow is not a matter of them.
    let margin = tolerance * scale.min(largest_of(dtype));
    let stored = |actual, exact| stored_difference(actual, exact, dtype, margin);
    compare_by(name, actual, exact, scale, tolerance, stored)
}

/// Returns the difference to what is stored for the exact value. Numbers no farther than `margin` from overflow may
/// overflow or not.
fn stored_difference(actual: f64, exact: f64, dtype: DType, margin: f64) -> f64 {
    let nearest = dtype.round(exact);
    let to_overflow = (exact.abs() - overflow(dtype)).abs();
    let wanted = match (actual.is_infinite(), nearest.is_infinite()) {
        (false, false) if dtype == DType::F32 => exact,
        (false, false) | (true, true) => nearest,
        (true, false) if to_overflow <= margin && actual.signum() == exact.signum() => return to_overflow,
        (false, true) if to_overflow <= margin => largest_of(dtype).copysign(exact),
        _ => return f64::INFINITY,
    };
    let unit = if dtype == DType::F32 { 0.0 } else { dtype.unit(wanted) };
    (difference(actual, wanted) - unit).max(0.0)
}

/// Returns the largest number of the type.
fn largest_of(dtype: DType) -> f64 {
    match dtype {
        DType::F32 => f32::MAX.into(),
        DType::F16 => f16::MAX.into(),
        DType::BF16 => bf16::MAX.into(),
    }
}

/// Returns the least number that rounds to infinity: half a unit in the last place above the largest number.
fn overflow(dtype: DType) -> f64 {
    let largest = largest_of(dtype);
    largest + 0.5 * dtype.unit(largest)
}

/// Returns the scale, or 1 if it is 0 or not a finite number.
fn usable(scale: f64) -> f64 {
    if scale > 0.0 && scale.is_finite() { scale } else { 1.0 }
}

fn compare_by<T, D, E>(
    name: &str,
    actual: ArrayView<'_, T, D>,
    exact: ArrayView<'_, f64, E>,
    scale: f64,
    tolerance: f64,
    difference: impl Fn(f64, f64) -> f64,
) -> Result<f64, Mismatch>
where
    T: Copy + Into<f64>,
    D: Dimension,
    E: Dimension,
{
    if actual.shape() != exact.shape() {
        return Err(Mismatch::Shape {
            name: name.to_owned(),
            actual: actual.shape().to_vec(),
            exact: exact.shape().to_vec(),
        });
    }
    let scale = usable(scale);
    let (mut position, mut worst) = (0, 0.0);
    for (k, (&actual, &exact)) in actual.iter().zip(&exact).enumerate() {
        let error = difference(actual.into(), exact) / scale;
        if error > worst {
            (position, worst) = (k, error);
        }
    }
    // NaN never passes: `worst` is never NaN, and nothing is at most a tolerance of NaN.
    if worst <= tolerance {
        return Ok(worst);
    }
    let index = exact.view().into_dyn().indexed_iter().nth(position).map(|(index, _)| index);
    Err(Mismatch::Value {
        name: name.to_owned(),
        index: index.map_or_else(Vec::new, |index| index.as_array_view().to_vec()),
        actual: actual.iter().nth(position).map_or(f64::NAN, |&actual| actual.into()),
        exact: exact.iter().nth(position).copied().unwrap_or(f64::NAN),
        error: worst,
        tolerance,
    })
}

/// Returns |actual − exact|. Returns 0 for two NaNs or the same infinity, and infinity if otherwise one is not
/// finite.
fn difference(actual: f64, exact: f64) -> f64 {
    if actual.is_finite() && exact.is_finite() {
        (actual - exact).abs()
    } else if actual == exact || (actual.is_nan() && exact.is_nan()) {
        0.0
    } else {
        f64::INFINITY
    }
}

#[cfg(test)]
mod tests {
    use super::{Mismatch, compare, compare_scaled, compare_stored};
    use crate::dtype::DType;
    use ndarray::{arr0, arr1, arr2, s};

    const NAN: f64 = f64::NAN;
    const INF: f64 = f64::INFINITY;

    #[test]
    fn the_error_is_relative_to_the_largest_finite_value() {
        let exact = arr1(&[0.0, -4.0, INF, NAN]);
        assert_eq!(compare("y", arr1(&[1.0, -4.0, INF, NAN]).view(), exact.view(), 0.25), Ok(0.25));
        assert_eq!(compare("y", arr1(&[0.5f32, 0.0]).view(), arr1(&[0.0, 0.0]).view(), 1.0), Ok(0.5));
        assert_eq!(compare_scaled("y", arr1(&[1.0]).view(), arr1(&[2.0]).view(), 10.0, 0.1), Ok(0.1));
        assert_eq!(compare("y", arr1::<f64>(&[]).view(), arr1(&[]).view(), 0.0), Ok(0.0));
        assert_eq!(compare("y", arr0(1.0).view(), arr0(1.0).view(), 0.0), Ok(0.0));
    }

    #[test]
    fn the_worst_element_is_named() {
        let exact = arr2(&[[1.0, 2.0], [3.0, 4.0]]);
        let actual = arr2(&[[1.0f32, 2.5], [2.0, 4.0]]);
        let mismatch = compare("y.3", actual.view(), exact.view(), 0.1);
        assert_eq!(
            mismatch,
            Err(Mismatch::Value {
                name: "y.3".to_owned(),
                index: vec![1, 0],
                actual: 2.0,
                exact: 3.0,
                error: 0.25,
                tolerance: 0.1
            })
        );
        assert_eq!(mismatch.map_err(|mismatch| mismatch.quantity().to_owned()), Err("y".to_owned()));
    }

    #[test]
    fn only_the_same_kind_of_non_finite_passes() {
        let kinds = [1.0, NAN, INF, -INF];
        for (i, actual) in kinds.into_iter().enumerate() {
            for (j, exact) in kinds.into_iter().enumerate() {
                for tolerance in [1e-6, 1e30] {
                    let result = compare("y", arr1(&[actual]).view(), arr1(&[exact]).view(), tolerance);
                    assert_eq!(result.is_ok(), i == j, "{actual} against {exact}");
                }
            }
        }
    }

    #[test]
    fn what_is_stored_may_be_a_unit_off() {
        let stored = |actual: f64, exact: f64, dtype: DType| {
            compare_stored("y", arr1(&[actual]).view(), arr1(&[exact]).view(), dtype, 1.0, 1e-6)
        };
        let f16 = |units: f64| 1.0 + units / 1024.0;
        assert_eq!(stored(f16(1.0), f16(0.4), DType::F16), Ok(0.0));
        assert_eq!(stored(f16(-0.0), f16(0.6), DType::F16), Ok(0.0));
        assert!(stored(f16(2.0), f16(0.4), DType::F16).is_err());
        assert!(stored(f16(1.0), f16(0.0), DType::F32).is_err());
        assert!(stored(1.0 + 1.0 / 128.0, 1.0, DType::BF16).is_ok());
        assert!(stored(1.0 + 1.0 / 64.0, 1.0, DType::BF16).is_err());
        for dtype in DType::ALL {
            assert!(stored(NAN, 1.0, dtype).is_err() && stored(1.0, NAN, dtype).is_err());
            assert!(stored(INF, 1.0, dtype).is_err() && stored(NAN, NAN, dtype).is_ok());
        }
    }

    #[test]
    fn what_overflows_when_stored_is_infinite() {
        // The tolerance allows what f32 rounds wrong before it stores.
        for (dtype, largest, limit) in [
            (DType::F16, 65_504.0, 65_520.0),
            (DType::BF16, 255.0 * 2f64.powi(120), 511.0 * 2f64.powi(119)),
            (DType::F32, f64::from(f32::MAX), (2f64.powi(25) - 1.0) * 2f64.powi(103)),
        ] {
            assert_eq!((dtype.round(limit), dtype.round(limit * (1.0 - 5e-8))), (INF, largest));
            for sign in [1.0, -1.0] {
                let passes = |actual: f64, exact: f64| {
                    let (actual, exact) = (arr1(&[sign * actual]), arr1(&[sign * exact, largest]));
                    let scale = super::largest(exact.view());
                    compare_stored("y", actual.view(), exact.slice(s![..1]), dtype, scale, 1e-6).is_ok()
                };
                for exact in [1.01 * limit, 2.0 * limit, 1e10 * limit, 1e300, INF] {
                    assert!(passes(INF, exact), "{dtype} {exact:e}");
                    for wrong in [largest, 0.5 * largest, 1.0, 0.0, -INF, NAN] {
                        assert!(!passes(wrong, exact), "{dtype} {wrong:e} for {exact:e}");
                    }
                }
                for exact in [0.0, 1.0, 0.5 * largest, 0.99 * largest, NAN] {
                    assert!(!passes(INF, exact) && !passes(-INF, exact), "{dtype} {exact:e}");
                }
                for exact in [1.0 - 9e-7, 1.0, 1.0 + 9e-7].map(|factor| factor * limit) {
                    assert!(passes(INF, exact) && passes(largest, exact), "{dtype} {exact:e}");
                    for wrong in [-INF, -largest, NAN, 0.99 * largest] {
                        assert!(!passes(wrong, exact), "{dtype} {wrong:e} for {exact:e}");
                    }
                }
                let (below, above) = (limit * (1.0 - 1.1e-6), limit * (1.0 + 1.1e-6));
                assert!(!passes(INF, below) && !passes(largest, above), "{dtype}");
            }
        }
        // A scale far beyond f32, of the terms of a sum, does not make overflow less strict.
        let exact = arr1(&[1e300, 3e38]);
        let passes = |second: f64| {
            let actual = arr1(&[INF, second]);
            compare_stored("dbias", actual.view(), exact.view(), DType::F32, 1e45, 1e-6).is_ok()
        };
        assert!(passes(3.001e38) && !passes(INF) && !passes(-INF) && !passes(NAN));
    }

    #[test]
    fn a_tolerance_of_nan_passes_nothing() {
        assert!(compare("y", arr1(&[1.0]).view(), arr1(&[1.0]).view(), NAN).is_err());
        assert!(compare_scaled("y", arr1(&[1.0]).view(), arr1(&[2.0]).view(), NAN, 0.5).is_err());
    }

    #[test]
    fn another_shape_is_a_mismatch() {
        let error = compare("y", arr1(&[1.0, 1.0]).view(), arr2(&[[1.0, 1.0]]).view(), 1.0);
        assert!(
            matches!(error, Err(Mismatch::Shape { actual, exact, .. }) if actual == [2] && exact == [1, 2])
        );
    }
}
