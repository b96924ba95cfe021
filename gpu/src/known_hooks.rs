//! Replaces known hooks of NVIDIA's CDI files by edits with the same effect.
//!
//! The hooks are programs that run with the host's privileges in the root filesystem of an
//! image, so doing without them is safer. Other hooks are left as they are.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Hook, Mount};

use crate::error::Result;
use crate::gpu::{Gpu, Selected};
use crate::nvidia::Module;
use crate::{Capabilities, Edits, LibraryDirs, Link, Moment, Roots};

/// The work of a known hook.
#[derive(Debug)]
enum Work {
    /// Make links.
    Links(Vec<Link>),
    /// Let the dynamic linker find libraries in these directories.
    Libraries(Vec<PathBuf>),
    /// Replace a file of /proc/driver/nvidia, so that NVIDIA's programs do not make nodes.
    Params,
    /// Tell EGL the GPUs of the container.
    Profile,
    /// Nothing that is needed: directories of nodes are made with the right mode, and the
    /// driver's libraries in the image are not used.
    Nothing,
}

impl Work {
    /// Returns the work of a hook, if it is known.
    fn of(moment: Moment, hook: &Hook) -> Option<Work> {
        let program = hook.path().file_name()?.to_str()?;
        if moment != Moment::CreateContainer
            || !["nvidia-cdi-hook", "nvidia-ctk"].contains(&program)
        {
            return None;
        }
        let words: Vec<&str> = hook.args().iter().flatten().map(String::as_str).collect();
        let (name, options) = match &words[..] {
            [_, "hook", name, options @ ..] | [_, name, options @ ..] => (*name, options),
            _ => return None,
        };
        Some(match name {
            "create-symlinks" => {
                let links = values(options, "--link").map(link);
                Work::Links(links.collect::<Option<_>>()?)
            }
            "update-ldcache" => {
                Work::Libraries(values(options, "--folder").map(PathBuf::from).collect())
            }
            "disable-device-node-modification" => Work::Params,
            "update-application-profile" => Work::Profile,
            "chmod" | "enable-cuda-compat" => Work::Nothing,
            _ => return None,
        })
    }
}

/// Returns the values of an option, which may occur several times.
fn values<'a>(words: &'a [&'a str], option: &'a str) -> impl Iterator<Item = &'a str> {
    let before = [""].into_iter().chain(words.iter().copied());
    before.zip(words).filter_map(move |(before, word)| {
        let joined = word.strip_prefix(option);
        let joined = joined.and_then(|rest| rest.strip_prefix('='));
        joined.or((before == option).then_some(word))
    })
}

/// Parses a link of the form `TARGET::PATH`.
fn link(text: &str) -> Option<Link> {
    let (target, path) = text.split_once("::")?;
    path.starts_with('/').then(|| Link {
        path: path.into(),
        target: target.into(),
    })
}

/// Returns whether [`take_known_hooks`] removes this hook.
#[must_use]
pub fn is_known_hook(moment: Moment, hook: &Hook) -> bool {
    Work::of(moment, hook).is_some()
}

/// Removes known hooks, and adds edits with the same effect.
///
/// # Errors
/// Returns an error if the kernel's files about the GPUs cannot be read or parsed.
pub fn take_known_hooks(edits: &mut Edits, roots: &Roots, dirs: &LibraryDirs) -> Result<()> {
    let mut shown = None;
    for (moment, hook) in std::mem::take(&mut edits.hooks) {
        match Work::of(moment, &hook) {
            None => edits.hooks.push((moment, hook)),
            Some(Work::Links(links)) => edits.links.extend(links),
            Some(Work::Libraries(directories)) => {
                let of_libraries = library_links(&edits.mounts, &directories, dirs);
                edits.links.extend(of_libraries);
            }
            Some(Work::Params) => {
                shown.get_or_insert(Capabilities::UTILITY);
            }
            Some(Work::Profile) => shown = Some(Capabilities::GRAPHICS),
            Some(Work::Nothing) => {}
        }
    }
    if let (Some(asked), Some(module)) = (shown, Module::find(roots)?) {
        let has_node = |gpu: &&Gpu| {
            let name = gpu.minor.map(|minor| format!("nvidia{minor}"));
            let mut paths = edits.nodes.iter().map(|node| node.device.path());
            paths.any(|path| path.file_name().and_then(|n| n.to_str()) == name.as_deref())
        };
        let gpus = module.gpus.iter().filter(has_node);
        let gpus: Vec<Selected<'_>> = gpus.map(Selected::whole).collect();
        edits.covers = module.covers(&gpus, asked)?;
    }
    Ok(())
}

/// Returns links with which the dynamic linker finds the libraries that are bound into
/// `directories`. They are in a directory that it searches, and have the names of the host's
/// links to the libraries.
fn library_links(mounts: &[Mount], directories: &[PathBuf], dirs: &LibraryDirs) -> Vec<Link> {
    let mut links: BTreeMap<PathBuf, PathBuf> = BTreeMap::new();
    for mount in mounts {
        let path = mount.destination();
        let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
            continue;
        };
        if !directories.iter().any(|other| other == directory) {
            continue;
        }
        let is_usual = without_usr(directory) == without_usr(&dirs.native);
        let target = if is_usual { Path::new(name) } else { path };
        let own = (!is_usual).then(|| PathBuf::from(name));
        let source = mount.source().as_deref().unwrap_or(path);
        for name in own.into_iter().chain(names_beside(source)) {
            let place = dirs.native.join(name);
            links.entry(place).or_insert_with(|| target.to_owned());
        }
    }
    // Libraries bound into that directory need no link.
    for mount in mounts {
        links.remove(mount.destination());
    }
    let links = links.into_iter();
    links.map(|(path, target)| Link { path, target }).collect()
}

/// Removes /usr from a path, because on most hosts /lib64 is a link into /usr.
fn without_usr(directory: &Path) -> &Path {
    directory
        .strip_prefix("/usr")
        .or_else(|_| directory.strip_prefix("/"))
        .unwrap_or(directory)
}

/// Returns the links to a file of the host in the file's directory.
fn names_beside(file: &Path) -> Vec<PathBuf> {
    let entries = file.parent().map(fs::read_dir);
    let Some(Ok(entries)) = entries else {
        return Vec::new();
    };
    let stem = |name: &Path| {
        let name = name.to_string_lossy().into_owned();
        name.split_once(".so").map(|(stem, _)| stem.to_owned())
    };
    let wanted = file.file_name().and_then(|name| stem(Path::new(name)));
    let real = fs::canonicalize(file).ok();
    let links = entries.flatten().filter(|entry| {
        entry.file_type().is_ok_and(|kind| kind.is_symlink())
            && stem(Path::new(&entry.file_name())) == wanted
            && wanted.is_some()
            && fs::canonicalize(entry.path()).ok() == real
    });
    links.map(|entry| entry.file_name().into()).collect()
}
