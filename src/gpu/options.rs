//! Which adapter is taken, and how it is opened.

#[cfg(doc)]
use super::Gpu;
use std::path::PathBuf;

/// Which adapter [`Gpu::with_options`] takes, and how it is opened.
///
/// What is not set here of the adapter's choice is taken from wgpu's environment variables: `WGPU_BACKEND` (`vulkan`, `metal`,
/// `dx12`), `WGPU_ADAPTER_NAME` (part of a name) and `WGPU_POWER_PREF` (`low` takes an integrated adapter
/// before a discrete one).
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct GpuOptions {
    /// Part of the adapter's name; upper and lower case are alike.
    pub adapter: Option<String>,
    /// Backends to search.
    pub backends: Option<wgpu::Backends>,
    /// Open the device without subgroup operations, even where the adapter has them.
    pub without_subgroups: bool,
    /// Open the device without f16 in shaders, even where the adapter has it: such tensors are then read and written
    /// as words, with the same results.
    pub without_f16: bool,
    /// Folder to keep compiled kernels in between runs of the program.
    pub pipeline_cache: Option<PathBuf>,
    /// The compiler of shaders on DX12.
    pub dx12_compiler: Option<wgpu::Dx12Compiler>,
}

impl GpuOptions {
    /// The best adapter there is.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets [`adapter`](Self::adapter).
    #[must_use]
    pub fn adapter(mut self, name: impl Into<String>) -> Self {
        self.adapter = Some(name.into());
        self
    }

    /// Sets [`backends`](Self::backends).
    #[must_use]
    pub fn backends(mut self, backends: wgpu::Backends) -> Self {
        self.backends = Some(backends);
        self
    }

    /// Sets [`without_subgroups`](Self::without_subgroups).
    #[must_use]
    pub fn without_subgroups(mut self) -> Self {
        self.without_subgroups = true;
        self
    }

    /// Sets [`without_f16`](Self::without_f16).
    #[must_use]
    pub fn without_f16(mut self) -> Self {
        self.without_f16 = true;
        self
    }

    /// Sets [`pipeline_cache`](Self::pipeline_cache): kernels that an earlier run compiled are taken from a
    /// file in this folder. Without effect where the backend has no such cache (only Vulkan has one).
    ///
    /// The file is read when the GPU is opened, and written when its last handle is dropped (each tensor and
    /// layer has one) or by [`Gpu::save_pipeline_cache`], if kernels were compiled that it lacks. Each adapter
    /// and version of this crate has a file of its own there. A file that is damaged, or that another driver
    /// wrote, is as good as none. Delete it, or the folder, at any time.
    ///
    /// How much is gained is up to the driver: many have a cache of their own besides, and some keep nothing in
    /// this one.
    ///
    /// The driver believes what it reads there: the folder must be one that **only you** can write to, such as
    /// one in your home directory, and not a shared one for temporary files.
    #[must_use]
    pub fn pipeline_cache(mut self, folder: impl Into<PathBuf>) -> Self {
        self.pipeline_cache = Some(folder.into());
        self
    }

    /// Sets [`dx12_compiler`](Self::dx12_compiler). Without it, wgpu decides: by the environment variable
    /// `WGPU_DX12_COMPILER` (`fxc`, `dxc`), or else it takes DXC where it finds a `dxcompiler.dll`, and FXC, which
    /// Windows has, where it does not.
    ///
    /// With FXC there are neither subgroups nor f16: lanes merge their results through workgroup memory, and f16
    /// tensors are read and written as words. Results are as exact. Programs for Windows should ship
    /// `dxcompiler.dll` (1.8.2502 or later, of Microsoft's DirectXShaderCompiler) beside themselves.
    #[must_use]
    pub fn dx12_compiler(mut self, compiler: wgpu::Dx12Compiler) -> Self {
        self.dx12_compiler = Some(compiler);
        self
    }
}
