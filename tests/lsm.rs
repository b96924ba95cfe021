//! Security modules: the effect of a container's labels. The labels are in tests/data/lsm, which
//! a test machine has loaded.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::harness::*;

tests![
    apparmor_profile_confines,
    apparmor_profile_of_exec_confines,
    apparmor_profile_stacks_on_the_runtimes,
    apparmor_profile_that_is_not_loaded_is_refused,
    selinux_label_confines,
    selinux_label_of_exec_is_its_own,
    selinux_label_is_the_session_keyrings,
    selinux_label_that_is_unknown_is_refused,
    selinux_mount_label_is_on_mounts,
];

const PROFILE: &str = "teu-test";
const PROFILE_OF_EXEC: &str = "teu-test-exec";
const PROFILE_OF_RUNTIME: &str = "teu-test-runtime";

const PROCESS_LABEL: &str = "teu_u:teu_r:teu_container_t:s0:c1,c2";
const EXEC_LABEL: &str = "teu_u:teu_r:teu_container_t:s0:c1";
const MOUNT_LABEL: &str = "teu_u:object_r:teu_file_t:s0:c1,c2";

const SECRETS: &str = "open /etc/secret r; open /etc/other-secret r";

/// A container with two files, each of which a profile protects from being read.
fn with_secrets() -> Bundle {
    Bundle::new()
        .file("/etc/secret", "secret")
        .file("/etc/other-secret", "secret")
}

/// The answer of a program in the container.
fn reported(output: Output) -> Value {
    output.probe()["lsm"].clone()
}

fn apparmor_profile_confines() {
    needs(&[Root, AppArmor, Label(PROFILE)]);
    let bundle = || with_secrets().set("/process/apparmorProfile", PROFILE);
    let seen = reported(bundle().run());
    assert_eq!(seen["apparmor"], format!("{PROFILE} (enforce)"));
    let output = bundle().probe(SECRETS).run();
    assert_eq!(output.answers()[0], json!({ "errno": "EACCES" }));
    assert!(output.answers()[1].get("ok").is_some(), "{output}");
}

fn apparmor_profile_of_exec_confines() {
    needs(&[Root, AppArmor, Label(PROFILE), Label(PROFILE_OF_EXEC)]);
    let bundle = with_secrets().set("/process/apparmorProfile", PROFILE);
    let container = Container::running(bundle.probe("sleep"));
    let exec = |flags: &[&str], words: &str| {
        let call = container.command("exec", flags);
        call.args(words.split_whitespace()).output()
    };
    let file = process_without_labels();
    for flags in [&[][..], &["-p", file.to_str().unwrap()]] {
        let seen = reported(exec(flags, "/probe report"));
        assert_eq!(seen["apparmor"], format!("{PROFILE} (enforce)"));
    }
    let flags = ["--apparmor", PROFILE_OF_EXEC];
    let seen = reported(exec(&flags, "/probe report"));
    assert_eq!(seen["apparmor"], format!("{PROFILE_OF_EXEC} (enforce)"));
    exec(&flags, "/probe open /etc/secret r").ok();
    let refused = exec(&flags, "/probe open /etc/other-secret r").exits(1);
    assert_eq!(refused.answer(), "EACCES");
}

/// A process.json with only the required fields.
fn process_without_labels() -> PathBuf {
    let file = scratch().join("process.json");
    let process = json!({ "args": ["/probe", "report"], "cwd": "/" });
    fs::write(&file, process.to_string()).unwrap();
    file
}

/// With no_new_privs, a process cannot leave its profile; profiles can only be stacked.
fn apparmor_profile_stacks_on_the_runtimes() {
    needs(&[
        Root,
        AppArmor,
        Label(PROFILE),
        Label(PROFILE_OF_EXEC),
        Label(PROFILE_OF_RUNTIME),
    ]);
    let bundle = with_secrets()
        .set("/process/apparmorProfile", PROFILE)
        .set("/process/noNewPrivileges", true);
    let container = Container::new(bundle.probe("sleep"));
    let enter = format!("echo exec {PROFILE_OF_RUNTIME} > /proc/self/attr/apparmor/exec");
    let confined = |call: Invocation| call.after_shell(&enter);
    let create = confined(container.command("create", NO_FLAGS));
    container.detach(create).ok();
    container.start().ok();
    let exec = |flags: &[&str], words: &str| {
        let call = container.command("exec", flags);
        confined(call.args(words.split_whitespace())).output()
    };
    for (flags, profile, secret, other) in [
        (&[][..], PROFILE, "/etc/secret", "/etc/other-secret"),
        (
            &["--apparmor", PROFILE_OF_EXEC],
            PROFILE_OF_EXEC,
            "/etc/other-secret",
            "/etc/secret",
        ),
    ] {
        let label = reported(exec(flags, "/probe report"))["apparmor"].to_string();
        for part in [profile, PROFILE_OF_RUNTIME] {
            assert!(label.contains(part), "{label}");
        }
        let refused = exec(flags, &format!("/probe open {secret} r")).exits(1);
        assert_eq!(refused.answer(), "EACCES");
        exec(flags, &format!("/probe open {other} r")).ok();
    }
    let init = std::fs::read_to_string(format!("/proc/{}/attr/apparmor/current", container.pid()));
    let init = init.unwrap();
    assert!(
        init.contains(PROFILE) && init.contains(PROFILE_OF_RUNTIME),
        "{init}"
    );
}

fn apparmor_profile_that_is_not_loaded_is_refused() {
    needs(&[Root, AppArmor]);
    let bundle = Bundle::new().set("/process/apparmorProfile", "teu-test-nowhere");
    let output = bundle.run().exits(1);
    output.says("unable to apply apparmor profile: apparmor failed to apply profile");
}

/// A bundle without no_new_privs, because a policy must allow transitions with it by a permission
/// of their own, which the test policy does not give.
fn labelled() -> Bundle {
    Bundle::new()
        .set("/process/noNewPrivileges", false)
        .set("/process/selinuxLabel", PROCESS_LABEL)
        .set("/linux/mountLabel", MOUNT_LABEL)
}

fn selinux_label_confines() {
    needs(&[Root, Selinux, Label(PROCESS_LABEL), Label(MOUNT_LABEL)]);
    assert_eq!(reported(labelled().run())["current"], PROCESS_LABEL);
    // Files of the host stay closed; files that the container makes have the label of its mounts.
    let bundle = labelled()
        .file("/etc/file", "text")
        .probe("open /etc/file r; write /dev/shm/file text; open /dev/shm/file r");
    let output = bundle.run();
    assert_eq!(output.answers()[0], json!({ "errno": "EACCES" }));
    for answer in &output.answers()[1..] {
        assert!(answer.get("ok").is_some(), "{output}");
    }
}

fn selinux_label_of_exec_is_its_own() {
    needs(&[Root, Selinux, Label(PROCESS_LABEL), Label(EXEC_LABEL)]);
    let container = Container::running(labelled().probe("sleep"));
    let exec = |flags: &[&str]| {
        let call = container.command("exec", flags).args(["/probe", "report"]);
        call.output().probe()
    };
    assert_eq!(exec(&[])["lsm"]["current"], PROCESS_LABEL);
    let seen = exec(&["--process-label", EXEC_LABEL]);
    assert_eq!(seen["lsm"]["current"], EXEC_LABEL);
    let file = process_without_labels();
    let seen = exec(&["-p", file.to_str().unwrap()]);
    assert_eq!(seen["lsm"]["current"], PROCESS_LABEL);
}

fn selinux_label_is_the_session_keyrings() {
    needs(&[Root, Selinux, Label(PROCESS_LABEL)]);
    assert_eq!(reported(labelled().run())["keyring"], PROCESS_LABEL);
}

fn selinux_label_that_is_unknown_is_refused() {
    needs(&[Root, Selinux, Label(PROCESS_LABEL)]);
    let bundle = labelled().set("/process/selinuxLabel", "teu_u:teu_r:teu_nowhere_t:s0");
    bundle.run().exits(1).says("teu_nowhere_t");
}

fn selinux_mount_label_is_on_mounts() {
    needs(&[Root, Selinux, Label(MOUNT_LABEL), Tool("getfattr")]);
    let container = Container::running(labelled().probe("sleep"));
    for mount in ["/dev", "/dev/shm", "/dev/mqueue"] {
        let path = format!("/proc/{}/root{mount}", container.pid());
        let words = [
            "--absolute-names",
            "--only-values",
            "--name=security.selinux",
        ];
        let label = Invocation::new("getfattr")
            .args(words)
            .arg(path)
            .output()
            .ok()
            .stdout;
        assert_eq!(label.trim_end_matches('\0'), MOUNT_LABEL, "{mount}");
    }
}
