//! The GPUs of this machine as a CDI file, for engines that read such.

use std::fs;
use std::path::Path;

use crate::cdi::{self, ContainerEdits, Device, DeviceNode, File};
use crate::edits::Node;
use crate::gpu::Selected;
use crate::{Capabilities, Edits, LibraryDirs, Provider, Request, Roots, Vendor};

/// A file for each vendor that has GPUs here, with a device for each of their names
/// and one for all. Links, and what covers directories, a file cannot say without a
/// program that makes them; libraries are bound under all their names instead.
///
/// # Errors
/// As for the edits of all GPUs.
pub fn generate(
    roots: &Roots,
    capabilities: Capabilities,
    dirs: &LibraryDirs,
) -> Result<Vec<File>, String> {
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
) -> Result<File, String> {
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
            // Parts of one GPU of AMD's may have its identity in common.
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

/// Edits in the words of a file.
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
        // To the dynamic linker a file under two names is one library, as it is by a
        // link: it compares device and inode.
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

/// The links that lead to what is bound at `place`.
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

/// A node without its number, which is another one after the next boot; but with it
/// if the host has no such node.
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
