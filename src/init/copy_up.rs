//! Fills a new tmpfs with a copy of the directory that it is about to cover
//! (`tmpcopyup`): files, links, devices, owners, modes and times. Not for extended
//! attributes.

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Result};
use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, SeekFrom, Stat, Timespec, Timestamps, Uid, chmodat,
    chownat, fstat, mkdirat, mknodat, openat, readlinkat, seek, statat, symlinkat, utimensat,
};
use rustix::io::Errno;

use super::ordinary_file;
use super::procfs::Procfs;

/// Copies the content of the directory `from` into the directory `to`. Links are
/// copied, never followed.
pub(super) fn copy_up(from: BorrowedFd<'_>, to: BorrowedFd<'_>, procfs: &Procfs) -> Result<()> {
    let from = open_directory(from, c".")?;
    let entries = Dir::read_from(&from).context("read directory")?;
    for entry in entries {
        let entry = entry.context("read directory")?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            copy(from.as_fd(), to, name, procfs).with_context(|| format!("{name:?}"))?;
        }
    }
    Ok(())
}

fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr, procfs: &Procfs) -> Result<()> {
    let stat = statat(from, name, AtFlags::SYMLINK_NOFOLLOW).context("stat")?;
    let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => {
            mkdirat(to, name, mode).context("mkdir")?;
            let child = open_directory(from, name)?;
            copy_up(child.as_fd(), open_directory(to, name)?.as_fd(), procfs)?;
        }
        FileType::Symlink => {
            let target = readlinkat(from, name, Vec::new()).context("readlink")?;
            symlinkat(target, to, name).context("symlink")?;
        }
        FileType::RegularFile => copy_file(from, to, name, mode, procfs)?,
        kind => mknodat(to, name, kind, mode, stat.st_rdev).context("mknod")?,
    }
    copy_metadata(to, name, &stat)
}

fn copy_file(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    name: &CStr,
    mode: Mode,
    procfs: &Procfs,
) -> Result<()> {
    let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC;
    // Another process may have put a device in place of the file.
    let handle = openat(from, name, OFlags::PATH | flags, Mode::empty()).context("open")?;
    let source = ordinary_file::open(handle.as_fd(), procfs, u64::MAX).context("open")?;
    let source = source.context("not a regular file of an ordinary filesystem")?;
    let create = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | flags;
    let target = openat(to, name, create, mode).context("create")?;
    copy_data(source.into_inner(), File::from(target)).context("copy")
}

/// Copies all data except holes, because each zero that is written to a tmpfs takes
/// memory.
fn copy_data(mut source: File, mut target: File) -> io::Result<()> {
    target.set_len(source.metadata()?.len())?;
    let mut end = 0;
    loop {
        let start = match seek(&source, SeekFrom::Data(end)) {
            // Only a hole is left.
            Err(Errno::NXIO) => return Ok(()),
            start => start?,
        };
        end = seek(&source, SeekFrom::Hole(start))?;
        seek(&source, SeekFrom::Start(start))?;
        seek(&target, SeekFrom::Start(start))?;
        io::copy(&mut (&mut source).take(end - start), &mut target)?;
    }
}

/// Sets the owner before the mode, because a change of owner clears the set-id bits.
fn copy_metadata(to: BorrowedFd<'_>, name: &CStr, stat: &Stat) -> Result<()> {
    let nofollow = AtFlags::SYMLINK_NOFOLLOW;
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    chownat(to, name, Some(uid), Some(gid), nofollow).context("chown")?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
        let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
        chmodat(to, name, mode, AtFlags::empty()).context("chmod")?;
    }
    let times = Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    };
    utimensat(to, name, &times, nofollow).context("set times")
}

fn time(seconds: impl TryInto<i64>, nanoseconds: impl TryInto<i64>) -> Timespec {
    Timespec {
        tv_sec: seconds.try_into().unwrap_or(0),
        tv_nsec: nanoseconds.try_into().unwrap_or(0),
    }
}

fn open_directory(parent: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = openat(parent, name, flags, Mode::empty()).context("open directory")?;
    fstat(&opened).context("fstat")?;
    Ok(opened)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::init::paths::tests::private_root;

    #[test]
    fn a_device_in_place_of_a_file_is_not_read() {
        private_root("copy-up", |directory, root| {
            let zero = rustix::fs::makedev(1, 5);
            let mode = Mode::from_raw_mode(0o666);
            mknodat(root, c"was-a-file", FileType::CharacterDevice, mode, zero).expect("mknod");
            mkdirat(root, c"to", Mode::RWXU).expect("mkdir");
            let to = open_directory(root.as_fd(), c"to").expect("open");
            let procfs = Procfs::open().expect("proc");
            let copied = copy_file(root.as_fd(), to.as_fd(), c"was-a-file", mode, &procfs);
            let refused = copied.expect_err("copied");
            assert_eq!(
                refused.to_string(),
                "not a regular file of an ordinary filesystem"
            );
            assert!(!directory.join("to/was-a-file").exists());
        });
    }
}
