//! Moving bytes between host and GPU.

use crate::{Error, Gpu, Result};
use futures_intrusive::channel::shared::{OneshotReceiver, oneshot_channel};

/// Fills a buffer that was mapped at creation, from its beginning, and unmaps it.
pub(crate) fn fill_mapped(buffer: &wgpu::Buffer, bytes: &[u8]) -> Result<()> {
    if !bytes.is_empty() {
        let range = buffer.slice(..bytes.len() as u64).get_mapped_range_mut();
        range.map_err(|error| Error::Readback { reason: error.to_string() })?.copy_from_slice(bytes);
    }
    buffer.unmap();
    Ok(())
}

/// A part of a buffer to read back: buffer, offset and size in bytes, both multiples of 4.
pub(crate) type Region<'a> = (&'a wgpu::Buffer, u64, u64);

/// Regions on their way back: all of them travel in one submission and one staging buffer.
pub(crate) struct Readback {
    gpu: Gpu,
    staging: wgpu::Buffer,
    sizes: Vec<u64>,
    submission: wgpu::SubmissionIndex,
    mapped: OneshotReceiver<Result<(), String>>,
}

impl Readback {
    /// Submits the copies and asks for the mapping.
    pub(crate) fn start(gpu: &Gpu, regions: &[Region<'_>]) -> Result<Self> {
        let sizes: Vec<u64> = regions.iter().map(|(_, _, size)| *size).collect();
        let staging = staging_buffer(gpu, sizes.iter().sum())?;
        let mut encoder = gpu.device().create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        let mut end = 0;
        for &(buffer, offset, size) in regions {
            if size > 0 {
                encoder.copy_buffer_to_buffer(buffer, offset, &staging, end, size);
            }
            end += size;
        }
        let submission = gpu.queue().submit([encoder.finish()]);
        let (sender, mapped) = oneshot_channel();
        staging.map_async(wgpu::MapMode::Read, .., move |result| {
            // The receiver may be gone: then nobody wants to know.
            let _ = sender.send(result.map_err(|error| error.to_string()));
        });
        Ok(Self { gpu: gpu.clone(), staging, sizes, submission, mapped })
    }

    /// Waits for the GPU in this thread.
    pub(crate) fn wait(self) -> Result<Vec<Vec<u8>>> {
        poll(self.gpu.device(), self.submission.clone()).map_err(|reason| Error::Readback { reason })?;
        let mapped = pollster::block_on(self.mapped.receive());
        self.finish(mapped)
    }

    /// Waits without blocking the caller: a thread of its own waits for the GPU.
    pub(crate) async fn wait_async(self) -> Result<Vec<Vec<u8>>> {
        let (device, submission) = (self.gpu.device().clone(), self.submission.clone());
        std::thread::Builder::new()
            .name("wgpu-batchnorm readback".to_owned())
            // A failure reaches the receiver through the mapping's own callback.
            .spawn(move || poll(&device, submission))
            .map_err(|error| Error::Readback { reason: error.to_string() })?;
        let mapped = self.mapped.receive().await;
        self.finish(mapped)
    }

    fn finish(self, mapped: Option<Result<(), String>>) -> Result<Vec<Vec<u8>>> {
        let failed = |reason: String| Error::Readback { reason };
        mapped.ok_or_else(|| failed("the device was lost".to_owned()))?.map_err(failed)?;
        let range = self.staging.get_mapped_range(..).map_err(|error| failed(error.to_string()))?;
        let mut begin = 0;
        let parts = self.sizes.iter().map(|&size| {
            let part = range[begin..begin + size as usize].to_vec();
            begin += size as usize;
            part
        });
        Ok(parts.collect())
    }
}

fn poll(device: &wgpu::Device, submission: wgpu::SubmissionIndex) -> Result<(), String> {
    let wait = wgpu::PollType::Wait { submission_index: Some(submission), timeout: None };
    device.poll(wait).map(|_| ()).map_err(|error| error.to_string())
}

fn staging_buffer(gpu: &Gpu, bytes: u64) -> Result<wgpu::Buffer> {
    gpu.allocated("readback", bytes, || {
        gpu.device().create_buffer(&wgpu::BufferDescriptor {
            label: Some("readback"),
            size: bytes.max(4),
            usage: wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::MAP_READ,
            mapped_at_creation: false,
        })
    })
}

/// The values of a region that was read back.
pub(crate) fn values(bytes: &[u8]) -> Vec<f32> {
    bytemuck::pod_collect_to_vec(bytes)
}
