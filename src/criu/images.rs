//! The directories of a checkpoint: that of the images, and that of CRIU's log. Makes
//! and opens them, and stores the names of the standard streams.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use teu_plan::mounts::clean;

use super::logfile;
use super::rpc::Options;
use crate::errno;

/// The file in the images' directory with the names of the container's standard
/// streams. It is runc's file.
const STREAMS: &str = "descriptors.json";

/// The open directories.
#[derive(Debug)]
pub(crate) struct Images {
    path: PathBuf,
    directory: File,
    /// The directory in which CRIU works and logs, if it is not that of the images.
    work: Option<(PathBuf, File)>,
    log: PathBuf,
    log_name: &'static str,
    /// Whether this process made the directory of the images.
    made: bool,
}

impl Images {
    /// Makes or opens the directories for a checkpoint. Existing images are of an
    /// earlier checkpoint.
    ///
    /// # Errors
    /// A directory cannot be made, or is another kind of file.
    pub(crate) fn create(path: &Path, work: Option<&Path>) -> Result<Images> {
        let made = !path.exists();
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .with_context(|| format!("make the directory of the images {path:?}"))?;
        let images = Images::with_log(path, work, "dump.log")?;
        Ok(Images { made, ..images })
    }

    /// Opens the directories for a restore.
    ///
    /// # Errors
    /// The images do not exist.
    pub(crate) fn open(path: &Path, work: Option<&Path>) -> Result<Images> {
        Images::with_log(path, work, "restore.log")
    }

    fn with_log(path: &Path, work: Option<&Path>, log_name: &'static str) -> Result<Images> {
        // Make paths absolute, because the working directory changes later.
        let path = absolute(path)?;
        let work = work.map(absolute).transpose()?;
        let directory = open_directory(&path)?;
        if let Some(work) = &work {
            match DirBuilder::new().mode(0o700).create(work) {
                Err(err) if err.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(err).with_context(|| format!("make the directory {work:?}"));
                }
                _ => {}
            }
        }
        let log = work.as_ref().unwrap_or(&path).join(log_name);
        let work = match work {
            Some(path) => {
                let directory = open_directory(&path)?;
                Some((path, directory))
            }
            None => None,
        };
        Ok(Images {
            path,
            directory,
            work,
            log,
            log_name,
            made: false,
        })
    }

    /// Lets a container whose root has the group `gid` on the host search the
    /// directory, because CRIU opens some images in the container's user namespace.
    /// Gives only search permission, and only if the directory was made here, and so
    /// has no files of others.
    ///
    /// # Errors
    /// The kernel refuses the change.
    pub(crate) fn open_to_group(&self, gid: u32) -> Result<()> {
        if !self.made {
            return Ok(());
        }
        std::os::unix::fs::fchown(&self.directory, None, Some(gid))
            .and_then(|()| {
                self.directory
                    .set_permissions(Permissions::from_mode(0o710))
            })
            .with_context(|| format!("change the owner of {:?}", self.path))
    }

    /// Opens the directories again, for [`Images::replace`]. Called in the mount
    /// namespace of a criu that has its own, because criu mounts in its working
    /// directory, which needs a mount of that namespace.
    ///
    /// # Errors
    /// A directory does not exist any more.
    pub(crate) fn reopen(&self) -> Result<Vec<OwnedFd>> {
        let paths = [Some(&self.path), self.work.as_ref().map(|(path, _)| path)];
        let paths = paths.into_iter().flatten();
        paths.map(|path| Ok(open_directory(path)?.into())).collect()
    }

    /// Replaces the open directories by those of [`Images::reopen`].
    pub(crate) fn replace(&mut self, directories: Vec<OwnedFd>) {
        let mut directories = directories.into_iter().map(File::from);
        if let Some(directory) = directories.next() {
            self.directory = directory;
        }
        if let (Some((_, work)), Some(directory)) = (&mut self.work, directories.next()) {
            *work = directory;
        }
    }

    /// Adds the directories to a request.
    pub(crate) fn put_into(&self, options: &mut Options) {
        options.images_dir_fd = self.directory.as_raw_fd();
        options.work_dir_fd = self.work.as_ref().map(|(_, work)| work.as_raw_fd());
        options.log_file = self.log_name.to_owned();
    }

    /// Stores the names of the standard streams.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn write_streams(&self, streams: &[String]) -> Result<()> {
        let path = self.path.join(STREAMS);
        let text = serde_json::to_vec(streams).context("write the streams as JSON")?;
        crate::atomic_file::write(&path, &text, 0o600)
    }

    /// Reads the stored names of the standard streams.
    ///
    /// # Errors
    /// The file does not exist: the checkpoint is not complete.
    pub(crate) fn read_streams(&self) -> Result<Vec<String>> {
        let path = self.path.join(STREAMS);
        let text = fs::read(&path).with_context(|| format!("read {path:?}"))?;
        serde_json::from_slice(&text).with_context(|| format!("{path:?}"))
    }

    /// Logs CRIU's messages about an error, and adds the path of the log.
    pub(crate) fn explain(&self, error: &anyhow::Error) -> anyhow::Error {
        logfile::quote_errors(&self.log);
        anyhow!("{} (log file: {:?})", errno::chain(error), self.log)
    }
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("find the directory of {path:?}"))
}

fn open_directory(path: &Path) -> Result<File> {
    let directory = File::open(path).with_context(|| format!("open {path:?}"))?;
    let metadata = directory
        .metadata()
        .with_context(|| format!("stat {path:?}"))?;
    if !metadata.is_dir() {
        bail!("open {path:?}: not a directory");
    }
    Ok(directory)
}

/// Checks `--parent-path`: the directory of an earlier pre-dump, relative to that of
/// the images.
///
/// # Errors
/// The path is absolute, or is not a directory.
pub(crate) fn check_parent(images: &Path, parent: &Path) -> Result<()> {
    if parent.is_absolute() {
        bail!("--parent-path must be relative");
    }
    // Clean the path by its text, because the images' directory may not exist yet.
    let path = clean(&absolute(&images.join(parent))?);
    let metadata =
        fs::metadata(&path).with_context(|| format!("invalid --parent-path: {path:?}"))?;
    if !metadata.is_dir() {
        bail!("invalid --parent-path: {path:?}: not a directory");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn a_parent_is_a_directory_beside_the_images() {
        let directory = testing::Directory::new("criu-images");
        let images = directory.path().join("images");
        fs::create_dir(directory.path().join("before")).expect("mkdir");
        fs::write(directory.path().join("file"), "").expect("write");
        check_parent(&images, Path::new("../before")).expect("there");
        for (parent, words) in [
            ("/before", "--parent-path must be relative"),
            ("../none", "no such file or directory"),
            ("../file", "not a directory"),
        ] {
            let error = check_parent(&images, Path::new(parent)).expect_err(parent);
            assert!(errno::chain(&error).contains(words), "{error:#}");
            assert!(errno::chain(&error).contains("--parent-path"), "{error:#}");
        }
    }

    #[test]
    fn streams_are_read_as_written() {
        let directory = testing::Directory::new("criu-streams");
        let path = directory.path().join("new/images");
        let images = Images::create(&path, None).expect("create");
        images.read_streams().expect_err("not yet");
        let streams = ["pipe:[1]".to_owned(), String::new(), "/dev/null".to_owned()];
        images.write_streams(&streams).expect("write");
        assert_eq!(images.read_streams().expect("read"), streams);
        let text = fs::read_to_string(path.join("descriptors.json")).expect("read");
        assert_eq!(text, r#"["pipe:[1]","","/dev/null"]"#);
    }
}
