//! Faults that are known, and let pass.

use super::chip::Chip;
use super::figures::Fault;
use super::subject::visits;
use wgpu_batchnorm::kernels::Kernel;

/// Faults that are known, of kernels that keep whole channels in registers.
struct Known {
    architectures: &'static [&'static str],
    kernel: &'static str,
    /// How the kernels visit the tensors.
    visits: &'static [&'static str],
    workgroup_size: u32,
    /// As bad as the faults may be.
    worst: &'static [Fault],
    reason: &'static str,
}

/// What Mesa 22.3 is known to do. An entry is to go as soon as the plans or the shaders do better.
const KNOWN: &[Known] = &[Known {
    architectures: &["GCN", "RDNA2", "RDNA3"],
    kernel: "backward_resident",
    visits: &["planes by 1, tile of 8", "column blocks by 1, tile of 8"],
    workgroup_size: 256,
    worst: &[Fault::Loads { loads: 15, of: 16 }],
    reason: "plans for unaligned bf16 with residual load 24 words one by one, and some wait for the first",
}];

/// Returns why a fault of a kernel is let pass, if it is.
pub(super) fn reason(chip: &Chip, kernel: &Kernel, fault: &Fault) -> Option<&'static str> {
    let is_it = |known: &&Known| {
        known.architectures.contains(&chip.architecture)
            && known.kernel == kernel.stem()
            && known.workgroup_size == kernel.workgroup_size()
            && known.visits.contains(&visits(kernel).as_str())
            && known.worst.iter().any(|worst| fault.is_within(worst))
    };
    KNOWN.iter().find(is_it).map(|known| known.reason)
}
