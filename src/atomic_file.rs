//! Replaces files as a whole: a reader sees the old or the new content. Not for
//! durability: the file may not be on disk yet.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::fs::{Mode, OFlags};

/// Writes a temporary file beside `path`, named after this process, and renames it over
/// `path`.
///
/// # Errors
/// The file cannot be written, or the temporary file exists already. `path` is
/// unchanged then.
pub(crate) fn write(path: &Path, text: &[u8], mode: u32) -> Result<()> {
    let mut temporary = temporary_of(path)?.into_os_string();
    temporary.push(format!(".{}", std::process::id()));
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
    replace(path, Path::new(&temporary), text, flags, mode)
}

/// Opens a file with one call of open(2). The standard library uses musl's, which makes
/// another system call for close-on-exec.
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
        // Report the first error, and ignore this one.
        fs::remove_file(temporary).ok();
    }
    written.with_context(|| format!("write {path:?}"))
}

/// Writes a whole file, and truncates it if it was longer.
pub(crate) fn write_all(file: &mut File, text: &[u8]) -> io::Result<()> {
    file.write_all(text)?;
    let length = text.len() as u64;
    if file.metadata()?.len() > length {
        file.set_len(length)
    } else {
        Ok(())
    }
}

/// Returns the path of the temporary file that will replace `path`.
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
