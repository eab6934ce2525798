//! Times work by the device's own clock.

use std::time::Instant;
use wgpu_batchnorm::{Error, Gpu, Layout, Result, Tensor, wgpu};

/// Sorted times of several runs of the same work, in milliseconds.
pub(crate) struct Times {
    /// Times by the device's clock, or by the wall clock if the device has none.
    pub(crate) device: Vec<f64>,
    /// Time from the beginning of recording to the end of the work, on the host.
    pub(crate) wall: Vec<f64>,
}

/// Returns the median of sorted times: the upper of the two in the middle of an even number.
pub(crate) fn median(times: &[f64]) -> f64 {
    times.get(times.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Numbers of runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Runs {
    /// Runs before those that count.
    pub(crate) warmup: usize,
    pub(crate) timed: usize,
}

/// Times a compute pass by timestamps at its beginning and its end.
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

    /// Submits what `record` records, and waits until it is done.
    pub(crate) fn submit(&self, record: impl FnOnce(&mut wgpu::CommandEncoder)) -> Result<()> {
        let mut encoder =
            self.gpu.device().create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        record(&mut encoder);
        self.gpu.queue().submit([encoder.finish()]);
        let polled = self.gpu.device().poll(wgpu::PollType::wait_indefinitely());
        polled.map(|_| ()).map_err(|error| Error::Readback { reason: error.to_string() })
    }

    /// Times a compute pass. `record` gets the number of the run, so that runs can differ. `before` is submitted
    /// before each run and not timed.
    pub(crate) fn time(
        &self,
        runs: Runs,
        before: Option<&dyn Fn(&mut wgpu::CommandEncoder)>,
        mut record: impl FnMut(usize, &mut wgpu::ComputePass<'_>),
    ) -> Result<Times> {
        let mut times = Times { device: Vec::new(), wall: Vec::new() };
        for run in 0..runs.warmup + runs.timed {
            if let Some(before) = before {
                self.submit(before)?;
            }
            let started = Instant::now();
            self.submit(|encoder| {
                let timestamp_writes =
                    self.queries.as_ref().map(|(set, _)| wgpu::ComputePassTimestampWrites {
                        query_set: set,
                        beginning_of_pass_write_index: Some(0),
                        end_of_pass_write_index: Some(1),
                    });
                let descriptor = wgpu::ComputePassDescriptor { label: Some("bench"), timestamp_writes };
                record(run, &mut encoder.begin_compute_pass(&descriptor));
            })?;
            let wall = started.elapsed().as_secs_f64() * 1e3;
            if run >= runs.warmup {
                times.wall.push(wall);
                times.device.push(self.read()?.unwrap_or(wall));
            }
        }
        times.device.sort_by(f64::total_cmp);
        times.wall.sort_by(f64::total_cmp);
        Ok(times)
    }

    /// Returns the milliseconds between the two timestamps of the last pass.
    fn read(&self) -> Result<Option<f64>> {
        let Some((set, buffer)) = &self.queries else { return Ok(None) };
        self.submit(|encoder| encoder.resolve_query_set(set, 0..2, buffer, 0))?;
        let words = Tensor::from_buffer(self.gpu, buffer, 0, &[4], Layout::ChannelsFirst)?.to_array()?;
        let word = |k: usize| u64::from(words[[k]].to_bits());
        let (begin, end) = (word(0) | word(1) << 32, word(2) | word(3) << 32);
        // A duration below one tick counts as one tick: a time of 0 would make rates infinite.
        let ticks = end.wrapping_sub(begin).max(1);
        Ok(Some(ticks as f64 * f64::from(self.gpu.queue().get_timestamp_period()) / 1e6))
    }
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!((median(&[1.0]), median(&[1.0, 2.0]), median(&[1.0, 2.0, 9.0])), (1.0, 2.0, 2.0));
        assert!(median(&[]).is_nan());
    }
}
