//! Network devices of the host that move into a container (`linux.netDevices`). More cases
//! are in the unit tests of `plan/src/net_devices.rs` and `src/parent/net_devices.rs`.

use std::fs;
use std::path::PathBuf;

use serde_json::json;

use crate::harness::*;
use crate::namespaces::Holder;

tests![network_device_arrives_in_a_joined_network];

fn network_device_arrives_in_a_joined_network() {
    needs(&[Root, UserNamespaces, Tool("ip"), Tool("strace")]);
    // In the second round, a middle process makes the container's process.
    let without_sys = Bundle::new().without_mount("/sys");
    let in_user_namespace = without_sys.without_mount("/sys/fs/cgroup").user_namespace();
    for bundle in [Bundle::new(), in_user_namespace] {
        let other = Holder::new(["--net"]);
        let bundle = bundle
            .join_namespace("network", other.path("net"))
            .set("/linux/netDevices", json!({ "one": { "name": "eth7" } }));
        let devices = Invocation::new("ip").args(["link", "add", "one", "type", "veth"]);
        devices.args(["peer", "name", "two"]).output().ok();
        // Delays init.
        let late = ["strace", "-fqo/dev/null", "--inject=setns:delay_enter=50ms"];
        let program = late.map(PathBuf::from).into_iter().chain([runtime()]);
        let run = Container::new(bundle).command("run", NO_FLAGS);
        let seen = run.with_program(program).output().probe();
        let flags = &seen["network"]["eth7"]["flags"];
        assert!(flags.to_string().contains("IFF_UP"), "{}", seen["network"]);
        let here = fs::read_to_string("/proc/thread-self/net/dev").unwrap();
        assert!(!here.contains("one") && !here.contains("eth7"), "{here}");
        // The other end of the pair goes with it when the namespace ends.
        drop(other);
        wait_until("the devices are gone", || {
            !fs::read_to_string("/proc/thread-self/net/dev")
                .unwrap()
                .contains("two")
        });
    }
}
