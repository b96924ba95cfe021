//! The table of numbers, against the crate `syscalls`, which has its own from
//! the kernel's sources.

use teu_seccomp::Arch;

macro_rules! compare {
    ($compared:ident; $($module:ident: $arch:expr, $base:expr;)*) => {$(
        for call in syscalls::$module::Sysno::iter() {
            // One is a word of Rust's.
            let name = call.name().trim_start_matches("r#");
            let number = u32::try_from(call.id()).expect("a number");
            let known = $arch.number(name);
            assert!(
                known.is_none() || known == Some(number + $base),
                "{} {name}: {known:?} and {number}", $arch
            );
            // It gives others calls that only machines of 32 bits have.
            let is_exact = matches!($arch, Arch::X86 | Arch::X86_64);
            assert!(known.is_some() || !is_exact, "{} has no {name}", $arch);
            $compared += usize::from(known.is_some());
        }
    )*};
}

#[test]
fn numbers_are_those_of_the_kernel() {
    let mut compared = 0;
    compare! {
        compared;
        x86: Arch::X86, 0;
        x86_64: Arch::X86_64, 0;
        arm: Arch::Arm, 0;
        aarch64: Arch::Aarch64, 0;
        mips: Arch::Mipsel, 0;
        mips64: Arch::Mipsel64, 0;
        powerpc64: Arch::Ppc64le, 0;
        riscv64: Arch::Riscv64, 0;
        loongarch64: Arch::Loongarch64, 0;
    }
    assert!(compared > 2500, "{compared}");
}
