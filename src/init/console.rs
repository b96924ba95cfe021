//! The container's terminal: a pty from the devpts of the container. Opens the ptmx and
//! the pty, sets the size, binds the pty on /dev/console, sends the master to the
//! console socket (`--console-socket`), and makes the pty the standard streams.
//!
//! Checks each file before it opens it for use, and then uses the descriptor, because
//! an image may hold anything under these names (CVE-2025-52565). Not for the parent's
//! end of the socket: see `parent/terminal.rs`.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result, bail};
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, ResolveFlags, fstat, fstatfs, makedev, openat2, statat,
};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout, stdin};
use rustix::termios::{Winsize, tcsetwinsize};
use teu_plan::process::Terminal;

use super::detached::{attach, clone_handle};
use super::paths::{Root, file_to_cover};
use crate::fd_socket;

/// From linux/magic.h.
const DEVPTS_SUPER_MAGIC: u64 = 0x1cd1;
/// Inode number of the root of a devpts (fs/devpts/inode.c).
const DEVPTS_ROOT_INODE: u64 = 1;
/// Inode number of the ptmx of a devpts.
const DEVPTS_PTMX_INODE: u64 = 2;
const PTMX: &str = "/dev/pts/ptmx";

/// Gives this process a terminal as its standard streams and its controlling terminal,
/// binds it on /dev/console, and sends the master to `socket`. The process must lead a
/// session (setsid(2)), and `root` must be its root.
///
/// # Errors
/// There is no devpts at /dev/pts, or nothing receives the terminal.
pub(crate) fn set_up(root: &Root, terminal: &Terminal, socket: impl AsFd) -> Result<()> {
    let master = open_ptmx(root).with_context(|| format!("open {PTMX:?}"))?;
    let pty = open_peer(&master).context("open the terminal")?;
    set_size(&pty, terminal)?;
    bind_on_console(root, &pty).context("bind the terminal on \"/dev/console\"")?;
    fd_socket::send(socket, PTMX.as_bytes(), &master).context("send the terminal")?;
    use_terminal(&pty)?;
    control()
}

/// Does the work of [`set_up`] for a process of a running container. /dev/console stays
/// as it is, and [`control`] sets the controlling terminal later, in the session of the
/// process to be.
///
/// # Errors
/// The errors of [`set_up`].
pub(crate) fn set_up_another(root: &Root, terminal: &Terminal, socket: impl AsFd) -> Result<()> {
    let master = open_ptmx(root).with_context(|| format!("open {PTMX:?}"))?;
    let pty = open_peer(&master).context("open the terminal")?;
    set_size(&pty, terminal)?;
    fd_socket::send(socket, PTMX.as_bytes(), &master).context("send the terminal")?;
    use_terminal(&pty)
}

/// Opens the ptmx of the devpts at /dev/pts. Only the kernel makes files in a devpts,
/// so its names can be trusted once the directory is known to be the root of a devpts.
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
        bail!("it is not a ptmx");
    }
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    // Refuse a file that is mounted over the ptmx (`NO_XDEV`).
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    openat2(&devpts, "ptmx", flags, Mode::empty(), resolve).context("open")
}

/// Opens the slave of the pty, which the container uses, from the master's descriptor
/// and not by name.
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
    let (parent, name) = root
        .parent(Path::new("/dev/console"))
        .context("make its directory")?;
    // Do not follow a link, which a file of the image may be by now.
    let onto = file_to_cover(parent.as_fd(), &name, 0o666).context("create it")?;
    let tree = clone_handle(pty.as_fd(), false).context("open_tree")?;
    attach(tree.as_fd(), onto.as_fd())
}

fn use_terminal(pty: &OwnedFd) -> Result<()> {
    dup2_stdin(pty).context("dup")?;
    dup2_stdout(pty).context("dup")?;
    dup2_stderr(pty).context("dup")
}

/// Makes the terminal on standard input the controlling terminal of this session.
pub(crate) fn control() -> Result<()> {
    rustix::process::ioctl_tiocsctty(stdin()).context("set the controlling terminal")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::init::paths::tests::private_root;
    use crate::testing::words;
    use rustix::fs::{CWD, mknodat};
    use std::fs;
    use std::os::unix::fs::{FileTypeExt, symlink};

    fn mount_devpts(directory: &Path) {
        let empty = nix::mount::MsFlags::empty();
        let options = Some("newinstance,ptmxmode=0666");
        let target = directory.join("dev/pts");
        fs::create_dir_all(&target).expect("mkdir");
        nix::mount::mount(None::<&str>, &target, Some("devpts"), empty, options).expect("devpts");
    }

    #[test]
    fn the_terminal_comes_from_the_own_devpts() {
        private_root("console", |directory, root| {
            mount_devpts(directory);
            rustix::process::setsid().expect("setsid");
            let (ours, theirs) = std::os::unix::net::UnixStream::pair().expect("pair");
            let terminal = Terminal {
                size: Some((25, 80)),
            };
            set_up(root, &terminal, &theirs).expect("set up");
            let master = fd_socket::receive(&ours).expect("receive");
            let size = rustix::termios::tcgetwinsize(&master).expect("size");
            assert_eq!((size.ws_row, size.ws_col), (25, 80));
            let console = fs::metadata(directory.join("dev/console")).expect("stat");
            assert!(console.file_type().is_char_device());
            assert!(rustix::termios::isatty(std::io::stdin()));
            // Keep the master open: closing it would send SIGHUP to this process, which
            // leads the session.
            std::mem::forget(master);
        });
    }

    #[test]
    fn what_only_looks_like_a_devpts_is_refused() {
        private_root("console", |directory, root| {
            fs::create_dir_all(directory.join("dev/pts")).expect("mkdir");
            let ptmx = directory.join("dev/pts/ptmx");
            let (kind, mode) = (FileType::CharacterDevice, Mode::from_raw_mode(0o666));
            mknodat(CWD, ptmx, kind, mode, makedev(5, 2)).expect("mknod");
            let refused = open_ptmx(root).expect_err("refused");
            assert_eq!(words(&refused), "/dev/pts is not a devpts");
        });
    }

    #[test]
    fn a_console_that_is_a_link_is_not_followed() {
        private_root("console", |directory, root| {
            mount_devpts(directory);
            symlink("/etc/passwd", directory.join("dev/console")).expect("symlink");
            let pty = open_peer(&open_ptmx(root).expect("ptmx")).expect("peer");
            let refused = bind_on_console(root, &pty).expect_err("refused");
            assert!(words(&refused).starts_with("create it: "), "{refused:#}");
        });
    }
}
