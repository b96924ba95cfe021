//! Has the targets of `integration/fuzz` that read files of other programs. Each panics if
//! the result breaks a promise of the reader. See `src/fuzz/`.

use crate::cdi::{DeviceName, File};
use crate::ld_cache;

/// Reads a CDI file. Checks that the fast and the complete reader agree, that the file is
/// the same after it is written and read again, and that the names of its devices can be
/// requested.
pub fn cdi(text: &[u8]) -> Option<()> {
    let file = File::parse(std::str::from_utf8(text).ok()?).ok()?;
    if let Ok(complete) = serde_yaml_ng::from_slice::<File>(text) {
        assert_eq!(file, complete);
    }
    let written = file.to_yaml().expect("written");
    let read = File::parse(&written).expect("what was written");
    assert_eq!(read, file, "{written}");
    for device in &file.devices {
        let name = format!("{}={}", file.kind, device.name);
        assert!(name.parse::<DeviceName>().is_ok(), "{name}");
    }
    Some(())
}

/// Reads a cache of the dynamic linker. Checks that its names and paths are in the file and
/// end with a NUL byte, and that there are not more of them than fit into the file.
pub fn ld_cache(file: &[u8]) -> Option<()> {
    let entries = ld_cache::entries(file).ok()?;
    assert!(entries.len() <= file.len() / 24);
    for entry in &entries {
        for text in [entry.name, entry.path] {
            let start = text.as_ptr().addr() - file.as_ptr().addr();
            assert_eq!(file.get(start + text.len()), Some(&0));
        }
    }
    Some(())
}

#[cfg(test)]
#[path = "../../integration/fuzz/replay.rs"]
mod replay;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_hold_for_their_seeds() {
        replay::replay(&[("cdi", cdi), ("ld_cache", ld_cache)]);
    }
}
