//! A Vulkan layer that makes chosen calls fail, so that tests meet out of memory and lost devices on any driver.
//!
//! A function's n-th call from now on returns an error code instead of reaching the driver. A process chooses it in one of
//! two ways:
//! - `FAULT_LAYER=vkQueueSubmit:2:-4` in the environment: the second submission loses the device. A fourth field, `:on`,
//!   makes all later calls fail, too.
//! - [`fault_layer_arm`], for a process that opens this library itself.
//!
//! [`switch_on`] writes the layer's manifest, and switches it on in the environment of a program.

use ash::vk::{self, Handle};
use std::ffi::{CStr, c_char, c_void};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering};

/// What happens to the calls of one function.
struct Fault {
    /// Calls so far.
    calls: AtomicU32,
    /// Calls until one fails, counting that one. 0: none will.
    countdown: AtomicU32,
    code: AtomicI32,
    /// Whether every later call fails, too.
    lasting: AtomicBool,
}

impl Fault {
    const fn new() -> Self {
        Self {
            calls: AtomicU32::new(0),
            countdown: AtomicU32::new(0),
            code: AtomicI32::new(0),
            lasting: AtomicBool::new(false),
        }
    }

    fn arm(&self, call: u32, code: i32, lasting: bool) {
        self.code.store(code, Ordering::SeqCst);
        self.lasting.store(lasting, Ordering::SeqCst);
        self.calls.store(0, Ordering::SeqCst);
        self.countdown.store(call, Ordering::SeqCst);
    }

    /// Counts a call, and returns its error if it is to fail.
    fn call(&self) -> Option<vk::Result> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let lasting = self.lasting.load(Ordering::SeqCst);
        let next = |countdown: u32| match countdown {
            1 if lasting => Some(1),
            0 => None,
            _ => Some(countdown - 1),
        };
        let before = self.countdown.fetch_update(Ordering::SeqCst, Ordering::SeqCst, next);
        (before == Ok(1)).then(|| vk::Result::from_raw(self.code.load(Ordering::SeqCst)))
    }
}

/// Declares the functions that may fail: for each a wrapper, its place in the table of faults, and its name. The
/// functions of a device come first, those of an instance after them.
macro_rules! functions {
    ($($wrapper:ident $name:literal $pointer:ident($($argument:ident: $type:ty),*);)*) => {
        #[expect(non_camel_case_types, reason = "each has the name of its wrapper")]
        #[derive(Clone, Copy)]
        enum Function { $($wrapper),* }

        const NAMES: &[&CStr] = &[$($name),*];

        static FAULTS: [Fault; NAMES.len()] = [const { Fault::new() }; NAMES.len()];

        /// The next functions in the chain. All devices of a process have one driver here, and so the same functions.
        #[derive(Clone, Copy)]
        struct Next { $($wrapper: Option<vk::$pointer>),* }

        impl Next {
            unsafe fn load(get: vk::PFN_vkGetDeviceProcAddr, device: vk::Device) -> Self {
                // SAFETY: Vulkan returns for a name a function of the type that belongs to it.
                unsafe {
                    Self {
                        $($wrapper: std::mem::transmute::<vk::PFN_vkVoidFunction, Option<vk::$pointer>>(
                            get(device, $name.as_ptr())
                        )),*
                    }
                }
            }
        }

        $(
            unsafe extern "system" fn $wrapper($($argument: $type),*) -> vk::Result {
                if let Some(error) = FAULTS[Function::$wrapper as usize].call() {
                    return error;
                }
                let next = NEXT.get().and_then(|next| next.$wrapper);
                let Some(next) = next else { return vk::Result::ERROR_INITIALIZATION_FAILED };
                // SAFETY: the caller passed these arguments for this function.
                unsafe { next($($argument),*) }
            }
        )*

        /// Returns this layer's function of that name.
        fn wrapper(name: &CStr) -> vk::PFN_vkVoidFunction {
            $(
                if name == $name {
                    let wrapper: vk::$pointer = $wrapper;
                    // SAFETY: whoever asked by name calls it by the type that belongs to the name.
                    return Some(unsafe { std::mem::transmute::<vk::$pointer, unsafe extern "system" fn()>(wrapper) });
                }
            )*
            None
        }
    };
}

type Allocator<'a> = *const vk::AllocationCallbacks<'a>;

functions! {
    allocate_memory c"vkAllocateMemory" PFN_vkAllocateMemory(
        device: vk::Device, info: *const vk::MemoryAllocateInfo<'_>, allocator: Allocator<'_>,
        memory: *mut vk::DeviceMemory
    );
    bind_buffer_memory c"vkBindBufferMemory" PFN_vkBindBufferMemory(
        device: vk::Device, buffer: vk::Buffer, memory: vk::DeviceMemory, offset: vk::DeviceSize
    );
    map_memory c"vkMapMemory" PFN_vkMapMemory(
        device: vk::Device, memory: vk::DeviceMemory, offset: vk::DeviceSize, size: vk::DeviceSize,
        flags: vk::MemoryMapFlags, data: *mut *mut c_void
    );
    create_buffer c"vkCreateBuffer" PFN_vkCreateBuffer(
        device: vk::Device, info: *const vk::BufferCreateInfo<'_>, allocator: Allocator<'_>, buffer: *mut vk::Buffer
    );
    create_shader_module c"vkCreateShaderModule" PFN_vkCreateShaderModule(
        device: vk::Device, info: *const vk::ShaderModuleCreateInfo<'_>, allocator: Allocator<'_>,
        module: *mut vk::ShaderModule
    );
    create_compute_pipelines c"vkCreateComputePipelines" PFN_vkCreateComputePipelines(
        device: vk::Device, cache: vk::PipelineCache, count: u32, infos: *const vk::ComputePipelineCreateInfo<'_>,
        allocator: Allocator<'_>, pipelines: *mut vk::Pipeline
    );
    create_pipeline_layout c"vkCreatePipelineLayout" PFN_vkCreatePipelineLayout(
        device: vk::Device, info: *const vk::PipelineLayoutCreateInfo<'_>, allocator: Allocator<'_>,
        layout: *mut vk::PipelineLayout
    );
    create_pipeline_cache c"vkCreatePipelineCache" PFN_vkCreatePipelineCache(
        device: vk::Device, info: *const vk::PipelineCacheCreateInfo<'_>, allocator: Allocator<'_>,
        cache: *mut vk::PipelineCache
    );
    get_pipeline_cache_data c"vkGetPipelineCacheData" PFN_vkGetPipelineCacheData(
        device: vk::Device, cache: vk::PipelineCache, size: *mut usize, data: *mut c_void
    );
    create_descriptor_set_layout c"vkCreateDescriptorSetLayout" PFN_vkCreateDescriptorSetLayout(
        device: vk::Device, info: *const vk::DescriptorSetLayoutCreateInfo<'_>, allocator: Allocator<'_>,
        layout: *mut vk::DescriptorSetLayout
    );
    create_descriptor_pool c"vkCreateDescriptorPool" PFN_vkCreateDescriptorPool(
        device: vk::Device, info: *const vk::DescriptorPoolCreateInfo<'_>, allocator: Allocator<'_>,
        pool: *mut vk::DescriptorPool
    );
    allocate_descriptor_sets c"vkAllocateDescriptorSets" PFN_vkAllocateDescriptorSets(
        device: vk::Device, info: *const vk::DescriptorSetAllocateInfo<'_>, sets: *mut vk::DescriptorSet
    );
    create_command_pool c"vkCreateCommandPool" PFN_vkCreateCommandPool(
        device: vk::Device, info: *const vk::CommandPoolCreateInfo<'_>, allocator: Allocator<'_>,
        pool: *mut vk::CommandPool
    );
    reset_command_pool c"vkResetCommandPool" PFN_vkResetCommandPool(
        device: vk::Device, pool: vk::CommandPool, flags: vk::CommandPoolResetFlags
    );
    allocate_command_buffers c"vkAllocateCommandBuffers" PFN_vkAllocateCommandBuffers(
        device: vk::Device, info: *const vk::CommandBufferAllocateInfo<'_>, buffers: *mut vk::CommandBuffer
    );
    begin_command_buffer c"vkBeginCommandBuffer" PFN_vkBeginCommandBuffer(
        buffer: vk::CommandBuffer, info: *const vk::CommandBufferBeginInfo<'_>
    );
    end_command_buffer c"vkEndCommandBuffer" PFN_vkEndCommandBuffer(buffer: vk::CommandBuffer);
    queue_submit c"vkQueueSubmit" PFN_vkQueueSubmit(
        queue: vk::Queue, count: u32, infos: *const vk::SubmitInfo<'_>, fence: vk::Fence
    );
    queue_wait_idle c"vkQueueWaitIdle" PFN_vkQueueWaitIdle(queue: vk::Queue);
    create_query_pool c"vkCreateQueryPool" PFN_vkCreateQueryPool(
        device: vk::Device, info: *const vk::QueryPoolCreateInfo<'_>, allocator: Allocator<'_>,
        pool: *mut vk::QueryPool
    );
    create_fence c"vkCreateFence" PFN_vkCreateFence(
        device: vk::Device, info: *const vk::FenceCreateInfo<'_>, allocator: Allocator<'_>, fence: *mut vk::Fence
    );
    wait_for_fences c"vkWaitForFences" PFN_vkWaitForFences(
        device: vk::Device, count: u32, fences: *const vk::Fence, all: vk::Bool32, timeout: u64
    );
    create_semaphore c"vkCreateSemaphore" PFN_vkCreateSemaphore(
        device: vk::Device, info: *const vk::SemaphoreCreateInfo<'_>, allocator: Allocator<'_>,
        semaphore: *mut vk::Semaphore
    );
    wait_semaphores c"vkWaitSemaphores" PFN_vkWaitSemaphores(
        device: vk::Device, info: *const vk::SemaphoreWaitInfo<'_>, timeout: u64
    );
    get_semaphore_counter_value c"vkGetSemaphoreCounterValue" PFN_vkGetSemaphoreCounterValue(
        device: vk::Device, semaphore: vk::Semaphore, value: *mut u64
    );
}

static NEXT: OnceLock<Next> = OnceLock::new();
static NEXT_OF_INSTANCE: OnceLock<vk::PFN_vkGetInstanceProcAddr> = OnceLock::new();
static NEXT_OF_DEVICE: OnceLock<vk::PFN_vkGetDeviceProcAddr> = OnceLock::new();
/// The instance that was created last. Tests open one device after the other.
static INSTANCE: AtomicU64 = AtomicU64::new(0);

/// Counts the calls of `vkCreateDevice`, which belongs to the instance.
static CREATE_DEVICE: Fault = Fault::new();

/// The loader's link from this layer to the next: `VkLayerInstanceCreateInfo` and `VkLayerDeviceCreateInfo`.
#[repr(C)]
struct LayerCreateInfo<L> {
    s_type: vk::StructureType,
    next: *mut c_void,
    function: i32,
    link: *mut L,
}

/// `VK_LAYER_LINK_INFO`: the kind of create info that has the link.
const LINK_INFO: i32 = 0;

#[repr(C)]
struct InstanceLink {
    next: *mut InstanceLink,
    get_instance_proc_addr: vk::PFN_vkGetInstanceProcAddr,
    get_physical_device_proc_addr: *const c_void,
}

#[repr(C)]
struct DeviceLink {
    next: *mut DeviceLink,
    get_instance_proc_addr: vk::PFN_vkGetInstanceProcAddr,
    get_device_proc_addr: vk::PFN_vkGetDeviceProcAddr,
}

/// `VkNegotiateLayerInterface`.
#[repr(C)]
#[expect(missing_debug_implementations, reason = "only the loader uses it")]
pub struct NegotiateLayerInterface {
    s_type: i32,
    next: *mut c_void,
    version: u32,
    get_instance_proc_addr: vk::PFN_vkGetInstanceProcAddr,
    get_device_proc_addr: vk::PFN_vkGetDeviceProcAddr,
    get_physical_device_proc_addr: *const c_void,
}

/// Finds the loader's link in a chain of structures.
unsafe fn find_link<L>(mut next: *const c_void, s_type: vk::StructureType) -> *mut LayerCreateInfo<L> {
    // SAFETY: every structure of the chain begins with its type and the pointer to the next.
    unsafe {
        while !next.is_null() {
            let info = next.cast::<LayerCreateInfo<L>>().cast_mut();
            if (*info).s_type == s_type && (*info).function == LINK_INFO {
                return info;
            }
            next = (*info).next;
        }
    }
    std::ptr::null_mut()
}

unsafe extern "system" fn create_instance(
    info: *const vk::InstanceCreateInfo<'_>,
    allocator: Allocator<'_>,
    instance: *mut vk::Instance,
) -> vk::Result {
    arm_by_environment();
    // SAFETY: the loader's structures are as its header says, and the next link is ours to advance.
    unsafe {
        let link = find_link::<InstanceLink>((*info).p_next, vk::StructureType::LOADER_INSTANCE_CREATE_INFO);
        if link.is_null() {
            return vk::Result::ERROR_INITIALIZATION_FAILED;
        }
        let get = (*(*link).link).get_instance_proc_addr;
        (*link).link = (*(*link).link).next;
        let create = get(vk::Instance::null(), c"vkCreateInstance".as_ptr());
        let create = std::mem::transmute::<vk::PFN_vkVoidFunction, Option<vk::PFN_vkCreateInstance>>(create);
        let Some(create) = create else { return vk::Result::ERROR_INITIALIZATION_FAILED };
        let result = create(info, allocator, instance);
        NEXT_OF_INSTANCE.get_or_init(|| get);
        INSTANCE.store((*instance).as_raw(), Ordering::SeqCst);
        result
    }
}

unsafe extern "system" fn create_device(
    physical: vk::PhysicalDevice,
    info: *const vk::DeviceCreateInfo<'_>,
    allocator: Allocator<'_>,
    device: *mut vk::Device,
) -> vk::Result {
    if let Some(error) = CREATE_DEVICE.call() {
        return error;
    }
    // SAFETY: as in `create_instance`.
    unsafe {
        let link = find_link::<DeviceLink>((*info).p_next, vk::StructureType::LOADER_DEVICE_CREATE_INFO);
        if link.is_null() {
            return vk::Result::ERROR_INITIALIZATION_FAILED;
        }
        let DeviceLink { next, get_instance_proc_addr, get_device_proc_addr } = *(*link).link;
        (*link).link = next;
        let instance = vk::Instance::from_raw(INSTANCE.load(Ordering::SeqCst));
        let create = get_instance_proc_addr(instance, c"vkCreateDevice".as_ptr());
        let create = std::mem::transmute::<vk::PFN_vkVoidFunction, Option<vk::PFN_vkCreateDevice>>(create);
        let Some(create) = create else { return vk::Result::ERROR_INITIALIZATION_FAILED };
        let result = create(physical, info, allocator, device);
        if result == vk::Result::SUCCESS {
            NEXT_OF_DEVICE.get_or_init(|| get_device_proc_addr);
            NEXT.get_or_init(|| Next::load(get_device_proc_addr, *device));
        }
        result
    }
}

/// Returns this layer's function, or else the next layer's.
///
/// # Safety
/// As Vulkan's function of this name.
unsafe extern "system" fn get_device_proc_addr(
    device: vk::Device,
    name: *const c_char,
) -> vk::PFN_vkVoidFunction {
    // SAFETY: names end with a zero. The functions are those of this type.
    unsafe {
        let next = || NEXT_OF_DEVICE.get().and_then(|next| next(device, name));
        wrapper(CStr::from_ptr(name)).or_else(next)
    }
}

unsafe extern "system" fn get_instance_proc_addr(
    instance: vk::Instance,
    name: *const c_char,
) -> vk::PFN_vkVoidFunction {
    // SAFETY: names end with a zero. Whoever asked by name calls by the type that belongs to the name.
    unsafe {
        let own = CStr::from_ptr(name);
        let found = if own == c"vkCreateInstance" {
            create_instance as *const c_void
        } else if own == c"vkCreateDevice" {
            create_device as *const c_void
        } else if own == c"vkGetInstanceProcAddr" {
            get_instance_proc_addr as *const c_void
        } else if own == c"vkGetDeviceProcAddr" {
            get_device_proc_addr as *const c_void
        } else if let Some(wrapper) = wrapper(own) {
            wrapper as *const c_void
        } else {
            return NEXT_OF_INSTANCE.get().and_then(|next| next(instance, name));
        };
        std::mem::transmute::<*const c_void, vk::PFN_vkVoidFunction>(found)
    }
}

/// The loader's first call.
///
/// # Safety
/// `interface` points to the loader's structure.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn vkNegotiateLoaderLayerInterfaceVersion(
    interface: *mut NegotiateLayerInterface,
) -> vk::Result {
    // SAFETY: as documented.
    unsafe {
        (*interface).version = 2;
        (*interface).get_instance_proc_addr = get_instance_proc_addr;
        (*interface).get_device_proc_addr = get_device_proc_addr;
        (*interface).get_physical_device_proc_addr = std::ptr::null();
    }
    vk::Result::SUCCESS
}

fn fault(name: &CStr) -> Option<&'static Fault> {
    let place = NAMES.iter().position(|other| *other == name);
    let of_instance = || (name == c"vkCreateDevice").then_some(&CREATE_DEVICE);
    place.map(|place| &FAULTS[place]).or_else(of_instance)
}

/// Arms the fault that the environment asks for.
///
/// # Panics
/// Panics if it asks for something else.
fn arm_by_environment() {
    let Ok(wanted) = std::env::var("FAULT_LAYER") else { return };
    let fields: Vec<&str> = wanted.split(':').collect();
    let armed = || {
        let [name, call, code, on @ ..] = &fields[..] else { return None };
        let name = std::ffi::CString::new(*name).ok()?;
        fault(&name)?.arm(call.parse().ok()?, code.parse().ok()?, on == ["on"]);
        Some(())
    };
    assert!(
        armed().is_some(),
        "FAULT_LAYER is {wanted:?}: FUNCTION:CALL:CODE is wanted, or FUNCTION:CALL:CODE:on"
    );
}

/// Makes a function's `call`-th call from now on fail with `code`, and with `lasting` all later calls, too. 0 calls: none
/// fails. Returns whether the layer knows the function.
///
/// # Safety
/// `name` ends with a zero.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fault_layer_arm(name: *const c_char, call: u32, code: i32, lasting: bool) -> bool {
    // SAFETY: as documented.
    let found = fault(unsafe { CStr::from_ptr(name) });
    found.inspect(|fault| fault.arm(call, code, lasting)).is_some()
}

/// Returns how often a function was called since [`fault_layer_arm`].
///
/// # Safety
/// `name` ends with a zero.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fault_layer_calls(name: *const c_char) -> u32 {
    // SAFETY: as documented.
    fault(unsafe { CStr::from_ptr(name) }).map_or(0, |fault| fault.calls.load(Ordering::SeqCst))
}

/// The codes of Vulkan's errors that every function may return: out of memory on the host, and on the device, and device
/// lost.
pub const CODES: [i32; 3] = [-1, -2, -4];

/// Returns the functions that may fail.
pub fn functions() -> impl Iterator<Item = &'static CStr> {
    NAMES.iter().copied()
}

/// Where wgpu 30 itself panics: a part of the file's path, and of the message. `docs/backends.md` describes them. The last
/// one is caught.
const PANICS_OF_WGPU: [(&str, &str); 5] = [
    ("wgpu-hal", "at least one BGL has not been unregistered"),
    ("wgpu-hal", "assertion `left != right` failed"),
    ("wgpu-core", "called `Result::unwrap()` on an `Err` value"),
    ("wgpu-core", "Unexpected error while waiting for queue idle on drop"),
    ("wgpu", "Error in Device::poll"),
];

/// Returns whether a panic at this place with this message is one of wgpu's own.
pub fn is_of_wgpu(place: &str, message: &str) -> bool {
    PANICS_OF_WGPU.iter().any(|(file, part)| place.contains(file) && message.contains(part))
}

/// Returns the shared library. Cargo puts it beside the tests that depend on this package.
///
/// # Panics
/// Panics if the system does not tell where the program is.
pub fn library() -> PathBuf {
    let name = format!("{}fault_layer{}", std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX);
    std::env::current_exe().expect("the program has a path").with_file_name(name)
}

/// Writes the layer's manifest to a folder, and switches the layer on for a program, alone.
///
/// # Panics
/// Panics if the manifest cannot be written.
pub fn switch_on<'a>(command: &'a mut Command, folder: &Path) -> &'a mut Command {
    let manifest = format!(
        r#"{{"file_format_version": "1.2.0", "layer": {{"name": "VK_LAYER_test_fault", "type": "GLOBAL",
            "library_path": {:?}, "api_version": "1.3.0", "implementation_version": "1",
            "description": "Makes calls fail"}}}}"#,
        library()
    );
    std::fs::write(folder.join("VkLayer_test_fault.json"), manifest).expect("the folder can be written to");
    command.env("VK_LAYER_PATH", folder).env("VK_INSTANCE_LAYERS", "VK_LAYER_test_fault")
}
