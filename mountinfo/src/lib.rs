//! Parses the text of `/proc/PID/mountinfo` (proc_pid_mountinfo(5)).
//!
//! [`mounts`] splits the lines into fields and copies no text; [`Mount::point`] and
//! [`Mount::root`] decode the octal escapes of a path. The caller reads the file, because it
//! may have to do so through a descriptor of /proc.
//!
//! # Example
//!
//! ```
//! let text = b"31 23 0:28 / /mnt/a\\040b rw,relatime shared:3 - tmpfs none rw,mode=755\n";
//! let mounts = teu_mountinfo::mounts(text).expect("mountinfo");
//! let [mount] = mounts[..] else { panic!("{mounts:?}") };
//! assert_eq!(mount.point(), std::path::Path::new("/mnt/a b"));
//! assert_eq!(mount.kind, b"tmpfs");
//! assert!(mount.has_option("relatime"));
//! ```

#![warn(missing_docs)]

use std::error::Error;
use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// A line of mountinfo. Fields of bytes are as the kernel writes them.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mount<'a> {
    /// The id of the mount.
    pub id: u64,
    /// The id of the parent mount.
    pub parent: u64,
    /// The number of the device, as in `8:1`.
    pub device: &'a [u8],
    /// The path in the filesystem that is mounted, with escapes.
    pub escaped_root: &'a [u8],
    /// The path of the mountpoint, with escapes.
    pub escaped_point: &'a [u8],
    /// The options of the mount, separated by commas.
    pub options: &'a [u8],
    /// Optional fields, separated by blanks, such as `shared:3`.
    pub optional: &'a [u8],
    /// The type of the filesystem.
    pub kind: &'a [u8],
    /// The source of the mount, with escapes.
    pub escaped_source: &'a [u8],
    /// The options of the filesystem, separated by commas.
    pub super_options: &'a [u8],
}

/// A line that is not one of mountinfo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed {
    line: String,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not a line of mountinfo: {:?}", self.line)
    }
}

impl Error for Malformed {}

/// Returns the mounts of a text, in its order.
///
/// # Errors
/// Returns an error if a line has another form.
pub fn mounts(text: &[u8]) -> Result<Vec<Mount<'_>>, Malformed> {
    let lines = text.split_inclusive(|byte| *byte == b'\n');
    let lines = lines.map(|line| line.strip_suffix(b"\n").unwrap_or(line));
    let mount = |line| {
        parse(line).ok_or_else(|| Malformed {
            line: String::from_utf8_lossy(line).into_owned(),
        })
    };
    lines.map(mount).collect()
}

fn parse(line: &[u8]) -> Option<Mount<'_>> {
    // The end of the optional fields. No field before it is a hyphen.
    const END: &[u8] = b" - ";
    let is_blank = |byte: &u8| *byte == b' ';
    let end = line.windows(END.len()).position(|part| part == END)?;
    let mut before = line[..end].splitn(7, is_blank);
    let mut after = line[end + END.len()..].split(is_blank);
    Some(Mount {
        id: number(before.next()?)?,
        parent: number(before.next()?)?,
        device: before.next()?,
        escaped_root: before.next()?,
        escaped_point: before.next()?,
        options: before.next()?,
        optional: before.next().unwrap_or_default(),
        kind: after.next()?,
        escaped_source: after.next()?,
        super_options: after.next()?,
    })
}

fn number(digits: &[u8]) -> Option<u64> {
    str::from_utf8(digits).ok()?.parse().ok()
}

impl Mount<'_> {
    /// Returns the path in the filesystem that is mounted.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        unescape(self.escaped_root)
    }

    /// Returns the path of the mountpoint.
    #[must_use]
    pub fn point(&self) -> PathBuf {
        unescape(self.escaped_point)
    }

    /// Returns the source of the mount, a path or another word.
    #[must_use]
    pub fn source(&self) -> PathBuf {
        unescape(self.escaped_source)
    }

    /// Returns whether the mount itself has an option, such as `ro`.
    #[must_use]
    pub fn has_option(&self, option: &str) -> bool {
        let mut options = self.options.split(|byte| *byte == b',');
        options.any(|found| found == option.as_bytes())
    }
}

/// Decodes the octal escapes that the kernel writes for blanks, newlines and backslashes.
fn unescape(path: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((first, tail)) = rest.split_first() {
        let digits = tail.get(..3).filter(|_| *first == b'\\');
        let digits = digits.and_then(|digits| str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn fields_of_a_line() {
        let text = b"\
            41 31 0:38 /a\\011b /sys/fs/x rw,idmapped shared:3 master:2 - cgroup2 no\\040ne rw,nsdelegate\n\
            22 1 8:1 / / ro - ext4 - rw\n";
        let found = mounts(text).expect("mountinfo");
        let [first, second] = found[..] else {
            panic!("{found:?}")
        };
        assert_eq!((first.id, first.parent), (41, 31));
        assert_eq!(first.root(), Path::new("/a\tb"));
        assert_eq!(first.point(), Path::new("/sys/fs/x"));
        assert_eq!(first.kind, b"cgroup2");
        assert_eq!(first.super_options, b"rw,nsdelegate");
        assert_eq!(
            (first.device, first.optional),
            (&b"0:38"[..], &b"shared:3 master:2"[..])
        );
        assert_eq!(first.source(), Path::new("no ne"));
        assert!(first.has_option("idmapped") && !first.has_option("ro"));
        assert_eq!(
            (second.kind, second.super_options),
            (&b"ext4"[..], &b"rw"[..])
        );
        assert_eq!(
            (second.optional, second.escaped_source),
            (&b""[..], &b"-"[..])
        );
    }

    #[test]
    fn a_line_of_another_form_is_an_error() {
        const LINE: &str = "22 1 8:1 / /mnt rw shared:1 - ext4 /dev/sda1 rw";
        assert_eq!(mounts(b""), Ok(Vec::new()));
        mounts(LINE.as_bytes()).expect("without a newline at the end");
        let cut = LINE.match_indices(' ').map(|(end, _)| &LINE[..end]);
        for line in cut.chain(["", "x 1 8:1 / /mnt rw - ext4 - rw"]) {
            let text = format!("{LINE}\n{line}\n{LINE}\n");
            let error = mounts(text.as_bytes()).expect_err(line);
            assert_eq!(
                error.to_string(),
                format!("not a line of mountinfo: {line:?}")
            );
        }
    }

    #[test]
    fn escapes_of_a_path() {
        for (written, path) in [
            ("/a\\040b", "/a b"),
            ("/a\\134040", "/a\\040"),
            ("/\\0", "/\\0"),
            ("/x\\", "/x\\"),
        ] {
            assert_eq!(unescape(written.as_bytes()), Path::new(path));
        }
    }

    #[test]
    fn the_own_mounts_are_parsed() {
        let text = std::fs::read("/proc/self/mountinfo").expect("read");
        let lines = text.iter().filter(|byte| **byte == b'\n').count();
        assert_eq!(mounts(&text).expect("mountinfo").len(), lines);
    }
}
