//! A GPU with its names, and the selection of GPUs by a request. How GPUs are found is in
//! `nvidia` and `drm`.

use crate::error::{Error, Result, refused};
use serde::Serialize;
use teu_gpu_types::{Vendor, Which};

/// A GPU.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Gpu {
    /// The vendor.
    pub vendor: Vendor,
    /// The number among the vendor's GPUs, in the order of the bus. `None` for a GPU that the
    /// driver was configured to ignore.
    pub index: Option<usize>,
    /// The name that stays the same on every boot and in every slot.
    pub uuid: Option<String>,
    /// Other names.
    pub aliases: Vec<String>,
    /// The address on the bus.
    pub bus: String,
    /// The name of the model.
    pub model: Option<String>,
    /// The minor number of NVIDIA's node.
    pub minor: Option<u32>,
    /// The nodes in /dev/dri.
    pub drm: Vec<DrmNode>,
    /// The instances into which the GPU is divided (MIG).
    pub instances: Vec<Instance>,
    /// Whether the GPU computes through /dev/kfd.
    pub kfd: bool,
}

/// A node in /dev/dri.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DrmNode {
    /// The name in /dev/dri.
    pub name: String,
    /// The major number.
    pub major: u32,
    /// The minor number.
    pub minor: u32,
}

/// An instance of a GPU (MIG).
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Instance {
    /// `GPU:INSTANCE`, both as numbers.
    pub name: String,
    /// The number of the GPU instance.
    pub gpu_instance: u32,
    /// The number of the compute instance in it.
    pub compute_instance: u32,
}

/// A GPU, or one of its instances, that a request selects.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Selected<'a> {
    pub(crate) gpu: &'a Gpu,
    pub(crate) instance: Option<&'a Instance>,
}

impl<'a> Selected<'a> {
    pub(crate) fn whole(gpu: &'a Gpu) -> Selected<'a> {
        Selected {
            gpu,
            instance: None,
        }
    }

    /// Returns the shortest name.
    pub(crate) fn name(&self) -> String {
        match (self.instance, self.gpu.index) {
            (Some(instance), _) => instance.name.clone(),
            (None, Some(index)) => index.to_string(),
            (None, None) => self.gpu.bus.clone(),
        }
    }
}

impl Gpu {
    /// Returns the names by which the GPU can be requested, the shortest first.
    pub fn names(&self) -> Vec<String> {
        let index = self.index.map(|index| index.to_string());
        let names = index.into_iter().chain(self.uuid.clone());
        let names = names.chain([self.bus.clone()]);
        names.chain(self.aliases.clone()).collect()
    }

    /// Returns the nodes below /dev that belong to this GPU alone.
    #[must_use]
    pub fn nodes(&self) -> Vec<String> {
        let own = self.minor.map(|minor| format!("nvidia{minor}"));
        let drm = self.drm.iter().map(|node| format!("dri/{}", node.name));
        own.into_iter().chain(drm).collect()
    }

    fn instance_names(&self, instance: &Instance) -> Vec<String> {
        let numbers = (instance.gpu_instance, instance.compute_instance);
        let uuid = self.uuid.as_ref();
        // The name in drivers in which instances had no UUIDs.
        let long = uuid.map(|uuid| format!("MIG-{uuid}/{}/{}", numbers.0, numbers.1));
        [instance.name.clone()].into_iter().chain(long).collect()
    }
}

/// Selects the requested GPUs.
///
/// # Errors
/// Returns an error, with the names that exist, if there are fewer GPUs than requested or if
/// no GPU has a name.
pub(crate) fn select<'a>(gpus: &'a [Gpu], which: &Which) -> Result<Vec<Selected<'a>>> {
    let usable = gpus.iter().filter(|gpu| gpu.index.is_some());
    match which {
        Which::All if usable.clone().next().is_none() => Err(Error::refused("there is no GPU")),
        Which::All => Ok(usable.map(Selected::whole).collect()),
        Which::Count(count) => {
            let there = usable.clone().count();
            match *count <= there {
                true => Ok(usable.take(*count).map(Selected::whole).collect()),
                false => Err(refused!(
                    "{count} GPUs are asked for, and there are {there}"
                )),
            }
        }
        Which::Named(names) => {
            let mut selected = Vec::new();
            for name in names {
                for found in find(gpus, name)? {
                    // A GPU may be requested by two of its names.
                    if !selected.contains(&found) {
                        selected.push(found);
                    }
                }
            }
            Ok(selected)
        }
    }
}

fn find<'a>(gpus: &'a [Gpu], name: &str) -> Result<Vec<Selected<'a>>> {
    let is_name = |names: Vec<String>| names.iter().any(|other| other.eq_ignore_ascii_case(name));
    let mut found = Vec::new();
    for gpu in gpus {
        if is_name(gpu.names()) {
            found.push(Selected::whole(gpu));
        }
        let of_name = |instance: &&Instance| is_name(gpu.instance_names(instance));
        found.extend(
            gpu.instances
                .iter()
                .filter(of_name)
                .map(|instance| Selected {
                    gpu,
                    instance: Some(instance),
                }),
        );
    }
    match &found[..] {
        [] => Err(Error::refused(unknown(gpus, name))),
        [one, ..] if one.gpu.index.is_none() => Err(refused!(
            "GPU {name:?} is one that the driver was told to leave alone (NVreg_ExcludedGpus)"
        )),
        _ => Ok(found),
    }
}

fn unknown(gpus: &[Gpu], name: &str) -> String {
    let mut known = Vec::new();
    for gpu in gpus {
        known.extend(gpu.names());
        let instances = gpu.instances.iter();
        known.extend(instances.flat_map(|instance| gpu.instance_names(instance)));
    }
    let reason = match name.strip_prefix("MIG-") {
        Some(uuid) if !uuid.starts_with("GPU-") => {
            ": the driver tells UUIDs of instances to its own library only"
        }
        _ => "",
    };
    let words: Vec<&str> = known.iter().map(String::as_str).collect();
    let meant = match teu_spelling::nearest(name, &words) {
        Some(known) if name.len() > 2 => format!(" (is {known:?} meant?)"),
        _ => String::new(),
    };
    match &known[..] {
        [] => format!("no GPU {name:?}{reason}: there is none"),
        known => {
            let known: Vec<String> = known.iter().map(|known| format!("{known:?}")).collect();
            let known = known.join(", ");
            format!("no GPU {name:?}{reason}{meant}: there are {known}")
        }
    }
}
