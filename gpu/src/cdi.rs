//! The Container Device Interface (CDI) 1.1: reads the files of some directories and finds
//! devices in them by name (the interface's SPEC.md).
//!
//! Reading a file and checking its values is in `file`; the edits become those of the
//! specification elsewhere.

mod file;
mod object;
mod plain;
mod version;

use std::collections::BTreeMap;
use std::error;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

pub use file::{
    ContainerEdits, Device, DeviceNode, File, FileMode, Hook, IntelRdt, Mount, NetDevice,
};
pub use teu_gpu_types::{DeviceName, InvalidName};
pub use version::NEWEST as NEWEST_VERSION;

use serde::Serialize;

use crate::Edits;
use crate::error::{Error, Result};

/// The directories of CDI files. The later directory takes precedence.
pub const DIRECTORIES: [&str; 2] = ["/etc/cdi", "/var/run/cdi"];

/// All devices that the files of some directories describe.
#[derive(Debug, Default)]
pub struct Cdi {
    directories: Vec<PathBuf>,
    files: Vec<Source>,
    /// The descriptions of each name. The last takes precedence.
    devices: BTreeMap<String, Vec<Place>>,
    problems: Vec<Problem>,
}

/// A file, and the directory in which it was found.
#[derive(Debug)]
struct Source {
    path: PathBuf,
    /// The number of its directory. The highest takes precedence.
    priority: usize,
    file: File,
}

/// The index of a file, and the index of a device in it.
#[derive(Debug, Clone, Copy)]
struct Place {
    file: usize,
    device: usize,
}

/// The reason why a file, a directory or a device is not used.
#[derive(Debug, Clone, Serialize)]
pub struct Problem {
    pub path: PathBuf,
    pub reason: String,
}

impl Problem {
    /// Makes the problem of a file or a directory. The reason does not repeat the path.
    #[must_use]
    pub fn new(path: &Path, error: &Error) -> Problem {
        let reason = match error {
            Error::System {
                path: of, cause, ..
            } if of == path => teu_errno::text(cause),
            error => teu_errno::line(error),
        };
        Problem {
            path: path.to_owned(),
            reason,
        }
    }
}

/// A description of a name: its file, and whether it is used.
#[derive(Debug, Serialize)]
pub struct Entry<'a> {
    pub name: &'a str,
    pub path: &'a Path,
    pub priority: usize,
    pub standing: Standing,
}

/// Whether a description is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// The description is used.
    InForce,
    /// A directory of higher priority describes the same name.
    Shadowed,
    /// Another file of the same priority describes the same name, so it is unknown which is
    /// meant.
    Conflicting,
}

/// A part of a request: the edits of a device, or those of all devices of a file.
#[derive(Debug, Serialize)]
pub struct Part<'a> {
    /// The device's name, or the file's path for the edits of all its devices.
    pub of: String,
    pub edits: &'a ContainerEdits,
}

/// Names that no used description has, and the directories that were searched.
#[derive(Debug)]
pub struct Unresolved {
    pub names: Vec<String>,
    pub directories: Vec<PathBuf>,
}

impl Cdi {
    /// Reads the files of these directories, of which the last has the highest priority. A
    /// missing directory counts as empty. A file that cannot be used becomes a problem and does
    /// not affect others. A file or directory is refused if `others_can_write` returns true for
    /// its path.
    pub fn read(directories: &[impl AsRef<Path>], others_can_write: &dyn Fn(&Path) -> bool) -> Cdi {
        let mut cdi = Cdi {
            directories: directories
                .iter()
                .map(|path| path.as_ref().to_owned())
                .collect(),
            ..Cdi::default()
        };
        for (priority, directory) in directories.iter().enumerate() {
            let directory = directory.as_ref();
            let paths = files_in(directory, others_can_write);
            for path in cdi.noting(directory, paths).unwrap_or_default() {
                let file = file_at(&path, others_can_write);
                if let Some(file) = cdi.noting(&path, file) {
                    cdi.add(path, priority, file);
                }
            }
        }
        let conflicts = cdi
            .entries()
            .filter(|entry| entry.standing == Standing::Conflicting);
        let conflicts: Vec<Problem> = conflicts
            .map(|entry| Problem {
                path: entry.path.to_owned(),
                reason: format!(
                    "conflicting device {:?}: another file has it, too",
                    entry.name
                ),
            })
            .collect();
        cdi.problems.extend(conflicts);
        cdi
    }

    fn noting<T>(&mut self, path: &Path, result: Result<T>) -> Option<T> {
        let note = |err| self.problems.push(Problem::new(path, &err));
        result.map_err(note).ok()
    }

    fn add(&mut self, path: PathBuf, priority: usize, file: File) {
        for (device, described) in file.devices.iter().enumerate() {
            let name = format!("{}={}", file.kind, described.name);
            let file = self.files.len();
            let places = self.devices.entry(name).or_default();
            places.push(Place { file, device });
        }
        self.files.push(Source {
            path,
            priority,
            file,
        });
    }

    /// The problems of files and directories.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// The files that could be read, with their paths.
    pub fn files(&self) -> impl Iterator<Item = (&Path, &File)> {
        let files = self.files.iter();
        files.map(|source| (source.path.as_path(), &source.file))
    }

    /// All descriptions of all devices, by name. The description that is used comes last.
    pub fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        self.devices.iter().flat_map(|(name, places)| {
            places.iter().map(|place| {
                let source = &self.files[place.file];
                Entry {
                    name,
                    path: &source.path,
                    priority: source.priority,
                    standing: self.standing(source.priority, places),
                }
            })
        })
    }

    /// The standing of a description of this priority among all descriptions of its name, which
    /// are in the order of their priority.
    fn standing(&self, priority: usize, places: &[Place]) -> Standing {
        let priorities = || places.iter().map(|place| self.files[place.file].priority);
        if priorities().any(|other| other > priority) {
            Standing::Shadowed
        } else if priorities().filter(|other| *other == priority).count() > 1 {
            Standing::Conflicting
        } else {
            Standing::InForce
        }
    }

    fn find(&self, name: &DeviceName) -> Option<Place> {
        let places = self.devices.get(name.as_str())?;
        let last = *places.last()?;
        let standing = self.standing(self.files[last.file].priority, places);
        (standing == Standing::InForce).then_some(last)
    }

    /// The edits of these devices, in their order. The edits that a file has for all of its
    /// devices come once, before the first of its devices.
    ///
    /// # Errors
    /// Some names have no description that is used.
    pub fn parts(&self, names: &[DeviceName]) -> std::result::Result<Vec<Part<'_>>, Unresolved> {
        let mut parts = Vec::new();
        let mut unresolved = Vec::new();
        let mut begun = Vec::new();
        for name in names {
            let Some(place) = self.find(name) else {
                unresolved.push(name.to_string());
                continue;
            };
            let Source { path, file, .. } = &self.files[place.file];
            if !begun.contains(&place.file) {
                begun.push(place.file);
                parts.push(file.common_part(path));
            }
            parts.push(file.part(path, &file.devices[place.device]));
        }
        match unresolved.is_empty() {
            true => Ok(parts),
            false => Err(Unresolved {
                names: unresolved,
                directories: self.directories.clone(),
            }),
        }
    }
}

impl File {
    /// All edits of the file at `path`.
    #[must_use]
    pub fn parts(&self, path: &Path) -> Vec<Part<'_>> {
        let devices = self.devices.iter().map(|device| self.part(path, device));
        [self.common_part(path)]
            .into_iter()
            .chain(devices)
            .collect()
    }

    fn common_part(&self, path: &Path) -> Part<'_> {
        Part {
            of: format!("{path:?}"),
            edits: &self.container_edits,
        }
    }

    fn part<'a>(&self, path: &Path, device: &'a Device) -> Part<'a> {
        Part {
            of: format!("CDI device \"{}={}\" in {path:?}", self.kind, device.name),
            edits: &device.container_edits,
        }
    }
}

impl Part<'_> {
    /// The edits, completed by the host's device nodes.
    ///
    /// # Errors
    /// A device node of the host is missing, or is another device.
    pub fn edits(&self) -> Result<Edits> {
        let edits = self.edits.on_this_machine();
        edits.map_err(|err| err.of(self.of.as_str()))
    }
}

/// The files of a directory that may be CDI files, in order.
fn files_in(directory: &Path, others_can_write: &dyn Fn(&Path) -> bool) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(directory) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(|cause| Error::system("read", directory, cause))?,
    };
    if others_can_write(directory) {
        return Err(Error::refused(OTHERS));
    }
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry
            .map_err(|cause| Error::system("read", directory, cause))?
            .path();
        let extension = path.extension();
        if extension.is_some_and(|extension| extension == "json" || extension == "yaml")
            && !path.is_dir()
        {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn file_at(path: &Path, others_can_write: &dyn Fn(&Path) -> bool) -> Result<File> {
    // Fails for a dangling link, whose target has no permissions to check.
    fs::metadata(path).map_err(|cause| Error::system("look at", path, cause))?;
    if others_can_write(path) {
        return Err(Error::refused(OTHERS));
    }
    File::read(path)
}

const OTHERS: &str =
    "others than root can write to it, to a directory it is in, or to a link to it";

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.path, self.reason)
    }
}

impl fmt::Display for Unresolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let directories = self.directories.iter().map(|path| format!("{path:?}"));
        let directories: Vec<String> = directories.collect();
        let names = self.names.join(", ");
        write!(
            f,
            "unresolvable CDI devices {names} in {}",
            directories.join(" and ")
        )
    }
}

impl error::Error for Unresolved {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// Two directories that are removed when dropped.
    struct Directories(PathBuf);

    impl Directories {
        fn new() -> Directories {
            static NUMBER: AtomicU32 = AtomicU32::new(0);
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let name = format!("teu-cdi-{}-{number}", std::process::id());
            let root = std::env::temp_dir().join(name);
            for directory in ["etc", "run"] {
                fs::create_dir_all(root.join(directory)).expect("mkdir");
            }
            Directories(root)
        }

        /// Writes a file of devices, each of which sets a variable to the file's path.
        fn file(self, path: &str, kind: &str, devices: &[&str]) -> Directories {
            let devices = devices.iter().map(|device| {
                format!("{{name: {device}, containerEdits: {{env: [FILE={path}]}}}}")
            });
            let devices = devices.collect::<Vec<_>>().join(", ");
            let text = format!(
                "cdiVersion: 0.5.0\nkind: {kind}\ncontainerEdits: {{env: [ALL={path}]}}\n\
                 devices: [{devices}]\n"
            );
            self.text(path, &text)
        }

        fn text(self, path: &str, text: &str) -> Directories {
            fs::write(self.0.join(path), text).expect("write");
            self
        }

        fn read(&self) -> Cdi {
            let directories = ["etc", "run", "missing"].map(|name| self.0.join(name));
            Cdi::read(&directories, &|_| false)
        }
    }

    impl Drop for Directories {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).expect("remove");
        }
    }

    fn names<const N: usize>(names: [&str; N]) -> Vec<DeviceName> {
        names.map(|name| name.parse().expect("a name")).into()
    }

    /// The environment that the devices set.
    fn env<const N: usize>(
        cdi: &Cdi,
        asked: [&str; N],
    ) -> std::result::Result<Vec<String>, String> {
        let names = names(asked);
        let parts = cdi.parts(&names).map_err(|err| err.to_string())?;
        Ok(parts
            .iter()
            .flat_map(|part| part.edits.env.clone())
            .collect())
    }

    #[test]
    fn what_a_file_brings_comes_once_and_before_its_devices() {
        let directories = Directories::new()
            .file("etc/a.yaml", "v/a", &["x", "y"])
            .file("etc/b.json", "v/b", &["x"]);
        let cdi = directories.read();
        assert!(cdi.problems().is_empty());
        assert_eq!(
            env(&cdi, ["v/a=y", "v/b=x", "v/a=x"]).expect("all are there"),
            [
                "ALL=etc/a.yaml",
                "FILE=etc/a.yaml",
                "ALL=etc/b.json",
                "FILE=etc/b.json",
                "FILE=etc/a.yaml"
            ]
        );
        let names = names(["v/a=y"]);
        let parts = cdi.parts(&names).expect("there");
        let path = directories.0.join("etc/a.yaml");
        assert_eq!(parts[1].of, format!("CDI device \"v/a=y\" in {path:?}"));
    }

    #[test]
    fn nothing_comes_of_a_list_with_an_unknown_name() {
        let mut cdi = Directories::new().file("etc/a.yaml", "v/a", &["x"]).read();
        cdi.directories = vec!["/nowhere".into(), "/etc".into()];
        assert_eq!(
            env(&cdi, ["v/a=y", "v/a=x", "v/b=x"]),
            Err("unresolvable CDI devices v/a=y, v/b=x in \"/nowhere\" and \"/etc\"".to_owned())
        );
    }

    #[test]
    fn files_are_those_with_the_right_end() {
        let directories = Directories::new()
            .file("etc/a.yml", "v/a", &["x"])
            .file("etc/b", "v/b", &["x"])
            .file("etc/c.yaml~", "v/c", &["x"])
            .file("etc/yaml", "v/d", &["x"]);
        fs::create_dir(directories.0.join("etc/below")).expect("mkdir");
        fs::create_dir(directories.0.join("etc/named.yaml")).expect("mkdir");
        let directories = directories.file("etc/below/e.yaml", "v/e", &["x"]);
        let cdi = directories.read();
        assert_eq!(cdi.entries().count(), 0);
        assert!(cdi.problems().is_empty(), "{:?}", cdi.problems());
    }

    #[test]
    fn the_later_directory_comes_first() {
        let cdi = Directories::new()
            .file("run/a.yaml", "v/a", &["x"])
            .file("etc/z.yaml", "v/a", &["x", "y"])
            .read();
        assert_eq!(env(&cdi, ["v/a=x"]).expect("there")[1], "FILE=run/a.yaml");
        assert_eq!(env(&cdi, ["v/a=y"]).expect("there")[1], "FILE=etc/z.yaml");
        assert!(cdi.problems().is_empty());
        let standings: Vec<_> = cdi
            .entries()
            .map(|entry| (entry.name, entry.priority, entry.standing))
            .collect();
        assert_eq!(
            standings,
            [
                ("v/a=x", 0, Standing::Shadowed),
                ("v/a=x", 1, Standing::InForce),
                ("v/a=y", 0, Standing::InForce),
            ]
        );
    }

    #[test]
    fn two_of_the_same_priority_are_none() {
        let cdi = Directories::new()
            .file("etc/a.yaml", "v/a", &["x", "y"])
            .file("etc/b.yaml", "v/a", &["x", "z"])
            .read();
        env(&cdi, ["v/a=x"]).expect_err("a conflict");
        env(&cdi, ["v/a=y", "v/a=z"]).expect("no conflict");
        let problems: Vec<_> = cdi.problems().iter().map(ToString::to_string).collect();
        assert_eq!(problems.len(), 2);
        let words = "etc/a.yaml\": conflicting device \"v/a=x\": another file has it, too";
        assert!(problems[0].ends_with(words), "{problems:?}");
    }

    #[test]
    fn what_they_shadow_cannot_be_in_conflict() {
        let cdi = Directories::new()
            .file("etc/a.yaml", "v/a", &["x"])
            .file("etc/b.yaml", "v/a", &["x"])
            .file("run/c.yaml", "v/a", &["x"])
            .read();
        assert_eq!(env(&cdi, ["v/a=x"]).expect("there")[1], "FILE=run/c.yaml");
        // A conflict in a higher directory does not make a lower description used.
        let cdi = Directories::new()
            .file("etc/a.yaml", "v/a", &["x"])
            .file("run/b.yaml", "v/a", &["x"])
            .file("run/c.yaml", "v/a", &["x"])
            .read();
        env(&cdi, ["v/a=x"]).expect_err("a conflict");
    }

    #[test]
    fn a_file_in_fault_breaks_only_itself() {
        let directories = Directories::new()
            .file("etc/a.yaml", "v/a", &["x"])
            .text("etc/b.yaml", "cdiVersion: 0.5.0\nkind: v/b\ndevices: 7\n")
            .text("etc/c.json", "")
            .text("etc/d.json", &" ".repeat((1 << 20) + 1))
            .file("etc/e.yaml", "v/e", &["x"]);
        fs::write(directories.0.join("etc/f.json"), [0xff]).expect("write");
        symlink("nowhere", directories.0.join("etc/g.json")).expect("symlink");
        symlink("/dev/zero", directories.0.join("etc/h.json")).expect("symlink");
        symlink("i.json", directories.0.join("etc/i.json")).expect("symlink");
        let cdi = directories.read();
        env(&cdi, ["v/a=x", "v/e=x"]).expect("the others are there");
        let problems: Vec<_> = cdi.problems().iter().map(ToString::to_string).collect();
        let expected = [
            "etc/b.yaml\": devices: invalid type",
            "etc/c.json\": it is empty",
            "etc/d.json\": larger than",
            "etc/f.json\": stream did not contain valid UTF-8",
            "etc/g.json\": no such file",
            "etc/h.json\": not a file",
            "etc/i.json\": too many levels of symbolic links",
        ];
        assert_eq!(problems.len(), expected.len(), "{problems:#?}");
        for (problem, expected) in problems.iter().zip(expected) {
            assert!(problem.contains(expected), "{problem}");
        }
    }

    #[test]
    fn what_others_can_write_is_not_read() {
        let directories = Directories::new()
            .file("etc/a.yaml", "v/a", &["x"])
            .file("etc/b.yaml", "v/b", &["x"])
            .file("run/c.yaml", "v/c", &["x"]);
        let others = |path: &Path| path.ends_with("b.yaml") || path.ends_with("run");
        let cdi = Cdi::read(
            &["etc", "run"].map(|name| directories.0.join(name)),
            &others,
        );
        let names: Vec<_> = cdi.entries().map(|entry| entry.name).collect();
        assert_eq!(names, ["v/a=x"]);
        let paths: Vec<_> = cdi.problems().iter().map(|problem| &problem.path).collect();
        let expected = ["etc/b.yaml", "run"].map(|path| directories.0.join(path));
        assert_eq!(paths, expected.iter().collect::<Vec<_>>());
        assert!(
            cdi.problems()
                .iter()
                .all(|problem| problem.reason == OTHERS)
        );
    }
}
