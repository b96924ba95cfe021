//! Opens regular files in directories of which the contents are not trusted: opening a fifo
//! would block the server, and with it all containers of the group.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};

/// The maximum length of a file that is read; configurations have some KiB.
const LONGEST: u64 = 64 << 20;

/// Reads a regular file.
///
/// # Errors
/// The file does not exist, is not a regular file, or is too long.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    let (file, length) = open(path)?;
    ensure!(
        length <= LONGEST,
        "read {path:?}: too long ({length} bytes)"
    );
    let mut content = Vec::new();
    let read = file.take(LONGEST).read_to_end(&mut content);
    read.with_context(|| format!("read {path:?}"))?;
    Ok(content)
}

/// Opens a regular file for reading, and returns its length.
///
/// # Errors
/// The file does not exist or is not a regular file.
pub(crate) fn open(path: &Path) -> Result<(File, u64)> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path);
    let file = file.with_context(|| format!("read {path:?}"))?;
    let metadata = file.metadata().with_context(|| format!("stat {path:?}"))?;
    ensure!(metadata.is_file(), "read {path:?}: not a regular file");
    Ok((file, metadata.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{FileType, Mode, mknodat};

    #[test]
    fn only_regular_files_are_read() {
        let directory =
            std::env::temp_dir().join(format!("teu-shim-regular-{}", std::process::id()));
        std::fs::create_dir(&directory).unwrap();
        let [file, fifo, long] = ["file", "fifo", "long"].map(|name| directory.join(name));
        std::fs::write(&file, "text").unwrap();
        mknodat(rustix::fs::CWD, &fifo, FileType::Fifo, Mode::RWXU, 0).unwrap();
        File::create_new(&long)
            .unwrap()
            .set_len(LONGEST + 1)
            .unwrap();
        assert_eq!(read(&file).unwrap(), b"text");
        for path in [&fifo, &long, &directory, &directory.join("none")] {
            assert!(read(path).is_err(), "{path:?}");
        }
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
