//! GPUs that have their nodes in /dev/dri: AMD's, which compute by way of /dev/kfd,
//! Intel's, and any other. All else they need is in the image.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::Edits;
use crate::edits::{Access, Link, Node};
use crate::gpu::{DrmNode, Gpu, Vendor};
use crate::roots::{self, Roots};

/// Where the kernel keeps the graphics cards.
const CLASS: &str = "class/drm";
/// Where it keeps the processors that compute, AMD's GPUs among them.
const TOPOLOGY: &str = "class/kfd/kfd/topology/nodes";

/// A node that the host lacks is for root and nobody else.
const PRIVATE: Access = Access {
    mode: 0o600,
    uid: 0,
    gid: 0,
};

/// A device with nodes in /dev/dri.
#[derive(Debug)]
struct Card {
    /// The name of its directory: where it is on the bus.
    bus: String,
    /// Its directory below /sys.
    directory: PathBuf,
    nodes: Vec<DrmNode>,
}

impl Card {
    /// The number that the maker of the bus gave to a vendor, or that one to a device.
    fn id(&self, name: &str) -> Result<Option<u32>, String> {
        let text = roots::text_if_there(&self.directory.join(name))?;
        let digits = text.as_deref().map(str::trim);
        let digits = digits.and_then(|text| text.strip_prefix("0x"));
        Ok(digits.and_then(|digits| u32::from_str_radix(digits, 16).ok()))
    }

    /// Whether NVIDIA's own driver has it, whose GPUs have more than these nodes.
    fn is_nvidias(&self) -> bool {
        // One without a link has no driver.
        fs::read_link(self.directory.join("driver")).is_ok_and(|path| path.ends_with("nvidia"))
    }
}

/// All of a vendor's GPUs.
///
/// # Errors
/// What the kernel says cannot be read, or is not as it has to be.
pub(crate) fn gpus(roots: &Roots, vendor: Vendor) -> Result<Vec<Gpu>, String> {
    let mut cards = cards(roots)?;
    let mut gpus = Vec::new();
    // Parts of a divided GPU are cards of their own, which have no vendor.
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
            // As in the CDI files that Intel's tools write.
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

/// The nodes in /dev/dri of each device, by its address on the bus.
///
/// # Errors
/// What the kernel says cannot be read.
pub(crate) fn nodes_by_bus(roots: &Roots) -> Result<BTreeMap<String, Vec<DrmNode>>, String> {
    let cards = cards(roots)?.into_iter();
    Ok(cards.map(|card| (card.bus, card.nodes)).collect())
}

/// All, in the order of the bus.
fn cards(roots: &Roots) -> Result<Vec<Card>, String> {
    let class = roots.sys.join(CLASS);
    let mut cards: BTreeMap<(usize, String), Card> = BTreeMap::new();
    for name in roots::names(&class)? {
        let number = name
            .strip_prefix("card")
            .or_else(|| name.strip_prefix("renderD"));
        // Not the connectors of a card, as card0-DP-1.
        if number.is_none_or(|number| number.parse::<u32>().is_err()) {
            continue;
        }
        let directory = class.join(&name);
        let Some((major, minor)) = number_at(&directory)? else {
            continue;
        };
        // One without a device is none that could be asked for.
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

/// The number of a device, from its directory below /sys.
fn number_at(directory: &Path) -> Result<Option<(u32, u32)>, String> {
    let path = directory.join("dev");
    let Some(text) = roots::text_if_there(&path)? else {
        return Ok(None);
    };
    let number = text.trim().split_once(':').and_then(|(major, minor)| {
        let number = (major.parse().ok()?, minor.parse().ok()?);
        Some(number)
    });
    let wrong = || format!("{path:?}: {text:?} is not the number of a device");
    number.map(Some).ok_or_else(wrong)
}

/// What AMD's driver computes with, in its order: the minor number of its render
/// node, and its identity if it has one.
fn computing(roots: &Roots) -> Result<Vec<(u32, Option<u64>)>, String> {
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
        // A processor without one is a CPU.
        if let Some(minor) = value("drm_render_minor") {
            let minor = u32::try_from(minor).map_err(|_| format!("{path:?}: minor {minor}"))?;
            found.push((minor, value("unique_id")));
        }
    }
    Ok(found)
}

/// What some GPUs bring together: what all of AMD's compute by.
///
/// # Errors
/// The host's node is another device.
pub(crate) fn common(roots: &Roots, gpus: &[Gpu]) -> Result<Edits, String> {
    let mut edits = Edits::default();
    if gpus.iter().any(|gpu| gpu.kfd) {
        let number = number_at(&roots.sys.join("class/kfd/kfd"))?;
        let number = number.ok_or("the number of /dev/kfd is not in /sys/class/kfd/kfd")?;
        edits.add_node(Node::numbered(&roots.dev, "kfd", number, PRIVATE)?);
    }
    Ok(edits)
}

/// The nodes of a GPU in /dev/dri, and the links by which they are found there.
///
/// # Errors
/// The host's node is another device.
pub(crate) fn nodes(roots: &Roots, gpu: &Gpu) -> Result<Edits, String> {
    let mut edits = Edits::default();
    for node in &gpu.drm {
        let name = format!("dri/{}", node.name);
        let number = (node.major, node.minor);
        edits.add_node(Node::numbered(&roots.dev, &name, number, PRIVATE)?);
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
