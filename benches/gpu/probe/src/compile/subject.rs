//! A shader to compile, and what its plan says of it.

use super::chip::Chip;
use super::figures::{Figures, LONGEST};
use crate::Result;
use crate::device::{Device, bindings, spirv};
use wgpu_batchnorm::kernels::{Access, Binding, Kernel, Tile};

/// How often a kernel that took longer is compiled in all. The least time counts: other programs may be running.
const TRIES: usize = 3;

/// A shader to compile.
pub(super) struct Subject {
    pub(super) name: String,
    pub(super) wgsl: String,
    pub(super) bindings: Vec<(u32, Access)>,
    pub(super) workgroup_size: u32,
    /// What an invocation keeps in registers, if it keeps whole channels.
    pub(super) kept: Option<Kept>,
}

/// The loads that an invocation makes before it uses the first.
pub(super) struct Kept {
    /// The tensors, as numbers in the order of the kernel's bindings.
    pub(super) bindings: Vec<u32>,
    /// Loads of all these tensors.
    pub(super) loads: u32,
    /// Whether the plan counts on a second workgroup on each processor: it has more of them than there are processors.
    pub(super) counts_on_two: bool,
}

impl Subject {
    pub(super) fn new(kernel: &Kernel, counts_on_two: bool) -> Self {
        let in_order = kernel.bindings();
        let number = |binding| in_order.iter().position(|(found, _)| *found == binding);
        let in_place = kernel.is_in_place();
        let kept = tile(kernel).map(|tile| {
            let tensors: &[Binding] = match (kernel, in_place) {
                (Kernel::ForwardResident(_), false) => &[Binding::X],
                (Kernel::ForwardResident(_), true) => &[Binding::Y],
                (_, false) => &[Binding::X, Binding::Dy],
                (_, true) => &[Binding::X, Binding::Dx],
            };
            Kept {
                bindings: tensors.iter().filter_map(|&tensor| number(tensor)).map(|at| at as u32).collect(),
                loads: tile.loads * tensors.len() as u32,
                counts_on_two,
            }
        });
        Self {
            name: format!("{} of {}{}", kernel.stem(), kernel.workgroup_size(), kernel.variant()),
            wgsl: kernel.wgsl(),
            bindings: bindings(kernel),
            workgroup_size: kernel.workgroup_size(),
            kept,
        }
    }

    /// Compiles the shader, again if it takes too long.
    pub(super) fn compile(&self, device: &Device, chip: &Chip) -> Result<Figures> {
        let code = spirv(&self.wgsl, true)?;
        let compile = || Figures::new(&device.compile(&self.bindings, &code, true)?, self, chip);
        let mut figures = compile()?;
        for _ in 1..TRIES {
            if figures.time > LONGEST {
                figures.time = figures.time.min(compile()?.time);
            }
        }
        Ok(figures)
    }
}

/// Returns the tile of a kernel that keeps whole channels in registers.
pub(super) fn tile(kernel: &Kernel) -> Option<&Tile> {
    match kernel {
        Kernel::ForwardResident(kernel) => Some(&kernel.tile),
        Kernel::BackwardResident(kernel) => Some(&kernel.tile),
        _ => None,
    }
}

/// Returns how a kernel visits tensors, in the words of its variant: with the tile if it has one, without the number of
/// lanes else.
pub(super) fn visits(kernel: &Kernel) -> String {
    let variant = kernel.variant();
    let mut words = variant.trim_start_matches(", ").split(", ");
    let first = words.next().unwrap_or_default();
    match (tile(kernel), first.split_once(" by "), first.split_once(" × ")) {
        (Some(_), ..) => format!("{first}, {}", words.next().unwrap_or_default()),
        (None, Some((how, _)), Some((_, width))) => format!("{how} by … × {width}"),
        (None, None, _) if first.starts_with(|letter: char| letter.is_ascii_digit()) => String::new(),
        (None, ..) => first.to_owned(),
    }
}
