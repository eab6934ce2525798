//! Options: which adapter is opened, and how.

#[cfg(doc)]
use super::Gpu;
use std::path::PathBuf;

/// Options of [`Gpu::with_options`]: which adapter it opens, and how.
///
/// wgpu's environment variables choose the adapter as far as these options do not: `WGPU_BACKEND` (`vulkan`, `metal`,
/// `dx12`), `WGPU_ADAPTER_NAME` (part of a name) and `WGPU_POWER_PREF` (`low` takes an integrated adapter before a
/// discrete one).
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct GpuOptions {
    /// Part of the adapter's name, case-insensitive.
    pub adapter: Option<String>,
    /// Backends to search.
    pub backends: Option<wgpu::Backends>,
    /// Opens the device without subgroup operations, even if the adapter has them.
    pub without_subgroups: bool,
    /// Opens the device without f16 in shaders, even if the adapter has it. f16 tensors are then read and written as
    /// words, with the same results.
    pub without_f16: bool,
    /// Folder for compiled kernels, kept between runs of the program.
    pub pipeline_cache: Option<PathBuf>,
    /// Shader compiler on DX12.
    pub dx12_compiler: Option<wgpu::Dx12Compiler>,
    /// Compiles kernels without the checks that wgpu adds to shaders.
    pub unchecked: bool,
}

impl GpuOptions {
    /// Returns the default options: the best adapter.
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

    /// Sets [`pipeline_cache`](Self::pipeline_cache): kernels that an earlier run compiled are loaded from a file in
    /// this folder. Has no effect if the backend has no such cache (only Vulkan has one).
    ///
    /// The file is read when the GPU is opened. It is written when the last handle of the GPU is dropped (each tensor
    /// and layer has one) or by [`Gpu::save_pipeline_cache`], if kernels were compiled that it lacks. Each adapter
    /// and version of this crate has a separate file in the folder. A file that is damaged, or that another driver
    /// wrote, is ignored. You may delete the file, or the folder, at any time.
    ///
    /// The gain depends on the driver: many drivers also have their own cache, and some store nothing in this one.
    ///
    /// The driver trusts what it reads from the file. The folder must be one that **only you** can write to, such as
    /// one in your home directory, and not a shared one for temporary files.
    #[must_use]
    pub fn pipeline_cache(mut self, folder: impl Into<PathBuf>) -> Self {
        self.pipeline_cache = Some(folder.into());
        self
    }

    /// Sets [`dx12_compiler`](Self::dx12_compiler). Without it, wgpu decides by the environment variable
    /// `WGPU_DX12_COMPILER` (`fxc`, `dxc`). Without that, wgpu takes DXC if it finds a `dxcompiler.dll`. Otherwise it
    /// takes FXC, which is part of Windows.
    ///
    /// FXC supports neither subgroups nor f16: lanes merge their results through workgroup memory, and f16 tensors
    /// are read and written as words. The results are as exact. Programs for Windows should ship `dxcompiler.dll`
    /// (1.8.2502 or later, from Microsoft's DirectXShaderCompiler) beside the executable.
    #[must_use]
    pub fn dx12_compiler(mut self, compiler: wgpu::Dx12Compiler) -> Self {
        self.dx12_compiler = Some(compiler);
        self
    }

    /// Sets [`unchecked`](Self::unchecked). wgpu gives every loop a counter that ends it after 2³² turns, and keeps every
    /// index within its buffer where the backend does not (Metal and DX12). Kernels need neither, since a plan limits
    /// every loop and binding checks every size. Without the counters, kernels have 5 to 10% fewer instructions and
    /// compilers unroll short loops, by Mesa's compiler for AMD. Not measured on a GPU.
    ///
    /// The contract: results are the same. But a fault of this crate that would be a wrong number with the checks may
    /// then read or write any memory of the device. Leave them on where shaders must not be trusted, as in a browser.
    #[must_use]
    pub fn unchecked(mut self) -> Self {
        self.unchecked = true;
        self
    }
}
