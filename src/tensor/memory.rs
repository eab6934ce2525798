//! The memory of tensors, and when it may be reused.

use crate::dtype::DType;
use crate::error::Result;
use crate::gpu::Gpu;
use crate::layout::Layout;
use crate::tensor::Tensor;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};

/// A buffer that tensors share.
#[derive(Debug)]
pub(crate) struct Memory {
    buffer: wgpu::Buffer,
    shared: AtomicBool,
}

impl Memory {
    pub(crate) fn new(buffer: wgpu::Buffer) -> Self {
        Self { buffer, shared: AtomicBool::new(false) }
    }

    pub(crate) fn buffer(&self) -> &wgpu::Buffer {
        &self.buffer
    }

    /// Marks the buffer as shared: the caller may submit commands that use it, at any time and without a tensor.
    pub(crate) fn mark_shared(&self) {
        self.shared.store(true, Ordering::Relaxed);
    }
}

/// Memory that a layer reuses for one purpose, once nobody else references it.
#[derive(Debug, Default)]
pub(crate) struct ReusableBuffer(Option<Arc<Memory>>);

impl ReusableBuffer {
    /// Returns an uninitialised tensor. Reuses the last buffer if it is large enough, was never shared, and is
    /// referenced only by the tensors `released`. Otherwise allocates.
    pub(crate) fn tensor(
        &mut self,
        gpu: &Gpu,
        (dtype, shape, layout): (DType, &[usize], Layout),
        released: &[Option<&Tensor>],
    ) -> Result<Tensor> {
        let fits = |memory: &&Arc<Memory>| {
            let released =
                released.iter().flatten().filter(|tensor| Arc::ptr_eq(tensor.memory(), memory)).count();
            // The fence pairs with handle drops: the load below sees a mark that a handle set before its drop.
            let is_ours = Arc::strong_count(memory) == 1 + released;
            fence(Ordering::Acquire);
            is_ours
                && !memory.shared.load(Ordering::Relaxed)
                && memory.buffer.size() >= Tensor::bytes_of(dtype, shape)
        };
        if let Some(memory) = self.0.as_ref().filter(fits) {
            return Ok(Tensor::over(gpu, memory.clone(), dtype, shape, layout));
        }
        // Frees the old buffer before the new one is allocated.
        self.0 = None;
        let tensor = Tensor::zeros_of(gpu, dtype, shape, layout)?;
        self.0 = Some(tensor.memory().clone());
        Ok(tensor)
    }
}

#[cfg(test)]
mod tests {
    use super::ReusableBuffer;
    use crate::dtype::DType;
    use crate::error::Result;
    use crate::gpu::Gpu;
    use crate::layout::Layout;
    use crate::tensor::Tensor;
    use std::sync::Arc;

    #[test]
    fn memory_is_used_again_when_nobody_else_has_it() -> Result<()> {
        let gpu = Gpu::new()?;
        let mut reused = ReusableBuffer::default();
        let mut tensor = |shape: &[usize], released: &[Option<&Tensor>]| {
            reused.tensor(&gpu, (DType::F32, shape, Layout::ChannelsFirst), released)
        };
        let is_same = |one: &Tensor, other: &Tensor| Arc::ptr_eq(one.memory(), other.memory());

        // Memory that is still referenced is not reused.
        let first = tensor(&[2, 3], &[])?;
        let second = tensor(&[2, 3], &[])?;
        assert!(!is_same(&first, &second));
        // Memory that only the released tensors reference is reused.
        let third = tensor(&[3, 2], &[Some(&second), None])?;
        assert!(is_same(&second, &third) && third.shape() == [3, 2]);
        let fourth = tensor(&[2, 3], &[Some(&third)])?;
        assert!(!is_same(&third, &fourth), "the second tensor was forgotten");
        let fifth = tensor(&[2, 3], &[Some(&fourth), Some(&first)])?;
        assert!(is_same(&fourth, &fifth));
        drop(fourth);

        // Memory of dropped tensors is reused if it is large enough.
        let memory = fifth.memory().clone();
        drop(fifth);
        assert!(!Arc::ptr_eq(&memory, tensor(&[1], &[])?.memory()), "we still have it");
        let weak = Arc::downgrade(tensor(&[2, 3], &[])?.memory());
        let is_weak = |tensor: &Tensor| std::ptr::eq(Arc::as_ptr(tensor.memory()), weak.as_ptr());
        assert!(is_weak(&tensor(&[2, 3], &[])?) && is_weak(&tensor(&[5], &[])?));
        assert!(!is_weak(&tensor(&[7], &[])?) && weak.upgrade().is_none());

        // Shared memory is never reused, whichever way it was shared.
        for mark_shared in [Tensor::mark_shared, |tensor: &Tensor| drop(tensor.buffer().clone())] {
            let shared = tensor(&[7], &[])?;
            mark_shared(&shared);
            let next = tensor(&[7], &[Some(&shared)])?;
            assert!(!is_same(&shared, &next));
            drop(next);
            let next = tensor(&[7], &[])?.memory().clone();
            let after = tensor(&[7], &[])?;
            assert!(!Arc::ptr_eq(&next, after.memory()) && !is_same(&shared, &after));
        }
        Ok(())
    }
}
