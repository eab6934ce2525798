//! Reads the instructions of AMD GPUs, as Mesa prints them: how many loads are in flight at once.

use crate::Result;
use std::collections::{BTreeMap, HashMap};
use std::ops::RangeInclusive;

/// Most loads that the hardware counts.
pub(crate) const MOST_IN_FLIGHT: u32 = 63;

/// Bytes of a buffer's descriptor. A kernel's descriptors lie side by side, in the order of its bindings.
const DESCRIPTOR_WORDS: u32 = 4;

/// What a chip's instructions mean.
#[derive(Clone, Copy)]
pub(crate) struct Dialect {
    /// Whether one counter, `vmcnt`, counts loads and stores.
    pub(crate) counts_stores: bool,
}

/// Returns the most loads from memory that are in flight at once: issued, and not waited for since. Counts those of
/// the bindings with the numbers `of`, counted from 0 in the order of a kernel's bindings; or all.
///
/// Follows every path. Where paths meet, only what is in flight on all of them counts: so a load behind a branch does
/// not count beyond it. Loads return in the order in which they are issued. `s_waitcnt vmcnt(N)` waits until N at most
/// are in flight.
pub(crate) fn loads_in_flight(assembly: &str, of: Option<&[u32]>, dialect: Dialect) -> Result<u32> {
    let program = Program::parse(assembly)?;
    let mut states: Vec<Option<State>> = vec![None; program.blocks.len()];
    let mut waiting = vec![(0, State::default())];
    while let Some((block, arriving)) = waiting.pop() {
        let state = match &states[block] {
            None => arriving,
            Some(known) => known.met(&arriving),
        };
        if states[block].as_ref() != Some(&state) {
            states[block] = Some(state.clone());
            let (end, _) = program.run(block, state, of, dialect);
            waiting.extend(program.blocks[block].next.iter().map(|&next| (next, end.clone())));
        }
    }
    let reached = states.into_iter().enumerate().filter_map(|(block, state)| Some((block, state?)));
    Ok(reached.map(|(block, state)| program.run(block, state, of, dialect).1).max().unwrap_or(0))
}

/// What matters of an instruction.
#[derive(Clone, Debug, PartialEq)]
enum Instruction {
    /// A load from memory, with the registers of the descriptor.
    Load { descriptor: Option<u16> },
    /// A store to memory, or what the hardware counts like one.
    Store,
    /// A wait until this many are in flight.
    Wait { most: usize },
    /// A load of descriptors, or of what else lies beside them, into scalar registers.
    Descriptors { registers: RangeInclusive<u16>, word: u32 },
    /// A copy of scalar registers.
    Copy { registers: RangeInclusive<u16>, from: u16 },
    /// Anything else that writes scalar registers.
    Write { registers: RangeInclusive<u16> },
}

/// Instructions that run one after the other, and the blocks that may be next.
#[derive(Default)]
struct Block {
    instructions: Vec<Instruction>,
    next: Vec<usize>,
}

struct Program {
    blocks: Vec<Block>,
}

impl Program {
    fn parse(assembly: &str) -> Result<Self> {
        let lines = || assembly.lines().map(|line| line.split(';').next().unwrap_or_default().trim());
        // A block begins at a label and behind a branch.
        let mut labels = HashMap::new();
        let mut count = 1;
        for line in lines() {
            if let Some(label) = line.strip_suffix(':') {
                labels.insert(label, count);
                count += 1;
            } else if is_branch(line) {
                count += 1;
            }
        }
        let mut blocks = vec![Block::default()];
        // Whether the last block goes on into the next one.
        let mut goes_on = true;
        for line in lines().filter(|line| !line.is_empty()) {
            let last = blocks.len() - 1;
            if line.ends_with(':') {
                if goes_on {
                    blocks[last].next.push(last + 1);
                }
                goes_on = true;
                blocks.push(Block::default());
            } else if is_branch(line) {
                let (name, operands) = split(line);
                if name != "s_endpgm" {
                    let target = labels.get(operands).ok_or_else(|| format!("no such label: {line}"))?;
                    blocks[last].next.push(*target);
                }
                if goes_on && name.starts_with("s_cbranch") {
                    blocks[last].next.push(last + 1);
                }
                goes_on = name.starts_with("s_cbranch");
                blocks.push(Block::default());
            } else {
                blocks[last].instructions.extend(instruction(line)?);
            }
        }
        Ok(Self { blocks })
    }

    /// Runs a block. Returns the state behind it, and the most loads in flight in it.
    fn run(&self, block: usize, mut state: State, of: Option<&[u32]>, dialect: Dialect) -> (State, u32) {
        let mut most = 0;
        for (k, instruction) in self.blocks[block].instructions.iter().enumerate() {
            match instruction {
                Instruction::Load { descriptor } => {
                    let binding = descriptor.and_then(|register| state.binding(register));
                    state.issue((block, k), true, binding);
                    let counted = state.in_flight.values().filter(|issued| {
                        let is_of = |of: &[u32]| issued.binding.is_some_and(|found| of.contains(&found));
                        issued.is_load && of.is_none_or(is_of)
                    });
                    most = most.max(counted.count() as u32);
                }
                Instruction::Store => {
                    if dialect.counts_stores {
                        state.issue((block, k), false, None);
                    }
                }
                Instruction::Wait { most } => state.wait(*most),
                Instruction::Descriptors { registers, word } => {
                    for (register, word) in registers.clone().zip(*word..) {
                        state.words.insert(register, word);
                    }
                }
                Instruction::Copy { registers, from } => {
                    let words: Vec<_> = registers
                        .clone()
                        .zip(*from..)
                        .map(|(_, from)| state.words.get(&from).copied())
                        .collect();
                    for (register, word) in registers.clone().zip(words) {
                        match word {
                            Some(word) => state.words.insert(register, word),
                            None => state.words.remove(&register),
                        };
                    }
                }
                Instruction::Write { registers } => {
                    for register in registers.clone() {
                        state.words.remove(&register);
                    }
                }
            }
        }
        (state, most)
    }
}

/// What was issued to memory and is in flight.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Issued {
    /// How many were issued since, at most.
    age: usize,
    is_load: bool,
    binding: Option<u32>,
}

/// What is known at an instruction, whichever way led to it.
#[derive(Clone, Debug, Default, PartialEq)]
struct State {
    /// What is in flight at least, by block and instruction.
    in_flight: BTreeMap<(usize, usize), Issued>,
    /// Scalar registers that hold parts of descriptors: which word of the list of descriptors.
    words: BTreeMap<u16, u32>,
}

impl State {
    /// Returns the number of the binding whose descriptor begins in this register.
    fn binding(&self, register: u16) -> Option<u32> {
        let first = *self.words.get(&register)?;
        let mut registers = (register..).zip(first..first + DESCRIPTOR_WORDS);
        let is_whole = registers.all(|(register, word)| self.words.get(&register) == Some(&word));
        (is_whole && first.is_multiple_of(DESCRIPTOR_WORDS)).then_some(first / DESCRIPTOR_WORDS)
    }

    fn issue(&mut self, at: (usize, usize), is_load: bool, binding: Option<u32>) {
        // The hardware lets the oldest return before it issues more than it can count.
        self.wait(MOST_IN_FLIGHT as usize - 1);
        self.in_flight.values_mut().for_each(|issued| issued.age += 1);
        self.in_flight.insert(at, Issued { age: 0, is_load, binding });
    }

    fn wait(&mut self, most: usize) {
        self.in_flight.retain(|_, issued| issued.age < most);
    }

    /// Returns what holds in both states.
    fn met(&self, other: &Self) -> Self {
        let in_flight = self.in_flight.iter().filter_map(|(&at, issued)| {
            let age = issued.age.max(other.in_flight.get(&at)?.age);
            Some((at, Issued { age, ..*issued }))
        });
        let words = self.words.iter().filter(|(register, word)| other.words.get(register) == Some(word));
        Self {
            in_flight: in_flight.collect(),
            words: words.map(|(&register, &word)| (register, word)).collect(),
        }
    }
}

fn is_branch(line: &str) -> bool {
    line.starts_with("s_cbranch") || line.starts_with("s_branch") || line.starts_with("s_endpgm")
}

/// Splits a line into the instruction's name and its operands.
fn split(line: &str) -> (&str, &str) {
    let (name, operands) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    (name, operands.trim())
}

/// Returns what matters of an instruction. Refuses what this reader might misunderstand: an unknown wait would count
/// as none.
fn instruction(line: &str) -> Result<Option<Instruction>> {
    let unknown = || format!("unknown instruction: {line}");
    let (name, text) = split(line);
    let operands: Vec<&str> = text.split([',', ' ']).filter(|operand| !operand.is_empty()).collect();
    let first = operands.first().and_then(|operand| registers(operand));
    let memory = ["buffer_", "tbuffer_", "global_", "flat_", "scratch_", "image_"];
    if let Some(what) = memory.iter().find_map(|kind| name.strip_prefix(kind)) {
        let returns = operands.contains(&"glc") || operands.contains(&"th:TH_ATOMIC_RETURN");
        if what.starts_with("load") || (what.starts_with("atomic") && returns) {
            let ranges = operands.iter().filter_map(|operand| registers(operand));
            let mut descriptors = ranges.filter(|range| range.len() == DESCRIPTOR_WORDS as usize);
            let descriptor = descriptors.next().map(|range| *range.start());
            return Ok(Some(Instruction::Load { descriptor }));
        }
        let is_store = what.starts_with("store") || what.starts_with("atomic");
        // These write back or invalidate caches, and are not counted.
        let is_cache = what.contains("gl0_inv") || what.contains("gl1_inv") || what.contains("wb");
        return match (is_store, is_cache) {
            (true, _) => Ok(Some(Instruction::Store)),
            (false, true) => Ok(None),
            (false, false) => Err(unknown().into()),
        };
    }
    match name {
        "s_waitcnt" => {
            let counters = ["vmcnt(", "lgkmcnt(", "expcnt("];
            let is_known = |operand: &&str| counters.iter().any(|counter| operand.starts_with(counter));
            let operands: Vec<&str> = text.split([' ', '&']).filter(|operand| !operand.is_empty()).collect();
            if operands.is_empty() || !operands.iter().all(is_known) {
                return Err(unknown().into());
            }
            let of_loads = operands.iter().find_map(|operand| operand.strip_prefix("vmcnt("));
            let Some(most) = of_loads else { return Ok(None) };
            let most = most.trim_end_matches(')').parse().map_err(|_| unknown())?;
            Ok(Some(Instruction::Wait { most }))
        }
        // Waits for stores, for scalar loads, and for the vector unit.
        "s_waitcnt_vscnt" | "s_waitcnt_lgkmcnt" | "s_waitcnt_expcnt" | "s_waitcnt_depctr" => Ok(None),
        _ if name.starts_with("s_wait") || name.starts_with("s_setpc") || name.starts_with("s_swappc") => {
            Err(unknown().into())
        }
        _ => Ok(first.map(|registers| scalar(name, &operands, registers))),
    }
}

/// Returns what an instruction does to the scalar registers that are its first operand.
fn scalar(name: &str, operands: &[&str], registers: RangeInclusive<u16>) -> Instruction {
    let source = operands.get(1).and_then(|operand| self::registers(operand));
    if name.starts_with("s_load_") {
        let offset = operands.get(2).and_then(|offset| number(offset));
        if let Some(bytes) = offset.filter(|bytes| bytes.is_multiple_of(4)) {
            return Instruction::Descriptors { registers, word: bytes / 4 };
        }
    } else if let ("s_mov_b32" | "s_mov_b64", Some(source)) = (name, source) {
        return Instruction::Copy { registers, from: *source.start() };
    }
    Instruction::Write { registers }
}

/// Returns the scalar registers of an operand such as `s7` or `s[4:7]`.
fn registers(operand: &str) -> Option<RangeInclusive<u16>> {
    let text = operand.strip_prefix('s')?;
    let Some(range) = text.strip_prefix('[') else {
        let one = text.parse().ok()?;
        return Some(one..=one);
    };
    let (first, last) = range.strip_suffix(']')?.split_once(':')?;
    Some(first.parse().ok()?..=last.parse().ok()?)
}

/// Returns an offset: `null`, or a number in either base.
fn number(operand: &str) -> Option<u32> {
    match operand.strip_prefix("0x") {
        _ if operand == "null" => Some(0),
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => operand.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::{Dialect, Instruction, instruction, loads_in_flight};

    const RDNA: Dialect = Dialect { counts_stores: false };
    const GCN: Dialect = Dialect { counts_stores: true };

    /// Descriptors of the bindings 1 and 2, then the lines.
    fn program(lines: &[&str]) -> String {
        let head = ["BB0:", "\ts_load_dwordx8 s[16:23], s[2:3], 0x10  ; f4080401 fa000010"];
        [&head[..], lines, &["s_endpgm"]].concat().join("\n")
    }

    const ONE: &str = "buffer_load_dwordx4 v[8:11], v6, s[16:19], 0 offen";
    const TWO: &str = "buffer_load_dwordx2 v[8:9], v6, s[20:23], 0 offen";

    fn of_one(lines: &[&str]) -> u32 {
        loads_in_flight(&program(lines), Some(&[1]), RDNA).expect("a program")
    }

    #[test]
    fn loads_before_the_first_wait_are_in_flight_together() {
        assert_eq!(of_one(&[ONE, ONE, ONE, "s_waitcnt vmcnt(2)", "s_waitcnt vmcnt(0)", ONE]), 3);
        // A wait for older ones leaves the newer ones in flight.
        assert_eq!(of_one(&[ONE, ONE, "s_waitcnt vmcnt(1)", ONE, "s_waitcnt vmcnt(1)", ONE]), 2);
        assert_eq!(of_one(&[ONE, ONE, "s_waitcnt lgkmcnt(0)", ONE]), 3);
    }

    #[test]
    fn loads_that_are_waited_for_one_by_one_are_not() {
        let one_by_one = [ONE, "s_waitcnt vmcnt(0)"].repeat(16);
        assert_eq!(of_one(&one_by_one), 1);
        let with_others = [ONE, "s_waitcnt vmcnt(0) lgkmcnt(0)", "s_waitcnt_vscnt null, 0x0"].repeat(16);
        assert_eq!(of_one(&with_others), 1);
    }

    #[test]
    fn only_loads_of_the_wanted_bindings_count() {
        let lines = [ONE, TWO, ONE, "buffer_load_dword v1, off, s[12:15], s1", TWO, "s_waitcnt vmcnt(0)"];
        let count = |of| loads_in_flight(&program(&lines), of, RDNA).expect("a program");
        assert_eq!(count(Some(&[1][..])), 2);
        assert_eq!(count(Some(&[1, 2][..])), 4);
        assert_eq!(count(Some(&[0, 3][..])), 0);
        assert_eq!(count(None), 5);
    }

    #[test]
    fn descriptors_are_followed_through_registers() {
        let copied = "buffer_load_b128 v[8:11], v6, s[24:27], 0 offen";
        assert_eq!(of_one(&[copied]), 0);
        assert_eq!(of_one(&["s_mov_b64 s[24:25], s[16:17]", "s_mov_b64 s[26:27], s[18:19]", copied]), 1);
        // Overwritten, and loaded once more.
        assert_eq!(of_one(&["s_add_u32 s17, s17, 1", ONE]), 0);
        assert_eq!(of_one(&["v_cmp_gt_u32_e64 s[18:19], 7, v1", ONE]), 0);
        assert_eq!(of_one(&["s_load_b128 s[16:19], s[2:3], null", ONE]), 0);
        assert_eq!(of_one(&["s_load_b128 s[24:27], s[2:3], 0x10", copied]), 1);
    }

    #[test]
    fn a_load_behind_a_branch_counts_only_there() {
        let skipped = [ONE, "s_cbranch_execz BB2", "BB1:", ONE, "BB2:", ONE, ONE];
        assert_eq!(of_one(&skipped), 3);
        // It may be what the wait leaves in flight.
        let waited = [ONE, "s_cbranch_execz BB2", "BB1:", ONE, "BB2:", "s_waitcnt vmcnt(1)", ONE, ONE];
        assert_eq!(of_one(&waited), 2);
        // Ways that exclude each other do not add up.
        let either = [
            "s_cbranch_scc0 BB2",
            "BB1:",
            ONE,
            ONE,
            "s_branch BB3",
            "BB2:",
            ONE,
            "BB3:",
            "s_waitcnt vmcnt(0)",
        ];
        assert_eq!(of_one(&either), 2);
        // A loop may have one iteration, or many.
        let looped = [ONE, "BB1:", ONE, "s_cbranch_scc1 BB1", "BB2:", ONE, "s_waitcnt vmcnt(0)"];
        assert_eq!(of_one(&looped), 2);
    }

    #[test]
    fn stores_hold_places_where_one_counter_counts_both() {
        let lines = [ONE, "buffer_atomic_or v1, v2, s[16:19], 0 offen", "s_waitcnt vmcnt(1)", ONE];
        let count = |dialect| loads_in_flight(&program(&lines), Some(&[1]), dialect).expect("a program");
        assert_eq!((count(RDNA), count(GCN)), (2, 1));
    }

    #[test]
    fn more_than_the_hardware_counts_are_not_in_flight() {
        assert_eq!(of_one(&[ONE; 70]), 63);
    }

    #[test]
    fn unknown_waits_and_jumps_are_refused() {
        for line in
            ["s_waitcnt 0x3f70", "s_waitcnt", "s_wait_loadcnt 0x0", "s_setpc_b64 s[4:5]", "buffer_new v1"]
        {
            assert!(instruction(line).is_err(), "{line}");
        }
        assert!(loads_in_flight("s_branch BB7", None, RDNA).is_err());
        assert_eq!(
            instruction("s_waitcnt vmcnt(0) & lgkmcnt(0)").ok(),
            Some(Some(Instruction::Wait { most: 0 }))
        );
        assert_eq!(instruction("v_add_f32_e32 v1, v2, v3").ok(), Some(None));
    }
}
