//! Finds the GPUs whose device nodes are in /dev/dri: AMD's, Intel's, and all others that
//! NVIDIA's own driver does not drive. AMD's also need /dev/kfd to compute. Libraries for
//! these GPUs are in the container's image, so only nodes and links are added.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::edits::{Access, numbered_node};
use crate::error::{Error, Result, refused};
use crate::gpu::{DrmNode, Gpu};
use crate::roots::{self, Roots};
use crate::{Edits, Link, Vendor};

/// The directory of graphics cards below /sys.
const CLASS: &str = "class/drm";
/// The directory of processors that compute, AMD's GPUs among them, below /sys.
const TOPOLOGY: &str = "class/kfd/kfd/topology/nodes";

/// The access to a node that the host does not have: root only.
const PRIVATE: Access = Access {
    mode: 0o600,
    uid: 0,
    gid: 0,
};

/// A device with nodes in /dev/dri.
#[derive(Debug)]
struct Card {
    /// The address on the bus.
    bus: String,
    /// The card's directory below /sys.
    directory: PathBuf,
    nodes: Vec<DrmNode>,
}

impl Card {
    /// Reads a hexadecimal id of the bus: that of the vendor or that of the device.
    fn id(&self, name: &str) -> Result<Option<u32>> {
        let text = roots::text_if_there(&self.directory.join(name))?;
        let digits = text.as_deref().map(str::trim);
        let digits = digits.and_then(|text| text.strip_prefix("0x"));
        Ok(digits.and_then(|digits| u32::from_str_radix(digits, 16).ok()))
    }

    /// Returns whether NVIDIA's own driver drives the card. Its GPUs need more than these
    /// nodes.
    fn is_nvidias(&self) -> bool {
        // A card without the link has no driver.
        fs::read_link(self.directory.join("driver")).is_ok_and(|path| path.ends_with("nvidia"))
    }
}

/// Finds all GPUs of a vendor.
///
/// # Errors
/// Returns an error if a file below /sys cannot be read or parsed.
pub(crate) fn gpus(roots: &Roots, vendor: Vendor) -> Result<Vec<Gpu>> {
    let mut cards = cards(roots)?;
    let mut gpus = Vec::new();
    // Partitions of a GPU are cards of their own, without a vendor.
    let computing = computing(roots)?;
    for (minor, unique_id) in computing {
        let is_it = |card: &Card| card.nodes.iter().any(|node| node.minor == minor);
        if let Some(at) = cards.iter().position(is_it) {
            let mut gpu = gpu(cards.remove(at), Vendor::Amd);
            gpu.kfd = true;
            if let Some(id) = unique_id {
                gpu.uuid = Some(format!("{id:#x}"));
                gpu.aliases = vec![format!("GPU-{id:016x}")];
            }
            gpus.push(gpu);
        }
    }
    for card in cards.into_iter().filter(|card| !card.is_nvidias()) {
        let vendor = match card.id("vendor")? {
            Some(0x1002) => Vendor::Amd,
            Some(0x8086) => Vendor::Intel,
            _ => Vendor::Drm,
        };
        let device = card.id("device")?;
        let mut gpu = gpu(card, vendor);
        if let (Vendor::Intel, Some(device)) = (vendor, device) {
            // The form of the names in the CDI files that Intel's tools write.
            let address = gpu.bus.replace([':', '.'], "-");
            gpu.aliases = vec![format!("{address}-{device:#06x}")];
        }
        gpus.push(gpu);
    }
    gpus.retain(|gpu| gpu.vendor == vendor);
    for (index, gpu) in gpus.iter_mut().enumerate() {
        gpu.index = Some(index);
    }
    Ok(gpus)
}

fn gpu(card: Card, vendor: Vendor) -> Gpu {
    Gpu {
        vendor,
        index: None,
        uuid: None,
        aliases: Vec::new(),
        bus: card.bus,
        model: None,
        minor: None,
        drm: card.nodes,
        instances: Vec::new(),
        kfd: false,
    }
}

/// Returns the nodes in /dev/dri by the address of the device on the bus.
///
/// # Errors
/// Returns an error if a file below /sys cannot be read.
pub(crate) fn nodes_by_bus(roots: &Roots) -> Result<BTreeMap<String, Vec<DrmNode>>> {
    let cards = cards(roots)?.into_iter();
    Ok(cards.map(|card| (card.bus, card.nodes)).collect())
}

/// Returns all cards, sorted by their addresses on the bus.
fn cards(roots: &Roots) -> Result<Vec<Card>> {
    let class = roots.sys.join(CLASS);
    let mut cards: BTreeMap<(usize, String), Card> = BTreeMap::new();
    for name in roots::names(&class)? {
        let number = name
            .strip_prefix("card")
            .or_else(|| name.strip_prefix("renderD"));
        // Skip the connectors of a card, such as card0-DP-1.
        if number.is_none_or(|number| number.parse::<u32>().is_err()) {
            continue;
        }
        let directory = class.join(&name);
        let Some((major, minor)) = number_at(&directory)? else {
            continue;
        };
        // A card without a device cannot be requested.
        let Ok(device) = fs::read_link(directory.join("device")) else {
            continue;
        };
        let bus = device.file_name().unwrap_or_default();
        let bus = bus.to_string_lossy().into_owned();
        let key = (bus.len(), bus.clone());
        if !cards.contains_key(&key) {
            let card = Card {
                bus,
                directory: directory.join("device"),
                nodes: Vec::new(),
            };
            cards.insert(key.clone(), card);
        }
        if let Some(card) = cards.get_mut(&key) {
            card.nodes.push(DrmNode { name, major, minor });
        }
    }
    Ok(cards.into_values().collect())
}

/// Reads the major and minor number of a device from its directory below /sys.
fn number_at(directory: &Path) -> Result<Option<(u32, u32)>> {
    let path = directory.join("dev");
    let Some(text) = roots::text_if_there(&path)? else {
        return Ok(None);
    };
    let number = text.trim().split_once(':').and_then(|(major, minor)| {
        let number = (major.parse().ok()?, minor.parse().ok()?);
        Some(number)
    });
    let wrong = || refused!("{path:?}: {text:?} is not the number of a device");
    number.map(Some).ok_or_else(wrong)
}

/// Returns the GPUs with which AMD's driver computes, in the driver's order: the minor number
/// of the render node and, if there is one, the unique id.
fn computing(roots: &Roots) -> Result<Vec<(u32, Option<u64>)>> {
    let topology = roots.sys.join(TOPOLOGY);
    let mut found = Vec::new();
    for number in roots::names(&topology)? {
        let path = topology.join(number).join("properties");
        let text = roots::text_if_there(&path)?.unwrap_or_default();
        let value = |name: &str| {
            let mut lines = text.lines().filter_map(|line| line.split_once(' '));
            let (_, value) = lines.find(|(key, _)| *key == name)?;
            value.trim().parse::<u64>().ok().filter(|value| *value != 0)
        };
        // A processor without a render node is a CPU.
        if let Some(minor) = value("drm_render_minor") {
            let minor = u32::try_from(minor).map_err(|_| refused!("{path:?}: minor {minor}"))?;
            found.push((minor, value("unique_id")));
        }
    }
    Ok(found)
}

/// Returns the edits that the GPUs have in common: /dev/kfd, with which AMD's compute.
///
/// # Errors
/// Returns an error if the host's node is another device.
pub(crate) fn common(roots: &Roots, gpus: &[Gpu]) -> Result<Edits> {
    let mut edits = Edits::default();
    if gpus.iter().any(|gpu| gpu.kfd) {
        let number = number_at(&roots.sys.join("class/kfd/kfd"))?;
        let number = number
            .ok_or_else(|| Error::refused("the number of /dev/kfd is not in /sys/class/kfd/kfd"))?;
        edits.add_node(numbered_node(&roots.dev, "kfd", number, PRIVATE)?);
    }
    Ok(edits)
}

/// Returns the edits of one GPU: its nodes in /dev/dri, and the links to them by bus address.
///
/// # Errors
/// Returns an error if a node of the host is another device.
pub(crate) fn nodes(roots: &Roots, gpu: &Gpu) -> Result<Edits> {
    let mut edits = Edits::default();
    for node in &gpu.drm {
        let name = format!("dri/{}", node.name);
        let number = (node.major, node.minor);
        edits.add_node(numbered_node(&roots.dev, &name, number, PRIVATE)?);
        let kind = match node.name.starts_with("card") {
            true => "card",
            false => "render",
        };
        edits.links.push(Link {
            path: format!("/dev/dri/by-path/pci-{}-{kind}", gpu.bus).into(),
            target: PathBuf::from("..").join(&node.name),
        });
    }
    Ok(edits)
}
