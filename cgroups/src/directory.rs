//! Makes and removes cgroup directories, reads and writes their files, and carries out
//! lists of writes.
//!
//! [`Steps`] is a list of writes for one controller; [`Directory::carry_out`] writes
//! them in order. Which values to write is decided in `v1` and `v2`.

use std::ffi::{OsStr, OsString};
use std::fs::{DirBuilder, File};
use std::io::{self, Read, Write as _};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag};
use nix::sys::stat::Mode;

use crate::error::{Error, Result};

/// A cgroup directory. Its path begins with a mountpoint from mountinfo, or was saved.
/// A plain path is safe, because a cgroup file system has no symbolic links.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Directory {
    pub(crate) path: PathBuf,
}

/// The longest path of a directory that is used as it is, in bytes. It leaves room for a
/// file's name in `PATH_MAX`.
const LONGEST_PATH: usize = libc::PATH_MAX as usize - 256;

/// The write of a limit to a file, with the field that the limit comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Write {
    pub(crate) field: String,
    pub(crate) file: String,
    pub(crate) value: String,
    pub(crate) missing: Missing,
}

/// The consequence if the file does not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Missing {
    /// Fail, because the limit cannot be set.
    Fail,
    /// Ignore it, because the kernel behaves as requested without the file.
    Skip,
    /// Leave the limit out and report that to the caller: the kernel is too old, or was
    /// built without the feature.
    Report,
    /// Make this write instead, because other kernels have another file for the limit.
    Instead(Box<Write>),
}

impl Write {
    pub(crate) fn new(field: &str, file: &str, value: impl ToString) -> Write {
        Write {
            field: field.to_owned(),
            file: file.to_owned(),
            value: value.to_string(),
            missing: Missing::Fail,
        }
    }

    pub(crate) fn if_missing(self, missing: Missing) -> Write {
        Write { missing, ..self }
    }

    pub(crate) fn or(self, other: Write) -> Write {
        self.if_missing(Missing::Instead(Box::new(other)))
    }

    /// Returns the write to make instead if the file does not exist.
    pub(crate) fn instead(&self) -> Option<&Write> {
        match &self.missing {
            Missing::Instead(other) => Some(other),
            _ => None,
        }
    }
}

/// One step of applying limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// A single write.
    Write(Write),
    /// Writes of values that the kernel checks against each other. The possible order
    /// depends on the present values, so a write that fails with EINVAL is made again
    /// after the others.
    InAnyOrder(Vec<Write>),
}

/// A limit that was left out, because the kernel or the cgroup version does not have it.
/// runc leaves it out too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ignored {
    /// The full name of the field, such as "memory.swappiness".
    pub field: String,
    /// The reason.
    pub reason: String,
}

impl std::fmt::Display for Ignored {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}: ignored: {}", self.field, self.reason)
    }
}

/// The steps that set the limits of one controller, and the limits left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Steps {
    pub(crate) steps: Vec<Step>,
    pub(crate) ignored: Vec<Ignored>,
}

impl Steps {
    pub(crate) fn write(&mut self, write: Write) {
        self.steps.push(Step::Write(write));
    }

    pub(crate) fn in_any_order(&mut self, mut writes: Vec<Write>) {
        match writes.len() {
            0 => {}
            1 => self.steps.extend(writes.pop().map(Step::Write)),
            _ => self.steps.push(Step::InAnyOrder(writes)),
        }
    }

    pub(crate) fn ignore(&mut self, field: &str, reason: &str) {
        self.ignored.push(Ignored {
            field: field.to_owned(),
            reason: reason.to_owned(),
        });
    }

    /// Returns the field to name in an error if none of the steps can be carried out.
    pub(crate) fn first_field(&self) -> Option<&str> {
        self.steps.first().map(|step| match step {
            Step::Write(write) => write.field.as_str(),
            Step::InAnyOrder(writes) => writes.first().map_or("", |write| write.field.as_str()),
        })
    }

    /// Returns each write as "file=value", for tests.
    #[cfg(test)]
    pub(crate) fn lines(&self) -> Vec<String> {
        let line = |write: &Write| format!("{}={}", write.file, write.value);
        self.steps
            .iter()
            .flat_map(|step| match step {
                Step::Write(write) => vec![line(write)],
                Step::InAnyOrder(writes) => writes.iter().map(line).collect(),
            })
            .collect()
    }
}

impl Directory {
    pub(crate) fn new(path: impl Into<PathBuf>) -> Directory {
        Directory { path: path.into() }
    }

    /// Opens a file without creating it.
    pub(crate) fn open_for_writing(&self, file: &str) -> io::Result<File> {
        open(&self.path.join(file), OFlag::O_WRONLY)
    }

    pub(crate) fn write(&self, file: &str, value: &str) -> io::Result<()> {
        let mut file = self.open_for_writing(file)?;
        // An empty value needs a newline, because write(2) of no bytes has no effect. An
        // empty line resets a cpuset.
        let value = if value.is_empty() { "\n" } else { value };
        file.write_all(value.as_bytes())
    }

    /// Reads a file, without the newline at its end.
    pub(crate) fn read(&self, file: &str) -> io::Result<String> {
        let text = read(&self.path.join(file))?;
        let text = String::from_utf8_lossy(&text);
        Ok(text.trim_end_matches('\n').to_owned())
    }

    pub(crate) fn read_or_error(&self, file: &str) -> Result<String> {
        self.read(file)
            .map_err(|cause| Error::system("read", &self.path.join(file), cause))
    }

    pub(crate) fn write_or_error(&self, file: &str, value: &str) -> Result<()> {
        self.write(file, value)
            .map_err(|cause| Error::system("write", &self.path.join(file), cause))
    }

    /// Carries out the steps. Returns the limits that were left out.
    pub(crate) fn carry_out(&self, steps: &Steps) -> Result<Vec<Ignored>> {
        let mut ignored = steps.ignored.clone();
        for step in &steps.steps {
            match step {
                Step::Write(write) => self.write_limit(write, &mut ignored)?,
                Step::InAnyOrder(writes) => self.write_in_any_order(writes, &mut ignored)?,
            }
        }
        Ok(ignored)
    }

    fn write_limit(&self, write: &Write, ignored: &mut Vec<Ignored>) -> Result<()> {
        let cause = match self.write(&write.file, &write.value) {
            Ok(()) => return Ok(()),
            Err(cause) => cause,
        };
        let is_missing = cause.kind() == io::ErrorKind::NotFound && self.path.is_dir();
        match &write.missing {
            Missing::Skip if is_missing => Ok(()),
            Missing::Report if is_missing => {
                let reason = format!("this kernel has no {:?}", write.file);
                ignored.push(Ignored {
                    field: write.field.clone(),
                    reason,
                });
                Ok(())
            }
            Missing::Instead(other) if is_missing => self.write_limit(other, ignored),
            _ => Err(Error::Limit {
                field: write.field.clone(),
                value: write.value.clone(),
                path: self.path.join(&write.file),
                cause,
            }),
        }
    }

    fn write_in_any_order(&self, writes: &[Write], ignored: &mut Vec<Ignored>) -> Result<()> {
        let mut waiting: Vec<&Write> = writes.iter().collect();
        loop {
            let mut refused = Vec::new();
            let mut first_error = None;
            for write in &waiting {
                match self.write_limit(write, ignored) {
                    Ok(()) => {}
                    Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                        refused.push(*write);
                        first_error.get_or_insert(error);
                    }
                    Err(error) => return Err(error),
                }
            }
            match first_error {
                None => return Ok(()),
                Some(error) if refused.len() == waiting.len() => return Err(error),
                Some(_) => waiting = refused,
            }
        }
    }

    /// Moves a process into the cgroup. The kernel answers EINVAL as long as a new
    /// process has not reached the run queue, so the write is repeated.
    pub(crate) fn enter(&self, pid: i32) -> Result<()> {
        const TRIES: u32 = 5;
        let text = pid.to_string();
        for attempt in 1.. {
            match self.write("cgroup.procs", &text) {
                Ok(()) => break,
                Err(cause) if cause.raw_os_error() == Some(libc::EINVAL) && attempt < TRIES => {
                    std::thread::sleep(Duration::from_millis(30));
                }
                Err(cause) => {
                    return Err(Error::Enter {
                        pid,
                        path: self.path.clone(),
                        cause,
                    });
                }
            }
        }
        Ok(())
    }

    /// Returns the processes in this cgroup and in all cgroups below it. A cgroup that
    /// was removed meanwhile has no processes.
    pub(crate) fn processes(&self) -> Result<Vec<i32>> {
        let Some(mut pids) = self.own_processes()? else {
            return Ok(Vec::new());
        };
        self.for_each_below(|below| {
            pids.extend(below.own_processes()?.unwrap_or_default());
            Ok(())
        })?;
        Ok(pids)
    }

    /// Returns the processes in this cgroup, or `None` if it was removed.
    fn own_processes(&self) -> Result<Option<Vec<i32>>> {
        let text = match self.read("cgroup.procs") {
            // A threaded cgroup lists only threads (cgroup-v2.rst, "Threads").
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {
                self.read("cgroup.threads")
            }
            other => other,
        };
        match text {
            Ok(text) => Ok(Some(
                text.lines().filter_map(|line| line.parse().ok()).collect(),
            )),
            Err(error) if is_gone(&error) => Ok(None),
            Err(cause) => {
                let path = self.path.join("cgroup.procs");
                Err(Error::system("read", &path, cause))
            }
        }
    }

    /// Returns the cgroups directly below this one.
    pub(crate) fn below(&self) -> Result<Vec<Directory>> {
        let names = self.names_below()?.into_iter();
        Ok(names
            .map(|name| Directory::new(self.path.join(name)))
            .collect())
    }

    fn names_below(&self) -> Result<Vec<OsString>> {
        // A directory has two links, and one more for each directory in it.
        if std::fs::metadata(&self.path).is_ok_and(|this| this.nlink() == 2) {
            return Ok(Vec::new());
        }
        let entries = match std::fs::read_dir(&self.path) {
            Ok(entries) => entries,
            Err(error) if is_gone(&error) => return Ok(Vec::new()),
            Err(cause) => return Err(Error::system("list cgroup", &self.path, cause)),
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|cause| Error::system("list cgroup", &self.path, cause))?;
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                names.push(entry.file_name());
            }
        }
        Ok(names)
    }

    /// Visits all cgroups below this one, children before parents, until a visit fails. A
    /// container can nest cgroups without limit. So this does not recurse, goes from one open
    /// directory to the next, and has two of them open at most.
    pub(crate) fn for_each_below(
        &self,
        mut visit: impl FnMut(&Directory) -> Result<()>,
    ) -> Result<()> {
        let mut names = self.names_below()?;
        if names.is_empty() {
            return Ok(());
        }
        let Some(mut place) = Place::open(self)? else {
            return Ok(());
        };
        // The names not yet visited in each directory above, and the directory's own name.
        let mut above: Vec<(Vec<OsString>, OsString)> = Vec::new();
        loop {
            if let Some(name) = names.pop() {
                let child = place.child(&name);
                let below = child.names_below()?;
                if below.is_empty() {
                    visit(&child)?;
                } else if place.enter(&child, &name)? {
                    above.push((std::mem::replace(&mut names, below), name));
                }
            } else if let Some((left, name)) = above.pop() {
                names = left;
                place.leave()?;
                visit(&place.child(&name))?;
            } else {
                return Ok(());
            }
        }
    }

    /// Tries once to remove the cgroup and those below it. Returns whether it is gone;
    /// `false` means EBUSY.
    fn try_remove(&self) -> Result<bool> {
        if self.try_remove_alone()? {
            return Ok(true);
        }
        let (mut has_below, mut all_gone) = (false, true);
        self.for_each_below(|below| {
            has_below = true;
            all_gone &= below.try_remove_alone()?;
            Ok(())
        })?;
        if has_below && all_gone {
            self.try_remove_alone()
        } else {
            Ok(false)
        }
    }

    fn try_remove_alone(&self) -> Result<bool> {
        match std::fs::remove_dir(&self.path) {
            Ok(()) => Ok(true),
            Err(error) if is_gone(&error) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => Ok(false),
            Err(cause) => Err(Error::system("remove cgroup", &self.path, cause)),
        }
    }
}

/// A place in a tree of cgroups: an open directory.
struct Place {
    opened: OwnedFd,
    /// Its path, which may be longer than the kernel takes.
    path: PathBuf,
}

impl Place {
    const OPEN: OFlag = OFlag::O_PATH
        .union(OFlag::O_DIRECTORY)
        .union(OFlag::O_CLOEXEC);

    /// Opens a directory; `None` if it was removed.
    fn open(directory: &Directory) -> Result<Option<Place>> {
        let path = &directory.path;
        match nix::fcntl::openat(AT_FDCWD, path, Place::OPEN, Mode::empty()) {
            Ok(opened) => Ok(Some(Place {
                opened,
                path: path.clone(),
            })),
            Err(Errno::ENOENT | Errno::ENODEV) => Ok(None),
            Err(errno) => Err(Error::system("open cgroup", path, errno)),
        }
    }

    /// Returns a directory in this one. Its path leads through the open directory if it would
    /// be too long otherwise.
    fn child(&self, name: &OsStr) -> Directory {
        let path = self.path.join(name);
        if path.as_os_str().len() <= LONGEST_PATH {
            return Directory::new(path);
        }
        let through = format!("/proc/self/fd/{}", self.opened.as_raw_fd());
        Directory::new(Path::new(&through).join(name))
    }

    /// Goes into `child`, which has this name here. Returns whether it still exists.
    fn enter(&mut self, child: &Directory, name: &OsStr) -> Result<bool> {
        let Some(Place { opened, .. }) = Place::open(child)? else {
            return Ok(false);
        };
        self.opened = opened;
        self.path.push(name);
        Ok(true)
    }

    /// Goes to the directory above.
    fn leave(&mut self) -> Result<()> {
        let above = nix::fcntl::openat(&self.opened, "..", Place::OPEN, Mode::empty());
        self.opened = above.map_err(|errno| Error::system("leave cgroup", &self.path, errno))?;
        self.path.pop();
        Ok(())
    }
}

/// Removes cgroups and those below them. Repeats the attempt for about a second, because
/// the kernel answers EBUSY for a moment after the last process was reaped. An error does
/// not stop the removal of the others; the first error is returned.
pub(crate) fn remove<'a>(directories: impl IntoIterator<Item = &'a Directory>) -> Result<()> {
    const LAST_PAUSE: Duration = Duration::from_millis(512);
    let mut left: Vec<&Directory> = directories.into_iter().collect();
    let mut result = Ok(());
    let mut pause = Duration::from_millis(1);
    loop {
        left.retain(|directory| match directory.try_remove() {
            Ok(gone) => !gone,
            Err(error) => {
                if result.is_ok() {
                    result = Err(error);
                }
                false
            }
        });
        let Some(first) = left.first() else {
            return result;
        };
        if pause > LAST_PAUSE {
            let busy = io::Error::from_raw_os_error(libc::EBUSY);
            return result.and(Err(Error::system("remove cgroup", &first.path, busy)));
        }
        std::thread::sleep(pause);
        pause *= 2;
    }
}

/// Opens a file with openat(2). The standard library uses musl's open(2), which sets
/// close-on-exec by a second system call.
fn open(path: &Path, access: OFlag) -> io::Result<File> {
    let flags = access | OFlag::O_CLOEXEC;
    Ok(nix::fcntl::openat(AT_FDCWD, path, flags, Mode::empty())?.into())
}

/// Reads a whole file of /proc or a cgroup, whose size is 0. Takes fewer system calls than
/// the standard library, which begins with a read of 32 bytes.
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = open(path, OFlag::O_RDONLY)?;
    let mut text = Vec::new();
    let mut buffer = [0; 2048];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(text),
            Ok(length) => text.extend_from_slice(&buffer[..length]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Returns whether an error means that a cgroup was removed. Its open files answer
/// ENODEV.
pub(crate) fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV))
}

/// Makes `path` and the missing directories between `top`, which exists, and `path`. Adds
/// each new directory to `made`, also if a later step fails. Returns whether `path`
/// existed before.
pub(crate) fn make(path: &Path, top: &Path, made: &mut Vec<PathBuf>) -> Result<bool> {
    match make_one(path) {
        Ok(()) => {
            made.push(path.to_owned());
            Ok(false)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound && path != top => {
            let Some(parent) = path.parent() else {
                return Err(Error::system("make cgroup", path, error));
            };
            if parent == top {
                return Err(Error::system("make cgroup", path, error));
            }
            make(parent, top, made)?;
            match make_one(path) {
                Ok(()) => made.push(path.to_owned()),
                // Another process made it meanwhile.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(true),
                Err(cause) => return Err(Error::system("make cgroup", path, cause)),
            }
            Ok(false)
        }
        Err(cause) => Err(Error::system("make cgroup", path, cause)),
    }
}

/// Makes a directory that was removed, with those above it.
pub(crate) fn make_again(path: &Path) -> Result<()> {
    let made = DirBuilder::new().recursive(true).mode(0o755).create(path);
    made.map_err(|cause| Error::system("make cgroup", path, cause))
}

/// Makes a directory with runc's mode, whatever the caller's umask.
fn make_one(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o755).create(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str, files: &[&str]) -> Scratch {
            let path = std::env::temp_dir().join(format!("teu-file-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            for file in files {
                std::fs::write(path.join(file), "").unwrap();
            }
            Scratch(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn a_missing_file_has_the_consequence_of_the_write() {
        let scratch = Scratch::new("missing", &["second"]);
        let directory = Directory::new(&scratch.0);
        let write = || Write::new("x", "first", 5);
        let mut steps = Steps::default();
        steps.write(write().if_missing(Missing::Skip));
        steps.write(write().if_missing(Missing::Report));
        steps.write(write().or(Write::new("x", "second", 7)));
        let ignored = directory.carry_out(&steps).unwrap();
        assert_eq!(ignored.len(), 1);
        assert_eq!(
            ignored[0].to_string(),
            "x: ignored: this kernel has no \"first\""
        );
        assert_eq!(directory.read("second").unwrap(), "7");
        assert!(!scratch.0.join("first").exists());
        steps.write(write());
        let error = teu_errno::line(&directory.carry_out(&steps).unwrap_err());
        assert!(error.starts_with("x: write \"5\" to "), "{error}");
        assert!(
            error.ends_with("/first\": no such file or directory"),
            "{error}"
        );
    }

    #[test]
    fn new_directories_are_listed() {
        let scratch = Scratch::new("make", &[]);
        let mut made = Vec::new();
        let path = scratch.0.join("a/b/c");
        assert!(!make(&path, &scratch.0, &mut made).unwrap());
        assert_eq!(
            made,
            [scratch.0.join("a"), scratch.0.join("a/b"), path.clone()]
        );
        assert!(make(&path, &scratch.0, &mut made).unwrap());
        assert_eq!(made.len(), 3);
        remove([&Directory::new(scratch.0.join("nothing"))]).unwrap();
    }
}
