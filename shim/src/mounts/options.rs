//! The options of a mount, parsed from containerd's words.

use anyhow::{Context, Result, bail};
use rustix::mount::MountFlags;
use teu_namespaces::{IdMaps, id_maps};

/// The parsed options.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Options {
    pub(super) flags: MountFlags,
    pub(super) is_remount: bool,
    /// The source is a file, to be attached to a loop device.
    pub(super) on_loop: Option<Loop>,
    /// The id maps of an idmapped mount.
    pub(super) owners: Option<IdMaps>,
    /// The options for the filesystem.
    pub(super) data: Vec<String>,
}

/// The mode of a loop device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loop {
    Cached,
    Direct,
}

impl Options {
    pub(super) fn parse(words: &[String]) -> Result<Options> {
        let mut options = Options {
            flags: MountFlags::empty(),
            is_remount: false,
            on_loop: None,
            owners: None,
            data: Vec::new(),
        };
        let (mut uid, mut gid) = (None, None);
        for word in words {
            if let Some((_, set, flag)) = FLAGS.iter().find(|(name, ..)| name == word) {
                options.flags.set(*flag, *set);
            } else if word == "remount" {
                options.is_remount = true;
            } else if word == "loop" {
                options.on_loop = Some(Loop::Cached);
            } else if let Some(map) = word.strip_prefix("uidmap=") {
                uid = Some(map);
            } else if let Some(map) = word.strip_prefix("gidmap=") {
                gid = Some(map);
            } else if word.starts_with("X-containerd.") {
                // An error as in containerd, whose mount manager handles these options itself.
                bail!("internal mount option {word:?} was not consumed by the mount manager");
            } else {
                options.data.push(word.clone());
            }
        }
        if options.on_loop.is_some() {
            let all = options.data.len();
            options.data.retain(|word| word != "direct-io");
            if options.data.len() < all {
                options.on_loop = Some(Loop::Direct);
            }
        }
        options.owners = match (uid, gid) {
            (Some(uid), Some(gid)) => Some(owners(uid, gid)?),
            (None, None) => None,
            _ => bail!("uidmap= and gidmap= need each other"),
        };
        Ok(options)
    }
}

/// Parses id maps: "container:host:size", separated by commas.
fn owners(uid: &str, gid: &str) -> Result<IdMaps> {
    let map = |text: &str| {
        let lines = text.replace(',', "\n").replace(':', " ");
        id_maps::parse(&lines).with_context(|| format!("id map {text:?}"))
    };
    Ok(IdMaps {
        uid: map(uid)?,
        gid: map(gid)?,
        deny_setgroups: false,
    })
}

/// Options of mount(8): whether each sets or clears its flag.
const FLAGS: [(&str, bool, MountFlags); 25] = [
    ("async", false, MountFlags::SYNCHRONOUS),
    ("atime", false, MountFlags::NOATIME),
    ("bind", true, MountFlags::BIND),
    ("dev", false, MountFlags::NODEV),
    ("diratime", false, MountFlags::NODIRATIME),
    ("dirsync", true, MountFlags::DIRSYNC),
    ("exec", false, MountFlags::NOEXEC),
    ("mand", true, MountFlags::PERMIT_MANDATORY_FILE_LOCKING),
    ("noatime", true, MountFlags::NOATIME),
    ("nodev", true, MountFlags::NODEV),
    ("nodiratime", true, MountFlags::NODIRATIME),
    ("noexec", true, MountFlags::NOEXEC),
    ("nomand", false, MountFlags::PERMIT_MANDATORY_FILE_LOCKING),
    ("norelatime", false, MountFlags::RELATIME),
    ("nostrictatime", false, MountFlags::STRICTATIME),
    ("nosuid", true, MountFlags::NOSUID),
    ("rbind", true, MountFlags::BIND.union(MountFlags::REC)),
    ("relatime", true, MountFlags::RELATIME),
    ("ro", true, MountFlags::RDONLY),
    ("rw", false, MountFlags::RDONLY),
    ("strictatime", true, MountFlags::STRICTATIME),
    ("suid", false, MountFlags::NOSUID),
    ("sync", true, MountFlags::SYNCHRONOUS),
    // Sets no flag.
    ("defaults", true, MountFlags::empty()),
    ("", true, MountFlags::empty()),
];

#[cfg(test)]
mod tests {
    use super::*;
    use teu_namespaces::IdMap;

    fn parse(words: &str) -> Result<Options> {
        let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
        Options::parse(&words)
    }

    #[test]
    fn the_last_word_about_a_flag_counts() {
        let options = parse("rbind ro nosuid rw relatime defaults").unwrap();
        let flags = MountFlags::BIND | MountFlags::REC | MountFlags::NOSUID;
        assert_eq!(options.flags, flags | MountFlags::RELATIME);
        assert!(options.data.is_empty());
        assert!(!options.is_remount);
    }

    #[test]
    fn the_rest_is_for_the_filesystem() {
        let options = parse("index=off ro lowerdir=/a:/b direct-io").unwrap();
        assert_eq!(options.data, ["index=off", "lowerdir=/a:/b", "direct-io"]);
    }

    #[test]
    fn a_loop_device_is_asked_for() {
        assert_eq!(parse("ro loop").unwrap().on_loop, Some(Loop::Cached));
        let direct = parse("direct-io loop").unwrap();
        assert_eq!(direct.on_loop, Some(Loop::Direct));
        assert!(direct.data.is_empty());
    }

    #[test]
    fn owners_have_both_maps() {
        let line = |container, host, size| IdMap {
            container,
            host,
            size,
        };
        let owners = parse("uidmap=0:666:1000,1000:6666:64536 gidmap=0:7:10").unwrap();
        let owners = owners.owners.unwrap();
        assert_eq!(owners.uid, [line(0, 666, 1000), line(1000, 6666, 64536)]);
        assert_eq!(owners.gid, [line(0, 7, 10)]);
        for wrong in [
            "uidmap=0:1:1",
            "uidmap=0:1 gidmap=0:1:1",
            "uidmap=0:-1:1 gidmap=0:1:1",
        ] {
            parse(wrong).expect_err(wrong);
        }
    }

    #[test]
    fn what_containerd_was_to_do_is_not_left_out() {
        let err = parse("X-containerd.mkdir.path=/a").expect_err("left out");
        assert!(
            err.to_string()
                .contains("was not consumed by the mount manager")
        );
    }
}
