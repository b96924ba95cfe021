//! Device rules on cgroup v1 (kernel, cgroup-v1/devices.rst): a default and a
//! set of exceptions from it, so rules with a hole in them cannot be said.

use std::io::Write;

use crate::devices::{Access, DeviceKind, Entry, Rules};
use crate::error::{Error, Result};
use crate::file::Directory;

const FIELD: &str = "linux.resources.devices";
const ALLOW: &str = "devices.allow";
const DENY: &str = "devices.deny";

/// Makes the cgroup's list say what `rules` say, with as few moments of another
/// truth as the interface permits: entries are taken away before others are
/// added, and the default is touched only if it has to change.
pub(crate) fn apply(directory: &Directory, rules: &Rules) -> Result<()> {
    check(rules)?;
    let now = directory.read_or_error("devices.list")?;
    let writes = writes(&now, rules);
    for same_file in writes.chunk_by(|one, next| one.0 == next.0) {
        let file = same_file[0].0;
        let failed = |value: &str, cause| Error::Limit {
            field: FIELD.into(),
            value: value.to_owned(),
            path: directory.path.join(file),
            cause,
        };
        let opened = directory.open_for_writing(file);
        let mut opened = opened.map_err(|cause| failed(&same_file[0].1, cause))?;
        for (_, value) in same_file {
            let written = opened.write_all(value.as_bytes());
            written.map_err(|cause| failed(value, cause))?;
        }
    }
    Ok(())
}

/// Every entry has to be an exception from the default.
fn check(rules: &Rules) -> Result<()> {
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

/// The writes from the list as the kernel shows it to the list that is wanted.
/// One line per write: the kernel reads no further.
fn writes(now: &str, rules: &Rules) -> Vec<(&'static str, String)> {
    let everything = "a *:* rwm";
    let allows_now = now.lines().any(|line| line.starts_with('a'));
    let mut writes = Vec::new();
    if rules.default_allow {
        // Denied exceptions are not shown, so there is nothing to compare with.
        writes.push((ALLOW, everything.to_owned()));
        writes.extend(rules.entries.iter().map(|entry| (DENY, entry.to_string())));
        return writes;
    }
    let present: Vec<Entry> = match allows_now {
        true => Vec::new(),
        false => now.lines().filter_map(parse).collect(),
    };
    if allows_now {
        writes.push((DENY, everything.to_owned()));
    }
    for entry in &present {
        let kept = |wanted: &&Entry| same_device(wanted, entry);
        let kept = rules
            .entries
            .iter()
            .find(kept)
            .map_or(0, |wanted| wanted.access.bits());
        let lost = entry.access.bits() & !kept;
        writes.extend(with_access(entry, lost).map(|lost| (DENY, lost.to_string())));
    }
    for entry in &rules.entries {
        let there = |present: &&Entry| same_device(present, entry);
        let there = present
            .iter()
            .find(there)
            .map_or(0, |present| present.access.bits());
        let gained = entry.access.bits() & !there;
        writes.extend(with_access(entry, gained).map(|gained| (ALLOW, gained.to_string())));
    }
    writes
}

fn same_device(one: &Entry, other: &Entry) -> bool {
    (one.kind, one.major, one.minor) == (other.kind, other.major, other.minor)
}

fn with_access(entry: &Entry, bits: u8) -> Option<Entry> {
    Access::from_bits(bits).map(|access| Entry { access, ..*entry })
}

/// A line of devices.list, as "c 1:3 rwm".
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
                &["deny=c 1:3 m", "allow=c 1:5 w", "allow=c *:* m"],
            ),
            ("c 1:3 rw", &["allow c 1:3 rw"], &[]),
        ];
        for (now, list, expected) in table {
            assert_eq!(lines(now, list), expected, "{now:?} {list:?}");
        }
    }

    #[test]
    fn holes_are_refused() {
        let error = check(&rules(&["deny a", "allow c 195:* rwm", "deny c 195:0 rw"]));
        assert_eq!(
            error.unwrap_err().to_string(),
            "linux.resources.devices: cgroup v1 cannot except \"deny c 195:0 rw\" \
             from \"allow c 195:* rwm\"; cgroup v2 can"
        );
        check(&rules(&["deny a", "allow c 195:* rwm", "deny c 195:* w"])).unwrap();
        check(&rules(&["allow a", "deny c 195:* rwm"])).unwrap();
    }
}
