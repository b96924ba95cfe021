//! Parses the cache of glibc's dynamic linker (ld.so.cache, ldconfig(8)).
//!
//! Only the format of glibc 2.2 and later is parsed. Before glibc 2.32, it follows the older
//! format in the file. Whether the libraries exist is for the caller to check.

use std::ffi::CStr;

/// The maximum size of a cache. A cache of 4,000 libraries has about 300 kB.
pub(crate) const LARGEST: u64 = 4 << 20;

/// The maximum length of a path (PATH_MAX).
const LONGEST: usize = 4096;

const OLD_MAGIC: &[u8] = b"ld.so-1.7.0\0";
const OLD_ENTRY: usize = 12;
const MAGIC: &[u8] = b"glibc-ld.so.cache1.1";
const HEADER: usize = 48;
const ENTRY: usize = 24;

/// A library in the cache.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Entry<'a> {
    pub(crate) name: &'a str,
    pub(crate) path: &'a str,
}

/// Returns all libraries in the cache. Libraries whose names are not UTF-8 are left out.
///
/// # Errors
/// Returns an error if the file is not a cache.
pub(crate) fn entries(file: &[u8]) -> Result<Vec<Entry<'_>>, &'static str> {
    let cache = newer_part(file).ok_or("it does not begin as a cache of glibc does")?;
    let count = number_at(cache, MAGIC.len()).ok_or("its header is cut off")?;
    let table = count
        .checked_mul(ENTRY)
        .and_then(|length| cache.get(HEADER..)?.get(..length))
        .ok_or("it has fewer entries than its header says")?;
    let mut entries = Vec::new();
    for entry in table.chunks_exact(ENTRY) {
        let text = |at| text_at(cache, number_at(entry, at)?);
        let name = text(4).ok_or("a name in it has no end")?;
        let path = text(8).ok_or("a path in it has no end")?;
        if let (Ok(name), Ok(path)) = (name.to_str(), path.to_str()) {
            entries.push(Entry { name, path });
        }
    }
    Ok(entries)
}

/// Returns the part of the file in the newer format. Offsets in entries count from its start.
fn newer_part(file: &[u8]) -> Option<&[u8]> {
    let start = if file.starts_with(OLD_MAGIC) {
        let count = number_at(file, OLD_MAGIC.len())?;
        let end = count
            .checked_mul(OLD_ENTRY)?
            .checked_add(OLD_MAGIC.len() + 4)?;
        end.checked_next_multiple_of(8)?
    } else {
        0
    };
    file.get(start..).filter(|part| part.starts_with(MAGIC))
}

fn number_at(bytes: &[u8], at: usize) -> Option<usize> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    usize::try_from(u32::from_ne_bytes(*bytes)).ok()
}

fn text_at(bytes: &[u8], at: usize) -> Option<&CStr> {
    let rest = bytes.get(at..)?;
    let start = rest.get(..LONGEST).unwrap_or(rest);
    CStr::from_bytes_until_nul(start).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(number: usize) -> [u8; 4] {
        u32::try_from(number).expect("a small number").to_ne_bytes()
    }

    /// Makes a cache with these names and paths.
    fn cache(libraries: &[(&str, &str)]) -> Vec<u8> {
        let mut table = Vec::new();
        let mut texts = Vec::new();
        let start = HEADER + ENTRY * libraries.len();
        for (name, path) in libraries {
            table.extend(number(0x0303));
            for text in [name, path] {
                table.extend(number(start + texts.len()));
                texts.extend(text.as_bytes());
                texts.push(0);
            }
            table.extend([0; 12]);
        }
        let lengths = [number(libraries.len()), number(texts.len())].concat();
        [MAGIC, &lengths, &[0; 20], &table, &texts].concat()
    }

    /// Puts a cache after one of the older format.
    fn behind_older(entries: usize, cache: &[u8]) -> Vec<u8> {
        let mut file = [OLD_MAGIC, &number(entries)].concat();
        file.resize(file.len() + OLD_ENTRY * entries, 7);
        file.resize(file.len().next_multiple_of(8), 0);
        [&file, cache].concat()
    }

    const TWO: [(&str, &str); 2] = [
        ("libcuda.so.1", "/usr/lib/libcuda.so.1"),
        ("libc.so.6", "/lib/libc.so.6"),
    ];

    #[test]
    fn libraries_are_read_in_both_formats() {
        let cache = cache(&TWO);
        let both = [behind_older(3, &cache), behind_older(0, &cache)];
        for file in [&cache, &both[0], &both[1]] {
            let read = entries(file).expect("a cache");
            let read: Vec<_> = read.iter().map(|entry| (entry.name, entry.path)).collect();
            assert_eq!(read, TWO);
        }
    }

    #[test]
    fn this_machines_cache_is_read() {
        // The file does not exist with another C library.
        if let Ok(file) = std::fs::read("/etc/ld.so.cache") {
            let entries = entries(&file).expect("the cache");
            assert!(entries.iter().any(|entry| entry.name == "libc.so.6"));
        }
    }

    #[test]
    fn a_truncated_cache_is_refused() {
        let cache = cache(&TWO);
        let both = behind_older(3, &cache);
        for file in [&cache, &both] {
            for length in 0..file.len() {
                entries(&file[..length]).expect_err("cut off");
            }
        }
    }

    #[test]
    fn wrong_offsets_and_counts_are_refused() {
        let good = cache(&TWO);
        let with = |at: usize, value: u32| {
            let mut file = good.clone();
            file[at..at + 4].copy_from_slice(&value.to_ne_bytes());
            file
        };
        let length = u32::try_from(good.len()).expect("a small cache");
        for value in [length, length + 1, u32::MAX] {
            for at in [HEADER + 4, HEADER + 8, HEADER + ENTRY + 8] {
                entries(&with(at, value)).expect_err("an offset");
            }
        }
        for count in [3, 1000, u32::MAX / 24, u32::MAX] {
            entries(&with(MAGIC.len(), count)).expect_err("a count");
        }
        let mut old = behind_older(3, &good);
        old[OLD_MAGIC.len()..][..4].copy_from_slice(&u32::MAX.to_ne_bytes());
        entries(&old).expect_err("a count of the older format");
        // Without the last byte, which ends the last text.
        entries(&good[..good.len() - 1]).expect_err("no end");
        // A text longer than any path.
        let long = "x".repeat(LONGEST);
        entries(&cache(&[("a", &long)])).expect_err("a long path");
    }

    #[test]
    fn every_change_of_a_byte_is_read_or_refused() {
        let good = behind_older(1, &cache(&TWO));
        for at in 0..good.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut file = good.clone();
                file[at] = value;
                // Either result is right, but parsing must end.
                drop(entries(&file));
            }
        }
    }

    #[test]
    fn names_that_are_not_utf8_are_left_out() {
        let mut file = cache(&TWO);
        let at = HEADER + 2 * ENTRY;
        file[at] = 0xff;
        let read = entries(&file).expect("a cache");
        assert_eq!(read.len(), 1);
        entries(b"").expect_err("nothing");
        assert_eq!(entries(&cache(&[])), Ok(Vec::new()));
    }
}
