//! Reads the words in a mount's `options`.
//!
//! The words are those of mount(8) and of the specification (config.md, "Linux mount
//! options"), as runc knows them. One table has the meaning of each word:
//! `MountOptions::parse` uses it, and `teu features` prints its words. Any other word is an
//! option of the filesystem. Not for deciding about mounts: see `plan/src/mounts.rs`.

/// The meaning of a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    /// Sets flags of mount(2).
    Set(u64),
    /// Clears a flag of mount(2).
    Clear(u64),
    /// Changes the propagation of the mount once it is made.
    Propagation(u64),
    /// Sets an attribute of mount_setattr(2) on the mount and all below it.
    SetAll(u64),
    /// Clears an attribute of mount_setattr(2) on the mount and all below it.
    ClearAll(u64),
    /// Copies the directory that a tmpfs covers into the tmpfs.
    CopyUp,
    /// Maps the ids of the mount.
    MapIds(IdMapped),
    /// Has no effect: "defaults" means that no option is set. runc passes the word to the
    /// filesystem, which refuses it.
    Nothing,
}

use Meaning::{Clear, ClearAll, CopyUp, MapIds, Nothing, Propagation, Set, SetAll};

use crate::mount_flags::{
    MOUNT_ATTR__ATIME, MOUNT_ATTR_NOATIME, MOUNT_ATTR_NODEV, MOUNT_ATTR_NODIRATIME,
    MOUNT_ATTR_NOEXEC, MOUNT_ATTR_NOSUID, MOUNT_ATTR_NOSYMFOLLOW, MOUNT_ATTR_RDONLY,
    MOUNT_ATTR_RELATIME, MOUNT_ATTR_STRICTATIME, MS_BIND, MS_DIRSYNC, MS_I_VERSION, MS_LAZYTIME,
    MS_MANDLOCK, MS_NOATIME, MS_NODEV, MS_NODIRATIME, MS_NOEXEC, MS_NOSUID, MS_NOSYMFOLLOW,
    MS_PRIVATE, MS_RDONLY, MS_REC, MS_RELATIME, MS_REMOUNT, MS_SHARED, MS_SILENT, MS_SLAVE,
    MS_STRICTATIME, MS_SYNCHRONOUS, MS_UNBINDABLE,
};
use crate::prelude::*;

/// All words, in alphabetical order. "acl" and "noacl" are left to the filesystem although
/// mount(8) has them, because `MS_POSIXACL` is only for use in the kernel.
const TABLE: &[(&str, Meaning)] = &[
    ("async", Clear(MS_SYNCHRONOUS)),
    ("atime", Clear(MS_NOATIME)),
    ("bind", Set(MS_BIND)),
    ("defaults", Nothing),
    ("dev", Clear(MS_NODEV)),
    ("diratime", Clear(MS_NODIRATIME)),
    ("dirsync", Set(MS_DIRSYNC)),
    ("exec", Clear(MS_NOEXEC)),
    ("idmap", MapIds(IdMapped::Mount)),
    ("iversion", Set(MS_I_VERSION)),
    ("lazytime", Set(MS_LAZYTIME)),
    ("loud", Clear(MS_SILENT)),
    ("mand", Set(MS_MANDLOCK)),
    ("noatime", Set(MS_NOATIME)),
    ("nodev", Set(MS_NODEV)),
    ("nodiratime", Set(MS_NODIRATIME)),
    ("noexec", Set(MS_NOEXEC)),
    ("noiversion", Clear(MS_I_VERSION)),
    ("nolazytime", Clear(MS_LAZYTIME)),
    ("nomand", Clear(MS_MANDLOCK)),
    ("norelatime", Clear(MS_RELATIME)),
    ("nostrictatime", Clear(MS_STRICTATIME)),
    ("nosuid", Set(MS_NOSUID)),
    ("nosymfollow", Set(MS_NOSYMFOLLOW)),
    ("private", Propagation(MS_PRIVATE)),
    ("ratime", ClearAll(MOUNT_ATTR_NOATIME)),
    ("rbind", Set(MS_BIND | MS_REC)),
    ("rdev", ClearAll(MOUNT_ATTR_NODEV)),
    ("rdiratime", ClearAll(MOUNT_ATTR_NODIRATIME)),
    ("relatime", Set(MS_RELATIME)),
    ("remount", Set(MS_REMOUNT)),
    ("rexec", ClearAll(MOUNT_ATTR_NOEXEC)),
    ("ridmap", MapIds(IdMapped::Tree)),
    ("rnoatime", SetAll(MOUNT_ATTR_NOATIME)),
    ("rnodev", SetAll(MOUNT_ATTR_NODEV)),
    ("rnodiratime", SetAll(MOUNT_ATTR_NODIRATIME)),
    ("rnoexec", SetAll(MOUNT_ATTR_NOEXEC)),
    ("rnorelatime", ClearAll(MOUNT_ATTR_RELATIME)),
    ("rnostrictatime", ClearAll(MOUNT_ATTR_STRICTATIME)),
    ("rnosuid", SetAll(MOUNT_ATTR_NOSUID)),
    ("rnosymfollow", SetAll(MOUNT_ATTR_NOSYMFOLLOW)),
    ("ro", Set(MS_RDONLY)),
    ("rprivate", Propagation(MS_PRIVATE | MS_REC)),
    ("rrelatime", SetAll(MOUNT_ATTR_RELATIME)),
    ("rro", SetAll(MOUNT_ATTR_RDONLY)),
    ("rrw", ClearAll(MOUNT_ATTR_RDONLY)),
    ("rshared", Propagation(MS_SHARED | MS_REC)),
    ("rslave", Propagation(MS_SLAVE | MS_REC)),
    ("rstrictatime", SetAll(MOUNT_ATTR_STRICTATIME)),
    ("rsuid", ClearAll(MOUNT_ATTR_NOSUID)),
    ("rsymfollow", ClearAll(MOUNT_ATTR_NOSYMFOLLOW)),
    ("runbindable", Propagation(MS_UNBINDABLE | MS_REC)),
    ("rw", Clear(MS_RDONLY)),
    ("shared", Propagation(MS_SHARED)),
    ("silent", Set(MS_SILENT)),
    ("slave", Propagation(MS_SLAVE)),
    ("strictatime", Set(MS_STRICTATIME)),
    ("suid", Clear(MS_NOSUID)),
    ("symfollow", Clear(MS_NOSYMFOLLOW)),
    ("sync", Set(MS_SYNCHRONOUS)),
    ("tmpcopyup", CopyUp),
    ("unbindable", Propagation(MS_UNBINDABLE)),
];

/// The flags of mount(2) that are attributes of one mount, with the attributes of
/// mount_setattr(2). Access times are missing here, because they are one attribute with
/// several values.
const ATTRIBUTES: &[(u64, u64)] = &[
    (MS_RDONLY, MOUNT_ATTR_RDONLY),
    (MS_NOSUID, MOUNT_ATTR_NOSUID),
    (MS_NODEV, MOUNT_ATTR_NODEV),
    (MS_NOEXEC, MOUNT_ATTR_NOEXEC),
    (MS_NODIRATIME, MOUNT_ATTR_NODIRATIME),
    (MS_NOSYMFOLLOW, MOUNT_ATTR_NOSYMFOLLOW),
];

/// The flags of mount(2) that belong to the filesystem, and so to all its mounts, with
/// their words for fsconfig(2) (`FSCONFIG_SET_FLAG`). `MS_RDONLY` is a flag of the mount
/// and of the filesystem. `MS_SILENT` and `MS_I_VERSION` have no word there.
const FILESYSTEM_FLAGS: &[(u64, &str)] = &[
    (MS_RDONLY, "ro"),
    (MS_SYNCHRONOUS, "sync"),
    (MS_DIRSYNC, "dirsync"),
    (MS_MANDLOCK, "mand"),
    (MS_LAZYTIME, "lazytime"),
];

/// Returns all known words, in alphabetical order.
pub fn words() -> impl Iterator<Item = &'static str> {
    TABLE.iter().map(|(word, _)| *word)
}

/// The mounts that an id map applies to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdMapped {
    /// The mount itself: "idmap".
    Mount,
    /// The mount and all below it: "ridmap".
    Tree,
}

/// Attributes to change with mount_setattr(2): `attr_set` and `attr_clr`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attributes {
    /// The `MOUNT_ATTR_*` to set.
    pub set: u64,
    /// The `MOUNT_ATTR_*` to clear, before those of `set` are set.
    pub clear: u64,
}

impl Attributes {
    /// Returns whether there is nothing to change.
    pub fn is_empty(self) -> bool {
        self == Attributes::default()
    }

    fn set(&mut self, attribute: u64) {
        if is_access_time(attribute) {
            self.clear_access_time();
        } else {
            self.clear &= !attribute;
        }
        self.set |= attribute;
    }

    fn clear(&mut self, attribute: u64) {
        self.set &= !attribute;
        if is_access_time(attribute) {
            self.clear |= MOUNT_ATTR__ATIME;
        } else {
            self.clear |= attribute;
        }
    }

    /// Removes any choice of access times. They are one attribute with several values: to
    /// choose one, the kernel requires that the whole attribute is cleared
    /// (mount_setattr(2)).
    fn clear_access_time(&mut self) {
        self.set &= !MOUNT_ATTR__ATIME;
        self.clear |= MOUNT_ATTR__ATIME;
    }
}

/// Returns whether the attribute is a value of the access time. `MOUNT_ATTR_RELATIME` is 0.
fn is_access_time(attribute: u64) -> bool {
    attribute & !MOUNT_ATTR__ATIME == 0
}

/// The parsed options of a mount.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MountOptions {
    /// The `MS_*` flags to set, including those for a bind and a remount. Of words that
    /// contradict each other, the last one counts.
    pub set: u64,
    /// The `MS_*` flags that a word clears and no later word sets. For a bind mount, a
    /// cleared flag differs from a flag that is not mentioned: if the kernel does not let
    /// teu clear the flag, only the former is an error.
    pub cleared: u64,
    /// The propagation changes to apply one after the other: each is `MS_SHARED`,
    /// `MS_SLAVE`, `MS_PRIVATE` or `MS_UNBINDABLE`, with or without `MS_REC`. There may be
    /// several, because a mount can be slave and shared.
    pub propagation: Vec<u64>,
    /// The attributes to change on the mount and on all mounts below it.
    pub recursive: Attributes,
    /// Whether a tmpfs starts with a copy of the directory that it covers.
    pub copy_up: bool,
    /// The scope in which ids are mapped, if a word asks for it.
    pub id_mapped: Option<IdMapped>,
    /// The filesystem's own options, in their order.
    pub data: Vec<String>,
}

impl MountOptions {
    /// Parses the words of a mount's `options`. Never fails: a word that is not in the
    /// table is an option of the filesystem, which accepts or refuses it.
    pub fn parse(options: &[String]) -> MountOptions {
        let mut parsed = MountOptions::default();
        for word in options {
            match TABLE.binary_search_by_key(&word.as_str(), |(word, _)| word) {
                Ok(at) => parsed.apply(TABLE[at].1),
                Err(_) => parsed.data.push(word.clone()),
            }
        }
        parsed
    }

    fn apply(&mut self, meaning: Meaning) {
        match meaning {
            Set(flags) => {
                self.set |= flags;
                self.cleared &= !flags;
            }
            Clear(flag) => {
                self.set &= !flag;
                self.cleared |= flag;
            }
            Propagation(flags) => self.propagation.push(flags),
            SetAll(attribute) => self.recursive.set(attribute),
            ClearAll(attribute) => self.recursive.clear(attribute),
            CopyUp => self.copy_up = true,
            MapIds(reach) => self.id_mapped = Some(reach),
            Nothing => {}
        }
    }

    /// Returns whether the options ask for a bind mount. The type of the mount does not
    /// matter here.
    pub fn is_bind(&self) -> bool {
        self.set & MS_BIND != 0
    }

    /// Returns whether a bind mount includes the mounts below its source.
    pub fn is_recursive(&self) -> bool {
        self.set & MS_REC != 0
    }
}

/// The flags of mount(2) for access times.
pub const ACCESS_TIME: u64 = MS_NOATIME | MS_NODIRATIME | MS_RELATIME | MS_STRICTATIME;

impl Attributes {
    /// Returns the attributes that give a mount exactly `flags` of mount(2). The mode of
    /// access times changes only if `flags` has one, as in a remount.
    pub fn exactly(flags: u64) -> Attributes {
        let set = attributes_of(flags);
        let all = ATTRIBUTES
            .iter()
            .fold(0, |all, (_, attribute)| all | attribute);
        let mut clear = all & !MOUNT_ATTR_NODIRATIME & !set;
        if flags & ACCESS_TIME != 0 {
            clear |= MOUNT_ATTR__ATIME | (MOUNT_ATTR_NODIRATIME & !set);
        }
        Attributes { set, clear }
    }
}

/// Returns `flags` of mount(2) as attributes for fsmount(2).
pub fn attributes_of(flags: u64) -> u64 {
    let has = |flag: &u64| flags & flag != 0;
    let bits = ATTRIBUTES.iter().filter(|(flag, _)| has(flag));
    let set = bits.fold(0, |set, (_, attribute)| set | attribute);
    // If several modes are set, the strictest one wins, as in the kernel (path_mount).
    if has(&MS_STRICTATIME) {
        set | MOUNT_ATTR_STRICTATIME
    } else if has(&MS_NOATIME) {
        set | MOUNT_ATTR_NOATIME
    } else {
        set
    }
}

/// Returns the flags of the filesystem among `flags` of mount(2), as words for fsconfig(2).
pub fn filesystem_words(flags: u64) -> impl Iterator<Item = &'static str> {
    FILESYSTEM_FLAGS
        .iter()
        .filter(move |(flag, _)| flags & flag != 0)
        .map(|(_, word)| *word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(options: &str) -> MountOptions {
        let words: Vec<String> = options.split_whitespace().map(str::to_owned).collect();
        MountOptions::parse(&words)
    }

    fn attributes(set: u64, clear: u64) -> Attributes {
        Attributes { set, clear }
    }

    #[test]
    fn the_table_is_sorted() {
        assert!(words().is_sorted_by(|a, b| a < b));
    }

    /// mount_setattr(2) sets an attribute recursively, mount(2) sets it on one mount: the
    /// words differ by the letter "r".
    #[test]
    fn a_recursive_word_has_a_plain_one() {
        let is_recursive = |meaning: &Meaning| matches!(meaning, SetAll(_) | ClearAll(_));
        let recursive = TABLE.iter().filter(|(_, meaning)| is_recursive(meaning));
        for (word, meaning) in recursive {
            let plain = word.strip_prefix('r').expect(word);
            let found = TABLE.iter().find(|(word, _)| *word == plain);
            let same = matches!(
                (meaning, found.map(|(_, meaning)| meaning)),
                (SetAll(_), Some(Set(_))) | (ClearAll(_), Some(Clear(_)))
            );
            assert!(same, "{word}");
        }
    }

    #[test]
    fn no_options() {
        assert_eq!(parse(""), MountOptions::default());
        assert_eq!(parse("defaults"), MountOptions::default());
    }

    #[test]
    fn words_of_the_filesystem_are_kept_in_order() {
        let parsed = parse("nosuid strictatime mode=755 ro size=65536k acl");
        assert_eq!(parsed.set, MS_NOSUID | MS_STRICTATIME | MS_RDONLY);
        assert_eq!(parsed.data, ["mode=755", "size=65536k", "acl"]);
        assert_eq!(parse("RO").data, ["RO"]);
    }

    #[test]
    fn the_last_of_contradicting_words_counts() {
        let parsed = parse("ro nosuid rw");
        assert_eq!((parsed.set, parsed.cleared), (MS_NOSUID, MS_RDONLY));
        let parsed = parse("rw ro");
        assert_eq!((parsed.set, parsed.cleared), (MS_RDONLY, 0));
        let parsed = parse("sync async");
        assert_eq!((parsed.set, parsed.cleared), (0, MS_SYNCHRONOUS));
    }

    #[test]
    fn bind_mounts() {
        assert!(parse("bind").is_bind() && !parse("bind").is_recursive());
        assert!(parse("rbind ro").is_bind() && parse("rbind ro").is_recursive());
        assert!(!parse("ro").is_bind());
    }

    #[test]
    fn propagations_add_up() {
        assert_eq!(
            parse("rslave shared").propagation,
            [MS_SLAVE | MS_REC, MS_SHARED]
        );
        assert_eq!(parse("runbindable").propagation, [MS_UNBINDABLE | MS_REC]);
        assert_eq!(parse("private").set, 0);
    }

    #[test]
    fn a_flag_nobody_asked_for_is_cleared() {
        let all = MOUNT_ATTR_RDONLY
            | MOUNT_ATTR_NOSUID
            | MOUNT_ATTR_NODEV
            | MOUNT_ATTR_NOEXEC
            | MOUNT_ATTR_NOSYMFOLLOW;
        for words in ["ro nodev sync", "ro nodev exec"] {
            let wanted = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NODEV;
            assert_eq!(
                Attributes::exactly(parse(words).set),
                attributes(wanted, all & !wanted)
            );
        }
        assert_eq!(Attributes::exactly(0), attributes(0, all));
    }

    #[test]
    fn the_access_time_changes_only_when_a_flag_is_about_it() {
        let modes = MOUNT_ATTR__ATIME;
        for (words, set, clear) in [
            ("noatime", MOUNT_ATTR_NOATIME, modes | MOUNT_ATTR_NODIRATIME),
            ("relatime", 0, modes | MOUNT_ATTR_NODIRATIME),
            (
                "noatime strictatime",
                MOUNT_ATTR_STRICTATIME,
                modes | MOUNT_ATTR_NODIRATIME,
            ),
            ("nodiratime", MOUNT_ATTR_NODIRATIME, modes),
            ("atime", 0, 0),
            ("norelatime", 0, 0),
        ] {
            let found = Attributes::exactly(parse(words).set);
            let mask = modes | MOUNT_ATTR_NODIRATIME;
            assert_eq!((found.set, found.clear & mask), (set, clear), "{words}");
        }
    }

    #[test]
    fn recursive_attributes() {
        for (words, set, clear) in [
            ("rro", MOUNT_ATTR_RDONLY, 0),
            ("rro rrw", 0, MOUNT_ATTR_RDONLY),
            ("rrw rro", MOUNT_ATTR_RDONLY, 0),
            (
                "rro rnosuid rdev",
                MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID,
                MOUNT_ATTR_NODEV,
            ),
            ("rnoatime", MOUNT_ATTR_NOATIME, MOUNT_ATTR__ATIME),
            (
                "rnoatime rstrictatime",
                MOUNT_ATTR_STRICTATIME,
                MOUNT_ATTR__ATIME,
            ),
            ("rnoatime rrelatime", 0, MOUNT_ATTR__ATIME),
            ("rnoatime ratime", 0, MOUNT_ATTR__ATIME),
            (
                "rnoatime rnostrictatime",
                MOUNT_ATTR_NOATIME,
                MOUNT_ATTR__ATIME,
            ),
            ("rnorelatime", 0, MOUNT_ATTR__ATIME),
            ("rnodiratime", MOUNT_ATTR_NODIRATIME, 0),
            ("rdiratime", 0, MOUNT_ATTR_NODIRATIME),
        ] {
            let parsed = parse(words);
            assert_eq!(parsed.recursive, attributes(set, clear), "{words}");
            assert_eq!((parsed.set, parsed.cleared), (0, 0), "{words}");
        }
    }

    #[test]
    fn special_words() {
        assert!(parse("tmpcopyup").copy_up);
        assert_eq!(parse("idmap").id_mapped, Some(IdMapped::Mount));
        assert_eq!(parse("ridmap").id_mapped, Some(IdMapped::Tree));
        assert_eq!(parse("bind").id_mapped, None);
    }

    #[test]
    fn flags_of_the_filesystem() {
        let set = parse("ro sync nosuid lazytime bind").set;
        let flags: Vec<_> = filesystem_words(set).collect();
        assert_eq!(flags, ["ro", "sync", "lazytime"]);
    }
}
