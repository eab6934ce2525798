//! Plans for adapters of all kinds, without a GPU.

mod adapters;
mod coverage;
mod gpus;
mod stages;

use crate::support::{changed, runner};
use proptest::prelude::*;
use wgpu_batchnorm::kernels::{
    BackwardFinalize, BackwardResident, Finalize, ForwardResident, Kernel, Lanes, Tile, Traversal,
    VectorWidth,
};
use wgpu_batchnorm::plan::Step;
use wgpu_batchnorm::{
    AdapterProfile, BackwardOptions, BatchNormConfig, Error, ForwardOptions, Layout, Mode, Plan, PlanInput,
    Problem, Tuning, wgpu,
};

/// Returns an adapter as wgpu describes it.
fn profile(
    name: &str,
    device_type: wgpu::DeviceType,
    subgroups: Option<(u32, u32)>,
    invocations: u32,
) -> AdapterProfile {
    let mut info = wgpu::AdapterInfo::new(device_type, wgpu::Backend::Vulkan);
    name.clone_into(&mut info.name);
    (info.subgroup_min_size, info.subgroup_max_size) = subgroups.unwrap_or((4, 128));
    let features = if subgroups.is_some() { wgpu::Features::SUBGROUP } else { wgpu::Features::empty() };
    let limits = wgpu::Limits {
        max_compute_invocations_per_workgroup: invocations,
        max_compute_workgroup_size_x: invocations,
        ..wgpu::Limits::default()
    };
    AdapterProfile::new(&info, features, limits)
}

fn profiles() -> Vec<AdapterProfile> {
    use wgpu::DeviceType::{Cpu, DiscreteGpu, IntegratedGpu};
    vec![
        profile("lavapipe", Cpu, Some((8, 8)), 1024),
        profile("SwiftShader", Cpu, Some((4, 4)), 256),
        profile("WARP", Cpu, Some((4, 128)), 1024),
        profile("NVIDIA H100", DiscreteGpu, Some((32, 32)), 1024),
        profile("AMD", DiscreteGpu, Some((32, 64)), 1024),
        profile("Intel", IntegratedGpu, Some((8, 32)), 1024),
        profile("Adreno", IntegratedGpu, Some((64, 128)), 1024),
        profile("no subgroups", DiscreteGpu, None, 256),
        profile("least of WebGPU's compatibility mode", IntegratedGpu, None, 128),
    ]
}

fn training(problem: &Problem, profile: &AdapterProfile) -> Plan {
    Plan::forward(
        &PlanInput::new(problem, &BatchNormConfig::new(problem.channels()), Mode::Train, profile),
        &ForwardOptions::new(),
    )
    .unwrap()
}
