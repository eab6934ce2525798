//! What wgpu reports: errors of calls, and the loss of the device.

use super::Gpu;
use crate::error::{Error, Result};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};

/// Every kind of error that wgpu reports to a scope. It panics over one that no scope takes.
pub(super) const KINDS: [wgpu::ErrorFilter; 3] =
    [wgpu::ErrorFilter::Validation, wgpu::ErrorFilter::OutOfMemory, wgpu::ErrorFilter::Internal];

/// What is known of the loss of a device.
#[derive(Clone, Default)]
pub(super) struct Loss {
    reason: Arc<OnceLock<String>>,
    /// Whether wgpu tells by a callback.
    watched: bool,
}

impl Loss {
    /// Takes the device's callback. A device has one.
    pub(super) fn watch(device: &wgpu::Device) -> Self {
        let reason = Arc::<OnceLock<String>>::default();
        let told = reason.clone();
        device.set_device_lost_callback(move |_, message| {
            // The first reason counts.
            let _ = told.set(message);
        });
        Self { reason, watched: true }
    }

    /// Returns the reason if the device is lost.
    fn find(&self, device: &wgpu::Device) -> Option<&str> {
        if self.reason.get().is_none() && !self.watched && !answers(device) {
            let _ = self.reason.set("found by a call that it no longer answers".to_owned());
        }
        self.reason.get().map(String::as_str)
    }

    /// Returns an error if the device is lost.
    fn check(&self, device: &wgpu::Device) -> Result<()> {
        match self.find(device) {
            None => Ok(()),
            Some(reason) => Err(Error::DeviceLost { reason: reason.to_owned() }),
        }
    }
}

/// Returns whether a device checks a call. A lost one no longer does.
fn answers(device: &wgpu::Device) -> bool {
    let scope = device.push_error_scope(wgpu::ErrorFilter::Validation);
    // wgpu refuses it without asking the driver.
    let _ = device.create_buffer(&wgpu::BufferDescriptor {
        label: None,
        size: u64::MAX,
        usage: wgpu::BufferUsages::STORAGE,
        mapped_at_creation: false,
    });
    pollster::block_on(scope.pop()).is_some()
}

impl Gpu {
    /// Returns whether the device is lost, as after a crash of the driver, after [`wgpu::Device::destroy`], or where memory
    /// ran out in a call that wgpu cannot undo. Every call then returns [`Error::DeviceLost`], at once.
    ///
    /// Nothing on a lost device can be read any more. Training goes on from the last state that was read back, on a
    /// device opened anew:
    ///
    /// ```no_run
    /// use wgpu_batchnorm::{BatchNorm, BatchNormConfig, Error, Gpu, Result, Tensor, ndarray::Array4};
    ///
    /// let mut gpu = Gpu::new()?;
    /// let mut layer = BatchNorm::new(&gpu, BatchNormConfig::new(16))?;
    /// let mut kept = layer.state()?;
    /// for _ in 0..1000 {
    ///     let x = Array4::<f32>::zeros((32, 16, 28, 28));
    ///     let mut step = || -> Result<()> {
    ///         let y = layer.forward(&Tensor::from_array(&gpu, x.view())?)?;
    ///         kept = layer.state()?;
    ///         Ok(())
    ///     };
    ///     match step() {
    ///         Err(Error::DeviceLost { .. }) => {
    ///             gpu = Gpu::new()?;
    ///             layer = BatchNorm::with_state(&gpu, layer.config().clone(), &kept)?;
    ///         }
    ///         other => other?,
    ///     }
    /// }
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// A device that [`Gpu::new`] opened tells by wgpu's callback. One that the caller opened has the caller's callback, so
    /// it is asked at every call.
    pub fn is_lost(&self) -> bool {
        self.inner.loss.find(self.device()).is_some()
    }

    /// Returns an error if the device is lost.
    pub(crate) fn check_alive(&self) -> Result<()> {
        self.inner.loss.check(self.device())
    }

    /// Runs `work`, which calls wgpu. Returns what wgpu reports, if anything.
    pub(crate) fn scoped<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        self.check_alive()?;
        let [first, second, third] = KINDS.map(|kind| self.device().push_error_scope(kind));
        let result = work();
        let reported = [third, second, first].map(|scope| pollster::block_on(scope.pop()));
        self.check_alive()?;
        match reported.into_iter().flatten().next() {
            None => result,
            Some(error) => Err(Error::Gpu(error)),
        }
    }

    /// Runs `work`, which allocates. Returns an error if the device is out of memory.
    pub(crate) fn allocated<T>(&self, name: &'static str, bytes: u64, work: impl FnOnce() -> T) -> Result<T> {
        self.scoped(|| Ok(work())).map_err(|error| match error {
            Error::Gpu(wgpu::Error::OutOfMemory { .. }) => Error::OutOfMemory { name, bytes },
            other => other,
        })
    }

    /// Waits for a submission in this thread, or for all.
    pub(crate) fn wait(&self, submission: Option<wgpu::SubmissionIndex>) -> Result<()> {
        self.waiter().wait(submission)
    }

    /// Waits for a submission in another thread. There is one for each `Gpu`.
    pub(crate) async fn wait_async(&self, submission: wgpu::SubmissionIndex) -> Result<()> {
        let waiter = self.waiter();
        self.inner.waiting.run(move || waiter.wait(Some(submission))).await
    }

    /// Returns what another thread needs to wait.
    fn waiter(&self) -> Waiter {
        Waiter { device: self.device().clone(), loss: self.inner.loss.clone() }
    }
}

/// Waits for the device. It is no handle of the [`Gpu`]: where it is dropped last, no file of kernels is written.
struct Waiter {
    device: wgpu::Device,
    loss: Loss,
}

impl Waiter {
    /// Waits for a submission in this thread, or for all.
    pub(crate) fn wait(&self, submission: Option<wgpu::SubmissionIndex>) -> Result<()> {
        self.loss.check(&self.device)?;
        let wait = wgpu::PollType::Wait { submission_index: submission, timeout: None };
        // wgpu 30 panics where the wait itself finds the device lost. It has then let go of all locks.
        let polled = catch_unwind(AssertUnwindSafe(|| self.device.poll(wait)));
        self.loss.check(&self.device)?;
        let reason = match polled {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "wgpu panicked while it waited".to_owned(),
        };
        Err(Error::Readback { reason })
    }
}

#[cfg(test)]
mod tests {
    use crate::config::BatchNormConfig;
    use crate::error::{Error, Result};
    use crate::gpu::{Gpu, GpuOptions};

    /// A destroyed device is as lost as one whose driver crashed, whoever opened it.
    #[test]
    fn lost_devices_are_found() -> Result<()> {
        let opened = Gpu::new()?;
        let wrapped = Gpu::from_wgpu(opened.device(), opened.queue());
        let unchecked =
            Gpu::from_wgpu_with_options(opened.device(), opened.queue(), &GpuOptions::new().unchecked());
        for gpu in [&opened, &wrapped, &unchecked] {
            assert!(!gpu.is_lost());
            gpu.wait(None)?;
        }
        opened.device().destroy();
        // wgpu calls back when it is polled next.
        let _ = opened.device().poll(wgpu::PollType::Poll);
        for gpu in [&opened, &wrapped, &unchecked] {
            assert!(gpu.is_lost());
            let work = || -> Result<()> { panic!("the device is lost already") };
            assert!(matches!(gpu.scoped(work), Err(Error::DeviceLost { .. })));
            assert!(matches!(gpu.wait(None), Err(Error::DeviceLost { .. })));
            let layer = crate::layer::BatchNorm::new(gpu, BatchNormConfig::new(3));
            assert!(matches!(layer, Err(Error::DeviceLost { .. })), "{layer:?}");
        }
        Ok(())
    }
}
