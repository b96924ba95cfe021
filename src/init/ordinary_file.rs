//! Opens a regular file of the container for reading only. Safe whatever the container
//! has put in its place: devices, fifos, and files of the kernel are refused.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Take};
use std::os::fd::{AsRawFd, BorrowedFd};

use anyhow::Context;
use nix::sys::statfs::{self, FsType};
use rustix::fs::{FileType, Mode, OFlags, fstat, openat};
use rustix::io::Result;

use super::procfs::Procfs;
use crate::errno;

/// Filesystems whose regular files are the kernel's own. Reading such a file may have
/// an effect, block, or tell this process secrets that it would not tell another. All
/// other filesystems hold stored data, and a root filesystem may be any of them.
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
    // From the kernel's include/uapi/linux/magic.h, or beside the filesystem's code:
    // binfmt_misc, configfs, efivarfs, fusectl, mqueue and pstore.
    FsType(0x4249_4e4d),
    FsType(0x6265_6570),
    FsType(0xde5e_81e4),
    FsType(0x6573_5543),
    FsType(0x1980_0202),
    FsType(0x6165_676c),
];

/// Returns the lines of the regular file that `handle` (O_PATH) is on, opened by [`open`].
///
/// # Errors
/// `handle` is on another kind of file, or the file cannot be opened.
pub(crate) fn lines(
    handle: BorrowedFd<'_>,
    procfs: &Procfs,
    longest: u64,
) -> anyhow::Result<impl Iterator<Item = io::Result<String>>> {
    let file = open(handle, procfs, longest)?;
    let file = file.context("not a regular file of an ordinary filesystem")?;
    let lines = BufReader::new(file).split(b'\n');
    let text = |line| {
        String::from_utf8(line).unwrap_or_else(|err| String::from_utf8_lossy(err.as_bytes()).into())
    };
    Ok(lines.map(move |line| line.map(text)))
}

/// Opens the regular file that `handle` (O_PATH) is on. Limits reading to the file's
/// length and to `longest` bytes. Returns `None` for another kind of file, because
/// opening a device may have an effect and a fifo blocks, and for a file of the
/// kernel's own.
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
        .map_err(errno::of_nix)?
        .filesystem_type();
    if KERNELS_OWN.contains(&filesystem) {
        return Ok(None);
    }
    // Do not block if another process holds a lease on the file.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let number = handle.as_raw_fd().to_string();
    let file = openat(procfs.descriptors()?, number, flags, Mode::empty())?;
    let length = u64::try_from(found.st_size).unwrap_or(0);
    Ok(Some(File::from(file).take(length.min(longest))))
}
