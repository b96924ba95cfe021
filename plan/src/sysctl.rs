//! Checks the kernel parameters (sysctls) of the container: a parameter may be set only if
//! it belongs to one of the container's own namespaces. `init/sysctl.rs` sets them.

use alloc::collections::BTreeMap;

use anyhow::{Result, bail};
use teu_namespaces_types::{Kind, Namespace, NamespacePlan};

use crate::prelude::*;

/// The parameters of the IPC namespace, except for those of `fs.mqueue`.
const IPC: [&str; 8] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
];

/// A kernel parameter to set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sysctl {
    /// The name, as config.json spells it.
    pub key: String,
    /// The path below `/proc/sys`, such as `net/ipv4/ip_forward`.
    pub path: String,
    pub value: String,
}

/// Decides about `linux.sysctl`. The result is in the order of the names.
///
/// `joins_own_network` says that the network namespace to join is the caller's own.
///
/// # Errors
/// Returns an error, in runc's words, if a parameter does not belong to a namespace of the
/// container.
pub fn plan(
    sysctl: &BTreeMap<&str, &String>,
    namespaces: &NamespacePlan,
    joins_own_network: bool,
) -> Result<Vec<Sysctl>> {
    let host_network = match namespaces.get(Kind::Network) {
        Namespace::Inherited => true,
        Namespace::New => false,
        Namespace::Joined(_) => joins_own_network,
    };
    let mut settings = Vec::with_capacity(sysctl.len());
    for (key, value) in sysctl {
        let name = dotted(key);
        check(&name, namespaces, host_network)?;
        let path = path(&name);
        // Without this check, a name that consists of dots could lead out of /proc/sys.
        if path.split('/').any(|part| matches!(part, "" | "." | "..")) {
            bail!("sysctl {key:?} is not a valid name");
        }
        settings.push(Sysctl {
            key: (*key).to_owned(),
            path,
            value: (*value).clone(),
        });
    }
    Ok(settings)
}

/// Returns whether a key belongs to the network namespace.
pub fn concern_network<'a>(mut keys: impl Iterator<Item = &'a String>) -> bool {
    keys.any(|key| dotted(key).starts_with("net."))
}

/// Refuses a parameter that does not belong to a namespace of the container's own.
fn check(name: &str, namespaces: &NamespacePlan, host_network: bool) -> Result<()> {
    let private = |kind| namespaces.is_private(kind);
    if IPC.contains(&name) || name.starts_with("fs.mqueue.") {
        if !private(Kind::Ipc) {
            bail!("sysctl {name:?} is not allowed in the hosts ipc namespace");
        }
    } else if name.starts_with("net.") {
        if host_network {
            bail!("sysctl {name:?} not allowed in host network namespace");
        }
    } else if name == "kernel.domainname" && private(Kind::Uts) {
    } else if name == "kernel.hostname" && private(Kind::Uts) {
        bail!("sysctl {name:?} is not allowed as it conflicts with the OCI \"hostname\" field");
    } else if name.starts_with("user.") {
        if !private(Kind::User) {
            bail!("setting ucounts without a user namespace not allowed: {name}");
        }
    } else {
        bail!("sysctl {name:?} is not in a separate kernel namespace");
    }
    Ok(())
}

/// Writes a name with `.` between its parts and `/` for a dot within a part, as sysctl(8)
/// does: `net/ipv4/conf/eth0.1/x` becomes `net.ipv4.conf.eth0/1.x`, and
/// `net.ipv4.conf.eth0/1.x` stays as it is. The first separator of a name says in which of
/// the two ways it is written.
fn dotted(key: &str) -> String {
    match key.find(['.', '/']) {
        Some(at) if key[at..].starts_with('/') => swapped(key),
        _ => key.to_owned(),
    }
}

/// Returns the path below /proc/sys of a name that [`dotted`] returned:
/// `net.ipv4.conf.eth0/1.x` is at `net/ipv4/conf/eth0.1/x`.
fn path(name: &str) -> String {
    swapped(name)
}

fn swapped(text: &str) -> String {
    let swap = |letter| match letter {
        '.' => '/',
        '/' => '.',
        other => other,
    };
    text.chars().map(swap).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn namespaces(kinds: &[Kind]) -> NamespacePlan {
        let mut plan = NamespacePlan::default();
        for kind in kinds {
            plan.set(*kind, Namespace::New);
        }
        plan
    }

    fn one(key: &str, kinds: &[Kind]) -> Result<Sysctl> {
        let value = "1".to_owned();
        let sysctl = BTreeMap::from([(key, &value)]);
        Ok(plan(&sysctl, &namespaces(kinds), false)?.remove(0))
    }

    #[test]
    fn files_of_names() {
        let all = [Kind::Network, Kind::Ipc, Kind::Uts, Kind::User];
        for (key, path) in [
            ("net.ipv4.ip_forward", "net/ipv4/ip_forward"),
            ("net/ipv4/ip_forward", "net/ipv4/ip_forward"),
            (
                "net.ipv4.conf.eno2/100.rp_filter",
                "net/ipv4/conf/eno2.100/rp_filter",
            ),
            (
                "net/ipv4/conf/eno2.100/rp_filter",
                "net/ipv4/conf/eno2.100/rp_filter",
            ),
            ("kernel.shmmax", "kernel/shmmax"),
            ("fs.mqueue.msg_max", "fs/mqueue/msg_max"),
            ("kernel.domainname", "kernel/domainname"),
            ("user.max_user_namespaces", "user/max_user_namespaces"),
        ] {
            assert_eq!(one(key, &all).expect(key).path, path, "{key}");
        }
    }

    #[test]
    fn what_is_not_the_containers_own() {
        for (key, kinds, words) in [
            (
                "kernel.sem",
                &[Kind::Network][..],
                r#"sysctl "kernel.sem" is not allowed in the hosts ipc namespace"#,
            ),
            (
                "fs/mqueue/msg_max",
                &[],
                r#"sysctl "fs.mqueue.msg_max" is not allowed in the hosts ipc namespace"#,
            ),
            (
                "net.core.somaxconn",
                &[Kind::Ipc],
                r#"sysctl "net.core.somaxconn" not allowed in host network namespace"#,
            ),
            (
                "kernel.hostname",
                &[Kind::Uts],
                r#"sysctl "kernel.hostname" is not allowed as it conflicts with the OCI "hostname" field"#,
            ),
            (
                "kernel.hostname",
                &[],
                r#"sysctl "kernel.hostname" is not in a separate kernel namespace"#,
            ),
            (
                "kernel.domainname",
                &[],
                r#"sysctl "kernel.domainname" is not in a separate kernel namespace"#,
            ),
            (
                "user.max_user_namespaces",
                &[],
                "setting ucounts without a user namespace not allowed: user.max_user_namespaces",
            ),
            (
                "vm.swappiness",
                &[Kind::Ipc, Kind::User],
                r#"sysctl "vm.swappiness" is not in a separate kernel namespace"#,
            ),
            (
                "",
                &[],
                r#"sysctl "" is not in a separate kernel namespace"#,
            ),
            (
                "net.//.kernel.x",
                &[Kind::Network],
                r#"sysctl "net.//.kernel.x" is not a valid name"#,
            ),
            (
                "net..x",
                &[Kind::Network],
                r#"sysctl "net..x" is not a valid name"#,
            ),
        ] {
            assert_eq!(one(key, kinds).expect_err(key).to_string(), words);
        }
    }

    #[test]
    fn joining_our_own_network_is_not_leaving_it() {
        let value = "1".to_owned();
        let sysctl = BTreeMap::from([("net.core.somaxconn", &value)]);
        let mut namespaces = NamespacePlan::default();
        namespaces.set(Kind::Network, Namespace::Joined("/a/network".into()));
        let error = plan(&sysctl, &namespaces, true).expect_err("our own");
        assert_eq!(
            error.to_string(),
            r#"sysctl "net.core.somaxconn" not allowed in host network namespace"#
        );
        plan(&sysctl, &namespaces, false).expect("plan");
    }
}
