//! The five capability sets of the process (capabilities(7)), from names to
//! bits.

use anyhow::{Result, bail};
use rustix::thread::CapabilitySet;

use crate::spec;

/// The five sets. One may have capabilities of a newer kernel, which no name here
/// is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CapabilitiesPlan {
    pub(crate) bounding: CapabilitySet,
    /// What has to leave the bounding set that the process begins with.
    pub(crate) dropped: CapabilitySet,
    pub(crate) effective: CapabilitySet,
    pub(crate) inheritable: CapabilitySet,
    pub(crate) permitted: CapabilitySet,
    pub(crate) ambient: CapabilitySet,
    /// Effective and permitted, too, until the last steps that need them.
    pub(crate) kept: CapabilitySet,
}

impl CapabilitiesPlan {
    /// All sets are empty, and nothing is dropped for it.
    #[cfg(test)]
    pub(crate) const EMPTY: CapabilitiesPlan = CapabilitiesPlan {
        bounding: CapabilitySet::empty(),
        dropped: CapabilitySet::empty(),
        effective: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        ambient: CapabilitySet::empty(),
        kept: CapabilitySet::empty(),
    };

    /// The sets of `process.capabilities`, of which only those in `available`
    /// can be had. The others are left out with one warning, as the
    /// specification asks (config.md, "Linux Process").
    ///
    /// # Errors
    /// A capability is to be effective without being permitted.
    pub(crate) fn new(
        wanted: &spec::Capabilities,
        available: CapabilitySet,
    ) -> Result<CapabilitiesPlan> {
        let (plan, ignored) = CapabilitiesPlan::of_available(wanted, available);
        if !ignored.is_empty() {
            log::warn!(
                "ignoring unknown or unavailable capabilities: [{}]",
                ignored.join(" ")
            );
        }
        // capset(2) would say no more than "operation not permitted".
        if let Some(name) = names(plan.effective - plan.permitted).next() {
            bail!("process.capabilities.effective: {name} is not in permitted");
        }
        Ok(plan)
    }

    /// The sets, and the names left out, in order and each once.
    fn of_available<'a>(
        wanted: &'a spec::Capabilities,
        available: CapabilitySet,
    ) -> (CapabilitiesPlan, Vec<&'a str>) {
        let mut ignored = Vec::new();
        let mut set = |names: &'a [String]| {
            let mut set = CapabilitySet::empty();
            for name in names {
                match named(name) {
                    Some(capability) if available.contains(capability) => set |= capability,
                    _ => ignored.push(name.as_str()),
                }
            }
            set
        };
        let bounding = set(&wanted.bounding);
        let plan = CapabilitiesPlan {
            bounding,
            dropped: available - bounding,
            effective: set(&wanted.effective),
            inheritable: set(&wanted.inheritable),
            permitted: set(&wanted.permitted),
            ambient: set(&wanted.ambient),
            kept: CapabilitySet::empty(),
        };
        ignored.sort_unstable();
        ignored.dedup();
        (plan, ignored)
    }
}

/// The capability called `name`.
fn named(name: &str) -> Option<CapabilitySet> {
    CapabilitySet::from_name(name.strip_prefix("CAP_")?)
}

/// The names of the capabilities in `set`, of those that have one.
pub(crate) fn names(set: CapabilitySet) -> impl Iterator<Item = String> {
    set.iter_names().map(|(name, _)| format!("CAP_{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With one that is newer than all names.
    const ALL: CapabilitySet = CapabilitySet::from_bits_retain((1 << 42) - 1);

    fn list(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn names_are_those_of_the_kernel() {
        for (name, number) in [
            ("CAP_CHOWN", 0),
            ("CAP_NET_RAW", 13),
            ("CAP_SETFCAP", 31),
            ("CAP_CHECKPOINT_RESTORE", 40),
        ] {
            let capability = CapabilitySet::from_bits_retain(1 << number);
            assert_eq!(named(name), Some(capability), "{name}");
            assert_eq!(names(capability).collect::<Vec<_>>(), [name]);
        }
        for name in ["CAP_", "CAP__", "CHOWN", "cap_chown", "CAP_CHOWN|CAP_KILL"] {
            assert_eq!(named(name), None, "{name}");
        }
        assert_eq!(names(ALL).count(), 41);
    }

    #[test]
    fn sets_keep_to_themselves() {
        let wanted = spec::Capabilities {
            bounding: list(&["CAP_CHOWN", "CAP_KILL"]),
            effective: list(&["CAP_KILL"]),
            permitted: list(&["CAP_KILL"]),
            ..Default::default()
        };
        let plan = CapabilitiesPlan::new(&wanted, ALL).expect("plan");
        let expected = CapabilitiesPlan {
            bounding: CapabilitySet::CHOWN | CapabilitySet::KILL,
            dropped: ALL - CapabilitySet::CHOWN - CapabilitySet::KILL,
            effective: CapabilitySet::KILL,
            permitted: CapabilitySet::KILL,
            ..CapabilitiesPlan::EMPTY
        };
        assert_eq!(plan, expected);
    }

    #[test]
    fn what_cannot_be_had_is_named_once() {
        let wanted = spec::Capabilities {
            bounding: list(&["CAP_WINK", "cap_chown", "CAP_SYS_ADMIN", "CAP_CHOWN"]),
            permitted: list(&["CAP_SYS_ADMIN", "CAP_CHOWN"]),
            ..Default::default()
        };
        let chown = CapabilitySet::CHOWN;
        let (plan, ignored) = CapabilitiesPlan::of_available(&wanted, chown);
        assert_eq!((plan.bounding, plan.permitted), (chown, chown));
        assert_eq!(ignored, ["CAP_SYS_ADMIN", "CAP_WINK", "cap_chown"]);
    }

    #[test]
    fn effective_needs_permitted() {
        let wanted = spec::Capabilities {
            effective: list(&["CAP_BPF"]),
            ..Default::default()
        };
        let error = CapabilitiesPlan::new(&wanted, ALL).expect_err("refused");
        assert!(
            error.to_string().contains("CAP_BPF is not in permitted"),
            "{error}"
        );
    }
}
