//! Decides which network devices of the host move to the container (config-linux.md,
//! "Network Devices").

use alloc::collections::BTreeMap;

use anyhow::{Result, bail};
use teu_namespaces_types::{Kind, NamespacePlan};

use oci_spec::runtime::LinuxNetDevice;

use crate::prelude::*;

/// The length of the longest name of a network device (`IFNAMSIZ` is 16, with the NUL).
const LONGEST_NAME: usize = 15;

/// A network device to move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetDevice {
    /// The name in the host's network namespace.
    pub host_name: String,
    /// The name in the container's network namespace. The kernel replaces `%d` by the first
    /// number that makes the name unique.
    pub name: String,
}

/// Decides about `linux.netDevices`. The result is in the order of the names.
///
/// # Errors
/// Returns an error if the container has no network namespace of its own, if the caller
/// lacks the privilege, or if a name is not valid for a network device.
pub fn plan(
    devices: &BTreeMap<&str, &LinuxNetDevice>,
    namespaces: &NamespacePlan,
    unprivileged: bool,
) -> Result<Vec<NetDevice>> {
    if devices.is_empty() {
        return Ok(Vec::new());
    }
    if !namespaces.is_private(Kind::Network) {
        bail!("unable to move network devices without a NET namespace");
    }
    if unprivileged {
        bail!("network devices are not supported for rootless containers");
    }
    let mut plan: Vec<NetDevice> = Vec::with_capacity(devices.len());
    for (&host_name, device) in devices {
        let name = match device.name().as_deref() {
            None | Some("") => host_name,
            Some(name) => name,
        };
        for name in [host_name, name] {
            if !is_valid(name) {
                bail!("invalid network device name {name:?}");
            }
        }
        if !name.contains('%') && plan.iter().any(|other| other.name == name) {
            bail!("linux.netDevices: two devices are to be called {name:?}");
        }
        plan.push(NetDevice {
            host_name: host_name.to_owned(),
            name: name.to_owned(),
        });
    }
    Ok(plan)
}

/// Returns whether the kernel accepts the name (`dev_valid_name`).
fn is_valid(name: &str) -> bool {
    !matches!(name, "" | "." | "..")
        && name.len() <= LONGEST_NAME
        && !name.contains(|letter: char| matches!(letter, '/' | ':') || letter.is_whitespace())
}

#[cfg(test)]
mod tests {
    use super::*;
    use teu_namespaces_types::Namespace;

    fn devices<'a>(list: &[(&'a str, &str)]) -> BTreeMap<&'a str, LinuxNetDevice> {
        let device = |&(from, to): &(&'a str, &str)| {
            let mut device = LinuxNetDevice::default();
            device.set_name(Some(to.to_owned()));
            (from, device)
        };
        list.iter().map(device).collect()
    }

    fn plan(
        devices: &BTreeMap<&str, LinuxNetDevice>,
        namespaces: &NamespacePlan,
        unprivileged: bool,
    ) -> Result<Vec<NetDevice>> {
        let devices = devices.iter().map(|(name, device)| (*name, device));
        super::plan(&devices.collect(), namespaces, unprivileged)
    }

    fn with_network() -> NamespacePlan {
        let mut namespaces = NamespacePlan::default();
        namespaces.set(Kind::Network, Namespace::New);
        namespaces
    }

    #[test]
    fn names() {
        let list = devices(&[("eth0", ""), ("ens3", "net%d"), ("ens4", "net%d")]);
        let plan = plan(&list, &with_network(), false).expect("plan");
        let pairs: Vec<_> = plan.iter().map(|it| (&*it.host_name, &*it.name)).collect();
        assert_eq!(
            pairs,
            [("ens3", "net%d"), ("ens4", "net%d"), ("eth0", "eth0")]
        );
    }

    #[test]
    fn what_is_refused() {
        for (list, namespaces, unprivileged, words) in [
            (
                devices(&[("eth0", "")]),
                NamespacePlan::default(),
                false,
                "unable to move network devices without a NET namespace",
            ),
            (
                devices(&[("eth0", "")]),
                with_network(),
                true,
                "network devices are not supported for rootless containers",
            ),
            (
                devices(&[("a234567890123456", "")]),
                with_network(),
                false,
                r#"invalid network device name "a234567890123456""#,
            ),
            (
                devices(&[("eth0", "a/b")]),
                with_network(),
                false,
                r#"invalid network device name "a/b""#,
            ),
            (
                devices(&[("", "")]),
                with_network(),
                false,
                r#"invalid network device name """#,
            ),
            (
                devices(&[("a", "x"), ("b", "x")]),
                with_network(),
                false,
                r#"linux.netDevices: two devices are to be called "x""#,
            ),
        ] {
            let error = plan(&list, &namespaces, unprivileged).expect_err(words);
            assert_eq!(error.to_string(), words);
        }
        plan(&devices(&[]), &NamespacePlan::default(), true).expect("none is always fine");
        plan(&devices(&[("a23456789012345", "")]), &with_network(), false).expect("15 letters");
    }
}
