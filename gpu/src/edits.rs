//! Makes the edits of a container's specification from CDI files and from the host's nodes,
//! where device numbers come from.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use oci_spec::runtime::{
    Hook, LinuxDevice, LinuxDeviceCgroup, LinuxDeviceType, LinuxIntelRdt, LinuxNetDevice, Mount,
};
use rustix::fs::{major, minor};
use teu_gpu_types::{Edits, Moment, Node};

use crate::cdi::{self, ContainerEdits, DeviceNode};
use crate::error::{Error, Result, refused};

impl ContainerEdits {
    /// Converts the edits of a CDI file, and completes them from the host's device nodes.
    ///
    /// # Errors
    /// Returns an error if a device of the host does not exist, or is another device.
    pub fn on_this_machine(&self) -> Result<Edits> {
        let node = |node| {
            described_node(node).map_err(|err| err.of(format!("device node {:?}", node.path)))
        };
        Ok(Edits {
            env: self.env.clone(),
            nodes: self.device_nodes.iter().map(node).collect::<Result<_>>()?,
            net_devices: self.net_devices.iter().map(net_device).collect(),
            mounts: self.mounts.iter().map(mount).collect(),
            hooks: self.hooks.iter().filter_map(hook).collect(),
            intel_rdt: self.intel_rdt.as_ref().map(intel_rdt),
            additional_gids: self.additional_gids.clone(),
            ..Edits::default()
        })
    }
}

impl DeviceNode {
    fn on_host(&self) -> &Path {
        let is_the_same = self.host_path.is_empty();
        Path::new(if is_the_same {
            &self.path
        } else {
            &self.host_path
        })
    }

    /// Returns whether the description is complete without the host's node.
    fn says_all(&self) -> bool {
        self.kind == "p" || !self.kind.is_empty() && self.major != 0
    }

    /// Returns whether the node has to be looked up on the host and is not there. The CDI
    /// file may be for another machine.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        let found = fs::symlink_metadata(self.on_host());
        let is_absent = found.is_err_and(|err| err.kind() == io::ErrorKind::NotFound);
        self.on_host().is_absolute() && !self.says_all() && is_absent
    }
}

/// A device node of the host.
struct Found {
    kind: LinuxDeviceType,
    major: u32,
    minor: u32,
    access: Access,
}

/// The owner, group and mode of a node.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Access {
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl Found {
    fn at(path: &Path) -> Result<Found> {
        // Do not follow a link.
        let found = fs::symlink_metadata(path);
        let found = found.map_err(|cause| Error::system("the host's", path, cause))?;
        Found::of(&found).map_err(|err| err.of(format!("the host's {path:?}")))
    }

    fn of(found: &fs::Metadata) -> Result<Found> {
        let file_type = found.file_type();
        let kind = if file_type.is_block_device() {
            LinuxDeviceType::B
        } else if file_type.is_char_device() {
            LinuxDeviceType::C
        } else if file_type.is_fifo() {
            LinuxDeviceType::P
        } else {
            return Err(Error::refused("not a device node"));
        };
        Ok(Found {
            kind,
            major: major(found.rdev()),
            minor: minor(found.rdev()),
            access: Access {
                mode: found.mode() & 0o7777,
                uid: found.uid(),
                gid: found.gid(),
            },
        })
    }
}

/// Makes the node of a character device with this number and this name in /dev. If the
/// host does not have the node, the container's gets the access `missing`.
///
/// # Errors
/// Returns an error if the host's node is another device.
pub(crate) fn numbered_node(
    dev: &Path,
    name: &str,
    (major, minor): (u32, u32),
    missing: Access,
) -> Result<Node> {
    let host_path = dev.join(name);
    let number = (major.into(), minor.into());
    let access = match fs::symlink_metadata(&host_path) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(missing),
        Err(cause) => Err(Error::system("device node", &host_path, cause)),
        Ok(found) => Found::of(&found)
            .and_then(|found| {
                let found_number = (found.major.into(), found.minor.into());
                match found.kind == LinuxDeviceType::C && found_number == number {
                    true => Ok(found.access),
                    false => Err(refused!(
                        "it is {}, not {}",
                        words(found.kind, found_number),
                        words(LinuxDeviceType::C, number)
                    )),
                }
            })
            .map_err(|err| err.of(format!("device node {host_path:?}"))),
    }?;
    let mut device = LinuxDevice::default();
    device
        .set_path(Path::new("/dev").join(name))
        .set_typ(LinuxDeviceType::C)
        .set_major(number.0)
        .set_minor(number.1)
        .set_file_mode(Some(access.mode))
        .set_uid(Some(access.uid))
        .set_gid(Some(access.gid));
    Ok(Node {
        rule: rule(&device, "rw"),
        device,
        host_path,
    })
}

/// Makes the node of a CDI file. Properties that the file does not give are those of the
/// host's node; properties that it gives must agree with the host's node. The host does not
/// need the node if the file gives all properties.
fn described_node(node: &DeviceNode) -> Result<Node> {
    let host_path = node.on_host().to_owned();
    if !host_path.is_absolute() {
        return Err(refused!("the host's path {host_path:?} is not absolute"));
    }
    let is_fifo = node.kind == "p";
    let says_all = node.says_all();
    let found = match Found::at(&host_path) {
        Ok(found) => Some(found),
        Err(_) if says_all => None,
        Err(err) => return Err(err),
    };
    let (mut kind, mut number) = (named(&node.kind), (node.major, node.minor));
    if let Some(found) = &found {
        let found_number = (found.major.into(), found.minor.into());
        let is_other = kind.is_some_and(|kind| !is_same(kind, found.kind))
            || number.0 != 0 && !is_fifo && number != found_number;
        if is_other {
            return Err(refused!(
                "the host's {host_path:?} is {}, not {}",
                words(found.kind, found_number),
                words(kind.unwrap_or(found.kind), number)
            ));
        }
        kind = kind.or(Some(found.kind));
        number = found_number;
    }
    let kind = kind.ok_or_else(|| Error::refused("it has no type"))?;
    if kind == LinuxDeviceType::P {
        number = (0, 0);
    }
    let mut device = LinuxDevice::default();
    device
        .set_path(node.path.clone().into())
        .set_typ(kind)
        .set_major(number.0)
        .set_minor(number.1)
        .set_file_mode(
            node.file_mode
                .map(|mode| mode.0)
                .or(found.map(|found| found.access.mode)),
        )
        .set_uid(node.uid)
        .set_gid(node.gid);
    let rule = rule(&device, &node.permissions);
    Ok(Node {
        device,
        host_path,
        rule,
    })
}

fn named(kind: &str) -> Option<LinuxDeviceType> {
    kind.parse().ok()
}

/// Returns whether two types are equal; `u` also stands for a character device.
fn is_same(kind: LinuxDeviceType, other: LinuxDeviceType) -> bool {
    let plain = |kind| match kind {
        LinuxDeviceType::U => LinuxDeviceType::C,
        kind => kind,
    };
    plain(kind) == plain(other)
}

fn words(kind: LinuxDeviceType, number: (i64, i64)) -> String {
    format!("{} {}:{}", kind.as_str(), number.0, number.1)
}

/// Returns the rule for a device, or `None` if it has no number or no permissions.
fn rule(device: &LinuxDevice, permissions: &str) -> Option<LinuxDeviceCgroup> {
    let has_rules = matches!(device.typ(), LinuxDeviceType::B | LinuxDeviceType::C);
    let access = match permissions {
        "none" => return None,
        "" => "rwm",
        letters => letters,
    };
    has_rules.then(|| {
        let mut rule = LinuxDeviceCgroup::from(device);
        rule.set_access(Some(access.to_owned()));
        rule
    })
}

fn net_device(device: &cdi::NetDevice) -> (String, LinuxNetDevice) {
    let mut given = LinuxNetDevice::default();
    given.set_name(Some(device.name.clone()));
    (device.host_interface_name.clone(), given)
}

fn mount(mount: &cdi::Mount) -> Mount {
    let mut given = Mount::default();
    given
        .set_source(Some(mount.host_path.clone().into()))
        .set_destination(mount.container_path.clone().into())
        .set_typ(some(&mount.kind))
        .set_options(Some(mount.options.clone()));
    given
}

fn hook(hook: &cdi::Hook) -> Option<(Moment, Hook)> {
    let mut given = Hook::default();
    given
        .set_path(hook.path.clone().into())
        .set_args(list(&hook.args))
        .set_env(list(&hook.env))
        .set_timeout(hook.timeout);
    Some((Moment::named(&hook.hook_name)?, given))
}

fn intel_rdt(rdt: &cdi::IntelRdt) -> LinuxIntelRdt {
    let mut given = LinuxIntelRdt::default();
    given
        .set_clos_id(some(&rdt.clos_id))
        .set_l3_cache_schema(some(&rdt.l3_cache_schema))
        .set_mem_bw_schema(some(&rdt.mem_bw_schema))
        .set_schemata(Some(rdt.schemata.clone()))
        .set_enable_monitoring(Some(rdt.enable_monitoring));
    given
}

fn list(texts: &[String]) -> Option<Vec<String>> {
    (!texts.is_empty()).then(|| texts.to_owned())
}

fn some(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use cdi::File;

    /// The edits of a text, in the notation of YAML.
    fn edits(text: &str) -> std::result::Result<Edits, String> {
        let file = File::parse(&format!(
            "cdiVersion: 1.1.0\nkind: v/c\ndevices: [{{name: a, containerEdits: {{{text}}}}}]"
        ));
        file.expect(text).devices[0]
            .container_edits
            .on_this_machine()
            .map_err(|err| teu_errno::line(&err))
    }

    fn node(text: &str) -> std::result::Result<Node, String> {
        edits(&format!("deviceNodes: [{{{text}}}]")).map(|mut edits| edits.nodes.remove(0))
    }

    fn describe(node: &Node) -> String {
        let rule = node.rule.as_ref().map(ToString::to_string);
        let device = &node.device;
        let number = (device.major(), device.minor());
        format!(
            "{} rule {}",
            words(device.typ(), number),
            rule.unwrap_or_default()
        )
    }

    #[test]
    fn missing_properties_are_those_of_the_hosts_node() {
        for (text, expected) in [
            ("path: /dev/null", "c 1:3 rule c 1:3 rwm"),
            ("path: /dev/x, hostPath: /dev/zero", "c 1:5 rule c 1:5 rwm"),
            ("path: /dev/null, type: c", "c 1:3 rule c 1:3 rwm"),
            (
                "path: /dev/null, major: 1, minor: 3",
                "c 1:3 rule c 1:3 rwm",
            ),
            // A major number of 0 means that no number is given.
            (
                "path: /dev/null, type: c, major: 0, minor: 9",
                "c 1:3 rule c 1:3 rwm",
            ),
            ("path: /dev/null, permissions: r", "c 1:3 rule c 1:3 r"),
            ("path: /dev/null, permissions: none", "c 1:3 rule "),
            // Nodes without a device rule.
            ("path: /dev/null, type: u", "u 1:3 rule "),
            ("path: /nowhere, type: p, major: 5", "p 0:0 rule "),
            // The file gives all properties, so the host does not need the node.
            (
                "path: /nowhere, type: c, major: 200, minor: 1",
                "c 200:1 rule c 200:1 rwm",
            ),
            (
                "path: /nowhere, type: b, major: 200",
                "b 200:0 rule b 200:0 rwm",
            ),
            (
                "path: /etc, type: c, major: 200",
                "c 200:0 rule c 200:0 rwm",
            ),
        ] {
            assert_eq!(describe(&node(text).expect(text)), expected, "{text}");
        }
        let null = node("path: /dev/x, hostPath: /dev/null").expect("a node");
        assert_eq!(null.device.path(), Path::new("/dev/x"));
        assert_eq!(null.host_path, Path::new("/dev/null"));
        assert_eq!(null.device.file_mode(), Some(0o666));
        let given = node("path: /dev/null, fileMode: 384, uid: 1, gid: 2").expect("a node");
        let device = &given.device;
        assert_eq!(
            (device.file_mode(), device.uid(), device.gid()),
            (Some(0o600), Some(1), Some(2))
        );
    }

    #[test]
    fn a_node_that_the_host_does_not_have_is_refused() {
        for (text, expected) in [
            (
                "path: /nowhere",
                "device node \"/nowhere\": the host's \"/nowhere\": no such file",
            ),
            (
                "path: /dev/x, hostPath: /etc",
                "the host's \"/etc\": not a device node",
            ),
            // A symbolic link.
            (
                "path: /dev/stdin",
                "the host's \"/dev/stdin\": not a device node",
            ),
            ("path: /nowhere, major: 5", "the host's \"/nowhere\": "),
            (
                "path: /nowhere, type: c, minor: 5",
                "the host's \"/nowhere\": ",
            ),
            (
                "path: /dev/null, type: b",
                "the host's \"/dev/null\" is c 1:3, not b 0:0",
            ),
            (
                "path: /dev/null, type: c, major: 195",
                "the host's \"/dev/null\" is c 1:3, not c 195:0",
            ),
            ("path: /dev/null, major: 1, minor: 5", "is c 1:3, not c 1:5"),
        ] {
            let error = node(text).expect_err(text);
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn edits_become_the_specifications() {
        let edits = edits(
            "env: [A=b], netDevices: [{hostInterfaceName: h, name: c}],
             mounts: [{hostPath: /a, containerPath: /b, options: [ro, rbind]},
                      {hostPath: t, containerPath: /c, type: tmpfs}],
             hooks: [{hookName: poststop, path: /h, args: [h, x], env: [B=c], timeout: 3}],
             intelRdt: {closID: x, enableMonitoring: true}, additionalGids: [5, 0]",
        )
        .expect("edits");
        assert_eq!(edits.env, ["A=b"]);
        let (host, device) = &edits.net_devices[0];
        assert_eq!((host.as_str(), device.name().as_deref()), ("h", Some("c")));
        let [bind, tmpfs] = &edits.mounts[..] else {
            panic!("{:?}", edits.mounts);
        };
        assert_eq!(bind.source().as_deref(), Some(Path::new("/a")));
        assert_eq!(
            (bind.destination().as_path(), bind.typ()),
            (Path::new("/b"), &None)
        );
        assert_eq!(
            bind.options().as_deref(),
            Some(&["ro".to_owned(), "rbind".to_owned()][..])
        );
        assert_eq!(tmpfs.typ().as_deref(), Some("tmpfs"));
        let (moment, hook) = &edits.hooks[0];
        assert_eq!(
            (*moment, hook.path().as_path()),
            (Moment::Poststop, Path::new("/h"))
        );
        assert_eq!(hook.args().as_ref().map(Vec::len), Some(2));
        assert_eq!(
            (hook.env().as_ref().map(Vec::len), hook.timeout()),
            (Some(1), Some(3))
        );
        let rdt = edits.intel_rdt.expect("intelRdt");
        assert_eq!(
            (rdt.clos_id().as_deref(), *rdt.enable_monitoring()),
            (Some("x"), Some(true))
        );
        assert_eq!(edits.additional_gids, [5, 0]);
    }

    #[test]
    fn later_edits_replace_or_follow_earlier_ones() {
        let mut both = edits("env: [A=1], intelRdt: {closID: x}").expect("edits");
        both.append(edits("env: [A=2], intelRdt: {closID: y}").expect("edits"));
        both.append(edits("env: [B=3]").expect("edits"));
        assert_eq!(both.env, ["A=1", "A=2", "B=3"]);
        let rdt = both.intel_rdt.expect("intelRdt");
        assert_eq!(rdt.clos_id().as_deref(), Some("y"));
    }
}
