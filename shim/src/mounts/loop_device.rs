//! Attaches a file to a loop device, which makes it a block device (loop(4)).

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use linux_raw_sys::loop_device::{LO_FLAGS_AUTOCLEAR, LO_FLAGS_DIRECT_IO, LO_FLAGS_READ_ONLY};
use rustix::io::Errno;
use rustix::mount::MountFlags;

use super::options::{Loop, Options};
use crate::sys;

/// A loop device that the kernel frees when it is neither mounted nor open.
pub(super) struct LoopDevice {
    path: PathBuf,
    _open: File,
}

/// The number of attempts, because another process may take a free device first.
const ATTEMPTS: u32 = 100;

impl LoopDevice {
    pub(super) fn attach(source: &Path, options: &Options) -> Result<LoopDevice> {
        let read_only = options.flags.contains(MountFlags::RDONLY);
        let open = |path: &Path| {
            let opened = OpenOptions::new().read(true).write(!read_only).open(path);
            opened.with_context(|| format!("open {path:?}"))
        };
        let file = open(source)?;
        let control = open("/dev/loop-control".as_ref())?;
        let mut flags = LO_FLAGS_AUTOCLEAR as u32;
        if read_only {
            flags |= LO_FLAGS_READ_ONLY as u32;
        }
        if options.on_loop == Some(Loop::Direct) {
            flags |= LO_FLAGS_DIRECT_IO as u32;
        }
        for _ in 0..ATTEMPTS {
            let number = sys::free_loop_device(&control).context("find a free loop device")?;
            let path = PathBuf::from(format!("/dev/loop{number}"));
            let device = open(&path)?;
            match sys::configure_loop_device(&device, &file, flags) {
                Ok(()) => {
                    return Ok(LoopDevice {
                        path,
                        _open: device,
                    });
                }
                Err(Errno::BUSY) => {}
                Err(err) => return Err(err).with_context(|| format!("configure {path:?}")),
            }
        }
        bail!("other processes took all free loop devices")
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}
