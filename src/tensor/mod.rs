//! Tensors on the GPU.

pub(crate) mod memory;
mod region;

pub use region::BufferRegion;

use crate::dtype::{DType, Element};
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::gpu::transfer::{self, Readback, Region};
use crate::layout::Layout;
use crate::tensor::memory::Memory;
use half::{bf16, f16};
use ndarray::{Array, ArrayD, ArrayView, CowArray, Dimension, IxDyn};
use std::fmt;
use std::sync::Arc;

/// A tensor on the GPU: a buffer, a byte offset, an element type, a shape and a layout. Clones share the buffer.
#[derive(Clone)]
pub struct Tensor {
    gpu: Gpu,
    memory: Arc<Memory>,
    offset: u64,
    dtype: DType,
    shape: Vec<usize>,
    layout: Layout,
}

impl Tensor {
    /// Returns the beginning of `memory` as a tensor.
    pub(crate) fn over(
        gpu: &Gpu,
        memory: Arc<Memory>,
        dtype: DType,
        shape: &[usize],
        layout: Layout,
    ) -> Self {
        Self { gpu: gpu.clone(), memory, offset: 0, dtype, shape: shape.to_vec(), layout }
    }

    /// Uploads an array of `f32`, `f16` or `bf16` as a channels-first tensor; [`with_layout`](Self::with_layout)
    /// changes the layout. An array that is not in row-major order is first copied into it. During the upload, wgpu
    /// holds another buffer of the same size, until the next submission is done.
    ///
    /// # Errors
    /// [`Error::BufferTooLarge`] or [`Error::OutOfMemory`] if the device cannot allocate a buffer of this size;
    /// [`Error::DeviceLost`].
    pub fn from_array<T: Element, D: Dimension>(gpu: &Gpu, array: ArrayView<'_, T, D>) -> Result<Self> {
        let contiguous: CowArray<'_, T, D> = array.as_standard_layout();
        let values = contiguous.as_slice().unwrap_or_else(|| unreachable!("standard layout is contiguous"));
        let buffer = gpu.filled_buffer("tensor", bytemuck::cast_slice(values))?;
        Ok(Self::over(gpu, Arc::new(Memory::new(buffer)), T::DTYPE, array.shape(), Layout::ChannelsFirst))
    }

    /// Returns an f32 tensor of zeros.
    ///
    /// # Errors
    /// As [`zeros_of`](Self::zeros_of).
    pub fn zeros(gpu: &Gpu, shape: &[usize], layout: Layout) -> Result<Self> {
        Self::zeros_of(gpu, DType::F32, shape, layout)
    }

    /// Returns a tensor of zeros of any element type.
    ///
    /// # Errors
    /// [`Error::TooManyElements`] if 64 bits do not hold the number of bytes. As [`from_array`](Self::from_array).
    pub fn zeros_of(gpu: &Gpu, dtype: DType, shape: &[usize], layout: Layout) -> Result<Self> {
        // wgpu initialises buffers with zeros.
        let bytes = Self::checked_bytes(dtype, shape, gpu.profile().limits.max_buffer_size)?;
        let buffer = gpu.storage_buffer("tensor", bytes)?;
        Ok(Self::over(gpu, Arc::new(Memory::new(buffer)), dtype, shape, layout))
    }

    /// Wraps part of the caller's buffer as an f32 tensor, row-major, from `offset` bytes on.
    ///
    /// # Errors
    /// As [`from_buffer_of`](Self::from_buffer_of).
    pub fn from_buffer(
        gpu: &Gpu,
        buffer: &wgpu::Buffer,
        offset: u64,
        shape: &[usize],
        layout: Layout,
    ) -> Result<Self> {
        Self::from_buffer_of(gpu, DType::F32, buffer, offset, shape, layout)
    }

    /// Wraps part of the caller's buffer as a tensor of any element type, row-major, from `offset` bytes on.
    ///
    /// A tensor of 16-bit elements may begin and end in the middle of a word of four bytes. The other bytes of that
    /// word do not change. The buffer must contain the whole word.
    ///
    /// # Errors
    /// [`Error::BufferTooSmall`], [`Error::Misaligned`] unless `offset` is a whole number of elements,
    /// [`Error::BufferUsage`] without STORAGE, and [`Error::TooManyElements`] if 64 bits do not hold the number of bytes.
    pub fn from_buffer_of(
        gpu: &Gpu,
        dtype: DType,
        buffer: &wgpu::Buffer,
        offset: u64,
        shape: &[usize],
        layout: Layout,
    ) -> Result<Self> {
        let name = "tensor";
        let available = buffer.size().saturating_sub(offset);
        let bytes = Self::checked_bytes(dtype, shape, available)?;
        // The tensor's last word is whole. An offset near the end of 64 bits is far behind any buffer's end.
        let end = offset.checked_add(bytes).and_then(|end| end.checked_next_multiple_of(4));
        let needed = end.map_or(bytes, |end| end - offset);
        if available < needed {
            return Err(Error::BufferTooSmall { name, needed, available, offset });
        }
        if !offset.is_multiple_of(dtype.bytes()) {
            return Err(Error::Misaligned { name, offset, alignment: dtype.bytes() });
        }
        if !buffer.usage().contains(wgpu::BufferUsages::STORAGE) {
            let (needed, usage) = (wgpu::BufferUsages::STORAGE, buffer.usage());
            return Err(Error::BufferUsage { name, needed, usage });
        }
        Ok(Self { offset, ..Self::over(gpu, Arc::new(Memory::new(buffer.clone())), dtype, shape, layout) })
    }

    /// Replaces the values in the existing buffer, as an optimiser does with a weight. Passes submitted before still
    /// see the old values.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] unless the array has the tensor's shape; [`Error::ElementType`] unless it has the
    /// tensor's element type; [`Error::BufferUsage`] if the caller's buffer lacks COPY_DST, or if it lacks COPY_SRC
    /// and the tensor begins or ends in the middle of a word; [`Error::OutOfMemory`]; [`Error::DeviceLost`].
    pub fn write_array<T: Element, D: Dimension>(&self, array: ArrayView<'_, T, D>) -> Result<()> {
        self.check_type::<T>("array")?;
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
        transfer::write(&self.gpu, self.memory.buffer(), self.offset, bytemuck::cast_slice(values))
    }

    /// Returns the same values in another layout. The shape does not change, only the axis that counts as the channel
    /// axis.
    #[must_use]
    pub fn with_layout(mut self, layout: Layout) -> Self {
        self.layout = layout;
        self
    }

    /// Returns the sizes of the dimensions, outermost first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Returns the element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Returns the layout: where the channel axis is.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Returns the buffer. Writes to the buffer change the tensor, whose elements lie from [`offset`](Self::offset) on, in
    /// the order of the shape. f16 and bf16 take two bytes each. A buffer that this crate allocated has the usages
    /// `STORAGE`, `COPY_SRC` and `COPY_DST`.
    pub fn buffer(&self) -> &wgpu::Buffer {
        self.mark_shared();
        self.memory.buffer()
    }

    /// Returns the offset of the tensor in the buffer, in bytes.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Returns the size in bytes.
    pub fn bytes(&self) -> u64 {
        Self::bytes_of(self.dtype, &self.shape)
    }

    /// Returns the GPU that holds the tensor.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// Reads the tensor back and waits for it. f32 holds the values of every element type exactly.
    ///
    /// # Errors
    /// [`Error::BufferUsage`] if the caller's buffer lacks COPY_SRC, [`Error::DeviceLost`], [`Error::Readback`].
    pub fn to_array(&self) -> Result<ArrayD<f32>> {
        let (values, _) = self.read()?.wait(|parts| self.values(parts))?;
        self.array_of(values)
    }

    /// Reads the tensor back without blocking.
    ///
    /// # Errors
    /// As [`to_array`](Self::to_array).
    pub async fn to_array_async(&self) -> Result<ArrayD<f32>> {
        let (values, _) = self.read()?.wait_async(|parts| self.values(parts)).await?;
        self.array_of(values)
    }

    /// Reads the tensor back in its own element type, and waits for it.
    ///
    /// # Errors
    /// [`Error::ElementType`] if the element type is not `T`. As [`to_array`](Self::to_array).
    pub fn to_array_of<T: Element>(&self) -> Result<ArrayD<T>> {
        self.check_type::<T>("array")?;
        let (values, _) = self.read()?.wait(|parts| transfer::values::<T>(parts[0]))?;
        self.array_of(values)
    }

    /// Reads the tensor's memory back, little-endian, and waits for it.
    #[cfg(all(feature = "internals", feature = "verify"))]
    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>> {
        Ok(self.read()?.wait(|parts| parts[0].to_vec())?.0)
    }

    /// Runs [`to_array_of`](Self::to_array_of) without blocking.
    ///
    /// # Errors
    /// As [`to_array_of`](Self::to_array_of).
    pub async fn to_array_of_async<T: Element>(&self) -> Result<ArrayD<T>> {
        self.check_type::<T>("array")?;
        let (values, _) = self.read()?.wait_async(|parts| transfer::values::<T>(parts[0])).await?;
        self.array_of(values)
    }

    /// Returns the values of the first region, as f32.
    fn values(&self, parts: &[&[u8]]) -> Vec<f32> {
        fn widened<T: Element>(bytes: &[u8]) -> Vec<f32> {
            transfer::values::<T>(bytes).into_iter().map(Into::into).collect()
        }
        match self.dtype {
            DType::F32 => transfer::values(parts[0]),
            DType::F16 => widened::<f16>(parts[0]),
            DType::BF16 => widened::<bf16>(parts[0]),
        }
    }

    fn read(&self) -> Result<Readback> {
        let (needed, usage) = (wgpu::BufferUsages::COPY_SRC, self.memory.buffer().usage());
        if !usage.contains(needed) {
            return Err(Error::BufferUsage { name: "tensor", needed, usage });
        }
        Readback::start(&self.gpu, &[self.region()])
    }

    /// Returns the part of the buffer that the tensor occupies.
    pub(crate) fn region(&self) -> Region<'_> {
        (self.memory.buffer(), self.offset, self.bytes())
    }

    fn array_of<T>(&self, values: Vec<T>) -> Result<ArrayD<T>> {
        Array::from_shape_vec(IxDyn(&self.shape), values)
            .map_err(|error| Error::Readback { reason: error.to_string() })
    }

    /// Returns the region that a plan binds.
    pub(crate) fn binding(&self) -> BufferRegion<'_> {
        BufferRegion { buffer: self.memory.buffer(), offset: self.offset }
    }

    pub(crate) fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }

    /// Marks the tensor's memory as shared: the caller may submit commands that use it.
    pub(crate) fn mark_shared(&self) {
        self.memory.mark_shared();
    }

    /// Returns whether both begin at the same offset of the same buffer.
    pub(crate) fn is_same_memory(&self, other: &Self) -> bool {
        self.memory.buffer() == other.memory.buffer() && self.offset == other.offset
    }

    pub(crate) fn check_like(&self, other: &Self, name: &'static str) -> Result<()> {
        if self.dtype != other.dtype {
            return Err(Error::ElementType { name, expected: other.dtype, found: self.dtype });
        }
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

    /// Returns the bytes of a tensor of this type and shape, which exists.
    pub(crate) fn bytes_of(dtype: DType, shape: &[usize]) -> u64 {
        elements(shape).unwrap_or(u64::MAX).saturating_mul(dtype.bytes())
    }

    /// Returns the bytes of a tensor of this type and shape, or an error if 64 bits do not hold their number.
    fn checked_bytes(dtype: DType, shape: &[usize], available: u64) -> Result<u64> {
        elements(shape).and_then(|elements| elements.checked_mul(dtype.bytes())).ok_or_else(|| {
            let limit = usize::try_from(available / dtype.bytes()).unwrap_or(usize::MAX);
            Error::TooManyElements { shape: shape.to_vec(), limit }
        })
    }

    pub(crate) fn check_type<T: Element>(&self, name: &'static str) -> Result<()> {
        if self.dtype == T::DTYPE {
            return Ok(());
        }
        Err(Error::ElementType { name, expected: self.dtype, found: T::DTYPE })
    }

    pub(crate) fn check_device(&self, gpu: &Gpu, name: &'static str) -> Result<()> {
        if self.gpu.is_same(gpu) { Ok(()) } else { Err(Error::ForeignDevice { name }) }
    }
}

/// Returns the number of elements, unless 64 bits do not hold it. An empty tensor has none, however large its other
/// dimensions are.
fn elements(shape: &[usize]) -> Option<u64> {
    if shape.contains(&0) {
        return Some(0);
    }
    shape.iter().try_fold(1u64, |product, &size| product.checked_mul(size as u64))
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tensor({}, {:?}, {}, offset {})", self.dtype, self.shape, self.layout, self.offset)
    }
}
