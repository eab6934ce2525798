//! Measures what an adapter can do at all: the figures that plans for it are chosen by.
//!
//! `benches/gpu/probe` measures the same, and also shaders without wgpu's checks, which takes unsafe code.

use super::timing::{Clock, Runs, median};
use serde_json::{Value, json};
use wgpu_batchnorm::ndarray::Array1;
use wgpu_batchnorm::{Gpu, Layout, Result, Tensor, wgpu};

const MIB: u64 = 1 << 20;
/// Bytes that a workgroup of 1024 copies with the widest loads. All buffers are multiples of it.
const LEAST: u64 = MIB;

/// Measures dispatches that wait for each other, copies and reads by the shape of their loops, and caches. Returns an
/// object for each figure.
pub(crate) fn limits(gpu: &Gpu, clock: &Clock<'_>) -> Result<Vec<Value>> {
    // A software driver only shows that all of this runs.
    let most = if gpu.profile().is_cpu() { 4 * MIB } else { 512 * MIB };
    let limits = &gpu.profile().limits;
    let allowed = limits.max_storage_buffer_binding_size.min(limits.max_buffer_size).max(LEAST);
    let large = most.min(1 << allowed.ilog2());
    let survey = Survey { gpu, clock };
    let mut figures = survey.dispatches()?;
    figures.extend(survey.streams(large)?);
    figures.extend(survey.caches(large)?);
    Ok(figures)
}

struct Survey<'a> {
    gpu: &'a Gpu,
    clock: &'a Clock<'a>,
}

/// A shader on its buffers.
struct Program {
    pipeline: wgpu::ComputePipeline,
    bind_group: wgpu::BindGroup,
}

impl Program {
    fn record(&self, pass: &mut wgpu::ComputePass<'_>, workgroups: u32) {
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(0, &self.bind_group, &[]);
        let rows = workgroups.div_ceil(65_535);
        pass.dispatch_workgroups(workgroups.div_ceil(rows), rows, 1);
    }
}

impl Survey<'_> {
    /// Returns a tensor of numbers from 0.5 to 1.5.
    fn filled(&self, bytes: u64) -> Result<Tensor> {
        // Clears the highest and the lowest bit of the exponent that the lower half has as an f16, so that none is
        // infinite or NaN.
        let number = |k: usize| ((k as f64 * 0.618_033_988_749_895).fract() + 0.5) as f32;
        let number = |k: usize| f32::from_bits(number(k).to_bits() & 0xffff_bbff);
        Tensor::from_array(self.gpu, Array1::from_shape_fn(bytes as usize / 4, number).view())
    }

    fn program(&self, wgsl: &str, tensors: &[&Tensor]) -> Program {
        let device = self.gpu.device();
        let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: Some("limits"),
            source: wgpu::ShaderSource::Wgsl(wgsl.into()),
        });
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some("limits"),
            layout: None,
            module: &module,
            entry_point: None,
            compilation_options: wgpu::PipelineCompilationOptions::default(),
            cache: None,
        });
        let entries: Vec<_> = (0..)
            .zip(tensors)
            .map(|(binding, tensor)| wgpu::BindGroupEntry {
                binding,
                resource: tensor.buffer().as_entire_binding(),
            })
            .collect();
        let layout = pipeline.get_bind_group_layout(0);
        let descriptor =
            wgpu::BindGroupDescriptor { label: Some("limits"), layout: &layout, entries: &entries };
        Program { bind_group: device.create_bind_group(&descriptor), pipeline }
    }

    /// Measures the microseconds from a dispatch to the next one, which must wait for it: with one workgroup, and with
    /// enough to fill a GPU.
    fn dispatches(&self) -> Result<Vec<Value>> {
        let y = Tensor::zeros(self.gpu, &[MIB as usize], Layout::ChannelsFirst)?;
        let wgsl = "@group(0) @binding(0) var<storage, read_write> y: array<f32>;
            @compute @workgroup_size(256) fn f(@builtin(global_invocation_id) id: vec3<u32>) { y[id.x] += 1.0; }";
        let program = self.program(wgsl, &[&y]);
        let runs = Runs { warmup: 1, timed: 9 };
        let of = |workgroups| {
            let chain = |count: usize| -> Result<f64> {
                let record = |_, pass: &mut wgpu::ComputePass<'_>| {
                    (0..count).for_each(|_| program.record(pass, workgroups));
                };
                Ok(median(&self.clock.time(runs, None, record)?.device) * 1e3)
            };
            let (one, many) = (chain(1)?, chain(65)?);
            let further = (many - one) / 64.0;
            Ok(json!({
                "limit": "dispatch", "workgroups": workgroups, "alone_us": one, "each_further_us": further,
            }))
        };
        [1, 132, 1024, 4096].into_iter().map(of).collect()
    }

    /// Measures GB/s of copies and of reads, by the element, the workgroup, and the loads before the first use.
    fn streams(&self, bytes: u64) -> Result<Vec<Value>> {
        let (x, y) = (self.filled(bytes)?, self.filled(bytes)?);
        let profile = self.gpu.profile();
        let has_f16 = profile.features.contains(wgpu::Features::SHADER_F16);
        let largest = profile.limits.max_compute_invocations_per_workgroup;
        let loops = [
            (128, 4),
            (256, 1),
            (256, 2),
            (256, 4),
            (256, 8),
            (256, 16),
            (512, 1),
            (512, 4),
            (1024, 1),
            (1024, 4),
        ];
        // A software driver takes long for a shader, and its loops are not a GPU's.
        let is_measured = |&(size, at_once): &(u32, u32)| {
            size <= largest && (!profile.is_cpu() || (size == 256 && [1, 4].contains(&at_once)))
        };
        let mut figures = Vec::new();
        for (element, width) in [("vec4<f32>", 16), ("vec4<f16>", 8), ("vec2<f32>", 8), ("f32", 4)] {
            if element.contains("f16") && !has_f16 {
                continue;
            }
            for writes in [true, false] {
                for (size, at_once) in loops.into_iter().filter(is_measured) {
                    let program = self.program(&stream(size, at_once, element, writes, "own"), &[&x, &y]);
                    let workgroups = (bytes / (u64::from(size) * 16 * width)) as u32;
                    let record = |_, pass: &mut wgpu::ComputePass<'_>| program.record(pass, workgroups);
                    let times = self.clock.time(Runs { warmup: 1, timed: 7 }, None, record)?;
                    let moved = bytes * if writes { 2 } else { 1 };
                    figures.push(json!({
                        "limit": if writes { "copy" } else { "read" }, "element": element, "workgroup": size,
                        "at_once": at_once, "checked": true,
                        "gb_per_s": moved as f64 / median(&times.device) / 1e6,
                    }));
                }
            }
        }
        Ok(figures)
    }

    /// Measures the microseconds of a read, and of reading or copying the same bytes again, in the same order and
    /// backwards. Reads other memory before each first read.
    fn caches(&self, large: u64) -> Result<Vec<Value>> {
        let (other, y) = (self.filled(large)?, self.filled(large)?);
        let workgroups = |bytes: u64| (bytes / (256 * 16 * 16)) as u32;
        let runs = Runs { warmup: 1, timed: 5 };
        let mut figures = Vec::new();
        let sizes = [4, 8, 12, 16, 20, 24, 32, 40, 48, 64, 96, 128, 256].map(|size| size * MIB);
        for bytes in sizes.into_iter().filter(|bytes| *bytes <= large) {
            let x = self.filled(bytes)?;
            let evict = self.program(&stream(256, 4, "vec4<f32>", false, "own"), &[&other, &y]);
            let read = self.program(&stream(256, 4, "vec4<f32>", false, "own"), &[&x, &y]);
            let before = |with_read: bool| {
                let (evict, read) = (&evict, &read);
                move |encoder: &mut wgpu::CommandEncoder| {
                    let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
                    evict.record(&mut pass, workgroups(large));
                    if with_read {
                        read.record(&mut pass, workgroups(bytes));
                    }
                }
            };
            let us = |program: &Program, with_read: bool| -> Result<f64> {
                let record = |_, pass: &mut wgpu::ComputePass<'_>| program.record(pass, workgroups(bytes));
                Ok(median(&self.clock.time(runs, Some(&before(with_read)), record)?.device) * 1e3)
            };
            let first = us(&read, false)?;
            for (order, name) in [("own", "same"), ("grid.x * grid.y - 1u - own", "backwards")] {
                for writes in [false, true] {
                    let again = self.program(&stream(256, 4, "vec4<f32>", writes, order), &[&x, &y]);
                    figures.push(json!({
                        "limit": "cache", "mib": bytes / MIB, "again": if writes { "copied" } else { "read" },
                        "order": name, "first_us": first, "again_us": us(&again, true)?,
                    }));
                }
            }
        }
        Ok(figures)
    }
}

/// Returns a shader in which each invocation copies (or only reads) 16 elements. It makes `at_once` loads before it
/// uses the first.
fn stream(size: u32, at_once: u32, element: &str, writes: bool, order: &str) -> String {
    let load = |k: u32| format!("let v{k} = x[at + {k}u * {size}u];");
    let place = |k: u32| match writes {
        true => format!("y[at + {k}u * {size}u] = v{k};"),
        false => format!("sum += v{k};"),
    };
    let loads: String = (0..at_once).map(load).collect();
    let uses: String = (0..at_once).map(place).collect();
    let enable = if element.contains("f16") { "enable f16;\n" } else { "" };
    // The numbers are such that no sum has this value, so that only the reads are timed.
    let end = if writes { "" } else { "if all(sum == Element(12345.0)) { y[lane] = sum; }" };
    format!(
        "{enable}alias Element = {element};
        @group(0) @binding(0) var<storage, read> x: array<Element>;
        @group(0) @binding(1) var<storage, read_write> y: array<Element>;
        @compute @workgroup_size({size}) fn f(
            @builtin(workgroup_id) id: vec3<u32>,
            @builtin(num_workgroups) grid: vec3<u32>,
            @builtin(local_invocation_index) lane: u32,
        ) {{
            let own = id.y * grid.x + id.x;
            let workgroup = {order};
            var at = workgroup * {size}u * 16u + lane;
            let end = at + {size}u * 16u;
            var sum = Element();
            for (; at < end; at += {at_once}u * {size}u) {{ {loads} {uses} }}
            {end}
        }}"
    )
}
