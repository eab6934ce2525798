//! Converts stored tensors to the numbers of a layer.

use super::source::Tensors;
use crate::error::{Error, Result};
use half::{bf16, f16};
use ndarray::{Array1, ArrayD, IxDyn};
use safetensors::Dtype;

/// Returns a tensor of floats as f32, in its own shape.
pub(super) fn array(source: &impl Tensors, name: &str) -> Result<Option<ArrayD<f32>>> {
    let Some((dtype, shape)) = source.info(name) else { return Ok(None) };
    let values = floats(name, dtype, &source.data(name)?)?;
    // The header's sizes fit the data. Only a shape without elements can still be too large.
    ArrayD::from_shape_vec(IxDyn(shape), values)
        .map(Some)
        .map_err(|error| shape_error(name, shape, format!("one that fits into memory ({error})")))
}

/// Returns a tensor of one float per channel as f32.
pub(super) fn vector(source: &impl Tensors, name: &str, channels: usize) -> Result<Option<Array1<f32>>> {
    let Some((dtype, shape)) = source.info(name) else { return Ok(None) };
    if shape != [channels] {
        return Err(shape_error(name, shape, format!("[{channels}]: one value per channel")));
    }
    floats(name, dtype, &source.data(name)?).map(|values| Some(values.into()))
}

/// Returns a scalar tensor as a count of batches.
pub(super) fn count(source: &impl Tensors, name: &str) -> Result<Option<u64>> {
    let Some((dtype, shape)) = source.info(name) else { return Ok(None) };
    if !matches!(shape, [] | [1]) {
        return Err(shape_error(name, shape, "a scalar, [] or [1]".to_owned()));
    }
    let data = source.data(name)?;
    let number = number(dtype, &data).ok_or_else(|| Error::TensorType {
        tensor: name.to_owned(),
        dtype,
        expected: "an integer, or F32, F16, BF16 or F64 with a whole number",
    })?;
    number.count().map(Some).ok_or_else(|| Error::TensorCount {
        tensor: name.to_owned(),
        count: match number {
            Number::Integer(value) => value.to_string(),
            Number::Float(value) => value.to_string(),
        },
    })
}

fn shape_error(name: &str, shape: &[usize], expected: String) -> Error {
    Error::TensorShape { tensor: name.to_owned(), shape: shape.to_vec(), expected }
}

/// Converts elements to f32, rounded to nearest even. What is beyond f32 becomes infinite, and NaN stays NaN.
fn floats(name: &str, dtype: Dtype, data: &[u8]) -> Result<Vec<f32>> {
    fn values<const BYTES: usize>(data: &[u8], value: impl Fn([u8; BYTES]) -> f32) -> Vec<f32> {
        data.as_chunks().0.iter().map(|bytes| value(*bytes)).collect()
    }
    match dtype {
        Dtype::F32 => Ok(values(data, f32::from_le_bytes)),
        Dtype::F64 => Ok(values(data, |bytes| f64::from_le_bytes(bytes) as f32)),
        Dtype::F16 => Ok(values(data, |bytes| f16::from_le_bytes(bytes).to_f32())),
        Dtype::BF16 => Ok(values(data, |bytes| bf16::from_le_bytes(bytes).to_f32())),
        dtype => Err(Error::TensorType { tensor: name.to_owned(), dtype, expected: "F32, F16, BF16 or F64" }),
    }
}

/// A number of any type.
#[derive(Clone, Copy)]
enum Number {
    Integer(i128),
    Float(f64),
}

impl Number {
    /// Returns the number as a count, if it is whole and not negative.
    fn count(self) -> Option<u64> {
        match self {
            Self::Integer(value) => u64::try_from(value).ok(),
            // 2⁶⁴ is the first that does not fit.
            Self::Float(value) => {
                (value.fract() == 0.0 && (0.0..2f64.powi(64)).contains(&value)).then_some(value as u64)
            }
        }
    }
}

/// Returns the first element of a tensor, or `None` if its type is no number or there is none.
fn number(dtype: Dtype, data: &[u8]) -> Option<Number> {
    fn first<const BYTES: usize>(data: &[u8]) -> Option<[u8; BYTES]> {
        data.first_chunk().copied()
    }
    Some(match dtype {
        Dtype::I64 => Number::Integer(i64::from_le_bytes(first(data)?).into()),
        Dtype::U64 => Number::Integer(u64::from_le_bytes(first(data)?).into()),
        Dtype::I32 => Number::Integer(i32::from_le_bytes(first(data)?).into()),
        Dtype::U32 => Number::Integer(u32::from_le_bytes(first(data)?).into()),
        Dtype::I16 => Number::Integer(i16::from_le_bytes(first(data)?).into()),
        Dtype::U16 => Number::Integer(u16::from_le_bytes(first(data)?).into()),
        Dtype::I8 => Number::Integer(i8::from_le_bytes(first(data)?).into()),
        Dtype::U8 => Number::Integer(u8::from_le_bytes(first(data)?).into()),
        Dtype::F64 => Number::Float(f64::from_le_bytes(first(data)?)),
        Dtype::F32 => Number::Float(f32::from_le_bytes(first(data)?).into()),
        Dtype::F16 => Number::Float(f16::from_le_bytes(first(data)?).into()),
        Dtype::BF16 => Number::Float(bf16::from_le_bytes(first(data)?).into()),
        _ => return None,
    })
}
