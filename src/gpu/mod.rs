//! The GPU: the choice of the adapter, the device, and the kernels compiled for it.

mod faults;
mod instance;
mod options;
mod pipeline_cache;
mod rounding;
pub(crate) mod transfer;
mod worker;

pub use options::GpuOptions;
pub(crate) use rounding::rounds_f16;

use crate::error::{Error, Result};
use crate::kernels::{Access, Kernel};
use crate::profile::AdapterProfile;
use crate::tunings::Tunings;
use faults::Loss;
use instance::{instance, rank};
use pipeline_cache::PipelineCache;
use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use worker::Worker;

/// A device, its queue and the kernels compiled for it so far. Clones are handles to the same `Gpu`.
#[derive(Clone)]
pub struct Gpu {
    inner: Arc<Inner>,
}

struct Inner {
    device: wgpu::Device,
    queue: wgpu::Queue,
    loss: Loss,
    profile: AdapterProfile,
    kernels: Mutex<HashMap<Kernel, Arc<CompiledKernel>>>,
    pipeline_cache: Option<PipelineCache>,
    tunings: RwLock<Arc<Tunings>>,
    unchecked: bool,
    /// Waits for the GPU.
    waiting: Worker,
    /// Plans and compiles.
    preparing: Worker,
}

/// A kernel's pipeline and the layout of its bind group.
pub(crate) struct CompiledKernel {
    pub(crate) pipeline: wgpu::ComputePipeline,
    pub(crate) bind_group_layout: wgpu::BindGroupLayout,
}

impl Gpu {
    /// Features that are requested if the adapter has them. None is required.
    pub const OPTIONAL_FEATURES: wgpu::Features =
        wgpu::Features::SUBGROUP.union(wgpu::Features::SHADER_F16).union(wgpu::Features::TIMESTAMP_QUERY);

    /// Opens the best adapter: discrete before integrated before virtual before software.
    /// [`with_options_async`](Self::with_options_async) does so without blocking.
    ///
    /// # Errors
    /// [`Error::NoAdapter`] if no adapter is found, [`Error::RequestDevice`] if the adapter opens no device.
    pub fn new() -> Result<Self> {
        Self::with_options(&GpuOptions::new())
    }

    /// Opens the best of the adapters that `options` allow.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_options(options: &GpuOptions) -> Result<Self> {
        pollster::block_on(Self::with_options_async(options))
    }

    /// Runs [`with_options`](Self::with_options) without blocking.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub async fn with_options_async(options: &GpuOptions) -> Result<Self> {
        let (instance, backends) = instance(options.backends, options.dx12_compiler.clone());
        let wanted = options.adapter.clone().or_else(|| std::env::var("WGPU_ADAPTER_NAME").ok());
        let mut adapters = instance.enumerate_adapters(backends).await;
        let found: Vec<String> = adapters.iter().map(|adapter| adapter.get_info().name).collect();
        if let Some(wanted) = &wanted {
            let wanted = wanted.to_lowercase();
            adapters.retain(|adapter| adapter.get_info().name.to_lowercase().contains(&wanted));
        }
        let low_power = wgpu::PowerPreference::from_env() == Some(wgpu::PowerPreference::LowPower);
        adapters.sort_by_key(|adapter| rank(adapter.get_info().device_type, low_power));
        let Some(adapter) = adapters.first() else {
            return Err(Error::NoAdapter { backends, wanted, found });
        };

        let mut features = Self::OPTIONAL_FEATURES & adapter.features();
        if options.without_subgroups {
            features.remove(wgpu::Features::SUBGROUP);
        }
        if options.without_f16 {
            features.remove(wgpu::Features::SHADER_F16);
        }
        if options.pipeline_cache.is_some() {
            features |= wgpu::Features::PIPELINE_CACHE & adapter.features();
        }
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("wgpu-batchnorm"),
            required_features: features,
            required_limits: adapter.limits(),
            ..Default::default()
        };
        let (device, queue) = adapter.request_device(&descriptor).await?;
        Ok(Self::open(&device, &queue, options, Loss::watch(&device)).await)
    }

    /// Wraps the caller's device. Kernels use subgroup operations if the device was opened with
    /// [`wgpu::Features::SUBGROUP`], and f16 with [`wgpu::Features::SHADER_F16`]. Nothing is required beyond wgpu's
    /// default limits.
    ///
    /// The device keeps its [lost callback](wgpu::Device::set_device_lost_callback), so each call asks it instead whether it
    /// is lost (see [`is_lost`](Self::is_lost)).
    ///
    /// Buffers and encoders must be of this device. wgpu reports those of another device of the same
    /// [`wgpu::Instance`] ([`Error::Gpu`](crate::Error::Gpu)). It cannot tell those of another instance from its own: it
    /// may panic, or take the wrong one. Devices that this crate opens share an instance.
    ///
    /// Call it once and clone the result: a `Gpu` caches its compiled kernels, and tensors and layers of two `Gpu`s
    /// do not mix, even on one device.
    pub fn from_wgpu(device: &wgpu::Device, queue: &wgpu::Queue) -> Self {
        Self::from_wgpu_with_options(device, queue, &GpuOptions::new())
    }

    /// Runs [`from_wgpu`](Self::from_wgpu) with those options that do not choose an adapter or its features:
    /// [`pipeline_cache`](GpuOptions::pipeline_cache), which has no effect unless the device was opened with
    /// [`wgpu::Features::PIPELINE_CACHE`], and [`unchecked`](GpuOptions::unchecked).
    pub fn from_wgpu_with_options(device: &wgpu::Device, queue: &wgpu::Queue, options: &GpuOptions) -> Self {
        pollster::block_on(Self::open(device, queue, options, Loss::default()))
    }

    async fn open(device: &wgpu::Device, queue: &wgpu::Queue, options: &GpuOptions, loss: Loss) -> Self {
        let mut profile = AdapterProfile::new(&device.adapter_info(), device.features(), device.limits());
        // A CPU's plans load and store f16 as words, which nothing converts.
        if !profile.is_cpu() {
            let untried =
                Self::with_profile(device, queue, &GpuOptions::new(), profile.clone(), loss.clone());
            profile.rounds_f16 = rounds_f16(&untried).await;
        }
        Self::with_profile(device, queue, options, profile, loss)
    }

    fn with_profile(
        device: &wgpu::Device,
        queue: &wgpu::Queue,
        options: &GpuOptions,
        profile: AdapterProfile,
        loss: Loss,
    ) -> Self {
        let folder = options.pipeline_cache.as_deref();
        let pipeline_cache = folder.and_then(|folder| PipelineCache::open(device, folder));
        let (device, queue) = (device.clone(), queue.clone());
        let kernels = Mutex::default();
        let tunings = RwLock::new(Arc::new(Tunings::new(&profile)));
        let unchecked = options.unchecked;
        Self {
            inner: Arc::new(Inner {
                device,
                queue,
                loss,
                profile,
                kernels,
                pipeline_cache,
                tunings,
                unchecked,
                waiting: Worker::new("wgpu-batchnorm waiting"),
                preparing: Worker::new("wgpu-batchnorm preparing"),
            }),
        }
    }

    /// Returns the profiles of all adapters, best first, each with all features and limits of the adapter.
    pub fn adapters(backends: Option<wgpu::Backends>) -> Vec<AdapterProfile> {
        let (instance, backends) = instance(backends, None);
        let adapters = pollster::block_on(instance.enumerate_adapters(backends));
        let mut profiles: Vec<AdapterProfile> = adapters
            .iter()
            .map(|adapter| AdapterProfile::new(&adapter.get_info(), adapter.features(), adapter.limits()))
            .collect();
        profiles.sort_by_key(|profile| rank(profile.device_type, false));
        profiles
    }

    /// Returns the device.
    pub fn device(&self) -> &wgpu::Device {
        &self.inner.device
    }

    /// Returns the queue.
    pub fn queue(&self) -> &wgpu::Queue {
        &self.inner.queue
    }

    /// Returns the profile that plans are made for.
    pub fn profile(&self) -> &AdapterProfile {
        &self.inner.profile
    }

    /// Makes layers plan with these tunings from now on. A pass without an entry is planned with
    /// [`Tuning::new`](crate::Tuning::new). Call it before the layers run: a layer that planned a pass before may
    /// keep that plan.
    ///
    /// # Errors
    /// [`Error::ForeignTunings`] if they were measured on another adapter, or with another driver or version of this
    /// crate. The previous tunings then stay.
    pub fn set_tunings(&self, tunings: Tunings) -> Result<()> {
        tunings.check(self.profile())?;
        *self.inner.tunings.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(tunings);
        Ok(())
    }

    /// Returns the tunings that layers plan with. Empty unless [set](Self::set_tunings).
    pub fn tunings(&self) -> Arc<Tunings> {
        self.inner.tunings.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns whether both are handles to the same `Gpu`. (Comparing the devices is not enough: wgpu numbers them
    /// per instance, so devices of two instances can compare equal.)
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    /// Returns the file of [`GpuOptions::pipeline_cache`]. `None` if no pipeline cache was requested, or if the
    /// device has none.
    pub fn pipeline_cache_file(&self) -> Option<&Path> {
        self.inner.pipeline_cache.as_ref().map(PipelineCache::file)
    }

    /// Writes the kernels compiled so far to [`pipeline_cache_file`](Self::pipeline_cache_file). Does nothing without
    /// such a file, or if the file has all of them already.
    ///
    /// Dropping the last handle does the same, but reports no errors. A handle in a `static` is never dropped.
    ///
    /// # Errors
    /// [`Error::PipelineCache`] if the file cannot be written. The old file then stays.
    pub fn save_pipeline_cache(&self) -> Result<()> {
        self.inner.pipeline_cache.as_ref().map_or(Ok(()), PipelineCache::save)
    }

    /// Returns the kernel from the cache, or compiles it. A kernel that cannot be compiled does not get into the cache.
    pub(crate) fn kernel(&self, kernel: Kernel) -> Result<Arc<CompiledKernel>> {
        // A panic while the lock is held leaves the map unchanged, so a poisoned lock can be used.
        let mut kernels = self.inner.kernels.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(compiled) = kernels.get(&kernel) {
            return Ok(compiled.clone());
        }
        let cache = self.inner.pipeline_cache.as_ref().map(PipelineCache::get);
        let compiled = Arc::new(self.scoped(|| Ok(self.compile(cache, &kernel)))?);
        kernels.insert(kernel, compiled.clone());
        Ok(compiled)
    }

    /// Does work that takes long in another thread, where it does not hold up an executor. There is one for each `Gpu`.
    pub(crate) async fn in_background<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.inner.preparing.run(work).await
    }

    fn compile(&self, cache: Option<&wgpu::PipelineCache>, kernel: &Kernel) -> CompiledKernel {
        let device = self.device();
        let label = Some(kernel.stem());
        let entries: Vec<wgpu::BindGroupLayoutEntry> = kernel
            .bindings()
            .into_iter()
            .map(|(binding, access)| wgpu::BindGroupLayoutEntry {
                binding: binding as u32,
                visibility: wgpu::ShaderStages::COMPUTE,
                ty: wgpu::BindingType::Buffer {
                    ty: match access {
                        Access::Uniform => wgpu::BufferBindingType::Uniform,
                        Access::Read => wgpu::BufferBindingType::Storage { read_only: true },
                        Access::ReadWrite => wgpu::BufferBindingType::Storage { read_only: false },
                    },
                    has_dynamic_offset: false,
                    min_binding_size: None,
                },
                count: None,
            })
            .collect();
        let bind_group_layout =
            device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label, entries: &entries });
        let layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label,
            bind_group_layouts: &[Some(&bind_group_layout)],
            immediate_size: 0,
        });
        let source = wgpu::ShaderSource::Wgsl(kernel.wgsl().into());
        let module = self.module(wgpu::ShaderModuleDescriptor { label, source });
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label,
            layout: Some(&layout),
            module: &module,
            entry_point: Some(Kernel::ENTRY_POINT),
            compilation_options: wgpu::PipelineCompilationOptions {
                // Every kernel writes workgroup memory before it reads it. On DX12 and Metal, one invocation would clear
                // all of it while the others wait, and FXC would take minutes to compile that.
                zero_initialize_workgroup_memory: false,
                ..wgpu::PipelineCompilationOptions::default()
            },
            cache,
        });
        CompiledKernel { pipeline, bind_group_layout }
    }

    /// Compiles a shader with wgpu's checks or, on demand, without.
    fn module(&self, descriptor: wgpu::ShaderModuleDescriptor<'_>) -> wgpu::ShaderModule {
        if !self.inner.unchecked {
            return self.device().create_shader_module(descriptor);
        }
        #[expect(unsafe_code, reason = "wgpu trusts no shader without it")]
        // SAFETY: every index of a buffer comes from the sizes of a plan, and binding checked that each buffer has what
        // the plan reads and writes. A lane without a load makes another load of its workgroup. Every loop counts what a
        // plan limits, and none waits for another invocation. There are no ray queries.
        unsafe {
            self.device().create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked())
        }
    }

    /// Allocates a storage buffer of at least 4 bytes. Returns an error if the device cannot.
    pub(crate) fn storage_buffer(&self, name: &'static str, bytes: u64) -> Result<wgpu::Buffer> {
        self.check_size(name, bytes)?;
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
        self.allocated(name, bytes, || {
            self.device().create_buffer(&wgpu::BufferDescriptor {
                label: Some(name),
                size: bytes.next_multiple_of(4).max(4),
                usage,
                mapped_at_creation: false,
            })
        })
    }

    /// Allocates a storage buffer with these bytes.
    pub(crate) fn filled_buffer(&self, name: &'static str, contents: &[u8]) -> Result<wgpu::Buffer> {
        let bytes = contents.len() as u64;
        let buffer = self.storage_buffer(name, bytes)?;
        transfer::write_words(self, &[((&buffer, 0, bytes), contents)])?;
        Ok(buffer)
    }

    /// Returns an error if the device allocates no buffer of this size.
    pub(crate) fn check_size(&self, name: &'static str, bytes: u64) -> Result<()> {
        let limit = self.inner.profile.limits.max_buffer_size;
        if bytes <= limit { Ok(()) } else { Err(Error::BufferTooLarge { name, bytes, limit }) }
    }

    pub(crate) fn encoder(&self) -> wgpu::CommandEncoder {
        let descriptor = wgpu::CommandEncoderDescriptor { label: Some("batch_norm") };
        self.device().create_command_encoder(&descriptor)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let kernels = self.kernels.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(cache) = &self.pipeline_cache
            && !kernels.is_empty()
        {
            // A drop cannot report an error. `save_pipeline_cache` does.
            let _ = cache.save();
        }
    }
}

impl fmt::Debug for Gpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Gpu({})", self.profile())
    }
}
