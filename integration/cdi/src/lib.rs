//! The same CDI files read by teu-gpu and by the crate container-device-interface. Where they
//! differ, `differences.rs` says which of the two is right; any other difference is a failure.

#![cfg(test)]

mod cases;
mod differences;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use container_device_interface::spec::{Spec, read_spec};
use oci_spec::runtime as oci;
use serde_json::{Map, Value, json};
use teu_gpu::Edits;
use teu_gpu::cdi::File;

use differences::{DIFFERENCES, Kind};

#[test]
fn both_read_the_same() {
    let path = std::env::temp_dir().join(format!("teu-cdi-{}.yaml", std::process::id()));
    let (mut accepted, mut unlisted) = (0, Vec::new());
    let mut found = vec![0; DIFFERENCES.len()];
    let cases = cases::all();
    for case in &cases {
        fs::write(&path, &case.text).expect("write");
        let (kind, detail) = match (File::read(&path), read_spec(&path, 0)) {
            (Err(_), Err(_)) => continue,
            (Ok(_), Err(err)) => (Kind::OnlyTeuAccepts, format!("{err:#}")),
            (Err(err), Ok(_)) => (Kind::OnlyTeuRefuses, teu_errno::line(&err)),
            (Ok(ours), Ok(theirs)) => {
                accepted += 1;
                let (ours, theirs) = (of_teu(&ours), of_the_other(&theirs));
                if ours.as_ref().ok() == theirs.as_ref().ok() {
                    continue;
                }
                (Kind::Edits, format!("{ours:?}\n  {theirs:?}"))
            }
        };
        let listed = DIFFERENCES
            .iter()
            .position(|listed| listed.kind == kind && listed.is_about(&case.what));
        match listed {
            Some(index) => found[index] += 1,
            None => unlisted.push(format!("{kind:?}: {}  {detail}", case.text)),
        }
    }
    fs::remove_file(&path).expect("remove");
    println!("{} files, {accepted} accepted by both", cases.len());
    assert!(unlisted.is_empty(), "{}", unlisted.join("\n"));
    for (listed, found) in DIFFERENCES.iter().zip(found) {
        println!(
            "{found} {:?}, right is {:?}: {}",
            listed.kind, listed.right, listed.why
        );
        assert_eq!(found, listed.files, "{}", listed.why);
    }
}

/// Returns what each device brings, with what all bring, or why one cannot be had here.
fn of_teu(file: &File) -> teu_gpu::Result<Vec<Value>> {
    let devices = file.devices.iter().map(|device| {
        let mut edits = file.container_edits.on_this_machine()?;
        edits.append(device.container_edits.on_this_machine()?);
        Ok(said(&as_json(&edits)))
    });
    devices.collect()
}

fn as_json(edits: &Edits) -> Value {
    let mut hooks: BTreeMap<String, Vec<&oci::Hook>> = BTreeMap::new();
    for (moment, hook) in &edits.hooks {
        let moment = format!("{moment:?}");
        let name = moment[..1].to_lowercase() + &moment[1..];
        hooks.entry(name).or_default().push(hook);
    }
    let devices: Vec<_> = edits.nodes.iter().map(|node| &node.device).collect();
    let rules: Vec<_> = edits
        .nodes
        .iter()
        .filter_map(|node| node.rule.as_ref())
        .collect();
    let net_devices: BTreeMap<_, _> = edits.net_devices.iter().cloned().collect();
    // The runtime never gives the group 0, nor a group twice.
    let gids: BTreeSet<_> = edits
        .additional_gids
        .iter()
        .filter(|gid| **gid != 0)
        .collect();
    json!({
        "env": edits.env,
        "mounts": edits.mounts,
        "hooks": hooks,
        "devices": devices,
        "rules": rules,
        "netDevices": net_devices,
        "intelRdt": edits.intel_rdt,
        "additionalGids": gids,
    })
}

/// The same of the other crate, which edits a specification: here one without anything.
fn of_the_other(spec: &Spec) -> Result<Vec<Value>, String> {
    let raw = spec.get_devices().into_values();
    let devices = raw.map(|mut device| {
        let mut edited: oci::Spec = serde_json::from_value(json!({
            "ociVersion": "1.3.0",
            "process": {"cwd": "/", "user": {"uid": 0, "gid": 0}},
            "linux": {},
            // Without this list the crate adds an empty mount.
            "mounts": [],
        }))
        .expect("a specification");
        let edit = spec.clone().apply_edits(&mut edited);
        edit.and_then(|()| device.apply_edits(&mut edited))
            .map_err(|err| format!("{err:#}"))?;
        let edited = serde_json::to_value(&edited).expect("JSON");
        let at = |place| edited.pointer(place).cloned().unwrap_or_default();
        Ok(said(&json!({
            "env": at("/process/env"),
            "mounts": at("/mounts"),
            "hooks": at("/hooks"),
            "devices": at("/linux/devices"),
            "rules": at("/linux/resources/devices"),
            "netDevices": at("/linux/netDevices"),
            "intelRdt": at("/linux/intelRdt"),
            "additionalGids": at("/process/user/additionalGids"),
        })))
    });
    devices.collect()
}

/// Returns the value without fields that say nothing.
fn said(value: &Value) -> Value {
    let is_nothing = |value: &Value| {
        [json!(null), json!(false), json!(""), json!([]), json!({})].contains(value)
    };
    match value {
        Value::Object(fields) => {
            let fields = fields
                .iter()
                .map(|(name, field)| (name.clone(), said(field)));
            let fields: Map<_, _> = fields.filter(|(_, field)| !is_nothing(field)).collect();
            Value::Object(fields)
        }
        Value::Array(values) => values.iter().map(said).collect(),
        value => value.clone(),
    }
}
