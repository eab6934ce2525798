//! Threads that work for futures.

use crate::error::{Error, Result};
use futures_intrusive::channel::shared::oneshot_channel;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

type Job = Box<dyn FnOnce() + Send>;

/// A thread that does jobs one after the other. It begins with a job, and ends when there is none left, so that there is
/// never more than one.
#[derive(Clone)]
pub(crate) struct Worker {
    name: &'static str,
    queue: Arc<Mutex<Queue>>,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    /// Whether the thread runs. It looks for the next job before it ends.
    is_running: bool,
}

impl Worker {
    /// Creates a worker without a thread.
    pub(crate) fn new(name: &'static str) -> Self {
        Self { name, queue: Arc::default() }
    }

    /// Does a job in the thread. The job runs even if the future is dropped once it was polled.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (sender, result) = oneshot_channel();
        // The thread has nothing of the job any more when the future is ready. The future may be dropped.
        self.send(Box::new(move || drop(sender.send(job()))))?;
        let ended = || Err(Error::Readback { reason: format!("{}: the thread ended early", self.name) });
        result.receive().await.unwrap_or_else(ended)
    }

    fn send(&self, job: Job) -> Result<()> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.jobs.push_back(job);
        if queue.is_running {
            return Ok(());
        }
        let worker = self.clone();
        match std::thread::Builder::new().name(self.name.to_owned()).spawn(move || worker.work()) {
            Ok(_) => queue.is_running = true,
            Err(error) => {
                queue.jobs.pop_back();
                return Err(Error::Readback { reason: format!("no thread to wait in: {error}") });
            }
        }
        Ok(())
    }

    fn work(&self) {
        loop {
            let job = {
                let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
                let job = queue.jobs.pop_front();
                queue.is_running = job.is_some();
                job
            };
            let Some(job) = job else { return };
            // The future of a job that panics sees that nothing is sent.
            let _ = catch_unwind(AssertUnwindSafe(job));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Worker;
    use crate::error::{Error, Result};
    use std::sync::mpsc::channel;
    use std::task::{Context, Poll, Waker};

    #[test]
    fn jobs_run_in_order_in_one_thread_which_ends() -> Result<()> {
        let worker = Worker::new("wgpu-batchnorm test");
        let (go, gate) = channel::<()>();
        let mut first = Box::pin(worker.run(move || {
            let _ = gate.recv();
            Ok(std::thread::current().id())
        }));
        let mut second = Box::pin(worker.run(|| Ok(std::thread::current().id())));
        let mut context = Context::from_waker(Waker::noop());
        // Neither poll waits for the gate.
        assert!(first.as_mut().poll(&mut context).is_pending());
        assert!(second.as_mut().poll(&mut context).is_pending());
        assert!(second.as_mut().poll(&mut context).is_pending());
        drop(go);
        let threads = (pollster::block_on(first)?, pollster::block_on(second)?);
        assert_eq!(threads.0, threads.1);
        assert_ne!(threads.0, std::thread::current().id());

        // A job that panics is an error, and the next one runs.
        let panicking = worker.run(|| -> Result<()> { std::panic::resume_unwind(Box::new("a test")) });
        assert!(matches!(pollster::block_on(panicking), Err(Error::Readback { .. })));
        assert_eq!(pollster::block_on(worker.run(|| Ok(3)))?, 3);
        // A future that nobody polls asks for nothing.
        let unpolled = worker.run(|| -> Result<()> { unreachable!() });
        drop(unpolled);
        assert!(matches!(Box::pin(worker.run(|| Ok(5))).as_mut().poll(&mut context), Poll::Pending));
        while worker.queue.lock().is_ok_and(|queue| queue.is_running) {
            std::thread::yield_now();
        }
        Ok(())
    }
}
