//! Records a plan in the caller's command encoder, on the caller's buffers.
//!
//! [`Gpu::prepare`] compiles the kernels of a [`Plan`]. [`PreparedPlan::bind`] checks the buffers and creates the
//! bind groups. [`BoundPlan::record`] records the dispatches. Recording allocates nothing, submits nothing and reads
//! nothing back. A bound plan can be recorded any number of times.

use crate::error::{Error, Result};
use crate::gpu::CompiledKernel;
use crate::gpu::Gpu;
pub use crate::kernels::{Access, Binding, Params, Splits};
use crate::plan::Plan;
use crate::tensor::BufferRegion;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// The buffers that a plan works on. [`Plan::buffers`] lists the ones that it needs. Others may be given, and are not
/// touched.
///
/// | field | contents |
/// |---|---|
/// | `x` | input; not given in place |
/// | `y` | output, or input and output in place |
/// | `weight`, `bias` | γ and β, f32, one per channel |
/// | `running_mean`, `running_var` | running statistics, f32, one per channel |
/// | `num_batches_tracked` | little-endian 64-bit integer |
/// | `statistics` | batch statistics: per channel f32 mean, mean's remainder, `inv_std`, biased variance |
/// | `partials` | scratch |
/// | `dy` | gradient with respect to y; not given in place |
/// | `dx` | gradient with respect to x, or dy and dx in place |
/// | `dweight`, `dbias` | gradients with respect to γ and β, f32, one per channel |
/// | `projections` | scratch |
/// | `residual` | added to the normalised input before the activation |
/// | `dresidual` | gradient with respect to the residual |
///
/// A forward pass with batch statistics writes `statistics`. Its backward pass needs them unchanged.
#[derive(Clone, Copy, Debug, Default)]
#[expect(missing_docs, reason = "in the table above")]
#[non_exhaustive]
pub struct Buffers<'a> {
    pub x: Option<BufferRegion<'a>>,
    pub y: Option<BufferRegion<'a>>,
    pub weight: Option<BufferRegion<'a>>,
    pub bias: Option<BufferRegion<'a>>,
    pub running_mean: Option<BufferRegion<'a>>,
    pub running_var: Option<BufferRegion<'a>>,
    pub num_batches_tracked: Option<BufferRegion<'a>>,
    pub statistics: Option<BufferRegion<'a>>,
    pub partials: Option<BufferRegion<'a>>,
    pub dy: Option<BufferRegion<'a>>,
    pub dx: Option<BufferRegion<'a>>,
    pub dweight: Option<BufferRegion<'a>>,
    pub dbias: Option<BufferRegion<'a>>,
    pub projections: Option<BufferRegion<'a>>,
    pub residual: Option<BufferRegion<'a>>,
    pub dresidual: Option<BufferRegion<'a>>,
}

macro_rules! setters {
    ($($name:ident),* $(,)?) => {
        $(
            #[doc = concat!("Sets `", stringify!($name), "`.")]
            #[must_use]
            pub fn $name(self, region: impl Into<BufferRegion<'a>>) -> Self {
                Self { $name: Some(region.into()), ..self }
            }
        )*
    };
}

impl<'a> Buffers<'a> {
    /// Returns an empty set of buffers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes each buffer from a function, such as a lookup.
    pub fn from_fn(region: impl Fn(Binding) -> Option<BufferRegion<'a>>) -> Self {
        Self {
            x: region(Binding::X),
            y: region(Binding::Y),
            weight: region(Binding::Weight),
            bias: region(Binding::Bias),
            running_mean: region(Binding::RunningMean),
            running_var: region(Binding::RunningVar),
            num_batches_tracked: region(Binding::NumBatchesTracked),
            statistics: region(Binding::Statistics),
            partials: region(Binding::Partials),
            dy: region(Binding::Dy),
            dx: region(Binding::Dx),
            dweight: region(Binding::DWeight),
            dbias: region(Binding::DBias),
            projections: region(Binding::Projections),
            residual: region(Binding::Residual),
            dresidual: region(Binding::DResidual),
        }
    }

    setters!(
        x,
        y,
        weight,
        bias,
        running_mean,
        running_var,
        num_batches_tracked,
        statistics,
        partials,
        dy,
        dx,
        dweight,
        dbias,
        projections,
        residual,
        dresidual,
    );

    fn get(&self, binding: Binding) -> Option<BufferRegion<'a>> {
        match binding {
            Binding::Params => None,
            Binding::X => self.x,
            Binding::Y => self.y,
            Binding::Statistics => self.statistics,
            Binding::Weight => self.weight,
            Binding::Bias => self.bias,
            Binding::RunningMean => self.running_mean,
            Binding::RunningVar => self.running_var,
            Binding::NumBatchesTracked => self.num_batches_tracked,
            Binding::Partials => self.partials,
            Binding::Dy => self.dy,
            Binding::Dx => self.dx,
            Binding::DWeight => self.dweight,
            Binding::DBias => self.dbias,
            Binding::Projections => self.projections,
            Binding::Residual => self.residual,
            Binding::DResidual => self.dresidual,
        }
    }
}

/// A plan with compiled kernels.
#[derive(Clone)]
pub struct PreparedPlan {
    gpu: Gpu,
    plan: Plan,
    kernels: Vec<Arc<CompiledKernel>>,
    /// All buffers, and whether any dispatch writes to them.
    accesses: Arc<[(Binding, Access)]>,
    kept: Arc<BindCache>,
}

/// What one call of [`PreparedPlan::bind`] caches for the next.
#[derive(Default)]
struct BindCache {
    /// The last uniforms, one after the other: one per group of channels. Nothing writes to them again, so several
    /// bound plans can share them.
    uniforms: Mutex<Option<(Params, wgpu::Buffer)>>,
    /// The plan for unaligned tensors, prepared when the first of them is bound.
    unaligned: OnceLock<PreparedPlan>,
}

/// A plan with kernels and buffers, ready to record.
#[derive(Clone)]
pub struct BoundPlan {
    pub(crate) dispatches: Vec<Dispatch>,
}

#[derive(Clone)]
pub(crate) struct Dispatch {
    pub(crate) kernel: Arc<CompiledKernel>,
    pub(crate) bind_group: wgpu::BindGroup,
    pub(crate) grid: [u32; 3],
}

impl Gpu {
    /// Compiles the kernels of a plan that this `Gpu` has not compiled before.
    ///
    /// # Errors
    /// If the plan was made for another device: [`Error::Limit`] or [`Error::BindingTooLarge`] if that one's limits are
    /// higher, [`Error::MissingFeatures`] if it has features that this one was not opened with. [`Error::Gpu`] if the
    /// driver rejects a kernel, now and the next time.
    pub fn prepare(&self, plan: &Plan) -> Result<PreparedPlan> {
        plan.check_limits(self.profile())?;
        let kernels = plan.steps().iter().map(|step| self.kernel(step.kernel)).collect::<Result<_>>()?;
        let accesses = plan.accesses().into();
        Ok(PreparedPlan { gpu: self.clone(), plan: plan.clone(), kernels, accesses, kept: Arc::default() })
    }
}

/// A region as bound: it begins at an aligned offset. The rest of the offset is counted in elements.
struct Bound<'a> {
    buffer: &'a wgpu::Buffer,
    offset: u64,
    size: u64,
    skipped_elements: u32,
    /// The bytes of the region itself.
    bytes: Range<u64>,
}

impl Bound<'_> {
    fn shares_bytes(&self, other: &Self) -> bool {
        let (own, other_bytes) = (&self.bytes, &other.bytes);
        self.buffer == other.buffer && own.start < other_bytes.end && other_bytes.start < own.end
    }
}

impl PreparedPlan {
    /// Returns the plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Binds buffers. Finds everything that can be wrong with them, before any GPU call.
    ///
    /// The buffers must belong to the device of the [`Gpu`] that prepared the plan. wgpu reports those of another
    /// device ([`Error::Gpu`]), if both are of one [`wgpu::Instance`].
    ///
    /// # Errors
    /// [`Error::MissingBuffer`], [`Error::BufferTooSmall`], [`Error::BufferUsage`], [`Error::Misaligned`],
    /// [`Error::BindingTooLarge`], [`Error::SharedBuffer`], [`Error::Gpu`].
    pub fn bind(&self, buffers: &Buffers<'_>) -> Result<BoundPlan> {
        let mut params = *self.plan.params();
        let width = self.plan.width().elements();
        for (binding, _) in self.plan.buffers() {
            let skipped = self.check(buffers, binding)?.skipped_elements;
            if let Some(unaligned) = self.plan.unaligned()
                && !skipped.is_multiple_of(width)
            {
                return self.unaligned(unaligned)?.bind(buffers);
            }
            let offset = skipped / width;
            match binding {
                Binding::X => params.x_offset = offset,
                Binding::Y => params.y_offset = offset,
                Binding::Dy => params.dy_offset = offset,
                Binding::Dx => params.dx_offset = offset,
                Binding::Residual => params.residual_offset = offset,
                Binding::DResidual => params.dresidual_offset = offset,
                _ => {}
            }
        }
        if self.plan.is_in_place() {
            // Only one of each pair is bound. Its offset holds for both.
            params.x_offset = params.x_offset.max(params.y_offset);
            params.dy_offset = params.dy_offset.max(params.dx_offset);
        }
        self.check_overlaps(buffers)?;
        for step in self.plan.steps() {
            self.check_sharing(buffers, &step.kernel.bindings())?;
        }
        self.gpu.scoped(|| {
            let groups = self.plan.groups();
            let uniforms = self.uniforms(&params, &groups)?;
            let steps = self.plan.steps().iter().zip(&self.kernels);
            let dispatches = steps.map(|(step, kernel)| {
                let group = groups.iter().position(|group| *group == step.channels);
                let uniform = wgpu::BufferBinding {
                    buffer: &uniforms,
                    offset: group.unwrap_or_else(|| unreachable!("of the same plan")) as u64
                        * self.uniform_stride(),
                    size: wgpu::BufferSize::new(size_of::<Params>() as u64),
                };
                let bind_group = self.bind_group(&step.kernel.bindings(), kernel, buffers, uniform)?;
                Ok(Dispatch { kernel: kernel.clone(), bind_group, grid: step.grid })
            });
            Ok(BoundPlan { dispatches: dispatches.collect::<Result<_>>()? })
        })
    }

    fn unaligned(&self, plan: &Plan) -> Result<&Self> {
        if let Some(prepared) = self.kept.unaligned.get() {
            return Ok(prepared);
        }
        let prepared = self.gpu.prepare(plan)?;
        Ok(self.kept.unaligned.get_or_init(|| prepared))
    }

    /// Checks one buffer, and returns how it is bound.
    fn check<'a>(&self, buffers: &Buffers<'a>, binding: Binding) -> Result<Bound<'a>> {
        let binding = self.plan.bound_as(binding);
        let name = binding.name();
        let is_tensor = Binding::TENSORS.contains(&binding);
        let element = self.plan.dtype().bytes();
        let limits = &self.gpu.profile().limits;
        let Some(BufferRegion { buffer, offset }) = buffers.get(binding) else {
            return Err(Error::MissingBuffer { name, bytes: self.plan.bytes_of(binding) });
        };
        if !buffer.usage().contains(wgpu::BufferUsages::STORAGE) {
            let (needed, usage) = (wgpu::BufferUsages::STORAGE, buffer.usage());
            return Err(Error::BufferUsage { name, needed, usage });
        }
        let device_alignment = u64::from(limits.min_storage_buffer_offset_alignment);
        let alignment = if is_tensor { element } else { device_alignment };
        if !offset.is_multiple_of(alignment) {
            return Err(Error::Misaligned { name, offset, alignment });
        }
        let skipped = offset % device_alignment;
        let bytes = if is_tensor { self.plan.tensor_bytes() } else { self.plan.bytes_of(binding) };
        // Bindings take whole words.
        let size = (skipped + bytes).next_multiple_of(4);
        let (needed, available) = (size - skipped, buffer.size().saturating_sub(offset));
        if available < needed {
            return Err(Error::BufferTooSmall { name, needed, available, offset });
        }
        let limit = limits.max_storage_buffer_binding_size;
        if size > limit {
            return Err(Error::BindingTooLarge { name, bytes: size, limit });
        }
        let skipped_elements =
            u32::try_from(skipped / element).unwrap_or_else(|_| unreachable!("alignments are 32-bit"));
        Ok(Bound { buffer, offset: offset - skipped, size, skipped_elements, bytes: offset..offset + bytes })
    }

    /// Checks buffers that are bound twice. wgpu lets a dispatch use one buffer through two bindings only if both
    /// write, or if neither does. Ranges that overlap and are written would have undefined contents.
    fn check_sharing(&self, buffers: &Buffers<'_>, bindings: &[(Binding, Access)]) -> Result<()> {
        let storage: Vec<_> = bindings.iter().filter(|(_, access)| *access != Access::Uniform).collect();
        for (index, (first, first_access)) in storage.iter().enumerate() {
            for (second, second_access) in &storage[index + 1..] {
                let (a, b) = (self.check(buffers, *first)?, self.check(buffers, *second)?);
                let writes = [first_access, second_access].map(|access| *access == Access::ReadWrite);
                if a.buffer != b.buffer || writes == [false, false] {
                    continue;
                }
                let overlap = a.offset < b.offset + b.size && b.offset < a.offset + a.size;
                if overlap || writes != [true, true] {
                    return Err(Error::SharedBuffer { first: first.name(), second: second.name(), overlap });
                }
            }
        }
        Ok(())
    }

    /// Checks that no dispatch writes what another one reads or writes through another binding. A plan for the same
    /// problem may have these dispatches in one, or in another order.
    fn check_overlaps(&self, buffers: &Buffers<'_>) -> Result<()> {
        let bound = self.accesses.iter().map(|(binding, _)| self.check(buffers, *binding));
        let bound = bound.collect::<Result<Vec<_>>>()?;
        let all: Vec<_> = self.accesses.iter().zip(&bound).collect();
        for (index, ((first, first_access), a)) in all.iter().enumerate() {
            for ((second, second_access), b) in &all[index + 1..] {
                let written = [first_access, second_access].contains(&&Access::ReadWrite);
                if written && a.shares_bytes(b) {
                    let (first, second) = (first.name(), second.name());
                    return Err(Error::SharedBuffer { first, second, overlap: true });
                }
            }
        }
        Ok(())
    }

    /// Returns the bytes from one uniform to the next.
    fn uniform_stride(&self) -> u64 {
        let alignment = u64::from(self.gpu.profile().limits.min_uniform_buffer_offset_alignment);
        (size_of::<Params>() as u64).next_multiple_of(alignment.max(1))
    }

    /// Returns the uniforms of these parameters, one per group of channels. Reuses the last ones if the parameters
    /// are equal. Otherwise allocates new ones.
    fn uniforms(&self, params: &Params, groups: &[(u32, u32)]) -> Result<wgpu::Buffer> {
        let mut last = self.kept.uniforms.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, buffer)) = &*last
            && of == params
        {
            return Ok(buffer.clone());
        }
        let stride = self.uniform_stride() as usize;
        let mut bytes = vec![0; stride * groups.len().max(1)];
        for (bytes, &(first_channel, group_channels)) in bytes.chunks_exact_mut(stride).zip(groups) {
            let of_group = Params { first_channel, group_channels, ..*params };
            bytes[..size_of::<Params>()].copy_from_slice(bytemuck::bytes_of(&of_group));
        }
        let (name, size) = (Binding::Params.name(), bytes.len() as u64);
        let buffer = self.gpu.allocated(name, size, || {
            self.gpu.device().create_buffer(&wgpu::BufferDescriptor {
                label: Some(name),
                size,
                usage: wgpu::BufferUsages::UNIFORM,
                mapped_at_creation: true,
            })
        })?;
        crate::gpu::transfer::fill_mapped(&buffer, &[&bytes])?;
        *last = Some((*params, buffer.clone()));
        Ok(buffer)
    }

    fn bind_group(
        &self,
        bindings: &[(Binding, Access)],
        kernel: &CompiledKernel,
        buffers: &Buffers<'_>,
        uniform: wgpu::BufferBinding<'_>,
    ) -> Result<wgpu::BindGroup> {
        let mut entries = Vec::with_capacity(bindings.len());
        for &(binding, access) in bindings {
            let resource = if access == Access::Uniform {
                wgpu::BindingResource::Buffer(uniform.clone())
            } else {
                let Bound { buffer, offset, size, .. } = self.check(buffers, binding)?;
                let size = wgpu::BufferSize::new(size);
                wgpu::BindingResource::Buffer(wgpu::BufferBinding { buffer, offset, size })
            };
            entries.push(wgpu::BindGroupEntry { binding: binding as u32, resource });
        }
        Ok(self.gpu.device().create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &kernel.bind_group_layout,
            entries: &entries,
        }))
    }
}

impl BoundPlan {
    /// Records the plan as a separate compute pass.
    pub fn record(&self, encoder: &mut wgpu::CommandEncoder) {
        let descriptor = wgpu::ComputePassDescriptor { label: Some("batch_norm"), timestamp_writes: None };
        self.record_in(&mut encoder.begin_compute_pass(&descriptor));
    }

    /// Records the plan in the caller's compute pass. Changes the pipeline and bind group 0.
    pub fn record_in(&self, pass: &mut wgpu::ComputePass<'_>) {
        for dispatch in &self.dispatches {
            pass.set_pipeline(&dispatch.kernel.pipeline);
            pass.set_bind_group(0, &dispatch.bind_group, &[]);
            let [x, y, depth] = dispatch.grid;
            pass.dispatch_workgroups(x, y, depth);
        }
    }
}

impl fmt::Debug for PreparedPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PreparedPlan").field("plan", &self.plan).finish_non_exhaustive()
    }
}

impl fmt::Debug for BoundPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let grids: Vec<_> = self.dispatches.iter().map(|dispatch| dispatch.grid).collect();
        f.debug_struct("BoundPlan").field("grids", &grids).finish_non_exhaustive()
    }
}
