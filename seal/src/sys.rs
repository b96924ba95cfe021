//! The entry point and its system calls; the only unsafe of this crate.
#![expect(
    unsafe_code,
    reason = "there is nothing below this but the kernel's stack and system calls"
)]

use core::arch::{asm, global_asm};
use core::mem::MaybeUninit;
use core::sync::atomic::{AtomicBool, Ordering};

// The kernel enters with the stack pointer at argc (System V ABI, "Initial
// Process Stack"), aligned as for a call; the C library's _start expects the
// same, and 0 where a dynamic loader would pass its last function.
#[cfg(target_arch = "x86_64")]
global_asm!(
    ".section .text.teu_start, \"ax\", @progbits",
    ".globl teu_start",
    ".type teu_start, @function",
    "teu_start:",
    "mov rdi, rsp",
    "call {seal}",
    "xor edx, edx",
    "jmp _start",
    ".previous",
    seal = sym seal,
);
#[cfg(target_arch = "aarch64")]
global_asm!(
    ".section .text.teu_start, \"ax\", %progbits",
    ".globl teu_start",
    ".type teu_start, %function",
    "teu_start:",
    "mov x0, sp",
    "bl {seal}",
    "mov x0, #0",
    "b _start",
    ".previous",
    seal = sym seal,
);

/// Numbers of system calls; those without an architecture are everybody's.
#[cfg(target_arch = "x86_64")]
mod number {
    pub(super) const CLOSE: usize = 3;
    pub(super) const MMAP: usize = 9;
    pub(super) const BRK: usize = 12;
    pub(super) const PRCTL: usize = 157;
    pub(super) const OPENAT: usize = 257;
    pub(super) const READLINKAT: usize = 267;
    pub(super) const STATX: usize = 332;
}
#[cfg(target_arch = "aarch64")]
mod number {
    pub(super) const CLOSE: usize = 57;
    pub(super) const MMAP: usize = 222;
    pub(super) const BRK: usize = 214;
    pub(super) const PRCTL: usize = 167;
    pub(super) const OPENAT: usize = 56;
    pub(super) const READLINKAT: usize = 78;
    pub(super) const STATX: usize = 291;
}
const FSOPEN: usize = 430;
const FSCONFIG: usize = 431;
const FSMOUNT: usize = 432;

const AT_FDCWD: usize = (-100_isize).cast_unsigned();
const AT_EMPTY_PATH: usize = 0x1000;
const AT_PHDR: usize = 3;
const AT_PHENT: usize = 4;
const AT_PHNUM: usize = 5;
const AT_PAGESZ: usize = 6;
const AT_EXECFN: usize = 31;
const FSCONFIG_SET_STRING: usize = 1;
const FSCONFIG_CMD_CREATE: usize = 6;
const FSOPEN_CLOEXEC: usize = 1;
const FSMOUNT_CLOEXEC: usize = 1;
/// MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID and MOUNT_ATTR_NODEV.
const SEALED: usize = 1 | 2 | 4;
const O_CLOEXEC: usize = 0o2_000_000;
#[cfg(target_arch = "x86_64")]
const O_NOFOLLOW: usize = 0o400_000;
#[cfg(target_arch = "aarch64")]
const O_NOFOLLOW: usize = 0o100_000;

// What a segment of the program may be used for (elf(5)) and a mapping (mmap(2)).
const PF_X: u32 = 1;
const PF_W: u32 = 2;
const PF_R: u32 = 4;
const PROT_READ: usize = 1;
const PROT_WRITE: usize = 2;
const PROT_EXEC: usize = 4;
const MAP_PRIVATE: usize = 2;
const MAP_FIXED: usize = 0x10;
const PT_LOAD: u32 = 1;
const STATX_BASIC_STATS: usize = 0x7ff;
const PR_SET_MM: usize = 35;
const PR_SET_MM_MAP: usize = 14;

const LONGEST_PATH: usize = 4096;
/// Room for the name's end and for BESIDE.
const AFTER_PATH: usize = BESIDE.len();
/// The other lower directory, of which an overlay needs one: below the binary's
/// it cannot hide anything.
const BESIDE: &[u8] = b":/dev\0";

/// Whether the program runs from the sealed view without an execve.
static IS_SEALED: AtomicBool = AtomicBool::new(false);

pub(crate) fn is_sealed() -> bool {
    IS_SEALED.load(Ordering::Relaxed)
}

/// A system call; the kernel's answer, negative for an error.
fn call(number: usize, a: usize, b: usize, c: usize, d: usize, e: usize) -> isize {
    call_with(number, [a, b, c, d, e, 0])
}

fn call_with(number: usize, [a, b, c, d, e, f]: [usize; 6]) -> isize {
    let answer: isize;
    // SAFETY: the callers pass pointers that the kernel only reads, up to a
    // NUL, a null pointer or the size they pass with it, but for the buffers of
    // readlinkat, whose length they pass, and of statx, which is one `Facts`;
    // what mmap puts in the place of our pages is of the same file, see
    // `is_what_runs`. The registers are those of the system call ABI.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        asm!(
            "syscall",
            inlateout("rax") number => answer,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e, in("r9") f,
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
        #[cfg(target_arch = "aarch64")]
        asm!(
            "svc 0",
            in("x8") number,
            inlateout("x0") a => answer,
            in("x1") b, in("x2") c, in("x3") d, in("x4") e, in("x5") f,
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

/// Goes over to a sealed view of the program, if that is asked for and the kernel
/// lets a process change what it runs from. The view is not executed where it
/// does not: the program could not tell it from an overlay of somebody else's,
/// with an upper directory that can be written to.
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
        if is_what_runs(view) && start.go_on_from(view).is_some() {
            IS_SEALED.store(true, Ordering::Relaxed);
        }
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
    let flags = O_NOFOLLOW | O_CLOEXEC;
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

/// struct statx (statx(2)) in words of eight bytes.
type Facts = [u64; 32];

/// Whether the file open as `view` is the one that runs. An overlay shows what
/// its directory holds: what a mount hides there, if the binary is one, or what
/// was put there since. While it runs it cannot be written to.
fn is_what_runs(view: usize) -> bool {
    let (mut own, mut seen) = (MaybeUninit::uninit(), MaybeUninit::uninit());
    let Some(own) = facts(AT_FDCWD, b"/proc/self/exe\0", 0, &mut own) else {
        return false;
    };
    let Some(seen) = facts(view, b"\0", AT_EMPTY_PATH, &mut seen) else {
        return false;
    };
    // Inode number, size, and the times of the last change of inode and
    // contents. The device is the overlay's own.
    [4, 5, 12, 13, 14, 15]
        .iter()
        .all(|word| own.get(*word) == seen.get(*word))
}

fn facts<'a>(
    directory: usize,
    name: &[u8],
    flags: usize,
    facts: &'a mut MaybeUninit<Facts>,
) -> Option<&'a Facts> {
    let start = facts.as_mut_ptr().cast::<u64>();
    for at in 0..size_of::<Facts>() / size_of::<u64>() {
        // SAFETY: `at` is below the length of the array that `facts` is for.
        unsafe { start.add(at).write_volatile(0) };
    }
    let answer = call(
        number::STATX,
        directory,
        address(name),
        flags,
        STATX_BASIC_STATS,
        start as usize,
    );
    // SAFETY: every word was written just now.
    (answer == 0).then(|| unsafe { facts.assume_init_ref() })
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

    /// An entry of the auxiliary vector (getauxval(3)).
    fn auxiliary(&self, key: usize) -> Option<usize> {
        let mut at = self.word(0) + 2;
        while self.word(at) != 0 {
            at += 1;
        }
        at += 1;
        while self.word(at) != 0 {
            if self.word(at) == key {
                return Some(self.word(at + 1));
            }
            at += 2;
        }
        None
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
        self.auxiliary(AT_EXECFN)
            .is_some_and(|name| starts_with(name, b"/dev/fd/"))
    }

    /// Maps the program from `file`, another view of the one that runs, in the
    /// place of what was executed, and has the kernel take `file` for it
    /// (`/proc/PID/exe`): what an execve would do, for a quarter of its cost. The
    /// kernel wants nothing of the old one to be mapped any more.
    ///
    /// None if the kernel cannot or does not want to (it takes
    /// CAP_CHECKPOINT_RESTORE or CAP_SYS_ADMIN): what runs is the same program
    /// all the same.
    fn go_on_from(&self, file: usize) -> Option<()> {
        let program = Program::loaded(self)?;
        let memory = self.memory(&program, file)?;
        let mut at = 0;
        while let Some(header) = program.header(at) {
            if header.kind == PT_LOAD {
                program.map_again(header, file)?;
            }
            at += 1;
        }
        let answer = call(
            number::PRCTL,
            PR_SET_MM,
            PR_SET_MM_MAP,
            (&raw const memory) as usize,
            size_of::<MemoryMap>(),
            0,
        );
        (answer == 0).then_some(())
    }

    /// The layout of this process as the kernel made it a moment ago, but for
    /// the file. The strings lie as execve(2) copies them: arguments,
    /// environment, file name.
    fn memory(&self, program: &Program, file: usize) -> Option<MemoryMap> {
        let name = self.auxiliary(AT_EXECFN)?;
        let arguments = self.word(1);
        let environment = match self.word(self.word(0) + 2) {
            0 => name,
            first => first,
        };
        let end_of_heap = call(number::BRK, 0, 0, 0, 0, 0);
        let heap = u64::try_from(end_of_heap).ok()?;
        let mut memory = MemoryMap {
            start_code: u64::MAX,
            end_code: 0,
            start_data: 0,
            end_data: 0,
            start_brk: heap,
            brk: heap,
            start_stack: self.stack as u64,
            arg_start: arguments as u64,
            arg_end: environment as u64,
            env_start: environment as u64,
            env_end: name as u64,
            auxv: 0,
            auxv_size: 0,
            exe_fd: u32::try_from(file).ok()?,
        };
        let mut at = 0;
        while let Some(header) = program.header(at) {
            if header.kind == PT_LOAD {
                memory.include(program.base as u64 + header.address, header);
            }
            at += 1;
        }
        Some(memory)
    }
}

/// Elf64_Phdr, elf(5).
#[repr(C)]
struct Header {
    kind: u32,
    flags: u32,
    offset: u64,
    address: u64,
    physical_address: u64,
    size_in_file: u64,
    size_in_memory: u64,
    alignment: u64,
}

/// struct prctl_mm_map, prctl(2) under PR_SET_MM_MAP.
#[repr(C)]
struct MemoryMap {
    start_code: u64,
    end_code: u64,
    start_data: u64,
    end_data: u64,
    start_brk: u64,
    brk: u64,
    start_stack: u64,
    arg_start: u64,
    arg_end: u64,
    env_start: u64,
    env_end: u64,
    auxv: u64,
    auxv_size: u32,
    exe_fd: u32,
}

impl MemoryMap {
    /// Counts a segment as the kernel does when it loads a program.
    fn include(&mut self, address: u64, header: &Header) {
        let end = address + header.size_in_file;
        if header.flags & PF_X != 0 {
            self.start_code = self.start_code.min(address);
            self.end_code = self.end_code.max(end);
        }
        self.start_data = self.start_data.max(address);
        self.end_data = self.end_data.max(end);
    }
}

/// This program as the kernel loaded it.
struct Program {
    headers: usize,
    count: usize,
    base: usize,
    page: usize,
}

impl Program {
    fn loaded(start: &Start) -> Option<Program> {
        let mut program = Program {
            headers: start.auxiliary(AT_PHDR)?,
            count: start.auxiliary(AT_PHNUM)?,
            base: 0,
            page: start.auxiliary(AT_PAGESZ)?,
        };
        if start.auxiliary(AT_PHENT)? != size_of::<Header>() {
            return None;
        }
        let file = program.file_header()?;
        let mut at = 0;
        while let Some(header) = program.header(at) {
            if header.kind == PT_LOAD && header.offset == 0 {
                let address = usize::try_from(header.address).ok()?;
                program.base = file.checked_sub(address)?;
                return Some(program);
            }
            at += 1;
        }
        None
    }

    /// Where the file's first bytes are, which are followed by the headers of
    /// segments (elf(5), Elf64_Ehdr). None if they are elsewhere.
    fn file_header(&self) -> Option<usize> {
        const MAGIC: u32 = u32::from_ne_bytes(*b"\x7fELF");
        const LENGTH: usize = 64;
        const PLACE_OF_HEADERS: usize = 32;
        if self.headers & (self.page - 1) < LENGTH {
            return None;
        }
        let start = self.headers - LENGTH;
        // SAFETY: they are on the page of the first segment's header, which is
        // mapped, and aligned as that is.
        let (magic, place) = unsafe {
            (
                *(start as *const u32),
                *((start + PLACE_OF_HEADERS) as *const u64),
            )
        };
        (magic == MAGIC && place == LENGTH as u64).then_some(start)
    }

    fn header(&self, at: usize) -> Option<&Header> {
        let address = self.headers + at * size_of::<Header>();
        // SAFETY: the kernel says in the auxiliary vector that there are `count`
        // headers of this size at `headers`. Nothing writes there; a mapping of
        // the same file may take the place of theirs.
        (at < self.count).then(|| unsafe { &*(address as *const Header) })
    }

    /// Maps a segment as the kernel did, from `file`. Nothing of it may have
    /// been written to so far.
    fn map_again(&self, header: &Header, file: usize) -> Option<()> {
        let address = self.base + usize::try_from(header.address).ok()?;
        let offset = usize::try_from(header.offset).ok()?;
        let size = usize::try_from(header.size_in_file).ok()?;
        if size == 0 {
            return Some(());
        }
        let has_variables = header.size_in_memory > header.size_in_file && header.flags & PF_W != 0;
        let into_page = address & (self.page - 1);
        let mut protection = 0;
        for (flag, allowed) in [(PF_R, PROT_READ), (PF_W, PROT_WRITE), (PF_X, PROT_EXEC)] {
            if header.flags & flag != 0 {
                protection |= allowed;
            }
        }
        let answer = call_with(
            number::MMAP,
            [
                address - into_page,
                size + into_page,
                protection,
                MAP_PRIVATE | MAP_FIXED,
                file,
                offset - into_page,
            ],
        );
        if answer < 0 {
            return None;
        }
        let end = address + size;
        let rest = end.wrapping_neg() & (self.page - 1);
        if has_variables {
            for at in 0..rest {
                // SAFETY: this is the rest of the segment's last page, which was
                // mapped just now, to be written to.
                unsafe { (end as *mut u8).add(at).write_volatile(0) };
            }
        }
        Some(())
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
