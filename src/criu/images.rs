//! The directories of a checkpoint: that of its images, and that of CRIU's log.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};

use super::logfile;
use super::rpc::Options;
use crate::errno;

/// The names of the container's standard streams at the checkpoint, in the
/// images' directory: runc's file.
const STREAMS: &str = "descriptors.json";

/// The directories, open.
#[derive(Debug)]
pub(crate) struct Images {
    path: PathBuf,
    directory: File,
    /// Where CRIU works and logs, if not in the images' directory.
    work: Option<(PathBuf, File)>,
    log: PathBuf,
    log_name: &'static str,
    /// This process made the directory of the images.
    made: bool,
}

impl Images {
    /// For a checkpoint: makes what is missing. What may be there already is
    /// of an earlier checkpoint.
    ///
    /// # Errors
    /// A directory cannot be made or is none.
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

    /// For a restore.
    ///
    /// # Errors
    /// There are no images.
    pub(crate) fn open(path: &Path, work: Option<&Path>) -> Result<Images> {
        Images::with_log(path, work, "restore.log")
    }

    fn with_log(path: &Path, work: Option<&Path>, log_name: &'static str) -> Result<Images> {
        // The working directory will be another.
        let absolute = |path: &Path| {
            std::path::absolute(path).with_context(|| format!("find the directory of {path:?}"))
        };
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

    /// Lets a container whose root is the group `gid` on the host look for
    /// images: CRIU opens some of them in the container's user namespace. Only
    /// search permission, in a directory that was made here, and nobody can
    /// write there.
    ///
    /// # Errors
    /// The kernel refused.
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

    /// Opens them again, for [`Images::replace`]: called in the mount namespace
    /// of a criu that has its own. It mounts something where it works, which is
    /// only possible in a mount of its own.
    ///
    /// # Errors
    /// One is not there any more.
    pub(crate) fn reopen(&self) -> Result<Vec<OwnedFd>> {
        let paths = [Some(&self.path), self.work.as_ref().map(|(path, _)| path)];
        let paths = paths.into_iter().flatten();
        paths.map(|path| Ok(open_directory(path)?.into())).collect()
    }

    /// Puts those that [`Images::reopen`] opened in the place of ours.
    pub(crate) fn replace(&mut self, directories: Vec<OwnedFd>) {
        let mut directories = directories.into_iter().map(File::from);
        if let Some(directory) = directories.next() {
            self.directory = directory;
        }
        if let (Some((_, work)), Some(directory)) = (&mut self.work, directories.next()) {
            *work = directory;
        }
    }

    /// Tells CRIU of them.
    pub(crate) fn put_into(&self, options: &mut Options) {
        options.images_dir_fd = self.directory.as_raw_fd();
        options.work_dir_fd = self.work.as_ref().map(|(_, work)| work.as_raw_fd());
        options.log_file = self.log_name.to_owned();
    }

    /// Notes the names of the standard streams.
    ///
    /// # Errors
    /// They cannot be written.
    pub(crate) fn write_streams(&self, streams: &[String]) -> Result<()> {
        let path = self.path.join(STREAMS);
        let text = serde_json::to_vec(streams).context("write the streams as JSON")?;
        crate::atomic_file::write(&path, &text, 0o600)
    }

    /// Their names, as noted.
    ///
    /// # Errors
    /// They were not noted: the checkpoint is not complete.
    pub(crate) fn read_streams(&self) -> Result<Vec<String>> {
        let path = self.path.join(STREAMS);
        let text = fs::read(&path).with_context(|| format!("read {path:?}"))?;
        serde_json::from_slice(&text).with_context(|| format!("{path:?}"))
    }

    /// Quotes what CRIU logged about an error, and says where the rest is.
    pub(crate) fn explain(&self, error: &anyhow::Error) -> anyhow::Error {
        logfile::quote_errors(&self.log);
        anyhow!("{} (log file: {:?})", errno::chain(error), self.log)
    }
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

/// Checks `--parent-path`: the images of an earlier pre-dump, from the
/// directory of this one's.
///
/// # Errors
/// It is absolute, or leads to no directory.
pub(crate) fn check_parent(images: &Path, parent: &Path) -> Result<()> {
    if parent.is_absolute() {
        bail!("--parent-path must be relative");
    }
    // Lexically, since the images' directory may not be there yet.
    let path = lexical(&images.join(parent));
    let metadata =
        fs::metadata(&path).with_context(|| format!("invalid --parent-path: {path:?}"))?;
    if !metadata.is_dir() {
        bail!("invalid --parent-path: {path:?}: not a directory");
    }
    Ok(())
}

/// The path without `NAME/..`.
fn lexical(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            std::path::Component::ParentDir if clean.file_name().is_some() => {
                clean.pop();
            }
            std::path::Component::CurDir => {}
            other => clean.push(other),
        }
    }
    clean
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
