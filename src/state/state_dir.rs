//! A container's state directory, `<root>/<id>`: makes, locks and removes it, and reads
//! and writes the state in it.
//!
//! ```text
//! state.json   the state; replaced as a whole
//! .state.json  the state while the container is being created
//! exec.fifo    see `exec_fifo.rs`
//! notify/      the sd_notify socket, if there is one
//! devices/     nodes that the parent makes, while the container is being created
//! criu-root/   the root filesystem for CRIU, during a restore
//! ```
//!
//! Not for what commands do with the state.

use std::cell::RefCell;
use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, DirBuilder};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::fs::{FlockOperation, Mode, OFlags};
use serde::Deserialize;

use super::ContainerState;
use super::container_id;
use crate::atomic_file::{open, replace, temporary_of, write_all};
use crate::known_failures::Failure;

/// The format of state.json. Readers refuse every other version.
pub(super) const VERSION: u32 = 4;

/// More bytes than any state has. The largest have annotations of some megabytes.
const LONGEST_STATE: u64 = 64 << 20;

/// The time that a command waits for another command on the same container.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);

/// The part of a state that suffices to kill the container and to remove its cgroup, if
/// the rest cannot be read.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Remains {
    id: String,
    pid: i32,
    start_time: u64,
    cgroup: teu_cgroups::SavedPaths,
}

/// The file is not a state, or is the state of another container. A file that cannot be
/// read is a different error.
#[derive(Debug)]
pub(crate) struct NoState(PathBuf);

impl fmt::Display for NoState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

/// The state directory of a container. A reserved directory is removed when dropped,
/// until [`StateDir::keep`]. After [`StateDir::lock`], no other command can change the
/// container.
#[derive(Debug)]
pub(crate) struct StateDir {
    path: PathBuf,
    lock: RefCell<Option<OwnedFd>>,
    remove_on_drop: bool,
}

impl StateDir {
    /// Makes the directory of all containers, if it does not exist.
    ///
    /// # Errors
    /// The directory cannot be made.
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
        container_id::check(id)?;
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
        StateDir::take(path)
    }

    /// Locks a directory that this process has just made. Refuses a directory with a state:
    /// another command made it, after this process's was removed.
    fn take(path: PathBuf) -> Result<StateDir> {
        let mut dir = StateDir {
            path,
            lock: RefCell::default(),
            remove_on_drop: false,
        };
        dir.lock()?;
        let state = dir.path.join("state.json");
        for file in [temporary_of(&state)?, state] {
            let is_there = file.try_exists();
            if is_there.with_context(|| format!("look up {file:?}"))? {
                return Err(Failure::AlreadyExists.into());
            }
        }
        dir.remove_on_drop = true;
        Ok(dir)
    }

    /// Returns the directory and the state of an existing container.
    ///
    /// # Errors
    /// [`Failure::NotFound`] if the container does not exist.
    pub(crate) fn load(root: &Path, id: &str) -> Result<(StateDir, Box<ContainerState>)> {
        let dir = StateDir::find(root, id)?;
        let state = dir.read()?;
        Ok((dir, state))
    }

    /// Returns the directory of a container, without reading it.
    ///
    /// # Errors
    /// The name is not allowed.
    pub(crate) fn find(root: &Path, id: &str) -> Result<StateDir> {
        container_id::check(id)?;
        let path = root.join(id);
        Ok(StateDir {
            path,
            lock: RefCell::default(),
            remove_on_drop: false,
        })
    }

    /// Reads `state.json` or, for a container that is being created or whose creation
    /// was interrupted, `.state.json`.
    ///
    /// # Errors
    /// [`Failure::NotFound`] if neither file exists; [`NoState`] if the file is not a
    /// complete state of this container.
    pub(crate) fn read(&self) -> Result<Box<ContainerState>> {
        let (path, text) = self.read_text()?;
        self.parse(&text).context(NoState(path))
    }

    /// Parses the text of a state.
    ///
    /// # Errors
    /// Returns an error if it is not a state of this container, or not all of it.
    pub(crate) fn parse(&self, text: &[u8]) -> Result<Box<ContainerState>> {
        let state: Box<ContainerState> = serde_json::from_slice(text)?;
        if state.version != VERSION {
            let version = state.version;
            bail!("version {version} is not the one this teu knows ({VERSION})");
        }
        self.check_owner(&state.id, state.pid, state.start_time)?;
        Ok(state)
    }

    /// Reads the remains of a state that cannot be [`read`].
    ///
    /// [`read`]: StateDir::read
    ///
    /// # Errors
    /// [`NoState`] if the file has not even these.
    pub(crate) fn read_remains(&self) -> Result<ContainerState> {
        let (path, text) = self.read_text()?;
        self.parse_remains(&text).context(NoState(path))
    }

    /// Parses as much of a state as [`StateDir::read_remains`] returns.
    ///
    /// # Errors
    /// Returns an error if the text tells less than that.
    pub(crate) fn parse_remains(&self, text: &[u8]) -> Result<ContainerState> {
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

    /// Checks that a state is this container's, and that its init can be told from
    /// other processes.
    fn check_owner(&self, id: &str, pid: i32, start_time: u64) -> Result<()> {
        if self.path.file_name() != Some(OsStr::new(id)) {
            bail!("id: it is the state of {id:?}");
        }
        if pid < 0 || (pid == 0) != (start_time == 0) {
            bail!("pid: {pid} that began at {start_time} is no init");
        }
        Ok(())
    }

    /// Saves the known state before the container is made, for a command that cleans up
    /// after a killed creation.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn begin(&self, state: &ContainerState) -> Result<()> {
        let json = json(state)?;
        let path = temporary_of(&self.path.join("state.json"))?;
        let file = open(&path, STATE_FLAGS, 0o600);
        file.and_then(|mut file| write_all(&mut file, &json))
            .with_context(|| format!("write {path:?}"))
    }

    /// Replaces `state.json` as a whole: a reader sees the old or the new state.
    ///
    /// # Errors
    /// The file cannot be written. The old state is still there then.
    pub(crate) fn save(&self, state: &ContainerState) -> Result<()> {
        let path = self.path.join("state.json");
        let temporary = temporary_of(&path)?;
        replace(&path, &temporary, &json(state)?, STATE_FLAGS, 0o600)
    }

    /// Waits until no other command changes this container.
    ///
    /// # Errors
    /// [`Failure::NotFound`] if the container was deleted meanwhile; or the other
    /// command takes too long.
    pub(crate) fn lock(&mut self) -> Result<()> {
        self.lock_within(LOCK_PATIENCE)
    }

    fn lock_within(&mut self, patience: Duration) -> Result<()> {
        let fd = match self.open() {
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
        // The previous holder of the lock may have removed the directory. A new
        // directory of the same name would not be locked by this descriptor.
        let locked = rustix::fs::fstat(&fd).with_context(|| format!("look at {:?}", self.path))?;
        match fs::symlink_metadata(&self.path) {
            Ok(there) if (there.dev(), there.ino()) == (locked.st_dev, locked.st_ino) => {}
            Err(err) if err.kind() != io::ErrorKind::NotFound => {
                return Err(err).with_context(|| format!("look at {:?}", self.path));
            }
            _ => return Err(Failure::NotFound.into()),
        }
        *self.lock.get_mut() = Some(fd);
        Ok(())
    }

    /// Opens the directory itself, not the target of a link in its place.
    fn open(&self) -> Result<OwnedFd, rustix::io::Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::open(&self.path, flags, Mode::empty())
    }

    /// Locks the directory again after a time without a lock. Returns `false` if the
    /// container was deleted meanwhile, even if a container of the same name was made.
    ///
    /// # Errors
    /// Another command takes too long, or the state cannot be read.
    pub(crate) fn lock_again(&mut self, state: &ContainerState) -> Result<bool> {
        match self.lock().and_then(|()| self.read()) {
            Ok(now) => Ok((now.pid, now.start_time) == (state.pid, state.start_time)),
            Err(err) if err.downcast_ref() == Some(&Failure::NotFound) => Ok(false),
            Err(err) => Err(err),
        }
    }

    /// Called in a forked child: closes its copy of the lock, because the lock would
    /// otherwise be held as long as the child lives.
    pub(crate) fn leave_lock_to_parent(&self) {
        self.lock.take();
    }

    /// The directory.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns whether another command holds the lock. After a killed creation no
    /// command does.
    pub(super) fn is_locked_by_another(&self) -> bool {
        if self.lock.borrow().is_some() {
            return false;
        }
        let dir = match self.open() {
            Ok(dir) => dir,
            Err(err) => return err != rustix::io::Errno::NOENT,
        };
        rustix::fs::flock(&dir, FlockOperation::NonBlockingLockShared).is_err()
    }

    /// Removes the directory with everything in it.
    ///
    /// # Errors
    /// The directory cannot be removed. A directory that is already gone is no error.
    pub(crate) fn remove(&mut self) -> Result<()> {
        self.remove_on_drop = false;
        // Usually the directory is empty then. Otherwise the code below removes it.
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

    /// Marks the container as made: the directory stays, and other commands may use the
    /// container, or delete it and make another of the same name.
    pub(crate) fn keep(&mut self) {
        self.remove_on_drop = false;
        if let Some(fd) = self.lock.get_mut().take() {
            // Unlock explicitly, because init holds a copy of the descriptor for a
            // moment. If that fails, closing unlocks a little later.
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

fn json(state: &ContainerState) -> Result<Vec<u8>> {
    let mut text = serde_json::to_vec(state).context("write the state as JSON")?;
    text.push(b'\n');
    if text.len() as u64 > LONGEST_STATE {
        bail!("the state of the container is longer than {LONGEST_STATE} bytes");
    }
    Ok(text)
}

/// Reads a state. Refuses everything that is not a regular file, without blocking as a
/// fifo would.
fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let file = open(
        path,
        OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK,
        0,
    )?;
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

/// Returns whether the error shows a file that is never a state: not a regular file,
/// too long, or a link.
fn is_no_state(err: &io::Error) -> bool {
    let kinds = [io::ErrorKind::InvalidInput, io::ErrorKind::FileTooLarge];
    kinds.contains(&err.kind()) || err.raw_os_error() == Some(libc::ELOOP)
}

fn is_missing(text: &io::Result<Vec<u8>>) -> bool {
    let missing = [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory];
    text.as_ref()
        .is_err_and(|err| missing.contains(&err.kind()))
}

/// The flags for opening state.json's temporary file. The file may be left from the
/// beginning of the creation. If so, it is overwritten and not truncated: ext4 writes a
/// file to disk immediately if the file was truncated, or was renamed over another.
const STATE_FLAGS: OFlags = OFlags::WRONLY
    .union(OFlags::CREATE)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK);

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
    fn a_reserved_directory_is_gone_unless_kept() {
        let root = root();
        drop(StateDir::reserve(&root, "a").expect("reserve"));
        assert!(!root.join("a").exists());
        StateDir::reserve(&root, "a").expect("reserve").keep();
        assert!(StateDir::reserve(&root, "a").is_err(), "taken");
        fs::remove_dir_all(root).expect("remove");
    }

    #[test]
    fn a_directory_of_another_is_not_reserved() {
        let root = root();
        // Made after ours was removed, and left by a command that has ended.
        for name in ["state.json", ".state.json"] {
            let path = root.join("a");
            fs::create_dir(&path).expect("mkdir");
            fs::write(path.join(name), "").expect("write");
            let refused = StateDir::take(path.clone()).expect_err("another's");
            assert_eq!(refused.downcast_ref(), Some(&Failure::AlreadyExists));
            assert!(path.join(name).exists(), "{name} was removed");
            fs::remove_dir_all(path).expect("remove");
        }
        fs::remove_dir_all(root).expect("remove");
    }

    #[test]
    fn a_link_to_a_directory_is_not_locked() {
        let root = root();
        let _held = StateDir::reserve(&root, "a").expect("reserve");
        std::os::unix::fs::symlink("a", root.join("b")).expect("symlink");
        let mut dir = StateDir::find(&root, "b").expect("find");
        let error = dir.lock_within(Duration::ZERO).expect_err("a link");
        assert!(crate::errno::chain(&error).ends_with(": not a directory"));
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
        // The other command has opened the directory by now. If it has not, this test
        // shows nothing.
        std::thread::sleep(Duration::from_millis(50));
        first.remove().expect("remove");
        StateDir::reserve(&root, "a").expect("reserve again").keep();
        drop(first);
        let refused = waiting.join().expect("join").expect_err("of the first");
        assert_eq!(refused.downcast_ref(), Some(&Failure::NotFound));
        fs::remove_dir_all(root).expect("remove");
    }
}
