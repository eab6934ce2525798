//! Times candidates against each other.

use super::Tuned;
use crate::error::Result;
use crate::gpu::Gpu;
use crate::gpu::transfer::Readback;
use crate::kernels::Binding;
use crate::plan::{Plan, Tuning};
use crate::record::{BoundPlan, Buffers};
use crate::tensor::BufferRegion;
use std::time::Instant;

/// Rounds of all candidates: `WARM_ROUNDS` do not count, then `ROUNDS` count. After `EARLY_ROUNDS` of those, slow
/// candidates drop out.
const WARM_ROUNDS: usize = 1;
const EARLY_ROUNDS: usize = 2;
const ROUNDS: usize = 5;

/// A candidate is slow if its time exceeds the best time by this factor.
const SLOW: f64 = 1.5;

/// Rounds between the heuristic and the fastest other candidate. Only these decide, since the apparently fastest of
/// many candidates was partly lucky.
const FINAL_ROUNDS: usize = 9;

/// Another tuning must take less than this fraction of the heuristic's time to replace it.
const FASTER: f64 = 0.97;

/// Another tuning must be faster in this many final rounds. A win in fewer rounds has some other cause.
const ROUNDS_WON: usize = 7;

/// Bytes of tensors that runs rotate through, and the most sets of tensors. Last-level caches hold less.
const ROTATED_BYTES: u64 = 1 << 27;
const MAX_SETS: u64 = 16;

/// Elements of the data. Longer tensors repeat it.
const PATTERN: usize = 1 << 18;

/// Offset of dy in the data, in bytes, so that dy differs from x.
const DY_OFFSET: u64 = 4 * 4099;

/// Candidates that run in turn.
pub(super) struct Contest {
    clock: Clock,
    candidates: Vec<Candidate>,
}

struct Candidate {
    tuning: Tuning,
    /// The plan, bound to every set of buffers.
    bound: Vec<BoundPlan>,
    times: Vec<f64>,
}

impl Contest {
    /// Prepares candidates for the same pass. The first is the heuristic's.
    pub(super) fn new(gpu: &Gpu, candidates: &[(Tuning, Plan)]) -> Result<Self> {
        let sets = Sets::new(gpu, candidates)?;
        let mut bound: Vec<Candidate> = Vec::new();
        for (tuning, plan) in candidates {
            match sets.bind(gpu, plan) {
                Ok(plans) => bound.push(Candidate { tuning: *tuning, bound: plans, times: Vec::new() }),
                Err(error) if bound.is_empty() => return Err(error),
                // A driver may refuse a workgroup larger than the heuristic's.
                Err(_) => {}
            }
        }
        Ok(Self { clock: Clock::new(gpu)?, candidates: bound })
    }

    /// Runs the candidates and returns the winner.
    pub(super) fn run(mut self) -> Result<Tuned> {
        self.rounds(WARM_ROUNDS)?;
        self.forget();
        self.rounds(EARLY_ROUNDS)?;
        let best = self.candidates.iter().map(Candidate::median).fold(f64::INFINITY, f64::min);
        let mut index = 0;
        self.candidates.retain(|candidate| {
            index += 1;
            index == 1 || candidate.median() <= SLOW * best
        });
        self.rounds(ROUNDS - EARLY_ROUNDS)?;

        let others = self.candidates.iter().enumerate().skip(1);
        let fastest = others.min_by(|(_, a), (_, b)| a.median().total_cmp(&b.median()));
        if let Some((index, _)) = fastest {
            self.candidates.swap(1, index);
        }
        self.candidates.truncate(2);
        self.forget();
        self.rounds(FINAL_ROUNDS)?;
        let Some(heuristic) = self.candidates.first() else { unreachable!("the first is always kept") };
        let is_faster = |other: &&Candidate| {
            let rounds = other.times.iter().zip(&heuristic.times);
            let won = rounds.filter(|(other, heuristic)| other < heuristic).count();
            other.median() < FASTER * heuristic.median() && won >= ROUNDS_WON
        };
        let winner = self.candidates.get(1).filter(is_faster).unwrap_or(heuristic);
        Ok(Tuned {
            tuning: winner.tuning,
            milliseconds: winner.median(),
            heuristic: heuristic.tuning,
            heuristic_milliseconds: heuristic.median(),
        })
    }

    /// Runs every candidate once per round, in turn.
    fn rounds(&mut self, rounds: usize) -> Result<()> {
        for round in 0..rounds {
            // Alternates the direction, so that no candidate always follows the same one.
            let count = self.candidates.len();
            for k in 0..count {
                let candidate = &mut self.candidates[if round % 2 == 0 { k } else { count - 1 - k }];
                candidate.times.push(self.clock.time(&candidate.bound)?);
            }
        }
        Ok(())
    }

    fn forget(&mut self) {
        self.candidates.iter_mut().for_each(|candidate| candidate.times.clear());
    }
}

impl Candidate {
    /// Returns the median time, or infinity without times.
    fn median(&self) -> f64 {
        let mut times = self.times.clone();
        times.sort_by(f64::total_cmp);
        times.get(times.len() / 2).copied().unwrap_or(f64::INFINITY)
    }
}

/// The buffers that candidates run on.
struct Sets {
    /// For each set, the tensors and the statistics that a forward pass leaves.
    tensors: Vec<Vec<(Binding, wgpu::Buffer)>>,
    /// Parameters and scratch, which all sets share.
    others: Vec<(Binding, wgpu::Buffer)>,
}

impl Sets {
    fn new(gpu: &Gpu, candidates: &[(Tuning, Plan)]) -> Result<Self> {
        // Collects what any candidate needs.
        let mut needed: Vec<(Binding, u64)> = Vec::new();
        for (binding, bytes) in candidates.iter().flat_map(|(_, plan)| plan.buffers()) {
            match needed.iter_mut().find(|(other, _)| *other == binding) {
                Some((_, most)) => *most = bytes.max(*most),
                None => needed.push((binding, bytes)),
            }
        }
        let moved = candidates.first().map_or(1, |(_, plan)| plan.floor_bytes()).max(1);
        let sets = ROTATED_BYTES.div_ceil(moved).min(MAX_SETS);
        let data = Data::new(gpu)?;
        let of_set = |binding: Binding| {
            matches!(binding, Binding::X | Binding::Y | Binding::Dy | Binding::Dx | Binding::Statistics)
        };
        let allocate = |in_set: bool| -> Result<Vec<(Binding, wgpu::Buffer)>> {
            let wanted = needed.iter().filter(|(binding, _)| of_set(*binding) == in_set);
            wanted.map(|&(binding, bytes)| Ok((binding, data.buffer(gpu, binding, bytes)?))).collect()
        };
        Ok(Self {
            tensors: (0..sets).map(|_| allocate(true)).collect::<Result<_>>()?,
            others: allocate(false)?,
        })
    }

    fn bind(&self, gpu: &Gpu, plan: &Plan) -> Result<Vec<BoundPlan>> {
        let prepared = gpu.prepare(plan)?;
        let bind = |tensors: &Vec<(Binding, wgpu::Buffer)>| {
            prepared.bind(&Buffers::from_fn(|binding| {
                let mut all = tensors.iter().chain(&self.others);
                all.find(|(other, _)| *other == binding).map(|(_, buffer)| BufferRegion::from(buffer))
            }))
        };
        self.tensors.iter().map(bind).collect()
    }
}

/// Data that fills buffers. Only the time of a pass counts, not its result. But some memory moves zeros or equal
/// values faster.
struct Data(wgpu::Buffer);

impl Data {
    fn new(gpu: &Gpu) -> Result<Self> {
        let elements = PATTERN + DY_OFFSET as usize / 4;
        // Multiples of the golden ratio's fractional part are spread evenly. All values are positive, as variances
        // must be.
        let values: Vec<f32> =
            (0..elements).map(|k| ((k as f64 * 0.618_033_988_749_895).fract() + 0.5) as f32).collect();
        Ok(Self(gpu.filled_buffer("tuning data", bytemuck::cast_slice(&values))?))
    }

    /// Allocates a buffer of this size. Fills it if a pass reads it.
    fn buffer(&self, gpu: &Gpu, binding: Binding, bytes: u64) -> Result<wgpu::Buffer> {
        let buffer = gpu.storage_buffer(binding.name(), bytes)?;
        let is_read = matches!(
            binding,
            Binding::X
                | Binding::Dy
                | Binding::Weight
                | Binding::Bias
                | Binding::RunningMean
                | Binding::RunningVar
                | Binding::Statistics
        );
        if is_read {
            gpu.scoped(|| {
                let descriptor = wgpu::CommandEncoderDescriptor { label: Some("tuning") };
                let mut encoder = gpu.device().create_command_encoder(&descriptor);
                let from = if binding == Binding::Dy { DY_OFFSET } else { 0 };
                let mut begin = 0;
                while begin < bytes {
                    let size = (bytes - begin).min(PATTERN as u64 * 4);
                    encoder.copy_buffer_to_buffer(&self.0, from, &buffer, begin, size);
                    begin += size;
                }
                gpu.queue().submit([encoder.finish()]);
                Ok(())
            })?;
        }
        Ok(buffer)
    }
}

/// Times plans by the device's clock, or by the host's if the device has none.
struct Clock {
    gpu: Gpu,
    queries: Option<(wgpu::QuerySet, wgpu::Buffer)>,
}

impl Clock {
    fn new(gpu: &Gpu) -> Result<Self> {
        let device = gpu.device();
        let has_clock = gpu.profile().features.contains(wgpu::Features::TIMESTAMP_QUERY);
        let queries = gpu.scoped(|| {
            Ok(has_clock.then(|| {
                let set = device.create_query_set(&wgpu::QuerySetDescriptor {
                    label: Some("tuning"),
                    ty: wgpu::QueryType::Timestamp,
                    count: 2,
                });
                let buffer = device.create_buffer(&wgpu::BufferDescriptor {
                    label: Some("tuning"),
                    size: 16,
                    usage: wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC,
                    mapped_at_creation: false,
                });
                (set, buffer)
            }))
        })?;
        Ok(Self { gpu: gpu.clone(), queries })
    }

    /// Runs the plans one after another, and returns the milliseconds per plan.
    fn time(&self, plans: &[BoundPlan]) -> Result<f64> {
        let gpu = &self.gpu;
        let started = Instant::now();
        gpu.scoped(|| {
            let descriptor = wgpu::CommandEncoderDescriptor { label: Some("tuning") };
            let mut encoder = gpu.device().create_command_encoder(&descriptor);
            let timestamp_writes = self.queries.as_ref().map(|(set, _)| wgpu::ComputePassTimestampWrites {
                query_set: set,
                beginning_of_pass_write_index: Some(0),
                end_of_pass_write_index: Some(1),
            });
            let descriptor = wgpu::ComputePassDescriptor { label: Some("tuning"), timestamp_writes };
            let mut pass = encoder.begin_compute_pass(&descriptor);
            plans.iter().for_each(|plan| plan.record_in(&mut pass));
            drop(pass);
            if let Some((set, buffer)) = &self.queries {
                encoder.resolve_query_set(set, 0..2, buffer, 0);
            }
            gpu.queue().submit([encoder.finish()]);
            Ok(())
        })?;
        gpu.wait(None)?;
        let wall = started.elapsed().as_secs_f64() * 1e3;
        Ok(self.device_time()?.unwrap_or(wall) / plans.len().max(1) as f64)
    }

    /// Returns the milliseconds between the two timestamps of the last pass.
    fn device_time(&self) -> Result<Option<f64>> {
        let Some((_, buffer)) = &self.queries else { return Ok(None) };
        let take = |parts: &[&[u8]]| -> Vec<u64> {
            parts.iter().flat_map(|part| bytemuck::pod_collect_to_vec(part)).collect()
        };
        let (times, _) = Readback::start(&self.gpu, &[(buffer, 0, 16)])?.wait(take)?;
        let [begin, end] = times[..] else { return Ok(None) };
        // A duration below one tick counts as one tick.
        let ticks = end.wrapping_sub(begin).max(1);
        Ok(Some(ticks as f64 * f64::from(self.gpu.queue().get_timestamp_period()) / 1e6))
    }
}
