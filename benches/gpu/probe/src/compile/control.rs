//! Shaders that show whether the checks tell good ones from bad ones.

use super::chip::Chip;
use super::figures::Fault;
use super::subject::{Kept, Subject};
use crate::Result;
use crate::device::Device;
use wgpu_batchnorm::kernels::Access;

/// Returns a shader with `loads` loads, each of which `each` makes of the number of its value, and with one value that
/// is made of all.
fn control(loads: u32, each: impl Fn(u32) -> String, result: &str) -> Subject {
    let body: String = (0..loads).map(each).collect();
    Subject {
        name: "a control".to_owned(),
        wgsl: format!(
            "@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
            @group(0) @binding(1) var<storage, read_write> y: array<vec4<f32>>;
            @compute @workgroup_size(256) fn main(@builtin(global_invocation_id) id: vec3<u32>) {{
                var k = id.x;
                {body}
                y[id.x] = {result};
            }}"
        ),
        bindings: vec![(0, Access::Read), (1, Access::ReadWrite)],
        workgroup_size: 256,
        kept: Some(Kept { bindings: vec![0], loads, counts_on_two: true }),
    }
}

/// Checks that the checks tell good shaders from bad ones.
pub(super) fn check(device: &Device, chip: &Chip) -> Result<()> {
    let product = (0..12).map(|k| format!("v{k}")).collect::<Vec<_>>().join(" * ");
    let together = control(12, |k| format!("let v{k} = x[k]; k += 4096u;"), &product);
    let one_by_one = control(12, |k| format!("let v{k} = x[k]; k += u32(v{k}.x);"), &product);
    let mut in_memory = control(
        1,
        |_| "var kept: array<vec4<f32>, 64>; for (; k < 64u; k++) { kept[k] = x[k]; }".to_owned(),
        "kept[u32(kept[0].x) % 64u]",
    );
    in_memory.kept = None;
    for (shader, is_right) in [
        (together, (|faults| faults.is_empty()) as fn(&[Fault]) -> bool),
        (one_by_one, |faults| faults == [Fault::Loads { loads: 1, of: 12 }]),
        (in_memory, |faults| matches!(faults, [Fault::Spilled { scratch: 1.., .. }])),
    ] {
        let faults = shader.compile(device, chip)?.faults(&shader);
        if !is_right(&faults) {
            return Err(format!("the check is broken: it finds {faults:?} in\n{}", shader.wgsl).into());
        }
    }
    Ok(())
}

/// Returns how many registers the compiler has, if it spills those of a shader that needs no more than 200.
pub(super) fn most_registers(device: &Device, chip: &Chip) -> Result<Option<u32>> {
    let loads = 48;
    // Each value is needed twice, in both orders.
    let values = |order: &mut dyn Iterator<Item = u32>| {
        order.map(|k| format!("v{k} * (y[2] - ")).collect::<String>() + "y[3]" + &")".repeat(loads as usize)
    };
    let result = format!("{} * {}", values(&mut (0..loads)), values(&mut (0..loads).rev()));
    let shader = control(loads, |k| format!("let v{k} = x[k]; k += 4096u;"), &result);
    let figures = shader.compile(device, chip)?;
    Ok((figures.spilled > 0).then_some(figures.registers))
}
