//! Namespaces: new, joined and inherited; and ids, names, clocks and sysctls in them.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::*;

tests![
    new_namespaces_are_new,
    missing_namespaces_are_inherited,
    namespaces_are_joined_by_path,
    user_namespace_is_joined_with_others,
    pid_namespace_is_joined,
    user_namespace_maps_ids,
    ids_that_are_not_mapped_are_named,
    message_queues_are_of_the_root_of_the_user_namespace,
    user_namespace_holds_every_other_new_one,
    hostname_is_set,
    domainname_is_set,
    hostname_needs_its_namespace,
    loopback_is_up_in_a_new_network,
    time_offsets_shift_the_clocks,
    sysctl_is_set_in_the_containers_namespace,
    sysctl_of_the_host_is_refused,
    cgroup_namespace_hides_the_path,
    path_that_is_no_namespace_is_refused,
    fifo_is_no_namespace,
    missing_namespace_path_is_refused,
    duplicate_namespace_is_refused,
    unknown_namespace_is_refused,
    mappings_without_a_user_namespace_are_ignored,
];

/// This process's namespace of a kind, in the form of the probe's report.
fn own(kind: &str) -> Value {
    json!(fs::read_link(format!("/proc/self/ns/{kind}")).unwrap())
}

/// A sleeping process in new namespaces, started by unshare(1) with these flags. Dropping it kills
/// the process.
pub(crate) struct Holder {
    /// Kills the process when dropped.
    _running: Running,
    pid: i32,
}

impl Holder {
    pub(crate) fn new<const N: usize>(flags: [&str; N]) -> Holder {
        let call = Invocation::new("unshare").args(flags);
        let running = call.args([
            "--fork",
            "--kill-child",
            "sh",
            "-c",
            "echo up; exec sleep 1000",
        ]);
        let running = running.spawn();
        wait_until("the namespaces are there", || {
            running.stdout().contains("up")
        });
        let pid = running.children()[0];
        Holder {
            _running: running,
            pid,
        }
    }

    pub(crate) fn path(&self, kind: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/ns/{kind}", self.pid))
    }

    fn link(&self, kind: &str) -> Value {
        json!(fs::read_link(self.path(kind)).unwrap())
    }
}

fn new_namespaces_are_new() {
    needs(&[Root]);
    let seen = Bundle::new().namespace("cgroup").run().probe();
    for kind in ["pid", "net", "ipc", "uts", "mnt", "cgroup"] {
        assert_ne!(seen["namespaces"][kind], own(kind), "{kind}");
    }
    for kind in ["user", "time"] {
        assert_eq!(seen["namespaces"][kind], own(kind), "{kind}");
    }
}

fn missing_namespaces_are_inherited() {
    needs(&[Root]);
    let bundle = Bundle::new()
        .remove("/hostname")
        .remove("/linux/maskedPaths");
    let bundle = bundle.without_namespace("network").without_namespace("ipc");
    let seen = bundle
        .without_namespace("uts")
        .without_namespace("pid")
        .run()
        .probe();
    for kind in ["pid", "net", "ipc", "uts"] {
        assert_eq!(seen["namespaces"][kind], own(kind), "{kind}");
    }
    assert_ne!(seen["pid"], 1);
}

fn namespaces_are_joined_by_path() {
    needs(&[Root]);
    let other = Holder::new(["--net", "--ipc", "--uts"]);
    let bundle = Bundle::new().remove("/hostname");
    let bundle = bundle.join_namespace("network", other.path("net"));
    let bundle = bundle.join_namespace("ipc", other.path("ipc"));
    let seen = bundle
        .join_namespace("uts", other.path("uts"))
        .run()
        .probe();
    for kind in ["net", "ipc", "uts"] {
        assert_eq!(seen["namespaces"][kind], other.link(kind), "{kind}");
    }
    assert_ne!(seen["namespaces"]["mnt"], other.link("mnt"));
}

fn user_namespace_is_joined_with_others() {
    needs(&[Root, UserNamespaces]);
    let first = Container::running(Bundle::new().user_namespace().probe("sleep"));
    let path = |kind| format!("/proc/{}/ns/{kind}", first.pid());
    let link = |kind| json!(fs::read_link(path(kind)).unwrap());
    let bundle = Bundle::new().remove("/hostname");
    bundle.chown_rootfs(100_000);
    let bundle = bundle.join_namespace("user", path("user"));
    let bundle = bundle
        .join_namespace("uts", path("uts"))
        .join_namespace("network", path("net"));
    let seen = bundle.join_namespace("ipc", path("ipc")).run().probe();
    for kind in ["user", "uts", "net", "ipc"] {
        assert_eq!(seen["namespaces"][kind], link(kind), "{kind}");
    }
    assert_eq!(seen["uid"], 0);
    assert_eq!(seen["uid_map"], json!([[0, 100_000, 65_536]]));
}

fn pid_namespace_is_joined() {
    needs(&[Root]);
    let first = Container::running(Bundle::new().probe("sleep"));
    let path = format!("/proc/{}/ns/pid", first.pid());
    let link = json!(fs::read_link(&path).unwrap());
    let seen = Bundle::new().join_namespace("pid", &path).run().probe();
    assert_eq!(seen["namespaces"]["pid"], link);
    assert_ne!(seen["pid"], 1);
    assert!(seen["processes"].as_array().unwrap().contains(&json!(1)));
}

fn user_namespace_maps_ids() {
    needs(&[Root, UserNamespaces]);
    let seen = Bundle::new()
        .user_namespace()
        .set("/process/user/gid", 7)
        .run()
        .probe();
    assert_eq!(seen["uid_map"], json!([[0, 100_000, 65_536]]));
    assert_eq!(seen["gid_map"], json!([[0, 100_000, 65_536]]));
    assert_eq!(seen["setgroups"], "allow");
    assert_eq!((&seen["uid"], &seen["gid"]), (&json!(0), &json!(7)));
    assert_ne!(seen["namespaces"]["user"], own("user"));
}

fn ids_that_are_not_mapped_are_named() {
    needs(&[Root, UserNamespaces]);
    for (user, words) in [
        (
            json!({ "uid": 70_000, "gid": 0 }),
            "setuid to unmapped uid 70000",
        ),
        (
            json!({ "uid": 0, "gid": 70_000 }),
            "setgid to unmapped gid 70000",
        ),
    ] {
        let bundle = Bundle::new().user_namespace().set("/process/user", user);
        let words = format!("cannot {words} in user namespace");
        // The streams are files, of which the user would become the owner.
        Container::new(bundle).create().exits(1).says(&words);
    }
}

fn message_queues_are_of_the_root_of_the_user_namespace() {
    needs(&[Root, UserNamespaces]);
    let bundle = Bundle::new().user_namespace();
    let queues = bundle.probe("stat /dev/mqueue").run().ok().answer();
    assert_eq!((&queues["uid"], &queues["gid"]), (&json!(0), &json!(0)));
}

fn user_namespace_holds_every_other_new_one() {
    needs(&[Root, UserNamespaces]);
    // The container can change them only if its user namespace owns its namespaces.
    let bundle = Bundle::new()
        .user_namespace()
        .capabilities(["CAP_SYS_ADMIN"]);
    let output = bundle
        .probe("hostname inside; mount none /mnt tmpfs")
        .run()
        .ok();
    assert_eq!(
        output.answers(),
        [json!({ "ok": true }), json!({ "ok": true })]
    );
}

fn hostname_is_set() {
    needs(&[Root]);
    assert_eq!(
        Bundle::new().set("/hostname", "box").run().probe()["hostname"],
        "box"
    );
}

fn domainname_is_set() {
    needs(&[Root, Teu]);
    let seen = Bundle::new()
        .set("/domainname", "example.org")
        .run()
        .probe();
    assert_eq!(seen["domainname"], "example.org");
}

fn hostname_needs_its_namespace() {
    needs(&[Root]);
    let output = Bundle::new().without_namespace("uts").run();
    output
        .exits(1)
        .says("unable to set hostname without a private UTS namespace");
}

fn loopback_is_up_in_a_new_network() {
    needs(&[Root]);
    let network = Bundle::new().run().probe()["network"].clone();
    assert_eq!(
        network.as_object().unwrap().keys().collect::<Vec<_>>(),
        ["lo"]
    );
    assert!(
        network["lo"]["flags"]
            .as_array()
            .unwrap()
            .contains(&json!("IFF_UP")),
        "{network}"
    );
    assert!(
        network["lo"]["addresses"].to_string().contains("127.0.0.1"),
        "{network}"
    );
}

fn time_offsets_shift_the_clocks() {
    needs(&[Root, TimeNamespaces, Teu]);
    let offsets = json!({ "boottime": { "secs": 100_000 }, "monotonic": { "secs": 200_000 } });
    let bundle = Bundle::new()
        .namespace("time")
        .set("/linux/timeOffsets", offsets);
    let seen = bundle.run().probe();
    let here = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC)
        .unwrap()
        .tv_sec();
    let shift = seen["clocks"]["monotonic"].as_i64().unwrap() - here;
    assert!(
        (199_990..=200_010).contains(&shift),
        "monotonic shifted by {shift}"
    );
    assert_ne!(seen["namespaces"]["time"], own("time"));
}

fn sysctl_is_set_in_the_containers_namespace() {
    needs(&[Root]);
    let sysctl = json!({ "net.ipv4.ip_forward": "1", "kernel.shmmni": "512" });
    let bundle = Bundle::new().set("/linux/sysctl", sysctl);
    let modes = "read /proc/sys/net/ipv4/ip_forward; read /proc/sys/kernel/shmmni";
    let output = bundle.probe(modes).run().ok();
    assert_eq!(
        output.answers(),
        [json!({ "ok": "1\n" }), json!({ "ok": "512\n" })]
    );
}

fn sysctl_of_the_host_is_refused() {
    needs(&[Root]);
    let refused = |bundle: Bundle, key: &str| {
        bundle
            .set("/linux/sysctl", json!({ key: "1" }))
            .run()
            .exits(1)
            .says(key);
    };
    refused(Bundle::new(), "kernel.panic");
    refused(Bundle::new(), "vm.swappiness");
    refused(
        Bundle::new().without_namespace("network"),
        "net.ipv4.ip_forward",
    );
    refused(Bundle::new().without_namespace("ipc"), "kernel.shmmni");
}

fn cgroup_namespace_hides_the_path() {
    needs(&[Root]);
    let seen = Bundle::new().namespace("cgroup").run().probe();
    let memberships = seen["cgroup"]["memberships"].as_array().unwrap();
    assert!(!memberships.is_empty());
    for line in memberships {
        // In hierarchies that the runtime does not use, the process has the caller's path.
        assert!(!line.as_str().unwrap().contains(&marker()), "{line}");
    }
}

fn path_that_is_no_namespace_is_refused() {
    needs(&[Root]);
    let file = scratch().join("plain");
    fs::write(&file, "").unwrap();
    assert_eq!(
        Bundle::new().join_namespace("network", file).run().code(),
        1
    );
    // A namespace of another kind.
    assert_eq!(
        Bundle::new()
            .join_namespace("network", "/proc/self/ns/uts")
            .run()
            .code(),
        1
    );
}

/// No process has the fifo open, so opening it must not block.
fn fifo_is_no_namespace() {
    needs(&[Root, Teu]);
    let fifo = scratch().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRUSR).unwrap();
    let container = Container::new(Bundle::new().join_namespace("network", fifo));
    let run = container.command("run", NO_FLAGS);
    let output = run.within(Duration::from_secs(5)).output();
    output.exits(1).says("it is not a namespace");
    assert!(!container.has_state());
}

fn missing_namespace_path_is_refused() {
    needs(&[Root]);
    let output = Bundle::new()
        .join_namespace("network", "/run/netns/nowhere")
        .run();
    output.exits(1).says("/run/netns/nowhere");
}

fn duplicate_namespace_is_refused() {
    needs(&[Root]);
    let output = Bundle::new()
        .push("/linux/namespaces", json!({ "type": "ipc" }))
        .run();
    output.exits(1).says("malformed spec file: duplicated ns");
}

fn unknown_namespace_is_refused() {
    needs(&[Root]);
    Bundle::new()
        .namespace("weather")
        .run()
        .exits(1)
        .says("weather");
}

fn mappings_without_a_user_namespace_are_ignored() {
    needs(&[Root]);
    let bundle = Bundle::new().user_namespace().without_namespace("user");
    let seen = bundle.run().probe();
    assert_eq!(seen["namespaces"]["user"], own("user"));
    assert_eq!(seen["uid"], 0);
}
