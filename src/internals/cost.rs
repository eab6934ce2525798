//! A small model of what a plan costs on a GPU.
//!
//! time = Σ over dispatches of bytes / (rate · share in flight), and of a wait between dispatches.
//!
//! It is for comparing plans, and good to about a third. What it knows nothing of: instructions, clocks, banks.

use crate::kernels::{Access, BackwardInput, Binding, Kernel, Lanes, Normalize, PARTIAL_BYTES};
use crate::plan::Plan;
use crate::profile::AdapterProfile;

/// Share of the data sheet's bandwidth that a stream reaches: 0.93 of it on an H100 (published copies by others).
const REACHABLE: f64 = 0.93;

/// Seconds from a load to its value under load: 0.65 µs on an H100 (published microbenchmarks by others).
const LATENCY: f64 = 0.65e-6;

/// How many times the memory's rate a shared cache delivers: 5.5 of 3.0 TB/s on an H100 (as above).
const CACHE_RATE: f64 = 1.8;

/// Share of a cache that still holds what was read before.
const CACHE_SHARE: f64 = 0.6;

/// Seconds of the first dispatch, and of each further one that waits for it: drain, barrier, fill. An estimate.
const DISPATCH: (f64, f64) = (4e-6, 2.5e-6);

/// Seconds that lanes take to merge their results. Before that, a lane waits [`LATENCY`] for every four partial results that
/// it loads.
const MERGE: f64 = 0.35e-6;

/// Share of the time in which memory is busy if workgroups load, reduce and store in turn: one on a processor, or more.
const TURNS: (f64, f64) = (0.68, 0.85);

/// Registers of a lane that keeps nothing: see benches/results/gpu-compiler.md.
const REGISTERS: u32 = 64;

/// What a plan costs.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Cost {
    /// Bytes from and to memory.
    pub memory: f64,
    /// Bytes from the cache that all processors share.
    pub cached: f64,
    /// Least share of the needed bytes in flight, of all dispatches.
    pub in_flight: f64,
    /// Dispatches.
    pub dispatches: usize,
    /// All of it, in seconds.
    pub seconds: f64,
}

/// Returns the columns whose partial results each workgroup of an elementwise kernel merges, and the channels of each: one
/// of one in planes.
fn columns_merged(kernel: &Kernel) -> Option<(u32, u32)> {
    let (traversal, lanes) = match kernel {
        Kernel::Normalize(Normalize { traversal, merge: Some((lanes, _)), .. }) => (traversal, lanes),
        Kernel::BackwardInput(BackwardInput { traversal, merge: Some((lanes, _)), .. }) => (traversal, lanes),
        _ => return None,
    };
    match lanes {
        Lanes::Rows { across } if traversal.is_columns() => Some((*across, traversal.channels_at_once())),
        _ => Some((1, 1)),
    }
}

/// Estimates what a plan costs on a GPU.
pub fn cost(plan: &Plan, profile: &AdapterProfile) -> Cost {
    let hardware = &profile.hardware;
    let mut cost = Cost { in_flight: 1.0, dispatches: plan.steps().len(), ..Cost::default() };
    let mut seen: Vec<Binding> = Vec::new();
    for (index, step) in plan.steps().iter().enumerate() {
        let kernel = &step.kernel;
        let channels = f64::from(step.channels.1);
        let tensor = channels * plan.problem().values_per_channel() as f64 * plan.dtype().bytes() as f64;
        let partials = channels * f64::from(plan.params().reduction.count) * 16.0;
        let is_tensor = |binding: &Binding| Binding::TENSORS.contains(binding);
        let (mut memory, mut cached, mut tensors) = (0.0, 0.0, 0.0);
        let mut again = 0.0;
        for (binding, access) in kernel.bindings() {
            match (binding, access) {
                (Binding::Partials, _) => memory += partials,
                (binding, Access::Read) if is_tensor(&binding) => {
                    tensors += 1.0;
                    match seen.contains(&binding) {
                        true => again += tensor,
                        false => memory += tensor,
                    }
                    seen.push(binding);
                }
                (binding, Access::ReadWrite) if is_tensor(&binding) => {
                    memory += tensor * if kernel.is_in_place() { 2.0 } else { 1.0 };
                }
                _ => {}
            }
        }
        let workgroups = step.grid.iter().map(|size| f64::from(*size)).product::<f64>();
        let size = f64::from(kernel.workgroup_size());
        let (registers, vectors) = match kernel {
            Kernel::ForwardResident(kernel) => (REGISTERS + 4 * kernel.tile.vectors(), kernel.tile.vectors()),
            Kernel::BackwardResident(kernel) => {
                (REGISTERS + 8 * kernel.tile.vectors(), kernel.tile.vectors())
            }
            _ => (REGISTERS, 4),
        };
        let resident = f64::from(hardware.registers / (registers * kernel.workgroup_size())).max(1.0);
        let at_once = (workgroups / f64::from(hardware.processors)).min(resident);
        let usable = hardware.cache as f64 * CACHE_SHARE;
        // One dispatch that reads twice has at a time what its resident workgroups read.
        if matches!(kernel, Kernel::ForwardOneDispatch(_) | Kernel::BackwardOneDispatch(_)) {
            let read = tensors * tensor;
            let share = (at_once.max(1.0) * f64::from(hardware.processors) / workgroups).min(1.0);
            match share * read <= usable {
                true => cached += read,
                false => memory += read,
            }
        }
        // Every workgroup reads the partial results that it merges.
        let merged = columns_merged(kernel).map_or(0.0, |(columns, channels)| f64::from(columns * channels));
        cached += workgroups * merged * f64::from(plan.params().reduction.count) * PARTIAL_BYTES as f64;
        let hit = again.min(usable);
        (cached, memory) = (cached + hit, memory + again - hit);

        // What a processor has in flight, of what it needs.
        let vector = 4.0 * plan.dtype().bytes() as f64;
        let wanted = hardware.bandwidth * LATENCY / f64::from(hardware.processors);
        let has = at_once * size * f64::from(vectors) * vector * tensors.max(1.0);
        let in_flight = (has / wanted).min(1.0);
        let is_resident = matches!(kernel, Kernel::ForwardResident(_) | Kernel::BackwardResident(_));
        let busy = match (is_resident, at_once >= 2.0) {
            (false, _) => 1.0,
            (true, false) => TURNS.0,
            (true, true) => TURNS.1,
        };
        let rate = hardware.bandwidth * REACHABLE * busy * in_flight.max(1e-3);
        let merges = kernel.bindings().contains(&(Binding::Partials, Access::Read));
        let lanes = match kernel {
            Kernel::Finalize(kernel) => kernel.workgroup_size / kernel.channels_per_workgroup,
            Kernel::BackwardFinalize(kernel) => kernel.workgroup_size / kernel.channels_per_workgroup,
            // The rows of a workgroup share the results of a column.
            _ => kernel.workgroup_size() / columns_merged(kernel).map_or(1, |(columns, _)| columns),
        };
        // Four loads at a time: four splits, or one of four channels.
        let at_once = columns_merged(kernel).map_or(4, |(_, channels)| 4 / channels);
        let waits = f64::from(plan.params().reduction.count.div_ceil(lanes * at_once));
        cost.seconds += if index == 0 { DISPATCH.0 } else { DISPATCH.1 };
        cost.seconds += memory / rate + cached / (rate * CACHE_RATE);
        cost.seconds += if merges { MERGE + waits * LATENCY } else { 0.0 };
        cost.memory += memory;
        cost.cached += cached;
        cost.in_flight = cost.in_flight.min(in_flight);
    }
    cost
}
