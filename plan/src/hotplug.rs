//! DECIDE: the devices to add to a running container and those to remove, with their nodes,
//! mounts, links, covers and rules. `commands/update.rs` has the changes made.

use alloc::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use oci_spec::runtime::{self as spec, LinuxNamespaceType, Spec};
use serde::de::DeserializeOwned;
use teu_cgroups_types::DeviceRule;
use teu_gpu_types::DeviceName;
use teu_gpu_types::{Cover, Edits};
use teu_namespaces_types::{Kind, NamespacePlan};

use super::devices::{DeviceKind, DeviceNode, Devices};
use super::gpu::{self, DeviceOptions};
use super::mounts::{Mount, MountKind, Surroundings, clean, mounts};
use super::named_devices::{Brought, BroughtMount, NamedDevice, NamedDevices};
use super::seen::{AllEdits, FileId};
use crate::document;
use crate::prelude::*;

/// The options of the command line.
#[derive(Debug, Clone, Default)]
pub struct HotplugOptions {
    /// The devices to add, as they were typed. They may be wrong.
    pub add: Vec<String>,
    pub remove: Vec<String>,
    /// Where to look for devices. Its list of names is empty.
    pub devices: DeviceOptions,
}

/// A requested device.
#[derive(Debug, PartialEq)]
enum Asked {
    Named(DeviceName),
    Node(AskedNode),
}

/// A device node of the host, requested by its path.
#[derive(Debug, PartialEq, Eq)]
pub struct AskedNode {
    pub on_host: PathBuf,
    /// The path in the container.
    pub path: PathBuf,
    /// The access to allow: letters of `rwm`.
    pub access: String,
}

/// The file at a path in the container.
#[derive(Debug)]
pub struct Found {
    pub id: FileId,
    /// The kind of the node; `None` if the file is not a device node.
    pub kind: Option<DeviceKind>,
}

/// Looks for devices of the host.
pub trait LookOutside {
    /// Returns the edits of the devices that are requested by name.
    fn edits(&self, asked: &gpu::Asked, options: &DeviceOptions) -> Result<AllEdits>;
    /// Returns the edits that add a device node.
    fn node_edits(&self, node: &AskedNode) -> Result<Edits>;
    /// Returns the files that are the sources of the edits' mounts. A relative source is
    /// relative to the bundle.
    fn sources(&self, edits: &Edits, bundle: &Path) -> BTreeMap<PathBuf, FileId>;
}

/// Looks at paths in the container.
pub trait Look {
    /// Returns the file at the path, after following links.
    fn find(&self, path: &Path) -> Result<Option<Found>>;
    /// Returns the target of the link at the path, or `None` if there is no link.
    fn link_target(&self, path: &Path) -> Result<Option<PathBuf>>;
}

/// The container, and whether its mounts can be idmapped.
#[derive(Debug)]
pub struct Container<'a> {
    pub named: &'a NamedDevices,
    pub bundle: &'a Path,
    pub rootfs: &'a Path,
    /// The namespaces, with the id maps of its user namespace.
    pub namespaces: &'a NamespacePlan,
    pub may_map_owners: bool,
}

/// The decided change of a running container's devices.
#[derive(Debug)]
pub struct Hotplug {
    pub addition: Addition,
    /// Nodes, mounts, links and covers to take out of the container.
    pub removal: Brought,
    /// The covers that the container has after the change.
    pub covers: Vec<Cover>,
    pub ended_rules: Vec<DeviceRule>,
    /// The devices to save in the state during the change: those before it and those after
    /// it.
    pub meanwhile: NamedDevices,
    /// The devices that the container has after the change.
    pub named: NamedDevices,
}

/// Mounts, nodes and covers to put into the container.
#[derive(Debug, Default)]
pub struct Addition {
    pub mounts: Vec<Mount>,
    pub devices: Devices,
    /// Covers to mount, in place of those in `covers_before` for the same directories.
    pub covers: Vec<Cover>,
    pub covers_before: Vec<Cover>,
    /// The SELinux context of the covers.
    pub mount_label: Option<String>,
    /// Everything that this addition makes. Removing it undoes the addition.
    pub brought: Brought,
}

impl Asked {
    /// Reads a CDI name, or `/dev/x[:path][:rwm]`.
    ///
    /// # Errors
    /// Returns an error if the word has neither form.
    fn new(word: &str) -> Result<Asked> {
        if !word.starts_with('/') {
            return Ok(Asked::Named(word.parse()?));
        }
        let is_path = |part: &str| part.starts_with('/');
        let (on_host, path, access) = match word.split(':').collect::<Vec<_>>()[..] {
            [on_host] => (on_host, on_host, "rwm"),
            [on_host, path] if is_path(path) => (on_host, path, "rwm"),
            [on_host, access] => (on_host, on_host, access),
            [on_host, path, access] if is_path(path) => (on_host, path, access),
            _ => bail!("{word:?} is not of the form /dev/x[:path][:rwm]"),
        };
        let once = |letter| "rwm".contains(letter) && access.matches(letter).count() == 1;
        let has_access = !access.is_empty() && access.chars().all(once);
        ensure!(
            has_access,
            "{word:?}: {access:?} is not made of the letters r, w and m, each once at most"
        );
        Ok(Asked::Node(AskedNode {
            on_host: on_host.into(),
            path: clean(Path::new(path)),
            access: access.to_owned(),
        }))
    }

    /// Returns the name of the device in the state.
    fn name(&self) -> String {
        match self {
            Asked::Named(name) => name.to_string(),
            Asked::Node(node) => node.path.to_string_lossy().into_owned(),
        }
    }

    fn edits(
        &self,
        host: &dyn LookOutside,
        rootfs: &Path,
        options: &DeviceOptions,
    ) -> Result<Edits> {
        match self {
            Asked::Named(name) => {
                let asked = gpu::Asked {
                    names: vec![name.clone()],
                    gpus: Vec::new(),
                    capabilities: None,
                    rootfs: rootfs.to_owned(),
                };
                Ok(host.edits(&asked, options)?.together)
            }
            Asked::Node(node) => host.node_edits(node),
        }
    }
}

impl Hotplug {
    /// Decides about the whole change. `look` finds files in the container.
    ///
    /// # Errors
    /// Returns an error if a device to add does not exist, is already part of the container
    /// or brings something that a running container cannot get, or if a device to remove is
    /// not part of the container.
    pub fn new(
        options: &HotplugOptions,
        container: &Container<'_>,
        host: &dyn LookOutside,
        look: &dyn Look,
    ) -> Result<Hotplug> {
        let mut named = container.named.clone();
        let gone = remove(&mut named.list, &options.remove)?;
        let mut spec = container.as_specification()?;
        let mut added: Vec<NamedDevice> = Vec::new();
        for word in &options.add {
            let asked = Asked::new(word)?;
            let name = asked.name();
            let mut all = named.list.iter().chain(&added);
            if all.any(|device| device.name == name) {
                bail!("the container has the device {name:?} already");
            }
            let edits = asked.edits(host, container.rootfs, &options.devices)?;
            refuse_impossible(&edits).with_context(|| format!("device {name:?}"))?;
            gpu::apply(&mut spec, &edits, container.may_map_owners)?;
            added.push(NamedDevice::new(
                &name,
                &edits,
                container.rootfs,
                &host.sources(&edits, container.bundle),
            )?);
        }
        let addition = Addition::new(&spec, container, &mut added, look)?;
        let mut meanwhile = container.named.clone();
        meanwhile.list.extend_from_slice(&added);
        named.list.extend(added);
        let rules = named.rules();
        let ended = gone.iter().flat_map(|device| &device.rules).copied();
        Ok(Hotplug {
            addition,
            removal: no_longer(&gone, &named.list),
            covers: named.covers(),
            ended_rules: ended.filter(|rule| !rules.contains(rule)).collect(),
            meanwhile,
            named,
        })
    }

    /// Removes the paths that are taken out from `external`, the list of paths in the
    /// container that are the host's.
    pub fn drop_external(&self, external: &mut Vec<PathBuf>) {
        external.retain(|path| !self.removal.has(path));
    }

    /// Adds the paths of bind mounts and nodes that are put in to `external`, the list of
    /// paths in the container that are the host's.
    pub fn add_external(&self, external: &mut Vec<PathBuf>) {
        let Addition {
            mounts, devices, ..
        } = &self.addition;
        let binds = mounts.iter().filter(|mount| mount.bind().is_some());
        external.extend(binds.map(|mount| mount.destination.clone()));
        let nodes = devices.nodes.iter().filter(|_| devices.bind);
        external.extend(nodes.map(|node| node.path.clone()));
    }
}

/// Removes the devices of these names from the list and returns them.
fn remove(list: &mut Vec<NamedDevice>, words: &[String]) -> Result<Vec<NamedDevice>> {
    let mut gone = Vec::new();
    for word in words {
        let name = Asked::new(word)?.name();
        let Some(place) = list.iter().position(|device| device.name == name) else {
            let names = list.iter().map(|device| format!("{:?}", device.name));
            let names = names.collect::<Vec<_>>().join(", ");
            bail!("the container has no device {name:?} by its name, but [{names}]");
        };
        gone.push(list.remove(place));
    }
    Ok(gone)
}

/// Refuses edits that are possible only while a container is made.
fn refuse_impossible(edits: &Edits) -> Result<()> {
    if let Some((_, hook)) = edits.hooks.first() {
        bail!(
            "it has the hook {:?}, which runs when a container is made \
             (hint: --cdi-hooks none leaves it out)",
            hook.path()
        );
    }
    let late = "a container that runs cannot get";
    ensure!(
        edits.net_devices.is_empty(),
        "it has netDevices, which {late}"
    );
    ensure!(edits.intel_rdt.is_none(), "it has intelRdt, which {late}");
    Ok(())
}

/// Returns what the devices `gone` have brought, without anything that a device of `left`
/// has brought, too.
fn no_longer(gone: &[NamedDevice], left: &[NamedDevice]) -> Brought {
    let mut removal = Brought::default();
    for Brought {
        nodes,
        mounts,
        links,
        covers,
    } in gone.iter().map(|device| &device.brought)
    {
        let left = || left.iter().map(|device| &device.brought);
        let nodes = nodes
            .iter()
            .filter(|node| left().all(|other| !other.nodes.contains(node)));
        removal.nodes.extend(nodes.cloned());
        let mounts = mounts
            .iter()
            .filter(|mount| left().all(|other| other.mount(mount).is_none()));
        removal.mounts.extend(mounts.cloned());
        let links = links
            .iter()
            .filter(|link| left().all(|other| !other.links.contains(link)));
        removal.links.extend(links.cloned());
        removal.covers.extend_from_slice(covers);
    }
    removal
}

impl Container<'_> {
    /// Returns a specification that has the facts about the container on which edits
    /// depend: its user, and whether it has a user namespace.
    fn as_specification(&self) -> Result<Spec> {
        fn nothing<T: DeserializeOwned>() -> Result<T> {
            document::nothing().map_err(anyhow::Error::msg)
        }
        let (mut spec, mut process) = (nothing::<Spec>()?, nothing::<spec::Process>()?);
        let (uid, gid) = self.named.user;
        let mut user = process.user().clone();
        user.set_uid(uid).set_gid(gid);
        process.set_user(user);
        let mut linux = nothing::<spec::Linux>()?;
        if self.namespaces.is_private(Kind::User) {
            let mut namespace = spec::LinuxNamespace::default();
            namespace.set_typ(LinuxNamespaceType::User);
            linux.set_namespaces(Some(vec![namespace]));
        }
        spec.set_process(Some(process)).set_linux(Some(linux));
        Ok(spec)
    }

    fn mounts(&self, spec: &Spec) -> Result<Vec<Mount>> {
        let around = Surroundings {
            bundle_dir: self.bundle,
            rootfs: self.rootfs,
            namespaces: self.namespaces,
            cgroup: None,
            unprivileged: false,
            rootless: false,
            label: self.named.mount_label.as_deref().unwrap_or_default(),
        };
        let mut mounts = mounts(spec.mounts().as_deref().unwrap_or_default(), &around)?;
        for mount in &mut mounts {
            match &mut mount.kind {
                MountKind::Bind(bind) => bind.out_of_sight = true,
                // The mounts of a device that is removed are recognized by their source, which
                // other kinds of mount do not have.
                _ => bail!(
                    "mount on {:?}: it is no bind, which a container that runs cannot get",
                    mount.destination
                ),
            }
        }
        Ok(mounts)
    }

    /// Plans the nodes. For a container in a user namespace the parent makes all of them,
    /// because init is no longer there to do so and the container may not.
    fn nodes(&self, spec: &Spec) -> Result<Devices> {
        let listed = spec
            .linux()
            .as_ref()
            .and_then(|linux| linux.devices().as_deref());
        let bind = self.namespaces.is_private(Kind::User);
        let mut nodes = Vec::new();
        for device in listed.unwrap_or_default() {
            let mut node = DeviceNode::new(device)?;
            node.host_path = None;
            node.asked = true;
            if bind {
                node.leave_to_host(&self.namespaces.id_maps);
            }
            nodes.push(node);
        }
        Ok(Devices {
            nodes,
            bind,
            links: Vec::new(),
        })
    }

    /// Iterates over the changes that the container's present devices have brought.
    fn brought(&self) -> impl Iterator<Item = &Brought> {
        self.named.list.iter().map(|device| &device.brought)
    }

    /// Returns the paths of the nodes that exist already.
    fn nodes_there(&self, devices: &Devices, look: &dyn Look) -> Result<Vec<PathBuf>> {
        let mut there = Vec::new();
        for node in &devices.nodes {
            let path = &node.path;
            match look.find(path)? {
                None if self.named.dev_is_the_hosts && path.starts_with("/dev") => {
                    bail!("device {path:?}: the container's /dev is the host's")
                }
                None => {}
                Some(found) if found.kind == Some(node.kind) => there.push(path.clone()),
                Some(_) => bail!("device {path:?}: something else is there"),
            }
        }
        Ok(there)
    }

    /// Returns whether the mount exists already; `all` has all mounts to add. If it does
    /// not, notes whether its mountpoint has to be made and later removed. Mounts may be nested:
    /// if the mountpoint is inside another new mount, it belongs to the source of that mount,
    /// must not be removed later, and is not noted.
    fn is_there(&self, mount: &mut BroughtMount, all: &[Mount], look: &dyn Look) -> Result<bool> {
        let path = &mount.destination;
        let is_below =
            |other: &Mount| path.starts_with(&other.destination) && *path != other.destination;
        match look.find(path)? {
            None => mount.made_mountpoint = !all.iter().any(is_below),
            Some(found) if mount.source == Some(found.id) => {
                let known = self.brought().find_map(|other| other.mount(mount));
                mount.made_mountpoint = known.is_some_and(|known| known.made_mountpoint);
                return Ok(true);
            }
            Some(_) => {}
        }
        Ok(false)
    }

    /// Removes from the device's record the links that exist already, unless another device
    /// has brought them.
    fn retain_own_links(&self, device: &mut NamedDevice, look: &dyn Look) -> Result<()> {
        let mut links = Vec::new();
        for link in core::mem::take(&mut device.brought.links) {
            let is_there = look.link_target(&link.path)?.as_ref() == Some(&link.target);
            if !is_there || self.brought().any(|other| other.links.contains(&link)) {
                links.push(link);
            }
        }
        device.brought.links = links;
        Ok(())
    }
}

impl Addition {
    /// Returns the mounts and nodes of the edited specification that the container does not
    /// have. Removes from the records of the devices `added` what exists already, unless
    /// another device has brought it.
    fn new(
        spec: &Spec,
        container: &Container<'_>,
        added: &mut [NamedDevice],
        look: &dyn Look,
    ) -> Result<Addition> {
        let mut devices = container.nodes(spec)?;
        let mut mounts = container.mounts(spec)?;
        let mut there = container.nodes_there(&devices, look)?;
        let mut brought = Brought::default();
        for device in added {
            for mount in &mut device.brought.mounts {
                if container.is_there(mount, &mounts, look)? {
                    there.push(mount.destination.clone());
                }
            }
            container.retain_own_links(device, look)?;
            let is_absent = |path: &PathBuf| !there.contains(path);
            let others = || container.brought();
            let Brought {
                nodes,
                mounts,
                links,
                covers,
            } = &mut device.brought;
            // Without a mount namespace of the container, a cover would hide files from the
            // host.
            covers.retain(|_| container.namespaces.is_private(Kind::Mount));
            brought.covers.extend_from_slice(covers);
            nodes.retain(|node| {
                is_absent(&node.path) || others().any(|other| other.nodes.contains(node))
            });
            mounts.retain(|mount| {
                is_absent(&mount.destination) || others().any(|other| other.mount(mount).is_some())
            });
            let nodes = nodes.iter().filter(|node| is_absent(&node.path));
            brought.nodes.extend(nodes.cloned());
            let mounts = mounts.iter().filter(|mount| is_absent(&mount.destination));
            brought.mounts.extend(mounts.cloned());
            let links = links
                .iter()
                .filter(|link| others().all(|other| !other.links.contains(link)));
            brought.links.extend(links.cloned());
        }
        devices.nodes.retain(|node| !there.contains(&node.path));
        mounts.retain(|mount| !there.contains(&mount.destination));
        let covers_before = container.named.covers();
        let mut covers = covers_before.clone();
        for cover in &brought.covers {
            cover.clone().add_to(&mut covers);
        }
        covers.retain(|cover| !covers_before.contains(cover));
        Ok(Addition {
            mounts,
            devices,
            covers,
            covers_before,
            mount_label: container.named.mount_label.clone(),
            brought,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A host that has /dev/null and /dev/zero.
    struct Outside;

    impl LookOutside for Outside {
        fn edits(&self, _: &gpu::Asked, _: &DeviceOptions) -> Result<AllEdits> {
            bail!("no device has a name here")
        }

        fn node_edits(&self, asked: &AskedNode) -> Result<Edits> {
            let minor = match asked.on_host.to_str() {
                Some("/dev/null") => 3,
                Some("/dev/zero") => 5,
                _ => bail!("{:?} is not there", asked.on_host),
            };
            let mut device = spec::LinuxDevice::default();
            device
                .set_path(asked.path.clone())
                .set_typ(spec::LinuxDeviceType::C)
                .set_major(1)
                .set_minor(minor)
                .set_file_mode(Some(0o666));
            let mut rule = spec::LinuxDeviceCgroup::from(&device);
            rule.set_access(Some(asked.access.clone()));
            Ok(Edits {
                nodes: vec![teu_gpu_types::Node {
                    device,
                    host_path: asked.on_host.clone(),
                    rule: Some(rule),
                }],
                ..Edits::default()
            })
        }

        fn sources(&self, _: &Edits, _: &Path) -> BTreeMap<PathBuf, FileId> {
            BTreeMap::new()
        }
    }

    /// A container with these files. A file with a minor number is a device node.
    struct Seen<'a>(BTreeMap<&'a str, Option<u32>>);

    impl Look for Seen<'_> {
        fn find(&self, path: &Path) -> Result<Option<Found>> {
            let minor = self.0.get(path.to_str().expect("a path"));
            Ok(minor.map(|minor| Found {
                id: (0, 0),
                kind: minor.map(|minor| DeviceKind::Character { major: 1, minor }),
            }))
        }

        fn link_target(&self, _: &Path) -> Result<Option<PathBuf>> {
            Ok(None)
        }
    }

    /// Decides about a running container that has these devices and these files. A file
    /// with a minor number is a device node.
    fn plan(
        named: &NamedDevices,
        there: &[(&str, Option<u32>)],
        add: &[&str],
        remove: &[&str],
    ) -> Result<Hotplug, String> {
        let there: BTreeMap<_, _> = there.iter().copied().collect();
        let words = |words: &[&str]| words.iter().map(ToString::to_string).collect();
        let options = HotplugOptions {
            add: words(add),
            remove: words(remove),
            devices: DeviceOptions::default(),
        };
        let container = Container {
            named,
            bundle: Path::new("/bundle"),
            rootfs: Path::new("/bundle/rootfs"),
            namespaces: &NamespacePlan::default(),
            may_map_owners: true,
        };
        let plan = Hotplug::new(&options, &container, &Outside, &Seen(there));
        plan.map_err(|err| format!("{err:#}"))
    }

    fn paths(brought: &Brought) -> Vec<&str> {
        let paths = brought.nodes.iter().map(|node| &node.path);
        paths.map(|path| path.to_str().expect("a path")).collect()
    }

    fn with(add: &[&str]) -> NamedDevices {
        let plan = plan(&NamedDevices::default(), &[], add, &[]);
        plan.expect("planned").named
    }

    #[test]
    fn devices_are_asked_for_as_dockers() {
        let node = |on_host: &str, path: &str, access: &str| {
            Asked::Node(AskedNode {
                on_host: on_host.into(),
                path: path.into(),
                access: access.into(),
            })
        };
        for (word, expected) in [
            ("/dev/a", node("/dev/a", "/dev/a", "rwm")),
            ("/dev/a:/b/../c", node("/dev/a", "/c", "rwm")),
            ("/dev/a:r", node("/dev/a", "/dev/a", "r")),
            ("/dev/a:/b:mw", node("/dev/a", "/b", "mw")),
        ] {
            assert_eq!(Asked::new(word).expect(word), expected);
        }
        for word in [
            "",
            "a",
            "/a:",
            "/a:b",
            "/a:b:r",
            "/a:/b:",
            "/a:/b:r:w",
            "v/c",
        ] {
            Asked::new(word).expect_err(word);
        }
        assert_eq!(Asked::new("v/c=x:y").expect("a name").name(), "v/c=x:y");
    }

    #[test]
    fn a_node_comes_as_the_host_has_it() {
        let mut named = NamedDevices {
            user: (5, 6),
            ..NamedDevices::default()
        };
        let hotplug = plan(&named, &[], &["/dev/null:/dev/x:r"], &[]).expect("planned");
        let [node] = &hotplug.addition.devices.nodes[..] else {
            panic!("{hotplug:?}");
        };
        assert_eq!(
            (node.path.as_path(), node.mode),
            (Path::new("/dev/x"), 0o666)
        );
        assert_eq!((node.uid, node.gid), (5, 6));
        assert_eq!((&node.host_path, node.made_by_parent), (&None, None));
        assert_eq!(hotplug.named.rules()[0].access.to_string(), "r");
        assert!(hotplug.ended_rules.is_empty());
        // A node cannot be added to the host's own /dev.
        named.dev_is_the_hosts = true;
        let refused = plan(&named, &[], &["/dev/null:/dev/x"], &[]).expect_err("refused");
        assert_eq!(
            refused,
            "device \"/dev/x\": the container's /dev is the host's"
        );
    }

    #[test]
    fn what_is_there_is_left_and_something_else_refused() {
        let named = NamedDevices::default();
        let hotplug = plan(&named, &[("/x", Some(3))], &["/dev/null:/x"], &[]).expect("planned");
        assert!(hotplug.addition.devices.nodes.is_empty());
        assert_eq!(hotplug.named.list[0].brought, Brought::default());
        assert_eq!(hotplug.named.rules().len(), 1);
        for there in [None, Some(5)] {
            let refused = plan(&named, &[("/x", there)], &["/dev/null:/x"], &[]);
            let refused = refused.expect_err("refused");
            assert_eq!(refused, "device \"/x\": something else is there");
        }
    }

    #[test]
    fn a_rule_ends_with_the_last_device_that_needs_it() {
        let named = with(&["/dev/null:/a", "/dev/null:/b", "/dev/zero:/c"]);
        assert_eq!(named.rules().len(), 3);
        let there = [("/a", Some(3)), ("/b", Some(3)), ("/c", Some(5))];
        let one = plan(&named, &there, &[], &["/a", "/c"]).expect("planned");
        assert_eq!(paths(&one.removal), ["/a", "/c"]);
        assert_eq!(one.ended_rules.len(), 1);
        assert_eq!(one.ended_rules[0].minor, Some(5));
        let both = plan(&named, &there, &[], &["/b", "/dev/null:/a"]).expect("planned");
        assert!(both.ended_rules.iter().all(|rule| rule.minor == Some(3)));
        assert!(!both.ended_rules.is_empty());
        assert_eq!(both.named.list.len(), 1);
        // Removing a device and adding it again changes nothing.
        let back = plan(&named, &there, &["/dev/null:/a"], &["/a"]).expect("planned");
        assert_eq!((paths(&back.removal).len(), back.ended_rules.len()), (0, 0));
        assert!(back.addition.devices.nodes.is_empty());
        assert_eq!(back.named.list.len(), 3);
        let refused = plan(&named, &there, &["/dev/null:/b"], &[]).expect_err("refused");
        assert_eq!(refused, "the container has the device \"/b\" already");
    }
}
