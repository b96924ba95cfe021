//! Containers of a user without privileges.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::PathBuf;

use serde_json::json;

use crate::harness::*;

tests![
    user_runs_the_rootless_bundle,
    user_creates_starts_and_deletes,
    state_root_is_below_the_runtime_directory,
];

/// Any user but root; it needs no entry in /etc/passwd.
const USER: u32 = 1234;

/// What `spec --rootless` of the user gives, with these modes of the probe.
fn rootless_bundle(modes: &str) -> Bundle {
    let bundle = Bundle::new();
    for path in [&bundle.directory, &bundle.rootfs()] {
        chown(path, Some(USER), Some(USER)).unwrap();
    }
    bundle.chown_rootfs(USER);
    let spec = call(["spec", "--rootless"]).in_directory(&bundle.directory);
    spec.output().ok();
    bundle.read().set("/process/terminal", false).probe(modes)
}

/// A call of the runtime by the user, with the default root.
pub(crate) fn call<const N: usize>(args: [&str; N]) -> Invocation {
    let call = Invocation::new(runtime()).args(args).by_user(USER);
    call.env("XDG_RUNTIME_DIR", runtime_directory())
        .env("HOME", "/nowhere")
        .env("USER", "someone")
}

/// A container of the user's, not created yet.
pub(crate) fn user_container(modes: &str) -> Container {
    Container::new(rootless_bundle(modes))
}

fn runtime_directory() -> PathBuf {
    let directory = scratch().join("run");
    if !directory.exists() {
        fs::create_dir(&directory).unwrap();
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o700)).unwrap();
        chown(&directory, Some(USER), Some(USER)).unwrap();
    }
    directory
}

fn user_runs_the_rootless_bundle() {
    needs(&[Root, UserNamespaces]);
    let container = Container::new(rootless_bundle("report"));
    let call = call(["run", "--bundle"])
        .arg(&container.bundle.directory)
        .arg(&container.id);
    let seen = call.output().probe();
    assert_eq!((&seen["pid"], &seen["uid"]), (&json!(1), &json!(0)));
    assert_eq!(seen["uid_map"], json!([[0, USER, 1]]));
    assert_eq!(seen["gid_map"], json!([[0, USER, 1]]));
}

fn user_creates_starts_and_deletes() {
    needs(&[Root, UserNamespaces]);
    let container = Container::new(rootless_bundle("trap TERM"));
    let id = container.id.as_str();
    let create = call(["create", "--bundle"])
        .arg(&container.bundle.directory)
        .arg(id);
    create.output().ok();
    assert_eq!(
        call(["state", id]).output().ok().json()["status"],
        "created"
    );
    call(["start", id]).output().ok();
    call(["delete", "--force", id]).output().ok();
    call(["state", id])
        .output()
        .exits(1)
        .says("container does not exist");
}

fn state_root_is_below_the_runtime_directory() {
    needs(&[Root, UserNamespaces, Teu]);
    let container = Container::new(rootless_bundle("report"));
    let id = container.id.as_str();
    let create = call(["create", "--bundle"])
        .arg(&container.bundle.directory)
        .arg(id);
    create.output().ok();
    let root = runtime_directory().join("teu");
    assert!(root.join(id).is_dir());
    // Sticky, so that cleaners of the runtime directory pass it by.
    assert_eq!(
        root.metadata().unwrap().permissions().mode() & 0o7777,
        0o1700
    );
    call(["delete", "--force", id]).output().ok();
}
