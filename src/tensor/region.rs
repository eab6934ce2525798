//! A part of a buffer.

/// A buffer from an offset on.
#[derive(Clone, Copy, Debug)]
pub struct BufferRegion<'a> {
    /// The buffer.
    pub buffer: &'a wgpu::Buffer,
    /// Start of the region, in bytes. For x, y, residual, dy, dx and dresidual, any whole number of elements. For the
    /// other buffers, a multiple of the device's `min_storage_buffer_offset_alignment`.
    pub offset: u64,
}

impl<'a> From<&'a wgpu::Buffer> for BufferRegion<'a> {
    fn from(buffer: &'a wgpu::Buffer) -> Self {
        Self { buffer, offset: 0 }
    }
}

impl<'a> From<wgpu::BufferBinding<'a>> for BufferRegion<'a> {
    /// Takes the buffer and the offset. The size follows from the plan.
    fn from(binding: wgpu::BufferBinding<'a>) -> Self {
        Self { buffer: binding.buffer, offset: binding.offset }
    }
}

impl<'a> From<(&'a wgpu::Buffer, u64)> for BufferRegion<'a> {
    fn from((buffer, offset): (&'a wgpu::Buffer, u64)) -> Self {
        Self { buffer, offset }
    }
}
