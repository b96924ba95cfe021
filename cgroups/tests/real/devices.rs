//! Tests device rules through the public interface: a process in the cgroup asks the kernel.
//! Needs root and the v1 controller devices, or v2 with CONFIG_CGROUP_BPF. The meaning of rules
//! is tested in src/devices/proof.rs.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};

use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::unistd::{AccessFlags, access};
use teu_cgroups::*;

use crate::harness::*;

/// A process that reports which devices it may use; it runs `probe`.
struct Probe {
    child: Sleeper,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    nodes: PathBuf,
}

/// The numbers of the device nodes, which the rules below are about.
const NUMBERS: [(u64, u64); 4] = [(1, 1), (1, 2), (2, 1), (2, 2)];

impl Probe {
    fn new() -> Probe {
        let nodes = std::env::temp_dir().join(unique("nodes"));
        std::fs::create_dir(&nodes).unwrap();
        for (kind, flag) in [("b", SFlag::S_IFBLK), ("c", SFlag::S_IFCHR)] {
            for (major, minor) in NUMBERS {
                let path = nodes.join(format!("{kind}-{major}-{minor}"));
                mknod(&path, flag, Mode::S_IRWXU, makedev(major, minor)).unwrap();
            }
        }
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "devices::probe", "--ignored", "--nocapture"])
            .env("TEU_PROBE_NODES", &nodes)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Probe {
            child: Sleeper(child),
            input,
            output,
            nodes,
        }
    }

    /// Returns the requests that are allowed now, such as "c-1-1:r c-1-1:rw".
    fn ask(&mut self) -> Vec<String> {
        self.input.write_all(b"\n").unwrap();
        loop {
            let mut line = String::new();
            assert_ne!(
                self.output.read_line(&mut line).unwrap(),
                0,
                "the probe ended"
            );
            if let Some((_, answer)) = line.split_once("may:") {
                return answer.split_whitespace().map(str::to_owned).collect();
            }
        }
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.nodes).unwrap();
    }
}

#[test]
#[ignore = "the other side of Probe, run by other tests"]
fn probe() {
    let Ok(nodes) = std::env::var("TEU_PROBE_NODES") else {
        return;
    };
    let nodes = Path::new(&nodes);
    let made = nodes.join("made");
    for _ in std::io::stdin().lines() {
        let mut may = String::new();
        for (kind, flag) in [("b", SFlag::S_IFBLK), ("c", SFlag::S_IFCHR)] {
            for (major, minor) in NUMBERS {
                let name = format!("{kind}-{major}-{minor}");
                let modes = [
                    ("r", AccessFlags::R_OK),
                    ("w", AccessFlags::W_OK),
                    ("rw", AccessFlags::R_OK | AccessFlags::W_OK),
                ];
                for (letters, mode) in modes {
                    // access(2) makes the same check as open(2).
                    if access(&nodes.join(&name), mode).is_ok() {
                        may.push_str(&format!(" {name}:{letters}"));
                    }
                }
                if mknod(&made, flag, Mode::S_IRWXU, makedev(major, minor)).is_ok() {
                    std::fs::remove_file(&made).unwrap();
                    may.push_str(&format!(" {name}:m"));
                }
            }
        }
        println!("may:{may}");
    }
}

fn rule(
    allow: bool,
    kind: Option<DeviceKind>,
    major: u32,
    minor: u32,
    letters: &str,
) -> DeviceRule {
    let number = |number: u32| Some(number).filter(|&number| number != 0);
    DeviceRule {
        allow,
        kind,
        major: number(major),
        minor: number(minor),
        access: Access::from_letters(letters).unwrap(),
    }
}

fn with_devices(rules: &[DeviceRule]) -> Limits {
    Limits {
        devices: Some(rules.to_vec()),
        ..Default::default()
    }
}

#[test]
fn v2_device_programs_replace_each_other() {
    if !has(&[""]) {
        return;
    }
    let mut probe = Probe::new();
    let mut unified = Unified::new("program");
    unified
        .cgroup
        .enter(probe.child.pid(), Entered::default())
        .unwrap();
    let character = Some(DeviceKind::Character);
    let everything = probe.ask();
    assert_eq!(everything.len(), 2 * NUMBERS.len() * 4);
    let mut allowed = |rules: &[DeviceRule]| {
        unified
            .cgroup
            .restrict_devices(&with_devices(rules))
            .unwrap();
        probe.ask()
    };
    let all = rule(true, None, 0, 0, "rwm");
    assert_eq!(allowed(&[all]), everything);
    assert_eq!(
        allowed(&[rule(true, character, 1, 1, "rw")]),
        ["c-1-1:r", "c-1-1:w", "c-1-1:rw"]
    );
    assert_eq!(allowed(&[]), Vec::<String>::new());
    // A hole in a wildcard, which v1 cannot express; and a denied write also denies
    // reading and writing together.
    let hole = [
        rule(true, character, 1, 0, "rw"),
        rule(false, character, 1, 1, "w"),
    ];
    assert_eq!(
        allowed(&hole),
        ["c-1-1:r", "c-1-2:r", "c-1-2:w", "c-1-2:rw"]
    );
    assert_eq!(allowed(&[all]), everything);
    // Many rules about devices that are not requested.
    let many: Vec<DeviceRule> = (1..=1000)
        .map(|minor| rule(true, character, 100, minor, "r"))
        .collect();
    assert_eq!(allowed(&many), Vec::<String>::new());
    drop(probe);
}

#[test]
fn v1_devices_are_updated_without_a_gap() {
    if !has(&["devices"]) {
        return;
    }
    let cgroup = prepare(&plan(&unique("update"), Limits::default())).unwrap();
    let path = cgroup.saved_paths().get("devices").unwrap().to_owned();
    let character = Some(DeviceKind::Character);
    let mut rules = vec![rule(false, None, 0, 0, "rwm")];
    rules.extend(default_device_rules());
    cgroup.restrict_devices(&with_devices(&rules)).unwrap();
    let before = file(&cgroup, "devices", "devices.list");
    assert_eq!(before.lines().count(), 11, "{before}");
    // With a cgroup below, the kernel refuses to change the default, so the test passes only
    // if the default is not written.
    std::fs::create_dir(path.join("below")).unwrap();
    rules.push(rule(true, character, 195, 1, "rw"));
    rules.push(rule(false, character, 10, 200, "rw"));
    cgroup.restrict_devices(&with_devices(&rules)).unwrap();
    let after = file(&cgroup, "devices", "devices.list");
    assert!(after.contains("c 195:1 rw"), "{after}");
    assert!(after.contains("c 10:200 m"), "{after}");
    assert!(after.contains("c 1:3 rwm"), "{after}");
    std::fs::remove_dir(path.join("below")).unwrap();
}
