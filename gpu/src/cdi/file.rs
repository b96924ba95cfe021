//! The contents of a CDI file: its objects and the values they may have. Nothing is read
//! from the host here except the file itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::path::Path;

use serde::de::{Error, MapAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use teu_gpu_types::{check_device, check_kind};

use super::object::{Check, object};
use super::plain;
use crate::Moment;
use crate::error::{self, refused};

/// The maximum size of a file; a file for eight GPUs has about 100 kB.
const LARGEST: u64 = 1 << 20;
/// The maximum number of open brackets, because the parser's time grows with its square.
const DEEPEST: usize = 100;

object! {
    /// A CDI file: devices of a single kind.
    File {
        cdi_version: String = "cdiVersion",
        /// `vendor/class`.
        kind: String = "kind",
        annotations: Annotations = "annotations",
        devices: Vec<Device> = "devices",
        /// The edits for each of the devices.
        container_edits: ContainerEdits = "containerEdits",
    }
}

object! {
    /// A device.
    Device {
        name: String = "name",
        annotations: Annotations = "annotations",
        container_edits: ContainerEdits = "containerEdits",
    }
}

object! {
    /// Changes of the container's specification.
    ContainerEdits {
        env: Vec<String> = "env",
        device_nodes: Vec<DeviceNode> = "deviceNodes",
        net_devices: Vec<NetDevice> = "netDevices",
        hooks: Vec<Hook> = "hooks",
        mounts: Vec<Mount> = "mounts",
        intel_rdt: Option<IntelRdt> = "intelRdt",
        additional_gids: Vec<u32> = "additionalGids",
    }
}

object! {
    /// A device node.
    DeviceNode {
        /// The path in the container.
        path: String = "path",
        /// The path on the host; empty if it is equal.
        host_path: String = "hostPath",
        /// `b`, `c`, `u` or `p`; empty for the type of the host's node.
        kind: String = "type",
        /// The major number; 0 for that of the host's node.
        major: i64 = "major",
        minor: i64 = "minor",
        file_mode: Option<FileMode> = "fileMode",
        /// Letters of `rwm`; empty for all of them, and `none` for no access.
        permissions: String = "permissions",
        uid: Option<u32> = "uid",
        gid: Option<u32> = "gid",
    }
}

object! {
    /// A network device that moves into the container.
    NetDevice {
        host_interface_name: String = "hostInterfaceName",
        name: String = "name",
    }
}

object! {
    /// A mount.
    Mount {
        host_path: String = "hostPath",
        container_path: String = "containerPath",
        options: Vec<String> = "options",
        kind: String = "type",
    }
}

object! {
    /// A hook.
    Hook {
        hook_name: String = "hookName",
        path: String = "path",
        args: Vec<String> = "args",
        env: Vec<String> = "env",
        timeout: Option<i64> = "timeout",
    }
}

object! {
    /// Limits of cache and memory bandwidth.
    IntelRdt {
        clos_id: String = "closID",
        l3_cache_schema: String = "l3CacheSchema",
        mem_bw_schema: String = "memBwSchema",
        schemata: Vec<String> = "schemata",
        enable_monitoring: bool = "enableMonitoring",
    }
}

impl File {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// The file cannot be read or is invalid. The error names the line and the device.
    pub fn read(path: &Path) -> error::Result<File> {
        // Reading a fifo or a device might never end.
        let failed = |cause| error::Error::system("read", path, cause);
        let metadata = fs::metadata(path).map_err(failed)?;
        if !metadata.is_file() {
            return Err(error::Error::refused("not a file"));
        }
        let mut text = String::new();
        let read = fs::File::open(path).and_then(|file| {
            let mut start = file.take(LARGEST + 1);
            start.read_to_string(&mut text)
        });
        read.map_err(failed)?;
        if text.len() as u64 > LARGEST {
            return Err(refused!("larger than {LARGEST} bytes"));
        }
        File::parse(&text)
    }

    /// Parses a text. JSON is YAML, too.
    ///
    /// # Errors
    /// The text is invalid. The error names the line and the device.
    pub fn parse(text: &str) -> error::Result<File> {
        if text.trim().is_empty() {
            return Err(error::Error::refused("it is empty"));
        }
        // JSON is parsed in a tenth of YAML's time.
        let json = plain::to_json(text);
        if let Ok(file) = serde_json::from_str(json.as_deref().unwrap_or(text)) {
            return Ok(file);
        }
        if is_deep(text) {
            return Err(refused!("more than {DEEPEST} brackets are open"));
        }
        serde_yaml_ng::from_str(text).map_err(|err| {
            let words = err.to_string();
            match device_in_fault(text, &words) {
                Some(name) => error::Error::refused(words).of(format!("device {name:?}")),
                None => error::Error::refused(words),
            }
        })
    }

    /// Formats the file as YAML.
    ///
    /// # Errors
    /// Those of the serializer; no case is known.
    pub fn to_yaml(&self) -> error::Result<String> {
        serde_yaml_ng::to_string(self).map_err(|err| error::Error::refused(err.to_string()))
    }
}

/// Whether too many brackets are open. Brackets in texts count as well: they are closed again,
/// or few.
fn is_deep(text: &str) -> bool {
    let mut open = 0_usize;
    text.bytes().any(|byte| {
        match byte {
            b'[' | b'{' => open += 1,
            b']' | b'}' => open = open.saturating_sub(1),
            _ => {}
        }
        open > DEEPEST
    })
}

/// The name of the device to which an error belongs. The error begins with the place.
fn device_in_fault(text: &str, words: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Named {
        name: String,
    }
    #[derive(Deserialize)]
    struct Names {
        devices: Vec<Named>,
    }
    let (index, _) = words.strip_prefix("devices[")?.split_once(']')?;
    let mut names: Names = serde_yaml_ng::from_str(text).ok()?;
    let index: usize = index.parse().ok()?;
    (index < names.devices.len()).then(|| names.devices.swap_remove(index).name)
}

/// Texts by name, which have no effect.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Annotations(BTreeMap<String, String>);

impl Annotations {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'de> Deserialize<'de> for Annotations {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Annotations, D::Error> {
        struct Texts;

        impl<'de> Visitor<'de> for Texts {
            type Value = Annotations;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("texts by name")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Annotations, A::Error> {
                let mut texts = BTreeMap::new();
                while let Some((name, text)) = map.next_entry::<String, Option<String>>()? {
                    if texts
                        .insert(name.clone(), text.unwrap_or_default())
                        .is_some()
                    {
                        return Err(A::Error::custom(format!("{name:?} is there twice")));
                    }
                }
                Ok(Annotations(texts))
            }
        }

        from.deserialize_map(Texts)
    }
}

/// Permission bits. YAML may write them as an octal number that begins with 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct FileMode(pub u32);

impl<'de> Deserialize<'de> for FileMode {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<FileMode, D::Error> {
        struct Mode;

        impl Visitor<'_> for Mode {
            type Value = FileMode;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a file mode")
            }

            fn visit_u64<E: Error>(self, mode: u64) -> Result<FileMode, E> {
                let wrong = |_| E::invalid_value(Unexpected::Unsigned(mode), &self);
                u32::try_from(mode).map(FileMode).map_err(wrong)
            }

            // In YAML 1.2, a number with a leading 0 is a text.
            fn visit_str<E: Error>(self, mode: &str) -> Result<FileMode, E> {
                let octal = mode.strip_prefix('0').unwrap_or_default();
                let wrong = |_| E::invalid_value(Unexpected::Str(mode), &self);
                u32::from_str_radix(octal, 8).map(FileMode).map_err(wrong)
            }
        }

        from.deserialize_any(Mode)
    }
}

impl Check for File {
    fn check(&self) -> Result<(), String> {
        check_given(&[("cdiVersion", &self.cdi_version)])?;
        self.check_version()?;
        check_kind(&self.kind).map_err(|reason| format!("kind: {reason}"))?;
        if self.devices.is_empty() {
            return Err("no devices".to_owned());
        }
        let mut names = BTreeSet::new();
        match self
            .devices
            .iter()
            .find(|device| !names.insert(&device.name))
        {
            Some(device) => Err(format!("there are two devices {:?}", device.name)),
            None => Ok(()),
        }
    }
}

impl Check for Device {
    fn check(&self) -> Result<(), String> {
        check_device(&self.name)?;
        match self.container_edits == ContainerEdits::default() {
            true => Err("containerEdits: empty, so that the device is none".to_owned()),
            false => Ok(()),
        }
    }
}

impl Check for ContainerEdits {
    fn check(&self) -> Result<(), String> {
        check_env(&self.env)?;
        let (mut hosts, mut containers) = (BTreeSet::new(), BTreeSet::new());
        let mut devices = self.net_devices.iter();
        match devices.find(|device| {
            !hosts.insert(&device.host_interface_name) || !containers.insert(&device.name)
        }) {
            Some(device) => Err(format!("netDevices: {:?} is there twice", device.name)),
            None => Ok(()),
        }
    }
}

fn check_env(env: &[String]) -> Result<(), String> {
    let is_variable = |text: &&String| text.find('=').is_some_and(|at| at > 0);
    match env.iter().find(|text| !is_variable(text)) {
        Some(text) => Err(format!("env: {text:?} is not of the form NAME=VALUE")),
        None => Ok(()),
    }
}

fn check_given(fields: &[(&str, &String)]) -> Result<(), String> {
    match fields.iter().find(|(_, value)| value.is_empty()) {
        Some((name, _)) => Err(format!("{name}: it is empty or missing")),
        None => Ok(()),
    }
}

impl Check for DeviceNode {
    fn check(&self) -> Result<(), String> {
        check_given(&[("path", &self.path)])?;
        if !["", "b", "c", "u", "p"].contains(&&*self.kind) {
            return Err(format!("type: {:?} is not one of b, c, u, p", self.kind));
        }
        if self.major < 0 || self.minor < 0 {
            return Err(format!(
                "the number {}:{} is negative",
                self.major, self.minor
            ));
        }
        let permissions = &self.permissions;
        if permissions != "none" && permissions.chars().any(|letter| !"rwm".contains(letter)) {
            return Err(format!(
                "permissions: {permissions:?} has other letters than r, w and m"
            ));
        }
        Ok(())
    }
}

impl Check for NetDevice {
    fn check(&self) -> Result<(), String> {
        check_given(&[
            ("hostInterfaceName", &self.host_interface_name),
            ("name", &self.name),
        ])
    }
}

impl Check for Mount {
    fn check(&self) -> Result<(), String> {
        check_given(&[
            ("hostPath", &self.host_path),
            ("containerPath", &self.container_path),
        ])
    }
}

impl Check for Hook {
    fn check(&self) -> Result<(), String> {
        if Moment::named(&self.hook_name).is_none() {
            return Err(format!("hookName: {:?} is no hook", self.hook_name));
        }
        check_given(&[("path", &self.path)])?;
        check_env(&self.env)
    }
}

impl Check for IntelRdt {
    fn check(&self) -> Result<(), String> {
        let id = &self.clos_id;
        let is_name = id.len() < 4096 && id != "." && id != ".." && !id.contains(['/', '\n']);
        match is_name || id == "/" {
            true => Ok(()),
            false => Err(format!("closID: {id:?} is no name of a directory")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<File, String> {
        File::parse(text).map_err(|err| teu_errno::line(&err))
    }

    /// A file with a device that has these edits, in a version that knows all of them.
    fn with_edits(edits: &str) -> Result<File, String> {
        parsed(&format!(
            "cdiVersion: 1.1.0\nkind: vendor.com/class\ndevices:\n- name: dev0\n  \
             containerEdits:\n    {edits}\n"
        ))
    }

    fn edits(text: &str) -> ContainerEdits {
        let mut file = with_edits(text).expect(text);
        file.devices.remove(0).container_edits
    }

    fn refused(edits: &str) -> String {
        with_edits(edits).expect_err(edits)
    }

    /// A file of this version and kind, with more fields in the top-level object.
    fn versioned(version: &str, kind: &str, device: &str, more: &str) -> Result<File, String> {
        parsed(&format!(
            "cdiVersion: {version}\nkind: {kind}\ndevices: [{{name: {device}, \
             containerEdits: {{env: [A=b]}}}}]\n{more}"
        ))
    }

    #[test]
    fn json_is_read() {
        let file = parsed(
            "{\n\t\"cdiVersion\": \"0.8.0\",\n\t\"kind\": \"vendor.com\\/class\",\n\t\"devices\": [\n\
             \t\t{\"name\": \"0\", \"containerEdits\": {\"env\": [\"A=b c\"]}}\n\t]\n}\n",
        )
        .expect("JSON with tabs");
        assert_eq!(file.kind, "vendor.com/class");
        assert_eq!(file.devices[0].container_edits.env, ["A=b c"]);
    }

    #[test]
    fn every_field_is_read() {
        let all = edits(
            "{env: [A=b], deviceNodes: [{path: /dev/a, hostPath: /dev/b, type: c, major: 1,
              minor: 2, fileMode: 432, permissions: rw, uid: 3, gid: 4}],
              netDevices: [{hostInterfaceName: eth1, name: eth0}],
              hooks: [{hookName: createRuntime, path: /h, args: [h], env: [B=c], timeout: 5}],
              mounts: [{hostPath: /a, containerPath: /b, options: [ro], type: bind}],
              intelRdt: {closID: x, l3CacheSchema: y, memBwSchema: z, schemata: [w],
                enableMonitoring: true}, additionalGids: [7]}",
        );
        let node = &all.device_nodes[0];
        assert_eq!(
            (&*node.path, &*node.host_path, &*node.kind),
            ("/dev/a", "/dev/b", "c")
        );
        assert_eq!((node.major, node.minor), (1, 2));
        assert_eq!(node.file_mode, Some(FileMode(0o660)));
        assert_eq!(
            (&*node.permissions, node.uid, node.gid),
            ("rw", Some(3), Some(4))
        );
        let net = &all.net_devices[0];
        assert_eq!((&*net.host_interface_name, &*net.name), ("eth1", "eth0"));
        let hook = &all.hooks[0];
        assert_eq!((&*hook.hook_name, &*hook.path), ("createRuntime", "/h"));
        assert_eq!(
            (&hook.args[0], &hook.env[0], hook.timeout),
            (&"h".into(), &"B=c".into(), Some(5))
        );
        let mount = &all.mounts[0];
        assert_eq!((&*mount.host_path, &*mount.container_path), ("/a", "/b"));
        assert_eq!(
            (&mount.options[0], &*mount.kind),
            (&"ro".to_owned(), "bind")
        );
        let rdt = all.intel_rdt.expect("intelRdt");
        assert_eq!(
            (&*rdt.clos_id, &*rdt.l3_cache_schema, &*rdt.mem_bw_schema),
            ("x", "y", "z")
        );
        assert_eq!(
            (&rdt.schemata[0], rdt.enable_monitoring),
            (&"w".to_owned(), true)
        );
        assert_eq!(all.additional_gids, [7]);
    }

    #[test]
    fn case_of_names_does_not_matter() {
        let edits = edits("{additionalGIDs: [5], ENV: [A=b], devicenodes: [{PATH: /dev/a}]}");
        assert_eq!(edits.additional_gids, [5]);
        assert_eq!((edits.env.len(), edits.device_nodes.len()), (1, 1));
    }

    #[test]
    fn null_is_nothing() {
        let edits = edits("{env: [A=b], mounts: null, intelRdt: ~, deviceNodes: }");
        assert_eq!(edits.mounts, []);
        assert_eq!(edits.intel_rdt, None);
    }

    #[test]
    fn a_number_may_be_a_text() {
        let file = versioned("0.5.0", "v/c", "0", "").expect("a name without quotes");
        assert_eq!(file.devices[0].name, "0");
    }

    #[test]
    fn file_modes_may_be_octal() {
        let mode = |text| edits(&format!("deviceNodes: [{{path: /d, fileMode: {text}}}]"));
        for (text, expected) in [("0660", 0o660), ("0o660", 0o660), ("432", 0o660), ("0", 0)] {
            assert_eq!(
                mode(text).device_nodes[0].file_mode,
                Some(FileMode(expected)),
                "{text}"
            );
        }
        for text in ["0888", "rw", "-1", "4294967296"] {
            let error = refused(&format!("deviceNodes: [{{path: /d, fileMode: {text}}}]"));
            assert!(error.contains("fileMode: invalid"), "{error}");
        }
    }

    #[test]
    fn errors_name_the_line_and_the_device() {
        let text = "cdiVersion: 1.1.0\nkind: v.com/c\ndevices:\n- name: good\n  containerEdits:\n    \
                    env: [A=b]\n- name: bad\n  containerEdits:\n    deviceNodes:\n    - path: /dev/a\n    \
                    - path: /dev/b\n      permissions: rx\n";
        assert_eq!(
            parsed(text).expect_err("refused"),
            "device \"bad\": devices[1].containerEdits.deviceNodes[1]: permissions: \"rx\" has \
             other letters than r, w and m at line 11 column 7"
        );
        let text = text.replace("permissions: rx", "permision: rw");
        assert_eq!(
            parsed(&text).expect_err("refused"),
            "device \"bad\": devices[1].containerEdits.deviceNodes[1]: unknown field `permision` \
             (is `permissions` meant?) at line 12 column 7"
        );
    }

    #[test]
    fn what_is_no_such_file_is_refused() {
        for (text, reason) in [
            ("", "it is empty"),
            (" \n\n", "it is empty"),
            ("# a\n", "cdiVersion: it is empty or missing"),
            ("{}", "cdiVersion: it is empty or missing"),
            ("- a", "invalid type: sequence, expected an object"),
            ("{", "did not find expected"),
            ("cdiVersion: 1.1.0\nkind: v/c\n", "no devices"),
            ("cdiVersion: 1.1.0\nkind: v/c\ndevices: []\n", "no devices"),
            (
                "kind: v/c\ndevices: [{name: a, containerEdits: {env: [A=b]}}]",
                "cdiVersion: it is empty or missing",
            ),
            ("kind: v/c\nkind: v/c\n", "duplicate field `kind`"),
            ("kind: v/c\nKIND: v/c\n", "duplicate field `kind`"),
            (
                "annotations: {a: b, a: c}\n",
                "annotations: \"a\" is there twice at line 1",
            ),
            (
                "annotations: {a: [b]}\n",
                "annotations.a: invalid type: sequence, expected a string at line 1",
            ),
            (
                "containerRuntime: [x]\n",
                "unknown field `containerRuntime`",
            ),
            (
                "cdiVersion: 0.5.0\nkind: v/c\ndevices: [{name: a, containerEdits: {env: [A=b]}}]\n---\na: b\n",
                "more than one document",
            ),
        ] {
            let error = parsed(text).expect_err(text);
            assert!(error.contains(reason), "{text:?}: {error}");
        }
    }

    #[test]
    fn devices_have_names_and_edits() {
        let parse = |devices: &str| {
            parsed(&format!(
                "cdiVersion: 1.1.0\nkind: v/c\ndevices: {devices}\n"
            ))
        };
        for (devices, reason) in [
            ("[{name: a}]", "containerEdits: empty"),
            ("[{name: a, containerEdits: {}}]", "containerEdits: empty"),
            ("[{containerEdits: {env: [A=b]}}]", "name \"\": it is empty"),
            (
                "[{name: a b, containerEdits: {env: [A=b]}}]",
                "name \"a b\": it has ' ' in it",
            ),
            (
                "[{name: a, containerEdits: {env: [A=b]}}, {name: a, containerEdits: {env: [A=b]}}]",
                "there are two devices \"a\"",
            ),
        ] {
            let error = parse(devices).expect_err(devices);
            assert!(error.contains(reason), "{devices}: {error}");
        }
    }

    #[test]
    fn kinds_have_a_vendor_and_a_class() {
        for kind in ["v", "v/", "/c", "9v/c", "v/c/d", "v/c-", "''"] {
            let error = versioned("1.1.0", kind, "a", "").expect_err(kind);
            assert!(error.starts_with("kind: "), "{kind}: {error}");
        }
        for kind in ["v/c", "vendor.com/class", "a-b_c.d/e-f_g.h"] {
            versioned("1.1.0", kind, "a", "").expect(kind);
        }
    }

    #[test]
    fn versions_are_those_there_are() {
        for version in ["0.3.0", "0.8.0", "1.0.0", "1.1.0", "v0.6.0"] {
            versioned(version, "v/c", "a", "").expect(version);
        }
        for version in ["0.9.0", "1.2.0", "1.1", "2", "vv1.0.0", "1.0.0-rc.1"] {
            let error = versioned(version, "v/c", "a", "").expect_err(version);
            assert!(error.starts_with("invalid version "), "{error}");
        }
        // These versions were never released.
        for version in ["0.1.0", "0.2.0"] {
            let error = versioned(version, "v/c", "a", "").expect_err(version);
            assert!(
                error.starts_with("the spec version must be at least v0.3.0"),
                "{error}"
            );
        }
    }

    #[test]
    fn each_part_needs_its_version() {
        let file =
            |version: &str, [kind, device, more]: [&str; 3]| versioned(version, kind, device, more);
        let edits = |text| ["v/c", "a", text];
        for (below, needed, parts) in [
            (
                "0.3.0",
                "0.4.0",
                edits("containerEdits: {mounts: [{hostPath: /a, containerPath: /b, type: bind}]}"),
            ),
            (
                "0.4.0",
                "0.5.0",
                edits("containerEdits: {deviceNodes: [{path: /a, hostPath: /b}]}"),
            ),
            ("0.4.0", "0.5.0", ["v/c", "'0'", ""]),
            ("0.5.0", "0.6.0", edits("annotations: {a: b}")),
            ("0.5.0", "0.6.0", ["v/c.d", "a", ""]),
            (
                "0.6.0",
                "0.7.0",
                edits("containerEdits: {additionalGids: [1]}"),
            ),
            (
                "0.6.0",
                "0.7.0",
                edits("containerEdits: {intelRdt: {closID: a}}"),
            ),
            (
                "1.0.0",
                "1.1.0",
                edits("containerEdits: {intelRdt: {schemata: [a]}}"),
            ),
            (
                "1.0.0",
                "1.1.0",
                edits("containerEdits: {intelRdt: {enableMonitoring: true}}"),
            ),
            (
                "1.0.0",
                "1.1.0",
                edits("containerEdits: {netDevices: [{hostInterfaceName: a, name: b}]}"),
            ),
        ] {
            file(needed, parts).expect(needed);
            let error = file(below, parts).expect_err(below);
            let start = format!("the spec version must be at least v{needed}, not {below:?}: ");
            assert!(error.starts_with(&start), "{error}");
        }
        let error = parsed(
            "cdiVersion: 0.5.0\nkind: v/c\ndevices: [{name: a, annotations: {x: y}, \
             containerEdits: {env: [A=b]}}]",
        );
        let error = error.expect_err("annotations of a device");
        assert!(
            error.contains("v0.6.0, not \"0.5.0\": it has annotations of device \"a\""),
            "{error}"
        );
    }

    #[test]
    fn what_edits_are_not_is_refused() {
        for (edits, reason) in [
            ("env: [A]", "env: \"A\" is not of the form NAME=VALUE"),
            ("env: [=b]", "env: \"=b\""),
            (
                "deviceNodes: [{hostPath: /a}]",
                "path: it is empty or missing",
            ),
            (
                "deviceNodes: [{path: /a, type: a}]",
                "type: \"a\" is not one of b, c, u, p",
            ),
            (
                "deviceNodes: [{path: /a, major: -1}]",
                "the number -1:0 is negative",
            ),
            (
                "deviceNodes: [{path: /a, permissions: rwx}]",
                "permissions: \"rwx\"",
            ),
            (
                "deviceNodes: [{path: /a, permissions: no}]",
                "permissions: \"no\"",
            ),
            ("deviceNodes: [{path: /a, uid: -1}]", "invalid"),
            (
                "mounts: [{hostPath: /a}]",
                "containerPath: it is empty or missing",
            ),
            (
                "mounts: [{containerPath: /a}]",
                "hostPath: it is empty or missing",
            ),
            (
                "hooks: [{hookName: poststop}]",
                "path: it is empty or missing",
            ),
            (
                "hooks: [{hookName: later, path: /h}]",
                "hookName: \"later\" is no hook",
            ),
            (
                "hooks: [{hookName: poststop, path: /h, env: [A]}]",
                "env: \"A\"",
            ),
            (
                "netDevices: [{name: a}]",
                "hostInterfaceName: it is empty or missing",
            ),
            (
                "netDevices: [{hostInterfaceName: a}]",
                "name: it is empty or missing",
            ),
            (
                "netDevices: [{hostInterfaceName: a, name: x}, {hostInterfaceName: a, name: y}]",
                "netDevices: \"y\" is there twice",
            ),
            (
                "netDevices: [{hostInterfaceName: a, name: x}, {hostInterfaceName: b, name: x}]",
                "netDevices: \"x\" is there twice",
            ),
            ("intelRdt: {closID: ..}", "closID: \"..\""),
            ("intelRdt: {closID: a/b}", "closID: \"a/b\""),
            ("intelRdt: {closID: \"a\\nb\"}", "closID: \"a\\nb\""),
            // Version 1.1.0 removed these fields.
            ("intelRdt: {enableCMT: true}", "unknown field `enableCMT`"),
            ("intelRdt: {enableMBM: true}", "unknown field `enableMBM`"),
            ("additionalGids: [-1]", "invalid"),
            ("additionalGids: {}", "invalid type"),
        ] {
            let error = refused(edits);
            assert!(error.starts_with("device \"dev0\": devices[0]."), "{error}");
            assert!(error.contains(reason), "{edits}: {error}");
        }
    }

    #[test]
    fn what_edits_may_be_is_taken() {
        for text in [
            "deviceNodes: [{path: /a, permissions: none}]",
            "deviceNodes: [{path: /a, permissions: ''}]",
            "deviceNodes: [{path: /a, permissions: mrw, type: u}]",
            "deviceNodes: [{path: /a, type: p}, {path: /b, type: b}]",
            "hooks: [{hookName: prestart, path: a}, {hookName: createContainer, path: /b}]",
            "hooks: [{hookName: startContainer, path: /a}, {hookName: poststart, path: /b}]",
            "env: ['A=', 'B=c=d']",
            "intelRdt: {closID: /}",
            "intelRdt: {}",
            "additionalGids: [0, 0]",
        ] {
            edits(text);
        }
    }

    #[test]
    fn what_grows_without_end_is_refused() {
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..10 {
            let before = format!("*a{}, ", level - 1).repeat(10);
            bomb += &format!("a{level}: &a{level} [{before}]\n");
        }
        let text = format!("annotations:\n  {}", bomb.replace('\n', "\n  "));
        let error = parsed(&text).expect_err("a bomb");
        assert!(error.starts_with("annotations.a0: invalid type"), "{error}");
        let deep = format!("annotations: {}", "[".repeat(500_000));
        let error = parsed(&deep).expect_err("too deep");
        assert_eq!(error, "more than 100 brackets are open");
        let deep = "- ".repeat(200_000);
        let error = parsed(&format!("annotations:\n  a: {deep}")).expect_err("too deep");
        assert!(!error.is_empty());
    }
}
