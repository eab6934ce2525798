//! Compiled kernels in a file, from one run of a program to the next.
//!
//! The file is a checksum and what wgpu calls the data of a pipeline cache: the driver's own, behind a header
//! that names adapter and driver version. Data that does not fit is dropped, by us, by wgpu or by the driver,
//! and the kernels are compiled as without it.

use crate::error::{Error, Result};
use crate::files::replace;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Bytes of the checksum before the data.
const CHECKSUM_BYTES: usize = 8;

/// wgpu's cache and the file it is kept in.
pub(crate) struct PipelineCache {
    cache: wgpu::PipelineCache,
    file: PathBuf,
    /// Checksum of the cache's data when it was last the same as the file's.
    stored: Mutex<Option<u64>>,
}

impl PipelineCache {
    /// The cache in `folder`, filled from its file where there is a good one; `None` where the device has none.
    pub(crate) fn open(device: &wgpu::Device, folder: &Path) -> Option<Self> {
        if !device.features().contains(wgpu::Features::PIPELINE_CACHE) {
            return None;
        }
        let key = wgpu::util::pipeline_cache_key(&device.adapter_info())?;
        let file = folder.join(format!("{key}_wgpu-batchnorm_{}.bin", env!("CARGO_PKG_VERSION")));
        // What cannot be read is as good as absent; that it cannot be written either, saving will tell.
        let contents = fs::read(&file).unwrap_or_default();
        let (cache, stored) = match data(&contents).and_then(|data| create(device, Some(data))) {
            // Some drivers give back what they were given with something around it, so the file's own checksum
            // would not do.
            Some(cache) => {
                let stored = cache.get_data().map(|data| checksum(&data));
                (cache, stored)
            }
            None => (create(device, None)?, None),
        };
        Some(Self { cache, file, stored: Mutex::new(stored) })
    }

    /// To compile pipelines with.
    pub(crate) fn get(&self) -> &wgpu::PipelineCache {
        &self.cache
    }

    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    /// Writes the file, unless nothing was added to the cache since.
    pub(crate) fn save(&self) -> Result<()> {
        // Over two savers of one process; those of two replace each other's file as a whole.
        let mut stored = self.stored.lock().unwrap_or_else(PoisonError::into_inner);
        // A lost device has no data.
        let Some(data) = self.cache.get_data() else { return Ok(()) };
        let checksum = checksum(&data);
        if *stored != Some(checksum) {
            let contents = [&checksum.to_le_bytes(), data.as_slice()].concat();
            replace(&self.file, &contents)
                .map_err(|source| Error::PipelineCache { path: self.file.clone(), source })?;
            *stored = Some(checksum);
        }
        Ok(())
    }
}

/// The cache as wgpu makes it; `None` where it does not, as from the data of another adapter.
fn create(device: &wgpu::Device, data: Option<&[u8]>) -> Option<wgpu::PipelineCache> {
    let descriptor = wgpu::PipelineCacheDescriptor { label: Some("wgpu-batchnorm"), data, fallback: true };
    let memory = device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
    let validation = device.push_error_scope(wgpu::ErrorFilter::Validation);
    #[expect(unsafe_code, reason = "wgpu has no other way to make a cache")]
    // SAFETY: the data must be what `get_data` returned once. `data` lets pass only what stands behind its own
    // checksum, and that only `save` writes, from `get_data`: damage by accident does not get here. What
    // somebody forged would, and no check of ours could tell; so the folder must be one that only the user
    // writes to, which the documentation of those who give us the folder asks for.
    let cache = unsafe { device.create_pipeline_cache(&descriptor) };
    let errors = [validation, memory].map(|scope| pollster::block_on(scope.pop()));
    errors.iter().all(Option::is_none).then_some(cache)
}

/// The data in a file's contents, if they are whole.
fn data(contents: &[u8]) -> Option<&[u8]> {
    let (stored, data) = contents.split_first_chunk::<CHECKSUM_BYTES>()?;
    (u64::from_le_bytes(*stored) == checksum(data)).then_some(data)
}

/// FNV-1a: against accidents, not against forgery.
fn checksum(data: &[u8]) -> u64 {
    data.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
