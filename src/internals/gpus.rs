//! Profiles of GPUs that are not here, to plan for.

use crate::profile::AdapterProfile;
use wgpu::{AdapterInfo, Backend, DeviceType, Features, Limits};

/// Returns profiles of well-known GPUs, each with a short name. Features and limits are those that their drivers report;
/// `webgpu` has no more than WebGPU guarantees, on a GPU that nothing is known of.
pub fn known_gpus() -> Vec<(&'static str, AdapterProfile)> {
    let limits = |workgroup: u32, kilobytes: u32, buffers: u32| Limits {
        max_compute_invocations_per_workgroup: workgroup,
        max_compute_workgroup_size_x: workgroup,
        max_compute_workgroup_storage_size: kilobytes << 10,
        max_storage_buffers_per_shader_stage: buffers,
        max_storage_buffer_binding_size: (1 << 32) - 4,
        max_buffer_size: 1 << 34,
        ..Limits::default()
    };
    let all = Features::SUBGROUP | Features::SHADER_F16;
    let gpu = |name: &str, vendor, kind, backend, subgroups: (u32, u32), features, limits| {
        let mut info = AdapterInfo::new(kind, backend);
        (info.name, info.vendor) = (name.to_owned(), vendor);
        (info.subgroup_min_size, info.subgroup_max_size) = subgroups;
        AdapterProfile::new(&info, features, limits)
    };
    let (discrete, vulkan) = (DeviceType::DiscreteGpu, Backend::Vulkan);
    let nvidia = |name| gpu(name, 0x10de, discrete, vulkan, (32, 32), all, limits(1024, 48, 64));
    let least =
        Limits { max_storage_buffer_binding_size: 1 << 31, max_buffer_size: 1 << 31, ..Limits::default() };
    vec![
        ("h100", nvidia("NVIDIA H100 80GB HBM3")),
        ("rtx-4090", nvidia("NVIDIA GeForce RTX 4090")),
        (
            "rx-7900",
            gpu("AMD Radeon RX 7900 XTX", 0x1002, discrete, vulkan, (32, 64), all, limits(1024, 64, 64)),
        ),
        (
            "arc-a770",
            gpu("Intel(R) Arc(TM) A770", 0x8086, discrete, vulkan, (8, 32), all, limits(1024, 64, 64)),
        ),
        (
            "m3-max",
            gpu(
                "Apple M3 Max",
                0,
                DeviceType::IntegratedGpu,
                Backend::Metal,
                (4, 64),
                all,
                limits(1024, 32, 31),
            ),
        ),
        ("webgpu", gpu("unknown", 0, DeviceType::Other, vulkan, (4, 128), Features::empty(), least)),
    ]
}
