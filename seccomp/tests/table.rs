//! Compares the table of numbers with the crate `syscalls`, which takes its own
//! table from the kernel's sources.

use teu_seccomp::Arch;

macro_rules! compare {
    ($compared:ident; $($module:ident: $arch:expr, $base:expr;)*) => {$(
        for call in syscalls::$module::Sysno::iter() {
            // A name that is a Rust keyword is written as a raw identifier.
            let name = call.name().trim_start_matches("r#");
            let number = u32::try_from(call.id()).expect("a number");
            let known = $arch.number(name);
            assert!(
                known.is_none() || known == Some(number + $base),
                "{} {name}: {known:?} and {number}", $arch
            );
            // To other architectures the crate also gives calls that only
            // 32-bit machines have.
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
