//! Tensors on the GPU.

use crate::memory::Memory;
use crate::transfer::{Readback, Region};
use crate::{BufferRegion, Error, Gpu, Layout, Result};
use ndarray::{Array, ArrayD, ArrayView, CowArray, Dimension, IxDyn};
use std::fmt;
use std::sync::Arc;

/// An f32 tensor on the GPU: a buffer, a byte offset, a shape and a layout. Clones share the buffer.
#[derive(Clone)]
pub struct Tensor {
    gpu: Gpu,
    memory: Arc<Memory>,
    offset: u64,
    shape: Vec<usize>,
    layout: Layout,
}

impl Tensor {
    /// The beginning of some memory, seen as a tensor.
    pub(crate) fn over(gpu: &Gpu, memory: Arc<Memory>, shape: &[usize], layout: Layout) -> Self {
        Self { gpu: gpu.clone(), memory, offset: 0, shape: shape.to_vec(), layout }
    }

    /// Uploads an array as a channels-first tensor; [`with_layout`](Self::with_layout) changes that. An
    /// array that is not in row-major order is brought into it. On the way, wgpu holds one more buffer of the size
    /// until the next submission is done.
    ///
    /// # Errors
    /// [`Error::BindingTooLarge`] or [`Error::OutOfMemory`] when the device has no buffer of this size.
    pub fn from_array<D: Dimension>(gpu: &Gpu, array: ArrayView<'_, f32, D>) -> Result<Self> {
        let contiguous: CowArray<'_, f32, D> = array.as_standard_layout();
        let values = contiguous.as_slice().unwrap_or_else(|| unreachable!("standard layout is contiguous"));
        let buffer = gpu.filled_buffer("tensor", bytemuck::cast_slice(values))?;
        Ok(Self::over(gpu, Arc::new(Memory::new(buffer)), array.shape(), Layout::ChannelsFirst))
    }

    /// A tensor of zeros.
    ///
    /// # Errors
    /// As [`from_array`](Self::from_array).
    pub fn zeros(gpu: &Gpu, shape: &[usize], layout: Layout) -> Result<Self> {
        // wgpu hands out buffers as zeros.
        let buffer = gpu.storage_buffer("tensor", Self::bytes_of(shape))?;
        Ok(Self::over(gpu, Arc::new(Memory::new(buffer)), shape, layout))
    }

    /// Sees part of a buffer of the caller's as a tensor, row-major, from `offset` bytes on.
    ///
    /// # Errors
    /// [`Error::BufferTooSmall`], [`Error::Misaligned`] unless `offset` is a multiple of 4, and
    /// [`Error::BufferUsage`] without STORAGE.
    pub fn from_buffer(
        gpu: &Gpu,
        buffer: &wgpu::Buffer,
        offset: u64,
        shape: &[usize],
        layout: Layout,
    ) -> Result<Self> {
        let name = "tensor";
        let (needed, available) = (Self::bytes_of(shape), buffer.size().saturating_sub(offset));
        if available < needed {
            return Err(Error::BufferTooSmall { name, needed, available, offset });
        }
        if !offset.is_multiple_of(4) {
            return Err(Error::Misaligned { name, offset, alignment: 4 });
        }
        if !buffer.usage().contains(wgpu::BufferUsages::STORAGE) {
            let (needed, usage) = (wgpu::BufferUsages::STORAGE, buffer.usage());
            return Err(Error::BufferUsage { name, needed, usage });
        }
        Ok(Self { offset, ..Self::over(gpu, Arc::new(Memory::new(buffer.clone())), shape, layout) })
    }

    /// Replaces the values, in the buffer there is: what an optimiser does to a weight. Passes submitted
    /// before still see the old ones.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] unless the array has the tensor's shape; [`Error::BufferUsage`] when a
    /// caller's buffer lacks COPY_DST.
    pub fn write_array<D: Dimension>(&self, array: ArrayView<'_, f32, D>) -> Result<()> {
        if array.shape() != self.shape {
            return Err(Error::ShapeMismatch {
                name: "array",
                expected: self.shape.clone(),
                expected_layout: self.layout,
                shape: array.shape().to_vec(),
                layout: self.layout,
            });
        }
        let (needed, usage) = (wgpu::BufferUsages::COPY_DST, self.memory.buffer().usage());
        if !usage.contains(needed) {
            return Err(Error::BufferUsage { name: "tensor", needed, usage });
        }
        let contiguous = array.as_standard_layout();
        let values = contiguous.as_slice().unwrap_or_else(|| unreachable!("standard layout is contiguous"));
        self.gpu.validated(|| {
            self.gpu.queue().write_buffer(self.memory.buffer(), self.offset, bytemuck::cast_slice(values));
            Ok(())
        })
    }

    /// The same values seen in another layout: the shape stays as it is, and only the axis that is taken
    /// for the channels changes.
    #[must_use]
    pub fn with_layout(mut self, layout: Layout) -> Self {
        self.layout = layout;
        self
    }

    /// The sizes of the dimensions, outermost first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Where the channel axis is.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// The buffer. What is written to it shows in the tensor.
    pub fn buffer(&self) -> &wgpu::Buffer {
        self.lend();
        self.memory.buffer()
    }

    /// Where in the buffer the tensor begins, in bytes.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Size in bytes.
    pub fn bytes(&self) -> u64 {
        Self::bytes_of(&self.shape)
    }

    /// The GPU it lives on.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// Reads the tensor back and waits for it.
    ///
    /// # Errors
    /// [`Error::BufferUsage`] when the caller's buffer lacks COPY_SRC, [`Error::Readback`] when the device
    /// is lost.
    pub fn to_array(&self) -> Result<ArrayD<f32>> {
        let read = self.read()?.wait()?;
        self.array_of(read.parts)
    }

    /// Reads the tensor back without blocking.
    ///
    /// # Errors
    /// As [`to_array`](Self::to_array).
    pub async fn to_array_async(&self) -> Result<ArrayD<f32>> {
        let read = self.read()?.wait_async().await?;
        self.array_of(read.parts)
    }

    fn read(&self) -> Result<Readback> {
        let (needed, usage) = (wgpu::BufferUsages::COPY_SRC, self.memory.buffer().usage());
        if !usage.contains(needed) {
            return Err(Error::BufferUsage { name: "tensor", needed, usage });
        }
        self.gpu.validated(|| Readback::start(&self.gpu, &[self.region()]))
    }

    /// The part of the buffer that the tensor takes.
    pub(crate) fn region(&self) -> Region<'_> {
        (self.memory.buffer(), self.offset, self.bytes())
    }

    /// The array of the values that were read back first.
    fn array_of(&self, parts: Vec<Vec<f32>>) -> Result<ArrayD<f32>> {
        Array::from_shape_vec(IxDyn(&self.shape), parts.into_iter().next().unwrap_or_default())
            .map_err(|error| Error::Readback { reason: error.to_string() })
    }

    /// The tensor as a plan binds it.
    pub(crate) fn binding(&self) -> BufferRegion<'_> {
        BufferRegion { buffer: self.memory.buffer(), offset: self.offset }
    }

    pub(crate) fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }

    /// Notes that commands that we do not submit may use the tensor's memory.
    pub(crate) fn lend(&self) {
        self.memory.lend();
    }

    /// Whether both are the same part of the same buffer.
    pub(crate) fn is_same_memory(&self, other: &Self) -> bool {
        self.memory.buffer() == other.memory.buffer() && self.offset == other.offset
    }

    pub(crate) fn check_like(&self, other: &Self, name: &'static str) -> Result<()> {
        if (&self.shape, self.layout) == (&other.shape, other.layout) {
            return Ok(());
        }
        Err(Error::ShapeMismatch {
            name,
            expected: other.shape.clone(),
            expected_layout: other.layout,
            shape: self.shape.clone(),
            layout: self.layout,
        })
    }

    /// Bytes of a tensor of this shape.
    pub(crate) fn bytes_of(shape: &[usize]) -> u64 {
        shape.iter().map(|&size| size as u64).product::<u64>() * 4
    }

    pub(crate) fn check_device(&self, gpu: &Gpu, name: &'static str) -> Result<()> {
        if self.gpu.is_same(gpu) { Ok(()) } else { Err(Error::ForeignDevice { name }) }
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tensor({:?}, {}, offset {})", self.shape, self.layout, self.offset)
    }
}
