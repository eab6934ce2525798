//! Planning and compiling ahead of the first call.

use crate::error::Result;
use crate::layer::{BatchNorm, Pass, PlanKey};
use crate::mode::Mode;
use crate::plan::{BackwardOptions, ForwardOptions};

impl BatchNorm {
    /// Plans passes over inputs of these shapes, in the configuration's layout, and compiles their kernels, so that the
    /// first call takes no longer than the next ones. The options give the element type, and whether a residual is added.
    ///
    /// In training mode, these are the forward pass and its backward pass for all gradients, on tensors and on arrays. In
    /// eval, it is the forward pass, as of [`infer`](Self::infer), on tensors and on arrays.
    ///
    /// ```
    /// # use wgpu_batchnorm::{BatchNorm, BatchNormConfig, ForwardOptions, Gpu};
    /// # let bn = BatchNorm::new(&Gpu::new()?, BatchNormConfig::new(3))?;
    /// bn.warm_up(&[&[8, 3, 32, 32], &[1, 3, 32, 32]], &ForwardOptions::new())?;
    /// # Ok::<(), wgpu_batchnorm::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`forward`](Self::forward), for the first shape that does not fit.
    pub fn warm_up(&self, shapes: &[&[usize]], options: &ForwardOptions) -> Result<()> {
        for key in self.keys(shapes, options)? {
            self.prepare(key)?;
        }
        Ok(())
    }

    /// Runs [`warm_up`](Self::warm_up) without blocking: another thread plans and compiles.
    ///
    /// # Errors
    /// As [`warm_up`](Self::warm_up).
    pub async fn warm_up_async(&self, shapes: &[&[usize]], options: &ForwardOptions) -> Result<()> {
        for key in self.keys(shapes, options)? {
            self.prepare_async(key).await?;
        }
        Ok(())
    }

    fn keys(&self, shapes: &[&[usize]], options: &ForwardOptions) -> Result<Vec<PlanKey>> {
        let (layout, mode) = (self.config().layout, self.mode);
        let mut keys = Vec::new();
        for shape in shapes {
            let forward = |options| self.forward_key(shape, layout, mode, options);
            let key = forward(options.in_place(false))?;
            keys.push(key);
            if mode == Mode::Eval {
                // Uploaded arrays, which y overwrites.
                keys.push(forward(options.in_place(true))?);
                continue;
            }
            let mask = self.all_gradients(options.residual);
            let backward = BackwardOptions::new().mask(mask).residual(options.residual).dtype(options.dtype);
            // Uploaded arrays have dx overwrite dy.
            let passes = [true, false].map(|in_place| Pass::Backward(backward.in_place(in_place)));
            keys.extend(passes.map(|pass| PlanKey { pass, ..key }));
        }
        Ok(keys)
    }
}

#[cfg(test)]
mod tests {
    use crate::config::BatchNormConfig;
    use crate::error::{Error, Result};
    use crate::gpu::Gpu;
    use crate::layer::BatchNorm;
    use crate::plan::ForwardOptions;
    use ndarray::Array2;
    use std::sync::mpsc::channel;
    use std::task::{Context, Poll, Waker};

    /// Polls once. Returns whether the future is still pending, and drops it.
    fn poll_once<T>(future: impl Future<Output = Result<T>>) -> bool {
        Box::pin(future).as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending()
    }

    #[test]
    fn polls_leave_plans_and_kernels_to_another_thread() -> Result<()> {
        let gpu = Gpu::new()?;
        let mut layer = BatchNorm::new(&gpu, BatchNormConfig::new(3))?;
        let x = Array2::from_shape_fn((5, 3), |(n, c)| (n * c) as f32);
        let keys = layer.keys(&[&[5, 3]], &ForwardOptions::new())?;
        // The other thread is busy until the gate opens.
        let (open, gate) = channel::<()>();
        let mut busy = Box::pin(gpu.in_background(move || {
            let _ = gate.recv();
            Ok(())
        }));
        assert!(matches!(busy.as_mut().poll(&mut Context::from_waker(Waker::noop())), Poll::Pending));
        assert!(poll_once(layer.forward_array_async(x.view())));
        assert!(poll_once(layer.infer_array_async(x.view())));
        assert!(poll_once(layer.warm_up_async(&[&[5, 3]], &ForwardOptions::new())));
        assert!(!keys.iter().any(|key| layer.plans().contains(key)), "a poll has planned");
        assert_eq!(layer.state()?.num_batches_tracked, Some(0));
        drop(open);

        // Warm, the first poll submits the pass.
        pollster::block_on(layer.warm_up_async(&[&[5, 3]], &ForwardOptions::new()))?;
        assert!(keys.iter().all(|key| layer.plans().contains(key)));
        assert!(poll_once(layer.forward_array_async(x.view())));
        assert_eq!(layer.state()?.num_batches_tracked, Some(1));
        let y = pollster::block_on(layer.forward_array_async(x.view()))?;
        assert_eq!(layer.forward_array(x.view())?, y);
        Ok(())
    }

    #[test]
    fn what_is_warm_is_what_calls_use() -> Result<()> {
        let gpu = Gpu::new()?;
        let mut layer = BatchNorm::new(&gpu, BatchNormConfig::new(3))?;
        let x = Array2::from_shape_fn((5, 3), |(n, c)| (n * c) as f32);
        layer.warm_up(&[&[5, 3]], &ForwardOptions::new())?;
        let warm = layer.plans().len();
        let y = layer.forward_array(x.view())?;
        layer.backward_array(y.view())?;
        layer.eval();
        layer.warm_up(&[&[5, 3]], &ForwardOptions::new())?;
        let with_eval = layer.plans().len();
        assert!(warm == 3 && with_eval == 5, "{warm}, {with_eval}");
        layer.forward_array(x.view())?;
        layer.infer_array(x.view())?;
        assert_eq!(layer.plans().len(), with_eval, "a call has planned");
        let error = layer.warm_up(&[&[5, 3], &[5, 4]], &ForwardOptions::new());
        assert!(matches!(error, Err(Error::Channels { num_features: 3, channels: 4, .. })));
        Ok(())
    }
}
