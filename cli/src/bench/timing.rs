//! The device's own clock.

use std::time::Instant;
use wgpu_batchnorm::{Gpu, Layout, Result, Tensor, wgpu};

/// Times of several runs of one piece of work, in milliseconds, sorted.
pub(crate) struct Times {
    /// By the device's clock; by wall clock, where the device has none.
    pub(crate) device: Vec<f64>,
    /// From submission to the end, as the host sees it.
    pub(crate) wall: Vec<f64>,
}

impl Times {
    pub(crate) fn median(times: &[f64]) -> f64 {
        times.get(times.len() / 2).copied().unwrap_or(f64::NAN)
    }
}

/// Two timestamps around a compute pass.
pub(crate) struct Clock<'a> {
    gpu: &'a Gpu,
    queries: Option<(wgpu::QuerySet, wgpu::Buffer)>,
}

impl<'a> Clock<'a> {
    pub(crate) fn new(gpu: &'a Gpu) -> Self {
        let device = gpu.device();
        let queries = gpu.profile().features.contains(wgpu::Features::TIMESTAMP_QUERY).then(|| {
            let set = device.create_query_set(&wgpu::QuerySetDescriptor {
                label: Some("bench"),
                ty: wgpu::QueryType::Timestamp,
                count: 2,
            });
            let buffer = device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("bench"),
                size: 16,
                usage: wgpu::BufferUsages::QUERY_RESOLVE
                    | wgpu::BufferUsages::COPY_SRC
                    | wgpu::BufferUsages::STORAGE,
                mapped_at_creation: false,
            });
            (set, buffer)
        });
        Self { gpu, queries }
    }

    /// Runs a compute pass `runs` times, after some that do not count, each time with the next of its
    /// variants.
    pub(crate) fn time(
        &self,
        runs: usize,
        mut record: impl FnMut(usize, &mut wgpu::ComputePass<'_>),
    ) -> Result<Times> {
        let mut times = Times { device: Vec::new(), wall: Vec::new() };
        let warmup = 3;
        for run in 0..runs + warmup {
            let started = Instant::now();
            let mut encoder =
                self.gpu.device().create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            let timestamp_writes = self.queries.as_ref().map(|(set, _)| wgpu::ComputePassTimestampWrites {
                query_set: set,
                beginning_of_pass_write_index: Some(0),
                end_of_pass_write_index: Some(1),
            });
            let descriptor = wgpu::ComputePassDescriptor { label: Some("bench"), timestamp_writes };
            record(run, &mut encoder.begin_compute_pass(&descriptor));
            self.gpu.queue().submit([encoder.finish()]);
            // What it waits for has come when the wait fails, too: the readback below tells.
            let _ = self.gpu.device().poll(wgpu::PollType::wait_indefinitely());
            let wall = started.elapsed().as_secs_f64() * 1e3;
            if run >= warmup {
                times.wall.push(wall);
                times.device.push(self.read()?.unwrap_or(wall));
            }
        }
        times.device.sort_by(f64::total_cmp);
        times.wall.sort_by(f64::total_cmp);
        Ok(times)
    }

    /// Milliseconds between the two timestamps of the last pass.
    fn read(&self) -> Result<Option<f64>> {
        let Some((set, buffer)) = &self.queries else { return Ok(None) };
        let mut encoder =
            self.gpu.device().create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        encoder.resolve_query_set(set, 0..2, buffer, 0);
        self.gpu.queue().submit([encoder.finish()]);
        let words = Tensor::from_buffer(self.gpu, buffer, 0, &[4], Layout::ChannelsFirst)?.to_array()?;
        let word = |k: usize| u64::from(words[[k]].to_bits());
        let (begin, end) = (word(0) | word(1) << 32, word(2) | word(3) << 32);
        let period = f64::from(self.gpu.queue().get_timestamp_period());
        Ok(Some(end.wrapping_sub(begin) as f64 * period / 1e6))
    }
}
