//! A Vulkan device that compiles kernels and reports what became of them, through
//! `VK_KHR_pipeline_executable_properties`. Writes the shaders as wgpu does on a device with robust buffer access.

use crate::Result;
use ash::vk;
use naga::back::spv;
use naga::proc::{BoundsCheckPolicies, BoundsCheckPolicy};
use naga::valid::{Capabilities, ValidationFlags, Validator};
use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char};
use std::time::{Duration, Instant};
use wgpu_batchnorm::kernels::{Access, Kernel};

/// What a driver made of a kernel.
pub(crate) struct Compiled {
    /// The time that the driver took.
    pub(crate) time: Duration,
    /// Invocations in a subgroup.
    pub(crate) subgroup_size: u32,
    /// Numbers by name, as the driver calls them.
    pub(crate) statistics: BTreeMap<String, Statistic>,
    /// The instructions, if asked for.
    pub(crate) assembly: Option<String>,
}

/// A number that a driver reports.
#[derive(Clone, Copy)]
pub(crate) enum Statistic {
    Whole(u64),
    Float(f64),
}

/// Returns the numbers and the kinds of a kernel's bindings.
pub(crate) fn bindings(kernel: &Kernel) -> Vec<(u32, Access)> {
    kernel.bindings().into_iter().map(|(binding, access)| (binding as u32, access)).collect()
}

/// Returns a shader as SPIR-V. With `checked`, indices and loops are bounded, as wgpu does unless told otherwise.
pub(crate) fn spirv(wgsl: &str, checked: bool) -> Result<Vec<u32>> {
    let module = naga::front::wgsl::parse_str(wgsl).map_err(|error| error.emit_to_string(wgsl))?;
    let mut validator = Validator::new(ValidationFlags::all(), Capabilities::all());
    let info = validator.validate(&module).map_err(|error| error.emit_to_string(wgsl))?;
    let unchecked = BoundsCheckPolicy::Unchecked;
    let options = spv::Options {
        // The newest that Vulkan 1.3 takes.
        lang_version: (1, 6),
        flags: spv::WriterFlags::empty(),
        bounds_check_policies: BoundsCheckPolicies {
            index: if checked { BoundsCheckPolicy::Restrict } else { unchecked },
            buffer: unchecked,
            image_load: unchecked,
            binding_array: unchecked,
        },
        zero_initialize_workgroup_memory: spv::ZeroInitializeWorkgroupMemoryMode::None,
        force_loop_bounding: checked,
        ..Default::default()
    };
    Ok(spv::write_vec(&module, &info, &options, None)?)
}

/// A Vulkan device that lives to the end of the process.
pub(crate) struct Device {
    device: ash::Device,
    executables: ash::khr::pipeline_executable_properties::Device,
}

impl Device {
    /// Opens the device of this name, with every feature.
    pub(crate) fn new(name: &str) -> Result<Self> {
        // SAFETY: plain calls. The instance and the device are never destroyed, and structures outlive the calls.
        unsafe {
            let entry = ash::Entry::load()?;
            let app = vk::ApplicationInfo::default().api_version(vk::API_VERSION_1_3);
            let instance =
                entry.create_instance(&vk::InstanceCreateInfo::default().application_info(&app), None)?;
            let is_it = |physical: &vk::PhysicalDevice| {
                let properties = instance.get_physical_device_properties(*physical);
                properties.device_name_as_c_str().is_ok_and(|found| found.to_string_lossy() == name)
            };
            let physical =
                instance.enumerate_physical_devices()?.into_iter().find(is_it).ok_or("no such device")?;
            let (mut v11, mut v12, mut v13, mut executable) = Default::default();
            let mut robust = vk::PhysicalDeviceRobustness2FeaturesEXT::default();
            let mut all = vk::PhysicalDeviceFeatures2::default()
                .push_next::<vk::PhysicalDeviceVulkan11Features<'_>>(&mut v11)
                .push_next::<vk::PhysicalDeviceVulkan12Features<'_>>(&mut v12)
                .push_next::<vk::PhysicalDeviceVulkan13Features<'_>>(&mut v13)
                .push_next::<vk::PhysicalDevicePipelineExecutablePropertiesFeaturesKHR<'_>>(&mut executable)
                .push_next(&mut robust);
            instance.get_physical_device_features2(physical, &mut all);
            let extensions = [
                ash::khr::pipeline_executable_properties::NAME.as_ptr(),
                ash::ext::robustness2::NAME.as_ptr(),
            ];
            let queues =
                [vk::DeviceQueueCreateInfo::default().queue_family_index(0).queue_priorities(&[1.0])];
            let info = vk::DeviceCreateInfo::default()
                .queue_create_infos(&queues)
                .enabled_extension_names(&extensions)
                .push_next(&mut all);
            let device = instance.create_device(physical, &info, None)?;
            let executables = ash::khr::pipeline_executable_properties::Device::new(&instance, &device);
            Ok(Self { device, executables })
        }
    }

    /// Compiles a shader from its SPIR-V, without a cache. With `assembly`, asks for the instructions, too.
    pub(crate) fn compile(
        &self,
        bindings: &[(u32, Access)],
        code: &[u32],
        assembly: bool,
    ) -> Result<Compiled> {
        let binding = |&(binding, access): &(u32, Access)| {
            let ty = match access {
                Access::Uniform => vk::DescriptorType::UNIFORM_BUFFER,
                _ => vk::DescriptorType::STORAGE_BUFFER,
            };
            vk::DescriptorSetLayoutBinding::default()
                .binding(binding)
                .descriptor_count(1)
                .descriptor_type(ty)
                .stage_flags(vk::ShaderStageFlags::COMPUTE)
        };
        let bindings: Vec<_> = bindings.iter().map(binding).collect();
        let name = CString::new(Kernel::ENTRY_POINT)?;
        let mut flags = vk::PipelineCreateFlags::CAPTURE_STATISTICS_KHR;
        if assembly {
            flags |= vk::PipelineCreateFlags::CAPTURE_INTERNAL_REPRESENTATIONS_KHR;
        }
        // SAFETY: plain calls on objects of this device. Structures outlive the calls, and each object those made from
        // it.
        unsafe {
            let module =
                self.device.create_shader_module(&vk::ShaderModuleCreateInfo::default().code(code), None)?;
            let set = vk::DescriptorSetLayoutCreateInfo::default().bindings(&bindings);
            let sets = [self.device.create_descriptor_set_layout(&set, None)?];
            let layout = vk::PipelineLayoutCreateInfo::default().set_layouts(&sets);
            let layout = self.device.create_pipeline_layout(&layout, None)?;
            let stage = vk::PipelineShaderStageCreateInfo::default()
                .stage(vk::ShaderStageFlags::COMPUTE)
                .module(module)
                .name(&name);
            let info = vk::ComputePipelineCreateInfo::default().flags(flags).stage(stage).layout(layout);
            let begin = Instant::now();
            let created = self.device.create_compute_pipelines(vk::PipelineCache::null(), &[info], None);
            let time = begin.elapsed();
            let pipeline = created.map_err(|(_, error)| error)?[0];
            let compiled = self.report(pipeline, time, assembly);
            self.device.destroy_pipeline(pipeline, None);
            self.device.destroy_pipeline_layout(layout, None);
            self.device.destroy_descriptor_set_layout(sets[0], None);
            self.device.destroy_shader_module(module, None);
            compiled
        }
    }

    /// Asks for what the driver tells of a compute pipeline.
    ///
    /// # Safety
    /// The pipeline is one of this device, created with the flags that capture what is asked for.
    unsafe fn report(&self, pipeline: vk::Pipeline, time: Duration, assembly: bool) -> Result<Compiled> {
        let info = vk::PipelineInfoKHR::default().pipeline(pipeline);
        let executable = vk::PipelineExecutableInfoKHR::default().pipeline(pipeline);
        // SAFETY: the caller's promise. A compute pipeline has an executable 0, and each statistic its number in
        // the format that it names.
        unsafe {
            let executables = self.executables.get_pipeline_executable_properties(&info)?;
            let subgroup_size = executables.first().ok_or("a pipeline without executables")?.subgroup_size;
            let mut statistics = BTreeMap::new();
            for statistic in self.executables.get_pipeline_executable_statistics(&executable)? {
                let value = match statistic.format {
                    vk::PipelineExecutableStatisticFormatKHR::FLOAT64 => {
                        Statistic::Float(statistic.value.f64)
                    }
                    _ => Statistic::Whole(statistic.value.u64),
                };
                statistics.insert(text(&statistic.name), value);
            }
            let assembly = if assembly { Some(self.assembly(&executable)?) } else { None };
            Ok(Compiled { time, subgroup_size, statistics, assembly })
        }
    }

    /// Asks for the instructions of an executable.
    ///
    /// # Safety
    /// The executable is of a pipeline of this device, which was created with its representations captured.
    unsafe fn assembly(&self, executable: &vk::PipelineExecutableInfoKHR<'_>) -> Result<String> {
        let get = self.executables.fp().get_pipeline_executable_internal_representations_khr;
        let mut count = 0;
        // SAFETY: the caller's promise. The first call asks for the number of representations, the second for their
        // names and sizes, the third for their texts, each into memory of that size.
        unsafe {
            let handle = self.device.handle();
            get(handle, executable, &mut count, std::ptr::null_mut()).result()?;
            let mut found = vec![vk::PipelineExecutableInternalRepresentationKHR::default(); count as usize];
            get(handle, executable, &mut count, found.as_mut_ptr()).result()?;
            let mut texts: Vec<Vec<u8>> =
                found.iter().map(|representation| vec![0; representation.data_size]).collect();
            for (representation, text) in found.iter_mut().zip(&mut texts) {
                representation.p_data = text.as_mut_ptr().cast();
            }
            get(handle, executable, &mut count, found.as_mut_ptr()).result()?;
            let of_name = |wanted: &str| found.iter().position(|one| text(&one.name) == wanted);
            let names: Vec<_> = found.iter().map(|one| text(&one.name)).collect();
            let at = of_name("Assembly").ok_or_else(|| format!("no assembly, only {names:?}"))?;
            Ok(CStr::from_bytes_until_nul(&texts[at])?.to_string_lossy().into_owned())
        }
    }
}

/// Returns a name that ends with a zero.
fn text(name: &[c_char]) -> String {
    let bytes = name.iter().map(|&byte| byte as u8).take_while(|&byte| byte != 0);
    String::from_utf8_lossy(&bytes.collect::<Vec<u8>>()).into_owned()
}
