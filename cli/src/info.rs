//! `info`: lists the adapters of this machine, and what the crate uses of them.

use crate::Outcome;
use crate::adapter::{self, Common};
use crate::error::{Result, line};
use crate::report::Format;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::io::Write;
use wgpu_batchnorm::kernels::Kernel;
use wgpu_batchnorm::wgpu::{Backend, Features};
use wgpu_batchnorm::{
    AdapterProfile, BackwardOptions, BatchNormConfig, DType, ForwardOptions, Gpu, Layout, Mode, Plan,
    PlanInput, Problem,
};

/// List the adapters of this machine, and what is used of them
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    format: Format,
}

impl Args {
    pub(crate) fn new(json: bool) -> Self {
        Self { format: Format { json } }
    }
}

pub(crate) fn info(args: &Args, common: &Common, out: &mut impl Write) -> Result<Outcome> {
    let adapters = Gpu::adapters(None);
    // Only opening the adapter shows which one is taken, and whether it opens.
    let taken = match common.backend {
        adapter::Backend::Reference => None,
        adapter::Backend::Gpu | adapter::Backend::Auto => Some(Gpu::with_options(&common.gpu_options())),
    };
    let is_taken = |profile: &AdapterProfile| {
        taken.as_ref().is_some_and(|gpu| gpu.as_ref().is_ok_and(|gpu| is_same(gpu.profile(), profile)))
    };
    // If several adapters are alike, the first is taken.
    let position = adapters.iter().position(is_taken);
    let mark = if common.adapter.is_some() { "  [taken]" } else { "  [taken by default]" };
    let list = adapters.iter().enumerate().map(|(k, profile)| (profile, Some(k) == position));
    if args.format.json {
        let adapters: Vec<Value> = list.map(|(profile, taken)| json_of(profile, taken)).collect();
        writeln!(out, "{:#}", json!({ "adapters": adapters }))?;
    } else {
        let texts: Vec<String> =
            list.map(|(profile, taken)| text_of(profile, if taken { mark } else { "" })).collect();
        out.write_all(texts.join("\n").as_bytes())?;
        if common.backend == adapter::Backend::Reference {
            writeln!(out, "\n--backend reference computes on the CPU, with none of these")?;
        }
    }
    taken.transpose()?;
    Ok(Outcome::Right)
}

fn is_same(one: &AdapterProfile, other: &AdapterProfile) -> bool {
    let key = |profile: &AdapterProfile| {
        (profile.name.clone(), profile.driver.clone(), profile.backend, profile.device_type)
    };
    key(one) == key(other)
}

/// Returns the language of the kernels for this adapter, and its compiler. wgpu does not report the shader model of
/// DX12, but it offers f16 from 6.2 on.
fn compiler(profile: &AdapterProfile) -> &'static str {
    match profile.backend {
        Backend::Vulkan => "SPIR-V, by the driver",
        Backend::Metal => "MSL, by Metal",
        Backend::Dx12 if profile.is_fxc() => {
            "HLSL, shader model 5.1, by FXC: ship dxcompiler.dll for subgroups and f16"
        }
        Backend::Dx12 if profile.features.contains(Features::SHADER_F16) => {
            "HLSL, shader model 6.2 or later, by DXC"
        }
        Backend::Dx12 => "HLSL, shader model 6.0 or later, by DXC",
        _ => "by wgpu",
    }
}

/// Returns the kernels that are planned for batches of several kinds.
fn kernels(profile: &AdapterProfile, dtype: DType) -> wgpu_batchnorm::Result<Vec<Kernel>> {
    let shapes: [&[usize]; 4] = [&[8, 64, 112, 112], &[32, 512, 7, 7], &[2, 3, 511, 513], &[4096, 1024]];
    let mut kernels = Vec::new();
    for shape in shapes {
        let config = BatchNormConfig::new(shape[1]);
        let problem = Problem::new(shape, Layout::ChannelsFirst)?;
        let input = PlanInput::new(&problem, &config, Mode::Train, profile);
        kernels.extend(Plan::forward(&input, &ForwardOptions::new().dtype(dtype))?.kernels());
        kernels.extend(Plan::backward(&input, &BackwardOptions::new().dtype(dtype))?.kernels());
    }
    Ok(kernels)
}

/// Says how lanes share a channel's sum in these plans.
fn reductions(profile: &AdapterProfile) -> String {
    match kernels(profile, DType::F32) {
        Ok(kernels) if kernels.iter().any(Kernel::uses_subgroups) => "subgroups".to_owned(),
        Ok(_) => "workgroup memory".to_owned(),
        Err(error) => format!("nothing: {}", line(&error)),
    }
}

/// Says how f16 tensors are read and written in these plans.
fn half_precision(profile: &AdapterProfile) -> String {
    match kernels(profile, DType::F16) {
        Ok(kernels) => {
            let native = kernels.iter().filter(|kernel| kernel.uses_f16()).count();
            match (native, kernels.len() - native) {
                (0, _) => "as words of two".to_owned(),
                (_, _) if profile.is_cpu() => "as f16 one by one, as words of two at a time".to_owned(),
                _ => "as f16".to_owned(),
            }
        }
        Err(error) => format!("not at all: {}", line(&error)),
    }
}

/// Returns the bytes of the largest tensor that can be bound, limited by the range of indices.
fn largest_tensor(profile: &AdapterProfile) -> u64 {
    let limits = &profile.limits;
    let bytes = limits.max_storage_buffer_binding_size.min(limits.max_buffer_size);
    bytes.min(Problem::MAX_ELEMENTS as u64 * 4) / 4 * 4
}

/// Returns the features that the crate asks for: name, and whether the adapter has it.
fn features(profile: &AdapterProfile) -> [(&'static str, bool); 3] {
    let features = [
        ("subgroups", Features::SUBGROUP),
        ("f16", Features::SHADER_F16),
        ("timestamps", Features::TIMESTAMP_QUERY),
    ];
    features.map(|(name, feature)| (name, profile.features.contains(feature)))
}

fn text_of(profile: &AdapterProfile, mark: &str) -> String {
    let limits = &profile.limits;
    let mut text = format!("{}{mark}", profile.name);
    let features: Vec<String> = features(profile)
        .into_iter()
        .map(|(name, there)| if there { name.to_owned() } else { format!("no {name}") })
        .collect();
    let largest = largest_tensor(profile);
    let lines = [
        ("driver", profile.driver.clone()),
        ("backend", format!("{:?}", profile.backend)),
        ("device type", format!("{:?}", profile.device_type)),
        ("subgroup size", format!("{} to {}", profile.subgroup_min_size, profile.subgroup_max_size)),
        (
            "workgroup",
            format!(
                "{} invocations, {} of memory",
                limits.max_compute_invocations_per_workgroup,
                size(u64::from(limits.max_compute_workgroup_storage_size))
            ),
        ),
        ("storage binding", size(limits.max_storage_buffer_binding_size)),
        ("buffer", size(limits.max_buffer_size)),
        ("offset alignment", format!("{} bytes", limits.min_storage_buffer_offset_alignment)),
        ("features", features.join(", ")),
        ("shaders", compiler(profile).to_owned()),
        ("reductions by", reductions(profile)),
        ("f16 tensors", half_precision(profile)),
        ("largest tensor", format!("{}, {} values of f32", size(largest), largest / 4)),
        ("hardware", profile.hardware.to_string()),
    ];
    text.push('\n');
    for (name, value) in lines {
        let _ = writeln!(text, "  {name:<17} {value}");
    }
    text
}

fn json_of(profile: &AdapterProfile, taken: bool) -> Value {
    let limits = &profile.limits;
    let features: serde_json::Map<String, Value> =
        features(profile).into_iter().map(|(name, there)| (name.to_owned(), there.into())).collect();
    json!({
        "name": profile.name,
        "driver": profile.driver,
        "backend": format!("{:?}", profile.backend),
        "device_type": format!("{:?}", profile.device_type),
        "taken": taken,
        "subgroup_min_size": profile.subgroup_min_size,
        "subgroup_max_size": profile.subgroup_max_size,
        "max_compute_invocations_per_workgroup": limits.max_compute_invocations_per_workgroup,
        "max_compute_workgroup_storage_size": limits.max_compute_workgroup_storage_size,
        "max_storage_buffer_binding_size": limits.max_storage_buffer_binding_size,
        "max_buffer_size": limits.max_buffer_size,
        "min_storage_buffer_offset_alignment": limits.min_storage_buffer_offset_alignment,
        "features": features,
        "shaders": compiler(profile),
        "reductions_by": reductions(profile),
        "f16_tensors": half_precision(profile),
        "largest_tensor_bytes": largest_tensor(profile),
        "processors": profile.hardware.processors,
        "registers_of_processor": profile.hardware.registers,
        "cache_bytes": profile.hardware.cache,
        "bytes_per_second": profile.hardware.bandwidth,
        "hardware_from": format!("{:?}", profile.hardware.source),
    })
}

/// Formats bytes in the largest unit that gives at least 1.
fn size(bytes: u64) -> String {
    let units = ["bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let unit = bytes.max(1).ilog2() as usize / 10;
    let value = bytes as f64 / (1u64 << (10 * unit)) as f64;
    if value == value.round() {
        format!("{value} {}", units[unit])
    } else {
        format!("{value:.2} {}", units[unit])
    }
}

#[cfg(test)]
mod tests {
    use super::{compiler, half_precision, reductions, size};
    use wgpu_batchnorm::AdapterProfile;
    use wgpu_batchnorm::wgpu::{AdapterInfo, Backend, DeviceType, Features, Limits};

    fn profile(backend: Backend, features: Features) -> AdapterProfile {
        let mut info = AdapterInfo::new(DeviceType::DiscreteGpu, backend);
        (info.subgroup_min_size, info.subgroup_max_size) = (32, 32);
        AdapterProfile::new(&info, features, Limits::default())
    }

    #[test]
    fn what_is_used_follows_from_the_features() {
        let (none, subgroups, f16) = (Features::empty(), Features::SUBGROUP, Features::SHADER_F16);
        let fxc = "HLSL, shader model 5.1, by FXC: ship dxcompiler.dll for subgroups and f16";
        let memory = ("workgroup memory", "as words of two");
        for (backend, features, shaders, (sums, half)) in [
            (Backend::Dx12, none, fxc, memory),
            (Backend::Dx12, Features::SHADER_INT64, "HLSL, shader model 6.0 or later, by DXC", memory),
            (
                Backend::Dx12,
                subgroups,
                "HLSL, shader model 6.0 or later, by DXC",
                ("subgroups", "as words of two"),
            ),
            (
                Backend::Dx12,
                subgroups | f16,
                "HLSL, shader model 6.2 or later, by DXC",
                ("subgroups", "as f16"),
            ),
            (Backend::Metal, subgroups | f16, "MSL, by Metal", ("subgroups", "as f16")),
            (Backend::Vulkan, f16, "SPIR-V, by the driver", ("workgroup memory", "as f16")),
        ] {
            let profile = profile(backend, features);
            assert_eq!(compiler(&profile), shaders, "{features:?}");
            assert_eq!(reductions(&profile), sums, "{features:?}");
            assert_eq!(half_precision(&profile), half, "{features:?}");
        }
    }

    #[test]
    fn limits_that_are_too_low_are_told() {
        let mut profile = profile(Backend::Vulkan, Features::SUBGROUP);
        profile.limits.max_storage_buffer_binding_size = 1000;
        let told = reductions(&profile);
        assert!(told.starts_with("nothing: ") && told.contains("1000"), "{told}");
    }

    #[test]
    fn sizes() {
        let sizes = [(0, "0 bytes"), (1023, "1023 bytes"), (16 << 10, "16 KiB"), (128 << 20, "128 MiB")];
        for (bytes, text) in sizes {
            assert_eq!(size(bytes), text);
        }
        assert_eq!(size(3 << 9), "1.50 KiB");
        assert_eq!(size(u64::MAX), "16 EiB");
    }
}
