//! Properties of an adapter that a plan depends on.

mod hardware;

pub use hardware::{Hardware, HardwareSource};
use std::fmt;

/// Properties of a device that a [`Plan`](crate::Plan) depends on. Plain data: build it from a device, or by hand to
/// plan for another device.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct AdapterProfile {
    /// The adapter's name.
    pub name: String,
    /// The driver and its version.
    pub driver: String,
    /// Vulkan, Metal or DX12.
    pub backend: wgpu::Backend,
    /// Discrete, integrated, virtual or software (CPU).
    pub device_type: wgpu::DeviceType,
    /// Features that the device was opened with.
    pub features: wgpu::Features,
    /// Limits that the device was opened with.
    pub limits: wgpu::Limits,
    /// Smallest subgroup size. Known even if the device cannot use subgroup operations.
    pub subgroup_min_size: u32,
    /// Largest subgroup size.
    pub subgroup_max_size: u32,
    /// What wgpu does not tell.
    pub hardware: Hardware,
    /// Whether the device converts f32 to the nearest f16, ties to even. WGSL also allows the other neighbour, so a
    /// [`Gpu`](crate::Gpu) tries it when it is opened. `false` if nobody tried: kernels then round by arithmetic, with
    /// the same results.
    pub rounds_f16: bool,
}

impl AdapterProfile {
    /// Returns the profile of an adapter and a device with these features and limits.
    pub fn new(info: &wgpu::AdapterInfo, features: wgpu::Features, limits: wgpu::Limits) -> Self {
        Self {
            name: info.name.clone(),
            driver: format!("{} {}", info.driver, info.driver_info).trim().to_owned(),
            backend: info.backend,
            device_type: info.device_type,
            features,
            limits,
            subgroup_min_size: info.subgroup_min_size,
            subgroup_max_size: info.subgroup_max_size,
            hardware: Hardware::of(info),
            rounds_f16: false,
        }
    }

    /// Returns whether the "GPU" is software that runs on the CPU.
    pub fn is_cpu(&self) -> bool {
        self.device_type == wgpu::DeviceType::Cpu
    }

    /// Returns whether kernels may use subgroup operations.
    pub fn has_subgroups(&self) -> bool {
        self.features.contains(wgpu::Features::SUBGROUP)
    }

    /// Returns whether FXC compiles the shaders. DX12 falls back on FXC without a `dxcompiler.dll`. wgpu does not
    /// report the compiler. But with DXC, every adapter that is not very old has subgroups, f16 or 64-bit integers. So
    /// a DX12 device that was opened with none of these counts as FXC, too.
    pub fn is_fxc(&self) -> bool {
        let of_dxc = wgpu::Features::SUBGROUP | wgpu::Features::SHADER_F16 | wgpu::Features::SHADER_INT64;
        self.backend == wgpu::Backend::Dx12 && !self.features.intersects(of_dxc)
    }

    /// Returns the profile of the same device without subgroup operations. Its plans use workgroup memory instead.
    #[must_use]
    pub fn without_subgroups(mut self) -> Self {
        self.features.remove(wgpu::Features::SUBGROUP);
        self
    }
}

impl fmt::Display for AdapterProfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:?}, {:?}, {})", self.name, self.backend, self.device_type, self.driver)
    }
}
