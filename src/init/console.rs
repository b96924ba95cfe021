//! DO: the container's terminal: a pty of its own devpts, the other side of
//! which goes to whoever listens on the console socket.
//!
//! What is opened is looked at first, and used by descriptor: an image may hold
//! anything under these names (CVE-2025-52565).

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result, bail};
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, ResolveFlags, fstat, fstatfs, makedev, openat2, statat,
};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};
use rustix::termios::{Winsize, tcsetwinsize};

use super::mounts::{attach, clone_handle};
use super::paths::Root;
use crate::fd_socket;
use crate::plan::process::Terminal;

/// linux/magic.h.
const DEVPTS_SUPER_MAGIC: u64 = 0x1cd1;
/// Inode numbers of a devpts's root and its ptmx (fs/devpts/inode.c).
const DEVPTS_ROOT_INODE: u64 = 1;
const DEVPTS_PTMX_INODE: u64 = 2;
const PTMX: &str = "/dev/pts/ptmx";

/// Gives this process a terminal as its standard streams and its controlling
/// terminal, binds it on /dev/console, and sends its other side to `socket`.
/// The process must lead a session (setsid(2)), and `root` be its root.
///
/// # Errors
/// There is no devpts at /dev/pts, or nobody takes the terminal.
pub(crate) fn set_up(root: &Root, terminal: &Terminal, socket: impl AsFd) -> Result<()> {
    let master = open_ptmx(root).with_context(|| format!("open {PTMX:?}"))?;
    let pty = open_peer(&master).context("open the terminal")?;
    set_size(&pty, terminal)?;
    bind_on_console(root, &pty).context("bind the terminal on \"/dev/console\"")?;
    fd_socket::send(socket, PTMX.as_bytes(), &master).context("send the terminal")?;
    use_terminal(&pty)
}

/// Like [`set_up`], for a process in a container that runs already: its
/// /dev/console stays as it is.
///
/// # Errors
/// As [`set_up`].
pub(crate) fn set_up_another(root: &Root, terminal: &Terminal, socket: impl AsFd) -> Result<()> {
    let master = open_ptmx(root).with_context(|| format!("open {PTMX:?}"))?;
    let pty = open_peer(&master).context("open the terminal")?;
    set_size(&pty, terminal)?;
    fd_socket::send(socket, PTMX.as_bytes(), &master).context("send the terminal")?;
    use_terminal(&pty)
}

/// The ptmx of the devpts at /dev/pts. Only the kernel makes files in a devpts,
/// so once the directory is the root of one, the name can be trusted.
fn open_ptmx(root: &Root) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    let devpts = root
        .open(Path::new("/dev/pts"), flags, ResolveFlags::empty())
        .context("open \"/dev/pts\"")?;
    let is_devpts = u64::try_from(fstatfs(&devpts).context("statfs")?.f_type)
        .is_ok_and(|kind| kind == DEVPTS_SUPER_MAGIC);
    if !is_devpts || fstat(&devpts).context("fstat")?.st_ino != DEVPTS_ROOT_INODE {
        bail!("/dev/pts is not a devpts");
    }
    let stat = statat(&devpts, "ptmx", AtFlags::SYMLINK_NOFOLLOW).context("stat")?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::CharacterDevice
        || stat.st_rdev != makedev(5, 2)
        || stat.st_ino != DEVPTS_PTMX_INODE
    {
        bail!("it is no ptmx");
    }
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    // Nothing may be mounted over it.
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    openat2(&devpts, "ptmx", flags, Mode::empty(), resolve).context("open")
}

/// The side of the pty that the container uses: from the descriptor, not by
/// its name.
fn open_peer(master: &OwnedFd) -> Result<OwnedFd> {
    unlockpt(master).context("unlock")?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    ioctl_tiocgptpeer(master, flags).context("TIOCGPTPEER")
}

fn set_size(pty: &OwnedFd, terminal: &Terminal) -> Result<()> {
    let Some((rows, columns)) = terminal.size else {
        return Ok(());
    };
    let size = Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(pty, size).context("set the size of the terminal")
}

fn bind_on_console(root: &Root, pty: &OwnedFd) -> Result<()> {
    let onto = console_file(root).context("create it")?;
    let tree = clone_handle(pty.as_fd(), false).context("open_tree")?;
    attach(tree.as_fd(), onto.as_fd())
}

/// /dev/console, made if it is missing. A link in its place is an error, and
/// what is there is not opened for use.
fn console_file(root: &Root) -> Result<OwnedFd> {
    let (parent, name) = root.parent(Path::new("/dev/console"))?;
    let create = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(&parent, &name, create, Mode::from_raw_mode(0o666)) {
        Err(rustix::io::Errno::EXIST) => {}
        made => return Ok(made?),
    }
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let found = rustix::fs::openat(&parent, &name, flags, Mode::empty())?;
    if FileType::from_raw_mode(fstat(&found)?.st_mode) == FileType::Symlink {
        bail!("it is a symbolic link");
    }
    Ok(found)
}

fn use_terminal(pty: &OwnedFd) -> Result<()> {
    dup2_stdin(pty).context("dup")?;
    dup2_stdout(pty).context("dup")?;
    dup2_stderr(pty).context("dup")?;
    rustix::process::ioctl_tiocsctty(pty).context("set the controlling terminal")
}
