//! `spec`: the template of config.json.

use std::fs;

use serde_json::json;

use crate::harness::*;

tests![
    spec_runs_as_it_is,
    spec_has_what_engines_expect,
    spec_goes_into_the_bundle,
    spec_does_not_overwrite,
    rootless_spec_maps_the_caller,
];

fn spec_runs_as_it_is() {
    needs(&[Root]);
    let bundle = Bundle::new();
    Invocation::new(runtime())
        .arg("spec")
        .in_directory(&bundle.directory)
        .output()
        .ok();
    let seen = bundle
        .read()
        .set("/process/terminal", false)
        .probe("report")
        .run()
        .probe();
    assert_eq!(seen["pid"], 1);
    assert_eq!(seen["no_new_privileges"], 1);
}

fn spec_has_what_engines_expect() {
    needs(&[]);
    Invocation::new(runtime()).arg("spec").output().ok();
    let text = fs::read_to_string(scratch().join("config.json")).unwrap();
    assert!(text.starts_with("{\n\t\"ociVersion\": \"1."), "{text}");
    let spec: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(spec["process"]["args"], json!(["sh"]));
    assert_eq!(spec["process"]["terminal"], true);
    assert_eq!(spec["root"], json!({ "path": "rootfs", "readonly": true }));
    let targets: Vec<_> = spec["mounts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|mount| &mount["destination"])
        .collect();
    let expected = [
        "/proc",
        "/dev",
        "/dev/pts",
        "/dev/shm",
        "/dev/mqueue",
        "/sys",
        "/sys/fs/cgroup",
    ];
    assert_eq!(targets, expected);
    assert_eq!(
        spec["linux"]["resources"]["devices"],
        json!([{ "allow": false, "access": "rwm" }])
    );
}

fn spec_goes_into_the_bundle() {
    needs(&[]);
    let bundle = scratch().join("elsewhere");
    fs::create_dir(&bundle).unwrap();
    Invocation::new(runtime())
        .args(["spec", "--bundle"])
        .arg(&bundle)
        .output()
        .ok();
    assert!(bundle.join("config.json").is_file());
}

fn spec_does_not_overwrite() {
    needs(&[]);
    let file = scratch().join("config.json");
    fs::write(&file, "mine").unwrap();
    let output = Invocation::new(runtime()).arg("spec").output().exits(1);
    output.says("File config.json exists. Remove it first");
    assert_eq!(fs::read_to_string(file).unwrap(), "mine");
}

fn rootless_spec_maps_the_caller() {
    needs(&[Root]);
    let directory = scratch().join("user");
    fs::create_dir(&directory).unwrap();
    std::os::unix::fs::chown(&directory, Some(1234), Some(1234)).unwrap();
    let call = Invocation::new(runtime())
        .args(["spec", "--rootless"])
        .by_user(1234);
    call.in_directory(&directory).output().ok();
    let text = fs::read_to_string(directory.join("config.json")).unwrap();
    let spec: serde_json::Value = serde_json::from_str(&text).unwrap();
    let map = json!([{ "containerID": 0, "hostID": 1234, "size": 1 }]);
    assert_eq!(spec["linux"]["uidMappings"], map);
    assert_eq!(spec["linux"]["gidMappings"], map);
    let namespaces = spec["linux"]["namespaces"].to_string();
    assert!(
        namespaces.contains("user") && !namespaces.contains("network"),
        "{namespaces}"
    );
}
