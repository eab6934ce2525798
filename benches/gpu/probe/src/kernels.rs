//! Prints what the driver reports on the planned kernels.

use crate::Result;
use crate::device::{Device, Statistic, bindings, spirv};
use crate::job::Options;
use serde_json::json;
use std::collections::HashSet;
use wgpu_batchnorm::AdapterProfile;
use wgpu_batchnorm::kernels::Kernel;

pub(crate) fn run(profile: &AdapterProfile, args: &[String]) -> Result<()> {
    let mut kernels: Vec<Kernel> = Vec::new();
    for job in Options::parse(args)?.jobs() {
        for plan in job.plans(profile)? {
            kernels.extend(plan.steps().iter().map(|step| step.kernel));
        }
    }
    let mut done = HashSet::new();
    kernels.retain(|kernel| done.insert(*kernel));
    let device = Device::new(&profile.name)?;
    for kernel in kernels {
        for checked in [true, false] {
            let code = spirv(&kernel.wgsl(), checked)?;
            let compiled = device.compile(&bindings(&kernel), &code, false)?;
            let statistics: serde_json::Map<_, _> = compiled
                .statistics
                .into_iter()
                .map(|(name, value)| match value {
                    Statistic::Whole(value) => (name, json!(value)),
                    Statistic::Float(value) => (name, json!(value)),
                })
                .collect();
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
