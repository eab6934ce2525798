//! What tests share: the GPUs they run on, buffers, random inputs.

use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use std::sync::OnceLock;
use wgpu_batchnorm::{Gpu, GpuOptions, Layout, Tensor, wgpu};

fn open(options: &GpuOptions) -> Gpu {
    Gpu::with_options(options).unwrap_or_else(|error| {
        panic!("the tests need a GPU adapter; scripts/with-vulkan brings a software one. {error}")
    })
}

/// The best adapter of this machine. A missing one fails the test.
pub(crate) fn gpu() -> &'static Gpu {
    static GPU: OnceLock<Gpu> = OnceLock::new();
    GPU.get_or_init(|| {
        let gpu = open(&GpuOptions::new());
        println!("adapter: {}", gpu.profile());
        gpu
    })
}

/// The same adapter on a device without subgroup operations: reductions go through workgroup memory.
pub(crate) fn gpu_without_subgroups() -> &'static Gpu {
    static GPU: OnceLock<Gpu> = OnceLock::new();
    GPU.get_or_init(|| open(&GpuOptions::new().without_subgroups()))
}

/// The same adapter on a device without f16 in shaders: such tensors are read and written as words.
pub(crate) fn gpu_without_f16() -> &'static Gpu {
    static GPU: OnceLock<Gpu> = OnceLock::new();
    GPU.get_or_init(|| open(&GpuOptions::new().without_f16()))
}

const USAGE: wgpu::BufferUsages =
    wgpu::BufferUsages::STORAGE.union(wgpu::BufferUsages::COPY_SRC).union(wgpu::BufferUsages::COPY_DST);

/// A buffer of zeros, of `bytes` exactly.
pub(crate) fn zeros(gpu: &Gpu, bytes: u64) -> wgpu::Buffer {
    let descriptor =
        wgpu::BufferDescriptor { label: Some("test"), size: bytes, usage: USAGE, mapped_at_creation: false };
    gpu.device().create_buffer(&descriptor)
}

/// A buffer with these values; one of a word where there are none.
pub(crate) fn buffer(gpu: &Gpu, values: &[f32]) -> wgpu::Buffer {
    let buffer = zeros(gpu, (values.len() as u64 * 4).max(4));
    gpu.queue().write_buffer(&buffer, 0, bytemuck::cast_slice(values));
    buffer
}

/// A buffer full of NaN.
pub(crate) fn poisoned(gpu: &Gpu, elements: usize) -> wgpu::Buffer {
    buffer(gpu, &vec![f32::NAN; elements])
}

/// All of a buffer.
pub(crate) fn read(gpu: &Gpu, buffer: &wgpu::Buffer) -> Vec<f32> {
    let elements = buffer.size() as usize / 4;
    let tensor = Tensor::from_buffer(gpu, buffer, 0, &[elements], Layout::ChannelsFirst).unwrap();
    tensor.to_array().unwrap().into_raw_vec_and_offset().0
}

/// Bytes that are allocated on the device, by its own report; for a test with a device of its own, since what
/// other tests do counts, too.
pub(crate) fn allocated(gpu: &Gpu) -> u64 {
    // What was dropped is freed when the queue is done with it, which may not even have begun.
    gpu.queue().submit([]);
    gpu.device().poll(wgpu::PollType::wait_indefinitely()).unwrap();
    allocations(gpu).iter().map(|(_, bytes)| bytes).sum()
}

/// Names and sizes of all that is allocated, with what was dropped but may still be in use.
pub(crate) fn allocations(gpu: &Gpu) -> Vec<(String, u64)> {
    let report = gpu.device().generate_allocator_report().expect("Vulkan has a report");
    let mut list: Vec<_> =
        report.allocations.into_iter().map(|allocation| (allocation.name, allocation.size)).collect();
    list.sort();
    list
}

/// A value with a change: for structs that other crates cannot spell out.
pub(crate) fn changed<T>(mut value: T, change: impl FnOnce(&mut T)) -> T {
    change(&mut value);
    value
}

/// Runs a property on so many random inputs: always the same ones, so that a run that fails can be run
/// again.
pub(crate) fn runner(cases: u32) -> TestRunner {
    let config =
        Config { cases, failure_persistence: None, max_global_rejects: 1_000_000, ..Config::default() };
    TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha))
}
