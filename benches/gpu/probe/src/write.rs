//! Writes kernels as the compilers of DX12 and Metal get them: naga's text, with the options of wgpu's backends.

use crate::Result;
use crate::job::{Options, Planned, both_ways};
use naga::back::{hlsl, msl};
use naga::proc::{BoundsCheckPolicies, BoundsCheckPolicy};
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use naga::{Module, ResourceBinding, ShaderStage};
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use wgpu_batchnorm::kernels::{Access, Kernel};
use wgpu_batchnorm::verify::table;
use wgpu_batchnorm::wgpu::{AdapterInfo, Backend, DeviceType, Features, Limits};
use wgpu_batchnorm::{AdapterProfile, Error, internals};

/// The language that kernels are written in.
#[derive(Clone, Copy, PartialEq)]
enum Language {
    /// For FXC, which wgpu uses if DXC is missing. It has neither subgroups nor f16.
    Hlsl51,
    /// For DXC.
    Hlsl62,
    /// For Metal.
    Msl,
}

/// Takes `LANGUAGE FOLDER pairs|all`, and shapes. Writes a file for each kernel, and `list` with a line for each:
/// the file's name, the entry point's name, and `f16` if the device has 16-bit types, else `f32`.
///
/// With `pairs`, writes only few of the planned kernels. If two shader files, each with its case, meet in a planned
/// kernel, they also meet in a written one. With `all`, writes all planned kernels and every variant of each.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let [language, folder, which, shapes @ ..] = args else {
        return Err("which language, which folder, and pairs or all of which shapes?".into());
    };
    let (language, extension) = match language.as_str() {
        "hlsl-5.1" => (Language::Hlsl51, "hlsl"),
        "hlsl-6.2" => (Language::Hlsl62, "hlsl"),
        "msl" => (Language::Msl, "metal"),
        _ => return Err(format!("{language} is none of hlsl-5.1, hlsl-6.2 and msl").into()),
    };
    let mut kernels = planned(language, &Options::parse(shapes)?)?;
    match which.as_str() {
        "pairs" => kernels = few(kernels),
        "all" => kernels.extend(every_variant(language)),
        _ => return Err(format!("{which} is neither pairs nor all").into()),
    }
    let folder = PathBuf::from(folder);
    std::fs::create_dir_all(&folder)?;
    let (mut seen, mut list) = (HashSet::new(), String::new());
    for (kernel, has_f16) in kernels {
        let (text, entry) = written(&kernel, language)?;
        // Kernels that only the host tells apart are the same to a compiler.
        if !seen.insert((text.clone(), has_f16)) {
            continue;
        }
        let name = format!("{:04}.{extension}", seen.len());
        let about =
            format!("{}, workgroups of {}{}", kernel.stem(), kernel.workgroup_size(), kernel.variant());
        std::fs::write(folder.join(&name), format!("// {about}\n{text}"))?;
        list += &format!("{name} {entry} {}\n", if has_f16 { "f16" } else { "f32" });
    }
    std::fs::write(folder.join("list"), list)?;
    println!("{}", seen.len());
    Ok(())
}

/// Returns few of the kernels. If two shader files meet in any of `kernels`, they also meet in one of these. Covers
/// kernels with and without 16-bit types separately.
fn few(kernels: Vec<(Kernel, bool)>) -> Vec<(Kernel, bool)> {
    let (with, without): (Vec<_>, Vec<_>) = kernels.into_iter().partition(|(_, has_f16)| *has_f16);
    let cover = |kernels: Vec<(Kernel, bool)>| {
        internals::covering_pairs(kernels.into_iter().map(|item| (item, vec![item.0])))
    };
    [cover(with), cover(without)].concat()
}

/// Returns adapters of a kind as wgpu would describe them: with all that they have, and with wgpu's default limits.
fn profiles(language: Language) -> Vec<AdapterProfile> {
    let both = Features::SUBGROUP | Features::SHADER_F16;
    // Type, and smallest and largest subgroup.
    let nvidia = (DeviceType::DiscreteGpu, (32, 32));
    let amd = (DeviceType::DiscreteGpu, (32, 64));
    let intel = (DeviceType::IntegratedGpu, (8, 32));
    let warp = (DeviceType::Cpu, (4, 4));
    let apple = (DeviceType::IntegratedGpu, (4, 64));
    let (backend, kinds) = match language {
        // The driver reports wave sizes with either compiler.
        Language::Hlsl51 => (
            Backend::Dx12,
            vec![(nvidia, Features::empty()), (intel, Features::empty()), (warp, Features::empty())],
        ),
        Language::Hlsl62 => (
            Backend::Dx12,
            vec![(nvidia, both), (nvidia, Features::SUBGROUP), (amd, both), (intel, both), (warp, both)],
        ),
        Language::Msl => (Backend::Metal, vec![(apple, both), (apple, Features::SHADER_F16), (amd, both)]),
    };
    let all = Limits {
        max_compute_invocations_per_workgroup: 1024,
        max_compute_workgroup_size_x: 1024,
        max_compute_workgroup_storage_size: 32 << 10,
        max_storage_buffers_per_shader_stage: 31,
        max_storage_buffer_binding_size: (1 << 31) - 4,
        max_buffer_size: (1 << 31) - 4,
        ..Limits::default()
    };
    let profile = |&((device_type, (smallest, largest)), features): &((DeviceType, (u32, u32)), Features),
                   limits: &Limits| {
        let mut info = AdapterInfo::new(device_type, backend);
        (info.subgroup_min_size, info.subgroup_max_size) = (smallest, largest);
        AdapterProfile::new(&info, features, limits.clone())
    };
    // Default limits once for each kind are enough: features change other kernels than limits do.
    kinds.iter().flat_map(|kind| [&all, &Limits::default()].map(|limits| profile(kind, limits))).collect()
}

/// Returns the kernels in the plans of all profiles, each with whether the device has 16-bit types. Plans the
/// shapes in every type, plain and with ReLU of a sum, and the cases of `verify`. Plans each in place, too.
fn planned(language: Language, options: &Options) -> Result<Vec<(Kernel, bool)>> {
    let (mut kernels, mut seen, mut plans) = (Vec::new(), HashSet::new(), 0);
    for profile in profiles(language) {
        let has_f16 = profile.features.contains(Features::SHADER_F16);
        let mut add = |plan: Planned| match plan {
            Ok(plan) => {
                plans += 1;
                let new = plan.kernels().into_iter().filter(|&kernel| seen.insert((kernel, has_f16)));
                kernels.extend(new.map(|kernel| (kernel, has_f16)));
                Ok(())
            }
            // This device refuses this shape.
            Err(Error::BindingTooLarge { .. } | Error::Limit { .. }) => Ok(()),
            Err(error) => Err(error),
        };
        options.plan_all(&profile, &[false, true], &mut add)?;
        for case in table() {
            let shape = (case.shape.as_slice(), case.config.layout);
            let (config, kind) = (&case.config, (case.dtype, case.residual));
            both_ways(&profile, config, shape, case.training, kind, &[false, true], &mut add)?;
        }
    }
    eprintln!("probe: {plans} plans");
    Ok(kernels)
}

/// Returns every variant of every kernel, for workgroups and subgroups of several sizes. For FXC, leaves out
/// kernels with subgroups or f16, and those that keep more loads than any plan does there.
fn every_variant(language: Language) -> Vec<(Kernel, bool)> {
    let sizes = [(4, (4, 4)), (8, (8, 8)), (128, (8, 32)), (256, (4, 128))];
    let (mut kernels, mut seen) = (Vec::new(), HashSet::new());
    for (size, subgroups) in sizes {
        for kernel in internals::every_variant(size, subgroups) {
            let loads = match kernel {
                Kernel::ForwardResident(kernel) => kernel.tile.loads,
                Kernel::BackwardResident(kernel) => kernel.tile.loads,
                _ => 0,
            };
            let needs_more = kernel.uses_subgroups() || kernel.uses_f16() || loads > 32;
            if !(language == Language::Hlsl51 && needs_more) && seen.insert(kernel) {
                kernels.push((kernel, language != Language::Hlsl51));
            }
        }
    }
    kernels
}

/// Returns the text, and the name of the entry point in it.
fn written(kernel: &Kernel, language: Language) -> Result<(String, String)> {
    let wgsl = kernel.wgsl();
    let module = naga::front::wgsl::parse_str(&wgsl).map_err(|error| error.emit_to_string(&wgsl))?;
    let mut validator = Validator::new(ValidationFlags::all(), Capabilities::all());
    let info = validator.validate(&module).map_err(|error| error.emit_to_string(&wgsl))?;
    match language {
        Language::Hlsl51 => written_hlsl(kernel, &module, &info, hlsl::ShaderModel::V5_1),
        Language::Hlsl62 => written_hlsl(kernel, &module, &info, hlsl::ShaderModel::V6_2),
        Language::Msl => written_msl(kernel, &module, &info),
    }
}

/// Returns the kernel's bindings in the order of their numbers.
fn bindings(kernel: &Kernel) -> impl Iterator<Item = (ResourceBinding, Access)> {
    let mut bindings = kernel.bindings();
    bindings.sort_by_key(|(binding, _)| *binding);
    bindings
        .into_iter()
        .map(|(binding, access)| (ResourceBinding { group: 0, binding: binding as u32 }, access))
}

/// Writes HLSL as `wgpu_hal::dx12` does: registers by kind, and every index and loop bounded.
fn written_hlsl(
    kernel: &Kernel,
    module: &Module,
    info: &ModuleInfo,
    shader_model: hlsl::ShaderModel,
) -> Result<(String, String)> {
    let target = |register| hlsl::BindTarget { space: 0, register, ..Default::default() };
    let mut binding_map = hlsl::BindingMap::default();
    // Registers taken of each kind.
    let mut taken: HashMap<Access, u32> = HashMap::new();
    for (binding, access) in bindings(kernel) {
        let register = taken.entry(access).or_default();
        binding_map.insert(binding, target(*register));
        *register += 1;
    }
    let options = hlsl::Options {
        shader_model,
        binding_map,
        fake_missing_bindings: false,
        special_constants_binding: Some(target(taken.get(&Access::Uniform).copied().unwrap_or_default())),
        zero_initialize_workgroup_memory: false,
        restrict_indexing: true,
        force_loop_bounding: true,
        ..Default::default()
    };
    let entry_point = Some((ShaderStage::Compute, Kernel::ENTRY_POINT.to_owned()));
    let pipeline = hlsl::PipelineOptions { entry_point };
    let mut text = String::new();
    let reflection = hlsl::Writer::new(&mut text, &options, &pipeline).write(module, info, None)?;
    let entry = reflection.entry_point_names.into_iter().next().ok_or("no entry point")??;
    Ok((text, entry))
}

/// Writes MSL as `wgpu_hal::metal` does: slots in the order of the bindings, and every index and loop bounded.
fn written_msl(kernel: &Kernel, module: &Module, info: &ModuleInfo) -> Result<(String, String)> {
    let mut resources = msl::BindingMap::new();
    for (slot, (binding, access)) in (0u8..).zip(bindings(kernel)) {
        let target = msl::BindTarget {
            buffer: Some(slot),
            mutable: access == Access::ReadWrite,
            ..Default::default()
        };
        resources.insert(binding, target);
    }
    let sizes_buffer = Some(resources.len() as u8);
    let resources = msl::EntryPointResources { resources, immediates_buffer: None, sizes_buffer };
    let restrict = BoundsCheckPolicy::Restrict;
    let options = msl::Options {
        lang_version: (2, 4),
        per_entry_point_map: [(Kernel::ENTRY_POINT.to_owned(), resources)].into(),
        fake_missing_bindings: false,
        bounds_check_policies: BoundsCheckPolicies {
            index: restrict,
            buffer: restrict,
            image_load: restrict,
            binding_array: BoundsCheckPolicy::Unchecked,
        },
        zero_initialize_workgroup_memory: false,
        force_loop_bounding: true,
        ..Default::default()
    };
    let entry_point = Some((ShaderStage::Compute, Kernel::ENTRY_POINT.to_owned()));
    let pipeline = msl::PipelineOptions { entry_point, ..Default::default() };
    let (text, translation) = msl::write_string(module, info, &options, &pipeline)?;
    let entry = translation.entry_point_names.into_iter().next().ok_or("no entry point")??;
    Ok((text, entry))
}
