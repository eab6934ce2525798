//! The GPUs that tests run on.

use std::sync::OnceLock;
use wgpu_batchnorm::{Gpu, GpuOptions};

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
