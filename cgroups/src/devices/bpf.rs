//! Compiles device rules to a program of type BPF_PROG_TYPE_CGROUP_DEVICE, which is the
//! device controller of cgroup v2. `attach` loads it.

use teu_cgroups_types::DeviceKind;

use crate::devices::{Entry, Rules};

/// An instruction (kernel, bpf/standardization/instruction-set.rst).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Instruction {
    code: u8,
    /// The destination in the low four bits and the source in the high four. The kernel has
    /// bit fields here, whose order is that of the bytes.
    registers: u8,
    offset: i16,
    immediate: i32,
}

const RESULT: u8 = 0;
const CONTEXT: u8 = 1;
/// The register of the context, which is free once the context was read.
const SCRATCH: u8 = 1;
const KIND: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

const LOAD_WORD: u8 = 0x61;
const MOVE: u8 = 0xb4;
const MOVE_REGISTER: u8 = 0xbc;
const AND: u8 = 0x54;
const SHIFT_RIGHT: u8 = 0x74;
// 32-bit comparisons (since kernel 5.1), because device numbers are unsigned words.
const JUMP_IF_EQUAL: u8 = 0x16;
const JUMP_IF_NOT_EQUAL: u8 = 0x56;
const JUMP_IF_REGISTER_NOT_EQUAL: u8 = 0x5e;
const EXIT: u8 = 0x95;

impl Instruction {
    const fn new(code: u8, to: u8, from: u8, offset: i16, immediate: i32) -> Instruction {
        let registers = if cfg!(target_endian = "little") {
            from << 4 | to
        } else {
            to << 4 | from
        };
        Instruction {
            code,
            registers,
            offset,
            immediate,
        }
    }
}

/// Returns the program. It returns 1 to allow a request, and 0 to deny it with EPERM. It tests
/// the entries from the last to the first, because the last entry that decides a request
/// wins.
pub(crate) fn program(rules: &Rules) -> Vec<Instruction> {
    // struct bpf_cgroup_dev_ctx { u32 access_type; u32 major; u32 minor; },
    // where access_type is access << 16 | kind. Loaded as whole words, because some kernels
    // refuse to load a half.
    let mut program = vec![
        Instruction::new(LOAD_WORD, KIND, CONTEXT, 0, 0),
        Instruction::new(MOVE_REGISTER, ACCESS, KIND, 0, 0),
        Instruction::new(AND, KIND, 0, 0, 0xffff),
        Instruction::new(SHIFT_RIGHT, ACCESS, 0, 0, 16),
        Instruction::new(LOAD_WORD, MAJOR, CONTEXT, 4, 0),
        Instruction::new(LOAD_WORD, MINOR, CONTEXT, 8, 0),
    ];
    for entry in rules.entries.iter().rev() {
        program.extend(block(entry));
    }
    program.extend(answer(rules.default_allow));
    program
}

/// Returns the instructions of one entry. They end the program if the entry decides the
/// request, and continue after the block otherwise.
fn block(entry: &Entry) -> Vec<Instruction> {
    let kind = match entry.kind {
        DeviceKind::Block => 1,
        DeviceKind::Character => 2,
    };
    let mut block = vec![Instruction::new(JUMP_IF_NOT_EQUAL, KIND, 0, 0, kind)];
    if !entry.access.is_all() {
        let bits = i32::from(entry.access.bits());
        block.push(Instruction::new(MOVE_REGISTER, SCRATCH, ACCESS, 0, 0));
        block.push(Instruction::new(AND, SCRATCH, 0, 0, bits));
        block.push(match entry.allow {
            // An allow rule decides if it has all requested bits.
            true => Instruction::new(JUMP_IF_REGISTER_NOT_EQUAL, SCRATCH, ACCESS, 0, 0),
            // A deny rule decides if it has any requested bit.
            false => Instruction::new(JUMP_IF_EQUAL, SCRATCH, 0, 0, 0),
        });
    }
    for (register, number) in [(MAJOR, entry.major), (MINOR, entry.minor)] {
        if let Some(number) = number {
            let number = number.cast_signed();
            block.push(Instruction::new(JUMP_IF_NOT_EQUAL, register, 0, 0, number));
        }
    }
    block.extend(answer(entry.allow));
    let end = block.len();
    for (position, instruction) in block.iter_mut().enumerate() {
        let jumps = [JUMP_IF_EQUAL, JUMP_IF_NOT_EQUAL, JUMP_IF_REGISTER_NOT_EQUAL];
        if jumps.contains(&instruction.code) {
            // A block has at most eight instructions.
            instruction.offset = i16::try_from(end - position - 1).unwrap_or(i16::MAX);
        }
    }
    block
}

fn answer(allow: bool) -> [Instruction; 2] {
    [
        Instruction::new(MOVE, RESULT, 0, 0, i32::from(allow)),
        Instruction::new(EXIT, 0, 0, 0, 0),
    ]
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::devices::rules::tests::rules;

    /// Interprets the instructions that programs use, as the kernel would.
    pub(crate) fn run(program: &[Instruction], context: [u32; 3]) -> u32 {
        let mut registers = [0_u32; 6];
        let mut position = 0;
        loop {
            let Instruction {
                code,
                registers: pair,
                offset,
                immediate,
            } = program[position];
            let (to, from) = (usize::from(pair & 15), usize::from(pair >> 4));
            let immediate = immediate.cast_unsigned();
            let mut jump = false;
            match code {
                LOAD_WORD => registers[to] = context[usize::try_from(offset).unwrap() / 4],
                MOVE => registers[to] = immediate,
                MOVE_REGISTER => registers[to] = registers[from],
                AND => registers[to] &= immediate,
                SHIFT_RIGHT => registers[to] >>= immediate,
                JUMP_IF_EQUAL => jump = registers[to] == immediate,
                JUMP_IF_NOT_EQUAL => jump = registers[to] != immediate,
                JUMP_IF_REGISTER_NOT_EQUAL => jump = registers[to] != registers[from],
                EXIT => return registers[0],
                other => panic!("{other:#x}"),
            }
            position += 1 + if jump {
                usize::try_from(offset).unwrap()
            } else {
                0
            };
        }
    }

    #[test]
    fn size() {
        assert_eq!(program(&rules(&["deny a"])).len(), 8);
        assert_eq!(program(&rules(&["allow c 1:3 rwm"])).len(), 8 + 5);
        assert_eq!(size_of::<Instruction>(), 8);
    }
}
