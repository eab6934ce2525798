//! The file of compiled kernels: written and read, damaged, foreign, blocked, and used by several threads at once.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use wgpu_batchnorm::ndarray::Array2;
use wgpu_batchnorm::wgpu::{self, Features};
use wgpu_batchnorm::{BatchNorm, BatchNormConfig, Error, Gpu, GpuOptions};

fn open(folder: &Path) -> Gpu {
    Gpu::with_options(&GpuOptions::new().pipeline_cache(folder)).unwrap()
}

/// Compiles kernels, and checks their results: (x − 2) / √(2/3) is ∓√1.5.
fn use_kernels(gpu: &Gpu) {
    let mut bn = BatchNorm::new(gpu, BatchNormConfig::new(1).eps(1e-12)).unwrap();
    let y = bn.forward_array(Array2::from_shape_vec((3, 1), vec![1.0, 2.0, 3.0]).unwrap().view()).unwrap();
    for (y, exact) in y.iter().zip([-1.5f32.sqrt(), 0.0, 1.5f32.sqrt()]) {
        assert!((y - exact).abs() < 1e-6, "{y}");
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}

/// Returns a folder with the file of this adapter, and the file. Returns `None` if the adapter has no cache.
fn filled() -> Option<(tempfile::TempDir, PathBuf)> {
    let folder = tempfile::tempdir().unwrap();
    let gpu = open(folder.path());
    let has_cache = gpu.profile().features.contains(Features::PIPELINE_CACHE);
    assert_eq!(has_cache, gpu.profile().backend == wgpu::Backend::Vulkan);
    use_kernels(&gpu);
    gpu.save_pipeline_cache().unwrap();
    let file = gpu.pipeline_cache_file().map(Path::to_owned);
    assert_eq!(file.is_some(), has_cache);
    assert_eq!(files(folder.path()), Vec::from_iter(file.clone()));
    file.map(|file| (folder, file))
}

fn checksum(data: &[u8]) -> [u8; 8] {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    data.iter().fold(0xcbf2_9ce4_8422_2325, step).to_le_bytes()
}

/// Returns whether the file is whole.
fn is_good(file: &Path) -> bool {
    let contents = fs::read(file).unwrap();
    contents.len() > 8 && contents[..8] == checksum(&contents[8..])
}

#[test]
fn written_by_the_last_handle_if_there_is_something_to_write() {
    let folder = tempfile::tempdir().unwrap();
    let nested = folder.path().join("not/yet/there");
    let gpu = open(&nested);
    let Some(file) = gpu.pipeline_cache_file().map(Path::to_owned) else { return };
    let name = file.file_name().unwrap().to_str().unwrap();
    let key = wgpu::util::pipeline_cache_key(&gpu.device().adapter_info()).unwrap();
    assert!(name.contains(&key) && name.contains(env!("CARGO_PKG_VERSION")), "{name}");
    // Nothing was compiled, so nothing is written.
    drop(gpu);
    assert!(files(folder.path()).is_empty());

    let gpu = open(&nested);
    use_kernels(&gpu);
    let clone = gpu.clone();
    drop(gpu);
    assert!(files(folder.path()).is_empty());
    drop(clone);
    assert_eq!(files(&nested), std::slice::from_ref(&file));
    assert!(is_good(&file));

    // A cache without changes is not written again.
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    File::options().write(true).open(&file).unwrap().set_modified(long_ago).unwrap();
    let gpu = open(&nested);
    gpu.save_pipeline_cache().unwrap();
    assert_eq!(fs::metadata(&file).unwrap().modified().unwrap(), long_ago);
    use_kernels(&gpu);
    drop(gpu);
    assert!(is_good(&file) && files(&nested).len() == 1);

    // Without the option, nothing is kept.
    let gpu = Gpu::new().unwrap();
    assert!(!gpu.profile().features.contains(Features::PIPELINE_CACHE));
    assert_eq!(gpu.pipeline_cache_file(), None);
    gpu.save_pipeline_cache().unwrap();
}

#[test]
fn damaged_and_foreign_files_are_replaced() {
    let Some((folder, file)) = filled() else { return };
    let good = fs::read(&file).unwrap();
    let resealed = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut data = good[8..].to_vec();
        change(&mut data);
        [&checksum(&data), data.as_slice()].concat()
    };
    let flipped = |byte: usize| {
        let mut contents = good.clone();
        contents[byte] ^= 0x10;
        contents
    };
    let mut cases = vec![
        ("empty", Vec::new()),
        ("a checksum alone", good[..8].to_vec()),
        ("part of a checksum", good[..5].to_vec()),
        ("cut in the header", good[..40].to_vec()),
        ("cut at the end", good[..good.len() - 1].to_vec()),
        ("too long", [&good[..], &[0]].concat()),
        ("something else", b"#!/bin/sh\nexit 1\n".repeat(50)),
        ("zeros", vec![0; good.len()]),
        // wgpu's header is whole, but names another format, version, backend, adapter or driver.
        ("another format", resealed(&|data| data[0] ^= 1)),
        ("another version of wgpu", resealed(&|data| data[8] ^= 1)),
        ("another backend", resealed(&|data| data[16] ^= 1)),
        ("another adapter", resealed(&|data| data[20] ^= 1)),
        ("another driver version", resealed(&|data| data[32] ^= 1)),
        ("wgpu's header alone", resealed(&|data| data.truncate(64))),
    ];
    for byte in (0..good.len()).step_by(good.len().div_ceil(20)) {
        cases.push(("one bit", flipped(byte)));
    }
    for (what, contents) in cases {
        fs::write(&file, contents).unwrap();
        let gpu = open(folder.path());
        assert_eq!(gpu.pipeline_cache_file(), Some(file.as_path()), "{what}");
        use_kernels(&gpu);
        drop(gpu);
        assert!(is_good(&file), "{what}");
        assert_eq!(files(folder.path()), std::slice::from_ref(&file), "{what}");
    }
}

#[test]
fn a_file_that_cannot_be_written_is_reported_and_breaks_nothing() {
    let Some((folder, file)) = filled() else { return };
    let refused = |folder: &Path| {
        let gpu = open(folder);
        use_kernels(&gpu);
        let error = gpu.save_pipeline_cache().unwrap_err();
        let expected = gpu.pipeline_cache_file().unwrap();
        assert!(matches!(&error, Error::PipelineCache { path, .. } if path == expected), "{error}");
        assert!(error.to_string().contains(expected.to_str().unwrap()), "{error}");
        use_kernels(&gpu);
        // When dropped, the GPU tries once more, and reports nothing.
    };
    // The folder is a file.
    refused(&file);
    assert!(is_good(&file));
    // The file is a folder.
    fs::remove_file(&file).unwrap();
    fs::create_dir_all(file.join("in the way")).unwrap();
    refused(folder.path());
    assert_eq!(files(folder.path()), std::slice::from_ref(&file));
    // Once nothing is in the way, the file is written after all.
    let gpu = open(folder.path());
    use_kernels(&gpu);
    gpu.save_pipeline_cache().unwrap_err();
    fs::remove_dir_all(&file).unwrap();
    gpu.save_pipeline_cache().unwrap();
    assert!(is_good(&file));
}

#[test]
fn several_at_once_leave_a_whole_file() {
    let Some((folder, file)) = filled() else { return };
    let good = fs::read(&file).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..3 {
                    let gpu = open(folder.path());
                    use_kernels(&gpu);
                    // Damage the file, so that there is something to write.
                    fs::write(folder.path().join("damage"), &good[..9]).unwrap();
                    let _ = fs::rename(folder.path().join("damage"), &file);
                }
            });
        }
    });
    // The last thread may have damaged the file.
    let gpu = open(folder.path());
    use_kernels(&gpu);
    gpu.save_pipeline_cache().unwrap();
    assert!(is_good(&file));
    let _ = fs::remove_file(folder.path().join("damage"));
    assert_eq!(files(folder.path()), [file]);
}

#[test]
fn a_device_of_the_callers_has_it_if_it_has_the_feature() {
    let folder = tempfile::tempdir().unwrap();
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle_from_env());
    let adapter =
        pollster::block_on(instance.request_adapter(&wgpu::RequestAdapterOptions::default())).unwrap();
    for feature in [Features::empty(), Features::PIPELINE_CACHE & adapter.features()] {
        let descriptor = wgpu::DeviceDescriptor { required_features: feature, ..Default::default() };
        let (device, queue) = pollster::block_on(adapter.request_device(&descriptor)).unwrap();
        let gpu =
            Gpu::from_wgpu_with_options(&device, &queue, &GpuOptions::new().pipeline_cache(folder.path()));
        use_kernels(&gpu);
        gpu.save_pipeline_cache().unwrap();
        assert_eq!(gpu.pipeline_cache_file().is_some(), !feature.is_empty());
        assert_eq!(files(folder.path()).len(), usize::from(!feature.is_empty()));
    }
}
