//! Times the crate's plans without checking results, and measures what the adapter can do at all. Prints JSON lines
//! to standard output.
//!
//! `probe time --shape N,C,H,W --layout channels-first … [--dtype f16]… [--pass NAME]… [--runs 20]`: times passes,
//! with options as `wgpu-batchnorm bench --list` prints them. Each pass runs on sets of buffers in turn, which
//! together are larger than the caches. `median_ms` and `min_ms` are of single runs, each between two timestamps.
//! `back_to_back_ms` is the time of all runs between two timestamps, divided by their number. CUDA events around
//! several calls measure the same.
//!
//! `probe kernels`, with the same options: prints what the driver reports on each kernel (registers, spills),
//! through Vulkan itself.
//!
//! `probe compile`, with shapes as above: compiles the kernels planned for these shapes with Mesa's driver for AMD
//! GPUs, and checks what it makes of them.
//!
//! `probe write LANGUAGE FOLDER pairs|all`, with shapes as above: writes the kernels planned for these shapes and
//! for the cases of `verify`, as the compilers of DX12 and Metal get them.
//!
//! `probe limits`: measures dispatches that wait for each other, streams by loop shape, caches, and rounding to
//! f16.

#![expect(unsafe_code, reason = "calls Vulkan itself, and measures shaders without wgpu's checks")]

mod compile;
mod device;
mod isa;
mod job;
mod kernels;
mod limits;
mod time;
mod write;

use wgpu_batchnorm::{Gpu, wgpu};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some("time") => time::run(&Gpu::new()?, &args[1..]),
        Some("kernels") => kernels::run(Gpu::adapters(None).first().ok_or("no adapter")?, &args[1..]),
        Some("compile") => compile::run(Gpu::adapters(None).first().ok_or("no adapter")?, &args[1..]),
        Some("limits") => limits::run(&Gpu::new()?),
        Some("write") => write::run(&args[1..]),
        _ => Err("first argument: time, kernels, compile, limits or write".into()),
    }
}

/// Measures compute passes by timestamps, all in one submission.
struct Clock<'a> {
    gpu: &'a Gpu,
    set: wgpu::QuerySet,
    resolved: wgpu::Buffer,
    mapped: wgpu::Buffer,
}

impl<'a> Clock<'a> {
    const MOST: u32 = 512;

    fn new(gpu: &'a Gpu) -> Result<Self> {
        if !gpu.profile().features.contains(wgpu::Features::TIMESTAMP_QUERY) {
            return Err("this adapter has no timestamps".into());
        }
        let (ty, count) = (wgpu::QueryType::Timestamp, 2 * Self::MOST);
        let set = gpu.device().create_query_set(&wgpu::QuerySetDescriptor { label: None, ty, count });
        let buffer = |usage| {
            let size = 16 * u64::from(Self::MOST);
            gpu.device().create_buffer(&wgpu::BufferDescriptor {
                label: None,
                size,
                usage,
                mapped_at_creation: false,
            })
        };
        use wgpu::BufferUsages as Usage;
        let (resolved, mapped) =
            (buffer(Usage::QUERY_RESOLVE | Usage::COPY_SRC), buffer(Usage::COPY_DST | Usage::MAP_READ));
        Ok(Self { gpu, set, resolved, mapped })
    }

    /// Returns the milliseconds of each of `passes` compute passes, which run one after the other.
    fn time(
        &self,
        passes: usize,
        mut record: impl FnMut(usize, &mut wgpu::ComputePass<'_>),
    ) -> Result<Vec<f64>> {
        let count = passes.min(Self::MOST as usize) as u32;
        let mut encoder = self.gpu.device().create_command_encoder(&Default::default());
        for k in 0..count {
            let timestamp_writes = Some(wgpu::ComputePassTimestampWrites {
                query_set: &self.set,
                beginning_of_pass_write_index: Some(2 * k),
                end_of_pass_write_index: Some(2 * k + 1),
            });
            let descriptor = wgpu::ComputePassDescriptor { label: None, timestamp_writes };
            record(k as usize, &mut encoder.begin_compute_pass(&descriptor));
        }
        encoder.resolve_query_set(&self.set, 0..2 * count, &self.resolved, 0);
        encoder.copy_buffer_to_buffer(&self.resolved, 0, &self.mapped, 0, 16 * u64::from(count));
        self.gpu.queue().submit([encoder.finish()]);
        let ticks = read_u32(self.gpu, &self.mapped)?;
        let tick = |k: usize| u64::from(ticks[2 * k]) | u64::from(ticks[2 * k + 1]) << 32;
        let period = f64::from(self.gpu.queue().get_timestamp_period()) / 1e6;
        Ok((0..count as usize).map(|k| tick(2 * k + 1).wrapping_sub(tick(2 * k)) as f64 * period).collect())
    }
}

/// Returns the words of a mappable buffer.
fn read_u32(gpu: &Gpu, buffer: &wgpu::Buffer) -> Result<Vec<u32>> {
    buffer.slice(..).map_async(wgpu::MapMode::Read, |_| {});
    gpu.device().poll(wgpu::PollType::wait_indefinitely())?;
    let bytes = buffer.slice(..).get_mapped_range()?.to_vec();
    buffer.unmap();
    Ok(bytes.chunks_exact(4).map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]])).collect())
}

fn median(times: &[f64]) -> f64 {
    let mut times = times.to_vec();
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Returns a storage buffer of this size. It repeats 1 MiB of numbers from 0.5 to 1.5, which are numbers as f16,
/// too.
fn filled(gpu: &Gpu, bytes: u64) -> wgpu::Buffer {
    const PATTERN: u64 = 1 << 20;
    use wgpu::BufferUsages as Usage;
    let usage = Usage::STORAGE | Usage::COPY_DST | Usage::COPY_SRC;
    let size = bytes.next_multiple_of(4).max(4);
    let create = |size| {
        gpu.device().create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size,
            usage,
            mapped_at_creation: false,
        })
    };
    let number = |k: u64| ((k as f64 * 0.618_033_988_749_895).fract() + 0.5) as f32;
    // Clear the lower half's highest and lowest f16 exponent bit, so that no half word is an infinite or NaN f16.
    let words = (0..PATTERN / 4).map(|k| number(k).to_bits() & 0xffff_bbff);
    let (buffer, pattern) = (create(size), create(PATTERN));
    gpu.queue().write_buffer(&pattern, 0, &words.flat_map(u32::to_le_bytes).collect::<Vec<u8>>());
    let mut encoder = gpu.device().create_command_encoder(&Default::default());
    for begin in (0..size).step_by(PATTERN as usize) {
        encoder.copy_buffer_to_buffer(&pattern, 0, &buffer, begin, PATTERN.min(size - begin));
    }
    gpu.queue().submit([encoder.finish()]);
    buffer
}
