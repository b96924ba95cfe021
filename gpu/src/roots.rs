//! Where the host's files are, and how they are read: never written, never without
//! a limit, and those of a driver never from outside of its own root.

use std::fs;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, openat2};
use rustix::io::Errno;

/// The largest file of the kernel's that is read.
const LARGEST_TEXT: u64 = 1 << 20;

/// Where the host's files are. Tests have others.
#[derive(Debug, Clone)]
pub struct Roots {
    pub dev: PathBuf,
    pub proc: PathBuf,
    pub sys: PathBuf,
    /// What libraries, programs and other files of a driver are below: the root of
    /// the host, or of a container that has the driver.
    pub driver: PathBuf,
}

impl Roots {
    /// Those below `root`, which is `/` except in tests.
    #[must_use]
    pub fn below(root: &Path) -> Roots {
        Roots {
            dev: root.join("dev"),
            proc: root.join("proc"),
            sys: root.join("sys"),
            driver: root.to_owned(),
        }
    }
}

/// The text at `path`.
///
/// # Errors
/// It cannot be read.
pub(crate) fn text(path: &Path) -> Result<String, String> {
    let text = text_if_there(path)?;
    text.ok_or_else(|| format!("read {path:?}: no such file or directory"))
}

/// The text at `path`, or nothing if there is no file.
///
/// # Errors
/// It is there, but cannot be read.
pub(crate) fn text_if_there(path: &Path) -> Result<Option<String>, String> {
    // Room for most, so that few reads are needed.
    let mut bytes = Vec::with_capacity(4096);
    let read = fs::File::open(path).and_then(|file| {
        let mut start = file.take(LARGEST_TEXT);
        start.read_to_end(&mut bytes)
    });
    match read {
        Ok(_) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(err) => Err(format!("read {path:?}: {}", teu_errno::text(&err))),
    }
}

/// What is in the directory at `path`, shorter names first; nothing if it is not
/// there. So numbers, and addresses of a bus, are in their order.
///
/// # Errors
/// It cannot be read.
pub(crate) fn names(path: &Path) -> Result<Vec<String>, String> {
    let failed = |err: io::Error| format!("read {path:?}: {}", teu_errno::text(&err));
    let entries = match fs::read_dir(path) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(failed)?.file_name();
        names.push(name.to_string_lossy().into_owned());
    }
    names.sort_by_key(|name| (name.len(), name.clone()));
    Ok(names)
}

/// The root of a driver's files. Paths are from there on, whatever links lead to.
#[derive(Debug)]
pub(crate) struct DriverRoot {
    directory: OwnedFd,
    path: PathBuf,
}

/// An entry of a directory.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) is_link: bool,
}

impl DriverRoot {
    /// # Errors
    /// There is no such directory.
    pub(crate) fn open(path: &Path) -> Result<DriverRoot, String> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(CWD, path, flags, Mode::empty())
            .map_err(io::Error::from)
            .and_then(|directory| {
                let path = path_of(&directory)?;
                Ok(DriverRoot { directory, path })
            });
        opened.map_err(|err| format!("root of the driver {path:?}: {}", teu_errno::text(&err)))
    }

    /// Where the host has what is at `path` here.
    pub(crate) fn on_host(&self, path: &Path) -> PathBuf {
        self.path.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// Where the file at `path` really is, if there is one.
    pub(crate) fn file(&self, path: &Path) -> Result<Option<PathBuf>, String> {
        self.real(path, FileType::RegularFile)
    }

    /// Where the directory at `path` really is, if there is one.
    pub(crate) fn directory(&self, path: &Path) -> Result<Option<PathBuf>, String> {
        self.real(path, FileType::Directory)
    }

    fn real(&self, path: &Path, kind: FileType) -> Result<Option<PathBuf>, String> {
        let Some(file) = self.open_at(path, OFlags::PATH, ResolveFlags::empty())? else {
            return Ok(None);
        };
        let is_kind = self.stat(path, &file)?.st_mode;
        if FileType::from_raw_mode(is_kind) != kind {
            return Ok(None);
        }
        let real = path_of(&file).map_err(|err| self.failed(path, &err))?;
        // Elsewhere is what was moved out of the root since it was opened.
        let below = real.strip_prefix(&self.path).ok();
        Ok(below.map(|below| Path::new("/").join(below)))
    }

    /// What is at `path`, if no link is on the way.
    pub(crate) fn without_links(&self, path: &Path) -> Result<Option<Stat>, String> {
        let file = self.open_at(path, OFlags::PATH, ResolveFlags::NO_SYMLINKS)?;
        file.map(|file| self.stat(path, &file)).transpose()
    }

    /// The first bytes of the file at `path`, if there is one.
    pub(crate) fn read(&self, path: &Path, limit: u64) -> Result<Option<Vec<u8>>, String> {
        let Some(path) = self.file(path)? else {
            return Ok(None);
        };
        let Some(file) = self.open_at(&path, OFlags::RDONLY, ResolveFlags::empty())? else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        let read = fs::File::from(file).take(limit).read_to_end(&mut bytes);
        read.map_err(|err| self.failed(&path, &err))?;
        Ok(Some(bytes))
    }

    /// What is in the directory at `path` of the names that are looked for, in their
    /// order; nothing if it is not there.
    pub(crate) fn entries(
        &self,
        path: &Path,
        is_wanted: impl Fn(&str) -> bool,
    ) -> Result<Vec<Entry>, String> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let Some(directory) = self.open_at(path, flags, ResolveFlags::empty())? else {
            return Ok(Vec::new());
        };
        let read = Dir::new(directory).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let read = read.map_err(|errno| self.failed(path, &errno.into()))?;
        let entries = read.iter().filter_map(|entry| {
            let name = entry.file_name().to_str().ok()?;
            is_wanted(name).then(|| Entry {
                name: name.to_owned(),
                is_link: entry.file_type() == FileType::Symlink,
            })
        });
        let mut entries: Vec<Entry> = entries.collect();
        entries.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(entries)
    }

    fn open_at(
        &self,
        path: &Path,
        flags: OFlags,
        resolve: ResolveFlags,
    ) -> Result<Option<OwnedFd>, String> {
        let resolve = resolve | ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let flags = flags | OFlags::CLOEXEC;
        loop {
            match openat2(&self.directory, path, flags, Mode::empty(), resolve) {
                Ok(file) => return Ok(Some(file)),
                // Something was renamed meanwhile (openat2(2)).
                Err(Errno::AGAIN) => {}
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
                Err(errno) => return Err(self.failed(path, &errno.into())),
            }
        }
    }

    fn stat(&self, path: &Path, file: &OwnedFd) -> Result<Stat, String> {
        fstat(file).map_err(|errno| self.failed(path, &errno.into()))
    }

    fn failed(&self, path: &Path, err: &io::Error) -> String {
        format!("open {:?}: {}", self.on_host(path), teu_errno::text(err))
    }
}

fn path_of(file: &OwnedFd) -> io::Result<PathBuf> {
    fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))
}
