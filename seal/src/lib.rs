//! Goes on from a sealed view of the program's own binary before even the C
//! library has started, so that the first of two starts costs an execve and a
//! dozen system calls and nothing else.
//!
//! The view is an overlay of two lower directories and no upper one, never
//! attached anywhere: a container that reaches it through `/proc/PID/exe` of
//! its init finds an inode that cannot be written (CVE-2019-5736).
//!
//! The program names `teu_start` as its entry point to the linker. Whatever goes
//! wrong here is passed over: the program starts as usual and has to find out
//! for itself whether it runs from a sealed view.
//!
//! The code runs before relocation: it may use neither the C library nor
//! anything with a pointer in static memory, and the compiler must not put in
//! calls of memcpy and the like.
#![no_std]
#![no_builtins]

mod sys;
