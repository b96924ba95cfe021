//! The entry point and its system calls; the only unsafe of this crate.
#![expect(
    unsafe_code,
    reason = "there is nothing below this but the kernel's stack and system calls"
)]

use core::arch::{asm, global_asm};
use core::mem::MaybeUninit;

// The kernel enters with the stack pointer at argc (System V ABI, "Initial
// Process Stack"), aligned as for a call; the C library's _start expects the
// same, and 0 where a dynamic loader would pass its last function.
#[cfg(target_arch = "x86_64")]
global_asm!(
    ".globl teu_start",
    ".type teu_start, @function",
    "teu_start:",
    "mov rdi, rsp",
    "call {seal}",
    "xor edx, edx",
    "jmp _start",
    seal = sym seal,
);
#[cfg(target_arch = "aarch64")]
global_asm!(
    ".globl teu_start",
    ".type teu_start, %function",
    "teu_start:",
    "mov x0, sp",
    "bl {seal}",
    "mov x0, #0",
    "b _start",
    seal = sym seal,
);

/// Numbers of system calls; those without an architecture are everybody's.
#[cfg(target_arch = "x86_64")]
mod number {
    pub(super) const CLOSE: usize = 3;
    pub(super) const OPENAT: usize = 257;
    pub(super) const READLINKAT: usize = 267;
    pub(super) const EXECVEAT: usize = 322;
}
#[cfg(target_arch = "aarch64")]
mod number {
    pub(super) const CLOSE: usize = 57;
    pub(super) const OPENAT: usize = 56;
    pub(super) const READLINKAT: usize = 78;
    pub(super) const EXECVEAT: usize = 281;
}
const FSOPEN: usize = 430;
const FSCONFIG: usize = 431;
const FSMOUNT: usize = 432;

const AT_FDCWD: usize = (-100_isize).cast_unsigned();
const AT_EMPTY_PATH: usize = 0x1000;
const AT_EXECFN: usize = 31;
const FSCONFIG_SET_STRING: usize = 1;
const FSCONFIG_CMD_CREATE: usize = 6;
const FSOPEN_CLOEXEC: usize = 1;
const FSMOUNT_CLOEXEC: usize = 1;
/// MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID and MOUNT_ATTR_NODEV.
const SEALED: usize = 1 | 2 | 4;
const O_CLOEXEC: usize = 0o2_000_000;
const O_PATH: usize = 0o10_000_000;
#[cfg(target_arch = "x86_64")]
const O_NOFOLLOW: usize = 0o400_000;
#[cfg(target_arch = "aarch64")]
const O_NOFOLLOW: usize = 0o100_000;

const LONGEST_PATH: usize = 4096;
/// Room for the name's end and for BESIDE.
const AFTER_PATH: usize = BESIDE.len();
/// The other lower directory, of which an overlay needs one: below the binary's
/// it cannot hide anything.
const BESIDE: &[u8] = b":/dev\0";

/// A system call; the kernel's answer, negative for an error.
fn call(number: usize, a: usize, b: usize, c: usize, d: usize, e: usize) -> isize {
    let answer: isize;
    // SAFETY: the callers pass pointers that the kernel only reads, up to a
    // NUL or a null pointer, but for the buffer of readlinkat, whose length
    // they pass with it. The registers are those of the system call ABI.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        asm!(
            "syscall",
            inlateout("rax") number => answer,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e,
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
        #[cfg(target_arch = "aarch64")]
        asm!(
            "svc 0",
            in("x8") number,
            inlateout("x0") a => answer,
            in("x1") b, in("x2") c, in("x3") d, in("x4") e,
            options(nostack),
        );
    }
    answer
}

fn address(text: &[u8]) -> usize {
    text.as_ptr() as usize
}

/// Fills with zeros, one at a time: an ordinary array of zeros is a call of
/// memset.
fn zeroed<const LENGTH: usize>(room: &mut MaybeUninit<[u8; LENGTH]>) -> &mut [u8; LENGTH] {
    let start = room.as_mut_ptr().cast::<u8>();
    for at in 0..LENGTH {
        // SAFETY: `at` is below the length of the array that `room` is for.
        unsafe { start.add(at).write_volatile(0) };
    }
    // SAFETY: every byte was written just now.
    unsafe { room.assume_init_mut() }
}

/// Executes the program again from a sealed view of itself, if that is asked
/// for and can be done; else returns.
extern "C" fn seal(stack: *const usize) {
    let start = Start { stack };
    if !start.reaches_a_container() || start.was_executed_by_descriptor() {
        return;
    }
    let mut room = MaybeUninit::<[u8; LONGEST_PATH + AFTER_PATH]>::uninit();
    let Some((path, slash)) = own_path(&mut room) else {
        return;
    };
    // The directory's end becomes the separator of the two layers, so the name
    // is copied out of the way first.
    let mut name = MaybeUninit::<[u8; 256]>::uninit();
    let name = zeroed(&mut name);
    if !copy_name(path, slash + 1, name) {
        return;
    }
    for (slot, byte) in path.iter_mut().skip(slash).zip(BESIDE) {
        *slot = *byte;
    }
    let context = call(FSOPEN, address(b"overlay\0"), FSOPEN_CLOEXEC, 0, 0, 0);
    if context < 0 {
        return;
    }
    let context = context.cast_unsigned();
    let view = open_in_overlay(context, path, name);
    if view >= 0 {
        let view = view.cast_unsigned();
        let flags = AT_EMPTY_PATH;
        call(
            number::EXECVEAT,
            view,
            address(b"\0"),
            start.arguments(),
            start.environment(),
            flags,
        );
        call(number::CLOSE, view, 0, 0, 0, 0);
    }
    call(number::CLOSE, context, 0, 0, 0, 0);
}

/// The binary as the overlay of `layers` shows it.
fn open_in_overlay(context: usize, layers: &[u8], name: &[u8]) -> isize {
    let set = |key: &[u8], value: &[u8]| {
        call(
            FSCONFIG,
            context,
            FSCONFIG_SET_STRING,
            address(key),
            address(value),
            0,
        )
    };
    if set(b"lowerdir\0", layers) < 0 {
        return -1;
    }
    // Keeps the kernel log quiet about layers on two filesystems; a kernel
    // without the option needs no silence.
    set(b"xino\0", b"off\0");
    if call(FSCONFIG, context, FSCONFIG_CMD_CREATE, 0, 0, 0) < 0 {
        return -1;
    }
    let mount = call(FSMOUNT, context, FSMOUNT_CLOEXEC, SEALED, 0, 0);
    if mount < 0 {
        return -1;
    }
    let flags = O_PATH | O_NOFOLLOW | O_CLOEXEC;
    let view = call(
        number::OPENAT,
        mount.cast_unsigned(),
        address(name),
        flags,
        0,
        0,
    );
    call(number::CLOSE, mount.cast_unsigned(), 0, 0, 0, 0);
    view
}

/// Reads the path of our binary, with `AFTER_PATH` zeros behind it; and the
/// place of its last slash. None if it has a byte that overlay options would
/// have to escape, or if its directory is `/` or on the way to the other layer.
fn own_path(room: &mut MaybeUninit<[u8; LONGEST_PATH + AFTER_PATH]>) -> Option<(&mut [u8], usize)> {
    let start = room.as_mut_ptr().cast::<u8>();
    let length = call(
        number::READLINKAT,
        AT_FDCWD,
        address(b"/proc/self/exe\0"),
        start as usize,
        LONGEST_PATH,
        0,
    );
    if length <= 0 || length.cast_unsigned() >= LONGEST_PATH {
        return None;
    }
    let length = length.cast_unsigned();
    for at in length..length + AFTER_PATH {
        // SAFETY: `length` is below LONGEST_PATH, so `at` is inside the room.
        unsafe { start.add(at).write_volatile(0) };
    }
    // SAFETY: the kernel wrote the first `length` bytes of the room and the loop
    // those behind them; nothing else refers to the room while `path` lives.
    let path = unsafe { core::slice::from_raw_parts_mut(start, length + AFTER_PATH) };
    let slash = separator(path.get(..length)?)?;
    Some((path, slash))
}

/// The place of the last slash of a path that is fit for overlay options.
fn separator(path: &[u8]) -> Option<usize> {
    let mut slash = 0;
    for (at, byte) in path.iter().enumerate() {
        match byte {
            b'/' => slash = at,
            b':' | b',' | b'\\' => return None,
            _ => {}
        }
    }
    let dev = b"/dev/";
    let below_dev = path
        .iter()
        .zip(dev)
        .filter(|(one, other)| one == other)
        .count()
        == dev.len();
    if slash == 0 || below_dev {
        None
    } else {
        Some(slash)
    }
}

/// Copies the name from `at` on, up to its NUL. False if it is too long.
fn copy_name(path: &[u8], at: usize, name: &mut [u8; 256]) -> bool {
    for (to, from) in name.iter_mut().zip(path.iter().skip(at)) {
        *to = *from;
        if *from == 0 {
            return true;
        }
    }
    false
}

/// The stack as the kernel leaves it: argc, the arguments, a null pointer, the
/// environment, a null pointer, and pairs of the auxiliary vector.
struct Start {
    stack: *const usize,
}

impl Start {
    fn word(&self, at: usize) -> usize {
        // SAFETY: every caller stays below the end of the auxiliary vector,
        // which the kernel put above argc on this stack.
        unsafe { *self.stack.add(at) }
    }

    fn arguments(&self) -> usize {
        self.stack as usize + size_of::<usize>()
    }

    fn environment(&self) -> usize {
        self.arguments() + (self.word(0) + 1) * size_of::<usize>()
    }

    /// Whether an argument is the word of a command whose process gets into a
    /// container. A container of that name costs a needless start.
    fn reaches_a_container(&self) -> bool {
        let mut at = 2;
        while at <= self.word(0) {
            let word = self.word(at);
            if is(word, b"create\0")
                || is(word, b"run\0")
                || is(word, b"exec\0")
                || is(word, b"restore\0")
            {
                return true;
            }
            at += 1;
        }
        false
    }

    /// Whether the kernel was given a descriptor to execute, as it is here
    /// (getauxval(3), AT_EXECFN).
    fn was_executed_by_descriptor(&self) -> bool {
        let mut at = self.word(0) + 2;
        while self.word(at) != 0 {
            at += 1;
        }
        at += 1;
        while self.word(at) != 0 {
            if self.word(at) == AT_EXECFN {
                return starts_with(self.word(at + 1), b"/dev/fd/");
            }
            at += 2;
        }
        false
    }
}

/// Whether the NUL-terminated text at `text` is `word`, its NUL included.
fn is(text: usize, word: &[u8]) -> bool {
    starts_with(text, word)
}

fn starts_with(text: usize, start: &[u8]) -> bool {
    let mut text = text as *const u8;
    for byte in start {
        // SAFETY: `text` points into a NUL-terminated string of the kernel's:
        // the loop ends at the first byte that differs, at the latest its NUL.
        if unsafe { *text } != *byte {
            return false;
        }
        text = text.wrapping_add(1);
    }
    true
}
