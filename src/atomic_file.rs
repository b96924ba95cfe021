//! A file that is replaced as a whole: a reader sees the old or the new one.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::fs::{Mode, OFlags};

/// Writes a new file beside `path`, named after this process, and renames it
/// over it.
///
/// # Errors
/// It cannot be written; `path` is then as it was, and so is a file of another's
/// that has the name.
pub(crate) fn write(path: &Path, text: &[u8], mode: u32) -> Result<()> {
    let mut temporary = temporary_of(path)?.into_os_string();
    temporary.push(format!(".{}", std::process::id()));
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
    replace(path, Path::new(&temporary), text, flags, mode)
}

/// open(2) in one system call: in musl's, which the standard library uses,
/// close-on-exec is another.
pub(crate) fn open(path: &Path, flags: OFlags, mode: u32) -> io::Result<File> {
    let flags = flags | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::from_raw_mode(mode))?.into())
}

/// Writes the file `temporary`, opened with `flags`, and renames it over `path`.
pub(crate) fn replace(
    path: &Path,
    temporary: &Path,
    text: &[u8],
    flags: OFlags,
    mode: u32,
) -> Result<()> {
    let mut file = open(temporary, flags, mode).with_context(|| format!("write {temporary:?}"))?;
    let written = write_all(&mut file, text).and_then(|()| fs::rename(temporary, path));
    if written.is_err() {
        // The first error is the one to report.
        fs::remove_file(temporary).ok();
    }
    written.with_context(|| format!("write {path:?}"))
}

/// Writes the whole of a file, which may have been longer.
pub(crate) fn write_all(file: &mut File, text: &[u8]) -> io::Result<()> {
    file.write_all(text)?;
    let length = text.len() as u64;
    if file.metadata()?.len() > length {
        file.set_len(length)
    } else {
        Ok(())
    }
}

/// The file that becomes `path` when it is complete.
pub(crate) fn temporary_of(path: &Path) -> Result<PathBuf> {
    let name = path
        .file_name()
        .with_context(|| format!("{path:?} has no file name"))?;
    Ok(path.with_file_name(format!(".{}", name.to_string_lossy())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn a_failed_write_leaves_the_old_file() {
        let dir = testing::Directory::new("replaced");
        let file = dir.path().join("state.json");
        write(&file, b"old", 0o600).expect("write");
        let others = dir
            .path()
            .join(format!(".state.json.{}", std::process::id()));
        fs::write(&others, b"other").expect("in the way");
        assert!(write(&file, b"new", 0o600).is_err());
        assert_eq!(fs::read(&file).expect("read"), b"old");
        assert_eq!(fs::read(&others).expect("read"), b"other");
    }
}
