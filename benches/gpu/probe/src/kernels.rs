//! Prints what the driver reports on the planned kernels, through `VK_KHR_pipeline_executable_properties`. Writes
//! the shaders as wgpu does on a device with robust buffer access.

use crate::Result;
use crate::job::Options;
use ash::vk;
use naga::proc::{BoundsCheckPolicies, BoundsCheckPolicy};
use serde_json::json;
use std::ffi::{CStr, CString};
use wgpu_batchnorm::AdapterProfile;
use wgpu_batchnorm::kernels::{Access, Kernel};

pub(crate) fn run(profile: &AdapterProfile, args: &[String]) -> Result<()> {
    let mut kernels: Vec<Kernel> = Vec::new();
    for job in Options::parse(args)?.jobs() {
        for plan in job.plans(profile)? {
            kernels.extend(plan.steps().iter().map(|step| step.kernel));
        }
    }
    let mut done = Vec::new();
    // SAFETY: plain calls on objects that live to the end of the process, and structures that outlive the calls.
    let device = unsafe { Device::new(&profile.name)? };
    for kernel in kernels.into_iter().filter(|kernel| {
        !done.contains(kernel) && {
            done.push(*kernel);
            true
        }
    }) {
        for checked in [true, false] {
            let code = spirv(&kernel.wgsl(), checked)?;
            // SAFETY: as above.
            let statistics = unsafe { device.statistics(&kernel, &code)? };
            println!(
                "{}",
                json!({
                    "kernel": kernel.stem(), "workgroup": kernel.workgroup_size(), "variant": kernel.variant(),
                    "checked": checked, "statistics": statistics,
                })
            );
        }
    }
    Ok(())
}

fn spirv(wgsl: &str, checked: bool) -> Result<Vec<u32>> {
    let module = naga::front::wgsl::parse_str(wgsl)?;
    let capabilities = naga::valid::Capabilities::all();
    let info =
        naga::valid::Validator::new(naga::valid::ValidationFlags::all(), capabilities).validate(&module)?;
    let unchecked = BoundsCheckPolicy::Unchecked;
    let options = naga::back::spv::Options {
        lang_version: (1, 3),
        flags: naga::back::spv::WriterFlags::empty(),
        bounds_check_policies: BoundsCheckPolicies {
            index: if checked { BoundsCheckPolicy::Restrict } else { unchecked },
            buffer: unchecked,
            image_load: unchecked,
            binding_array: unchecked,
        },
        force_loop_bounding: checked,
        ..Default::default()
    };
    Ok(naga::back::spv::write_vec(&module, &info, &options, None)?)
}

struct Device {
    device: ash::Device,
    executables: ash::khr::pipeline_executable_properties::Device,
}

impl Device {
    unsafe fn new(name: &str) -> Result<Self> {
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
            // Enable every feature of the device.
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

    unsafe fn statistics(&self, kernel: &Kernel, code: &[u32]) -> Result<serde_json::Value> {
        unsafe {
            let module =
                self.device.create_shader_module(&vk::ShaderModuleCreateInfo::default().code(code), None)?;
            let binding = |(binding, access): (wgpu_batchnorm::kernels::Binding, Access)| {
                let ty = match access {
                    Access::Uniform => vk::DescriptorType::UNIFORM_BUFFER,
                    _ => vk::DescriptorType::STORAGE_BUFFER,
                };
                vk::DescriptorSetLayoutBinding::default()
                    .binding(binding as u32)
                    .descriptor_count(1)
                    .descriptor_type(ty)
                    .stage_flags(vk::ShaderStageFlags::COMPUTE)
            };
            let bindings: Vec<_> = kernel.bindings().into_iter().map(binding).collect();
            let set = vk::DescriptorSetLayoutCreateInfo::default().bindings(&bindings);
            let sets = [self.device.create_descriptor_set_layout(&set, None)?];
            let layout = vk::PipelineLayoutCreateInfo::default().set_layouts(&sets);
            let layout = self.device.create_pipeline_layout(&layout, None)?;
            let name = CString::new(Kernel::ENTRY_POINT)?;
            let stage = vk::PipelineShaderStageCreateInfo::default()
                .stage(vk::ShaderStageFlags::COMPUTE)
                .module(module)
                .name(&name);
            let info = vk::ComputePipelineCreateInfo::default()
                .flags(vk::PipelineCreateFlags::CAPTURE_STATISTICS_KHR)
                .stage(stage)
                .layout(layout);
            let created = self.device.create_compute_pipelines(vk::PipelineCache::null(), &[info], None);
            let pipeline = created.map_err(|(_, error)| error)?[0];
            let info = vk::PipelineExecutableInfoKHR::default().pipeline(pipeline);
            let mut found = serde_json::Map::new();
            for statistic in self.executables.get_pipeline_executable_statistics(&info)? {
                let name = CStr::from_ptr(statistic.name.as_ptr()).to_string_lossy().into_owned();
                let value = match statistic.format {
                    vk::PipelineExecutableStatisticFormatKHR::FLOAT64 => json!(statistic.value.f64),
                    _ => json!(statistic.value.u64),
                };
                found.insert(name, value);
            }
            Ok(found.into())
        }
    }
}
