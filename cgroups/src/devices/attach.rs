//! Loads a device program and attaches it to a cgroup. When it replaces another program, one
//! of the two is in force at every moment.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;

use crate::devices::bpf::Instruction;
use crate::error::{Error, Result};
use crate::sys;

/// Loads `program` and makes it the only device program of the cgroup.
///
/// Programs that a security module hides are left attached. All programs have to allow a
/// request, so a further program can only restrict.
pub(crate) fn attach(directory: &Path, program: &[Instruction]) -> Result<()> {
    let cgroup = open(directory)?;
    let program = load(directory, program)?;
    let failed = |cause| error("attach the device program to", directory, cause);
    // Another process may change the list meanwhile; the kernel then answers ENOENT.
    for _ in 0..10 {
        let old = attached(directory, cgroup.as_fd())?;
        match replace(cgroup.as_fd(), program.as_fd(), &old) {
            Err(Errno::ENOENT) => {}
            result => return result.map_err(failed),
        }
    }
    Err(failed(Errno::ENOENT))
}

/// Returns the number of device programs that are attached to the cgroup.
pub(crate) fn count(directory: &Path) -> Result<usize> {
    let cgroup = open(directory)?;
    Ok(attached(directory, cgroup.as_fd())?.len())
}

fn open(directory: &Path) -> Result<File> {
    File::open(directory).map_err(|cause| Error::system("open cgroup", directory, cause))
}

fn replace(cgroup: BorrowedFd, program: BorrowedFd, old: &[OwnedFd]) -> nix::Result<()> {
    if let [only] = old {
        return sys::attach_device_program(cgroup, program, Some(only.as_fd()));
    }
    sys::attach_device_program(cgroup, program, None)?;
    for program in old {
        sys::detach_device_program(cgroup, program.as_fd())?;
    }
    Ok(())
}

fn attached(directory: &Path, cgroup: BorrowedFd) -> Result<Vec<OwnedFd>> {
    let failed = |cause| error("list the device programs of", directory, cause);
    let mut programs = Vec::new();
    for id in sys::attached_device_programs(cgroup).map_err(failed)? {
        match sys::program_by_id(id) {
            Ok(program) => programs.push(program),
            // The program is hidden, or was detached meanwhile.
            Err(Errno::EPERM | Errno::EACCES | Errno::ENOENT) => {}
            Err(cause) => return Err(failed(cause)),
        }
    }
    Ok(programs)
}

fn load(directory: &Path, program: &[Instruction]) -> Result<OwnedFd> {
    let doing = "load the device program for";
    let mut raised = false;
    let mut interruptions = 0;
    loop {
        match sys::load_device_program(program, None) {
            Ok(program) => return Ok(program),
            // A signal interrupts the verifier.
            Err(Errno::EAGAIN) if interruptions < 30 => interruptions += 1,
            // Before kernel 5.11, programs count as locked memory.
            Err(Errno::EPERM) if !raised => {
                raised = true;
                raise_locked_memory();
            }
            Err(cause @ (Errno::EPERM | Errno::ENOSYS)) => {
                return Err(error(doing, directory, cause));
            }
            Err(cause) => {
                let mut log = vec![0; 64 * 1024];
                let cause = sys::load_device_program(program, Some(&mut log))
                    .err()
                    .unwrap_or(cause);
                let log = String::from_utf8_lossy(&log);
                let log = log.trim_end_matches('\0').trim_end().to_owned();
                let path = directory.to_owned();
                return Err(Error::DeviceProgram {
                    doing,
                    path,
                    cause: cause.into(),
                    log,
                });
            }
        }
    }
}

/// Raises the limit of locked memory. Ignores errors, because loading the program again
/// shows whether the limit is high enough.
fn raise_locked_memory() {
    use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};
    let highest = match setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY) {
        Ok(()) => return,
        Err(_) => getrlimit(Resource::RLIMIT_MEMLOCK).map(|(_, hard)| hard),
    };
    match highest.and_then(|hard| setrlimit(Resource::RLIMIT_MEMLOCK, hard, hard)) {
        Ok(()) | Err(_) => {}
    }
}

fn error(doing: &'static str, directory: &Path, cause: Errno) -> Error {
    Error::DeviceProgram {
        doing,
        path: directory.to_owned(),
        cause: cause.into(),
        log: String::new(),
    }
}
