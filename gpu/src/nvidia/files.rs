//! Finds the files of NVIDIA's driver below the driver's root, in the version of the kernel
//! module, and adds bind mounts of them. `tables` lists the files.

use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Stat};

use super::is_version;
use super::tables::{
    CORE, DATA, DATA_DIRECTORIES, LIBRARIES, LIBRARY_DIRECTORIES, LINKS, PROGRAM_DIRECTORIES,
    PROGRAMS, SOCKETS,
};
use crate::error::{Result, refused};
use crate::ld_cache;
use crate::roots::{self, DriverRoot, Roots};
use crate::{Capabilities, Edits, LibraryDirs, Link};

/// The mount options of files.
pub(super) const FILE: [&str; 5] = ["ro", "nosuid", "nodev", "bind", "rprivate"];
/// The mount options of sockets, to which the container writes.
const SOCKET: [&str; 5] = ["nosuid", "nodev", "noexec", "rbind", "rprivate"];

/// The machine number of libraries in ELF.
const NATIVE: u16 = if cfg!(target_arch = "aarch64") {
    183
} else {
    62
};
const I386: u16 = 3;

/// The directories of the driver's files.
#[derive(Debug)]
pub(super) struct Files<'a> {
    roots: &'a Roots,
    root: DriverRoot,
    version: &'a str,
    /// The directories with libraries, without symbolic links in their paths.
    directories: Vec<PathBuf>,
    /// The parents of the driver's directories of libraries and programs.
    prefixes: Vec<PathBuf>,
}

/// A library of the driver.
#[derive(Debug)]
pub(super) struct Library {
    pub(super) name: String,
    /// The path below the root.
    pub(super) path: PathBuf,
    is_32_bit: bool,
    /// The links to the library in its directory.
    links: Vec<String>,
}

impl<'a> Files<'a> {
    /// Finds the files for this version of the kernel module.
    ///
    /// # Errors
    /// Returns an error if there are no files, or only files of another version.
    pub(super) fn find(roots: &'a Roots, version: &'a str) -> Result<Files<'a>> {
        let mut files = Files {
            roots,
            root: DriverRoot::open(&roots.driver)?,
            version,
            directories: Vec::new(),
            prefixes: Vec::new(),
        };
        for directory in LIBRARY_DIRECTORIES {
            if let Some(directory) = files.root.directory(Path::new(directory))?
                && !files.directories.contains(&directory)
            {
                files.directories.push(directory);
            }
        }
        let full = CORE.map(|name| format!("{name}.{version}"));
        let linked = CORE.map(|name| format!("{name}.1"));
        let names: Vec<&String> = full.iter().chain(&linked).collect();
        let candidates = files.directories.iter();
        let candidates = candidates.flat_map(|path| names.iter().map(|name| path.join(name)));
        let candidates: Vec<PathBuf> = candidates.collect();
        let mut others = files.learn(candidates)?;
        if files.prefixes.is_empty() {
            let cached = files.cached(&names)?;
            others.extend(files.learn(cached)?);
        }
        match (&files.prefixes[..], others.first()) {
            ([_, ..], _) => Ok(files),
            ([], Some(other)) => Err(refused!(
                "NVIDIA's kernel module is {version} and its libraries are {other}: restart the \
                 machine, or load the module anew (rmmod, modprobe), so that both are the same"
            )),
            ([], None) => Err(refused!(
                "NVIDIA's kernel module is {version}, but no library of it is below {:?}: neither \
                 in the usual directories nor in /etc/ld.so.cache; --driver-root says where it is",
                roots.driver
            )),
        }
    }

    /// Adds the directories of those paths whose files have the version. Returns the other
    /// versions that were found.
    fn learn(&mut self, paths: Vec<PathBuf>) -> Result<Vec<String>> {
        let mut others = Vec::new();
        for path in paths {
            let Some(path) = self.root.file(&path)? else {
                continue;
            };
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let version = name.split_once(".so.").map_or("", |(_, version)| version);
            let directory = path.parent().unwrap_or(Path::new("/"));
            if version != self.version {
                others.extend(is_version(version).then(|| version.to_owned()));
                continue;
            }
            if !self.directories.iter().any(|other| other == directory) {
                self.directories.push(directory.to_owned());
            }
            let prefix = directory.parent().unwrap_or(directory).to_owned();
            if !self.prefixes.contains(&prefix) {
                self.prefixes.push(prefix);
            }
        }
        Ok(others)
    }

    /// Returns the paths of libraries with these names in the dynamic linker's cache.
    fn cached(&self, names: &[&String]) -> Result<Vec<PathBuf>> {
        let path = Path::new("/etc/ld.so.cache");
        let Some(cache) = self.root.read(path, ld_cache::LARGEST)? else {
            return Ok(Vec::new());
        };
        let entries = ld_cache::entries(&cache)
            .map_err(|reason| refused!("{:?}: {reason}", self.root.on_host(path)))?;
        let of_driver = entries
            .iter()
            .filter(|entry| names.iter().any(|name| *name == entry.name));
        Ok(of_driver.map(|entry| entry.path.into()).collect())
    }

    /// Adds the files for the requested capabilities.
    ///
    /// # Errors
    /// Returns an error if a file below the root cannot be read.
    pub(super) fn add_to(
        &self,
        edits: &mut Edits,
        asked: Capabilities,
        dirs: &LibraryDirs,
    ) -> Result<()> {
        for library in self.libraries(asked)? {
            let place = match library.is_32_bit {
                false => &dirs.native,
                true => &dirs.compat32,
            };
            let is_its = |stem: &str| library.name.starts_with(&format!("{stem}.so."));
            let usual = LINKS.iter().filter(|(_, stem)| is_its(stem));
            let usual = usual.map(|(link, _)| (*link).to_owned());
            let mut links = library.links;
            links.extend(usual);
            links.sort();
            links.dedup();
            for link in links {
                let up = if link.contains('/') { "../" } else { "" };
                edits.links.push(Link {
                    path: place.join(link),
                    target: format!("{up}{}", library.name).into(),
                });
            }
            self.bind(edits, &library.path, place.join(&library.name));
        }
        // Beside the libraries first: in other directories there may be a script that
        // executes the program beside the libraries, where the container does not have it.
        let programs = PROGRAMS.iter().filter(|(_, of)| of.intersects(asked));
        let programs = programs.map(|(name, _)| ("/usr/bin", *name));
        self.add_first(edits, &["bin"], PROGRAM_DIRECTORIES, programs)?;
        self.add_firmware(edits)?;
        let data = DATA.iter().filter(|(.., of)| of.intersects(asked));
        let data = data.map(|(place, name, _)| (*place, *name));
        self.add_first(edits, &["share", "etc"], DATA_DIRECTORIES, data)?;
        self.add_sockets(edits, asked)
    }

    fn bind(&self, edits: &mut Edits, path: &Path, destination: PathBuf) {
        edits.bind(self.root.on_host(path), destination, &FILE);
    }

    fn libraries(&self, asked: Capabilities) -> Result<Vec<Library>> {
        let mut found: Vec<Library> = Vec::new();
        for directory in &self.directories {
            for directory in [directory.clone(), directory.join("vdpau")] {
                for library in self.libraries_in(&directory, asked)? {
                    let is_it = |other: &Library| {
                        (&other.name, other.is_32_bit) == (&library.name, library.is_32_bit)
                    };
                    if !found.iter().any(is_it) {
                        found.push(library);
                    }
                }
            }
        }
        Ok(found)
    }

    fn libraries_in(&self, directory: &Path, asked: Capabilities) -> Result<Vec<Library>> {
        let mut libraries = Vec::new();
        let mut links = Vec::new();
        let known = |name: &str| {
            let (stem, _) = name.split_once(".so")?;
            let mut of_name = LIBRARIES.iter().filter(|library| library.stem == stem);
            of_name.find(|library| library.capabilities.intersects(asked))
        };
        let is_known = |name: &str| known(name).is_some();
        for entry in self.root.entries(directory, is_known)? {
            let Some(known) = known(&entry.name) else {
                continue;
            };
            let (_, rest) = entry.name.split_once(".so").unwrap_or_default();
            let path = directory.join(&entry.name);
            let version = rest.strip_prefix('.');
            let is_library = version == Some(self.version)
                || known.has_own_version && version.is_some() && !entry.is_link;
            if !is_library {
                links.push((entry.name, path));
                continue;
            }
            let Some(path) = self.root.file(&path)? else {
                continue;
            };
            let machine = self.machine(&path)?;
            let is_32_bit = machine == Some(I386);
            let is_wanted = match is_32_bit {
                true => asked.contains(Capabilities::COMPAT32),
                false => machine == Some(NATIVE),
            };
            if is_wanted {
                libraries.push(Library {
                    name: entry.name,
                    path,
                    is_32_bit,
                    links: Vec::new(),
                });
            }
        }
        // The dynamic linker searches a library by its SONAME, and programs search some by a
        // shorter name. The host has a link for each name.
        for (name, path) in links {
            let Some(path) = self.root.file(&path)? else {
                continue;
            };
            let library = libraries.iter_mut().find(|library| library.path == path);
            if let Some(library) = library {
                library.links.push(name);
            }
        }
        Ok(libraries)
    }

    /// Returns the machine number of a library, or `None` if the file is not a library.
    fn machine(&self, path: &Path) -> Result<Option<u16>> {
        const E_MACHINE: usize = 18;
        let header = self.root.read(path, 20)?.unwrap_or_default();
        let machine = header.get(E_MACHINE..).and_then(|rest| rest.first_chunk());
        let is_elf = header.starts_with(b"\x7fELF");
        Ok(machine
            .filter(|_| is_elf)
            .map(|bytes| u16::from_le_bytes(*bytes)))
    }

    /// Adds the first file of each name below the directories: those beside the libraries,
    /// then the usual ones. A file is a directory of the container and the path below it.
    fn add_first<'n>(
        &self,
        edits: &mut Edits,
        beside: &[&str],
        usual: &[&str],
        files: impl Iterator<Item = (&'n str, &'n str)>,
    ) -> Result<()> {
        let prefixes = self.prefixes.iter();
        let beside = prefixes.flat_map(|prefix| beside.iter().map(|name| prefix.join(name)));
        let directories: Vec<PathBuf> = beside.chain(usual.iter().map(PathBuf::from)).collect();
        for (place, name) in files {
            for directory in &directories {
                if let Some(path) = self.root.file(&directory.join(name))? {
                    self.bind(edits, &path, Path::new(place).join(name));
                    break;
                }
            }
        }
        Ok(())
    }

    /// Adds the firmware that the driver loads into the GPU.
    fn add_firmware(&self, edits: &mut Edits) -> Result<()> {
        let text = |path: PathBuf| roots::text_if_there(&path).map(Option::unwrap_or_default);
        let parameter = self.roots.sys.join("module/firmware_class/parameters/path");
        let parameter = text(parameter)?;
        let release = text(self.roots.proc.join("sys/kernel/osrelease"))?;
        let (parameter, release) = (parameter.trim(), release.trim());
        let usual = Path::new("/lib/firmware");
        let mut directories = vec![
            usual.join("updates").join(release),
            usual.join("updates"),
            usual.join(release),
            usual.to_owned(),
        ];
        if !parameter.is_empty() {
            directories.insert(0, parameter.into());
        }
        directories.extend(self.prefixes.iter().map(|prefix| prefix.join("firmware")));
        let below = Path::new("nvidia").join(self.version);
        for directory in directories {
            let directory = directory.join(&below);
            let is_firmware = |name: &str| name.starts_with("gsp") && name.ends_with(".bin");
            for entry in self.root.entries(&directory, is_firmware)? {
                if let Some(path) = self.root.file(&directory.join(&entry.name))? {
                    let place = usual.join(&below).join(&entry.name);
                    if !edits
                        .files
                        .iter()
                        .any(|mount| *mount.destination() == place)
                    {
                        self.bind(edits, &path, place);
                    }
                }
            }
        }
        Ok(())
    }

    /// Adds the sockets. A socket that does not belong to root, or whose path has a symbolic
    /// link, is left out: any user can put a link into /tmp to have another file bound.
    fn add_sockets(&self, edits: &mut Edits, asked: Capabilities) -> Result<()> {
        for (path, _) in SOCKETS.iter().filter(|(_, of)| of.intersects(asked)) {
            let path = Path::new(path);
            let is_safe = |found: Stat| {
                let kind = FileType::from_raw_mode(found.st_mode);
                found.st_uid == 0 && [FileType::Socket, FileType::Directory].contains(&kind)
            };
            if self.root.without_links(path)?.is_some_and(is_safe) {
                edits.bind(self.root.on_host(path), path.to_owned(), &SOCKET);
            }
        }
        Ok(())
    }
}
