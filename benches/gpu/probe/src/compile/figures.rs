//! What a compiler makes of a kernel, and what may be wrong with that.

use super::chip::Chip;
use super::subject::Subject;
use crate::Result;
use crate::device::{Compiled, Statistic};
use crate::isa;
use std::fmt;
use std::time::Duration;

/// Most time that the driver may take for a kernel.
pub(super) const LONGEST: Duration = Duration::from_secs(2);

/// Workgroups that a processor must have room for, so that one loads while another computes.
const LEAST_RESIDENT: u32 = 2;

/// What the compiler makes of a kernel.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Figures {
    pub(super) registers: u32,
    pub(super) scalar_registers: u32,
    /// Bytes of workgroup memory.
    pub(super) memory: u32,
    pub(super) instructions: u32,
    pub(super) code_bytes: u32,
    /// Registers that did not suffice, and bytes of memory that stand in.
    pub(super) spilled: u32,
    pub(super) scratch: u32,
    /// Loads in flight at once: of the tensors that the kernel keeps, or else of everything.
    pub(super) loads: u32,
    /// Workgroups that a processor has room for.
    pub(super) workgroups: u32,
    pub(super) time: Duration,
}

impl Figures {
    pub(super) fn new(compiled: &Compiled, subject: &Subject, chip: &Chip) -> Result<Self> {
        let number = |name: &str| -> Result<u32> {
            match compiled.statistics.get(name) {
                Some(Statistic::Whole(value)) => Ok(u32::try_from(*value)?),
                _ => Err(format!("the driver does not tell «{name}»").into()),
            }
        };
        let assembly = compiled.assembly.as_deref().ok_or("no assembly")?;
        let of = subject.kept.as_ref().map(|kept| kept.bindings.as_slice());
        let mut figures = Self {
            registers: number("VGPRs")?,
            scalar_registers: number("SGPRs")?,
            memory: number("LDS size")?,
            instructions: number("Instructions")?,
            code_bytes: number("Code size")?,
            spilled: number("Spilled VGPRs")? + number("Spilled SGPRs")?,
            scratch: number("Scratch size")?,
            loads: isa::loads_in_flight(assembly, of, chip.dialect)?,
            workgroups: 0,
            time: compiled.time,
        };
        figures.workgroups = chip.workgroups(subject.workgroup_size, compiled.subgroup_size, &figures);
        Ok(figures)
    }

    /// Returns what is wrong.
    pub(super) fn faults(&self, subject: &Subject) -> Vec<Fault> {
        let mut faults = Vec::new();
        if self.spilled > 0 || self.scratch > 0 {
            faults.push(Fault::Spilled { registers: self.spilled, scratch: self.scratch });
        }
        if self.time > LONGEST {
            faults.push(Fault::Slow(self.time));
        }
        if let Some(kept) = &subject.kept {
            let (loads, of) = (self.loads, kept.loads.min(isa::MOST_IN_FLIGHT));
            if loads < of {
                faults.push(Fault::Loads { loads, of });
            }
            if kept.counts_on_two && self.workgroups < LEAST_RESIDENT {
                faults.push(Fault::Alone { workgroups: self.workgroups, registers: self.registers });
            }
        }
        faults
    }

    /// Returns the worse of each.
    pub(super) fn worst(self, other: Self) -> Self {
        Self {
            registers: self.registers.max(other.registers),
            scalar_registers: self.scalar_registers.max(other.scalar_registers),
            memory: self.memory.max(other.memory),
            instructions: self.instructions.max(other.instructions),
            code_bytes: self.code_bytes.max(other.code_bytes),
            spilled: self.spilled.max(other.spilled),
            scratch: self.scratch.max(other.scratch),
            loads: self.loads.min(other.loads),
            workgroups: self.workgroups.min(other.workgroups),
            time: self.time.max(other.time),
        }
    }
}

/// What is wrong with a compiled kernel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Fault {
    /// Registers do not suffice: memory stands in.
    Spilled { registers: u32, scratch: u32 },
    /// The driver takes too long.
    Slow(Duration),
    /// Fewer loads are in flight than the plan says.
    Loads { loads: u32, of: u32 },
    /// A processor has room for too few workgroups.
    Alone { workgroups: u32, registers: u32 },
}

impl Fault {
    /// Returns whether this is a fault of the same kind as another, and not worse.
    pub(super) fn is_within(&self, worst: &Self) -> bool {
        match (self, worst) {
            (Self::Spilled { registers, .. }, Self::Spilled { registers: most, .. }) => registers <= most,
            (Self::Slow(time), Self::Slow(most)) => time <= most,
            (Self::Loads { loads, .. }, Self::Loads { loads: least, .. }) => loads >= least,
            (Self::Alone { registers, .. }, Self::Alone { registers: most, .. }) => registers <= most,
            _ => false,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Spilled { registers, scratch } => {
                write!(f, "{registers} registers spilled, {scratch} bytes of scratch memory")
            }
            Self::Slow(time) => write!(f, "compiled in {:.1} s", time.as_secs_f64()),
            Self::Loads { loads, of } => write!(f, "{loads} loads in flight of {of}"),
            Self::Alone { workgroups, registers } => {
                write!(f, "{registers} registers leave room for {workgroups} workgroups")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Fault, Figures, LEAST_RESIDENT};
    use crate::compile::subject::{Kept, Subject};
    use std::time::Duration;

    /// A kernel with 12 loads in workgroups of 256, and figures with nothing wrong.
    fn good() -> (Subject, Figures) {
        let subject = Subject {
            name: String::new(),
            wgsl: String::new(),
            bindings: Vec::new(),
            workgroup_size: 256,
            kept: Some(Kept { bindings: vec![0], loads: 12, counts_on_two: true }),
        };
        (subject, Figures { registers: 60, loads: 12, workgroups: LEAST_RESIDENT, ..Figures::default() })
    }

    #[test]
    fn each_fault_is_found() {
        let (mut subject, good) = good();
        assert_eq!(good.faults(&subject), []);
        let found = |figures: Figures| figures.faults(&subject);
        let spilled = Fault::Spilled { registers: 3, scratch: 0 };
        assert_eq!(found(Figures { spilled: 3, ..good }), [spilled]);
        let scratch = Fault::Spilled { registers: 0, scratch: 64 };
        assert_eq!(found(Figures { scratch: 64, ..good }), [scratch]);
        let time = Duration::from_millis(2001);
        assert_eq!(found(Figures { time, ..good }), [Fault::Slow(time)]);
        assert_eq!(found(Figures { loads: 11, ..good }), [Fault::Loads { loads: 11, of: 12 }]);
        let alone = Fault::Alone { workgroups: 1, registers: 60 };
        assert_eq!(found(Figures { workgroups: 1, ..good }), [alone]);
        // A workgroup may be alone if the plan says so, and other kernels may load as they like.
        subject.kept = Some(Kept { bindings: vec![0], loads: 12, counts_on_two: false });
        assert_eq!(Figures { workgroups: 1, ..good }.faults(&subject), []);
        subject.kept = None;
        assert_eq!(Figures { loads: 0, workgroups: 1, ..good }.faults(&subject), []);
    }

    #[test]
    fn known_faults_may_not_get_worse() {
        let known = Fault::Loads { loads: 25, of: 32 };
        assert!(Fault::Loads { loads: 25, of: 32 }.is_within(&known));
        assert!(!Fault::Loads { loads: 24, of: 32 }.is_within(&known));
        let known = Fault::Spilled { registers: 13, scratch: 4096 };
        assert!(Fault::Spilled { registers: 1, scratch: 1024 }.is_within(&known));
        assert!(!Fault::Spilled { registers: 14, scratch: 4096 }.is_within(&known));
        assert!(!Fault::Alone { workgroups: 1, registers: 60 }.is_within(&known));
    }
}
