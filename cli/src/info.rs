//! `info`: the adapters of this machine, and what the crate uses of them.

use crate::Outcome;
use crate::adapter::{Backend, Common};
use crate::error::Result;
use crate::report::Format;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::io::Write;
use wgpu_batchnorm::kernels::{Kernel, Lanes};
use wgpu_batchnorm::wgpu::Features;
use wgpu_batchnorm::{AdapterProfile, BatchNormConfig, ForwardOptions, Gpu, Layout, Plan, Problem};

/// List the adapters of this machine, and what is used of them
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    format: Format,
}

pub(crate) fn info(args: &Args, common: &Common, out: &mut impl Write) -> Result<Outcome> {
    let adapters = Gpu::adapters(None);
    // Opening it is the only honest way to know which one is taken, and that it opens.
    let taken = match common.backend {
        Backend::Reference => None,
        Backend::Gpu | Backend::Auto => Some(Gpu::with_options(&common.gpu_options())),
    };
    let is_taken = |profile: &AdapterProfile| {
        taken.as_ref().is_some_and(|gpu| gpu.as_ref().is_ok_and(|gpu| is_same(gpu.profile(), profile)))
    };
    // Of several alike, the first is taken.
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
        if common.backend == Backend::Reference {
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

/// How lanes share a channel's sum on this adapter, as planned for an ordinary batch.
fn reduction(profile: &AdapterProfile) -> &'static str {
    let config = BatchNormConfig::new(64);
    let plan = Problem::new(&[8, 64, 28, 28], Layout::ChannelsFirst)
        .and_then(|problem| Plan::forward(&problem, &config, true, &ForwardOptions::default(), profile));
    let lanes = plan.ok().and_then(|plan| {
        plan.steps().iter().find_map(|step| match &step.kernel {
            Kernel::Moments(moments) => Some(moments.lanes),
            _ => None,
        })
    });
    match lanes {
        Some(Lanes::Subgroup { .. }) => "subgroups",
        Some(Lanes::Tree { .. }) => "workgroup memory",
        Some(Lanes::Alone) => "none needed",
        None => "none: the adapter's limits are too low",
    }
}

/// Bytes of the largest tensor that can be bound, at most as many as indices reach.
fn largest_tensor(profile: &AdapterProfile) -> u64 {
    let limits = &profile.limits;
    let bytes = limits.max_storage_buffer_binding_size.min(limits.max_buffer_size);
    bytes.min(Problem::MAX_ELEMENTS as u64 * 4) / 4 * 4
}

/// Name and presence of the features that the crate asks for.
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
        ("reductions by", reduction(profile).to_owned()),
        ("largest tensor", format!("{}, {} values of f32", size(largest), largest / 4)),
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
        "reductions_by": reduction(profile),
        "largest_tensor_bytes": largest_tensor(profile),
    })
}

/// Bytes in the largest unit that leaves at least 1.
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
    use super::size;

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
