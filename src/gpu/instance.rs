//! wgpu's instance, and the order of its adapters.

use std::sync::{Mutex, PoisonError};

/// Backends that this crate supports.
const BACKENDS: wgpu::Backends =
    wgpu::Backends::VULKAN.union(wgpu::Backends::METAL).union(wgpu::Backends::DX12);

/// The instances of this process, by backends and DX12 compiler. wgpu numbers devices and buffers per instance, and would
/// take a buffer of another one for its own. So the devices of this crate share one, and a buffer of the wrong device is
/// an error.
static INSTANCES: Mutex<Vec<(Key, wgpu::Instance)>> = Mutex::new(Vec::new());

type Key = (wgpu::Backends, Option<String>);

/// Returns the instance, and the backends to search.
pub(super) fn instance(
    backends: Option<wgpu::Backends>,
    dx12_compiler: Option<wgpu::Dx12Compiler>,
) -> (wgpu::Instance, wgpu::Backends) {
    let backends = backends.or_else(wgpu::Backends::from_env).unwrap_or(BACKENDS);
    // Other backends than these are of other instances, since each is opened with the instance.
    let opened = backends | BACKENDS;
    let key = (opened, dx12_compiler.as_ref().map(|compiler| format!("{compiler:?}")));
    // Only a whole instance is ever pushed, so a poisoned lock can be used.
    let mut instances = INSTANCES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, instance)) = instances.iter().find(|(other, _)| *other == key) {
        return (instance.clone(), backends);
    }
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle_from_env();
    if let Some(compiler) = dx12_compiler {
        descriptor.backend_options.dx12.shader_compiler = compiler;
    }
    descriptor.backends = opened;
    let instance = wgpu::Instance::new(descriptor);
    instances.push((key, instance.clone()));
    (instance, backends)
}

/// Returns the place of a kind of adapter in the order of preference.
pub(super) fn rank(device_type: wgpu::DeviceType, low_power: bool) -> u8 {
    match device_type {
        wgpu::DeviceType::DiscreteGpu => 1,
        wgpu::DeviceType::IntegratedGpu => 2 * u8::from(!low_power),
        wgpu::DeviceType::VirtualGpu => 3,
        wgpu::DeviceType::Other => 4,
        wgpu::DeviceType::Cpu => 5,
    }
}
