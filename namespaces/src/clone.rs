//! Starts a process in the namespaces of a plan with clone3(2).
//!
//! There are two ways. Usually the parent clones the child directly into the new
//! namespaces:
//!
//! ```text
//! parent: setns(pid), unshare(time)   for the next child only, undone afterwards;
//!                                     setns(network) if it is needed at once
//! parent: clone3(new namespaces)      child: waits for its id maps
//! parent: writes the id maps          child: becomes root, joins the other
//!                                     namespaces, makes its network namespace
//! ```
//!
//! A middle process is needed if a user namespace is combined with joined namespaces or
//! with a new time namespace. Namespaces that belong to the initial user namespace must be
//! joined before the process enters its user namespace; the others must be joined after
//! that. The middle process does both, clones the child with CLONE_PARENT, and exits. A
//! middle process is also needed if the parent could not return to its own pid or time
//! namespace: root of a user namespace has no privileges over the namespaces in which it
//! was started (rootless Podman and Docker).
//!
//! The module does not exec. Processes that join the namespaces of another process are
//! started in `beside.rs`.

use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use nix::sched::{CloneFlags, unshare};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Gid, Pid, Uid, setresgid, setresuid};

use crate::clone_flags::flag;
use crate::error::{Error, Result};
use crate::join::{self, Target};
use crate::sys::{self, Cloned, Parent};
use crate::wait::wait;
use crate::{Kind, NamespacePlan, id_maps, time};

/// A child of this process. Dropping it kills and reaps the process, unless
/// [`Child::keep`] was called.
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

    /// Takes ownership of a child that another process cloned for this one (clone(2),
    /// CLONE_PARENT). Nothing else may wait for it.
    ///
    /// # Errors
    /// Returns an error if there is no such process.
    pub fn adopt(pid: Pid) -> Result<Child> {
        let pidfd =
            sys::pidfd_open(pid).map_err(|err| Error::new(format!("pidfd_open {pid}"), err))?;
        Ok(Child::new(pid, pidfd, false))
    }

    /// Returns whether the child was started in the cgroup that was given. If no
    /// cgroup was given, or the kernel refused it, the child is in the caller's.
    pub fn is_in_cgroup(&self) -> bool {
        self.in_cgroup
    }

    /// Returns the child's pid in the caller's pid namespace.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Returns the child's pidfd (pidfd_open(2)). It is readable once the child has
    /// exited.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Sends SIGKILL to the child. Succeeds if the child has exited.
    ///
    /// # Errors
    /// Returns an error if the kernel refuses to send the signal.
    pub fn kill(&self) -> Result<()> {
        match sys::pidfd_send_signal(&self.pidfd, libc::SIGKILL) {
            Err(err) if err.raw_os_error() != Some(libc::ESRCH) => {
                Err(Error::new(format!("kill process {}", self.pid), err))
            }
            _ => Ok(()),
        }
    }

    /// Waits until the child exits, and reaps it.
    ///
    /// # Errors
    /// Returns an error if the child was reaped before.
    pub fn wait(&self) -> Result<WaitStatus> {
        wait(self.pid)
    }

    /// Reaps the child if it has exited, and returns its status. Returns `None` if the
    /// child is running. Does not wait.
    ///
    /// # Errors
    /// Returns an error if the child was reaped before.
    pub fn ended(&self) -> Result<Option<WaitStatus>> {
        match waitpid(self.pid, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) => Ok(None),
            Ok(status) => Ok(Some(status)),
            Err(err) => Err(Error::new(format!("wait for process {}", self.pid), err)),
        }
    }

    /// Lets the process outlive this value.
    pub fn keep(&mut self) {
        self.kept = true;
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        // An error means that the process is gone already.
        if self.kill().is_ok() {
            self.wait().ok();
        }
    }
}

/// Starts a process in the namespaces of `plan`. `cgroup` is the directory of a v2
/// cgroup; the process starts in it if the kernel allows that
/// ([`Child::is_in_cgroup`]).
///
/// The process runs `child`, which gets the result of joining the namespaces, and exits
/// with the status that `child` returns.
///
/// `ends` are the two ends of a pipe or the like, for a conversation: the first one is the
/// caller's and is returned, the second one is the child's. The other copy of each is
/// dropped, so that each process notices when the other one is gone.
///
/// A new cgroup namespace is not made: its root would be the parent's cgroup. The child
/// has to unshare it after it has entered its own cgroup.
///
/// The caller must be single-threaded; debug builds check that.
///
/// # Errors
/// Returns an error if a namespace cannot be opened, made or mapped. The child is then
/// killed and reaped.
pub fn spawn<P, C>(
    plan: &NamespacePlan,
    cgroup: Option<BorrowedFd<'_>>,
    ends: (P, C),
    child: impl FnOnce(C, Result<()>) -> i32,
) -> Result<(Child, P)> {
    debug_assert!(
        is_single_threaded(),
        "the child would have one thread of several"
    );
    let targets = join::open_all(plan)?;
    let (callers, childs) = ends;
    let child = |joined| child(childs, joined);
    if !needs_middle_process(plan)
        && let Some(own) = namespaces_to_return_to(plan)?
    {
        spawn_directly(plan, targets, own, cgroup, callers, child)
    } else {
        spawn_through_middle(plan, targets, cgroup, callers, child)
    }
}

/// Returns whether the caller may clone without exec. Only looked at in debug builds,
/// since it takes system calls.
pub(crate) fn is_single_threaded() -> bool {
    // If the directory cannot be read, /proc belongs to another pid namespace. Nothing is
    // known then, so assume a single thread.
    std::fs::read_dir("/proc/self/task").map_or(true, |tasks| tasks.count() == 1)
}

fn needs_middle_process(plan: &NamespacePlan) -> bool {
    let joins_another = Kind::ALL
        .into_iter()
        .any(|kind| kind != Kind::User && plan.joined(kind).is_some());
    let user = plan.is_private(Kind::User);
    plan.joined(Kind::User).is_some() || user && (joins_another || plan.is_new(Kind::Time))
}

/// Opens the caller's present namespaces that [`ParentNamespaces::prepare`] changes for its
/// next child, so that the caller can return to them. Returns `None` if the caller is not permitted to return to one of them.
fn namespaces_to_return_to(plan: &NamespacePlan) -> Result<Option<Vec<Target>>> {
    let is_left = |kind: &Kind| match kind {
        Kind::Time => plan.is_new(Kind::Time),
        kind => is_joined_by_parent(plan, *kind) && plan.joined(*kind).is_some(),
    };
    let mut left = Vec::new();
    for kind in Kind::ALL.into_iter().filter(is_left) {
        let own = join::own(kind)?;
        // Joining a namespace from inside it only checks the permission.
        if !own.try_join()? {
            return Ok(None);
        }
        left.push(own);
    }
    Ok(Some(left))
}

/// Returns whether the parent joins a namespace of this kind for the child, because the
/// child could not join it, or not in time.
fn is_joined_by_parent(plan: &NamespacePlan, kind: Kind) -> bool {
    match kind {
        Kind::Pid => true,
        Kind::Network => plan.network_at_once,
        _ => false,
    }
}

/// Returns the clone flags for those of `kinds` that the plan makes new.
fn clone_flags(plan: &NamespacePlan, kinds: &[Kind]) -> CloneFlags {
    kinds
        .iter()
        .filter(|kind| plan.is_new(**kind))
        .fold(CloneFlags::empty(), |flags, kind| flags | flag(*kind))
}

/// Returns the clone flags for all namespaces that clone3 makes, except a user
/// namespace.
fn own_flags(plan: &NamespacePlan) -> CloneFlags {
    let flags = clone_flags(plan, &[Kind::Mount, Kind::Pid, Kind::Ipc, Kind::Uts]);
    if plan.network_at_once {
        flags | clone_flags(plan, &[Kind::Network])
    } else {
        flags
    }
}

/// In the child: makes the network namespace, unless clone3 made it.
fn unshare_network(plan: &NamespacePlan) -> Result<()> {
    if plan.network_at_once || !plan.is_new(Kind::Network) {
        return Ok(());
    }
    unshare(flag(Kind::Network)).map_err(|err| Error::new("unshare the network namespace", err))
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

fn spawn_directly<P>(
    plan: &NamespacePlan,
    targets: Vec<Target>,
    own: Vec<Target>,
    cgroup: Option<BorrowedFd<'_>>,
    callers: P,
    child: impl FnOnce(Result<()>) -> i32,
) -> Result<(Child, P)> {
    let (for_children, in_child): (Vec<_>, Vec<_>) = targets
        .into_iter()
        .partition(|target| is_joined_by_parent(plan, target.kind));
    let parent = ParentNamespaces::prepare(plan, own, &for_children)?;
    let maps = if plan.is_new(Kind::User) {
        Some(socketpair()?)
    } else {
        None
    };
    // The mqueue filesystem of an ipc namespace belongs to the user who made the
    // namespace. In a new user namespace that has to be its root: unshare the ipc
    // namespace after the child has become root.
    let late = match plan.is_new(Kind::User) {
        true => clone_flags(plan, &[Kind::Ipc]),
        false => CloneFlags::empty(),
    };
    let flags = (own_flags(plan) | clone_flags(plan, &[Kind::User])) - late;
    let cloned = clone_into(flags, cgroup, Parent::Caller);
    match cloned? {
        (Cloned::Child, _) => {
            drop(callers);
            let joined = become_root(maps)
                .and_then(|()| unshare_late(late))
                .and_then(|()| join_in_child(in_child))
                .and_then(|()| unshare_network(plan));
            sys::exit_now(child(joined))
        }
        (Cloned::Parent(pid, pidfd), in_cgroup) => {
            let child = Child::new(pid, pidfd, in_cgroup);
            parent.restore()?;
            if let Some((parent, init)) = maps {
                drop(init);
                id_maps::write(pid, &plan.id_maps)?;
                tell_maps_are_written(parent)?;
            }
            Ok((child, callers))
        }
    }
}

/// Tells the child that its id maps are written. Succeeds if the child has exited: its
/// status tells why.
fn tell_maps_are_written(mut socket: UnixStream) -> Result<()> {
    match socket.write_all(b"m") {
        Err(err) if err.raw_os_error() != Some(libc::EPIPE) => {
            Err(Error::new("tell the child its id maps are written", err))
        }
        _ => Ok(()),
    }
}

/// Clones into the cgroup or, if the kernel refuses that, into the caller's. Returns
/// whether the child is in the cgroup.
///
/// The error is not reported here, because the caller then moves the child into the
/// cgroup and gets an error that names the cgroup. The kernel refuses a cgroup that
/// enables controllers for its children (EBUSY), is below a threaded cgroup
/// (EOPNOTSUPP), was removed (ENODEV) or belongs to another user (EACCES). If the cgroup
/// was not the reason, the second clone fails too.
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

/// Calls clone3(2); the error names the new namespaces.
pub(crate) fn clone(flags: CloneFlags, parent: Parent) -> Result<Cloned> {
    sys::clone3(flags, None, parent)
        .map_err(|err| Error::new(format!("clone3 with {}", names(flags)), err))
}

fn names(flags: CloneFlags) -> String {
    let names: Vec<_> = Kind::ALL
        .into_iter()
        .filter(|kind| flags.contains(flag(*kind)))
        .map(Kind::spec_name)
        .collect();
    if names.is_empty() {
        "no new namespaces".into()
    } else {
        format!("new {} namespaces", names.join(", "))
    }
}

/// The changes that the parent makes to itself for its next child. They are undone
/// afterwards, so that hooks do not run in the container's namespaces.
#[derive(Debug)]
struct ParentNamespaces {
    /// The parent's own namespaces, to return to.
    own: Vec<Target>,
    undumpable: bool,
}

impl ParentNamespaces {
    fn prepare(
        plan: &NamespacePlan,
        own: Vec<Target>,
        for_children: &[Target],
    ) -> Result<ParentNamespaces> {
        for_children.iter().try_for_each(Target::join)?;
        let parent = ParentNamespaces {
            own,
            // Processes in the joined namespaces must not ptrace the child before its
            // execve (CVE-2016-9962).
            undumpable: !for_children.is_empty(),
        };
        if plan.is_new(Kind::Time) {
            time::unshare_for_children()?;
            time::write_offsets(Pid::this(), &plan.time_offsets)?;
        }
        if parent.undumpable {
            set_dumpable(false)?;
        }
        Ok(parent)
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

/// In the child: waits until the parent has written the id maps, and becomes root of the
/// user namespace.
fn become_root(maps: Option<(UnixStream, UnixStream)>) -> Result<()> {
    let Some((host, mut init)) = maps else {
        return Ok(());
    };
    drop(host);
    receive(&mut init)?;
    set_root_ids()
}

/// Reads one byte from the parent.
pub(crate) fn receive(socket: &mut UnixStream) -> Result<u8> {
    let mut word = [0];
    match socket.read_exact(&mut word) {
        Ok(()) => Ok(word[0]),
        Err(err) => Err(Error::new("wait for the parent", err)),
    }
}

/// Becomes root of the user namespace and drops the supplementary groups.
pub(crate) fn set_root_ids() -> Result<()> {
    let (uid, gid) = (Uid::from_raw(0), Gid::from_raw(0));
    setresgid(gid, gid, gid).map_err(|err| Error::new("setresgid 0 in the user namespace", err))?;
    setresuid(uid, uid, uid).map_err(|err| Error::new("setresuid 0 in the user namespace", err))?;
    match sys::clear_groups() {
        // If setgroups is denied in the user namespace, the caller's groups stay.
        Err(err) if err.raw_os_error() != Some(libc::EPERM) => Err(Error::new("setgroups", err)),
        _ => Ok(()),
    }
}

/// Joins namespaces, the mount namespace last, because it changes `/`.
fn join_in_child(mut targets: Vec<Target>) -> Result<()> {
    targets.sort_by_key(|target| target.kind == Kind::Mount);
    targets.iter().try_for_each(Target::join)
}

fn spawn_through_middle<P>(
    plan: &NamespacePlan,
    targets: Vec<Target>,
    cgroup: Option<BorrowedFd<'_>>,
    callers: P,
    child: impl FnOnce(Result<()>) -> i32,
) -> Result<(Child, P)> {
    let (mut host, middle) = socketpair()?;
    match clone_into(CloneFlags::empty(), cgroup, Parent::Caller)? {
        (Cloned::Child, _) => {
            drop((host, callers));
            sys::exit_now(run_middle(plan, targets, middle, child))
        }
        (Cloned::Parent(pid, pidfd), in_cgroup) => {
            drop(middle);
            let middle = Child::new(pid, pidfd, in_cgroup);
            let init = serve_middle(plan, pid, &mut host)?;
            middle.wait()?;
            // The middle process is reaped, so its pid may be reused: do not kill it.
            let mut middle = middle;
            middle.keep();
            let pidfd = sys::pidfd_open(init)
                .map_err(|err| Error::new(format!("pidfd_open {init}"), err))?;
            Ok((Child::new(init, pidfd, in_cgroup), callers))
        }
    }
}

/// In the parent: serves the middle process until it sends the child's pid, which is
/// returned.
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
            _ => return Err(told_error(socket)),
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
        Ok(Cloned::Parent(pid, _)) => i32::from(send(&mut socket, b'p', pid.as_raw()).is_err()),
        Err(error) => tell_error(&mut socket, &error),
    }
}

/// In the middle process: sends the error to the parent. Returns the exit status.
pub(crate) fn tell_error(socket: &mut UnixStream, error: &Error) -> i32 {
    // A failure to send means that the parent is gone.
    send(socket, b'e', 0).ok();
    socket.write_all(teu_errno::line(error).as_bytes()).ok();
    1
}

/// In the parent: reads the error that [`tell_error`] sends after its first message.
pub(crate) fn told_error(socket: &mut UnixStream) -> Error {
    let mut text = Vec::new();
    match socket.read_to_end(&mut text) {
        // The connection is reset if the middle process exits before it reads all that this
        // process sent. The text came before.
        Err(err) if text.is_empty() => Error::new("read the middle process's error", err),
        Ok(_) if text.is_empty() => Error::message("the middle process ended without a reason"),
        Ok(_) | Err(_) => Error::message(String::from_utf8_lossy(&text).into_owned()),
    }
}

/// In the middle process: joins the namespaces that the initial user namespace owns,
/// enters the user namespace, joins the namespaces that the user namespace owns, and
/// makes the time namespace.
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
        unshare(flag(Kind::User)).map_err(|err| Error::new("unshare the user namespace", err))?;
        ask(socket, b'm')?;
    }
    // If the caller is root, make this process not dumpable before it joins the user
    // namespace, so that processes there cannot trace it and take root's privileges. Another
    // caller has no privilege worth taking, and must stay dumpable: otherwise it could not
    // write the time offsets of its child.
    if !user.is_empty() && nix::unistd::geteuid().is_root() {
        set_dumpable(false)?;
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

/// Sends a word and a number to the parent.
pub(crate) fn send(socket: &mut UnixStream, word: u8, number: i32) -> Result<()> {
    let mut message = [word, 0, 0, 0, 0];
    message[1..].copy_from_slice(&number.to_ne_bytes());
    socket
        .write_all(&message)
        .map_err(|err| Error::new("tell the host", err))
}

/// Sends a request to the parent and waits until it is done.
fn ask(socket: &mut UnixStream, word: u8) -> Result<()> {
    send(socket, word, 0)?;
    receive(socket).map(|_| ())
}
