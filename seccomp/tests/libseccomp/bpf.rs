//! An interpreter for the part of classic BPF that the kernel allows in seccomp
//! filters, and the checks that the kernel makes before it takes a program.

use teu_seccomp::{Instruction, MOST_INSTRUCTIONS};

/// The data of a call that a filter can load (`struct seccomp_data`).
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Data {
    pub(crate) number: u32,
    pub(crate) arch: u32,
    pub(crate) args: [u64; 6],
}

impl Data {
    /// Returns the word at this offset on a little-endian machine.
    fn word(&self, offset: u32) -> u32 {
        let half = |value: u64, upper: bool| {
            let value = if upper {
                value >> 32
            } else {
                value & 0xffff_ffff
            };
            u32::try_from(value).expect("half")
        };
        match offset {
            0 => self.number,
            4 => self.arch,
            8 | 12 => 0,
            16..64 if offset.is_multiple_of(4) => {
                let index = usize::try_from((offset - 16) / 8).expect("index");
                half(self.args[index], offset % 8 == 4)
            }
            _ => panic!("load at {offset}"),
        }
    }
}

/// The result of running a program.
#[derive(Debug, Clone, Copy)]
pub(crate) struct End {
    pub(crate) result: u32,
    /// The number of instructions that ran.
    pub(crate) steps: usize,
    /// Whether the program loaded the call's number.
    pub(crate) loaded_number: bool,
}

/// Runs a program.
pub(crate) fn run(program: &[Instruction], data: &Data) -> End {
    let (mut at, mut steps, mut accumulator) = (0, 0, 0_u32);
    let mut loaded_number = false;
    loop {
        let Instruction { code, jt, jf, k } = program[at];
        steps += 1;
        at += 1;
        let test = match code {
            0x20 => {
                accumulator = data.word(k);
                loaded_number |= k == 0;
                continue;
            }
            0x54 => {
                accumulator &= k;
                continue;
            }
            0x05 => {
                at += usize::try_from(k).expect("distance");
                continue;
            }
            0x06 => {
                return End {
                    result: k,
                    steps,
                    loaded_number,
                };
            }
            0x15 => accumulator == k,
            0x25 => accumulator > k,
            0x35 => accumulator >= k,
            0x45 => accumulator & k != 0,
            other => panic!("instruction {other:#x}"),
        };
        at += usize::from(if test { jt } else { jf });
    }
}

/// Makes the kernel's checks of a program, and panics if one fails.
pub(crate) fn check(program: &[Instruction]) {
    assert!((1..=MOST_INSTRUCTIONS).contains(&program.len()));
    for (at, instruction) in program.iter().enumerate() {
        let left = program.len() - at - 1;
        match instruction.code {
            0x05 => assert!(usize::try_from(instruction.k).expect("k") < left),
            0x15 | 0x25 | 0x35 | 0x45 => {
                assert!(usize::from(instruction.jt.max(instruction.jf)) < left);
            }
            0x06 | 0x20 | 0x54 => {}
            other => panic!("instruction {other:#x}"),
        }
    }
    assert_eq!(program.last().expect("an instruction").code, 0x06);
}
