//! The recording tier: the caller's encoder on the caller's buffers. The buffers are poisoned with NaN before, and
//! read as a whole after. Some tests use geometries of other adapters. Forward and backward share an encoder.

mod columns;

use crate::gradients::case;
use crate::support::{self, buffer, changed, poisoned, read};
use ndarray::{Array1, ArrayD, IxDyn};
use wgpu_batchnorm::half::{bf16, f16};
use wgpu_batchnorm::internals::{
    covering_files, covering_pairs, known_gpus, rounds_f16, tests_are_exhaustive,
};
use wgpu_batchnorm::kernels::{Binding, VectorWidth};
use wgpu_batchnorm::verify::{
    Case, GradientScales, Implementation, Inputs, Outputs, Step, StepGradients, check, table,
};
use wgpu_batchnorm::{
    Activation, AdapterProfile, BackwardOptions, Buffers, DType, ForwardOptions, Gpu, Layout, Plan,
    PlanInput, Result, Tuning, wgpu,
};

/// The settings of plans, and the place of tensors in their buffers.
#[derive(Clone)]
pub(crate) struct Recorded<'a> {
    gpu: &'a Gpu,
    profile: AdapterProfile,
    in_place: bool,
    /// Elements before x and y in their buffers.
    offset: usize,
    /// What the buffers of dweight and dbias hold if these are added to it; otherwise they are stored.
    held: Option<f32>,
    /// Whether few cases are checked even if all are asked for.
    few: bool,
    /// Whether the few cases have every pair of shader files.
    in_pairs: bool,
    /// Changes the tuning of plans.
    tune: fn(Tuning) -> Tuning,
}

impl Recorded<'_> {
    pub(crate) fn new(gpu: &Gpu) -> Recorded<'_> {
        let profile = gpu.profile().clone();
        Recorded {
            gpu,
            profile,
            in_place: false,
            offset: 0,
            held: None,
            few: false,
            in_pairs: false,
            tune: |tuning| tuning,
        }
    }

    /// Uses the geometry of a discrete GPU with many processors.
    pub(crate) fn gpu_like(mut self) -> Self {
        let (_, large) = known_gpus().remove(0);
        (self.profile.device_type, self.profile.hardware) = (large.device_type, large.hardware);
        self.profile.rounds_f16 = rounds_f16(self.gpu);
        self
    }

    /// Rounds to f16 by arithmetic, even if the device converts to the nearest.
    pub(crate) fn by_arithmetic(mut self) -> Self {
        self.profile.rounds_f16 = false;
        self
    }

    fn offset(mut self, elements: usize) -> Self {
        self.offset = elements;
        self
    }

    pub(crate) fn in_place(mut self) -> Self {
        self.in_place = true;
        self
    }

    /// Adds dweight and dbias to this number.
    fn accumulating(mut self, held: f32) -> Self {
        self.held = Some(held);
        self
    }

    /// Chooses few cases such that any two shader files meet that meet in the kernels of any case.
    pub(crate) fn in_pairs(mut self) -> Self {
        self.in_pairs = true;
        self
    }

    pub(crate) fn tuned(mut self, tune: fn(Tuning) -> Tuning) -> Self {
        self.tune = tune;
        self
    }

    /// Returns the forward and the backward plan.
    pub(crate) fn plans(&self, case: &Case) -> Result<[Plan; 2]> {
        let (config, training, profile) = (&case.config, case.training, &self.profile);
        let problem = config.problem(&case.shape, config.layout, training.into())?;
        let loads_four =
            (problem.inner() == 1 || problem.inner() >= 4) && problem.elements().is_multiple_of(4);
        let width = if loads_four { VectorWidth::Four } else { VectorWidth::Scalar };
        let tuning = (self.tune)(Tuning::new(&problem, width, profile));
        let input = PlanInput::new(&problem, config, training.into(), profile).tuning(tuning);
        let (in_place, residual, dtype) = (self.in_place, case.residual, case.dtype);
        let forward = ForwardOptions::new().in_place(in_place).residual(residual).dtype(dtype);
        let backward = BackwardOptions::new().in_place(in_place).residual(residual).dtype(dtype);
        let backward = backward.accumulate(self.held.is_some());
        Ok([Plan::forward(&input, &forward)?, Plan::backward(&input, &backward)?])
    }

    /// Returns the cases to check: all, or few. Every shader file in the kernels of any case is also in the kernels of
    /// one of these few, or every pair of files that meet. And in some of them, lanes have a column without a single
    /// load.
    pub(crate) fn chosen<'a>(&self, cases: impl Iterator<Item = &'a Case>) -> Vec<&'a Case> {
        if tests_are_exhaustive() && !self.few {
            return cases.collect();
        }
        let planned: Vec<(&Case, [Plan; 2])> = cases
            .map(|case| {
                let plans = self.plans(case).unwrap_or_else(|error| panic!("{}: {error}", case.name));
                (case, plans)
            })
            .collect();
        let has_short_period = |plan: &Plan| {
            let (splits, loads) =
                (plan.params().reduction, plan.problem().elements() as u32 / plan.width().elements());
            splits.count > 1 && splits.period > 0 && !loads.is_multiple_of(splits.period)
        };
        let is_short = |(case, plans): &&(&Case, [Plan; 2])| {
            case.shape.iter().product::<usize>() < 20_000 && plans.iter().any(has_short_period)
        };
        let short: Vec<&Case> = planned.iter().filter(is_short).map(|(case, _)| *case).collect();
        let kernels =
            planned.iter().map(|(case, plans)| (*case, plans.iter().flat_map(Plan::kernels).collect()));
        let mut chosen = if self.in_pairs { covering_pairs(kernels) } else { covering_files(kernels) };
        let is_new = |short: &&Case| !chosen.iter().any(|case| case.name == short.name);
        let short: Vec<_> = short.into_iter().filter(is_new).collect();
        chosen.extend(short);
        chosen
    }

    /// Returns a buffer with the tensor, and with NaN before and after it, up to the end of a word.
    fn guarded(&self, dtype: DType, tensor: &ArrayD<f32>) -> wgpu::Buffer {
        let guard = vec![f32::NAN; self.offset];
        let values: Vec<f32> = tensor.iter().copied().collect();
        let mut all = [&guard, &values[..], &guard].concat();
        while all.is_empty() || all.len() % 2 == 1 {
            all.push(f32::NAN);
        }
        match dtype {
            DType::F32 => buffer(self.gpu, &all),
            DType::F16 => words(self.gpu, all.iter().map(|value| f16::from_f32(*value).to_bits())),
            DType::BF16 => words(self.gpu, all.iter().map(|value| bf16::from_f32(*value).to_bits())),
            _ => panic!("{dtype} is not tested"),
        }
    }

    /// Returns the tensor of a buffer. Checks that NaN is still before and after it.
    fn unguarded(&self, dtype: DType, buffer: &wgpu::Buffer, shape: &[usize]) -> ArrayD<f64> {
        let read = read(self.gpu, buffer);
        let halves = || bytemuck::cast_slice::<f32, u16>(&read).iter();
        let all: Vec<f64> = match dtype {
            DType::F32 => read.iter().map(|value| f64::from(*value)).collect(),
            DType::F16 => halves().map(|bits| f16::from_bits(*bits).into()).collect(),
            DType::BF16 => halves().map(|bits| bf16::from_bits(*bits).into()).collect(),
            _ => panic!("{dtype} is not tested"),
        };
        let (before, rest) = all.split_at(self.offset);
        let (values, after) = rest.split_at(shape.iter().product());
        assert!(before.iter().chain(after).all(|guard| guard.is_nan()));
        ArrayD::from_shape_vec(IxDyn(shape), values.to_vec()).unwrap()
    }
}

/// Returns a buffer of elements of 16 bits.
fn words(gpu: &Gpu, bits: impl Iterator<Item = u16>) -> wgpu::Buffer {
    let bits: Vec<u16> = bits.collect();
    buffer(gpu, &bytemuck::pod_collect_to_vec::<u16, f32>(&bits))
}

impl Implementation for Recorded<'_> {
    fn name(&self) -> String {
        "recorded".to_owned()
    }

    fn run(&self, case: &Case, inputs: &Inputs) -> Result<Outputs> {
        let gpu = self.gpu;
        let (config, state) = (&case.config, &inputs.state);
        let channels = config.num_features;
        let (in_place, residual, dtype) = (self.in_place, case.residual, case.dtype);
        let [forward, backward] = self.plans(case)?;

        let vector = |vector: &Option<Array1<f32>>| vector.as_ref().map(|v| buffer(gpu, &v.to_vec()));
        let [weight, bias] = [&state.weight, &state.bias].map(vector);
        let [running_mean, running_var] = [&state.running_mean, &state.running_var].map(vector);
        let count = state.num_batches_tracked.unwrap_or(0);
        let count = buffer(gpu, bytemuck::cast_slice(&[count as u32, (count >> 32) as u32]));
        let offset = self.offset as u64 * dtype.bytes();
        let mut steps = Vec::new();
        for (k, (x, dy)) in inputs.xs.iter().zip(&inputs.dys).enumerate() {
            let nothing = ArrayD::from_elem(x.raw_dim(), f32::NAN);
            let guarded = |tensor| self.guarded(dtype, tensor);
            let [x_buffer, x_again, dy_buffer] = [x, x, dy].map(guarded);
            let [y_out, dx_out] =
                [&x_buffer, &dy_buffer].map(|input| if in_place { input.clone() } else { guarded(&nothing) });
            let (residual_buffer, dresidual_out) = (inputs.residuals.get(k).map(guarded), guarded(&nothing));
            let four_each = || poisoned(gpu, channels * 4);
            let (statistics, projections) = (four_each(), four_each());
            let held = vec![self.held.unwrap_or(f32::NAN); channels];
            let [dweight, dbias] = [(); 2].map(|()| buffer(gpu, &held));
            let partials = [&forward, &backward]
                .map(|plan| poisoned(gpu, plan.bytes_of(Binding::Partials) as usize / 4));
            let mut shared = Buffers::new().num_batches_tracked(&count).statistics(&statistics);
            shared.weight = weight.as_ref().map(Into::into);
            shared.bias = bias.as_ref().map(Into::into);
            shared.running_mean = running_mean.as_ref().map(Into::into);
            shared.running_var = running_var.as_ref().map(Into::into);
            shared.residual = residual_buffer.as_ref().map(|buffer| (buffer, offset).into());
            shared.dresidual = residual.then_some((&dresidual_out, offset).into());
            let mut of_forward = shared.y((&y_out, offset)).partials(&partials[0]);
            of_forward.x = (!in_place).then_some((&x_buffer, offset).into());
            let forward = gpu.prepare(&forward)?.bind(&of_forward)?;
            // An in-place forward pass has overwritten the other x.
            let mut of_backward = shared.x((&x_again, offset)).dx((&dx_out, offset));
            of_backward.dy = (!in_place).then_some((&dy_buffer, offset).into());
            let of_backward =
                of_backward.dweight(&dweight).dbias(&dbias).partials(&partials[1]).projections(&projections);
            let backward = gpu.prepare(&backward)?.bind(&of_backward)?;
            let mut encoder = gpu.device().create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            forward.record(&mut encoder);
            backward.record(&mut encoder);
            gpu.queue().submit([encoder.finish()]);

            let statistics = read(gpu, &statistics);
            let uses_batch = config.uses_batch_statistics(case.training.into()) && !x.is_empty();
            let of_batch = |f: &dyn Fn(&[f32]) -> f64| {
                uses_batch.then(|| statistics.chunks_exact(4).take(channels).map(f).collect::<Array1<f64>>())
            };
            let vector = |buffer: &wgpu::Buffer| -> Array1<f64> {
                read(gpu, buffer).into_iter().take(channels).map(f64::from).collect()
            };
            let count: Vec<u64> = read(gpu, &count).iter().map(|word| u64::from(word.to_bits())).collect();
            steps.push(Step {
                y: self.unguarded(dtype, &y_out, x.shape()),
                batch_mean: of_batch(&|row| f64::from(row[0]) + f64::from(row[1])),
                batch_var: of_batch(&|row| row[3].into()),
                running_mean: running_mean.as_ref().map(vector),
                running_var: running_var.as_ref().map(vector),
                num_batches_tracked: state.num_batches_tracked.map(|_| count[0] | count[1] << 32),
                gradients: Some(StepGradients {
                    dx: self.unguarded(dtype, &dx_out, x.shape()),
                    dresidual: residual.then(|| self.unguarded(dtype, &dresidual_out, x.shape())),
                    dweight: config.weight.then(|| vector(&dweight)),
                    dbias: config.bias.then(|| vector(&dbias)),
                    scales: GradientScales::default(),
                }),
            });
        }
        Ok(Outputs { steps })
    }
}

/// Checks all plain cases up to this size, and one in `fused_one_in` of the cases with activations, sums and half
/// precision. Each of the latter needs kernels of its own, and the ways to go over memory are the same.
fn check_small_cases(implementation: &Recorded<'_>, largest: usize, fused_one_in: usize) {
    check_some(implementation, largest, 1, fused_one_in);
}

fn check_some(implementation: &Recorded<'_>, largest: usize, one_in: usize, fused_one_in: usize) {
    check_all(implementation, some(largest, one_in, fused_one_in).iter());
}

/// Returns one in `one_in` of the plain cases up to this size, and one in `fused_one_in` of the fused ones.
fn some(largest: usize, one_in: usize, fused_one_in: usize) -> Vec<Case> {
    let (plain, fused) = cases(|case| case.shape.iter().product::<usize>() <= largest);
    let fused = fused.into_iter().skip(fused_one_in / 2).step_by(fused_one_in);
    plain.into_iter().step_by(one_in).chain(fused).collect()
}

/// Returns the wanted cases of the table: the plain ones, and the others.
fn cases(is_wanted: impl Fn(&Case) -> bool) -> (Vec<Case>, Vec<Case>) {
    let mut cases = table();
    cases.retain(is_wanted);
    assert!(cases.len() > 40, "{} cases", cases.len());
    cases.into_iter().partition(Case::is_plain)
}

fn check_all<'a>(implementation: &Recorded<'_>, cases: impl Iterator<Item = &'a Case>) {
    let failures: Vec<String> = implementation
        .chosen(cases)
        .into_iter()
        .inspect(|case| println!("{}", case.name))
        .map(|case| check(case, implementation).unwrap_or_else(|error| panic!("{}: {error}", case.name)))
        .filter(|report| !report.passed())
        .map(|report| report.to_string())
        .collect();
    assert!(failures.is_empty(), "{} cases failed:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn separate_buffers() {
    check_small_cases(&Recorded::new(support::gpu()).in_pairs(), 50_000, 5);
}

#[test]
fn in_place() {
    check_small_cases(&Recorded::new(support::gpu()).in_place(), 50_000, 2);
}

#[test]
fn odd_offsets() {
    check_small_cases(&Recorded::new(support::gpu()).offset(1), 20_000, 2);
}

#[test]
fn odd_offsets_in_place() {
    check_small_cases(&Recorded::new(support::gpu()).offset(67).in_place(), 20_000, 3);
}

#[test]
fn geometry_of_a_discrete_gpu() {
    check_small_cases(&Recorded::new(support::gpu()).gpu_like(), 50_000, 4);
}

#[test]
fn geometry_of_a_discrete_gpu_in_place_at_odd_offsets() {
    check_small_cases(&Recorded::new(support::gpu()).gpu_like().in_pairs().in_place().offset(3), 10_000, 7);
}

#[test]
fn without_the_checks_of_wgpu() {
    check_some(&Recorded::new(support::gpu_unchecked()).gpu_like(), 50_000, 3, 9);
}

#[test]
fn geometry_of_a_discrete_gpu_without_subgroups() {
    check_small_cases(&Recorded::new(support::gpu_without_subgroups()).gpu_like(), 50_000, 9);
}

/// Plans for software drivers do not keep channels of small tensors in registers by themselves. This tuning keeps
/// channels of all sizes that fit, in `LOADS` loads.
fn resident<const LOADS: u32>() -> Recorded<'static> {
    Recorded::new(support::gpu()).tuned(|tuning| changed(tuning, |tuning| tuning.tile_loads = LOADS))
}

/// The cases of resident kernels, with separate buffers and in place.
fn resident_cases() -> [Vec<Case>; 2] {
    [some(10_000, 2, 7), some(5_000, 5, 11)]
}

#[test]
fn resident_in_sixteen_loads() {
    check_all(&resident::<16>(), resident_cases()[0].iter());
}

#[test]
fn resident_in_place_at_odd_offsets() {
    check_all(&resident::<16>().in_place().offset(5), resident_cases()[1].iter());
}

/// Returns the cases that have other kernels with tiles of 64 loads than with the 16 of the tests above.
fn long<'a>(implementation: &Recorded<'_>, cases: &'a [Case]) -> Vec<&'a Case> {
    let shorter = implementation.clone().tuned(resident::<16>().tune);
    let kernels = |way: &Recorded<'_>, case: &Case| way.plans(case).unwrap().map(|plan| plan.kernels());
    let is_long = |case: &&Case| kernels(implementation, case) != kernels(&shorter, case);
    let long: Vec<&Case> = cases.iter().filter(is_long).collect();
    assert!(long.len() > 8, "{} cases", long.len());
    long
}

/// Checks few cases unless all are asked for, since such a long kernel takes up to a second to compile. SwiftShader
/// takes 5 to 20 s for each, and checks few cases even then.
#[test]
fn resident_in_sixty_four_loads() {
    let few = support::gpu().profile().name.contains("SwiftShader");
    let separate = Recorded { few, ..resident::<64>() };
    if tests_are_exhaustive() {
        let in_place = separate.clone().in_place().offset(5);
        let [of_separate, of_in_place] = resident_cases();
        check_all(&separate, long(&separate, &of_separate).into_iter());
        check_all(&in_place, long(&in_place, &of_in_place).into_iter());
    }
    let (plain, _) = cases(|case| case.shape.iter().product::<usize>() <= 10_000);
    check_all(&separate, long(&separate, &plain).into_iter().step_by(4));
}

#[test]
fn read_again_by_the_geometry_of_a_discrete_gpu() {
    let read_again = |tuning| changed(tuning, |tuning: &mut Tuning| tuning.tile_loads = 0);
    check_some(&Recorded::new(support::gpu()).gpu_like().tuned(read_again), 50_000, 3, 8);
}

/// GPUs load and store 16 bits in loads of eight elements, where planes and offsets are multiples of that; else
/// narrower ones. A lane keeps them, or reads them again.
#[test]
fn sixteen_bits_in_loads_of_sixteen_bytes() {
    let gpu_like = Recorded::new(support::gpu()).gpu_like();
    let read_again = |tuning| {
        changed(tuning, |tuning: &mut Tuning| {
            (tuning.tile_loads, tuning.one_dispatch, tuning.splits) = (0, false, 3);
        })
    };
    let is_wide = |case: &Case| {
        case.dtype != DType::F32
            && gpu_like.plans(case).unwrap().iter().all(|plan| plan.width() == VectorWidth::Eight)
    };
    let mut wide = table();
    wide.retain(&is_wide);
    // A sum before the activation, which kernels that keep a channel load a second time.
    for (dtype, side) in [(DType::F16, 16), (DType::BF16, 24)] {
        let case = case(&[4, 7, side, side], Layout::ChannelsFirst, 11);
        wide.push(changed(case, |case| {
            (case.dtype, case.residual, case.config.activation) = (dtype, true, Activation::Silu);
        }));
    }
    assert!(wide.len() >= 10 && wide.iter().all(is_wide), "{} cases", wide.len());
    check_all(&gpu_like, wide.iter());
    check_all(&gpu_like.clone().in_place().offset(8), wide.iter());
    check_all(&gpu_like.clone().tuned(read_again), wide.iter());
    check_all(&gpu_like.clone().tuned(read_again).in_place().offset(8), wide.iter());
    // Half a load, and less.
    check_all(&gpu_like.clone().offset(4), wide.iter().step_by(3));
    check_all(&gpu_like.in_place().offset(2), wide.iter().skip(1).step_by(3));
}

/// On GPUs, every workgroup of a channel merges its partial results. One of them finishes the channel: it moves the
/// running statistics, and adds dweight and dbias to what their buffers hold.
#[test]
fn one_workgroup_of_a_channel_finishes_it() {
    let short_splits = |tuning| {
        changed(tuning, |tuning: &mut Tuning| {
            (tuning.tile_loads, tuning.one_dispatch, tuning.splits) = (0, false, 5);
            (tuning.workgroup_size, tuning.loads_per_lane_planes) = (64, 1);
            (tuning.loads_per_lane_columns, tuning.lanes_across) = (1, 5);
        })
    };
    let (planes, columns) = (Layout::ChannelsFirst, Layout::ChannelsLast);
    let tensors = [
        // Loads of four, masked loads of four, and loads of one.
        ([4, 7, 24, 24], planes, DType::F32),
        ([4, 7, 25, 25], planes, DType::BF16),
        ([3, 7, 17, 17], planes, DType::F32),
        // Loads of four channels of a row, those that go on in the next row, and loads of one.
        ([4, 17, 17, 24], columns, DType::F16),
        ([4, 24, 24, 7], columns, DType::F32),
        ([4, 24, 24, 6], columns, DType::BF16),
        ([3, 17, 17, 7], columns, DType::F32),
    ];
    for gpu in [support::gpu(), support::gpu_without_subgroups()] {
        let storing = || Recorded::new(gpu).gpu_like().tuned(short_splits);
        for (shape, layout, dtype) in tensors {
            let case = changed(case(&shape, layout, 11), |case| case.dtype = dtype);
            // A number that makes sums round.
            let adding = storing().accumulating(0.7);
            for plan in adding.plans(&case).unwrap() {
                let stems: Vec<&str> = plan.steps().iter().map(|step| step.kernel.stem()).collect();
                assert!(!stems.contains(&"finalize") && !stems.contains(&"backward_finalize"), "{stems:?}");
                let (reduction, elementwise) = (plan.params().reduction, plan.params().elementwise);
                assert!(reduction.count > 1 && elementwise.count > 3, "{reduction:?}, {elementwise:?}");
            }
            // This checks the running statistics.
            let report = check(&case, &storing()).unwrap();
            assert!(report.passed(), "{report}");
            let inputs = case.inputs();
            let [stored, added] =
                [storing(), adding].map(|way| way.run(&case, &inputs).unwrap().steps.remove(0));
            let [stored, added] = [stored, added].map(|step| step.gradients.unwrap());
            assert_eq!(added.dx, stored.dx, "{dtype} {shape:?}");
            for (added, stored) in [(added.dweight, stored.dweight), (added.dbias, stored.dbias)] {
                let expected = stored.unwrap().mapv(|value| f64::from(0.7 + value as f32));
                assert!(expected.iter().all(|value| value.is_finite()));
                assert_eq!(added.unwrap(), expected, "{dtype} {shape:?}");
            }
        }
    }
}
