//! Moves network devices of the host into a container. The parent does this, because it
//! has the privilege in both network namespaces. Not for the messages: see
//! `netlink.rs`.

use std::fs::File;
use std::os::fd::AsFd;

use anyhow::{Context, Result, bail};
use rustix::io::Errno;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use teu_plan::net_devices::NetDevice;

use crate::parent::netlink::Netlink;

/// Moves the devices into the network namespace of the process `pid` and switches them
/// on there. They keep their hardware address, MTU and permanent addresses. The runtime
/// never moves a device back: when the namespace ends, the kernel does so for hardware
/// devices.
///
/// # Errors
/// A device does not exist, its name is taken, or the kernel refuses a change.
pub(crate) fn move_into(devices: &[NetDevice], pid: i32) -> Result<()> {
    if devices.is_empty() {
        return Ok(());
    }
    let path = format!("/proc/{pid}/ns/net");
    let namespace = File::open(&path).with_context(|| format!("open {path:?}"))?;
    let here = Netlink::open()?;
    let there = netlink_in(&namespace)?;
    for device in devices {
        let context = || {
            format!(
                "move network device {:?} as {:?}",
                device.host_name, device.name
            )
        };
        move_device(device, &here, &there, &namespace).with_context(context)?;
    }
    Ok(())
}

fn move_device(
    device: &NetDevice,
    here: &Netlink,
    there: &Netlink,
    namespace: &File,
) -> Result<()> {
    let index = here.index(&device.host_name)?;
    // Check the name now, because the kernel would refuse it only after the move.
    let name = free_name(&device.name, there)?;
    // Read the addresses before the device is switched off, because the kernel then
    // drops its IPv6 addresses.
    let addresses = here
        .lasting_addresses(index)
        .context("read its addresses")?;
    here.set_up(index, false).context("switch it off")?;
    here.move_to(index, namespace.as_fd(), &name)?;
    // The index may have changed.
    let index = there.index(&name)?;
    for address in &addresses {
        there
            .add_address(index, address)
            .context("give it back its addresses")?;
    }
    there.set_up(index, true).context("switch it on")
}

/// Returns the name that a device gets in another network namespace. `%d` becomes the
/// first number for which no device there has the name.
fn free_name(template: &str, there: &Netlink) -> Result<String> {
    let mut number = 0;
    loop {
        let name = template.replacen("%d", &number.to_string(), 1);
        match there.index(&name) {
            Err(err) if err.downcast_ref() == Some(&Errno::NODEV) => return Ok(name),
            Err(err) => return Err(err),
            Ok(_) if name == template => {
                bail!("the container has a device of that name: file exists")
            }
            Ok(_) => number += 1,
        }
    }
}

/// Opens a socket in another network namespace. A socket stays in the namespace in
/// which it was opened, so this process enters the namespace for one system call only.
fn netlink_in(namespace: &File) -> Result<Netlink> {
    let own = File::open("/proc/self/ns/net").context("open our own network namespace")?;
    let network = Some(LinkNameSpaceType::Network);
    move_into_link_name_space(namespace.as_fd(), network)
        .context("enter the container's network namespace")?;
    let netlink = Netlink::open();
    move_into_link_name_space(own.as_fd(), network)
        .context("return to our own network namespace")?;
    netlink
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use nix::sched::{CloneFlags, unshare};
    use std::process::{Child, Command};

    fn ip(arguments: &str) -> String {
        let output = Command::new("ip")
            .args(arguments.split(' '))
            .output()
            .expect("ip");
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "ip {arguments}: {error}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// A process in a new network namespace.
    struct Container(Child);

    impl Container {
        fn new() -> Container {
            let child = Command::new("unshare")
                .args(["--net", "sleep", "60"])
                .spawn();
            let container = Container(child.expect("unshare"));
            let own = std::fs::read_link("/proc/self/ns/net").expect("own");
            let path = format!("/proc/{}/ns/net", container.0.id());
            while std::fs::read_link(&path).expect("its") == own {
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            container
        }

        fn pid(&self) -> i32 {
            self.0.id().cast_signed()
        }

        fn ip(&self, arguments: &str) -> String {
            let pid = self.pid().to_string();
            let output = Command::new("nsenter")
                .args(["-t", &pid, "-n", "ip"])
                .args(arguments.split(' '))
                .output()
                .expect("nsenter");
            String::from_utf8_lossy(&output.stdout).into_owned()
        }
    }

    impl Drop for Container {
        fn drop(&mut self) {
            self.0.kill().expect("kill");
            self.0.wait().expect("wait");
        }
    }

    fn device(host_name: &str, name: &str) -> NetDevice {
        NetDevice {
            host_name: host_name.into(),
            name: name.into(),
        }
    }

    /// Runs `body` with two devices, `one` and `two`, in a new network namespace.
    fn in_own_network(body: impl FnOnce(&Container)) {
        testing::in_child(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("unshare");
            ip("link add one type veth peer name two");
            body(&Container::new());
        });
    }

    #[test]
    fn a_device_keeps_what_it_has() {
        in_own_network(|container| {
            ip("link set one mtu 1400 address 02:11:22:33:44:55 up");
            ip("addr add 192.0.2.1/24 brd 192.0.2.255 dev one");
            ip("addr add 198.51.100.1 peer 198.51.100.2/32 dev one");
            ip("addr add 2001:db8::1/64 dev one nodad");
            ip("addr add 169.254.3.4/16 scope link dev one");
            move_into(&[device("one", "eth7")], container.pid()).expect("move");
            assert!(!ip("link").contains(" one@"));
            let seen = container.ip("addr show dev eth7");
            for expected in [
                "mtu 1400",
                "02:11:22:33:44:55",
                "inet 192.0.2.1/24 brd 192.0.2.255 scope global",
                "inet 198.51.100.1 peer 198.51.100.2/32 scope global",
                "inet6 2001:db8::1/64 scope global",
                ",UP",
            ] {
                assert!(seen.contains(expected), "{expected}: {seen}");
            }
            assert!(!seen.contains("169.254.3.4"), "{seen}");
            assert!(seen.contains("nodad"), "{seen}");
        });
    }

    #[test]
    fn a_name_that_is_taken_stops_it_before_the_move() {
        in_own_network(|container| {
            let error = move_into(&[device("one", "lo")], container.pid()).expect_err("taken");
            assert_eq!(
                testing::words(&error),
                r#"move network device "one" as "lo": the container has a device of that name: file exists"#
            );
            assert!(ip("link").contains(" one@"));
        });
    }

    #[test]
    fn a_template_finds_a_free_name() {
        in_own_network(|container| {
            ip("link add three type veth peer name four");
            ip("addr add 192.0.2.1/24 dev three");
            let devices = [device("one", "eth%d"), device("three", "eth%d")];
            move_into(&devices, container.pid()).expect("move");
            let seen = container.ip("addr");
            assert!(seen.contains("eth0") && seen.contains("eth1"), "{seen}");
            assert!(
                container.ip("addr show dev eth1").contains("192.0.2.1/24"),
                "{seen}"
            );
        });
    }

    #[test]
    fn a_device_that_is_not_there() {
        in_own_network(|container| {
            let error = move_into(&[device("x", "x")], container.pid()).expect_err("missing");
            assert_eq!(
                testing::words(&error),
                r#"move network device "x" as "x": no such device"#
            );
            let own = std::fs::read_link("/proc/self/ns/net").expect("own");
            netlink_in(&File::open(format!("/proc/{}/ns/net", container.pid())).expect("open"))
                .expect("there and back");
            assert_eq!(std::fs::read_link("/proc/self/ns/net").expect("own"), own);
        });
    }
}
