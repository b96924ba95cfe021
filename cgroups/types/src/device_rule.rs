//! Rules that tell which devices a container may use. What a list of rules means is decided
//! in `teu-cgroups`.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A device rule (runtime-spec, config-linux.md, "Allowed Device list").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRule {
    /// Whether the rule allows or denies.
    pub allow: bool,
    /// The kind of device; `None` stands for both kinds, "a" in the specification.
    pub kind: Option<DeviceKind>,
    /// The major number; `None` stands for every number.
    pub major: Option<u32>,
    /// The minor number; `None` stands for every number.
    pub minor: Option<u32>,
    /// The access bits that the rule allows or denies.
    pub access: Access,
}

/// The kinds of device that rules are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeviceKind {
    /// Block devices.
    Block,
    /// Character devices.
    Character,
}

/// A set of access bits. It is never empty in a valid rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Access(u8);

impl Access {
    /// Making a device node (BPF_DEVCG_ACC_MKNOD of linux/bpf.h).
    pub const MKNOD: Access = Access(1);
    /// Opening the device for reading (BPF_DEVCG_ACC_READ).
    pub const READ: Access = Access(2);
    /// Opening the device for writing (BPF_DEVCG_ACC_WRITE).
    pub const WRITE: Access = Access(4);
    /// All three.
    pub const ALL: Access = Access(7);

    /// Parses the specification's letters `r`, `w` and `m`. Returns `None` for an empty text
    /// and for other letters.
    pub fn from_letters(letters: &str) -> Option<Access> {
        let mut bits = 0;
        for letter in letters.chars() {
            bits |= match letter {
                'r' => Access::READ.0,
                'w' => Access::WRITE.0,
                'm' => Access::MKNOD.0,
                _ => return None,
            };
        }
        (bits != 0).then_some(Access(bits))
    }

    /// Makes a set from the kernel's bits. Returns `None` if no bit is set.
    pub fn from_bits(bits: u8) -> Option<Access> {
        let bits = bits & Access::ALL.0;
        (bits != 0).then_some(Access(bits))
    }

    /// Returns the kernel's bits of the set.
    pub fn bits(self) -> u8 {
        self.0
    }

    /// Returns whether both sets have a common bit.
    pub fn overlaps(self, other: Access) -> bool {
        self.0 & other.0 != 0
    }

    /// Returns the set without the bits of another.
    #[must_use]
    pub fn without(self, other: Access) -> Access {
        Access(self.0 & !other.0)
    }

    /// Returns the set with the bits of another.
    #[must_use]
    pub fn with(self, other: Access) -> Access {
        Access(self.0 | other.0)
    }

    /// Returns whether the set is empty.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns whether the set has all three bits.
    pub fn is_all(self) -> bool {
        self == Access::ALL
    }
}

impl fmt::Display for Access {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (bit, letter) in [
            (Access::READ, "r"),
            (Access::WRITE, "w"),
            (Access::MKNOD, "m"),
        ] {
            if self.overlaps(bit) {
                formatter.write_str(letter)?;
            }
        }
        Ok(())
    }
}

/// Returns the rules that every container has, which follow its own rules. They allow the
/// default devices of the specification and making any node. The list is runc's; 10:200 is
/// /dev/net/tun, which programs in containers have come to expect.
pub fn default_device_rules() -> Vec<DeviceRule> {
    use DeviceKind::{Block, Character};
    let allow = |kind, major, minor, access| DeviceRule {
        allow: true,
        kind: Some(kind),
        major,
        minor,
        access,
    };
    let mut rules = vec![
        allow(Character, None, None, Access::MKNOD),
        allow(Block, None, None, Access::MKNOD),
    ];
    let usual = [
        (1, 3),
        (1, 5),
        (1, 7),
        (1, 8),
        (1, 9),
        (5, 0),
        (5, 2),
        (10, 200),
    ];
    for (major, minor) in usual {
        rules.push(allow(Character, Some(major), Some(minor), Access::ALL));
    }
    rules.push(allow(Character, Some(136), None, Access::ALL));
    rules
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters() {
        assert_eq!(Access::from_letters("rwm"), Some(Access::ALL));
        let both = Access::from_letters("mr").unwrap();
        assert_eq!(both.to_string(), "rm");
        assert_eq!(Access::from_letters(""), None);
        assert_eq!(Access::from_letters("x"), None);
    }
}
