//! Describes the GPUs of this machine as CDI files, for engines that read them. The caller
//! writes the files.

use std::fs;
use std::path::Path;

use crate::cdi::{self, ContainerEdits, Device, DeviceNode, File};
use crate::error::Result;
use crate::gpu::Selected;
use crate::{Capabilities, Edits, LibraryDirs, Node, Provider, Request, Roots, Vendor};

/// Returns a file for each vendor whose GPUs the machine has. A file has a device for each name
/// of a GPU, and the device "all".
///
/// A CDI file can express symbolic links and covers only by hooks that run programs. They are
/// left out, and libraries are bind-mounted under all of their names instead.
///
/// # Errors
/// As [`edits`](crate::edits()).
pub fn generate(
    roots: &Roots,
    capabilities: Capabilities,
    dirs: &LibraryDirs,
) -> Result<Vec<File>> {
    let mut files = Vec::new();
    for vendor in Vendor::ALL {
        let provider = Provider::of(roots, vendor)?;
        let has_gpus =
            |provider: &Provider<'_>| provider.gpus().iter().any(|gpu| gpu.index.is_some());
        if let Some(provider) = provider.filter(has_gpus) {
            files.push(file(&provider, vendor, capabilities, dirs)?);
        }
    }
    Ok(files)
}

fn file(
    provider: &Provider<'_>,
    vendor: Vendor,
    capabilities: Capabilities,
    dirs: &LibraryDirs,
) -> Result<File> {
    let request = Request {
        capabilities: Some(capabilities),
        ..Request::default()
    };
    let mut file = File {
        kind: vendor.kind().to_owned(),
        container_edits: described(&provider.common(&request, dirs)?),
        ..File::default()
    };
    let mut all = ContainerEdits::default();
    for gpu in provider.gpus().iter().filter(|gpu| gpu.index.is_some()) {
        let whole = Selected::whole(gpu);
        let edits = described(&provider.of_gpu(whole, capabilities)?);
        merge(&mut all, &edits);
        for name in gpu.names() {
            // Partitions of an AMD GPU may share its unique id.
            if !file.devices.iter().any(|device| device.name == name) {
                file.devices.push(device(name, edits.clone()));
            }
        }
        for instance in &gpu.instances {
            let part = Selected {
                gpu,
                instance: Some(instance),
            };
            let edits = described(&provider.of_gpu(part, capabilities)?);
            file.devices.push(device(instance.name.clone(), edits));
        }
    }
    file.devices.push(device("all".to_owned(), all));
    file.cdi_version = file.lowest_version().to_owned();
    Ok(file)
}

fn device(name: String, container_edits: ContainerEdits) -> Device {
    Device {
        name,
        container_edits,
        ..Device::default()
    }
}

fn merge(all: &mut ContainerEdits, edits: &ContainerEdits) {
    for node in &edits.device_nodes {
        if !all.device_nodes.contains(node) {
            all.device_nodes.push(node.clone());
        }
    }
    for gid in &edits.additional_gids {
        if !all.additional_gids.contains(gid) {
            all.additional_gids.push(*gid);
        }
    }
}

/// Converts edits to those of a CDI file.
fn described(edits: &Edits) -> ContainerEdits {
    let mut mounts = Vec::new();
    for given in &edits.files {
        let source = given.source().as_deref().unwrap_or(Path::new(""));
        let options = given.options().clone().unwrap_or_default();
        let mut bind = |path: &Path| {
            mounts.push(cdi::Mount {
                host_path: words(source),
                container_path: words(path),
                options: options.clone(),
                ..cdi::Mount::default()
            });
        };
        let place = given.destination();
        bind(place);
        // The dynamic linker compares device and inode, so it takes a file with two names for
        // one library, as with a link.
        for link in links_to(edits, place) {
            bind(link);
        }
    }
    ContainerEdits {
        env: edits.env.clone(),
        device_nodes: edits.nodes.iter().map(node).collect(),
        mounts,
        additional_gids: edits.additional_gids.clone(),
        ..ContainerEdits::default()
    }
}

/// Returns the paths of the links to the file that is bound at `place`.
fn links_to<'a>(edits: &'a Edits, place: &Path) -> impl Iterator<Item = &'a Path> {
    let directory = place.parent();
    let name = place.file_name();
    edits
        .links
        .iter()
        .filter(move |link| {
            link.target.file_name() == name
                && directory.is_some_and(|directory| link.path.starts_with(directory))
        })
        .map(|link| link.path.as_path())
}

/// Converts a node. The number is left out, because it may change with the next boot, unless
/// the host does not have the node.
fn node(node: &Node) -> DeviceNode {
    let path = words(node.device.path());
    let host_path = words(&node.host_path);
    let given = |id: Option<u32>| id.filter(|id| *id != 0);
    let mut described = DeviceNode {
        host_path: match host_path == path {
            true => String::new(),
            false => host_path,
        },
        path,
        permissions: "rw".to_owned(),
        uid: given(node.device.uid()),
        gid: given(node.device.gid()),
        ..DeviceNode::default()
    };
    if fs::symlink_metadata(&node.host_path).is_err() {
        "c".clone_into(&mut described.kind);
        described.major = node.device.major();
        described.minor = node.device.minor();
        described.file_mode = node.device.file_mode().map(cdi::FileMode);
    }
    described
}

fn words(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
