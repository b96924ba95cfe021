//! A regular file of the container's that is only read, whatever the container has put
//! in its place.

use std::fs::File;
use std::io::{Read, Take};
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::sys::statfs::{self, FsType};
use rustix::fs::{FileType, Mode, OFlags, fstat, openat};
use rustix::io::{Errno, Result};

use super::procfs::Procfs;

/// Filesystems with regular files that are the kernel's: it may do something
/// when they are read, wait, or tell this process what it would not tell another.
/// All others hold what somebody has stored, and a root filesystem may be any.
const KERNELS_OWN: [FsType; 17] = [
    statfs::BPF_FS_MAGIC,
    statfs::CGROUP_SUPER_MAGIC,
    statfs::CGROUP2_SUPER_MAGIC,
    statfs::DEBUGFS_MAGIC,
    statfs::PROC_SUPER_MAGIC,
    statfs::RDTGROUP_SUPER_MAGIC,
    statfs::SECURITYFS_MAGIC,
    statfs::SELINUX_MAGIC,
    statfs::SMACK_MAGIC,
    statfs::SYSFS_MAGIC,
    statfs::TRACEFS_MAGIC,
    // Of the kernel's include/uapi/linux/magic.h, or beside their code: binfmt_misc,
    // configfs, efivarfs, fusectl, mqueue and pstore.
    FsType(0x4249_4e4d),
    FsType(0x6265_6570),
    FsType(0xde5e_81e4),
    FsType(0x6573_5543),
    FsType(0x1980_0202),
    FsType(0x6165_676c),
];

/// Opens the regular file that `handle` (O_PATH) is on, to read no more than it
/// is long, and no more than `longest` bytes. `None` if it is something else, or
/// one of the kernel's own: opening a device may do something, and a fifo waits.
pub(crate) fn open(
    handle: BorrowedFd<'_>,
    procfs: &Procfs,
    longest: u64,
) -> Result<Option<Take<File>>> {
    let found = fstat(handle)?;
    if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
        return Ok(None);
    }
    let filesystem = statfs::fstatfs(handle)
        .map_err(|err| Errno::from_raw_os_error(err as i32))?
        .filesystem_type();
    if KERNELS_OWN.contains(&filesystem) {
        return Ok(None);
    }
    // Not to wait for whoever holds a lease on it.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let number = handle.as_raw_fd().to_string();
    let file = openat(procfs.descriptors()?, number, flags, Mode::empty())?;
    let length = u64::try_from(found.st_size).unwrap_or(0);
    Ok(Some(File::from(file).take(length.min(longest))))
}
