//! Finds NVIDIA's driver in Windows' subsystem for Linux, which has one node for all GPUs and
//! libraries in /usr/lib/wsl.

use std::fs;
use std::path::{Path, PathBuf};

use super::files::FILE;
use super::tables::{LIBRARIES, SEEN};
use crate::edits::{Access, numbered_node};
use crate::error::Result;
use crate::gpu::Gpu;
use crate::roots::{self, DriverRoot, Roots};
use crate::{Capabilities, Edits, LibraryDirs, Link, Vendor};

const LIBRARY_DIRECTORY: &str = "/usr/lib/wsl/lib";
/// The directory from which libraries load further files, also in the container.
const STORE: &str = "/usr/lib/wsl/drivers";

/// Libraries of the subsystem, which NVIDIA's libraries need.
const ALWAYS: [&str; 3] = ["libdxcore", "libnvdxgdmal", "libnvdxdlkernels"];
/// Libraries of the subsystem that graphics need.
const DRAWING: [&str; 3] = ["libd3d12", "libd3d12core", "libnvwgf2umx"];

/// Returns the number of /dev/dxg, which the kernel chooses.
fn number(roots: &Roots) -> Result<Option<(u32, u32)>> {
    /// The major number of drivers with a single device.
    const MISC: u32 = 10;
    let Some(text) = roots::text_if_there(&roots.proc.join("misc"))? else {
        return Ok(None);
    };
    let mut lines = text.lines().filter_map(|line| line.trim().split_once(' '));
    let minor = lines.find(|(_, name)| *name == "dxg");
    let minor = minor.and_then(|(minor, _)| minor.parse().ok());
    Ok(minor.map(|minor| (MISC, minor)))
}

/// Returns a single GPU that stands for all, if the machine is such a subsystem.
///
/// # Errors
/// Returns an error if a file of the kernel cannot be read.
pub(crate) fn gpus(roots: &Roots) -> Result<Vec<Gpu>> {
    let library = roots.driver.join("usr/lib/wsl/lib/libdxcore.so");
    if number(roots)?.is_none() || fs::metadata(library).is_err() {
        return Ok(Vec::new());
    }
    Ok(vec![Gpu {
        vendor: Vendor::Nvidia,
        index: Some(0),
        uuid: None,
        aliases: Vec::new(),
        bus: "dxg".to_owned(),
        model: None,
        minor: None,
        drm: Vec::new(),
        instances: Vec::new(),
        kfd: false,
    }])
}

/// Returns the edits with the node of all GPUs.
///
/// # Errors
/// Returns an error if the host's node is another device.
pub(crate) fn node(roots: &Roots) -> Result<Edits> {
    const FOR_ALL: Access = Access {
        mode: 0o666,
        uid: 0,
        gid: 0,
    };
    let mut edits = Edits::default();
    if let Some(number) = number(roots)? {
        edits.add_node(numbered_node(&roots.dev, "dxg", number, FOR_ALL)?);
    }
    Ok(edits)
}

/// Returns the edits with the libraries.
///
/// # Errors
/// Returns an error if a file cannot be read.
pub(crate) fn common(roots: &Roots, asked: Capabilities, dirs: &LibraryDirs) -> Result<Edits> {
    let mut edits = Edits {
        env: vec![SEEN.to_owned()],
        ..Edits::default()
    };
    let root = DriverRoot::open(&roots.driver)?;
    let directory = Path::new(LIBRARY_DIRECTORY);
    for entry in root.entries(directory, |_| true)? {
        let Some(path) = root.file(&directory.join(&entry.name))? else {
            continue;
        };
        let stem = entry.name.split_once(".so").map(|(stem, _)| stem);
        // Some libraries have a stub that loads them.
        let stem = stem.map(|stem| stem.strip_suffix("_loader").unwrap_or(stem));
        let place = match (stem, &*entry.name) {
            (None, "nvidia-smi") if asked.contains(Capabilities::UTILITY) => {
                PathBuf::from("/usr/bin/nvidia-smi")
            }
            (Some(stem), name) if is_wanted(stem, asked) => dirs.native.join(name),
            _ => continue,
        };
        edits.bind(root.on_host(&path), place, &FILE);
    }
    // Older drivers have only the file, without the link.
    let has = |name: &str| {
        edits
            .files
            .iter()
            .any(|mount| mount.destination().ends_with(name))
    };
    if has("libcuda.so.1.1") && !has("libcuda.so.1") {
        edits.links.push(Link {
            path: dirs.native.join("libcuda.so.1"),
            target: "libcuda.so.1.1".into(),
        });
    }
    let store = Path::new(STORE);
    if let Some(path) = root.directory(store)? {
        let options = FILE.map(|option| if option == "bind" { "rbind" } else { option });
        edits.bind(root.on_host(&path), store.to_owned(), &options);
    }
    Ok(edits)
}

fn is_wanted(stem: &str, asked: Capabilities) -> bool {
    let known = LIBRARIES.iter().find(|library| library.stem == stem);
    known.is_some_and(|known| known.capabilities.intersects(asked))
        || ALWAYS.contains(&stem)
        || DRAWING.contains(&stem) && asked.contains(Capabilities::GRAPHICS)
}
