//! Starting a process in its namespaces: one clone3, no exec.
//!
//! Two ways lead there. In the usual one the child is the host's and is born
//! into its new namespaces:
//!
//! ```text
//! host: setns(pid), unshare(time)   for the next child only, taken back after;
//!                                   setns(network) if it is needed at once
//! host: clone3(new namespaces)      child: waits for its id maps
//! host: writes the id maps          child: becomes root, joins the others,
//!                                   makes its network namespace
//! ```
//!
//! A user namespace together with joined namespaces or a new time namespace
//! needs a step between: what belongs to the host must be joined before, what
//! belongs to the user namespace made after. A short-lived middle process does
//! it and clones the child with CLONE_PARENT. So it does where the host could
//! not come back: root of a user namespace has no power over the pid and time
//! namespaces it was started in (rootless Podman and Docker).

use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use nix::sched::{CloneFlags, unshare};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Gid, Pid, Uid, setresgid, setresuid};

use crate::error::{Error, Result};
use crate::join::{self, Target};
use crate::sys::{self, Cloned, Parent};
use crate::{Kind, NamespacePlan, id_maps, time};

/// A child of this process. Dropped, it is killed and reaped, until [`Child::keep`].
#[derive(Debug)]
pub struct Child {
    pid: Pid,
    pidfd: OwnedFd,
    in_cgroup: bool,
    kept: bool,
}

impl Child {
    pub(crate) fn new(pid: Pid, pidfd: OwnedFd, in_cgroup: bool) -> Child {
        Child {
            pid,
            pidfd,
            in_cgroup,
            kept: false,
        }
    }

    /// A child that another process made for this one (clone(2),
    /// CLONE_PARENT) and that nothing else waits for.
    ///
    /// # Errors
    /// There is no such process.
    pub fn adopt(pid: Pid) -> Result<Child> {
        let pidfd =
            sys::pidfd_open(pid).map_err(|err| Error::new(format!("pidfd_open {pid}"), err))?;
        Ok(Child::new(pid, pidfd, false))
    }

    /// Whether it was born in the cgroup it was meant for. If none was given,
    /// or the kernel refused it, the child is in the caller's.
    pub fn is_in_cgroup(&self) -> bool {
        self.in_cgroup
    }

    /// Its pid in the caller's pid namespace.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// A descriptor for it (pidfd_open(2)): readable once it has ended.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Sends it SIGKILL; it is no error if it has ended.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn kill(&self) -> Result<()> {
        match sys::pidfd_send_signal(&self.pidfd, libc::SIGKILL) {
            Err(err) if err.raw_os_error() != Some(libc::ESRCH) => {
                Err(Error::new(format!("kill process {}", self.pid), err))
            }
            _ => Ok(()),
        }
    }

    /// Waits for its end and reaps it.
    ///
    /// # Errors
    /// Something else reaped it.
    pub fn wait(&self) -> Result<WaitStatus> {
        wait(self.pid)
    }

    /// Whether it has ended by itself: its status, then, and it is reaped.
    ///
    /// # Errors
    /// Something else reaped it.
    pub fn ended(&self) -> Result<Option<WaitStatus>> {
        match waitpid(self.pid, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) => Ok(None),
            Ok(status) => Ok(Some(status)),
            Err(err) => Err(Error::new(format!("wait for process {}", self.pid), err)),
        }
    }

    /// It may live on after this value.
    pub fn keep(&mut self) {
        self.kept = true;
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        // Errors mean that it is gone already, which is what is wanted.
        if self.kill().is_ok() {
            self.wait().ok();
        }
    }
}

pub(crate) fn wait(pid: Pid) -> Result<WaitStatus> {
    loop {
        match waitpid(pid, None) {
            Err(nix::errno::Errno::EINTR) => {}
            Ok(status) => return Ok(status),
            Err(err) => return Err(Error::new(format!("wait for process {pid}"), err)),
        }
    }
}

/// Starts a process in the namespaces of `plan`, and in the v2 cgroup whose
/// directory `cgroup` is if the kernel lets it ([`Child::is_in_cgroup`]). It
/// runs `child` and ends with the status that returns; `child` is told whether
/// all namespaces could be joined.
///
/// A new cgroup namespace is not made here: its root would be the parent's
/// cgroup. The child unshares it once it is in its own.
///
/// The caller must be single-threaded.
///
/// # Errors
/// A namespace that cannot be opened, made or mapped; the child is then gone.
pub fn spawn(
    plan: &NamespacePlan,
    cgroup: Option<BorrowedFd<'_>>,
    child: impl FnOnce(Result<()>) -> i32,
) -> Result<Child> {
    let targets = join::open_all(plan)?;
    if !needs_middle_process(plan)
        && let Some(own) = left_for_child(plan)?
    {
        spawn_directly(plan, targets, own, cgroup, child)
    } else {
        spawn_through_middle(plan, targets, cgroup, child)
    }
}

fn needs_middle_process(plan: &NamespacePlan) -> bool {
    let joins_another = Kind::ALL
        .into_iter()
        .any(|kind| kind != Kind::User && plan.joined(kind).is_some());
    let user = plan.is_private(Kind::User);
    plan.joined(Kind::User).is_some() || user && (joins_another || plan.is_new(Kind::Time))
}

/// The caller's own namespaces that it leaves for its next child in
/// [`HostNamespaces::prepare`]; `None` if it may not go back to one of them.
fn left_for_child(plan: &NamespacePlan) -> Result<Option<Vec<Target>>> {
    let is_left = |kind: &Kind| match kind {
        Kind::Time => plan.is_new(Kind::Time),
        kind => is_joined_by_host(plan, *kind) && plan.joined(*kind).is_some(),
    };
    let mut left = Vec::new();
    for kind in Kind::ALL.into_iter().filter(is_left) {
        let own = join::own(kind)?;
        // Going there from where it is changes nothing.
        if !own.try_join()? {
            return Ok(None);
        }
        left.push(own);
    }
    Ok(Some(left))
}

/// Whether the host joins it for the child, which could not, or not in time.
fn is_joined_by_host(plan: &NamespacePlan, kind: Kind) -> bool {
    match kind {
        Kind::Pid => true,
        Kind::Network => plan.network_at_once,
        _ => false,
    }
}

/// The flags of the namespaces that clone3 itself makes.
fn clone_flags(plan: &NamespacePlan, kinds: &[Kind]) -> CloneFlags {
    kinds
        .iter()
        .filter(|kind| plan.is_new(**kind))
        .fold(CloneFlags::empty(), |flags, kind| flags | kind.flag())
}

/// The flags for the clone, but for a user namespace.
fn own_flags(plan: &NamespacePlan) -> CloneFlags {
    let flags = clone_flags(plan, &[Kind::Mount, Kind::Pid, Kind::Ipc, Kind::Uts]);
    if plan.network_at_once {
        flags | clone_flags(plan, &[Kind::Network])
    } else {
        flags
    }
}

/// In the child: makes the network namespace if clone3 did not.
fn unshare_network(plan: &NamespacePlan) -> Result<()> {
    if plan.network_at_once || !plan.is_new(Kind::Network) {
        return Ok(());
    }
    unshare(Kind::Network.flag()).map_err(|err| Error::new("unshare the network namespace", err))
}

fn unshare_late(flags: CloneFlags) -> Result<()> {
    if flags.is_empty() {
        return Ok(());
    }
    unshare(flags).map_err(|err| Error::new(format!("unshare {}", names(flags)), err))
}

pub(crate) fn socketpair() -> Result<(UnixStream, UnixStream)> {
    UnixStream::pair().map_err(|err| Error::new("socketpair", err))
}

fn spawn_directly(
    plan: &NamespacePlan,
    targets: Vec<Target>,
    own: Vec<Target>,
    cgroup: Option<BorrowedFd<'_>>,
    child: impl FnOnce(Result<()>) -> i32,
) -> Result<Child> {
    let (for_children, in_child): (Vec<_>, Vec<_>) = targets
        .into_iter()
        .partition(|target| is_joined_by_host(plan, target.kind));
    let host = HostNamespaces::prepare(plan, own, &for_children)?;
    let maps = if plan.is_new(Kind::User) {
        Some(socketpair()?)
    } else {
        None
    };
    // The filesystem of message queues is the user's who makes the namespace:
    // the child's when it is root of its user namespace.
    let late = match plan.is_new(Kind::User) {
        true => clone_flags(plan, &[Kind::Ipc]),
        false => CloneFlags::empty(),
    };
    let flags = (own_flags(plan) | clone_flags(plan, &[Kind::User])) - late;
    let cloned = clone_into(flags, cgroup, Parent::Caller);
    match cloned? {
        (Cloned::Child, _) => {
            let joined = become_root(maps)
                .and_then(|()| unshare_late(late))
                .and_then(|()| join_in_child(in_child))
                .and_then(|()| unshare_network(plan));
            sys::exit_now(child(joined))
        }
        (Cloned::Parent(pid, pidfd), in_cgroup) => {
            let child = Child::new(pid, pidfd, in_cgroup);
            host.restore()?;
            if let Some((host, init)) = maps {
                drop(init);
                id_maps::write(pid, &plan.id_maps)?;
                tell(host, b'm')?;
            }
            Ok(child)
        }
    }
}

/// Tells the other side that its maps are written; a child that is gone says
/// why by itself.
fn tell(mut socket: UnixStream, word: u8) -> Result<()> {
    match socket.write_all(&[word]) {
        Err(err) if err.raw_os_error() != Some(libc::EPIPE) => {
            Err(Error::new("tell the child its id maps are written", err))
        }
        _ => Ok(()),
    }
}

/// Clones into the cgroup, or else, if that is refused, not into it; says
/// which. What is wrong with the cgroup is told to whoever enters it later, by
/// name: it hands controllers down (EBUSY), is below a threaded one
/// (EOPNOTSUPP), is gone (ENODEV) or another user's (EACCES). If it was not the
/// cgroup, the second clone says so.
pub(crate) fn clone_into(
    flags: CloneFlags,
    cgroup: Option<BorrowedFd<'_>>,
    parent: Parent,
) -> Result<(Cloned, bool)> {
    if cgroup.is_some()
        && let Ok(cloned) = sys::clone3(flags, cgroup, parent)
    {
        return Ok((cloned, true));
    }
    clone(flags, parent).map(|cloned| (cloned, false))
}

pub(crate) fn clone(flags: CloneFlags, parent: Parent) -> Result<Cloned> {
    sys::clone3(flags, None, parent)
        .map_err(|err| Error::new(format!("clone3 with {}", names(flags)), err))
}

fn names(flags: CloneFlags) -> String {
    let names: Vec<_> = Kind::ALL
        .into_iter()
        .filter(|kind| flags.contains(kind.flag()))
        .map(Kind::spec_name)
        .collect();
    if names.is_empty() {
        "no new namespaces".into()
    } else {
        format!("new {} namespaces", names.join(", "))
    }
}

/// What the host changes about itself for its next child, to be taken back:
/// hooks it starts later are not in the container.
#[derive(Debug)]
struct HostNamespaces {
    /// Those that it leaves.
    own: Vec<Target>,
    undumpable: bool,
}

impl HostNamespaces {
    fn prepare(
        plan: &NamespacePlan,
        own: Vec<Target>,
        for_children: &[Target],
    ) -> Result<HostNamespaces> {
        for_children.iter().try_for_each(Target::join)?;
        let host = HostNamespaces {
            own,
            // Processes there must not look into the child before its execve
            // (CVE-2016-9962).
            undumpable: !for_children.is_empty(),
        };
        if plan.is_new(Kind::Time) {
            time::unshare_for_children()?;
            time::write_offsets(Pid::this(), &plan.time_offsets)?;
        }
        if host.undumpable {
            set_dumpable(false)?;
        }
        Ok(host)
    }

    fn restore(self) -> Result<()> {
        for own in &self.own {
            own.join()?;
        }
        if self.undumpable {
            set_dumpable(true)
        } else {
            Ok(())
        }
    }
}

pub(crate) fn set_dumpable(dumpable: bool) -> Result<()> {
    sys::set_dumpable(dumpable).map_err(|err| Error::new("prctl(PR_SET_DUMPABLE)", err))
}

/// In the child: waits for its maps and becomes root of its user namespace.
fn become_root(maps: Option<(UnixStream, UnixStream)>) -> Result<()> {
    let Some((host, mut init)) = maps else {
        return Ok(());
    };
    drop(host);
    receive(&mut init)?;
    set_root_ids()
}

pub(crate) fn receive(socket: &mut UnixStream) -> Result<u8> {
    let mut word = [0];
    match socket.read_exact(&mut word) {
        Ok(()) => Ok(word[0]),
        Err(err) => Err(Error::new("wait for the id maps", err)),
    }
}

pub(crate) fn set_root_ids() -> Result<()> {
    let (uid, gid) = (Uid::from_raw(0), Gid::from_raw(0));
    setresgid(gid, gid, gid).map_err(|err| Error::new("setresgid 0 in the user namespace", err))?;
    setresuid(uid, uid, uid).map_err(|err| Error::new("setresuid 0 in the user namespace", err))?;
    match sys::clear_groups() {
        // Where setgroups is denied the caller's groups stay, as they must.
        Err(err) if err.raw_os_error() != Some(libc::EPERM) => Err(Error::new("setgroups", err)),
        _ => Ok(()),
    }
}

/// The mount namespace comes last: after it, `/` is another.
fn join_in_child(mut targets: Vec<Target>) -> Result<()> {
    targets.sort_by_key(|target| target.kind == Kind::Mount);
    targets.iter().try_for_each(Target::join)
}

fn spawn_through_middle(
    plan: &NamespacePlan,
    targets: Vec<Target>,
    cgroup: Option<BorrowedFd<'_>>,
    child: impl FnOnce(Result<()>) -> i32,
) -> Result<Child> {
    let (mut host, middle) = socketpair()?;
    match clone_into(CloneFlags::empty(), cgroup, Parent::Caller)? {
        (Cloned::Child, _) => {
            drop(host);
            sys::exit_now(run_middle(plan, targets, middle, child))
        }
        (Cloned::Parent(pid, pidfd), in_cgroup) => {
            drop(middle);
            let middle = Child::new(pid, pidfd, in_cgroup);
            let init = serve_middle(plan, pid, &mut host)?;
            middle.wait()?;
            // Reaped: its pid may be another's by now.
            let mut middle = middle;
            middle.keep();
            let pidfd = sys::pidfd_open(init)
                .map_err(|err| Error::new(format!("pidfd_open {init}"), err))?;
            Ok(Child::new(init, pidfd, in_cgroup))
        }
    }
}

/// The host's side of the middle process: does what it asks, until it names
/// the child.
fn serve_middle(plan: &NamespacePlan, middle: Pid, socket: &mut UnixStream) -> Result<Pid> {
    loop {
        let mut message = [0; 5];
        socket
            .read_exact(&mut message)
            .map_err(|err| Error::new("wait for the namespaces to be joined", err))?;
        let number = i32::from_ne_bytes([message[1], message[2], message[3], message[4]]);
        match message[0] {
            b'm' => id_maps::write(middle, &plan.id_maps)?,
            b't' => time::write_offsets(middle, &plan.time_offsets)?,
            b'p' => return Ok(Pid::from_raw(number)),
            _ => {
                let mut text = String::new();
                socket.read_to_string(&mut text).unwrap_or_default();
                return Err(Error::message(text));
            }
        }
        socket
            .write_all(b"d")
            .map_err(|err| Error::new("answer the middle process", err))?;
    }
}

fn run_middle(
    plan: &NamespacePlan,
    targets: Vec<Target>,
    mut socket: UnixStream,
    child: impl FnOnce(Result<()>) -> i32,
) -> i32 {
    let flags = own_flags(plan);
    let cloned = enter_in_middle(plan, targets, &mut socket)
        .and_then(|()| clone(flags, Parent::CallersParent));
    match cloned {
        Ok(Cloned::Child) => {
            drop(socket);
            child(unshare_network(plan))
        }
        Ok(Cloned::Parent(pid, _)) => i32::from(say(&mut socket, b'p', pid.as_raw()).is_err()),
        Err(error) => tell_error(&mut socket, &error),
    }
}

/// In the middle process: says what went wrong, and the status to end with.
pub(crate) fn tell_error(socket: &mut UnixStream, error: &Error) -> i32 {
    // If the host is gone, nobody is there to hear it.
    say(socket, b'e', 0).ok();
    socket.write_all(error.to_string().as_bytes()).ok();
    1
}

/// Joins what belongs to the host, enters the user namespace, joins what
/// belongs to that, and makes the time namespace.
fn enter_in_middle(
    plan: &NamespacePlan,
    targets: Vec<Target>,
    socket: &mut UnixStream,
) -> Result<()> {
    let (user, mut others): (Vec<_>, Vec<_>) = targets
        .into_iter()
        .partition(|target| target.kind == Kind::User);
    others.sort_by_key(|target| target.kind == Kind::Mount);
    let later = join::join_permitted(others)?;
    if plan.is_new(Kind::User) {
        unshare(Kind::User.flag()).map_err(|err| Error::new("unshare the user namespace", err))?;
        ask(socket, b'm')?;
    }
    for target in &user {
        target.join()?;
    }
    if plan.is_private(Kind::User) {
        set_root_ids()?;
    }
    later.iter().try_for_each(Target::join)?;
    if plan.is_new(Kind::Time) {
        time::unshare_for_children()?;
        ask(socket, b't')?;
    }
    set_dumpable(false)
}

pub(crate) fn say(socket: &mut UnixStream, word: u8, number: i32) -> Result<()> {
    let mut message = [word, 0, 0, 0, 0];
    message[1..].copy_from_slice(&number.to_ne_bytes());
    socket
        .write_all(&message)
        .map_err(|err| Error::new("tell the host", err))
}

fn ask(socket: &mut UnixStream, word: u8) -> Result<()> {
    say(socket, word, 0)?;
    receive(socket).map(|_| ())
}
