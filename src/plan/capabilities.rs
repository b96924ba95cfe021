//! The five capability sets of the process (capabilities(7)), from names to
//! bits.

use anyhow::{Result, bail};

use crate::log;
use crate::spec;

/// The names of the capabilities, each at its number in
/// `linux/capability.h`. New ones are only ever added at the end.
pub(crate) const NAMES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// Those that teu asks about by itself, as bits.
pub(crate) const SYS_ADMIN: u64 = 1 << 21;
pub(crate) const SYS_NICE: u64 = 1 << 23;

/// The five sets, bit `n` being capability `n`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct CapabilitiesPlan {
    pub(crate) bounding: u64,
    /// What has to leave the bounding set that the process begins with.
    pub(crate) dropped: u64,
    pub(crate) effective: u64,
    pub(crate) inheritable: u64,
    pub(crate) permitted: u64,
    pub(crate) ambient: u64,
    /// Effective and permitted, too, until the last steps that need them.
    pub(crate) kept: u64,
}

impl CapabilitiesPlan {
    /// The sets of `process.capabilities`, of which only those in `available`
    /// can be had. The others are left out with one warning, as the
    /// specification asks (config.md, "Linux Process").
    ///
    /// # Errors
    /// A capability is to be effective without being permitted.
    pub(crate) fn new(wanted: &spec::Capabilities, available: u64) -> Result<CapabilitiesPlan> {
        let (plan, ignored) = CapabilitiesPlan::of_available(wanted, available);
        if !ignored.is_empty() {
            log::warn(&format!(
                "ignoring unknown or unavailable capabilities: [{}]",
                ignored.join(" ")
            ));
        }
        // capset(2) would say no more than "operation not permitted".
        if let Some(name) = names(plan.effective & !plan.permitted).next() {
            bail!("process.capabilities.effective: {name} is not in permitted");
        }
        Ok(plan)
    }

    /// The sets, and the names left out, in order and each once.
    fn of_available<'a>(
        wanted: &'a spec::Capabilities,
        available: u64,
    ) -> (CapabilitiesPlan, Vec<&'a str>) {
        let mut ignored = Vec::new();
        let mut set = |names: &'a [String]| {
            let mut set = 0;
            for name in names {
                match number(name).map(|number| 1 << number) {
                    Some(bit) if available & bit != 0 => set |= bit,
                    _ => ignored.push(name.as_str()),
                }
            }
            set
        };
        let bounding = set(&wanted.bounding);
        let plan = CapabilitiesPlan {
            bounding,
            dropped: available & !bounding,
            effective: set(&wanted.effective),
            inheritable: set(&wanted.inheritable),
            permitted: set(&wanted.permitted),
            ambient: set(&wanted.ambient),
            kept: 0,
        };
        ignored.sort_unstable();
        ignored.dedup();
        (plan, ignored)
    }
}

/// The number of the capability called `name`.
pub(crate) fn number(name: &str) -> Option<usize> {
    NAMES.iter().position(|known| *known == name)
}

/// The names of the capabilities in `set`.
pub(crate) fn names(set: u64) -> impl Iterator<Item = &'static str> {
    let in_set = move |(number, _): &(usize, &&str)| set & (1 << number) != 0;
    NAMES
        .iter()
        .enumerate()
        .filter(in_set)
        .map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: u64 = (1 << NAMES.len()) - 1;

    fn list(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn names_are_at_the_kernels_numbers() {
        for (name, expected) in [
            ("CAP_CHOWN", 0),
            ("CAP_NET_RAW", 13),
            ("CAP_SYS_ADMIN", 21),
            ("CAP_SYS_RESOURCE", 24),
            ("CAP_SETFCAP", 31),
            ("CAP_SYSLOG", 34),
            ("CAP_CHECKPOINT_RESTORE", 40),
        ] {
            assert_eq!(number(name), Some(expected), "{name}");
        }
        let named: Vec<_> = names(SYS_ADMIN | SYS_NICE).collect();
        assert_eq!(named, ["CAP_SYS_ADMIN", "CAP_SYS_NICE"]);
        assert_eq!(
            names(1 << 21 | 1).collect::<Vec<_>>(),
            ["CAP_CHOWN", "CAP_SYS_ADMIN"]
        );
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
            bounding: 0b10_0001,
            dropped: ALL & !0b10_0001,
            effective: 0b10_0000,
            permitted: 0b10_0000,
            ..Default::default()
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
        let (plan, ignored) = CapabilitiesPlan::of_available(&wanted, 1);
        assert_eq!((plan.bounding, plan.permitted), (1, 1));
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
