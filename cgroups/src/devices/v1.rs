//! Writes device rules to cgroup v1 (kernel, cgroup-v1/devices.rst). The kernel holds a
//! default and a set of exceptions, so it cannot express an exception from an exception.

use std::io::{self, Write};

use teu_cgroups_types::{Access, DeviceKind};

use crate::devices::{Entry, Rules};
use crate::directory::Directory;
use crate::error::{Error, Result};

const FIELD: &str = "devices";
const LIST: &str = "devices.list";
const ALLOW: &str = "devices.allow";
const DENY: &str = "devices.deny";

/// Changes the cgroup's list to `rules`. A request that is allowed before and after is allowed
/// at every moment, unless the default has to change.
pub(crate) fn apply(directory: &Directory, rules: &Rules) -> Result<()> {
    change(directory, None, rules)
}

/// Changes the cgroup's list from the rules `old`. They are needed if everything is allowed by
/// default, because the kernel then does not show the exceptions.
pub(crate) fn change(directory: &Directory, old: Option<&Rules>, rules: &Rules) -> Result<()> {
    check(rules)?;
    let now = directory.read_or_error(LIST)?;
    let old = old.filter(|old| old.default_allow && check(old).is_ok());
    let writes = match old.filter(|_| rules.default_allow && allows_by_default(&now)) {
        Some(old) => exceptions(&old.entries, &rules.entries, DENY, ALLOW),
        None => writes(&now, rules),
    };
    for same_file in writes.chunk_by(|one, next| one.0 == next.0) {
        let file = same_file[0].0;
        let failed = |value: &str, cause| refused(directory, file, value, cause);
        let opened = directory.open_for_writing(file);
        let mut opened = opened.map_err(|cause| failed(&same_file[0].1, cause))?;
        for (_, value) in same_file {
            let written = opened.write_all(value.as_bytes());
            written.map_err(|cause| failed(value, cause))?;
        }
    }
    Ok(())
}

/// Restores `rules` after a failed change. A write that fails does not stop the others,
/// because devices that they deny must not stay allowed.
pub(crate) fn restore(directory: &Directory, rules: &Rules) -> Result<()> {
    check(rules)?;
    let writes = writes(&directory.read_or_error(LIST)?, rules);
    let written = writes.iter().map(|(file, value)| {
        let written = directory.write(file, value);
        written.map_err(|cause| refused(directory, file, value, cause))
    });
    written.fold(Ok(()), Result::and)
}

fn refused(directory: &Directory, file: &str, value: &str, cause: io::Error) -> Error {
    Error::Limit {
        field: FIELD.into(),
        value: value.to_owned(),
        path: directory.path.join(file),
        cause,
    }
}

/// Returns whether the default has to change. While it changes, there is a moment without
/// exceptions.
pub(crate) fn changes_default(directory: &Directory, rules: &Rules) -> Result<bool> {
    let now = directory.read_or_error(LIST)?;
    Ok(allows_by_default(&now) != rules.default_allow)
}

fn allows_by_default(list: &str) -> bool {
    list.lines().any(|line| line.starts_with('a'))
}

/// Refuses rules that cgroup v1 cannot express: every entry has to be an exception from the
/// default.
pub(crate) fn check(rules: &Rules) -> Result<()> {
    let is_hole = |entry: &&Entry| entry.allow == rules.default_allow;
    let Some(hole) = rules.entries.iter().find(is_hole) else {
        return Ok(());
    };
    let mut others = rules
        .entries
        .iter()
        .filter(|entry| entry.allow != hole.allow);
    let wider = others.find(|entry| entry.meets(hole));
    let verb = |allow| if allow { "allow" } else { "deny" };
    let wider = wider.map(|wider| format!(" from {:?}", format!("{} {wider}", verb(wider.allow))));
    let hole = format!("{} {hole}", verb(hole.allow));
    let reason = format!(
        "cgroup v1 cannot except {hole:?}{}; cgroup v2 can",
        wider.unwrap_or_default()
    );
    Err(Error::refused(FIELD, reason))
}

/// Returns the writes that change the list `now`, as the kernel shows it, to `rules`. Each
/// write has one line, because the kernel ignores further lines.
fn writes(now: &str, rules: &Rules) -> Vec<(&'static str, String)> {
    let everything = "a *:* rwm";
    let allows_now = allows_by_default(now);
    if rules.default_allow {
        // The kernel does not show denied exceptions, so all of them are written.
        let denied = rules.entries.iter().map(|entry| (DENY, entry.to_string()));
        return std::iter::once((ALLOW, everything.to_owned()))
            .chain(denied)
            .collect();
    }
    if allows_now {
        let allowed = rules.entries.iter().map(|entry| (ALLOW, entry.to_string()));
        return std::iter::once((DENY, everything.to_owned()))
            .chain(allowed)
            .collect();
    }
    let present: Vec<Entry> = now.lines().filter_map(parse).collect();
    exceptions(&present, &rules.entries, ALLOW, DENY)
}

/// Returns the writes from one set of exceptions to another. They add new exceptions before
/// they remove old ones, so that an exception of both sets is never missing.
fn exceptions(
    old: &[Entry],
    new: &[Entry],
    add: &'static str,
    remove: &'static str,
) -> Vec<(&'static str, String)> {
    let mut writes = Vec::new();
    let mut difference = |file, entries: &[Entry], others: &[Entry]| {
        for entry in entries {
            let same = others.iter().find(|other| same_device(other, entry));
            let rest = entry.access.bits() & !same.map_or(0, |same| same.access.bits());
            writes.extend(with_access(entry, rest).map(|rest| (file, rest.to_string())));
        }
    };
    difference(add, new, old);
    difference(remove, old, new);
    writes
}

fn same_device(one: &Entry, other: &Entry) -> bool {
    (one.kind, one.major, one.minor) == (other.kind, other.major, other.minor)
}

fn with_access(entry: &Entry, bits: u8) -> Option<Entry> {
    Access::from_bits(bits).map(|access| Entry { access, ..*entry })
}

/// Parses a line of devices.list, such as "c 1:3 rwm".
fn parse(line: &str) -> Option<Entry> {
    let mut words = line.split_whitespace();
    let kind = match words.next()? {
        "b" => DeviceKind::Block,
        "c" => DeviceKind::Character,
        _ => return None,
    };
    let (major, minor) = words.next()?.split_once(':')?;
    let number = |text: &str| match text {
        "*" => Some(None),
        _ => text.parse().ok().map(Some),
    };
    Some(Entry {
        allow: true,
        kind,
        major: number(major)?,
        minor: number(minor)?,
        access: Access::from_letters(words.next()?)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::rules::tests::rules;

    fn lines(now: &str, list: &[&str]) -> Vec<String> {
        let writes = writes(now, &rules(list));
        writes
            .iter()
            .map(|(file, value)| format!("{}={value}", &file[8..]))
            .collect()
    }

    #[test]
    fn table() {
        let table: [(&str, &[&str], &[&str]); 5] = [
            ("a *:* rwm", &["deny a"], &["deny=a *:* rwm"]),
            (
                "a *:* rwm",
                &["deny a", "allow c 1:3 rw"],
                &["deny=a *:* rwm", "allow=c 1:3 rw"],
            ),
            (
                "a *:* rwm",
                &["allow a", "deny b 8:* w"],
                &["allow=a *:* rwm", "deny=b 8:* w"],
            ),
            (
                "c 1:3 rwm\nc 1:5 r\nb 8:0 r",
                &[
                    "allow c 1:3 rw",
                    "allow c 1:5 rw",
                    "allow c *:* m",
                    "allow b 8:0 r",
                ],
                &["allow=c 1:5 w", "allow=c *:* m", "deny=c 1:3 m"],
            ),
            ("c 1:3 rw", &["allow c 1:3 rw"], &[]),
        ];
        for (now, list, expected) in table {
            assert_eq!(lines(now, list), expected, "{now:?} {list:?}");
        }
    }

    #[test]
    fn known_denials_are_compared() {
        let (old, new) = (
            rules(&["allow a", "deny b 8:0 rw"]),
            rules(&["allow a", "deny b 8:0 r", "deny c 1:3 w"]),
        );
        let writes = exceptions(&old.entries, &new.entries, DENY, ALLOW);
        assert_eq!(
            writes,
            [(DENY, "c 1:3 w".to_owned()), (ALLOW, "b 8:0 w".to_owned())]
        );
    }

    #[test]
    fn holes_are_refused() {
        let error = check(&rules(&["deny a", "allow c 195:* rwm", "deny c 195:0 rw"]));
        assert_eq!(
            error.unwrap_err().to_string(),
            "devices: cgroup v1 cannot except \"deny c 195:0 rw\" \
             from \"allow c 195:* rwm\"; cgroup v2 can"
        );
        check(&rules(&["deny a", "allow c 195:* rwm", "deny c 195:* w"])).unwrap();
        check(&rules(&["allow a", "deny c 195:* rwm"])).unwrap();
    }
}
