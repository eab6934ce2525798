//! The chips that kernels are compiled for.

use super::figures::Figures;
use crate::Result;
use crate::isa::Dialect;

/// A chip, and what one of its processors has.
pub(super) struct Chip {
    /// The ends of the adapter's name in Mesa's versions.
    names: &'static [&'static str],
    pub(super) architecture: &'static str,
    /// What the driver calls a processor: compute units, or work-group processors of two such units. Mesa compiles
    /// compute shaders for the latter where there are any.
    pub(super) processor: &'static str,
    /// Vector units of a processor.
    units: u32,
    /// Registers of a unit, each for a subgroup of 64.
    registers: u32,
    /// Scalar registers of a unit, if they limit the number of subgroups.
    scalar_registers: Option<u32>,
    /// Most subgroups of a unit.
    subgroups: u32,
    /// Bytes of workgroup memory.
    memory: u32,
    pub(super) dialect: Dialect,
}

const CHIPS: [Chip; 3] = [
    Chip {
        names: &["NAVI21)"],
        architecture: "RDNA2",
        processor: "work-group processor",
        units: 4,
        registers: 512,
        scalar_registers: None,
        subgroups: 16,
        memory: 128 << 10,
        dialect: Dialect { counts_stores: false },
    },
    Chip {
        names: &["GFX1100)", "NAVI31)"],
        architecture: "RDNA3",
        processor: "work-group processor",
        units: 4,
        registers: 768,
        scalar_registers: None,
        subgroups: 16,
        memory: 128 << 10,
        dialect: Dialect { counts_stores: false },
    },
    Chip {
        names: &["VEGA20)"],
        architecture: "GCN",
        processor: "compute unit",
        units: 4,
        registers: 256,
        scalar_registers: Some(800),
        subgroups: 10,
        memory: 64 << 10,
        dialect: Dialect { counts_stores: true },
    },
];

impl Chip {
    pub(super) fn of(adapter: &str) -> Result<&'static Self> {
        let is_it = |chip: &&Self| chip.names.iter().any(|name| adapter.ends_with(name));
        Ok(CHIPS.iter().find(is_it).ok_or_else(|| format!("nothing is known of {adapter}"))?)
    }

    /// Returns how many workgroups a processor has room for.
    pub(super) fn workgroups(&self, workgroup_size: u32, subgroup_size: u32, used: &Figures) -> u32 {
        let of_vectors = self.registers * 64 / subgroup_size / used.registers.max(1);
        let of_scalars =
            self.scalar_registers.map_or(u32::MAX, |registers| registers / used.scalar_registers.max(1));
        let subgroups = self.units * of_vectors.min(of_scalars).min(self.subgroups);
        let by_memory = self.memory.checked_div(used.memory).unwrap_or(u32::MAX);
        (subgroups / workgroup_size.div_ceil(subgroup_size)).min(by_memory)
    }
}

#[cfg(test)]
mod tests {
    use super::{CHIPS, Chip, Figures};

    #[test]
    fn workgroups_share_registers_and_memory() {
        let room = |chip: &Chip, registers, memory, size| {
            chip.workgroups(size, 64, &Figures { registers, memory, ..Figures::default() })
        };
        let [rdna2, rdna3, gcn] = &CHIPS;
        // Of 256 invocations with 64 registers each, 65,536 registers hold four.
        assert_eq!([rdna2, rdna3, gcn].map(|chip| room(chip, 64, 0, 256)), [8, 12, 4]);
        assert_eq!([rdna2, rdna3, gcn].map(|chip| room(chip, 128, 0, 512)), [2, 3, 1]);
        // Memory is short, or subgroups are.
        assert_eq!([rdna2, rdna3, gcn].map(|chip| room(chip, 16, 32 << 10, 256)), [4, 4, 2]);
        assert_eq!([rdna2, rdna3, gcn].map(|chip| room(chip, 16, 0, 1024)), [4, 4, 2]);
        assert!(Chip::of("Null hardware (RADV VEGA20)").is_ok_and(|chip| chip.architecture == "GCN"));
        assert!(Chip::of("llvmpipe").is_err());
    }
}
