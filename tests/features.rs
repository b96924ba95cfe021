//! `features`: the runtime's list of its features.

use serde_json::Value;

use crate::harness::*;

tests![features_are_complete, features_are_true];

fn features() -> Value {
    Invocation::new(runtime())
        .arg("features")
        .output()
        .ok()
        .json()
}

fn strings(value: &Value) -> Vec<&str> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|word| word.as_str().unwrap())
        .collect()
}

fn features_are_complete() {
    needs(&[]);
    let features = features();
    assert_eq!(features["ociVersionMin"], "1.0.0");
    let mut hooks = strings(&features["hooks"]);
    hooks.sort_unstable();
    let six = [
        "createContainer",
        "createRuntime",
        "poststart",
        "poststop",
        "prestart",
        "startContainer",
    ];
    assert_eq!(hooks, six);
    let options = strings(&features["mountOptions"]);
    for option in [
        "bind",
        "rbind",
        "ro",
        "rro",
        "rslave",
        "tmpcopyup",
        "nosymfollow",
    ] {
        assert!(options.contains(&option), "{option} is missing");
    }
    for field in [
        "namespaces",
        "capabilities",
        "cgroup",
        "seccomp",
        "apparmor",
        "selinux",
    ] {
        assert!(
            !features["linux"][field].is_null(),
            "linux.{field} is missing"
        );
    }
}

fn features_are_true() {
    needs(&[Root, Teu, UserNamespaces]);
    // All namespaces in the list can be made.
    let features = features();
    let namespaces = strings(&features["linux"]["namespaces"]);
    assert_eq!(namespaces.len(), 8);
    for kind in namespaces.iter().filter(|kind| **kind != "user") {
        Bundle::new().namespace(kind).probe("exit 0").run().ok();
    }
    Bundle::new().user_namespace().probe("exit 0").run().ok();
}
