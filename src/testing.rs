//! Helpers of the unit tests: temporary directories, and children that may change their
//! own process.

use std::fs;
use std::io::Read;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use teu_plan::document;

use crate::errno;

/// A directory that is removed when dropped.
#[derive(Debug)]
pub(crate) struct Directory(PathBuf);

impl Directory {
    pub(crate) fn new(name: &str) -> Directory {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("teu-{name}-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).expect("mkdir");
        Directory(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).expect("remove the test's directory");
    }
}

/// Reads a part of a specification.
pub(crate) fn read<T: serde::de::DeserializeOwned>(json: &str) -> T {
    document::read(json.as_bytes(), &|_, _| {}).expect(json)
}

/// Returns the error as users see it, with its causes and the kernel's error in words.
pub(crate) fn words(error: &anyhow::Error) -> String {
    errno::chain(error)
}

/// Runs `body` in a child process and fails if the child fails. Needs root.
pub(crate) fn in_child(body: impl FnOnce()) {
    let (status, output) = crate::sys::fork_for_test(body);
    assert_eq!(status, 0, "the child said: {output}");
}

/// Runs `body` in a child process and returns its output.
pub(crate) fn output_of_child(body: impl FnOnce()) -> String {
    crate::sys::fork_for_test(body).1
}

/// Reads a descriptor to its end.
pub(crate) fn read_all(fd: impl AsFd) -> String {
    let mut file = fs::File::from(fd.as_fd().try_clone_to_owned().expect("dup"));
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).expect("read");
    String::from_utf8_lossy(&bytes).into_owned()
}
