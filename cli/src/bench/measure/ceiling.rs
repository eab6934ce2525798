//! Measures the memory's rate: the best of several plain copies.

use super::memory::ROTATED_BYTES;
use super::timing::{Clock, Runs, median};
use std::time::Instant;
use wgpu_batchnorm::ndarray::Array1;
use wgpu_batchnorm::{Gpu, Layout, Result, Tensor, wgpu};

/// Shaders that every sample times again: the best of the survey.
const KEPT: usize = 3;

/// The best rates so far, in GB/s of bytes read and written. Each is the maximum over all samples, and each sample is
/// the median of its runs. A machine's rate varies in the course of a long run.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Ceilings {
    /// Rate of the best WGSL copy.
    pub(crate) shader: f64,
    /// Rate of `copy_buffer_to_buffer`.
    pub(crate) buffer: f64,
    /// The geometry of the best WGSL copy.
    pub(crate) geometry: String,
    /// Bytes that each copy reads.
    pub(crate) bytes: u64,
}

/// Plain copies, timed between the passes.
pub(crate) struct Copies {
    /// Pairs of source and destination buffers, used in turn.
    pairs: Vec<(Tensor, Tensor)>,
    shaders: Vec<ShaderCopy>,
    buffer_rate: f64,
    /// Copies per submission when the wall clock times them: enough that the submission hardly counts.
    copies: usize,
}

/// A copy by a shader.
struct ShaderCopy {
    geometry: Geometry,
    pipeline: wgpu::ComputePipeline,
    /// One bind group per pair of buffers.
    bind_groups: Vec<wgpu::BindGroup>,
    grid: (u32, u32),
    rate: f64,
}

/// The geometry of a shader copy: workgroup size, values per element, elements per invocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Geometry {
    size: u32,
    width: u32,
    trips: u32,
}

impl Geometry {
    /// Returns all geometries that the device can run: workgroups of one subgroup, small workgroups and large ones.
    fn all(gpu: &Gpu) -> Vec<Self> {
        let limits = &gpu.profile().limits;
        let largest = limits.max_compute_invocations_per_workgroup.min(limits.max_compute_workgroup_size_x);
        let subgroup = gpu.profile().subgroup_max_size.next_power_of_two().clamp(4, 128);
        let mut sizes = vec![subgroup, 64, 256];
        sizes.retain(|size| *size <= largest);
        sizes.sort_unstable();
        sizes.dedup();
        let trips = |size, width| [1, 4, 64].map(|trips| Self { size, width, trips });
        sizes.iter().flat_map(|&size| [1, 4].map(|width| trips(size, width))).flatten().collect()
    }

    /// Returns the number of `f32` values that a workgroup copies.
    fn values(self) -> u64 {
        u64::from(self.size) * u64::from(self.width) * u64::from(self.trips)
    }

    /// Returns the shader. Needs no bounds check, since a buffer is a multiple of what a workgroup copies.
    fn wgsl(self) -> String {
        let Self { size, width, trips } = self;
        let element = if width == 1 { "f32" } else { "vec4<f32>" };
        let copy = match trips {
            1 => "y[k] = x[k];".to_owned(),
            _ => format!("for (var t = 0u; t < {trips}u; t++) {{ y[k] = x[k]; k += {size}u; }}"),
        };
        format!(
            "@group(0) @binding(0) var<storage, read> x: array<{element}>;
             @group(0) @binding(1) var<storage, read_write> y: array<{element}>;
             @compute @workgroup_size({size}) fn copy(
                 @builtin(workgroup_id) id: vec3<u32>,
                 @builtin(num_workgroups) grid: vec3<u32>,
                 @builtin(local_invocation_index) lane: u32,
             ) {{
                 var k = (id.y * grid.x + id.x) * {size}u * {trips}u + lane;
                 {copy}
             }}"
        )
    }
}

/// Returns the bytes of a copy to compare passes with: those of the largest tensor that is timed, as a power of two. A
/// copy is 4 to 64 MiB on a CPU adapter, and 64 to 256 MiB on others, since the beginning and the end take most of the
/// time of a small copy on a fast GPU. It may be less if the limit of a buffer requires it.
fn size(tensor: u64, is_cpu: bool, limit: u64) -> u64 {
    let (least, most) = if is_cpu { (1 << 22, 1 << 26) } else { (1 << 26, 1 << 28) };
    tensor.clamp(least, most).next_power_of_two().min(1 << limit.max(1).ilog2())
}

impl Copies {
    /// Prepares all copies, of the size that [`size`] chooses for tensors of up to `tensor` bytes.
    pub(crate) fn new(gpu: &Gpu, tensor: u64) -> Result<Self> {
        let profile = gpu.profile();
        let limits = &profile.limits;
        let limit = limits.max_storage_buffer_binding_size.min(limits.max_buffer_size);
        let bytes = size(tensor, profile.is_cpu(), limit);
        let mut copies = Self::of_size(gpu, bytes, ROTATED_BYTES.div_ceil(2 * bytes))?;
        let in_a_row: u64 = if profile.is_cpu() { 1 << 27 } else { 1 << 32 };
        copies.copies = (in_a_row / bytes) as usize;
        Ok(copies)
    }

    /// Prepares copies between pairs of buffers of this many bytes, a power of two.
    fn of_size(gpu: &Gpu, bytes: u64, pairs: u64) -> Result<Self> {
        // Avoids zeros, which some memory moves faster. Multiples of the golden ratio's fractional part are spread
        // evenly.
        let values =
            Array1::from_shape_fn(bytes as usize / 4, |k| (k as f64 * 0.618_033_988_749_895).fract() as f32);
        let pair = |_| {
            let y = Tensor::zeros(gpu, values.shape(), Layout::ChannelsFirst)?;
            Ok((Tensor::from_array(gpu, values.view())?, y))
        };
        let pairs = (0..pairs).map(pair).collect::<Result<Vec<_>>>()?;
        let geometries = Geometry::all(gpu).into_iter().filter(|geometry| geometry.values() <= bytes / 4);
        let shaders = geometries.map(|geometry| ShaderCopy::new(gpu, geometry, &pairs)).collect();
        Ok(Self { pairs, shaders, buffer_rate: 0.0, copies: 1 })
    }

    /// Times every copy and keeps the best.
    pub(crate) fn survey(&mut self, clock: &Clock<'_>) -> Result<()> {
        for shader in &mut self.shaders {
            // The better of two runs is enough to choose by. It is no median, so it does not count as a rate.
            let times =
                clock.time(Runs { warmup: 0, timed: 2 }, None, |run, pass| shader.record(run, pass))?;
            shader.rate = times.device.first().map_or(0.0, |least| 1.0 / least);
        }
        self.shaders.sort_by(|a, b| b.rate.total_cmp(&a.rate));
        self.shaders.truncate(KEPT);
        self.shaders.iter_mut().for_each(|shader| shader.rate = 0.0);
        self.sample(clock)
    }

    /// Times the kept copies once more.
    pub(crate) fn sample(&mut self, clock: &Clock<'_>) -> Result<()> {
        let runs = Runs { warmup: 1, timed: 5 };
        let Some((x, _)) = self.pairs.first() else { return Ok(()) };
        let rate = |milliseconds: f64| 2.0 * x.bytes() as f64 / milliseconds / 1e6;
        for shader in &mut self.shaders {
            let times = clock.time(runs, None, |run, pass| shader.record(run, pass))?;
            shader.rate = shader.rate.max(rate(median(&times.device)));
        }
        let mut times = Vec::new();
        for run in 0..runs.warmup + runs.timed {
            let started = Instant::now();
            clock.submit(|encoder| {
                for copy in 0..self.copies {
                    let (x, y) = &self.pairs[(run + copy) % self.pairs.len()];
                    encoder.copy_buffer_to_buffer(x.buffer(), 0, y.buffer(), 0, x.bytes());
                }
            })?;
            if run >= runs.warmup {
                times.push(started.elapsed().as_secs_f64() * 1e3 / self.copies as f64);
            }
        }
        times.sort_by(f64::total_cmp);
        self.buffer_rate = self.buffer_rate.max(rate(median(&times)));
        Ok(())
    }

    /// Returns the best rates so far.
    pub(crate) fn ceilings(&self) -> Ceilings {
        let best = self.shaders.iter().max_by(|a, b| a.rate.total_cmp(&b.rate));
        Ceilings {
            shader: best.map_or(f64::NAN, |best| best.rate),
            buffer: self.buffer_rate,
            geometry: best.map_or_else(String::new, |best| best.geometry.to_string()),
            bytes: self.pairs.first().map_or(0, |(x, _)| x.bytes()),
        }
    }

    /// Evicts everything else from the caches.
    pub(crate) fn evict(&self, encoder: &mut wgpu::CommandEncoder) {
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        if let Some(shader) = self.shaders.first() {
            (0..self.pairs.len()).for_each(|pair| shader.record(pair, &mut pass));
        }
    }
}

impl ShaderCopy {
    fn new(gpu: &Gpu, geometry: Geometry, pairs: &[(Tensor, Tensor)]) -> Self {
        let device = gpu.device();
        let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: Some("copy"),
            source: wgpu::ShaderSource::Wgsl(geometry.wgsl().into()),
        });
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some("copy"),
            layout: None,
            module: &module,
            entry_point: Some("copy"),
            compilation_options: wgpu::PipelineCompilationOptions::default(),
            cache: None,
        });
        let layout = pipeline.get_bind_group_layout(0);
        let bind_groups = pairs.iter().map(|(x, y)| {
            device.create_bind_group(&wgpu::BindGroupDescriptor {
                label: Some("copy"),
                layout: &layout,
                entries: &[
                    wgpu::BindGroupEntry { binding: 0, resource: x.buffer().as_entire_binding() },
                    wgpu::BindGroupEntry { binding: 1, resource: y.buffer().as_entire_binding() },
                ],
            })
        });
        let bind_groups = bind_groups.collect();
        let values = pairs.first().map_or(0, |(x, _)| x.bytes() / 4);
        // All are powers of two, so the rows are even.
        let workgroups = (values / geometry.values()) as u32;
        let most = gpu.profile().limits.max_compute_workgroups_per_dimension;
        let rows = workgroups.div_ceil(most).next_power_of_two();
        Self { geometry, pipeline, bind_groups, grid: (workgroups / rows, rows), rate: 0.0 }
    }

    /// Records a copy of the pair with this number, modulo the number of pairs.
    fn record(&self, pair: usize, pass: &mut wgpu::ComputePass<'_>) {
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(0, &self.bind_groups[pair % self.bind_groups.len()], &[]);
        pass.dispatch_workgroups(self.grid.0, self.grid.1, 1);
    }
}

impl std::fmt::Display for Geometry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let element = if self.width == 1 { "f32" } else { "vec4<f32>" };
        write!(f, "workgroups of {}, {} {element} each", self.size, self.trips)
    }
}

#[cfg(test)]
mod tests {
    use super::{Clock, Copies, Geometry, size};
    use wgpu_batchnorm::ndarray::Array1;
    use wgpu_batchnorm::{Gpu, Result};

    #[test]
    fn copies_are_as_large_as_the_tensors_within_bounds() {
        let (mib, most) = (1 << 20, u64::MAX);
        let sizes = [(80, 4), (5 * mib, 8), (32 * mib, 32), (33 * mib, 64), (1 << 40, 64)];
        for (tensor, copy) in sizes {
            assert_eq!(size(tensor, true, most), copy * mib, "{tensor}");
        }
        assert_eq!([80, 100 * mib, 1 << 40].map(|tensor| size(tensor, false, most) / mib), [64, 128, 256]);
        assert_eq!(size(1 << 40, false, 100 * mib), 64 * mib);
    }

    #[test]
    fn every_shader_copies_everything() -> Result<()> {
        let gpu = Gpu::new()?;
        let clock = Clock::new(&gpu);
        let copies = Copies::of_size(&gpu, 1 << 22, 2)?;
        assert_eq!(copies.shaders.len(), Geometry::all(&gpu).len());
        for (k, shader) in copies.shaders.iter().enumerate() {
            let pair = k % 2;
            let (x, y) = &copies.pairs[pair];
            // Uses different values for each.
            let values = Array1::from_shape_fn(1 << 20, |value| (value + k + 1) as f32);
            x.write_array(values.view())?;
            clock.submit(|encoder| {
                encoder.clear_buffer(y.buffer(), 0, None);
                let mut pass = encoder.begin_compute_pass(&Default::default());
                shader.record(pair, &mut pass);
            })?;
            assert_eq!(y.to_array()?, values.into_dyn(), "{}", shader.geometry);
        }
        Ok(())
    }

    #[test]
    fn samples_only_raise_the_ceilings() -> Result<()> {
        let gpu = Gpu::new()?;
        let clock = Clock::new(&gpu);
        let mut copies = Copies::of_size(&gpu, 1 << 20, 2)?;
        copies.survey(&clock)?;
        let first = copies.ceilings();
        assert!(first.shader > 0.0 && first.shader.is_finite(), "{first:?}");
        assert!(first.buffer > 0.0 && first.buffer.is_finite(), "{first:?}");
        assert!(first.geometry.starts_with("workgroups of ") && first.bytes == 1 << 20, "{first:?}");
        copies.sample(&clock)?;
        let second = copies.ceilings();
        assert!(second.shader >= first.shader && second.buffer >= first.buffer, "{first:?}, {second:?}");
        Ok(())
    }
}
