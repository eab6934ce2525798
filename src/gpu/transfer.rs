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
        return write_words(gpu, &[((buffer, offset, length), contents)]);
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
    write_words(gpu, &[((buffer, begin, size), &bytes)])
}

/// Writes to regions that begin on a whole word, in one submission: wgpu runs all of its copies, or none. A region that
/// ends within a word gets the whole word.
///
/// The copies go through a buffer of this function, not through `Queue::write_buffer`: where that runs out of memory, wgpu
/// gives up the device.
pub(crate) fn write_words(gpu: &Gpu, parts: &[(Region<'_>, &[u8])]) -> Result<()> {
    let contents: Vec<&[u8]> = parts.iter().map(|(_, contents)| *contents).collect();
    gpu.scoped(|| {
        let upload = Staging::default().take_upload(gpu, &contents)?;
        let mut encoder = gpu.encoder();
        for (index, (region, _)) in parts.iter().enumerate() {
            upload.copy(&mut encoder, index, *region);
        }
        gpu.queue().submit([encoder.finish()]);
        Ok(())
    })
}

/// Spreads contents of these sizes over as few buffers as the device's largest allow, in order. Returns the buffer of
/// each and its place there, and the sizes of the buffers.
fn spread(sizes: impl Iterator<Item = u64>, largest: u64) -> (Vec<(usize, u64)>, Vec<u64>) {
    let (mut places, mut totals) = (Vec::new(), vec![0]);
    for size in sizes {
        if let Some(last) = totals.last()
            && *last > 0
            && last + size > largest
        {
            totals.push(0);
        }
        let buffer = totals.len() - 1;
        places.push((buffer, totals[buffer]));
        totals[buffer] += size;
    }
    (places, totals)
}

/// Staging buffers between two transfers: no command uses them, and the upload buffers are mapped. A transfer takes the
/// buffers out, and [`Readback::wait`] returns them. A transfer that does not finish never returns its buffers.
#[derive(Debug, Default)]
pub(crate) struct Staging {
    upload: Vec<wgpu::Buffer>,
    readback: Vec<wgpu::Buffer>,
}

/// Contents on their way to the GPU, in unmapped buffers.
pub(crate) struct Upload {
    buffers: Vec<wgpu::Buffer>,
    /// The buffer of each of the contents, and the place there.
    places: Vec<(usize, u64)>,
}

impl Upload {
    /// Records the copy of one of the contents to a region that begins on a whole word.
    pub(crate) fn copy(&self, encoder: &mut wgpu::CommandEncoder, index: usize, region: Region<'_>) {
        let ((from, begin), (buffer, offset, size)) = (self.places[index], region);
        if size > 0 {
            let size = size.next_multiple_of(4);
            encoder.copy_buffer_to_buffer(&self.buffers[from], begin, buffer, offset, size);
        }
    }
}

impl Staging {
    /// Returns these contents in unmapped buffers, each from a whole word on.
    pub(crate) fn take_upload(&mut self, gpu: &Gpu, contents: &[&[u8]]) -> Result<Upload> {
        let usage = wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::MAP_WRITE;
        let largest = gpu.profile().limits.max_buffer_size;
        let sizes = contents.iter().map(|part| (part.len() as u64).next_multiple_of(4));
        let (places, totals) = spread(sizes, largest);
        let buffers = take(&mut self.upload, gpu, "upload", &totals, usage)?;
        for (index, buffer) in buffers.iter().enumerate() {
            let of_buffer = contents.iter().zip(&places).filter(|(_, place)| place.0 == index);
            let parts: Vec<&[u8]> = of_buffer.map(|(part, _)| *part).collect();
            fill_mapped(buffer, &parts)?;
        }
        Ok(Upload { buffers, places })
    }

    /// Returns the buffers to read these regions back through.
    pub(crate) fn take_readback(&mut self, gpu: &Gpu, regions: &[Region<'_>]) -> Result<Vec<wgpu::Buffer>> {
        let usage = wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::MAP_READ;
        take(&mut self.readback, gpu, "readback", &spread_regions(gpu, regions).1, usage)
    }
}

/// Spreads the words of regions over buffers.
fn spread_regions(gpu: &Gpu, regions: &[Region<'_>]) -> (Vec<(usize, u64)>, Vec<u64>) {
    let largest = gpu.profile().limits.max_buffer_size;
    let copied = |&(_, offset, size): &Region<'_>| if size > 0 { words(offset, size).1 } else { 0 };
    spread(regions.iter().map(copied), largest)
}

/// Returns the kept buffers that are large enough. Otherwise allocates them, mapped if the host writes to them.
fn take(
    kept: &mut Vec<wgpu::Buffer>,
    gpu: &Gpu,
    name: &'static str,
    sizes: &[u64],
    usage: wgpu::BufferUsages,
) -> Result<Vec<wgpu::Buffer>> {
    let mut kept = std::mem::take(kept).into_iter();
    let taken = sizes.iter().map(|&bytes| {
        if let Some(buffer) = kept.next().filter(|buffer| buffer.size() >= bytes) {
            return Ok(buffer);
        }
        gpu.check_size(name, bytes)?;
        gpu.allocated(name, bytes, || {
            gpu.device().create_buffer(&wgpu::BufferDescriptor {
                label: Some(name),
                size: bytes.max(4),
                usage,
                mapped_at_creation: usage.contains(wgpu::BufferUsages::MAP_WRITE),
            })
        })
    });
    taken.collect()
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
        let dropped = || Err("wgpu dropped the buffer's callback".to_owned());
        let mapped = self.mapped.receive().await.unwrap_or_else(dropped);
        mapped.map(|()| self.buffer).map_err(|reason| Error::Readback { reason })
    }
}

/// A readback of regions in flight. All of them go through one submission.
pub(crate) struct Readback {
    gpu: Gpu,
    /// Buffer, start and size of each region in the mapped bytes.
    places: Vec<(usize, u64, u64)>,
    /// Number of mapped bytes of each buffer.
    totals: Vec<u64>,
    submission: wgpu::SubmissionIndex,
    readback: Vec<Mapping>,
    upload: Vec<Mapping>,
}

impl Readback {
    /// Copies the regions in a separate submission, through new buffers.
    pub(crate) fn start(gpu: &Gpu, regions: &[Region<'_>]) -> Result<Self> {
        gpu.scoped(|| {
            let readback = Staging::default().take_readback(gpu, regions)?;
            Ok(Self::submit(gpu, gpu.encoder(), regions, readback, None))
        })
    }

    /// Submits the recorded commands, with the copies of the regions at the end. `upload` is what the commands read.
    pub(crate) fn submit(
        gpu: &Gpu,
        mut encoder: wgpu::CommandEncoder,
        regions: &[Region<'_>],
        readback: Vec<wgpu::Buffer>,
        upload: Option<Upload>,
    ) -> Self {
        let (begins, totals) = spread_regions(gpu, regions);
        let mut places = Vec::new();
        for (&(buffer, offset, size), (to, place)) in regions.iter().zip(begins) {
            let (begin, copied) = words(offset, size);
            if size > 0 {
                encoder.copy_buffer_to_buffer(buffer, begin, &readback[to], place, copied);
            }
            places.push((to, place + offset - begin, size));
        }
        let totals: Vec<u64> = totals.into_iter().map(|total| total.max(4)).collect();
        let submission = gpu.queue().submit([encoder.finish()]);
        let read = |(buffer, &total)| Mapping::start(buffer, wgpu::MapMode::Read, total);
        // Maps the buffers for the next transfer. The GPU finishes with them before it finishes the copies.
        let again = |buffer: wgpu::Buffer| {
            let bytes = buffer.size();
            Mapping::start(buffer, wgpu::MapMode::Write, bytes)
        };
        Self {
            gpu: gpu.clone(),
            places,
            submission,
            readback: readback.into_iter().zip(&totals).map(read).collect(),
            totals,
            upload: upload.into_iter().flat_map(|upload| upload.buffers).map(again).collect(),
        }
    }

    /// Waits for the GPU in this thread, and passes the bytes of each region to `take`. Returns the result of `take`,
    /// and the staging buffers for reuse.
    pub(crate) fn wait<R>(self, take: impl FnOnce(&[&[u8]]) -> R) -> Result<(R, Staging)> {
        self.gpu.wait(Some(self.submission.clone()))?;
        pollster::block_on(self.finish(take))
    }

    /// Waits without blocking the caller.
    pub(crate) async fn wait_async<R>(self, take: impl FnOnce(&[&[u8]]) -> R) -> Result<(R, Staging)> {
        // A wait that fails may leave callbacks uncalled, so it is awaited before them.
        self.gpu.wait_async(self.submission.clone()).await?;
        self.finish(take).await
    }

    async fn finish<R>(self, take: impl FnOnce(&[&[u8]]) -> R) -> Result<(R, Staging)> {
        let Self { gpu, places, totals, readback, upload, .. } = self;
        let mut buffers = Vec::new();
        for mapping in readback {
            let mapped = mapping.finish().await;
            // A lost device is the better reason.
            gpu.check_alive()?;
            buffers.push(mapped?);
        }
        let taken = gpu.scoped(|| {
            let views = buffers.iter().zip(totals).map(|(buffer, total)| buffer.get_mapped_range(..total));
            let views: Result<Vec<_>, _> = views.collect();
            let views = views.map_err(|error| Error::Readback { reason: error.to_string() })?;
            let part = |&(buffer, begin, size): &(usize, u64, u64)| {
                &views[buffer][begin as usize..(begin + size) as usize]
            };
            let taken = take(&places.iter().map(part).collect::<Vec<&[u8]>>());
            drop(views);
            buffers.iter().for_each(wgpu::Buffer::unmap);
            Ok(taken)
        })?;
        let mut mapped = Vec::new();
        for mapping in upload {
            // Without it, the next transfer allocates.
            mapped.extend(mapping.finish().await.ok());
        }
        Ok((taken, Staging { upload: mapped, readback: buffers }))
    }
}

/// Returns the values of a region.
pub(crate) fn values<T: Element>(bytes: &[u8]) -> Vec<T> {
    bytemuck::pod_collect_to_vec(bytes)
}

#[cfg(test)]
mod tests {
    use super::{Gpu, Readback, Region, Staging, spread, values as values_of, write_words};
    use crate::error::{Error, Result};
    use crate::gpu::instance::instance;
    use crate::layout::Layout;
    use crate::tensor::Tensor;

    /// Sends values to the GPU and back, and returns the staging buffers that they went through.
    fn round_trip(gpu: &Gpu, staging: &mut Staging, values: &[f32]) -> Result<[wgpu::Buffer; 2]> {
        let tensor = Tensor::zeros(gpu, &[values.len()], Layout::ChannelsFirst)?;
        let regions: [Region<'_>; 2] = [(tensor.region().0, 0, 0), tensor.region()];
        let upload = staging.take_upload(gpu, &[bytemuck::cast_slice(values)])?;
        let readback = staging.take_readback(gpu, &regions)?;
        let buffers = [upload.buffers[0].clone(), readback[0].clone()];
        let mut encoder = gpu.encoder();
        upload.copy(&mut encoder, 0, tensor.region());
        let readback = Readback::submit(gpu, encoder, &regions, readback, Some(upload));
        let take = |parts: &[&[u8]]| parts.iter().map(|part| values_of::<f32>(part)).collect::<Vec<_>>();
        let (parts, returned) = readback.wait(take)?;
        assert_eq!(parts, [&[], values]);
        *staging = returned;
        Ok(buffers)
    }

    /// Opens a device whose buffers have at most so many bytes.
    fn small_gpu(max_buffer_size: u64) -> Gpu {
        let (instance, backends) = instance(None, None);
        let adapters = pollster::block_on(instance.enumerate_adapters(backends));
        let descriptor = wgpu::DeviceDescriptor {
            required_limits: wgpu::Limits {
                max_buffer_size,
                max_storage_buffer_binding_size: max_buffer_size,
                ..wgpu::Limits::default()
            },
            ..Default::default()
        };
        let opened = adapters.first().map(|adapter| pollster::block_on(adapter.request_device(&descriptor)));
        let (device, queue) = opened.expect("there is an adapter").expect("it opens a device");
        Gpu::from_wgpu(&device, &queue)
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
        assert_eq!([&upload.buffers[0], &readback[0]], [&larger[0], &larger[1]]);
        let other = round_trip(&gpu, &mut staging, &values)?;
        assert!(other.iter().zip(&larger).all(|(other, larger)| other != larger));
        drop(Readback::submit(&gpu, gpu.encoder(), &[], readback, Some(upload)));
        assert_eq!(round_trip(&gpu, &mut staging, &values)?, other);
        Ok(())
    }

    /// What fits into no one buffer of the device goes through several.
    #[test]
    fn transfers_larger_than_a_buffer() -> Result<()> {
        assert_eq!(
            spread([8, 4, 0, 4, 12, 4].into_iter(), 12),
            (vec![(0, 0), (0, 8), (0, 12), (1, 0), (2, 0), (3, 0)], vec![12, 4, 12, 4])
        );
        let gpu = small_gpu(1 << 12);
        let values = |k: usize| -> Vec<f32> { (0..1000).map(|i| (i * 3 + k) as f32).collect() };
        let arrays: Vec<Vec<f32>> = (0..4).map(values).collect();
        let zeros = || Tensor::zeros(&gpu, &[1000], Layout::ChannelsFirst);
        let tensors = [zeros()?, zeros()?, zeros()?, zeros()?];
        let contents = arrays.iter().map(|array| bytemuck::cast_slice(array));
        let parts: Vec<(Region<'_>, &[u8])> = tensors.iter().map(Tensor::region).zip(contents).collect();
        write_words(&gpu, &parts)?;
        let regions: Vec<Region<'_>> = tensors.iter().map(Tensor::region).collect();
        let take = |parts: &[&[u8]]| parts.iter().map(|part| values_of::<f32>(part)).collect::<Vec<_>>();
        for _ in 0..2 {
            let (read, staging) = Readback::start(&gpu, &regions)?.wait(take)?;
            assert_eq!(read, arrays);
            assert_eq!(staging.readback.len(), 4);
        }
        let (read, _) = pollster::block_on(Readback::start(&gpu, &regions)?.wait_async(take))?;
        assert_eq!(read, arrays);

        // A single buffer beyond the limit is refused, with the limit that was met.
        let error = Tensor::zeros(&gpu, &[1025], Layout::ChannelsFirst);
        let Err(Error::BufferTooLarge { bytes: 4100, limit: 4096, .. }) = error else {
            panic!("{error:?}");
        };
        Ok(())
    }
}
