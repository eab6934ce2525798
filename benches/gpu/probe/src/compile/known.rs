//! Faults that are known, and let pass.

use super::chip::Chip;
use super::figures::Fault;
use super::subject::visits;
use wgpu_batchnorm::kernels::Kernel;

/// Faults that are known, of kernels that keep whole channels in registers.
struct Known {
    architectures: &'static [&'static str],
    kernel: &'static str,
    /// How the kernel visits the tensors.
    visits: &'static str,
    workgroup_size: u32,
    /// As bad as the faults may be.
    worst: &'static [Fault],
    reason: &'static str,
}

const LITTLE_ROOM: &str =
    "a tile of half the processor's registers leaves no room for the rest of the kernel";
const UNALIGNED: &str =
    "plans for unaligned tensors have a load for each element, and up to 1,024 invocations";

/// What Mesa 22.3 is known to do. An entry is to go as soon as the plans or the shaders do better.
const KNOWN: &[Known] = &[
    Known {
        architectures: &["GCN"],
        kernel: "forward_resident",
        visits: "planes, tile of 16 × 4",
        workgroup_size: 512,
        worst: &[Fault::Alone { workgroups: 1, registers: 100 }],
        reason: LITTLE_ROOM,
    },
    Known {
        architectures: &["GCN"],
        kernel: "backward_resident",
        visits: "columns, tile of 8 × 4",
        workgroup_size: 256,
        worst: &[Fault::Alone { workgroups: 1, registers: 168 }],
        reason: LITTLE_ROOM,
    },
    Known {
        architectures: &["GCN"],
        kernel: "backward_resident",
        visits: "columns, tile of 16 × 4",
        workgroup_size: 256,
        worst: &[Fault::Alone { workgroups: 1, registers: 256 }],
        reason: LITTLE_ROOM,
    },
    Known {
        architectures: &["GCN"],
        kernel: "backward_resident",
        visits: "planes, tile of 16 × 1",
        workgroup_size: 512,
        worst: &[Fault::Alone { workgroups: 1, registers: 92 }, Fault::Loads { loads: 22, of: 32 }],
        reason: UNALIGNED,
    },
    Known {
        architectures: &["GCN"],
        kernel: "backward_resident",
        visits: "columns, tile of 16 × 1",
        workgroup_size: 512,
        worst: &[Fault::Alone { workgroups: 1, registers: 96 }, Fault::Loads { loads: 27, of: 32 }],
        reason: UNALIGNED,
    },
    Known {
        architectures: &["GCN"],
        kernel: "backward_resident",
        visits: "columns, tile of 16 × 1",
        workgroup_size: 1024,
        worst: &[Fault::Spilled { registers: 13, scratch: 4096 }, Fault::Loads { loads: 24, of: 32 }],
        reason: UNALIGNED,
    },
    Known {
        architectures: &["RDNA2", "RDNA3"],
        kernel: "backward_resident",
        visits: "planes, tile of 16 × 1",
        workgroup_size: 512,
        worst: &[Fault::Loads { loads: 25, of: 32 }],
        reason: UNALIGNED,
    },
    Known {
        architectures: &["RDNA2", "RDNA3"],
        kernel: "backward_resident",
        visits: "columns, tile of 16 × 1",
        workgroup_size: 512,
        worst: &[Fault::Loads { loads: 31, of: 32 }],
        reason: UNALIGNED,
    },
    Known {
        architectures: &["RDNA2", "RDNA3"],
        kernel: "backward_resident",
        visits: "columns, tile of 16 × 1",
        workgroup_size: 1024,
        worst: &[Fault::Loads { loads: 31, of: 32 }],
        reason: UNALIGNED,
    },
];

/// Returns why a fault of a kernel is let pass, if it is.
pub(super) fn reason(chip: &Chip, kernel: &Kernel, fault: &Fault) -> Option<&'static str> {
    let is_it = |known: &&Known| {
        known.architectures.contains(&chip.architecture)
            && known.kernel == kernel.stem()
            && known.workgroup_size == kernel.workgroup_size()
            && known.visits == visits(kernel)
            && known.worst.iter().any(|worst| fault.is_within(worst))
    };
    KNOWN.iter().find(is_it).map(|known| known.reason)
}
