//! Reads what `run` computes: a layer and its batches, from the tensors of a file.

use crate::batch::{Batch, Batches};
use crate::blocks::{axis, case_of, state_of};
use crate::error::{Fault, Result};
use crate::settings::{self, Overrides, Settings};
use safetensors::Dtype;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use wgpu_batchnorm::checkpoint::StoredTensor;
use wgpu_batchnorm::internals::take_tensor;
use wgpu_batchnorm::ndarray::Array1;
use wgpu_batchnorm::verify::{Case, Inputs};
use wgpu_batchnorm::{BatchNormState, Checkpoint, DType, Problem};

/// Most channels of an empty batch. If the file has no parameters, the layer gets new ones with one value per
/// channel, and a batch without values could make them larger than any memory.
const MAX_EMPTY_CHANNELS: usize = 1 << 20;

/// A layer and its batches.
pub(crate) struct Job {
    pub(crate) settings: Settings,
    /// The suffix of each step's names: `""` for x, or `.0`, `.1` …
    pub(crate) suffixes: Vec<String>,
    pub(crate) case: Case,
    pub(crate) batches: Batches,
    /// Parameters and running statistics before the first step.
    pub(crate) state: BatchNormState,
    /// Tensors that are ignored.
    pub(crate) others: Vec<String>,
}

impl Job {
    /// Returns the case and its data on a block of channels.
    pub(crate) fn part(&self, block: &Range<usize>) -> (Case, Inputs) {
        let inputs = self.batches.inputs(block, state_of(&self.state, block), axis(&self.case));
        (case_of(&self.case, block), inputs)
    }

    /// Takes the tensors out of a file.
    pub(crate) fn new(mut file: Checkpoint, overrides: &Overrides) -> Result<Self, Fault> {
        let mut others: BTreeSet<String> = file.names().map(str::to_owned).collect();
        let suffixes = suffixes(&others)?;
        let settings = Settings::new(overrides, &file)?;

        let (mut tensors, mut dtype) = (Vec::new(), None);
        for suffix in &suffixes {
            let name = format!("x{suffix}");
            let (x, found) = batch(&mut file, &name)?;
            check_type(&name, found, *dtype.get_or_insert(found))?;
            tensors.push(x);
            others.remove(&name);
        }
        let first = format!("x{}", suffixes[0]);
        let dtype = dtype.unwrap_or_default();
        settings::check_dtype(&file, &first, dtype)?;
        let library = |tensor: &str, source| Fault::Library { tensor: tensor.to_owned(), source };
        let shape = tensors[0].shape.clone();
        let channels =
            Problem::new(&shape, settings.layout).map_err(|source| library(&first, source))?.channels();
        if shape.contains(&0) && channels > MAX_EMPTY_CHANNELS {
            return Err(Fault::EmptyButWide { tensor: first, shape, limit: MAX_EMPTY_CHANNELS });
        }
        let config = settings.config(channels);
        config.validate().map_err(|source| library(&first, source))?;
        let mut xs = Vec::new();
        for (StoredTensor { shape, data, .. }, suffix) in tensors.into_iter().zip(&suffixes) {
            let name = format!("x{suffix}");
            let problem = Problem::new(&shape, settings.layout).map_err(|source| library(&name, source))?;
            if problem.channels() != channels {
                let found = problem.channels();
                return Err(Fault::Channels { tensor: name, channels: found, first, expected: channels });
            }
            config
                .problem(&shape, settings.layout, settings.training().into())
                .map_err(|source| library(&name, source))?;
            xs.push(Batch::new(shape, &problem, dtype, data));
        }

        let mut of_x = OfX { file: &mut file, suffixes: &suffixes, xs: &xs, dtype };
        let (dys, residuals) = (of_x.tensors("dy", &mut others)?, of_x.tensors("residual", &mut others)?);
        let state = state(&file, &settings, &BatchNormState::new(&config), xs.len())?;
        for name in ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"] {
            others.remove(name);
        }
        let case = Case {
            name: first,
            shape,
            config,
            training: settings.training(),
            dtype,
            residual: !residuals.is_empty(),
            steps: xs.len(),
            // The data comes from the file, so the parameters of generated data have no meaning.
            mean: f64::NAN,
            std: f64::NAN,
            poison: None,
            seed: 0,
        };
        let others = others.into_iter().collect();
        Ok(Self { settings, suffixes, case, batches: Batches { xs, dys, residuals }, state, others })
    }
}

/// The batches, for reading the tensors that accompany them.
struct OfX<'a> {
    file: &'a mut Checkpoint,
    suffixes: &'a [String],
    xs: &'a [Batch],
    dtype: DType,
}

impl OfX<'_> {
    /// Reads dy, the gradients with respect to the outputs, or the residuals. There must be one for each batch, of
    /// its shape and type, or none at all.
    fn tensors(&mut self, stem: &'static str, others: &mut BTreeSet<String>) -> Result<Vec<Batch>, Fault> {
        let given: Vec<&String> = others.iter().filter(|name| step_of(name, stem).is_some()).collect();
        let Some(&first) = given.first() else { return Ok(Vec::new()) };
        let wanted: Vec<String> = self.suffixes.iter().map(|suffix| format!("{stem}{suffix}")).collect();
        if let Some(&surplus) = given.iter().find(|name| !wanted.contains(name)) {
            let (tensor, missing) = (surplus.clone(), surplus.replacen(stem, "x", 1));
            return Err(Fault::LoneTensor { tensor, missing, stem });
        }
        if let Some(missing) = wanted.iter().find(|name| !given.contains(name)) {
            let (tensor, missing) = (first.clone(), missing.clone());
            return Err(Fault::LoneTensor { tensor, missing, stem });
        }
        let mut tensors = Vec::new();
        for ((name, suffix), x) in wanted.iter().zip(self.suffixes).zip(self.xs) {
            let (StoredTensor { shape, data, .. }, dtype) = batch(self.file, name)?;
            check_type(name, dtype, self.dtype)?;
            if shape != x.shape {
                let wanted = format!("{:?}: that of x{suffix}", x.shape);
                return Err(Fault::Shape { tensor: name.clone(), shape, wanted });
            }
            others.remove(name);
            tensors.push(x.of_this_shape(data));
        }
        Ok(tensors)
    }
}

/// Fails unless a tensor has the wanted type.
fn check_type(name: &str, dtype: DType, wanted: DType) -> Result<(), Fault> {
    if dtype == wanted {
        return Ok(());
    }
    let (dtype, wanted) = (settings::stored_type(dtype), settings::stored_type(wanted));
    Err(Fault::ElementType { tensor: name.to_owned(), dtype, wanted })
}

/// Returns the step of a tensor if its name is `stem` (None) or `stem.k` (Some(k)).
fn step_of(name: &str, stem: &str) -> Option<Option<usize>> {
    let rest = name.strip_prefix(stem)?;
    if rest.is_empty() {
        return Some(None);
    }
    let digits = rest.strip_prefix('.')?;
    let step: usize = digits.parse().ok()?;
    (step.to_string() == digits).then_some(Some(step))
}

fn suffixes(names: &BTreeSet<String>) -> Result<Vec<String>, Fault> {
    let mut steps: BTreeMap<Option<usize>, &String> = BTreeMap::new();
    for name in names {
        if let Some(step) = step_of(name, "x") {
            steps.insert(step, name);
        }
    }
    let plain = steps.remove(&None).is_some();
    match (plain, steps.last_key_value()) {
        (false, None) => Err(Fault::NoInput { found: names.iter().cloned().collect() }),
        (true, None) => Ok(vec![String::new()]),
        (true, Some((_, &numbered))) => Err(Fault::TwoForms { numbered: numbered.clone() }),
        (false, Some((_, &last))) => {
            for (k, step) in steps.keys().enumerate() {
                if *step != Some(k) {
                    return Err(Fault::Gap { missing: format!("x.{k}"), last: last.clone() });
                }
            }
            Ok((0..steps.len()).map(|k| format!(".{k}")).collect())
        }
    }
}

/// Takes a batch, or a tensor that accompanies it, out of the file. Returns it with its type.
fn batch(file: &mut Checkpoint, name: &str) -> Result<(StoredTensor, DType), Fault> {
    let Some(found) = take_tensor(file, name) else {
        return Err(Fault::NoInput { found: file.names().map(str::to_owned).collect() });
    };
    let (shape, tensor) = (found.shape.clone(), name.to_owned());
    let dtype =
        float(found.dtype).ok_or_else(|| Fault::Batch { tensor: tensor.clone(), dtype: found.dtype })?;
    // Some sizes with a 0 among them have a product that no usize holds.
    let fits =
        shape.iter().filter(|&&size| size > 0).try_fold(1usize, |product, &size| product.checked_mul(size));
    if fits.is_none_or(|elements| elements > isize::MAX as usize) {
        return Err(Fault::Shape { tensor, shape, wanted: "one that fits into memory".to_owned() });
    }
    Ok((found, dtype))
}

/// Returns the element type of a tensor of floats.
fn float(dtype: Dtype) -> Option<DType> {
    DType::ALL.into_iter().find(|&float| settings::stored_type(float) == dtype)
}

/// Returns parameters and running statistics of the file, or of a new layer.
fn state(
    file: &Checkpoint,
    settings: &Settings,
    new: &BatchNormState,
    steps: usize,
) -> Result<BatchNormState, Fault> {
    let key = |key| if settings.affine() { key } else { "affine" };
    let weight = vector(file, "weight", &new.weight, key("weight"))?;
    let bias = vector(file, "bias", &new.bias, key("bias"))?;
    if settings.weight && settings.bias {
        together(("weight", weight.is_some()), ("bias", bias.is_some()))?;
    }

    let key = "track_running_stats";
    let running_mean = vector(file, "running_mean", &new.running_mean, key)?;
    let running_var = vector(file, "running_var", &new.running_var, key)?;
    let count = file.count("num_batches_tracked")?;
    let running = ("running_mean", running_mean.is_some());
    together(running, ("running_var", running_var.is_some()))?;
    if let Some(count) = count {
        if !settings.track_running_stats {
            return Err(Fault::Unwanted { tensor: "num_batches_tracked", key });
        }
        if !running.1 {
            return Err(Fault::Lone {
                given: "num_batches_tracked",
                missing: "running_mean and running_var",
            });
        }
        // Each step may add one to the count, and the result is written as an I64.
        let limit = i64::MAX as u64 - steps as u64;
        if count > limit {
            return Err(Fault::Count { count, limit });
        }
    }
    Ok(BatchNormState {
        weight: weight.or_else(|| new.weight.clone()),
        bias: bias.or_else(|| new.bias.clone()),
        running_mean: running_mean.or_else(|| new.running_mean.clone()),
        running_var: running_var.or_else(|| new.running_var.clone()),
        num_batches_tracked: count.or(new.num_batches_tracked),
    })
}

/// Reads a vector with one value per channel. `new` is the vector of a new layer. If the metadata `key` leaves a new
/// layer without the vector, the file must not have it either.
fn vector(
    file: &Checkpoint,
    tensor: &'static str,
    new: &Option<Array1<f32>>,
    key: &'static str,
) -> Result<Option<Array1<f32>>, Fault> {
    match new {
        None if file.tensor(tensor).is_some() => Err(Fault::Unwanted { tensor, key }),
        None => Ok(None),
        Some(new) => Ok(file.vector(tensor, new.len())?),
    }
}

fn together(one: (&'static str, bool), other: (&'static str, bool)) -> Result<(), Fault> {
    match (one, other) {
        ((given, true), (missing, false)) | ((missing, false), (given, true)) => {
            Err(Fault::Lone { given, missing })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
#[path = "../../tests/suite/untrusted/mutation.rs"]
#[expect(clippy::unwrap_used, dead_code, reason = "the library's tests share it, and use all of it")]
mod mutation;

#[cfg(test)]
mod tests {
    use super::mutation::{Mutator, read_damaged};
    use super::{Job, step_of, suffixes};
    use crate::settings::Overrides;
    use safetensors::Dtype;
    use safetensors::tensor::TensorView;
    use std::collections::HashMap;
    use wgpu_batchnorm::Checkpoint;

    /// Returns the files of two steps with everything, of one batch, and of an empty one.
    fn files() -> Result<Vec<Vec<u8>>, Box<dyn std::error::Error>> {
        let data = [0; 96];
        let tensor = |dtype: Dtype, shape: &[usize]| {
            let bytes = shape.iter().product::<usize>() * dtype.bitsize() / 8;
            TensorView::new(dtype, shape.to_vec(), &data[..bytes])
        };
        let mut all = Vec::new();
        for name in ["x.0", "x.1", "dy.0", "dy.1", "residual.0", "residual.1"] {
            all.push((name, tensor(Dtype::F16, &[2, 3, 2])?));
        }
        let parameters = [
            ("weight", tensor(Dtype::F32, &[3])?),
            ("bias", tensor(Dtype::F64, &[3])?),
            ("running_mean", tensor(Dtype::BF16, &[3])?),
            ("running_var", tensor(Dtype::F16, &[3])?),
            ("num_batches_tracked", tensor(Dtype::I64, &[])?),
        ];
        all.extend(parameters);
        let pairs = [("eps", "1e-3"), ("momentum", "none"), ("layout", "channels_first"), ("dtype", "f16")];
        let metadata = pairs.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned()));
        Ok(vec![
            safetensors::serialize(all, Some(metadata.collect::<HashMap<_, _>>()))?,
            safetensors::serialize([("x", tensor(Dtype::F32, &[2, 3, 4])?)], None)?,
            safetensors::serialize([("x", tensor(Dtype::F32, &[0, 3])?)], None)?,
        ])
    }

    #[test]
    fn damaged_inputs() -> Result<(), Box<dyn std::error::Error>> {
        let read = |bytes: &[u8]| {
            let file = Checkpoint::from_bytes(bytes);
            file.is_ok_and(|file| Job::new(file, &Overrides::default()).is_ok())
        };
        read_damaged("input::tests::damaged_inputs", &files()?, Mutator::safetensors, read);
        Ok(())
    }

    #[test]
    fn only_plain_numbers_are_steps() {
        assert_eq!(step_of("x", "x"), Some(None));
        assert_eq!(step_of("x.12", "x"), Some(Some(12)));
        for other in ["x.", "x.01", "x.+1", "x.1.2", "x1", "xs", "y", "x.99999999999999999999"] {
            assert_eq!(step_of(other, "x"), None, "{other}");
        }
    }

    #[test]
    fn steps_are_in_numerical_order() {
        let names = (0..12).map(|k| format!("x.{k}")).collect();
        let found = suffixes(&names);
        assert!(found.is_ok_and(|found| found[2] == ".2" && found[10] == ".10" && found.len() == 12));
    }
}
