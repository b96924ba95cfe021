//! Reading and writing the files of one cgroup directory, and carrying out a
//! list of writes. Not for what to write; see `v1` and `v2`.

use std::fs::{DirBuilder, File};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::{AT_FDCWD, OFlag};
use nix::sys::stat::Mode;

use crate::error::{Error, Result};

/// A cgroup directory: below a mountpoint the kernel named, or as saved.
/// cgroup file systems have no symbolic links, so plain paths are safe here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Directory {
    pub(crate) path: PathBuf,
}

/// A limit as text for a file, and the field of the spec it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Write {
    pub(crate) field: String,
    pub(crate) file: String,
    pub(crate) value: String,
    pub(crate) missing: Missing,
}

/// What it means when the kernel has no such file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Missing {
    /// The limit cannot be set: an error.
    Fail,
    /// Nothing is lost: what was asked is what the kernel does anyway.
    Skip,
    /// The kernel is too old or was built without; the caller is told.
    Report,
    /// The same limit has another name on other kernels.
    Instead(Box<Write>),
}

impl Write {
    pub(crate) fn new(field: &str, file: &str, value: impl ToString) -> Write {
        Write {
            field: format!("linux.resources.{field}"),
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

    /// What is written where the kernel has no such file.
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
    Write(Write),
    /// Values the kernel checks against each other: which may go first depends
    /// on what is there now, so EINVAL puts one behind the others.
    InAnyOrder(Vec<Write>),
}

/// A field that could not be honoured and was left out, as runc leaves it out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ignored {
    /// Full name, as "linux.resources.memory.swappiness".
    pub field: String,
    pub reason: String,
}

impl std::fmt::Display for Ignored {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}: ignored: {}", self.field, self.reason)
    }
}

/// What the limits come to for one controller.
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
        let field = format!("linux.resources.{field}");
        self.ignored.push(Ignored {
            field,
            reason: reason.to_owned(),
        });
    }

    /// The field to name when nothing can be written at all.
    pub(crate) fn first_field(&self) -> Option<&str> {
        self.steps.first().map(|step| match step {
            Step::Write(write) => write.field.as_str(),
            Step::InAnyOrder(writes) => writes.first().map_or("", |write| write.field.as_str()),
        })
    }

    /// Every write as "file=value", for the tables in tests.
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

    /// Never creates: a missing file is a missing feature.
    pub(crate) fn open_for_writing(&self, file: &str) -> io::Result<File> {
        open(&self.path.join(file), OFlag::O_WRONLY)
    }

    pub(crate) fn write(&self, file: &str, value: &str) -> io::Result<()> {
        let mut file = self.open_for_writing(file)?;
        // Nothing at all would be no write; an empty line resets a cpuset.
        let value = if value.is_empty() { "\n" } else { value };
        file.write_all(value.as_bytes())
    }

    /// The whole file, without the newline at its end.
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

    /// Carries out the list; returns what the kernel had no file for.
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

    /// Moves a process in. EINVAL is answered while a new process is still on
    /// its way to the run queue, and passes.
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

    /// Every process in this cgroup and those below it. A cgroup that goes away
    /// meanwhile has none.
    pub(crate) fn processes(&self) -> Result<Vec<i32>> {
        let mut pids = Vec::new();
        self.collect_processes(&mut pids)?;
        Ok(pids)
    }

    fn collect_processes(&self, pids: &mut Vec<i32>) -> Result<()> {
        let text = match self.read("cgroup.procs") {
            // A threaded cgroup lists only threads (cgroup-v2.rst, "Threads").
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {
                self.read("cgroup.threads")
            }
            other => other,
        };
        match text {
            Ok(text) => pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok())),
            Err(error) if is_gone(&error) => return Ok(()),
            Err(cause) => {
                return Err(Error::system(
                    "read",
                    &self.path.join("cgroup.procs"),
                    cause,
                ));
            }
        }
        for below in self.below()? {
            below.collect_processes(pids)?;
        }
        Ok(())
    }

    /// The cgroups directly below this one.
    pub(crate) fn below(&self) -> Result<Vec<Directory>> {
        // The kernel counts links as on a disk: two, and one for each below.
        if std::fs::metadata(&self.path).is_ok_and(|this| this.nlink() == 2) {
            return Ok(Vec::new());
        }
        let entries = match std::fs::read_dir(&self.path) {
            Ok(entries) => entries,
            Err(error) if is_gone(&error) => return Ok(Vec::new()),
            Err(cause) => return Err(Error::system("list cgroup", &self.path, cause)),
        };
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|cause| Error::system("list cgroup", &self.path, cause))?;
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                found.push(Directory::new(entry.path()));
            }
        }
        Ok(found)
    }

    /// One attempt to remove the cgroup and those below it; missing is fine.
    /// Whether it is gone; `false` is EBUSY.
    fn try_remove(&self) -> Result<bool> {
        let attempt = || match std::fs::remove_dir(&self.path) {
            Ok(()) => Ok(true),
            Err(error) if is_gone(&error) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => Ok(false),
            Err(cause) => Err(Error::system("remove cgroup", &self.path, cause)),
        };
        if attempt()? {
            return Ok(true);
        }
        let below = self.below()?;
        for directory in &below {
            if !directory.try_remove()? {
                return Ok(false);
            }
        }
        if below.is_empty() {
            Ok(false)
        } else {
            attempt()
        }
    }
}

/// Removes cgroups and those below them. The kernel says EBUSY for a moment
/// after the last process was reaped, so it is asked again, for about a second
/// in all. One that cannot go does not keep the others; the first error is
/// returned.
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

/// openat(2) in one system call: in musl's open(2), which the standard library
/// uses, close-on-exec is another.
fn open(path: &Path, access: OFlag) -> io::Result<File> {
    let flags = access | OFlag::O_CLOEXEC;
    Ok(nix::fcntl::openat(AT_FDCWD, path, flags, Mode::empty())?.into())
}

/// The whole of a file that has no size, in few system calls: the standard
/// library begins with 32 bytes.
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

/// ENODEV is what an open file of a removed cgroup answers.
pub(crate) fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV))
}

/// Makes `path` and what is missing above it, down from `top`, which exists.
/// Each directory made is added to `made` at once, so that an error half way
/// leaves a true list. Returns whether `path` itself was there before.
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
                // Another container was faster.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(true),
                Err(cause) => return Err(Error::system("make cgroup", path, cause)),
            }
            Ok(false)
        }
        Err(cause) => Err(Error::system("make cgroup", path, cause)),
    }
}

/// Makes a directory that was there, with those above it.
pub(crate) fn make_again(path: &Path) -> Result<()> {
    let made = DirBuilder::new().recursive(true).mode(0o755).create(path);
    made.map_err(|cause| Error::system("make cgroup", path, cause))
}

/// With the mode that runc uses, also where the caller's umask is 0.
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
    fn a_missing_file_is_what_the_write_says() {
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
            "linux.resources.x: ignored: this kernel has no \"first\""
        );
        assert_eq!(directory.read("second").unwrap(), "7");
        assert!(!scratch.0.join("first").exists());
        steps.write(write());
        let error = directory.carry_out(&steps).unwrap_err().to_string();
        assert!(
            error.starts_with("linux.resources.x: write \"5\" to "),
            "{error}"
        );
        assert!(
            error.ends_with("/first\": no such file or directory"),
            "{error}"
        );
    }

    #[test]
    fn making_lists_what_was_made() {
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
