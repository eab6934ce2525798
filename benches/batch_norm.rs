//! Times every pass on a few shapes by the device's clock. Throughput counts the bytes that any such pass must
//! move. `wgpu-batchnorm bench` has many more shapes, and plain copies to compare with.

mod shared;

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput};
use shared::Memory;
use std::error::Error;
use std::time::{Duration, Instant};
use wgpu_batchnorm::internals::Pass;
use wgpu_batchnorm::verify::{Case, check};
use wgpu_batchnorm::{BatchNormConfig, DType, Gpu, Layout, Plan, Result, Tensor, wgpu};

/// Inner and outer stages of a ResNet-50, one of them channels last, a perceptron's layer, a single image.
const SHAPES: [(&[usize], Layout); 5] = [
    (&[8, 256, 28, 28], Layout::ChannelsFirst),
    (&[8, 28, 28, 256], Layout::ChannelsLast),
    (&[8, 2048, 7, 7], Layout::ChannelsFirst),
    (&[1024, 1024], Layout::ChannelsFirst),
    (&[1, 16, 7, 7], Layout::ChannelsFirst),
];

/// Bytes that runs move before they reuse a set of buffers: more than last-level caches hold.
const ROTATED_BYTES: u64 = 1 << 28;

/// Maximum number of buffer sets. Small shapes move less than [`ROTATED_BYTES`] with it and are timed in the cache.
const MAX_SETS: u64 = 32;

fn main() -> std::result::Result<(), Box<dyn Error>> {
    let gpu = Gpu::new()?;
    let clock = Clock::new(&gpu);
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .without_plots()
        .configure_from_args();
    for (shape, layout) in SHAPES {
        right(&gpu, shape, layout)?;
        let sizes = shape.iter().map(ToString::to_string).collect::<Vec<_>>().join("x");
        let mut group = criterion.benchmark_group(format!("{sizes} {layout}"));
        group.sampling_mode(SamplingMode::Flat);
        for pass in Pass::ALL {
            let plans = pass.plans(shape, layout, DType::F32, gpu.profile())?;
            let bytes: u64 = plans.iter().map(Plan::floor_bytes).sum();
            let sets = ROTATED_BYTES.div_ceil(bytes).min(MAX_SETS);
            let memories = (0..sets).map(|_| Memory::new(&gpu, &plans)).collect::<Result<Vec<_>>>()?;
            let bound =
                memories.iter().map(|memory| memory.bind(&gpu, &plans)).collect::<Result<Vec<_>>>()?;
            let mut next = 0;
            group.throughput(Throughput::Bytes(bytes));
            group.bench_function(BenchmarkId::from_parameter(pass.name()), |bencher| {
                bencher.iter_custom(|iterations| {
                    let time = clock.time(iterations, |pass| {
                        bound[next % bound.len()].iter().for_each(|plan| plan.record_in(pass));
                        next += 1;
                    });
                    // Criterion takes no errors. The device is lost, so no later benchmark can run either.
                    time.unwrap_or_else(|error| panic!("{error}"))
                });
            });
        }
        group.finish();
    }
    criterion.final_summary();
    Ok(())
}

/// Fails unless both modes agree with the CPU reference on this shape.
fn right(gpu: &Gpu, shape: &[usize], layout: Layout) -> std::result::Result<(), Box<dyn Error>> {
    for training in [true, false] {
        let case = Case {
            name: format!("{shape:?}, {layout}, training {training}"),
            shape: shape.to_vec(),
            config: BatchNormConfig::new(shape[layout.channel_axis(shape.len())]).layout(layout),
            training,
            steps: 1,
            mean: 0.0,
            std: 1.0,
            poison: None,
            dtype: DType::F32,
            residual: false,
            seed: 1,
        };
        let report = check(&case, gpu)?;
        if !report.passed() {
            return Err(report.to_string().into());
        }
    }
    Ok(())
}

/// Measures compute passes by timestamps, or by the wall clock if the device has none.
struct Clock<'a> {
    gpu: &'a Gpu,
    queries: Option<(wgpu::QuerySet, wgpu::Buffer)>,
}

impl<'a> Clock<'a> {
    /// Maximum number of passes in one submission.
    const PASSES: u32 = 64;

    fn new(gpu: &'a Gpu) -> Self {
        if !gpu.profile().features.contains(wgpu::Features::TIMESTAMP_QUERY) {
            eprintln!("note: {} has no timestamps: these are times of the host", gpu.profile());
            return Self { gpu, queries: None };
        }
        let set = gpu.device().create_query_set(&wgpu::QuerySetDescriptor {
            label: None,
            ty: wgpu::QueryType::Timestamp,
            count: 2 * Self::PASSES,
        });
        let usage =
            wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::STORAGE;
        let buffer = gpu.device().create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: u64::from(2 * Self::PASSES) * 8,
            usage,
            mapped_at_creation: false,
        });
        Self { gpu, queries: Some((set, buffer)) }
    }

    /// Returns the time of `passes` passes, one after the other.
    fn time(&self, passes: u64, mut record: impl FnMut(&mut wgpu::ComputePass<'_>)) -> Result<Duration> {
        let mut sum = Duration::ZERO;
        let mut left = passes;
        while left > 0 {
            let passes = left.min(Self::PASSES.into()) as u32;
            sum += self.submit(passes, &mut record)?;
            left -= u64::from(passes);
        }
        Ok(sum)
    }

    fn submit(&self, passes: u32, record: &mut impl FnMut(&mut wgpu::ComputePass<'_>)) -> Result<Duration> {
        let started = Instant::now();
        let mut encoder =
            self.gpu.device().create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        for pass in 0..passes {
            let timestamp_writes = self.queries.as_ref().map(|(set, _)| wgpu::ComputePassTimestampWrites {
                query_set: set,
                beginning_of_pass_write_index: Some(2 * pass),
                end_of_pass_write_index: Some(2 * pass + 1),
            });
            let descriptor = wgpu::ComputePassDescriptor { label: None, timestamp_writes };
            record(&mut encoder.begin_compute_pass(&descriptor));
        }
        if let Some((set, buffer)) = &self.queries {
            encoder.resolve_query_set(set, 0..2 * passes, buffer, 0);
        }
        self.gpu.queue().submit([encoder.finish()]);
        let Some((_, buffer)) = &self.queries else {
            let polled = self.gpu.device().poll(wgpu::PollType::wait_indefinitely());
            polled.map_err(|error| wgpu_batchnorm::Error::Readback { reason: error.to_string() })?;
            return Ok(started.elapsed());
        };
        // Two words for each timestamp, two timestamps for each pass.
        let shape = [passes as usize, 4];
        let words = Tensor::from_buffer(self.gpu, buffer, 0, &shape, Layout::ChannelsFirst)?.to_array()?;
        let period = f64::from(self.gpu.queue().get_timestamp_period());
        let ticks = words.rows().into_iter().map(|words| {
            let word = |k: usize| u64::from(words[k].to_bits());
            (word(2) | word(3) << 32).wrapping_sub(word(0) | word(1) << 32)
        });
        Ok(Duration::from_secs_f64(ticks.sum::<u64>() as f64 * period / 1e9))
    }
}
