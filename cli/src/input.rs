//! Reads what `run` computes: a layer and its batches, from the tensors of a file.

use crate::blocks::{axis, case_of, state_of};
use crate::error::{Fault, Result};
use crate::settings::{self, Overrides, Settings};
use safetensors::Dtype;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use wgpu_batchnorm::checkpoint::StoredTensor;
use wgpu_batchnorm::half::{bf16, f16};
use wgpu_batchnorm::internals::take_tensor;
use wgpu_batchnorm::ndarray::{Array1, ArrayD, Axis, IxDyn};
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
    pub(crate) xs: Vec<Batch>,
    /// The gradients with respect to the outputs. Empty if only forward passes run.
    pub(crate) dys: Vec<Batch>,
    /// What is added to the normalised batches. Empty if nothing is.
    pub(crate) zs: Vec<Batch>,
    /// Parameters and running statistics before the first step.
    pub(crate) state: BatchNormState,
    /// Tensors that are ignored.
    pub(crate) others: Vec<String>,
}

/// A batch, or a tensor that accompanies one, as the file stores it. Of the tensors that are as large as a batch, this is
/// the only copy: a result takes the place of the values that nothing needs any more.
pub(crate) struct Batch {
    pub(crate) shape: Vec<usize>,
    pub(crate) problem: Problem,
    dtype: DType,
    data: Vec<u8>,
}

impl Batch {
    /// Returns the number of elements.
    pub(crate) fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Returns the values of a block of channels.
    fn part(&self, axis: Axis, block: &Range<usize>) -> ArrayD<f32> {
        let mut shape = self.shape.clone();
        shape[axis.0] = block.len();
        let mut part = ArrayD::zeros(IxDyn(&shape));
        if let Some(values) = part.as_slice_mut().filter(|values| !values.is_empty()) {
            let rows = values.chunks_exact_mut(self.problem.inner() * block.len());
            for (to, place) in rows.zip(self.rows(block)) {
                decode(self.dtype, &self.data[place], 1, to);
            }
        }
        part
    }

    /// Puts the values of a block of channels into their place: those of [`part`](Self::part), as the file stores them.
    pub(crate) fn put_part(&mut self, block: &Range<usize>, stored: &[u8]) {
        let length = self.problem.inner() * block.len() * self.bytes();
        if length > 0 {
            for (place, part) in self.rows(block).zip(stored.chunks_exact(length)) {
                self.data[place].copy_from_slice(part);
            }
        }
    }

    /// Returns where the data of a block of channels lies. Tensors are [outer, channels, inner] in both layouts.
    fn rows(&self, block: &Range<usize>) -> impl Iterator<Item = Range<usize>> + use<> {
        let of_channel = self.problem.inner() * self.bytes();
        let (row, block) = (self.problem.channels() * of_channel, block.clone());
        (0..self.problem.outer())
            .map(move |outer| outer * row + block.start * of_channel..outer * row + block.end * of_channel)
    }

    fn bytes(&self) -> usize {
        self.dtype.bytes() as usize
    }

    /// Returns a range of the values of one channel, in their order.
    pub(crate) fn piece(&self, channel: usize, range: &Range<usize>) -> Vec<f32> {
        let mut values = vec![0.0; range.len()];
        let mut rest = values.as_mut_slice();
        for run in self.runs(channel, range) {
            let (to, behind) = rest.split_at_mut(run.count);
            decode(self.dtype, &self.data[run.begin * self.bytes()..], run.step, to);
            rest = behind;
        }
        values
    }

    /// Puts a range of the values of one channel into its place: those of [`piece`](Self::piece), as the file stores
    /// them.
    pub(crate) fn put_piece(&mut self, channel: usize, range: &Range<usize>, stored: &[u8]) {
        let bytes = self.bytes();
        let mut values = stored.chunks_exact(bytes);
        for run in self.runs(channel, range) {
            let places = self.data[run.begin * bytes..].chunks_exact_mut(bytes).step_by(run.step);
            // Places come first: a value that has no more place must stay for the next run.
            places.take(run.count).zip(&mut values).for_each(|(to, value)| to.copy_from_slice(value));
        }
    }

    /// Returns where a range of the values of one channel lies.
    fn runs(&self, channel: usize, range: &Range<usize>) -> impl Iterator<Item = Run> + use<> {
        let (channels, inner, range) = (self.problem.channels(), self.problem.inner().max(1), range.clone());
        // Where rows have one value each, they make one run.
        let row = if inner == 1 { range.end.max(1) } else { inner };
        (range.start / row..range.end.div_ceil(row)).map(move |k| {
            let (begin, end) = (range.start.max(k * row), range.end.min((k + 1) * row));
            let (outer, inside) = (begin / inner, begin % inner);
            Run {
                begin: (outer * channels + channel) * inner + inside,
                step: if inner == 1 { channels } else { 1 },
                count: end - begin,
            }
        })
    }

    /// Takes the data out.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.data)
    }
}

/// Elements of a tensor at equal distances.
struct Run {
    begin: usize,
    step: usize,
    count: usize,
}

impl Job {
    /// Returns the case and its data on a block of channels.
    pub(crate) fn part(&self, block: &Range<usize>) -> (Case, Inputs) {
        let axis = axis(&self.case);
        let tensors = |all: &[Batch]| all.iter().map(|batch| batch.part(axis, block)).collect();
        let inputs = Inputs {
            xs: tensors(&self.xs),
            dys: tensors(&self.dys),
            zs: tensors(&self.zs),
            state: state_of(&self.state, block),
        };
        (case_of(&self.case, block), inputs)
    }

    /// Returns the tensor that makes place for a result: y takes that of x, dx that of dy, and dz that of z.
    pub(crate) fn place(&mut self, result: &'static str, step: usize) -> Option<&mut Batch> {
        match result {
            "y" => self.xs.get_mut(step),
            "dx" => self.dys.get_mut(step),
            _ if self.dys.is_empty() => None,
            _ => self.zs.get_mut(step),
        }
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
                .problem(&shape, settings.layout, settings.training())
                .map_err(|source| library(&name, source))?;
            xs.push(Batch { shape, problem, dtype, data });
        }

        let mut of_x = OfX { file: &mut file, suffixes: &suffixes, xs: &xs, dtype };
        let (dys, zs) = (of_x.tensors("dy", &mut others)?, of_x.tensors("z", &mut others)?);
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
            residual: !zs.is_empty(),
            steps: xs.len(),
            // The data comes from the file, so the parameters of generated data have no meaning.
            mean: f64::NAN,
            std: f64::NAN,
            poison: None,
            seed: 0,
        };
        let others = others.into_iter().collect();
        Ok(Self { settings, suffixes, case, xs, dys, zs, state, others })
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
    /// Reads dy, the gradients with respect to the outputs, or z, the residuals. There must be one for each batch, of
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
            tensors.push(Batch { shape, problem: x.problem, dtype, data });
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

/// Writes the values of every `step`th element of these bytes.
pub(crate) fn decode(dtype: DType, bytes: &[u8], step: usize, values: &mut [f32]) {
    fn each<const N: usize>(bytes: &[u8], step: usize, values: &mut [f32], value: impl Fn([u8; N]) -> f32) {
        let elements = bytes.as_chunks().0.iter().step_by(step);
        values.iter_mut().zip(elements).for_each(|(to, bytes)| *to = value(*bytes));
    }
    match dtype {
        DType::F16 => each(bytes, step, values, |half| f16::from_le_bytes(half).to_f32()),
        DType::BF16 => each(bytes, step, values, |half| bf16::from_le_bytes(half).to_f32()),
        _ => each(bytes, step, values, f32::from_le_bytes),
    }
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
        for name in ["x.0", "x.1", "dy.0", "dy.1", "z.0", "z.1"] {
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
