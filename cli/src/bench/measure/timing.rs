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

/// Times of a pass alone, and in a row.
pub(crate) struct PassTimes {
    /// Times of runs with two timestamps each.
    pub(crate) alone: Times,
    /// Milliseconds per run when all runs lie between two timestamps.
    pub(crate) back_to_back: f64,
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

    /// Times this many runs in one compute pass, one recorded after the other, and returns the milliseconds per run.
    /// Two timestamps around a single run also enclose the filling and draining of the device: 2 to 3 µs on a GPU.
    pub(crate) fn time_back_to_back(
        &self,
        runs: usize,
        mut record: impl FnMut(usize, &mut wgpu::ComputePass<'_>),
    ) -> Result<f64> {
        let once = Runs { warmup: 0, timed: 1 };
        let times = self.time(once, None, |_, pass| (0..runs).for_each(|run| record(run, pass)))?;
        Ok(median(&times.device) / runs as f64)
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
    use super::{Clock, median};
    use wgpu_batchnorm::{Gpu, Result};

    #[test]
    fn runs_back_to_back_are_each_recorded_once() -> Result<()> {
        let gpu = Gpu::new()?;
        let mut recorded = Vec::new();
        let per_run = Clock::new(&gpu).time_back_to_back(4, |run, _| recorded.push(run))?;
        assert_eq!(recorded, [0, 1, 2, 3]);
        assert!(per_run > 0.0 && per_run.is_finite(), "{per_run}");
        Ok(())
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!((median(&[1.0]), median(&[1.0, 2.0]), median(&[1.0, 2.0, 9.0])), (1.0, 2.0, 2.0));
        assert!(median(&[]).is_nan());
    }
}
