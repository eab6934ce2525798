//! What tests share: the GPUs they run on, buffers, random inputs.

use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use std::cell::OnceCell;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread::LocalKey;
use wgpu_batchnorm::{Gpu, GpuOptions, Layout, Tensor, wgpu};

fn open(options: &GpuOptions) -> Gpu {
    Gpu::with_options(options).unwrap_or_else(|error| {
        panic!("the tests need a GPU adapter; scripts/with-vulkan brings a software one. {error}")
    })
}

/// The current number of tests on each device of a kind, by the device's number.
type Users = Mutex<Vec<usize>>;

/// Devices of one kind. A device does its work in sequence, so tests that run side by side have devices of their
/// own. A later test takes a device that is free again, with the kernels that are compiled there.
struct Devices {
    options: fn() -> GpuOptions,
    gpus: [OnceLock<Gpu>; 16],
    users: Users,
}

/// The number of a device while a thread uses it.
struct Lease {
    number: usize,
    users: &'static Users,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.users.lock().unwrap_or_else(PoisonError::into_inner)[self.number] -= 1;
    }
}

impl Devices {
    const fn new(options: fn() -> GpuOptions) -> Self {
        Self { options, gpus: [const { OnceLock::new() }; 16], users: Mutex::new(Vec::new()) }
    }

    /// Returns the device of this thread, which is a test.
    fn get(&'static self, lease: &'static LocalKey<OnceCell<Lease>>) -> &'static Gpu {
        let number = lease.with(|lease| lease.get_or_init(|| self.lease()).number);
        self.gpus[number].get_or_init(|| {
            let gpu = open(&(self.options)());
            println!("adapter: {}", gpu.profile());
            gpu
        })
    }

    /// Returns the first device that nobody uses, or else the one with the fewest users.
    fn lease(&'static self) -> Lease {
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        users.resize(self.gpus.len(), 0);
        let number = (0..users.len()).min_by_key(|&number| users[number]).unwrap_or(0);
        users[number] += 1;
        Lease { number, users: &self.users }
    }
}

/// Returns the best adapter of this machine. A missing one fails the test.
pub(crate) fn gpu() -> &'static Gpu {
    static DEVICES: Devices = Devices::new(GpuOptions::new);
    thread_local!(static LEASE: OnceCell<Lease> = const { OnceCell::new() });
    DEVICES.get(&LEASE)
}

/// Returns the same adapter on a device without subgroup operations. Reductions go through workgroup memory.
pub(crate) fn gpu_without_subgroups() -> &'static Gpu {
    static DEVICES: Devices = Devices::new(|| GpuOptions::new().without_subgroups());
    thread_local!(static LEASE: OnceCell<Lease> = const { OnceCell::new() });
    DEVICES.get(&LEASE)
}

/// Returns the same adapter on a device without f16 in shaders. f16 tensors are read and written as words.
pub(crate) fn gpu_without_f16() -> &'static Gpu {
    static DEVICES: Devices = Devices::new(|| GpuOptions::new().without_f16());
    thread_local!(static LEASE: OnceCell<Lease> = const { OnceCell::new() });
    DEVICES.get(&LEASE)
}

/// Returns the same adapter on a device whose kernels have none of wgpu's checks.
pub(crate) fn gpu_unchecked() -> &'static Gpu {
    static DEVICES: Devices = Devices::new(|| GpuOptions::new().unchecked());
    thread_local!(static LEASE: OnceCell<Lease> = const { OnceCell::new() });
    DEVICES.get(&LEASE)
}

const USAGE: wgpu::BufferUsages =
    wgpu::BufferUsages::STORAGE.union(wgpu::BufferUsages::COPY_SRC).union(wgpu::BufferUsages::COPY_DST);

/// Returns a buffer of zeros, of `bytes` exactly.
pub(crate) fn zeros(gpu: &Gpu, bytes: u64) -> wgpu::Buffer {
    let descriptor =
        wgpu::BufferDescriptor { label: Some("test"), size: bytes, usage: USAGE, mapped_at_creation: false };
    gpu.device().create_buffer(&descriptor)
}

/// Returns a buffer with these values, or a buffer of one word if there are none.
pub(crate) fn buffer(gpu: &Gpu, values: &[f32]) -> wgpu::Buffer {
    let buffer = zeros(gpu, (values.len() as u64 * 4).max(4));
    gpu.queue().write_buffer(&buffer, 0, bytemuck::cast_slice(values));
    buffer
}

/// Returns a buffer full of NaN.
pub(crate) fn poisoned(gpu: &Gpu, elements: usize) -> wgpu::Buffer {
    buffer(gpu, &vec![f32::NAN; elements])
}

/// Returns the whole contents of a buffer.
pub(crate) fn read(gpu: &Gpu, buffer: &wgpu::Buffer) -> Vec<f32> {
    let elements = buffer.size() as usize / 4;
    let tensor = Tensor::from_buffer(gpu, buffer, 0, &[elements], Layout::ChannelsFirst).unwrap();
    tensor.to_array().unwrap().into_raw_vec_and_offset().0
}

/// Returns the bytes allocated on the device, by its own report. The test needs a device of its own, since the
/// report counts the allocations of other tests, too.
pub(crate) fn allocated(gpu: &Gpu) -> u64 {
    // A dropped buffer is freed when the queue is done with it. The queue may not even have begun.
    gpu.queue().submit([]);
    gpu.device().poll(wgpu::PollType::wait_indefinitely()).unwrap();
    allocations(gpu).iter().map(|(_, bytes)| bytes).sum()
}

/// Returns names and sizes of all allocations, including those that were dropped but may still be in use.
pub(crate) fn allocations(gpu: &Gpu) -> Vec<(String, u64)> {
    let report = gpu.device().generate_allocator_report().expect("Vulkan has a report");
    let mut list: Vec<_> =
        report.allocations.into_iter().map(|allocation| (allocation.name, allocation.size)).collect();
    list.sort();
    list
}

/// Returns a value with a change, for structs that other crates cannot construct field by field.
pub(crate) fn changed<T>(mut value: T, change: impl FnOnce(&mut T)) -> T {
    change(&mut value);
    value
}

/// Returns a runner for `cases` random inputs. They are always the same, so that a failed run can be repeated.
pub(crate) fn runner(cases: u32) -> TestRunner {
    let config =
        Config { cases, failure_persistence: None, max_global_rejects: 1_000_000, ..Config::default() };
    TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha))
}
