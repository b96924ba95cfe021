//! Decides the five capability sets of the process (capabilities(7)): turns names into
//! bits, and leaves out capabilities that the process cannot have.

use anyhow::{Result, bail};
use oci_spec::runtime::{Capabilities, LinuxCapabilities};

use crate::capability_set::CapabilitySet;
use crate::prelude::*;

/// The five sets. A set may have capabilities of a newer kernel, for which teu has no name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CapabilitiesPlan {
    pub bounding: CapabilitySet,
    /// The capabilities to drop from the bounding set with which the process starts.
    pub dropped: CapabilitySet,
    pub effective: CapabilitySet,
    pub inheritable: CapabilitySet,
    pub permitted: CapabilitySet,
    pub ambient: CapabilitySet,
    /// Capabilities that stay effective and permitted until the last steps, which need
    /// them.
    pub kept: CapabilitySet,
}

impl CapabilitiesPlan {
    /// Reads the sets of `process.capabilities`. Capabilities that are not in `available`
    /// are left out, with one warning, as the specification wants it (config.md, "Linux
    /// Process").
    ///
    /// # Errors
    /// Returns an error if a capability is in the effective but not in the permitted set.
    pub fn new(
        wanted: Option<&LinuxCapabilities>,
        available: CapabilitySet,
    ) -> Result<CapabilitiesPlan> {
        let (plan, ignored) = CapabilitiesPlan::of_available(wanted, available);
        if !ignored.is_empty() {
            log::warn!(
                "ignoring unknown or unavailable capabilities: [{}]",
                ignored.join(" ")
            );
        }
        // Check this here, because capset(2) would only return "operation not permitted".
        if let Some(name) = names(plan.effective - plan.permitted).next() {
            bail!("process.capabilities.effective: {name} is not in permitted");
        }
        Ok(plan)
    }

    /// Returns the sets, and the names that were left out, sorted and each once.
    fn of_available(
        wanted: Option<&LinuxCapabilities>,
        available: CapabilitySet,
    ) -> (CapabilitiesPlan, Vec<String>) {
        let mut ignored = Vec::new();
        let mut set = |set: fn(&LinuxCapabilities) -> &Option<Capabilities>| {
            let listed = wanted.into_iter().flat_map(set).flatten();
            let mut set = CapabilitySet::empty();
            for name in listed.map(ToString::to_string) {
                match CapabilitySet::from_name(&name) {
                    Some(capability) if available.contains(capability) => set |= capability,
                    _ => ignored.push(format!("CAP_{name}")),
                }
            }
            set
        };
        let bounding = set(LinuxCapabilities::bounding);
        let plan = CapabilitiesPlan {
            bounding,
            dropped: available - bounding,
            effective: set(LinuxCapabilities::effective),
            inheritable: set(LinuxCapabilities::inheritable),
            permitted: set(LinuxCapabilities::permitted),
            ambient: set(LinuxCapabilities::ambient),
            kept: CapabilitySet::empty(),
        };
        ignored.sort_unstable();
        ignored.dedup();
        (plan, ignored)
    }
}

/// Returns the names of the capabilities in `set`. A capability without a name is left out.
pub fn names(set: CapabilitySet) -> impl Iterator<Item = String> {
    set.iter_names().map(|(name, _)| format!("CAP_{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The kernel has a capability for which teu has no name.
    const ALL: CapabilitySet = CapabilitySet::from_bits_retain((1 << 42) - 1);

    #[test]
    fn names_are_those_of_the_kernel() {
        for (name, number) in [
            ("CAP_CHOWN", 0),
            ("CAP_NET_RAW", 13),
            ("CAP_SETFCAP", 31),
            ("CAP_CHECKPOINT_RESTORE", 40),
        ] {
            let capability = CapabilitySet::from_bits_retain(1 << number);
            assert_eq!(names(capability).collect::<Vec<_>>(), [name]);
        }
        assert_eq!(names(ALL).count(), 41);
    }

    #[test]
    fn sets_keep_to_themselves() {
        let wanted: LinuxCapabilities = crate::testing::read(
            r#"{"bounding":["CAP_CHOWN","CAP_KILL"],"effective":["CAP_KILL"],"permitted":["CAP_KILL"]}"#,
        );
        let plan = CapabilitiesPlan::new(Some(&wanted), ALL).expect("plan");
        let expected = CapabilitiesPlan {
            bounding: CapabilitySet::CHOWN | CapabilitySet::KILL,
            dropped: ALL - CapabilitySet::CHOWN - CapabilitySet::KILL,
            effective: CapabilitySet::KILL,
            permitted: CapabilitySet::KILL,
            ..CapabilitiesPlan::default()
        };
        assert_eq!(plan, expected);
    }

    #[test]
    fn what_cannot_be_had_is_named_once() {
        let wanted: LinuxCapabilities = crate::testing::read(
            r#"{"bounding":["CAP_BPF","CAP_SYS_ADMIN","CAP_CHOWN"],"permitted":["CAP_SYS_ADMIN","CAP_CHOWN"]}"#,
        );
        let chown = CapabilitySet::CHOWN;
        let (plan, ignored) = CapabilitiesPlan::of_available(Some(&wanted), chown);
        assert_eq!((plan.bounding, plan.permitted), (chown, chown));
        assert_eq!(ignored, ["CAP_BPF", "CAP_SYS_ADMIN"]);
    }

    #[test]
    fn effective_needs_permitted() {
        let wanted: LinuxCapabilities = crate::testing::read(r#"{"effective":["CAP_BPF"]}"#);
        let error = CapabilitiesPlan::new(Some(&wanted), ALL).expect_err("refused");
        assert!(
            error.to_string().contains("CAP_BPF is not in permitted"),
            "{error}"
        );
    }
}
