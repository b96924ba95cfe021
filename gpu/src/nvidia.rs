//! Finds NVIDIA's GPUs in the files of the kernel module in /proc, and returns their edits.
//!
//! NVIDIA's library is not used, because it opens devices and may load modules and make nodes.
//! The files of the driver are found in `files`; `wsl` handles Windows' subsystem for Linux.

mod files;
mod tables;
pub(crate) mod wsl;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::edits::{Access, numbered_node};
use crate::error::{Result, refused};
use crate::gpu::{Gpu, Instance, Selected};
use crate::roots::{self, Roots};
use crate::{Capabilities, Content, Cover, Edits, LibraryDirs, Node, Request, Vendor, drm};

pub(crate) use tables::SEEN;

/// The directory of the driver below /proc.
const DRIVER: &str = "driver/nvidia";

/// The minor numbers of nodes that do not belong to a single GPU (nv.h, nvidia-uvm).
const CONTROL: u32 = 255;
const MODESET: u32 = 254;
const UVM: u32 = 0;
const UVM_TOOLS: u32 = 1;

/// The highest number of a channel.
const LAST_CHANNEL: u32 = (1 << 20) - 1;

/// The loaded kernel module.
#[derive(Debug)]
pub(crate) struct Module<'a> {
    roots: &'a Roots,
    pub(crate) version: String,
    /// Major numbers by the names of drivers in /proc/devices.
    majors: BTreeMap<String, u32>,
    /// The access to nodes that the host does not have.
    access: Access,
    pub(crate) gpus: Vec<Gpu>,
}

impl<'a> Module<'a> {
    /// Finds the module, if it is loaded.
    ///
    /// # Errors
    /// Returns an error if the module's files in /proc cannot be read or parsed.
    pub(crate) fn find(roots: &'a Roots) -> Result<Option<Module<'a>>> {
        let path = roots.proc.join(DRIVER).join("version");
        let Some(text) = roots::text_if_there(&path)? else {
            return Ok(None);
        };
        let version = version_in(&text).ok_or_else(|| refused!("{path:?}: no version in it"))?;
        Ok(Some(Module {
            version: version.to_owned(),
            majors: majors(&roots::text(&roots.proc.join("devices"))?),
            access: access(roots)?,
            gpus: gpus(roots)?,
            roots,
        }))
    }

    /// Returns the edits that all GPUs have in common.
    ///
    /// # Errors
    /// Returns an error if a node of the host is another device, or if libraries are missing
    /// or have another version.
    pub(crate) fn common(&self, request: &Request, dirs: &LibraryDirs) -> Result<Edits> {
        let asked = request.capabilities();
        let mut edits = Edits {
            env: vec![SEEN.to_owned()],
            ..Edits::default()
        };
        edits.add_node(self.node("nvidiactl", self.gpu_major()?, CONTROL)?);
        if asked.contains(Capabilities::COMPUTE) {
            let major = self.major("nvidia-uvm")?;
            edits.add_node(self.node("nvidia-uvm", major, UVM)?);
            edits.add_node(self.node("nvidia-uvm-tools", major, UVM_TOOLS)?);
        }
        let shows = Capabilities::GRAPHICS | Capabilities::DISPLAY;
        let modeset = self.roots.sys.join("module/nvidia_modeset");
        if asked.intersects(shows) && modeset.is_dir() {
            edits.add_node(self.node("nvidia-modeset", self.gpu_major()?, MODESET)?);
        }
        for channel in &request.imex_channels {
            if *channel > LAST_CHANNEL {
                return Err(refused!(
                    "IMEX channel {channel}: the last is {LAST_CHANNEL}"
                ));
            }
            let name = format!("nvidia-caps-imex-channels/channel{channel}");
            let major = self.major("nvidia-caps-imex-channels")?;
            edits.add_node(self.node(&name, major, *channel)?);
        }
        files::Files::find(self.roots, &self.version)?.add_to(&mut edits, asked, dirs)?;
        Ok(edits)
    }

    /// Returns the edits of a GPU or of an instance.
    ///
    /// # Errors
    /// Returns an error if a node of the host is another device.
    pub(crate) fn of_gpu(&self, selected: Selected<'_>, asked: Capabilities) -> Result<Edits> {
        let mut edits = Edits::default();
        let gpu = selected.gpu;
        let minor = gpu.minor.unwrap_or_default();
        edits.add_node(self.node(&format!("nvidia{minor}"), self.gpu_major()?, minor)?);
        if asked.intersects(Capabilities::GRAPHICS | Capabilities::DISPLAY) {
            edits.append(drm::nodes(self.roots, gpu)?);
        }
        for path in capability_paths(selected) {
            edits.add_node(self.capability(&path)?);
        }
        Ok(edits)
    }

    /// Returns the node that gives access to an instance of a GPU.
    fn capability(&self, path: &Path) -> Result<Node> {
        let path = self.roots.proc.join(DRIVER).join(path);
        let text = roots::text(&path)?;
        let number = |name| field(&text, name).and_then(|value| value.parse().ok());
        let minor = number("DeviceFileMinor");
        let minor = minor.ok_or_else(|| refused!("{path:?}: no DeviceFileMinor in it"))?;
        let access = Access {
            mode: number("DeviceFileMode").unwrap_or(0o444),
            ..self.access
        };
        let name = format!("nvidia-caps/nvidia-cap{minor}");
        let major = self.major("nvidia-caps")?;
        numbered_node(&self.roots.dev, &name, (major, minor), access)
    }

    fn node(&self, name: &str, major: u32, minor: u32) -> Result<Node> {
        numbered_node(&self.roots.dev, name, (major, minor), self.access)
    }

    /// Returns the major number of the GPUs' nodes. Before version 550 the driver had another
    /// name.
    fn gpu_major(&self) -> Result<u32> {
        let older = self.majors.get("nvidia-frontend");
        older.copied().map_or_else(|| self.major("nvidia"), Ok)
    }

    fn major(&self, driver: &str) -> Result<u32> {
        self.majors.get(driver).copied().ok_or_else(|| {
            refused!("the kernel has no driver {driver:?} (modprobe {driver}?), see /proc/devices")
        })
    }

    /// Returns covers of the driver's directories, so that /proc/driver/nvidia in the container
    /// has only these GPUs.
    ///
    /// # Errors
    /// Returns an error if a file cannot be read.
    pub(crate) fn covers(
        &self,
        selected: &[Selected<'_>],
        asked: Capabilities,
    ) -> Result<Vec<Cover>> {
        let driver = self.roots.proc.join(DRIVER);
        let mut paths: Vec<PathBuf> = ["params", "version", "registry"].map(Into::into).into();
        for selected in selected {
            let directory = Path::new("gpus").join(&selected.gpu.bus);
            let names = ["information", "registry", "numa_status"];
            paths.extend(names.map(|name| directory.join(name)));
            paths.extend(capability_paths(*selected));
        }
        let mut files = BTreeMap::new();
        for path in paths {
            if let Some(mut text) = roots::text_if_there(&driver.join(&path))? {
                if path == Path::new("params") {
                    // Keep the driver's programs from making nodes.
                    text = text.replace("ModifyDeviceFiles: 1", "ModifyDeviceFiles: 0");
                }
                files.insert(path, Content::Text(text));
            }
        }
        let mut covers = vec![Cover {
            path: "/proc/driver/nvidia".into(),
            files,
        }];
        if asked.contains(Capabilities::GRAPHICS) {
            covers.push(profile(selected));
        }
        Ok(covers)
    }
}

/// Returns the bus addresses of GPUs without a kernel driver. A GPU that is passed to a virtual
/// machine has a driver, such as vfio-pci.
///
/// # Errors
/// Returns an error if a file below /sys cannot be read.
pub(crate) fn without_driver(roots: &Roots) -> Result<Vec<String>> {
    /// The class of display controllers, which includes GPUs that only compute.
    const DISPLAY: &str = "0x03";
    let devices = roots.sys.join("bus/pci/devices");
    let mut found = Vec::new();
    for address in roots::names(&devices)? {
        let device = devices.join(&address);
        let word =
            |name: &str| roots::text_if_there(&device.join(name)).map(Option::unwrap_or_default);
        let is_gpu = word("vendor")?.trim() == "0x10de" && word("class")?.starts_with(DISPLAY);
        if is_gpu && !device.join("driver").exists() {
            found.push(address);
        }
    }
    Ok(found)
}

/// Returns the cover with the list of GPUs for EGL.
fn profile(selected: &[Selected<'_>]) -> Cover {
    let minors = selected.iter().filter_map(|selected| selected.gpu.minor);
    let mask = minors.fold(0_u64, |mask, minor| {
        mask | 1_u64.checked_shl(minor).unwrap_or(0)
    });
    Cover {
        path: "/etc/nvidia/nvidia-application-profiles-rc.d".into(),
        files: BTreeMap::from([("10-container.conf".into(), Content::EglGpus(mask))]),
    }
}

/// Returns the files below /proc/driver/nvidia that name the nodes for access to instances: for
/// a selected instance its own, for a whole GPU those of all its instances.
fn capability_paths(selected: Selected<'_>) -> Vec<PathBuf> {
    let gpu = selected.gpu;
    let minor = gpu.minor.unwrap_or_default();
    let one = selected.instance.map(std::slice::from_ref);
    let mut paths = Vec::new();
    for instance in one.unwrap_or(&gpu.instances) {
        let directory = format!("capabilities/gpu{minor}/mig/gi{}", instance.gpu_instance);
        let compute = format!("{directory}/ci{}/access", instance.compute_instance);
        for path in [format!("{directory}/access"), compute] {
            let path = PathBuf::from(path);
            if !paths.contains(&path) {
                paths.push(path);
            }
        }
    }
    paths
}

/// Returns the version in the first line of the module's version file.
fn version_in(text: &str) -> Option<&str> {
    let mut words = text.lines().next()?.split_whitespace();
    words.find(|word| is_version(word))
}

/// Returns whether a word is a version such as `535.54.03` or `580.95`.
fn is_version(word: &str) -> bool {
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    (2..=3).contains(&word.split('.').count()) && word.split('.').all(is_number)
}

/// Parses the major numbers of character devices, by the names of their drivers.
fn majors(devices: &str) -> BTreeMap<String, u32> {
    let lines = devices
        .lines()
        .skip_while(|line| *line != "Character devices:");
    let lines = lines.skip(1).take_while(|line| !line.is_empty());
    let numbers = lines.filter_map(|line| {
        let (major, name) = line.trim().split_once(' ')?;
        Some((name.to_owned(), major.parse().ok()?))
    });
    numbers.collect()
}

/// Returns the value of a line `NAME: VALUE`.
fn field<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let mut lines = text.lines().filter_map(|line| line.split_once(':'));
    let (_, value) = lines.find(|(key, _)| *key == name)?;
    Some(value.trim())
}

/// Reads the access to nodes from the parameters of the module.
fn access(roots: &Roots) -> Result<Access> {
    let path = roots.proc.join(DRIVER).join("params");
    let text = roots::text_if_there(&path)?.unwrap_or_default();
    let number = |name| field(&text, name).and_then(|value| value.parse().ok());
    Ok(Access {
        mode: number("DeviceFileMode").unwrap_or(0o666),
        uid: number("DeviceFileUID").unwrap_or(0),
        gid: number("DeviceFileGID").unwrap_or(0),
    })
}

fn gpus(roots: &Roots) -> Result<Vec<Gpu>> {
    let directory = roots.proc.join(DRIVER).join("gpus");
    let mut gpus = Vec::new();
    let mut drm = drm::nodes_by_bus(roots)?;
    let mut next = 0..;
    for bus in roots::names(&directory)? {
        let path = directory.join(&bus).join("information");
        let text = roots::text(&path)?;
        let minor = field(&text, "Device Minor").and_then(|value| value.parse().ok());
        let minor: u32 = minor.ok_or_else(|| refused!("{path:?}: no Device Minor in it"))?;
        // The UUID has question marks until the GPU is used for the first time.
        let uuid = field(&text, "GPU UUID").filter(|uuid| !uuid.contains('?'));
        let is_excluded = field(&text, "GPU Excluded") == Some("Yes");
        let index = if is_excluded { None } else { next.next() };
        gpus.push(Gpu {
            vendor: Vendor::Nvidia,
            index,
            uuid: uuid.map(str::to_owned),
            aliases: Vec::new(),
            model: field(&text, "Model").map(str::to_owned),
            minor: Some(minor),
            drm: drm.remove(&bus).unwrap_or_default(),
            instances: index.map_or(Ok(Vec::new()), |index| instances(roots, index, minor))?,
            kfd: false,
            bus,
        });
    }
    Ok(gpus)
}

/// Returns the instances of a GPU in the order of their numbers, in which NVIDIA's programs
/// count them.
fn instances(roots: &Roots, index: usize, minor: u32) -> Result<Vec<Instance>> {
    let numbers = |path: &Path, prefix: &str| -> Result<Vec<u32>> {
        let names = roots::names(path)?;
        let numbers = names.iter().filter_map(|name| name.strip_prefix(prefix));
        Ok(numbers.filter_map(|number| number.parse().ok()).collect())
    };
    let directory = roots.proc.join(DRIVER);
    let directory = directory.join(format!("capabilities/gpu{minor}/mig"));
    let mut found = Vec::new();
    for gpu_instance in numbers(&directory, "gi")? {
        let inner = directory.join(format!("gi{gpu_instance}"));
        for compute_instance in numbers(&inner, "ci")? {
            found.push(Instance {
                name: format!("{index}:{}", found.len()),
                gpu_instance,
                compute_instance,
            });
        }
    }
    Ok(found)
}
