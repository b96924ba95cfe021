//! The specification's list of device rules and its meaning.
//!
//! A request has a device and access bits. The last rule that decides the request wins; if
//! no rule decides it, it is denied. An allow rule decides only if it has *all* requested
//! bits, a deny rule if it has *any* of them. The kernel of cgroup v1 behaves so. The v2
//! programs of other runtimes allow O_RDWR despite a denied write.
//!
//! [`Rules`] is the list in its shortest form, from which `v1` and `bpf` make the kernel's
//! form.

use std::fmt;

use teu_cgroups_types::{Access, DeviceKind, DeviceRule};

/// Returns whether the rules allow the access to a device.
pub fn are_allowing(
    list: &[DeviceRule],
    kind: DeviceKind,
    (major, minor): (u32, u32),
    access: Access,
) -> bool {
    Rules::new(list).decide(kind, major, minor, access)
}

/// A rule for one kind of device. `Display` writes it as the kernel's v1 interface does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) allow: bool,
    pub(crate) kind: DeviceKind,
    pub(crate) major: Option<u32>,
    pub(crate) minor: Option<u32>,
    pub(crate) access: Access,
}

impl fmt::Display for Entry {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            DeviceKind::Block => 'b',
            DeviceKind::Character => 'c',
        };
        let number = |number: Option<u32>| number.map_or("*".into(), |number| number.to_string());
        write!(
            formatter,
            "{kind} {}:{} {}",
            number(self.major),
            number(self.minor),
            self.access
        )
    }
}

impl Entry {
    /// Returns whether the entry covers every device of `other`.
    fn contains(&self, other: &Entry) -> bool {
        let covers = |ours: Option<u32>, theirs| ours.is_none() || ours == theirs;
        self.kind == other.kind
            && covers(self.major, other.major)
            && covers(self.minor, other.minor)
    }

    /// Returns whether both entries cover a common device.
    pub(crate) fn meets(&self, other: &Entry) -> bool {
        let meet = |ours: Option<u32>, theirs: Option<u32>| {
            ours.is_none() || theirs.is_none() || ours == theirs
        };
        self.kind == other.kind && meet(self.major, other.major) && meet(self.minor, other.minor)
    }

    fn same_devices(&self, other: &Entry) -> bool {
        self.contains(other) && other.contains(self)
    }
}

/// A list of rules in its shortest form: overridden and redundant rules are removed, and rules
/// for the same devices are joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rules {
    /// Whether requests that no entry decides are allowed.
    pub(crate) default_allow: bool,
    /// The entries in order. The last entry that decides a request wins.
    pub(crate) entries: Vec<Entry>,
}

impl Rules {
    pub(crate) fn new(list: &[DeviceRule]) -> Rules {
        let mut rules = Rules {
            default_allow: false,
            entries: Vec::new(),
        };
        for rule in list {
            rules.push(rule);
        }
        rules
    }

    /// Returns whether every request is allowed.
    pub(crate) fn allow_everything(&self) -> bool {
        self.default_allow && self.entries.is_empty()
    }

    fn push(&mut self, rule: &DeviceRule) {
        let DeviceRule {
            allow,
            kind,
            major,
            minor,
            access,
        } = *rule;
        if kind.is_none() && major.is_none() && minor.is_none() && access.is_all() {
            *self = Rules {
                default_allow: allow,
                entries: Vec::new(),
            };
            return;
        }
        let kinds = match kind {
            Some(kind) => vec![kind],
            None => vec![DeviceKind::Block, DeviceKind::Character],
        };
        for kind in kinds {
            self.push_entry(Entry {
                allow,
                kind,
                major,
                minor,
                access,
            });
        }
    }

    fn push_entry(&mut self, new: Entry) {
        for entry in self.entries.iter_mut().filter(|entry| new.contains(entry)) {
            // An older entry with the same verdict is kept unless it is covered whole,
            // because it may be the only one that covers a request by itself.
            if entry.allow != new.allow || entry.access.without(new.access).is_empty() {
                entry.access = entry.access.without(new.access);
            }
        }
        self.entries.retain(|entry| !entry.access.is_empty());
        // Join two entries for the same devices. A denying entry that stands between the two
        // still takes precedence.
        let mut said = None;
        for (position, entry) in self.entries.iter_mut().enumerate() {
            if entry.allow == new.allow && entry.same_devices(&new) {
                entry.access = entry.access.with(new.access);
                said = Some(position);
            }
        }
        let says_otherwise = |entry: &Entry| {
            entry.allow != new.allow && entry.meets(&new) && entry.access.overlaps(new.access)
        };
        let is_new = said.is_none() && new.allow != self.default_allow;
        if is_new || self.entries[said.unwrap_or(0)..].iter().any(says_otherwise) {
            self.entries.push(new);
        }
    }

    /// Decides a request. Programs and v1 lists are tested against this function.
    pub(crate) fn decide(&self, kind: DeviceKind, major: u32, minor: u32, access: Access) -> bool {
        let device = Entry {
            allow: true,
            kind,
            major: Some(major),
            minor: Some(minor),
            access,
        };
        let decides = |entry: &&Entry| {
            entry.contains(&device)
                && match entry.allow {
                    true => access.without(entry.access).is_empty(),
                    false => entry.access.overlaps(access),
                }
        };
        let last = self.entries.iter().rev().find(decides);
        last.map_or(self.default_allow, |entry| entry.allow)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Parses a rule such as "allow c 1:3 rw" or "deny a".
    pub(crate) fn rule(text: &str) -> DeviceRule {
        let words: Vec<&str> = text.split(' ').collect();
        let number = |text: &str| text.parse().ok();
        let mut rule = DeviceRule {
            allow: words[0] == "allow",
            kind: match words[1] {
                "b" => Some(DeviceKind::Block),
                "c" => Some(DeviceKind::Character),
                _ => None,
            },
            major: None,
            minor: None,
            access: Access::ALL,
        };
        if let Some((major, minor)) = words.get(2).and_then(|word| word.split_once(':')) {
            rule.major = number(major);
            rule.minor = number(minor);
            rule.access = Access::from_letters(words[3]).unwrap();
        }
        rule
    }

    pub(crate) fn rules(list: &[&str]) -> Rules {
        Rules::new(&list.iter().map(|text| rule(text)).collect::<Vec<_>>())
    }

    fn access(bits: u8) -> Access {
        Access::from_bits(bits).unwrap()
    }

    /// Makes a random list from a fixed seed, with overlaps of every kind.
    pub(crate) fn random_list(seed: u64) -> Vec<DeviceRule> {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut next = |bound: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 33) % bound
        };
        let number = |value: u64| u32::try_from(value).ok().filter(|&value| value != 0);
        (0..next(9))
            .map(|_| DeviceRule {
                allow: next(2) == 0,
                kind: [None, Some(DeviceKind::Block), Some(DeviceKind::Character)]
                    [usize::try_from(next(3)).unwrap()],
                major: number(next(3)),
                minor: number(next(3)),
                access: access(u8::try_from(next(7) + 1).unwrap()),
            })
            .collect()
    }

    /// Returns all requests that lists of `random_list` can distinguish.
    pub(crate) fn requests() -> Vec<(DeviceKind, u32, u32, Access)> {
        let mut all = Vec::new();
        for kind in [DeviceKind::Block, DeviceKind::Character] {
            for major in 1..=3 {
                for minor in 1..=3 {
                    all.extend((1..=7).map(|bits| (kind, major, minor, access(bits))));
                }
            }
        }
        all
    }

    #[test]
    fn shortest_forms() {
        let table: [(&[&str], bool, &[&str]); 9] = [
            (&[], false, &[]),
            (
                &["deny a", "allow c 1:3 r", "allow c 1:3 w"],
                false,
                &["c 1:3 rw"],
            ),
            (&["allow c 1:3 rwm", "deny c 1:3 w"], false, &["c 1:3 rm"]),
            (&["allow c 1:3 rwm", "deny c 1:* rwm"], false, &[]),
            (&["allow c 1:3 rwm", "allow a"], true, &[]),
            (&["allow a", "deny c 1:3 w", "allow c 1:3 w"], true, &[]),
            (&["allow a", "deny a 7:* w"], true, &["b 7:* w", "c 7:* w"]),
            (
                &["allow c 1:3 r", "deny c 5:0 r", "allow c 1:3 w"],
                false,
                &["c 1:3 rw"],
            ),
            // A hole in an allowed range, which only v2 can express.
            (
                &["allow c 1:* rwm", "deny c 1:3 w"],
                false,
                &["c 1:* rwm", "c 1:3 w"],
            ),
        ];
        for (list, default_allow, entries) in table {
            let rules = rules(list);
            assert_eq!(rules.default_allow, default_allow, "{list:?}");
            let texts: Vec<String> = rules.entries.iter().map(Entry::to_string).collect();
            assert_eq!(texts, entries, "{list:?}");
        }
    }

    #[test]
    fn decisions() {
        let character = DeviceKind::Character;
        let access = |letters| Access::from_letters(letters).unwrap();
        // (list, access asked of c 1:3, answer)
        let table: [(&[&str], &str, bool); 14] = [
            (&[], "r", false),
            (&["allow a"], "rwm", true),
            (&["allow a", "deny c 1:3 w"], "rw", false),
            (&["allow a", "deny c 1:3 w"], "r", true),
            (&["allow c 1:3 r"], "rw", false),
            (&["allow c 1:* r", "allow c *:3 w"], "rw", false),
            (&["allow c 1:* rwm", "deny c 1:3 w"], "rw", false),
            (&["allow c 1:* rwm", "deny c 1:3 w"], "r", true),
            (&["allow c 1:* rw", "allow c 1:3 r"], "rw", true),
            (&["allow c 1:3 rw", "allow c 1:* r"], "rw", true),
            (&["allow c 1:* r", "allow c 1:* w"], "rw", true),
            // The deny rule is about *:4, not about 1:3.
            (
                &["allow c 1:* w", "deny c *:4 rw", "allow c 1:* r"],
                "rw",
                true,
            ),
            (
                &["allow c 1:* w", "deny c *:3 rw", "allow c 1:* r"],
                "rw",
                false,
            ),
            (
                &["allow c 1:* w", "deny c *:3 rw", "allow c 1:* r"],
                "r",
                true,
            ),
        ];
        for (list, letters, answer) in table {
            let asked = access(letters);
            assert_eq!(
                rules(list).decide(character, 1, 3, asked),
                answer,
                "{list:?} {letters}"
            );
        }
    }

    /// A request of one bit is decided by the last rule that names the bit.
    #[test]
    fn single_bits_follow_the_last_rule_that_names_them() {
        for seed in 0..2000 {
            let list = random_list(seed);
            let rules = Rules::new(&list);
            for (kind, major, minor, asked) in requests() {
                let fits = |rule: &&DeviceRule| {
                    rule.kind.is_none_or(|one| one == kind)
                        && rule.major.is_none_or(|one| one == major)
                        && rule.minor.is_none_or(|one| one == minor)
                };
                let bit = |bit: u8| {
                    let names = |rule: &&DeviceRule| rule.access.bits() & bit != 0 && fits(rule);
                    list.iter().rev().find(names).is_some_and(|rule| rule.allow)
                };
                let each = [1, 2, 4]
                    .iter()
                    .all(|&one| asked.bits() & one == 0 || bit(one));
                let answer = rules.decide(kind, major, minor, asked);
                assert!(!answer || each, "{list:?} {kind:?} {major}:{minor} {asked}");
                if asked.bits().count_ones() == 1 {
                    assert_eq!(answer, each, "{list:?} {kind:?} {major}:{minor} {asked}");
                }
            }
        }
    }
}
