//! Goes on from a sealed view of the program's own binary before even the C
//! library has started, when nothing of the program is in use: it takes
//! eighteen system calls and, where the kernel allows it, no second execve.
//!
//! The view is an overlay of two lower directories and no upper one, never
//! attached anywhere: a container that reaches it through `/proc/PID/exe` of
//! its init finds an inode that cannot be written (CVE-2019-5736).
//!
//! The program names `teu_start` as its entry point to the linker. Whatever goes
//! wrong here is passed over: the program starts as usual and has to find out
//! for itself whether it runs from a sealed view. (All but one thing: a kernel
//! that has taken a page of the program away and finds no memory for another.)
//!
//! The code runs before relocation: it may use neither the C library nor
//! anything with a pointer in static memory, and the compiler must not put in
//! calls of memcpy and the like. Hence loops where elsewhere there would be
//! adapters of iterators: those may be called through such a pointer.
#![no_std]
#![no_builtins]

mod sys;

/// Whether this process was brought over to the sealed view without an execve:
/// the kernel takes the view for the file it executes.
#[must_use]
pub fn is_sealed() -> bool {
    sys::is_sealed()
}
