//! A container's state directory, `<root>/<id>`: what it holds, how it comes
//! and goes, and what it says about the container's status.
//!
//! ```text
//! state.json   what later commands need to know; replaced as a whole
//! .state.json  the same while the container is being created
//! exec.fifo    exists from `create` to `start`; init waits for a byte from it
//! notify/      the sd_notify socket, if there is one
//! ```
//!
//! Not for: what commands do with it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail};
use nix::unistd::Pid;
use rustix::fs::{FileType, FlockOperation, Mode, OFlags};
use rustix::stdio::{stderr, stdin, stdout};
use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::hook;
use crate::plan::external::External;
use crate::plan::hooks::Hook;
use crate::plan::named_devices::NamedDevices;
use crate::plan::process::Shared;

/// The format of state.json. A reader refuses every other one.
const VERSION: u32 = 4;

/// More than any state is: the largest have annotations of some megabytes.
const LONGEST_STATE: u64 = 64 << 20;

/// How long a command waits for another that works on the same container.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);

/// What `state.json` keeps. Paths are absolute. Nothing may be missing when it is
/// read, but limits that are not set: without its cgroup or its system call filter,
/// say, a process of `exec` would run outside of them. So what serde would take for
/// `None` if it is missing is told how to be read.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ContainerState {
    pub(crate) version: u32,
    pub(crate) oci_version: String,
    pub(crate) id: String,
    /// Init's pid as the creator saw it; 0 while it is being created.
    pub(crate) pid: i32,
    /// When init began, in clock ticks since boot (proc_pid_stat(5), field
    /// 22): tells it from a later process with the same pid.
    pub(crate) start_time: u64,
    /// Nanoseconds since the epoch.
    pub(crate) created: u64,
    pub(crate) bundle: PathBuf,
    pub(crate) rootfs: PathBuf,
    pub(crate) annotations: BTreeMap<String, String>,
    /// Where the container's cgroup is.
    pub(crate) cgroup: teu_cgroups::SavedPaths,
    /// What limits hold: the next update begins with them.
    pub(crate) limits: teu_cgroups::Limits,
    /// Whether killing init kills all the others with it.
    pub(crate) private_pid_namespace: bool,
    pub(crate) rootless: bool,
    /// Whether the container's mounts are the host's, to be undone with it.
    pub(crate) mounts_on_host: bool,
    /// What its further processes take over from it.
    pub(crate) shared: Shared,
    /// Those that it has by name.
    pub(crate) devices: NamedDevices,
    /// What of it is the host's, for a checkpoint.
    pub(crate) external: External,
    /// There is no program to start.
    pub(crate) lacks_process: bool,
    /// What runs after the program was started, and after deletion.
    pub(crate) poststart: Vec<Hook>,
    pub(crate) poststop: Vec<Hook>,
    /// Directories of the resctrl filesystem to remove with the container.
    pub(crate) resctrl: Vec<PathBuf>,
    /// The container's group in the resctrl filesystem, if it has one.
    #[serde(deserialize_with = "Option::deserialize")]
    pub(crate) resctrl_group: Option<PathBuf>,
}

/// What of a state is enough to end the container and to remove its cgroup,
/// where the rest cannot be read.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Remains {
    id: String,
    pid: i32,
    start_time: u64,
    cgroup: teu_cgroups::SavedPaths,
}

/// What is in the place of a container's state is none, or another's. That it
/// could only not be read is another error.
#[derive(Debug)]
pub(crate) struct NoState(PathBuf);

impl fmt::Display for NoState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

/// The status of a container (runtime.md, "State"), computed when asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Creating,
    Created,
    Running,
    Paused,
    Stopped,
}

impl Status {
    /// In the order of the life of a container.
    pub(crate) const ALL: [Status; 5] = [
        Status::Creating,
        Status::Created,
        Status::Running,
        Status::Paused,
        Status::Stopped,
    ];

    /// The specification's word for it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Status::Creating => "creating",
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Stopped => "stopped",
        }
    }
}

impl ContainerState {
    /// Nanoseconds since the epoch, for `created`.
    pub(crate) fn now() -> u64 {
        let since = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        u64::try_from(since.as_nanos()).unwrap_or_default()
    }

    /// What hooks are told (runtime.md, "State").
    pub(crate) fn for_hooks(&self, status: Status) -> hook::State<'_> {
        hook::State {
            oci_version: &self.oci_version,
            id: &self.id,
            status: status.word(),
            pid: if status == Status::Stopped {
                0
            } else {
                self.pid
            },
            bundle: &self.bundle,
            annotations: &self.annotations,
        }
    }

    /// Whether init is still the process it was, and alive.
    ///
    /// # Errors
    /// That cannot be known.
    pub(crate) fn init_is_alive(&self) -> Result<bool> {
        if self.pid == 0 {
            return Ok(false);
        }
        let stat = ProcessStat::read(self.pid)?;
        Ok(stat.is_some_and(|stat| stat.start_time == self.start_time && stat.is_alive()))
    }
}

/// The caller's pipes among our standard streams, which a process of ours
/// inherits: `pipe:[7]`, as links in /proc have it; empty words for others.
pub(crate) fn stream_pipes() -> [String; 3] {
    [stdin(), stdout(), stderr()].map(|stream| match rustix::fs::fstat(stream) {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Fifo => {
            format!("pipe:[{}]", stat.st_ino)
        }
        // No other stream can be handed to CRIU by a name.
        _ => String::new(),
    })
}

/// What `/proc/PID/stat` says of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ProcessStat {
    state: u8,
    pub(crate) start_time: u64,
}

impl ProcessStat {
    /// `None` if there is no such process.
    ///
    /// # Errors
    /// There may be one, but it cannot be looked at.
    pub(crate) fn read(pid: i32) -> Result<Option<ProcessStat>> {
        let path = format!("/proc/{pid}/stat");
        // One line, always shorter than this.
        let mut line = [0; 1024];
        let length = match File::open(&path).and_then(|mut file| file.read(&mut line)) {
            Ok(length) => length,
            Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(None),
            // It ended in between.
            Err(err) if err.raw_os_error() == Some(libc::ESRCH) => return Ok(None),
            Err(err) => return Err(err).with_context(|| format!("read {path:?}")),
        };
        let stat = ProcessStat::parse(&String::from_utf8_lossy(&line[..length]));
        stat.map(Some).with_context(|| format!("read {path:?}"))
    }

    /// The name in parentheses may itself hold any byte: fields count from the
    /// last closing one.
    fn parse(stat: &str) -> Option<ProcessStat> {
        let fields = &stat[stat.rfind(')')? + 1..];
        let mut fields = fields.split_ascii_whitespace();
        let state = *fields.next()?.as_bytes().first()?;
        let start_time = fields.nth(18)?.parse().ok()?;
        Some(ProcessStat { state, start_time })
    }

    fn is_alive(self) -> bool {
        !matches!(self.state, b'Z' | b'X')
    }
}

/// The state directory of one container. One that was reserved is removed
/// again when dropped, until [`StateDir::keep`]. Locked against other commands
/// that change the container while [`StateDir::lock`]ed.
#[derive(Debug)]
pub(crate) struct StateDir {
    path: PathBuf,
    lock: RefCell<Option<OwnedFd>>,
    remove_on_drop: bool,
}

impl StateDir {
    /// Makes the directory of all containers, if it is not there.
    ///
    /// # Errors
    /// It cannot be made.
    pub(crate) fn make_root(root: &Path) -> Result<()> {
        match DirBuilder::new().recursive(true).mode(0o700).create(root) {
            Err(err) if err.kind() != io::ErrorKind::AlreadyExists => {
                Err(err).with_context(|| format!("make the root directory {root:?}"))
            }
            _ => Ok(()),
        }
    }

    /// Makes the directory of a new container and locks it.
    ///
    /// # Errors
    /// The name is not allowed or taken, or the directory cannot be made.
    pub(crate) fn reserve(root: &Path, id: &str) -> Result<StateDir> {
        check_id(id)?;
        let path = root.join(id);
        let make = || DirBuilder::new().mode(0o711).create(&path);
        match make() {
            Ok(()) => {}
            Err(err) if err.kind() == io::ErrorKind::AlreadyExists => {
                return Err(Failure::AlreadyExists.into());
            }
            Err(err) if err.kind() == io::ErrorKind::NotFound => {
                let mut builder = DirBuilder::new();
                builder.recursive(true).mode(0o700);
                builder
                    .create(root)
                    .with_context(|| format!("make the root directory {root:?}"))?;
                make().with_context(|| format!("make the state directory {path:?}"))?;
            }
            Err(err) => {
                return Err(err).with_context(|| format!("make the state directory {path:?}"));
            }
        }
        let mut dir = StateDir {
            path,
            lock: RefCell::default(),
            remove_on_drop: true,
        };
        dir.lock()?;
        Ok(dir)
    }

    /// The directory of an existing container, and what it says.
    ///
    /// # Errors
    /// [`Failure::NotFound`] if there is none.
    pub(crate) fn load(root: &Path, id: &str) -> Result<(StateDir, ContainerState)> {
        let dir = StateDir::find(root, id)?;
        let state = dir.read()?;
        Ok((dir, state))
    }

    /// The directory of a container, whatever is in it.
    ///
    /// # Errors
    /// The name is not allowed.
    pub(crate) fn find(root: &Path, id: &str) -> Result<StateDir> {
        check_id(id)?;
        let path = root.join(id);
        Ok(StateDir {
            path,
            lock: RefCell::default(),
            remove_on_drop: false,
        })
    }

    /// What `state.json` says, or, of a container that is being created or
    /// whose creation was interrupted, `.state.json`.
    ///
    /// # Errors
    /// [`Failure::NotFound`] if neither is there; [`NoState`] if it is no state of
    /// this container's, or not all of it.
    pub(crate) fn read(&self) -> Result<ContainerState> {
        let (path, text) = self.read_text()?;
        self.parse(&text).context(NoState(path))
    }

    fn parse(&self, text: &[u8]) -> Result<ContainerState> {
        let state: ContainerState = serde_json::from_slice(text)?;
        if state.version != VERSION {
            let version = state.version;
            bail!("version {version} is not the one this teu knows ({VERSION})");
        }
        self.check_owner(&state.id, state.pid, state.start_time)?;
        Ok(state)
    }

    /// What can be told of a container whose state cannot be [`read`].
    ///
    /// [`read`]: StateDir::read
    ///
    /// # Errors
    /// [`NoState`] if it tells less than that.
    pub(crate) fn read_remains(&self) -> Result<ContainerState> {
        let (path, text) = self.read_text()?;
        self.parse_remains(&text).context(NoState(path))
    }

    fn parse_remains(&self, text: &[u8]) -> Result<ContainerState> {
        let remains: Remains = serde_json::from_slice(text)?;
        self.check_owner(&remains.id, remains.pid, remains.start_time)?;
        Ok(ContainerState {
            id: remains.id,
            pid: remains.pid,
            start_time: remains.start_time,
            cgroup: remains.cgroup,
            ..ContainerState::default()
        })
    }

    fn read_text(&self) -> Result<(PathBuf, Vec<u8>)> {
        let mut path = self.path.join("state.json");
        let mut text = read_bounded(&path);
        if is_missing(&text) {
            path = temporary_of(&path)?;
            text = read_bounded(&path);
        }
        if is_missing(&text) {
            return Err(Failure::NotFound.into());
        }
        match text {
            Err(err) if is_no_state(&err) => Err(err).context(NoState(path)),
            text => {
                let text = text.with_context(|| format!("read {path:?}"))?;
                Ok((path, text))
            }
        }
    }

    /// Checks that a state is this container's, and that its init can be told
    /// from other processes.
    fn check_owner(&self, id: &str, pid: i32, start_time: u64) -> Result<()> {
        if self.path.file_name() != Some(OsStr::new(id)) {
            bail!("id: it is the state of {id:?}");
        }
        if pid < 0 || (pid == 0) != (start_time == 0) {
            bail!("pid: {pid} that began at {start_time} is no init");
        }
        Ok(())
    }

    /// Notes what is known before the container is made, for whoever cleans up
    /// after a creation that was killed.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) fn begin(&self, state: &ContainerState) -> Result<()> {
        let json = json(state)?;
        let path = temporary_of(&self.path.join("state.json"))?;
        let file = state_options().open(&path);
        file.and_then(|mut file| write_all(&mut file, &json))
            .with_context(|| format!("write {path:?}"))
    }

    /// Replaces `state.json` as a whole: a reader sees the old or the new one.
    ///
    /// # Errors
    /// It cannot be written; the old one is then still there.
    pub(crate) fn save(&self, state: &ContainerState) -> Result<()> {
        let path = self.path.join("state.json");
        replace(
            &path,
            &temporary_of(&path)?,
            &json(state)?,
            &state_options(),
        )
    }

    /// Waits until no other command changes this container.
    ///
    /// # Errors
    /// [`Failure::NotFound`] if it was deleted meanwhile, or the other command
    /// takes too long.
    pub(crate) fn lock(&mut self) -> Result<()> {
        self.lock_within(LOCK_PATIENCE)
    }

    fn lock_within(&mut self, patience: Duration) -> Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = match rustix::fs::open(&self.path, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(rustix::io::Errno::NOENT) => return Err(Failure::NotFound.into()),
            Err(err) => return Err(err).with_context(|| format!("open {:?}", self.path)),
        };
        let deadline = Instant::now() + patience;
        while let Err(err) = rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive) {
            if err != rustix::io::Errno::WOULDBLOCK {
                return Err(err).with_context(|| format!("lock {:?}", self.path));
            }
            if Instant::now() > deadline {
                bail!(
                    "lock {:?}: another command works on the container",
                    self.path
                );
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        // The one that held the lock may have removed the directory, and there may
        // be another of that name, which this is no lock of.
        let locked = rustix::fs::fstat(&fd).with_context(|| format!("look at {:?}", self.path))?;
        let is_locked =
            |there: fs::Metadata| (there.dev(), there.ino()) == (locked.st_dev, locked.st_ino);
        if !fs::symlink_metadata(&self.path).is_ok_and(is_locked) {
            return Err(Failure::NotFound.into());
        }
        *self.lock.get_mut() = Some(fd);
        Ok(())
    }

    /// Locks it after a time without a lock, if it still is that of this
    /// container: `false` if that was deleted meanwhile, and perhaps another made
    /// of the same name.
    ///
    /// # Errors
    /// The other command takes too long; its state cannot be read.
    pub(crate) fn lock_again(&mut self, state: &ContainerState) -> Result<bool> {
        match self.lock().and_then(|()| self.read()) {
            Ok(now) => Ok((now.pid, now.start_time) == (state.pid, state.start_time)),
            Err(err) if err.downcast_ref() == Some(&Failure::NotFound) => Ok(false),
            Err(err) => Err(err),
        }
    }

    /// In a forked child: gives up its copy of the lock, which would otherwise
    /// be held as long as the child lives.
    pub(crate) fn leave_lock_to_host(&self) {
        self.lock.take();
    }

    /// The directory.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the fifo that a created init waits at, and opens it for that. It
    /// reads and, should the program not run, writes: no writer that comes and
    /// goes looks like an end. Both ends need be nothing but ours.
    ///
    /// # Errors
    /// The fifo cannot be made.
    pub(crate) fn make_exec_fifo(&self) -> Result<OwnedFd> {
        let path = self.exec_fifo();
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::from_bits_truncate(0o600))
            .with_context(|| format!("make the fifo {path:?}"))?;
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
        rustix::fs::open(&path, flags, Mode::empty())
            .with_context(|| format!("open the fifo {path:?}"))
    }

    /// Lets the init that waits at the fifo go on. Whoever removes the fifo has
    /// started the container; of two that try, one does.
    ///
    /// # Errors
    /// [`Failure::StartRunning`] if it was started before,
    /// [`Failure::StartStopped`] if init is gone.
    pub(crate) fn release_exec_fifo(&self) -> Result<Released> {
        let path = self.exec_fifo();
        let mut fifo = match OpenOptions::new()
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(&path)
        {
            Ok(fifo) => fifo,
            Err(err) if err.kind() == io::ErrorKind::NotFound => {
                return Err(Failure::StartRunning.into());
            }
            // No reader: init has ended.
            Err(err) if err.raw_os_error() == Some(libc::ENXIO) => {
                return Err(Failure::StartStopped.into());
            }
            Err(err) => return Err(err).with_context(|| format!("open the fifo {path:?}")),
        };
        match fs::remove_file(&path) {
            Err(err) if err.kind() == io::ErrorKind::NotFound => {
                return Err(Failure::StartRunning.into());
            }
            result => result.with_context(|| format!("remove the fifo {path:?}"))?,
        }
        match fifo.write_all(b"s") {
            Err(err) if err.kind() == io::ErrorKind::BrokenPipe => {
                Err(Failure::StartStopped.into())
            }
            result => {
                result.with_context(|| format!("write to the fifo {path:?}"))?;
                Ok(Released(fifo))
            }
        }
    }

    fn exec_fifo(&self) -> PathBuf {
        self.path.join("exec.fifo")
    }

    /// The container's status now.
    ///
    /// # Errors
    /// Whether init has ended cannot be known.
    pub(crate) fn status(&self, state: &ContainerState) -> Result<Status> {
        if state.pid == 0 {
            return Ok(match self.is_locked_by_another() {
                true => Status::Creating,
                false => Status::Stopped,
            });
        }
        if !state.init_is_alive()? {
            return Ok(Status::Stopped);
        }
        if teu_cgroups::Cgroup::open(&state.cgroup)
            .is_frozen()
            .unwrap_or(false)
        {
            return Ok(Status::Paused);
        }
        Ok(match self.exec_fifo().exists() {
            true => Status::Created,
            false => Status::Running,
        })
    }

    /// Whether another command works on it: a creation that was killed does
    /// not.
    fn is_locked_by_another(&self) -> bool {
        if self.lock.borrow().is_some() {
            return false;
        }
        let dir = match File::open(&self.path) {
            Ok(dir) => dir,
            Err(err) => return err.kind() != io::ErrorKind::NotFound,
        };
        rustix::fs::flock(&dir, FlockOperation::NonBlockingLockShared).is_err()
    }

    /// Removes the directory with all that is in it.
    ///
    /// # Errors
    /// It cannot be removed; that it is gone already is none.
    pub(crate) fn remove(&mut self) -> Result<()> {
        self.remove_on_drop = false;
        // Most often there is nothing else in it; what there is goes below.
        let state = fs::remove_file(self.path.join("state.json"));
        if state.is_ok() && fs::remove_dir(&self.path).is_ok() {
            return Ok(());
        }
        match fs::remove_dir_all(&self.path) {
            Err(err) if err.kind() != io::ErrorKind::NotFound => {
                Err(err).with_context(|| format!("remove the state directory {:?}", self.path))
            }
            _ => Ok(()),
        }
    }

    /// The container is made: the directory stays and other commands may work
    /// on it, or delete it and make another of the same name.
    pub(crate) fn keep(&mut self) {
        self.remove_on_drop = false;
        if let Some(fd) = self.lock.get_mut().take() {
            // Explicitly, since init holds a copy of the descriptor for a moment.
            // Closing it does the same a little later.
            rustix::fs::flock(&fd, FlockOperation::Unlock).ok();
        }
    }
}

impl Drop for StateDir {
    fn drop(&mut self) {
        if self.remove_on_drop
            && let Err(err) = self.remove()
        {
            log::warn!("{}", crate::errno::chain(&err));
        }
    }
}

/// An init that was let go.
#[derive(Debug)]
pub(crate) struct Released(File);

impl Released {
    /// Waits until it has executed the program: its end of the fifo is closed
    /// by that, or by its death. `false` if it left a word that it could not.
    ///
    /// # Errors
    /// Those of poll(2).
    pub(crate) fn wait_for_exec(&self) -> Result<bool> {
        use rustix::event::{PollFd, PollFlags, poll};
        loop {
            // A fifo without readers is an error to its writers.
            let mut fds = [PollFd::new(&self.0, PollFlags::empty())];
            match poll(&mut fds, None) {
                Ok(_) if fds[0].revents().contains(PollFlags::ERR) => {
                    let left = rustix::io::ioctl_fionread(&self.0);
                    return Ok(left.context("look into the fifo")? == 0);
                }
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(err) => return Err(err).context("wait for the program to start"),
            }
        }
    }
}

/// runc's rule for names (`[A-Za-z0-9_+.-]+`, not "." or "..").
///
/// # Errors
/// The name is empty or not allowed.
pub(crate) fn check_id(id: &str) -> Result<()> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_+-.".contains(&byte);
    if id.is_empty() {
        Err(Failure::EmptyId.into())
    } else if id == "." || id == ".." || !id.bytes().all(allowed) {
        Err(Failure::InvalidId.into())
    } else {
        Ok(())
    }
}

fn json(state: &ContainerState) -> Result<Vec<u8>> {
    let state = ContainerState {
        version: VERSION,
        ..state.clone()
    };
    let mut text = serde_json::to_vec(&state).context("write the state as JSON")?;
    text.push(b'\n');
    if text.len() as u64 > LONGEST_STATE {
        bail!("the state of the container is longer than {LONGEST_STATE} bytes");
    }
    Ok(text)
}

/// Reads a state. What is no file in its place is refused, and does not have us
/// wait, as a fifo would.
fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let mut options = OpenOptions::new();
    options.read(true);
    options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    let file = options.open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        let kind = io::ErrorKind::InvalidInput;
        return Err(io::Error::new(kind, "not a regular file"));
    }
    if metadata.len() > LONGEST_STATE {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let mut text = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or_default());
    file.take(LONGEST_STATE).read_to_end(&mut text)?;
    Ok(text)
}

/// Whether it is something that is never written as a state: no file, too long, or
/// a link.
fn is_no_state(err: &io::Error) -> bool {
    let kinds = [io::ErrorKind::InvalidInput, io::ErrorKind::FileTooLarge];
    kinds.contains(&err.kind()) || err.raw_os_error() == Some(libc::ELOOP)
}

fn is_missing(text: &io::Result<Vec<u8>>) -> bool {
    let missing = [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory];
    text.as_ref()
        .is_err_and(|err| missing.contains(&err.kind()))
}

/// Writes a new file beside `path`, named after this process, and renames it
/// over it.
///
/// # Errors
/// It cannot be written; `path` is then as it was, and so is a file of another's
/// that has the name.
pub(crate) fn write_atomically(path: &Path, text: &[u8], mode: u32) -> Result<()> {
    let mut temporary = temporary_of(path)?.into_os_string();
    temporary.push(format!(".{}", std::process::id()));
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(mode);
    replace(path, Path::new(&temporary), text, &options)
}

/// Writes the file `temporary`, opened by `options`, and renames it over `path`.
fn replace(path: &Path, temporary: &Path, text: &[u8], options: &OpenOptions) -> Result<()> {
    let mut file = options
        .open(temporary)
        .with_context(|| format!("write {temporary:?}"))?;
    let written = write_all(&mut file, text).and_then(|()| fs::rename(temporary, path));
    if written.is_err() {
        // The first error is the one to report.
        fs::remove_file(temporary).ok();
    }
    written.with_context(|| format!("write {path:?}"))
}

/// Writes the whole of a file, which may have been longer.
fn write_all(file: &mut File, text: &[u8]) -> io::Result<()> {
    file.write_all(text)?;
    let length = text.len() as u64;
    if file.metadata()?.len() > length {
        file.set_len(length)
    } else {
        Ok(())
    }
}

/// How state.json's temporary file is opened. One from the beginning of a
/// creation is overwritten and never made empty: ext4 takes a file that was
/// truncated, or renamed over another, for one to be written to disk at once.
fn state_options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false);
    options.mode(0o600);
    options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    options
}

/// The file that becomes `path` when it is complete.
fn temporary_of(path: &Path) -> Result<PathBuf> {
    let name = path
        .file_name()
        .with_context(|| format!("{path:?} has no file name"))?;
    Ok(path.with_file_name(format!(".{}", name.to_string_lossy())))
}

/// Writes the pid file engines wait for: the number and nothing else.
///
/// # Errors
/// It cannot be written.
pub(crate) fn write_pid_file(path: &Path, pid: Pid) -> Result<()> {
    write_atomically(path, pid.to_string().as_bytes(), 0o644)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> PathBuf {
        let dir = std::env::temp_dir().join(format!(
            "teu-state-{}-{:?}",
            std::process::id(),
            std::thread::current().id()
        ));
        fs::create_dir_all(&dir).expect("mkdir");
        dir
    }

    #[test]
    fn names_are_runcs() {
        for id in ["a", "a.b", "A_1+2-3", "..."] {
            assert!(check_id(id).is_ok(), "{id}");
        }
        for id in ["", ".", "..", "a/b", "a b", "ä", "a\n"] {
            assert!(check_id(id).is_err(), "{id}");
        }
    }

    #[test]
    fn a_process_with_a_strange_name_has_a_start_time() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4711 1 1";
        let parsed = ProcessStat::parse(stat).expect("parses");
        assert_eq!(
            parsed,
            ProcessStat {
                state: b'S',
                start_time: 4711
            }
        );
    }

    #[test]
    fn a_reserved_directory_is_gone_unless_kept() {
        let root = root();
        drop(StateDir::reserve(&root, "a").expect("reserve"));
        assert!(!root.join("a").exists());
        StateDir::reserve(&root, "a").expect("reserve").keep();
        assert!(StateDir::reserve(&root, "a").is_err(), "taken");
        fs::remove_dir_all(root).expect("remove");
    }

    #[test]
    fn a_lock_that_another_holds_is_said_to_be_so() {
        let root = root();
        let _held = StateDir::reserve(&root, "a").expect("reserve");
        let mut dir = StateDir::find(&root, "a").expect("find");
        let error = dir.lock_within(Duration::ZERO).expect_err("locked");
        assert!(
            error
                .to_string()
                .ends_with(": another command works on the container")
        );
        fs::remove_dir_all(root).expect("remove");
    }

    #[test]
    fn a_lock_waited_for_is_not_that_of_a_later_container() {
        let root = root();
        let mut first = StateDir::reserve(&root, "a").expect("reserve");
        let mut waiting = StateDir::find(&root, "a").expect("find");
        let waiting = std::thread::spawn(move || waiting.lock());
        // It has opened the directory by then; if not, nothing is shown.
        std::thread::sleep(Duration::from_millis(50));
        first.remove().expect("remove");
        StateDir::reserve(&root, "a").expect("reserve again").keep();
        drop(first);
        let refused = waiting.join().expect("join").expect_err("of the first");
        assert_eq!(refused.downcast_ref(), Some(&Failure::NotFound));
        fs::remove_dir_all(root).expect("remove");
    }

    #[test]
    fn nothing_of_a_state_may_be_missing() {
        let hook = Hook {
            path: "/hook".into(),
            args: vec!["hook".into()],
            env: None,
            timeout: None,
        };
        let state = ContainerState {
            poststart: vec![hook],
            ..ContainerState::default()
        };
        let whole = serde_json::to_value(&state).expect("JSON");
        let read = serde_json::from_value::<ContainerState>;
        read(whole.clone()).expect("whole");
        let mut fields = 0;
        for object in [
            "",
            "/cgroup",
            "/limits",
            "/shared",
            "/shared/defaults",
            "/external",
        ]
        .into_iter()
        .chain(["/poststart/0"])
        {
            let names = whole.pointer(object).and_then(|object| object.as_object());
            for name in names.expect(object).keys() {
                let mut state = whole.clone();
                let object = state.pointer_mut(object).and_then(|it| it.as_object_mut());
                object.and_then(|object| object.remove(name)).expect(name);
                let error = read(state).expect_err(name).to_string();
                assert_eq!(error, format!("missing field `{name}`"));
                fields += 1;
            }
        }
        assert!(fields > 40, "{fields}");
    }

    #[test]
    fn a_container_starts_once() {
        let root = root();
        let mut dir = StateDir::reserve(&root, "a").expect("reserve");
        let fifo = dir.make_exec_fifo().expect("fifo");
        dir.keep();
        dir.release_exec_fifo().expect("first start");
        let mut byte = [0];
        assert_eq!(rustix::io::read(&fifo, &mut byte).expect("read"), 1);
        let again = dir.release_exec_fifo().expect_err("second start");
        assert_eq!(again.downcast_ref(), Some(&Failure::StartRunning));
        fs::remove_dir_all(root).expect("remove");
    }

    #[test]
    fn a_fifo_nobody_reads_is_a_stopped_container() {
        let root = root();
        let mut dir = StateDir::reserve(&root, "a").expect("reserve");
        drop(dir.make_exec_fifo().expect("fifo"));
        let refused = dir.release_exec_fifo().expect_err("no reader");
        assert_eq!(refused.downcast_ref(), Some(&Failure::StartStopped));
        dir.remove().expect("remove");
        fs::remove_dir_all(root).expect("remove");
    }

    #[test]
    fn a_failed_write_leaves_the_old_file() {
        let root = root();
        let file = root.join("state.json");
        write_atomically(&file, b"old", 0o600).expect("write");
        let others = root.join(format!(".state.json.{}", std::process::id()));
        fs::write(&others, b"other").expect("in the way");
        assert!(write_atomically(&file, b"new", 0o600).is_err());
        assert_eq!(fs::read(&file).expect("read"), b"old");
        assert_eq!(fs::read(&others).expect("read"), b"other");
        fs::remove_dir_all(root).expect("remove");
    }
}
