//! Reads the host's files: with a limit of size, and those of a driver only from below the
//! driver's root, wherever symbolic links lead. Writes nothing.

use std::fs;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, openat2};
use rustix::io::Errno;

use crate::error::{Error, Result};

/// The maximum size of a file of the kernel.
const LARGEST_TEXT: u64 = 1 << 20;

/// The most attempts to open a file while another process renames directories.
const MOST_ATTEMPTS: u32 = 1000;

/// The directories of the host's files. Tests use other directories.
#[derive(Debug, Clone)]
pub struct Roots {
    /// The directory of device nodes, `/dev`.
    pub dev: PathBuf,
    /// The kernel's files in `/proc`.
    pub proc: PathBuf,
    /// The kernel's files in `/sys`.
    pub sys: PathBuf,
    /// The root of a driver's libraries, programs and other files: the root directory of the
    /// host, or of a container that holds the driver.
    pub driver: PathBuf,
}

impl Roots {
    /// Returns the directories below `root`, which is `/` except in tests.
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

/// Reads the text of a file.
///
/// # Errors
/// Returns an error if the file cannot be read.
pub(crate) fn text(path: &Path) -> Result<String> {
    let text = text_if_there(path)?;
    text.ok_or_else(|| Error::system("read", path, Errno::NOENT.into()))
}

/// Reads the text of a file, or returns `None` if the file does not exist.
///
/// # Errors
/// Returns an error if the file exists but cannot be read.
pub(crate) fn text_if_there(path: &Path) -> Result<Option<String>> {
    // Large enough for most files, so that few reads are needed.
    let mut bytes = Vec::with_capacity(4096);
    let read = fs::File::open(path).and_then(|file| {
        let mut start = file.take(LARGEST_TEXT);
        start.read_to_end(&mut bytes)
    });
    match read {
        Ok(_) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(err) => Err(Error::system("read", path, err)),
    }
}

/// Returns the names in a directory, shorter names first, so that numbers and bus addresses are
/// in their order. Returns no names if the directory does not exist.
///
/// # Errors
/// Returns an error if the directory cannot be read.
pub(crate) fn names(path: &Path) -> Result<Vec<String>> {
    let failed = |err: io::Error| Error::system("read", path, err);
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

/// The root of a driver's files. Paths and symbolic links are resolved inside it.
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
    /// Opens the root.
    ///
    /// # Errors
    /// Returns an error if there is no such directory.
    pub(crate) fn open(path: &Path) -> Result<DriverRoot> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(CWD, path, flags, Mode::empty())
            .map_err(io::Error::from)
            .and_then(|directory| {
                let path = path_of(&directory)?;
                Ok(DriverRoot { directory, path })
            });
        opened.map_err(|err| Error::system("root of the driver", path, err))
    }

    /// Returns the host's path of a path below the root.
    pub(crate) fn on_host(&self, path: &Path) -> PathBuf {
        self.path.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// Resolves the path of a file below the root. Returns `None` if there is no such file.
    pub(crate) fn file(&self, path: &Path) -> Result<Option<PathBuf>> {
        self.real(path, FileType::RegularFile)
    }

    /// Resolves the path of a directory below the root. Returns `None` if there is no such
    /// directory.
    pub(crate) fn directory(&self, path: &Path) -> Result<Option<PathBuf>> {
        self.real(path, FileType::Directory)
    }

    fn real(&self, path: &Path, kind: FileType) -> Result<Option<PathBuf>> {
        let Some(file) = self.open_at(path, OFlags::PATH, ResolveFlags::empty())? else {
            return Ok(None);
        };
        let is_kind = self.stat(path, &file)?.st_mode;
        if FileType::from_raw_mode(is_kind) != kind {
            return Ok(None);
        }
        let real = path_of(&file).map_err(|err| self.failed(path, err))?;
        // The file may have been moved out of the root after it was opened.
        let below = real.strip_prefix(&self.path).ok();
        Ok(below.map(|below| Path::new("/").join(below)))
    }

    /// Returns the status of the file at `path`. Returns `None` if the path has a symbolic link.
    pub(crate) fn without_links(&self, path: &Path) -> Result<Option<Stat>> {
        let file = self.open_at(path, OFlags::PATH, ResolveFlags::NO_SYMLINKS)?;
        file.map(|file| self.stat(path, &file)).transpose()
    }

    /// Reads at most `limit` bytes of the file at `path`, if it exists.
    pub(crate) fn read(&self, path: &Path, limit: u64) -> Result<Option<Vec<u8>>> {
        let Some(path) = self.file(path)? else {
            return Ok(None);
        };
        let Some(file) = self.open_at(&path, OFlags::RDONLY, ResolveFlags::empty())? else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        let read = fs::File::from(file).take(limit).read_to_end(&mut bytes);
        read.map_err(|err| self.failed(&path, err))?;
        Ok(Some(bytes))
    }

    /// Returns the entries of a directory for which the filter holds, sorted. Returns no entries if
    /// the directory does not exist.
    pub(crate) fn entries(
        &self,
        path: &Path,
        is_wanted: impl Fn(&str) -> bool,
    ) -> Result<Vec<Entry>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let Some(directory) = self.open_at(path, flags, ResolveFlags::empty())? else {
            return Ok(Vec::new());
        };
        let read = Dir::new(directory).and_then(Iterator::collect::<rustix::io::Result<Vec<_>>>);
        let read = read.map_err(|errno| self.failed(path, errno.into()))?;
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
    ) -> Result<Option<OwnedFd>> {
        let resolve = resolve | ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let flags = flags | OFlags::CLOEXEC;
        let mut attempts = 0;
        loop {
            attempts += 1;
            match openat2(&self.directory, path, flags, Mode::empty(), resolve) {
                Ok(file) => return Ok(Some(file)),
                // Another process renamed a directory meanwhile (openat2(2)).
                Err(Errno::AGAIN) if attempts < MOST_ATTEMPTS => {}
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
                Err(errno) => return Err(self.failed(path, errno.into())),
            }
        }
    }

    fn stat(&self, path: &Path, file: &OwnedFd) -> Result<Stat> {
        fstat(file).map_err(|errno| self.failed(path, errno.into()))
    }

    fn failed(&self, path: &Path, cause: io::Error) -> Error {
        Error::system("open", self.on_host(path), cause)
    }
}

fn path_of(file: &OwnedFd) -> io::Result<PathBuf> {
    fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))
}
