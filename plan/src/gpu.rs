//! Decides which devices a container gets by name, and adds their edits to the
//! specification. From there on they are planned as if config.json had them: a node by
//! `devices.rs` and `cgroup.rs`, a mount by `mounts.rs`. Not for finding devices: see
//! `host/gpu.rs`.

use alloc::borrow::Cow;
use alloc::collections::BTreeMap;
use core::str::FromStr;

use anyhow::{Context, Result, bail};
use oci_spec::runtime::{self as spec, LinuxNamespaceType, Mount, Process, Spec};
use serde::{Deserialize, Serialize};
use teu_gpu_types::DeviceName;
use teu_gpu_types::{Capabilities, Edits, Moment, Node, Request};
use teu_namespaces_types::Kind;

use super::gpu_request::{self, GpuOptions};
use super::mounts::clean;
use super::namespaces;
use super::seen::{AllEdits, Seen};
use crate::document;
use crate::prelude::*;

/// The annotation that asks for devices, with commas between their names.
pub const ANNOTATION: &str = "run.teu/devices";

/// The prefix of annotations that ask engines for devices.
const CDI_ANNOTATIONS: &str = "cdi.k8s.io/";

/// The options of the command line for devices.
#[derive(Debug, Clone, Default)]
pub struct DeviceOptions {
    /// The names of the devices, as they were typed.
    pub names: Vec<String>,
    /// The directories of CDI files; empty means the usual directories.
    pub directories: Vec<PathBuf>,
    pub hooks: CdiHooks,
    pub nodes: CdiNodes,
    /// Whether annotations that are meant for engines ask for devices, too.
    pub cdi_annotations: bool,
    /// The directory with the state of containers. A device must not bring a mount of any
    /// part of it.
    pub state: PathBuf,
    pub gpus: GpuOptions,
}

/// The devices and GPUs that a container asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    pub names: Vec<DeviceName>,
    pub gpus: Vec<Request>,
    /// The driver capabilities for requests of GPUs that do not name capabilities
    /// themselves.
    pub capabilities: Option<Capabilities>,
    /// The container's root directory, which tells where the container looks for libraries.
    pub rootfs: PathBuf,
}

impl Asked {
    /// Splits the request: returns each device or GPU by its name, as if it was the only
    /// one requested. `gpus` has the GPUs that were requested without a name, with the
    /// names they got.
    pub fn each(&self, gpus: Vec<(String, Request)>) -> Vec<(String, Asked)> {
        let names = self.names.iter().map(|name| {
            let one = Asked {
                names: vec![name.clone()],
                gpus: Vec::new(),
                ..self.clone()
            };
            (name.to_string(), one)
        });
        let gpus = gpus.into_iter().map(|(name, request)| {
            let one = Asked {
                names: Vec::new(),
                gpus: vec![request],
                ..self.clone()
            };
            (name, one)
        });
        names.chain(gpus).collect()
    }
}

/// The hooks of devices that run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CdiHooks {
    #[default]
    All,
    /// The known hooks of NVIDIA's CDI files, whose work teu does itself. A device with
    /// another hook is refused.
    Known,
    /// No hooks; a device that has one is refused.
    None,
    /// No hooks; those of a device are ignored.
    LeftOut,
}

impl FromStr for CdiHooks {
    type Err = anyhow::Error;

    fn from_str(word: &str) -> Result<CdiHooks> {
        match word {
            "all" => Ok(CdiHooks::All),
            "known" => Ok(CdiHooks::Known),
            "none" => Ok(CdiHooks::None),
            _ => bail!("--cdi-hooks {word:?}: not one of all, known, none"),
        }
    }
}

/// The device nodes that devices may bring.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CdiNodes {
    /// All nodes except for disks and the machine's memory.
    #[default]
    Usual,
    Any,
}

impl FromStr for CdiNodes {
    type Err = anyhow::Error;

    fn from_str(word: &str) -> Result<CdiNodes> {
        match word {
            "usual" => Ok(CdiNodes::Usual),
            "any" => Ok(CdiNodes::Any),
            _ => bail!("--cdi-devices {word:?}: not one of usual, any"),
        }
    }
}

/// The variables and groups that devices bring for every process of the container.
/// state.json keeps them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ForProcesses {
    env: Vec<String>,
    additional_gids: Vec<u32>,
}

/// Returns the devices and GPUs that the container asks for, or `None` if it asks for none.
///
/// # Errors
/// Returns an error if a name or a variable has an unknown word, or if NVIDIA's hook is
/// refused.
pub fn asked(
    spec: &Spec,
    bundle: &Path,
    options: &DeviceOptions,
    has_nvidia_driver: bool,
) -> Result<Option<Asked>> {
    let names = names(spec, options)?;
    let gpus = gpu_request::requests(spec, &options.gpus, !names.is_empty(), has_nvidia_driver)?;
    if names.is_empty() && gpus.is_empty() {
        return Ok(None);
    }
    gpu_request::warn_if_privileged(spec, &gpus);
    let root = spec.root().as_ref().map(|root| root.path().as_path());
    Ok(Some(Asked {
        names,
        gpus,
        capabilities: gpu_request::capabilities(spec)?,
        rootfs: bundle.join(root.unwrap_or(Path::new(""))),
    }))
}

/// Adds the edits of devices and GPUs to the specification, and removes NVIDIA's hook if
/// teu does its work. Returns the edits, without the groups that the container cannot have.
///
/// # Errors
/// Returns an error if an edit is not possible or NVIDIA's hook is refused.
pub fn edit(spec: &mut Cow<'_, Spec>, options: &GpuOptions, seen: &Seen) -> Result<AllEdits> {
    if gpu_request::takes_hook(spec, options, seen.devices.has_nvidia_driver)? {
        gpu_request::remove_hook(spec.to_mut());
    }
    let Some(mut edits) = seen.devices.edits.clone() else {
        return Ok(AllEdits::default());
    };
    leave_out_unmapped_groups(&mut edits, spec, seen)?;
    apply(spec.to_mut(), &edits.together, seen.caller.may_map_owners())?;
    Ok(edits)
}

/// Removes groups that the process cannot have: without privileges it keeps the groups of
/// its caller, and in a user namespace a group has to be mapped.
fn leave_out_unmapped_groups(edits: &mut AllEdits, spec: &Spec, seen: &Seen) -> Result<()> {
    if edits.together.additional_gids.is_empty() {
        return Ok(());
    }
    let namespaces = namespaces::plan(spec, seen)?;
    let maps = &namespaces.id_maps;
    let may_set = !seen.caller.is_unprivileged && !maps.deny_setgroups;
    let may_have = |gid: &u32| {
        let is_mapped = !namespaces.is_private(Kind::User) || maps.host_gid(*gid).is_some();
        let is_had = may_set && is_mapped;
        if !is_had {
            log::debug!("the container has not the group {gid} of a device");
        }
        is_had
    };
    let of_each = edits.of_each.iter_mut().map(|(_, edits)| edits);
    for edits in of_each.chain([&mut edits.together]) {
        edits.additional_gids.retain(may_have);
    }
    Ok(())
}

/// Returns the devices that are requested by name, each once: first those of the command
/// line, then those of annotations in the order of the annotations' names. Environment
/// variables do not count, because the image may set them.
///
/// # Errors
/// Returns an error if a name is not valid.
pub fn names(spec: &Spec, options: &DeviceOptions) -> Result<Vec<DeviceName>> {
    let annotations: BTreeMap<_, _> = spec.annotations().iter().flatten().collect();
    let counts = |key: &str| {
        key == ANNOTATION || options.cdi_annotations && key.starts_with(CDI_ANNOTATIONS)
    };
    let typed = options
        .names
        .iter()
        .map(|name| ("--device".to_owned(), name.as_str()));
    let annotated = annotations
        .into_iter()
        .filter(|(key, _)| counts(key))
        .flat_map(|(key, list)| {
            list.split(',')
                .map(move |name| (format!("annotation {key:?}"), name))
        });
    let mut names: Vec<DeviceName> = Vec::new();
    for (by, name) in typed.chain(annotated) {
        let name = name.parse().context(by)?;
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

/// Adds edits to the specification. Adding the same edits twice has the effect of adding
/// them once, because an engine may have added them before. `may_idmap` says that mounts
/// can be idmapped.
///
/// # Errors
/// Returns an error only if `document::nothing` cannot make an empty part of a
/// specification, for which no case is known.
pub fn apply(spec: &mut Spec, edits: &Edits, may_idmap: bool) -> Result<()> {
    let user = spec
        .process()
        .as_ref()
        .map(|process| process.user().clone());
    if let Some(process) = spec.process_mut() {
        ForProcesses::of(edits).replace_in(process);
    }
    for node in &edits.nodes {
        add_node(linux(spec)?, node, user.as_ref())?;
    }
    if !edits.net_devices.is_empty() {
        let devices = linux(spec)?.net_devices_mut().get_or_insert_default();
        devices.extend(edits.net_devices.iter().cloned());
    }
    for (mounts, may_idmap) in [(&edits.files, false), (&edits.mounts, may_idmap)] {
        if !mounts.is_empty() {
            add_mounts(spec, mounts, may_idmap);
        }
    }
    for (moment, hook) in &edits.hooks {
        let hooks = hooks_at(spec, *moment);
        if !hooks.contains(hook) {
            hooks.push(hook.clone());
        }
    }
    if let Some(rdt) = &edits.intel_rdt {
        linux(spec)?.set_intel_rdt(Some(rdt.clone()));
    }
    Ok(())
}

fn linux(spec: &mut Spec) -> Result<&mut spec::Linux> {
    let nothing = match spec.linux_mut().take() {
        Some(linux) => linux,
        None => document::nothing().map_err(anyhow::Error::msg)?,
    };
    Ok(spec.linux_mut().insert(nothing))
}

/// Adds a node, in place of any node of the same path. Adds its rule as the last one,
/// because the last matching rule decides. If the edit does not name an owner, the node
/// belongs to the user of the process.
fn add_node(linux: &mut spec::Linux, node: &Node, user: Option<&spec::User>) -> Result<()> {
    let mut device = node.device.clone();
    let of_user = |id: fn(&spec::User) -> u32| user.map(id).filter(|id| *id > 0);
    let uid = device.uid().or_else(|| of_user(spec::User::uid));
    let gid = device.gid().or_else(|| of_user(spec::User::gid));
    device.set_uid(uid).set_gid(gid);
    let devices = linux.devices_mut().get_or_insert_default();
    devices.retain(|other| clean(other.path()) != clean(device.path()));
    devices.push(device);
    let Some(rule) = &node.rule else {
        return Ok(());
    };
    if linux.resources().is_none() {
        let nothing = document::nothing().map_err(anyhow::Error::msg)?;
        linux.set_resources(Some(nothing));
    }
    if let Some(resources) = linux.resources_mut() {
        let rules = resources.devices_mut().get_or_insert_default();
        rules.retain(|other| other != rule);
        rules.push(rule.clone());
    }
    Ok(())
}

/// Adds mounts, each in place of any mount at the same destination, and then sorts all
/// mounts by the depth of their destinations. The added mounts get nosuid and nodev, so
/// that they bring no privileges. In a user namespace, bind mounts are idmapped with the
/// container's ids.
fn add_mounts(spec: &mut Spec, added: &[Mount], may_idmap: bool) {
    let linux = spec.linux().as_ref();
    let namespaces = linux.and_then(|linux| linux.namespaces().as_ref());
    let mut namespaces = namespaces.into_iter().flatten();
    let has_users = namespaces.any(|namespace| namespace.typ() == LinuxNamespaceType::User);
    let is_mapped = has_users && may_idmap;
    let place = |mount: &Mount| clean(mount.destination());
    let places: BTreeMap<PathBuf, usize> = added.iter().map(place).zip(0..).collect();
    let mounts = spec.mounts_mut().get_or_insert_default();
    mounts.retain(|other| !places.contains_key(&place(other)));
    // Of two mounts with the same destination, the last one counts.
    let counts = |(number, mount): &(usize, &Mount)| places.get(&place(mount)) == Some(number);
    for (_, mount) in added.iter().enumerate().filter(counts) {
        let mut mount = mount.clone();
        let options = mount.options_mut().get_or_insert_default();
        options.retain(|option| !["suid", "dev", "rsuid", "rdev"].contains(&option.as_str()));
        for needed in ["nosuid", "nodev"] {
            if !options.iter().any(|option| option == needed) {
                options.push(needed.to_owned());
            }
        }
        if is_mapped {
            let has = |option: &str| options.iter().any(|other| other == option);
            let mapped = match (has("rbind"), has("bind")) {
                (true, _) => Some("ridmap"),
                (false, true) => Some("idmap"),
                (false, false) => None,
            };
            options.extend(mapped.map(str::to_owned));
        }
        mounts.push(mount);
    }
    mounts.sort_by_cached_key(|mount| depth(mount.destination()));
}

fn depth(destination: &Path) -> usize {
    let path = clean(destination).into_os_string();
    path.as_bytes().iter().filter(|byte| **byte == b'/').count()
}

fn hooks_at(spec: &mut Spec, moment: Moment) -> &mut Vec<spec::Hook> {
    let hooks = spec.hooks_mut().get_or_insert_default();
    let list = match moment {
        Moment::Prestart => hooks.prestart_mut(),
        Moment::CreateRuntime => hooks.create_runtime_mut(),
        Moment::CreateContainer => hooks.create_container_mut(),
        Moment::StartContainer => hooks.start_container_mut(),
        Moment::Poststart => hooks.poststart_mut(),
        Moment::Poststop => hooks.poststop_mut(),
    };
    list.get_or_insert_default()
}

impl ForProcesses {
    pub fn of(edits: &Edits) -> ForProcesses {
        ForProcesses {
            env: edits.env.clone(),
            additional_gids: edits.additional_gids.clone(),
        }
    }

    /// Adds the variables and groups of another device. A variable that a CDI file sets for
    /// all its devices comes with each of them, and is added only once.
    pub(super) fn add(&mut self, other: &ForProcesses) {
        let is_new = |variable: &&String| !self.env.contains(variable);
        let new: Vec<String> = other.env.iter().filter(is_new).cloned().collect();
        self.env.extend(new);
        self.additional_gids.extend(&other.additional_gids);
    }

    /// Adds the variables and groups to the container's own process. A variable replaces
    /// one of the same name.
    pub fn replace_in(&self, process: &mut Process) {
        let env = process.env_mut().get_or_insert_default();
        for variable in &self.env {
            // If a name occurs several times, the last variable counts.
            let mut known = env.iter_mut().rev();
            match known.find(|other| name(other) == name(variable)) {
                Some(other) => other.clone_from(variable),
                None => env.push(variable.clone()),
            }
        }
        self.add_groups(process);
    }

    /// Adds the variables and groups to a further process. A variable of the process itself
    /// is kept.
    pub fn complete(&self, process: &mut Process) {
        let env = process.env_mut().get_or_insert_default();
        // If a name occurs several times, the last variable counts.
        for variable in self.env.iter().rev() {
            if !env.iter().any(|other| name(other) == name(variable)) {
                env.push(variable.clone());
            }
        }
        self.add_groups(process);
    }

    fn add_groups(&self, process: &mut Process) {
        let mut user = process.user().clone();
        let groups = user.additional_gids_mut().get_or_insert_default();
        for group in &self.additional_gids {
            if *group != 0 && !groups.contains(group) {
                groups.push(*group);
            }
        }
        process.set_user(user);
    }
}

fn name(variable: &str) -> &str {
    variable.split('=').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::read;
    use serde_json::{Value, json};
    use teu_gpu::cdi::File;

    /// Returns the specification `config` with these edits, which are written as in CDI
    /// files. Checks that adding them twice has the same result.
    fn applied(config: &Value, edits: &Value) -> Value {
        let file = json!({
            "cdiVersion": "1.1.0", "kind": "v/c",
            "devices": [{ "name": "a", "containerEdits": edits }],
        });
        let file = File::parse(&file.to_string()).expect("a file");
        let edits = file.devices[0].container_edits.on_this_machine();
        let edits = edits.expect("edits");
        let mut spec: Spec = read(&config.to_string());
        apply(&mut spec, &edits, true).expect("applied");
        let once = serde_json::to_value(&spec).expect("JSON");
        apply(&mut spec, &edits, true).expect("applied again");
        assert_eq!(serde_json::to_value(&spec).expect("JSON"), once);
        once
    }

    fn asked(annotations: &Value, options: &DeviceOptions) -> Result<Vec<String>, String> {
        let spec: Spec = read(&json!({ "annotations": annotations }).to_string());
        let names = names(&spec, options).map_err(|err| format!("{err:#}"))?;
        Ok(names.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn devices_are_asked_for_by_options_and_annotations() {
        let mut options = DeviceOptions {
            names: vec!["v/c=1".into(), "v/c=2".into()],
            ..DeviceOptions::default()
        };
        let annotations = json!({
            "cdi.k8s.io/b": "v/c=5", "cdi.k8s.io/a": "v/c=4", "run.teu/devices": "v/c=2,v/c=3",
            "cdi.k8s.iox": "v/c=6", "run.teu/device": "v/c=7",
        });
        let names = asked(&annotations, &options);
        assert_eq!(
            names.as_deref(),
            Ok(&["v/c=1", "v/c=2", "v/c=3"].map(String::from)[..])
        );
        options.cdi_annotations = true;
        let names = asked(&annotations, &options).expect("names");
        assert_eq!(names, ["v/c=1", "v/c=2", "v/c=4", "v/c=5", "v/c=3"]);
        for (value, reason) in [
            (
                "",
                "annotation \"run.teu/devices\": invalid CDI device name \"\": ",
            ),
            (
                "v/c=1,",
                "annotation \"run.teu/devices\": invalid CDI device name \"\": ",
            ),
            (
                "v/c=1, v/c=2",
                "annotation \"run.teu/devices\": invalid CDI device name \" v/c=2\"",
            ),
        ] {
            let error = asked(
                &json!({ "run.teu/devices": value }),
                &DeviceOptions::default(),
            );
            let error = error.expect_err(value);
            assert!(error.starts_with(reason), "{error}");
        }
        options.names = vec!["/dev/null".into()];
        let error = asked(&json!({}), &options).expect_err("a path");
        assert_eq!(
            error,
            "--device: invalid CDI device name \"/dev/null\": it is a path"
        );
    }

    #[test]
    fn what_an_image_sets_asks_for_nothing() {
        let config = json!({ "process": { "env": ["NVIDIA_VISIBLE_DEVICES=all", "run.teu/devices=v/c=1"] } });
        let options = DeviceOptions {
            cdi_annotations: true,
            ..DeviceOptions::default()
        };
        assert_eq!(
            names(&read(&config.to_string()), &options).expect("names"),
            []
        );
    }

    #[test]
    fn variables_replace_those_of_their_name() {
        let config = json!({ "process": { "env": ["A=1", "AB=2", "C=0", "C=3"] } });
        let spec = applied(&config, &json!({ "env": ["A=x=y", "C=5", "D=4", "D=5"] }));
        assert_eq!(
            spec["process"]["env"],
            json!(["A=x=y", "AB=2", "C=0", "C=5", "D=5"])
        );
    }

    #[test]
    fn groups_are_added_once_and_never_roots() {
        let config = json!({ "process": { "user": { "uid": 5, "additionalGids": [1, 2] } } });
        let spec = applied(&config, &json!({ "additionalGids": [2, 0, 3, 3] }));
        assert_eq!(spec["process"]["user"]["additionalGids"], json!([1, 2, 3]));
    }

    #[test]
    fn a_node_comes_with_its_rule() {
        let config = json!({
            "process": { "user": { "uid": 5, "gid": 0 } },
            "linux": {
                "devices": [
                    { "path": "/dev/x", "type": "c", "major": 1, "minor": 1 },
                    { "path": "/dev/other", "type": "c", "major": 1, "minor": 2 },
                ],
                "resources": { "devices": [
                    { "allow": true, "type": "c", "major": 200, "minor": 1, "access": "rw" },
                    { "allow": false, "access": "rwm" },
                ] },
            },
        });
        let edits = json!({ "deviceNodes": [
            { "path": "/dev/x", "hostPath": "/nowhere", "type": "c", "major": 200, "minor": 1, "permissions": "rw" },
            { "path": "/dev/none", "type": "b", "major": 7, "minor": 9, "permissions": "none", "uid": 8, "gid": 9 },
        ] });
        let spec = applied(&config, &edits);
        let devices = &spec["linux"]["devices"];
        assert_eq!(devices[0]["path"], "/dev/other");
        assert_eq!(
            devices[1],
            json!({ "path": "/dev/x", "type": "c", "major": 200, "minor": 1, "uid": 5 })
        );
        assert_eq!(
            (&devices[2]["uid"], &devices[2]["gid"]),
            (&json!(8), &json!(9))
        );
        // The rule comes after rules that deny the device. A node without access has no
        // rule.
        let rules = spec["linux"]["resources"]["devices"]
            .as_array()
            .expect("rules");
        assert_eq!(rules.len(), 2);
        assert_eq!(rules[0]["allow"], false);
        assert_eq!(
            rules[1],
            json!({ "allow": true, "type": "c", "major": 200, "minor": 1, "access": "rw" })
        );
        // The specification may lack the section `linux`.
        let spec = applied(&json!({}), &edits);
        assert_eq!(spec["linux"]["devices"].as_array().map(Vec::len), Some(2));
        assert_eq!(spec["linux"].get("seccomp"), None);
    }

    #[test]
    fn mounts_replace_and_are_put_in_order() {
        let mount = |source: &str, destination: &str| json!({ "source": source, "destination": destination, "options": ["rbind"] });
        let config = json!({ "mounts": [
            mount("u", "/a/b/c"), mount("u", "/proc"), mount("u", "/a/b/"), mount("u", "/z"),
        ] });
        let edit = |source: &str, path: &str, option: &str| json!({ "hostPath": source, "containerPath": path, "options": ["ro", option] });
        let edits = json!({ "mounts": [
            edit("m", "/y/", "x"), edit("n", "/a/b", "rbind"), edit("n", "/y", "bind"), edit("n", "/a/x/y/z", "x"),
        ] });
        let spec = applied(&config, &edits);
        let order = |spec: &Value| {
            let mounts = spec["mounts"].as_array().expect("mounts").clone();
            mounts
                .iter()
                .map(|mount| {
                    format!("{} {}", mount["source"], mount["destination"]).replace('"', "")
                })
                .collect::<Vec<_>>()
        };
        assert_eq!(
            order(&spec),
            [
                "u /proc",
                "u /z",
                "n /y",
                "n /a/b",
                "u /a/b/c",
                "n /a/x/y/z"
            ]
        );
        let options = |spec: &Value, index: usize| {
            let options: Vec<String> =
                serde_json::from_value(spec["mounts"][index]["options"].clone()).expect("texts");
            options.join(",")
        };
        assert_eq!(options(&spec, 2), "ro,bind,nosuid,nodev");
        // In a user namespace, bind mounts are idmapped.
        let mut config = config;
        config["linux"] = json!({ "namespaces": [{ "type": "user" }] });
        let spec = applied(&config, &edits);
        assert_eq!(options(&spec, 2), "ro,bind,nosuid,nodev,idmap");
        assert_eq!(options(&spec, 3), "ro,rbind,nosuid,nodev,ridmap");
        assert_eq!(options(&spec, 5), "ro,x,nosuid,nodev");
        // No mount brings privileges, whatever its options are.
        let mut edits = edits;
        edits["mounts"][1]["options"] = json!(["suid", "bind", "nodev", "dev", "rsuid", "rdev"]);
        let spec = applied(&json!({}), &edits);
        assert_eq!(options(&spec, 1), "bind,nodev,nosuid");
        // Edits without mounts leave the order of the mounts as it is.
        let spec = applied(
            &json!({ "mounts": [mount("u", "/a/b"), mount("u", "/c")] }),
            &json!({ "env": ["A=b"] }),
        );
        assert_eq!(order(&spec), ["u /a/b", "u /c"]);
    }

    #[test]
    fn hooks_are_added_where_they_run() {
        let config = json!({ "hooks": {
            "poststop": [{ "path": "/own" }], "createRuntime": [{ "path": "/h", "args": ["h"] }],
        } });
        let moments = [
            "prestart",
            "createRuntime",
            "createContainer",
            "startContainer",
            "poststart",
            "poststop",
        ];
        let hooks = moments.map(|name| json!({ "hookName": name, "path": "/h", "args": ["h"] }));
        let spec = applied(&config, &json!({ "hooks": hooks }));
        let hook = json!({ "path": "/h", "args": ["h"] });
        for moment in &moments[..5] {
            assert_eq!(spec["hooks"][moment], json!([hook]), "{moment}");
        }
        assert_eq!(spec["hooks"]["poststop"], json!([{ "path": "/own" }, hook]));
    }

    #[test]
    fn the_rest_replaces_what_was_there() {
        let config = json!({ "linux": {
            "intelRdt": { "closID": "old", "memBwSchema": "MB:0=1" },
            "netDevices": { "eth1": { "name": "a" }, "eth2": { "name": "b" } },
        } });
        let edits = json!({
            "intelRdt": { "closID": "new", "l3CacheSchema": "L3:0=f", "enableMonitoring": true },
            "netDevices": [{ "hostInterfaceName": "eth1", "name": "c" }],
        });
        let spec = applied(&config, &edits);
        assert_eq!(
            spec["linux"]["intelRdt"],
            json!({ "closID": "new", "l3CacheSchema": "L3:0=f", "enableMonitoring": true })
        );
        assert_eq!(
            spec["linux"]["netDevices"],
            json!({ "eth1": { "name": "c" }, "eth2": { "name": "b" } })
        );
    }

    #[test]
    fn a_further_process_may_have_been_told_otherwise() {
        let processes = ForProcesses {
            env: vec!["A=device".into(), "B=device".into()],
            additional_gids: vec![0, 5],
        };
        let mut process: Process = read(r#"{"env":["A=own"],"user":{"additionalGids":[6]}}"#);
        processes.complete(&mut process);
        let env = process.env().as_deref().expect("env");
        assert_eq!(env, ["A=own", "B=device"]);
        assert_eq!(
            process.user().additional_gids().as_deref(),
            Some(&[6, 5][..])
        );
    }
}
