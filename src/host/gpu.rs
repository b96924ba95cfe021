//! Looks up the devices that CDI files describe and the GPUs of this host, refuses
//! edits that a container may not have, and returns the others. Not for changing the
//! specification: see `plan/src/gpu.rs`.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Error, Result, anyhow, bail, ensure};
use oci_spec::runtime::{LinuxDeviceType, Mount};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
use teu_gpu::cdi::{
    Cdi, ContainerEdits, DIRECTORIES, DeviceName, DeviceNode, File, Part, Problem, Unresolved,
};
use teu_gpu::{Edits, Finder, LibraryDirs, Moment, Request, Roots, Vendor};
use teu_plan::gpu::{Asked, CdiHooks, CdiNodes, DeviceOptions};
use teu_plan::gpu_request::GpuOptions;
use teu_plan::hotplug::AskedNode;
use teu_plan::mounts::clean;
use teu_plan::seen::{AllEdits, FileId};

use super::Host;
use crate::errno;
use crate::host::trusted_path;

impl Host {
    /// Reads the CDI files in these directories, or in the default directories if
    /// empty. Skips a file that users other than root can write to.
    pub(crate) fn cdi(&self, directories: &[PathBuf]) -> Cdi {
        let others_can_write = &trusted_path::others_could_write;
        match directories {
            [] => Cdi::read(
                &DIRECTORIES.map(|path| self.path(&path[1..])),
                others_can_write,
            ),
            given => Cdi::read(given, others_can_write),
        }
    }

    /// Returns the edits of these devices and GPUs, together and for each device.
    ///
    /// # Errors
    /// A device does not exist, the host lacks its node, or its edits are not allowed.
    pub(crate) fn edits(&self, asked: &Asked, options: &DeviceOptions) -> Result<AllEdits> {
        let cdi = match asked.names.is_empty() {
            true => Cdi::default(),
            false => self.cdi(&options.directories),
        };
        let roots = self.roots(options.gpus.driver_root.as_deref())?;
        let directories = library_dirs(&asked.rootfs)?;
        let mut finder = Finder::new(&roots, &directories);
        let with_capabilities = |request: &Request| Request {
            capabilities: request.capabilities.or(asked.capabilities),
            ..request.clone()
        };
        let mut gpus = Vec::new();
        for request in &asked.gpus {
            let each = finder.each(&with_capabilities(request));
            gpus.extend(each.context("GPUs")?);
        }
        let mut edits_of = |asked: &Asked| -> Result<Edits> {
            let (described, own) = by_files_or_not(&cdi, &asked.names);
            let mut all = described_edits(&cdi, &described, options)?;
            if options.hooks == CdiHooks::Known {
                teu_gpu::take_known_hooks(&mut all, &roots, &directories)?;
            }
            for request in asked.gpus.iter().chain(&own) {
                let edits = finder.edits(&with_capabilities(request));
                all.append(edits.context("GPUs")?);
            }
            Ok(all)
        };
        let together = edits_of(asked)?;
        let mut of_each: Vec<(String, Edits)> = Vec::new();
        for (name, one) in asked.each(gpus) {
            let edits = match one == *asked {
                true => together.clone(),
                false => edits_of(&one)?,
            };
            // The device may be requested in two ways.
            match of_each.iter_mut().find(|(known, _)| *known == name) {
                Some((_, known)) => known.append(edits),
                None => of_each.push((name, edits)),
            }
        }
        Ok(AllEdits { together, of_each })
    }

    /// Returns the edits of a device node of this host. Follows links to the node.
    ///
    /// # Errors
    /// The node does not exist, or is not a device.
    pub(crate) fn node_edits(&self, node: &AskedNode) -> Result<Edits> {
        let doing = || format!("device {:?}", node.on_host);
        let on_host = fs::canonicalize(&node.on_host).with_context(doing)?;
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let node = DeviceNode {
            path: text(&node.path),
            host_path: text(&on_host),
            permissions: node.access.clone(),
            ..DeviceNode::default()
        };
        let edits = ContainerEdits {
            device_nodes: vec![node],
            ..ContainerEdits::default()
        };
        let edits = edits.on_this_machine()?;
        // A fifo has no rule.
        let has_rules = edits.nodes.iter().all(|node| node.rule.is_some());
        ensure!(
            has_rules,
            "{}: neither a character nor a block device",
            doing()
        );
        Ok(edits)
    }

    /// Returns the identity of the file at a path, links followed; `None` if it does
    /// not exist.
    pub(crate) fn file_id(&self, path: &Path) -> Option<FileId> {
        let found = fs::metadata(path).ok()?;
        Some((found.dev(), found.ino()))
    }

    /// Returns whether there are GPUs of this vendor, with their driver.
    ///
    /// # Errors
    /// The kernel's data about them is not understood.
    pub(crate) fn has_gpus(&self, vendor: Vendor, options: &GpuOptions) -> Result<bool> {
        let roots = self.roots(options.driver_root.as_deref())?;
        Ok(teu_gpu::has(&roots, vendor)?)
    }

    /// Returns the directories in which GPUs and the files of their drivers are looked
    /// for, below `driver` if given.
    ///
    /// # Errors
    /// Users other than root can write to `driver`.
    pub(crate) fn roots(&self, driver: Option<&Path>) -> Result<Roots> {
        let mut roots = Roots::below(&self.path(""));
        if let Some(root) = driver {
            ensure!(
                !trusted_path::others_could_write(root),
                "others than root can write to --driver-root {root:?}"
            );
            roots.driver = root.to_owned();
        }
        Ok(roots)
    }
}

fn described_edits(cdi: &Cdi, names: &[DeviceName], options: &DeviceOptions) -> Result<Edits> {
    let mut all = Edits::default();
    for part in parts_of(cdi, names)? {
        all.append(allowed(&part, options)?);
    }
    Ok(all)
}

/// Returns the edits of a part, if a container may have them.
fn allowed(part: &Part<'_>, options: &DeviceOptions) -> Result<Edits> {
    let mut edits = part.edits()?;
    if options.hooks == CdiHooks::LeftOut {
        edits.hooks.clear();
    }
    check(&edits, options).with_context(|| part.of.clone())?;
    Ok(edits)
}

/// Returns the reasons why the devices of the file at `path` are refused. A node that
/// this host lacks is no fault of the file.
pub(crate) fn faults(path: &Path, file: &File, options: &DeviceOptions) -> Vec<Problem> {
    let fault = |part: Part<'_>| {
        let mut edits = part.edits.clone();
        edits.device_nodes.retain(|node| !node.is_missing());
        let there = Part {
            of: part.of,
            edits: &edits,
        };
        let reason = errno::chain(&allowed(&there, options).err()?);
        Some(Problem {
            path: path.to_owned(),
            reason,
        })
    };
    file.parts(path).into_iter().filter_map(fault).collect()
}

/// Splits the names into devices that files describe, or should describe, and requests
/// for kinds that no file describes but teu knows.
fn by_files_or_not(cdi: &Cdi, names: &[DeviceName]) -> (Vec<DeviceName>, Vec<Request>) {
    let vendor = |name: &DeviceName| {
        let (kind, _) = name.parts();
        let is_of_kind = |known: &str| known.split_once('=').is_some_and(|(own, _)| own == kind);
        let is_described = cdi.entries().any(|entry| is_of_kind(entry.name));
        Vendor::of_kind(kind).filter(|_| !is_described)
    };
    let (own, described): (Vec<_>, Vec<_>) = names.iter().partition(|name| vendor(name).is_some());
    let requests = Vendor::ALL.into_iter().filter_map(|vendor| {
        let names = own.iter().map(|name| name.parts());
        let names: Vec<&str> = names
            .filter_map(|(kind, name)| (kind == vendor.kind()).then_some(name))
            .collect();
        (!names.is_empty()).then(|| Request::named(Some(vendor), &names))
    });
    (described.into_iter().cloned().collect(), requests.collect())
}

/// Returns the directories in which the C library of an image looks for libraries,
/// because distributions differ. Looks only at files inside of the image.
///
/// # Errors
/// The root filesystem does not exist.
pub(crate) fn library_dirs(rootfs: &Path) -> Result<LibraryDirs> {
    let debian = LibraryDirs::debian();
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = openat(CWD, rootfs, flags, Mode::empty());
    let root = root.with_context(|| format!("open the root filesystem {rootfs:?}"))?;
    let has = |path: &Path| {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        openat2(&root, path, flags, Mode::empty(), resolve).is_ok()
    };
    let is_debian = has(Path::new("/etc/debian_version")) || has(&debian.native);
    Ok(if is_debian {
        debian
    } else {
        LibraryDirs::other()
    })
}

/// Returns the parts of the edits of these devices.
///
/// # Errors
/// A device does not exist. The error names a similar device, and faults of files.
pub(crate) fn parts_of<'a>(cdi: &'a Cdi, names: &[DeviceName]) -> Result<Vec<Part<'a>>> {
    cdi.parts(names)
        .map_err(|missing| unresolved(cdi, &missing))
}

/// Checks that a file may bring these edits, regardless of its author.
fn check(edits: &Edits, options: &DeviceOptions) -> Result<()> {
    check_nodes(edits)?;
    if options.nodes == CdiNodes::Usual {
        refuse_unusual_nodes(edits)?;
    }
    check_mounts(edits, &options.state)?;
    check_hooks(edits, options.hooks)
}

fn check_nodes(edits: &Edits) -> Result<()> {
    for device in edits.nodes.iter().map(|node| &node.device) {
        let path = device.path();
        let doing = || format!("the device node {path:?}");
        ensure!(path.is_absolute(), "{}: its path is not absolute", doing());
        let mode = device.file_mode().unwrap_or_default();
        // The mode may be that of stat(2), with the bits of a file type.
        ensure!(
            mode <= 0o177_777,
            "{}: {mode:#o} is no mode of a file",
            doing()
        );
        teu_plan::devices::DeviceNode::new(device).with_context(doing)?;
    }
    Ok(())
}

/// Refuses disks and memory, because with these a container controls the whole machine.
fn refuse_unusual_nodes(edits: &Edits) -> Result<()> {
    /// The minor numbers of /dev/mem, /dev/kmem and /dev/port, whose major number is 1.
    const MEMORY: [i64; 3] = [1, 2, 4];
    for device in edits.nodes.iter().map(|node| &node.device) {
        let what = match device.typ() {
            LinuxDeviceType::B => "a block device",
            LinuxDeviceType::C | LinuxDeviceType::U
                if device.major() == 1 && MEMORY.contains(&device.minor()) =>
            {
                "the memory or the ports of the machine"
            }
            _ => continue,
        };
        let path = device.path();
        bail!("the device node {path:?} is {what}, which only \"--cdi-devices any\" allows");
    }
    Ok(())
}

fn check_mounts(edits: &Edits, state: &Path) -> Result<()> {
    for mount in &edits.mounts {
        check_mount(mount).with_context(|| format!("the mount on {:?}", mount.destination()))?;
    }
    refuse_host_directories(edits, state)
}

fn check_mount(mount: &Mount) -> Result<()> {
    let destination = mount.destination();
    ensure!(destination.is_absolute(), "its path is not absolute");
    ensure!(
        clean(destination) != Path::new("/"),
        "it would cover the whole root filesystem"
    );
    let options = mount.options().as_deref().unwrap_or_default();
    let has = |option: &str| options.iter().any(|given| given == option);
    ensure!(
        !has("remount"),
        "option \"remount\": it would change what is mounted already"
    );
    let kind = mount.typ().as_deref().unwrap_or_default();
    // Such a mount is as powerful as the host's own, which no container gets.
    ensure!(
        !["proc", "sysfs"].contains(&kind),
        "no device brings a {kind:?}"
    );
    let is_bind = ["", "bind", "none"].contains(&kind) || has("bind") || has("rbind");
    let source = mount.source().as_deref().unwrap_or(Path::new(""));
    ensure!(
        !is_bind || source.is_absolute(),
        "the host's path {source:?} is not absolute"
    );
    Ok(())
}

/// Refuses mounts of directories that lead to everything of the host or, with `state`,
/// to other containers.
fn refuse_host_directories(edits: &Edits, state: &Path) -> Result<()> {
    // The directory of all state does not exist if it was never used.
    let state = match fs::canonicalize(state) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => state.to_owned(),
        found => found.with_context(|| format!("look up {state:?}"))?,
    };
    let is_state = |source: &Path| source.starts_with(&state) || state.starts_with(source);
    for source in edits
        .mounts
        .iter()
        .filter_map(|mount| mount.source().as_ref())
    {
        // A source that does not exist, such as that of a tmpfs, leads nowhere.
        let found = match fs::canonicalize(source) {
            Err(err) if err.kind() == io::ErrorKind::NotFound => continue,
            found => found.with_context(|| format!("look up {source:?}"))?,
        };
        let is_all = ["/", "/etc", "/proc", "/sys"]
            .map(Path::new)
            .contains(&&*found);
        ensure!(
            !is_all && !is_state(&found),
            "the mount of {source:?}: no container gets {found:?} of the host"
        );
    }
    Ok(())
}

/// Checks the hooks, because a hook outside of the container has all rights of the
/// runtime.
fn check_hooks(edits: &Edits, allowed: CdiHooks) -> Result<()> {
    for (moment, hook) in &edits.hooks {
        let path = hook.path();
        log::debug!("a device brings the hook {path:?}");
        match allowed {
            CdiHooks::All => {}
            // The hook is replaced and does not run.
            CdiHooks::Known if teu_gpu::is_known_hook(*moment, hook) => continue,
            CdiHooks::Known => {
                bail!("teu does not know the hook {path:?}, and --cdi-hooks is \"known\"")
            }
            CdiHooks::None | CdiHooks::LeftOut => {
                bail!("it has the hook {path:?}, and --cdi-hooks is \"none\"")
            }
        }
        teu_plan::hooks::Hook::new(hook).with_context(|| format!("the hook {path:?}"))?;
        if *moment != Moment::StartContainer && trusted_path::others_could_write(path) {
            bail!("others than root can write to the hook {path:?} or put another in its place");
        }
    }
    Ok(())
}

fn unresolved(cdi: &Cdi, missing: &Unresolved) -> Error {
    let known: Vec<&str> = cdi.entries().map(|entry| entry.name).collect();
    let nearest = missing
        .names
        .iter()
        .filter_map(|name| teu_spelling::nearest(name, &known));
    let meant: Vec<String> = nearest.map(|name| format!("{name:?}")).collect();
    let problems = cdi.problems().iter().map(|problem| format!("; {problem}"));
    let problems: String = problems.collect();
    match &meant[..] {
        [] => anyhow!("{missing}{problems}"),
        meant => anyhow!("{missing} (is {} meant?){problems}", meant.join(", ")),
    }
}
