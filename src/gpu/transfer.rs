//! Transfers between host and GPU.

use super::Gpu;
use crate::dtype::Element;
use crate::error::{Error, Result};
use futures_intrusive::channel::shared::{OneshotReceiver, oneshot_channel};

/// Copies contents into a mapped buffer from its beginning, each from a whole word on. Then unmaps the buffer.
pub(crate) fn fill_mapped(buffer: &wgpu::Buffer, contents: &[&[u8]]) -> Result<()> {
    let whole_words = |part: &&[u8]| part.len().next_multiple_of(4);
    let total: usize = contents.iter().map(whole_words).sum();
    if total > 0 {
        let range = buffer.slice(..total as u64).get_mapped_range_mut();
        let mut range = range.map_err(|error| Error::Readback { reason: error.to_string() })?;
        let mut begin = 0;
        for part in contents {
            range.slice(begin..begin + part.len()).copy_from_slice(part);
            begin += whole_words(part);
        }
    }
    buffer.unmap();
    Ok(())
}

/// A part of a buffer to read back: buffer, offset and size in bytes.
pub(crate) type Region<'a> = (&'a wgpu::Buffer, u64, u64);

/// Returns the whole words that a part of a buffer touches: the first byte, and the number of bytes. Copies take
/// whole words only.
fn words(offset: u64, size: u64) -> (u64, u64) {
    let begin = offset - offset % 4;
    (begin, (offset + size).next_multiple_of(4) - begin)
}

/// Writes bytes anywhere in a buffer. Only whole words can be written: if the first or the last word holds other
/// bytes too, both words are read first.
pub(crate) fn write(gpu: &Gpu, buffer: &wgpu::Buffer, offset: u64, contents: &[u8]) -> Result<()> {
    let length = contents.len() as u64;
    let (begin, size) = words(offset, length);
    if length == 0 || (begin, size) == (offset, length) {
        gpu.queue().write_buffer(buffer, offset - offset % 4, contents);
        return Ok(());
    }
    let (needed, usage) = (wgpu::BufferUsages::COPY_SRC, buffer.usage());
    if !usage.contains(needed) {
        return Err(Error::BufferUsage { name: "tensor", needed, usage });
    }
    let edges = [(buffer, begin, 4), (buffer, begin + size - 4, 4)];
    let (mut bytes, _) = Readback::start(gpu, &edges)?.wait(|parts| {
        let mut bytes = vec![0; size as usize];
        for (k, part) in [0, bytes.len() - 4].into_iter().zip(parts) {
            bytes[k..k + 4].copy_from_slice(part);
        }
        bytes
    })?;
    bytes[(offset - begin) as usize..][..contents.len()].copy_from_slice(contents);
    gpu.queue().write_buffer(buffer, begin, &bytes);
    Ok(())
}

/// Staging buffers between two transfers: no command uses them, and the upload buffer is mapped. A transfer takes the
/// buffers out, and [`Readback::wait`] returns them. A transfer that does not finish never returns its buffers.
#[derive(Debug, Default)]
pub(crate) struct Staging {
    upload: Option<wgpu::Buffer>,
    readback: Option<wgpu::Buffer>,
}

impl Staging {
    /// Returns the upload buffer, unmapped, with these contents, each from a whole word on.
    pub(crate) fn take_upload(&mut self, gpu: &Gpu, contents: &[&[u8]]) -> Result<wgpu::Buffer> {
        let usage = wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::MAP_WRITE;
        let bytes = contents.iter().map(|part| (part.len() as u64).next_multiple_of(4)).sum();
        let buffer = take(&mut self.upload, gpu, "upload", bytes, usage)?;
        fill_mapped(&buffer, contents)?;
        Ok(buffer)
    }

    /// Returns the buffer to read these regions back through.
    pub(crate) fn take_readback(&mut self, gpu: &Gpu, regions: &[Region<'_>]) -> Result<wgpu::Buffer> {
        let usage = wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::MAP_READ;
        let bytes = regions.iter().map(|&(_, offset, size)| words(offset, size).1).sum();
        take(&mut self.readback, gpu, "readback", bytes, usage)
    }
}

/// Returns the kept buffer if it is large enough. Otherwise allocates one, mapped if the host writes to it.
fn take(
    kept: &mut Option<wgpu::Buffer>,
    gpu: &Gpu,
    name: &'static str,
    bytes: u64,
    usage: wgpu::BufferUsages,
) -> Result<wgpu::Buffer> {
    if let Some(buffer) = kept.take().filter(|buffer| buffer.size() >= bytes) {
        return Ok(buffer);
    }
    gpu.allocated(name, bytes, || {
        gpu.device().create_buffer(&wgpu::BufferDescriptor {
            label: Some(name),
            size: bytes.max(4),
            usage,
            mapped_at_creation: usage.contains(wgpu::BufferUsages::MAP_WRITE),
        })
    })
}

/// A buffer that is being mapped.
struct Mapping {
    buffer: wgpu::Buffer,
    mapped: OneshotReceiver<Result<(), String>>,
}

impl Mapping {
    /// Starts to map the first `bytes` bytes of the buffer.
    fn start(buffer: wgpu::Buffer, mode: wgpu::MapMode, bytes: u64) -> Self {
        let (sender, mapped) = oneshot_channel();
        buffer.map_async(mode, ..bytes, move |result| {
            // The receiver may be dropped. Then nobody needs the result.
            let _ = sender.send(result.map_err(|error| error.to_string()));
        });
        Self { buffer, mapped }
    }

    async fn finish(self) -> Result<wgpu::Buffer> {
        let mapped = self.mapped.receive().await.unwrap_or_else(|| Err("the device was lost".to_owned()));
        mapped.map(|()| self.buffer).map_err(|reason| Error::Readback { reason })
    }
}

/// A readback of regions in flight. All of them go through one submission and one staging buffer.
pub(crate) struct Readback {
    gpu: Gpu,
    /// Start and size of each region in the mapped bytes.
    places: Vec<(u64, u64)>,
    /// Number of mapped bytes.
    total: u64,
    submission: wgpu::SubmissionIndex,
    readback: Mapping,
    upload: Option<Mapping>,
}

impl Readback {
    /// Copies the regions in a separate submission, through a new buffer.
    pub(crate) fn start(gpu: &Gpu, regions: &[Region<'_>]) -> Result<Self> {
        let readback = Staging::default().take_readback(gpu, regions)?;
        Ok(Self::submit(gpu, gpu.encoder(), regions, readback, None))
    }

    /// Submits the recorded commands, with the copies of the regions at the end. `upload` is a buffer that the
    /// commands read.
    pub(crate) fn submit(
        gpu: &Gpu,
        mut encoder: wgpu::CommandEncoder,
        regions: &[Region<'_>],
        readback: wgpu::Buffer,
        upload: Option<wgpu::Buffer>,
    ) -> Self {
        let (mut end, mut places) = (0, Vec::new());
        for &(buffer, offset, size) in regions {
            let (begin, copied) = words(offset, size);
            if size > 0 {
                encoder.copy_buffer_to_buffer(buffer, begin, &readback, end, copied);
            }
            places.push((end + offset - begin, size));
            end += if size > 0 { copied } else { 0 };
        }
        let submission = gpu.queue().submit([encoder.finish()]);
        let total = end.max(4);
        Self {
            gpu: gpu.clone(),
            places,
            total,
            submission,
            readback: Mapping::start(readback, wgpu::MapMode::Read, total),
            // Maps the buffer for the next transfer. The GPU finishes with it before it finishes the copies.
            upload: upload.map(|buffer| {
                let bytes = buffer.size();
                Mapping::start(buffer, wgpu::MapMode::Write, bytes)
            }),
        }
    }

    /// Waits for the GPU in this thread, and passes the bytes of each region to `take`. Returns the result of `take`,
    /// and the staging buffers for reuse.
    pub(crate) fn wait<R>(self, take: impl FnOnce(&[&[u8]]) -> R) -> Result<(R, Staging)> {
        poll(self.gpu.device(), self.submission.clone()).map_err(|reason| Error::Readback { reason })?;
        pollster::block_on(self.finish(take))
    }

    /// Waits without blocking the caller: a separate thread waits for the GPU.
    pub(crate) async fn wait_async<R>(self, take: impl FnOnce(&[&[u8]]) -> R) -> Result<(R, Staging)> {
        let (device, submission) = (self.gpu.device().clone(), self.submission.clone());
        std::thread::Builder::new()
            .name("wgpu-batchnorm readback".to_owned())
            // The callback of the mapping reports a failure to the receiver.
            .spawn(move || poll(&device, submission))
            .map_err(|error| Error::Readback { reason: error.to_string() })?;
        self.finish(take).await
    }

    async fn finish<R>(self, take: impl FnOnce(&[&[u8]]) -> R) -> Result<(R, Staging)> {
        let readback = self.readback.finish().await?;
        let mapped = readback.get_mapped_range(..self.total);
        let mapped = mapped.map_err(|error| Error::Readback { reason: error.to_string() })?;
        let part = |&(begin, size): &(u64, u64)| &mapped[begin as usize..(begin + size) as usize];
        let parts: Vec<&[u8]> = self.places.iter().map(part).collect();
        let taken = take(&parts);
        drop(parts);
        drop(mapped);
        readback.unmap();
        let upload = match self.upload {
            Some(mapping) => mapping.finish().await.ok(),
            None => None,
        };
        Ok((taken, Staging { upload, readback: Some(readback) }))
    }
}

/// Returns the values of a region.
pub(crate) fn values<T: Element>(bytes: &[u8]) -> Vec<T> {
    bytemuck::pod_collect_to_vec(bytes)
}

fn poll(device: &wgpu::Device, submission: wgpu::SubmissionIndex) -> Result<(), String> {
    let wait = wgpu::PollType::Wait { submission_index: Some(submission), timeout: None };
    device.poll(wait).map(|_| ()).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::Gpu;
    use super::{Readback, Region, Staging};
    use crate::error::Result;
    use crate::layout::Layout;
    use crate::tensor::Tensor;

    /// Sends values to the GPU and back, and returns the staging buffers that they went through.
    fn round_trip(gpu: &Gpu, staging: &mut Staging, values: &[f32]) -> Result<[wgpu::Buffer; 2]> {
        let tensor = Tensor::zeros(gpu, &[values.len()], Layout::ChannelsFirst)?;
        let regions: [Region<'_>; 2] = [(tensor.region().0, 0, 0), tensor.region()];
        let upload = staging.take_upload(gpu, &[bytemuck::cast_slice(values)])?;
        let readback = staging.take_readback(gpu, &regions)?;
        let buffers = [upload.clone(), readback.clone()];
        let mut encoder = gpu.encoder();
        encoder.copy_buffer_to_buffer(&upload, 0, tensor.region().0, 0, tensor.bytes());
        let readback = Readback::submit(gpu, encoder, &regions, readback, Some(upload));
        let take = |parts: &[&[u8]]| parts.iter().map(|part| super::values::<f32>(part)).collect::<Vec<_>>();
        let (parts, returned) = readback.wait(take)?;
        assert_eq!(parts, [&[], values]);
        *staging = returned;
        Ok(buffers)
    }

    #[test]
    fn buffers_are_used_again_up_to_their_size() -> Result<()> {
        let gpu = Gpu::new()?;
        let values: Vec<f32> = (0..1000u16).map(f32::from).collect();
        let mut staging = Staging::default();
        let first = round_trip(&gpu, &mut staging, &values[..500])?;
        for range in [0..500, 3..400, 7..8, 0..500] {
            assert_eq!(round_trip(&gpu, &mut staging, &values[range])?, first);
        }
        let larger = round_trip(&gpu, &mut staging, &values)?;
        assert!(larger.iter().zip(&first).all(|(larger, first)| larger != first));
        assert_eq!(round_trip(&gpu, &mut staging, &values[..500])?, larger);

        // A buffer in flight is not handed out, nor one that was never returned.
        let upload = staging.take_upload(&gpu, &[&[0; 4]])?;
        let readback = staging.take_readback(&gpu, &[])?;
        assert_eq!([&upload, &readback], [&larger[0], &larger[1]]);
        let other = round_trip(&gpu, &mut staging, &values)?;
        assert!(other.iter().zip(&larger).all(|(other, larger)| other != larger));
        drop(Readback::submit(&gpu, gpu.encoder(), &[], readback, Some(upload)));
        assert_eq!(round_trip(&gpu, &mut staging, &values)?, other);
        Ok(())
    }
}
