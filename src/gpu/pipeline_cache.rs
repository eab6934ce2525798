//! Keeps compiled kernels in a file, from one run of a program to the next.
//!
//! The file holds a checksum and the data of wgpu's pipeline cache: the driver's own data, after a header that names
//! adapter and driver version. This module, wgpu or the driver drops data that does not fit. The kernels are then
//! compiled as without the file.

use crate::error::{Error, Result};
use crate::files::replace;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Bytes of the checksum before the data.
const CHECKSUM_BYTES: usize = 8;

/// wgpu's cache and the file that it is kept in.
pub(crate) struct PipelineCache {
    cache: wgpu::PipelineCache,
    file: PathBuf,
    /// Checksum of the cache's data when the data last matched the file.
    stored: Mutex<Option<u64>>,
}

impl PipelineCache {
    /// Opens the cache in `folder`, and fills it from its file if that is valid. `None` if the device has no pipeline
    /// cache.
    pub(crate) fn open(device: &wgpu::Device, folder: &Path) -> Option<Self> {
        if !device.features().contains(wgpu::Features::PIPELINE_CACHE) {
            return None;
        }
        let key = wgpu::util::pipeline_cache_key(&device.adapter_info())?;
        let file = folder.join(format!("{key}_wgpu-batchnorm_{}.bin", env!("CARGO_PKG_VERSION")));
        // A file that cannot be read counts as absent. If it cannot be written either, `save` reports it.
        let contents = fs::read(&file).unwrap_or_default();
        let (cache, stored) = match data(&contents).and_then(|data| create(device, Some(data))) {
            // Some drivers return the data that they were given with something around it, so the file's own checksum
            // would not match.
            Some(cache) => {
                let stored = cache.get_data().map(|data| checksum(&data));
                (cache, stored)
            }
            None => (create(device, None)?, None),
        };
        Some(Self { cache, file, stored: Mutex::new(stored) })
    }

    /// Returns the cache to compile pipelines with.
    pub(crate) fn get(&self) -> &wgpu::PipelineCache {
        &self.cache
    }

    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    /// Writes the file, unless the cache still matches it.
    pub(crate) fn save(&self) -> Result<()> {
        // The lock serialises two savers of one process. Savers of two processes replace each other's file as a
        // whole.
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

/// Creates wgpu's cache. `None` if wgpu refuses, as it does with the data of another adapter.
fn create(device: &wgpu::Device, data: Option<&[u8]>) -> Option<wgpu::PipelineCache> {
    let descriptor = wgpu::PipelineCacheDescriptor { label: Some("wgpu-batchnorm"), data, fallback: true };
    let scopes = super::faults::KINDS.map(|kind| device.push_error_scope(kind));
    #[expect(unsafe_code, reason = "wgpu has no other way to make a cache")]
    // SAFETY: the data must be what `get_data` returned once. `data` passes only data that matches the checksum
    // before it. Only `save` writes such a file, from `get_data`, so accidental damage does not get here. Forged data
    // would, and no check in this module could tell. So the folder must be one that only the user can write to. The
    // documentation of the public functions that take the folder requires it.
    let cache = unsafe { device.create_pipeline_cache(&descriptor) };
    let errors: Vec<_> = scopes.into_iter().rev().map(|scope| pollster::block_on(scope.pop())).collect();
    errors.iter().all(Option::is_none).then_some(cache)
}

/// Returns the data in a file's contents, if its checksum matches.
fn data(contents: &[u8]) -> Option<&[u8]> {
    let (stored, data) = contents.split_first_chunk::<CHECKSUM_BYTES>()?;
    (u64::from_le_bytes(*stored) == checksum(data)).then_some(data)
}

/// Returns the FNV-1a hash: it detects accidents, not forgery.
fn checksum(data: &[u8]) -> u64 {
    data.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
