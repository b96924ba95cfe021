//! Hearing of processes that the kernel kills for want of memory.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use crate::Cgroup;
use crate::error::{Error, Result};
use crate::file::Directory;

const CONTROL_V1: &str = "memory.oom_control";
const EVENTS_V2: &str = "memory.events";

/// News of a cgroup's kills, each told once: the kernel tells that something
/// changed, and its counter what.
#[derive(Debug)]
pub struct OomWatch {
    directory: Directory,
    source: Source,
    /// The kernel's counter when it was last read.
    seen: u64,
}

#[derive(Debug)]
enum Source {
    /// kernel, cgroup-v1/memory.rst, "OOM Control". It tells that memory is
    /// short; the kill comes a moment later.
    V1(EventFd),
    V2(Inotify),
}

impl Cgroup {
    /// Begins to watch; what was killed before is not told. `None` where the
    /// container has no cgroup of the memory controller.
    ///
    /// Errors: the kernel has no such interface, or the cgroup is gone.
    pub fn watch_oom(&self) -> Result<Option<OomWatch>> {
        let watch = match (self.v1_directory("memory"), &self.v2) {
            (Some(directory), _) => {
                let source = Source::V1(register(directory)?);
                OomWatch::new(directory, source)
            }
            (None, Some(directory)) if directory.path.join(EVENTS_V2).exists() => {
                let failed = |cause: nix::errno::Errno| {
                    Error::system("watch", &directory.path.join(EVENTS_V2), cause)
                };
                let flags = InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK;
                let inotify = Inotify::init(flags).map_err(failed)?;
                add_watch(&inotify, directory).map_err(failed)?;
                OomWatch::new(directory, Source::V2(inotify))
            }
            _ => return Ok(None),
        };
        Ok(Some(watch))
    }

    /// How many of its processes the kernel killed for want of memory.
    ///
    /// Errors: the file that counts them cannot be read.
    pub fn oom_kills(&self) -> Result<u64> {
        let (directory, file) = match (self.v1_directory("memory"), &self.v2) {
            (Some(directory), _) => (directory, CONTROL_V1),
            (None, Some(directory)) => (directory, EVENTS_V2),
            (None, None) => return Ok(0),
        };
        Ok(value(&directory.read_or_error(file)?, "oom_kill"))
    }
}

impl OomWatch {
    fn new(directory: &Directory, source: Source) -> OomWatch {
        let mut watch = OomWatch {
            directory: directory.clone(),
            source,
            seen: 0,
        };
        watch.seen = watch.kills();
        watch
    }

    /// Takes what the kernel has told, and returns how many kills are new.
    /// Without news it is 0; where the kernel tells early, ask again.
    pub fn new_kills(&mut self) -> u64 {
        match &self.source {
            // The descriptor does not block: there may be nothing to take.
            Source::V1(event) => match event.read() {
                Ok(_) | Err(_) => {}
            },
            Source::V2(inotify) => {
                let events = inotify.read_events().unwrap_or_default();
                // The file is gone: the controller was taken away, and perhaps
                // given back, which makes a new file.
                let is_new = |flags: AddWatchFlags| flags.contains(AddWatchFlags::IN_IGNORED);
                if events.iter().any(|event| is_new(event.mask)) {
                    match add_watch(inotify, &self.directory) {
                        // Without the file there is nothing to tell.
                        Ok(()) | Err(_) => {}
                    }
                }
            }
        }
        let now = self.kills();
        // The counters of new files, and of fewer cgroups, begin again.
        let new = now.saturating_sub(self.seen);
        self.seen = now;
        new
    }

    /// Whether the kernel may tell of a kill before it counts it (v1).
    pub fn may_tell_early(&self) -> bool {
        matches!(self.source, Source::V1(_))
    }

    /// Whether memory is short and nobody is killed for it, since the killer
    /// is disabled (v1).
    pub fn is_stuck(&self) -> bool {
        let text = match self.source {
            Source::V1(_) => self.directory.read(CONTROL_V1).unwrap_or_default(),
            Source::V2(_) => return false,
        };
        value(&text, "oom_kill_disable") == 1 && value(&text, "under_oom") == 1
    }

    fn kills(&self) -> u64 {
        match self.source {
            // Each cgroup counts its own processes.
            Source::V1(_) => kills_below(&self.directory),
            Source::V2(_) => {
                let text = self.directory.read(EVENTS_V2);
                text.map_or(0, |text| value(&text, "oom_kill"))
            }
        }
    }
}

impl AsFd for OomWatch {
    /// Readable when there may be news.
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.source {
            Source::V1(event) => event.as_fd(),
            Source::V2(inotify) => inotify.as_fd(),
        }
    }
}

fn register(directory: &Directory) -> Result<EventFd> {
    let path = directory.path.join("cgroup.event_control");
    let failed =
        |cause: std::io::Error| Error::system("watch", &directory.path.join(CONTROL_V1), cause);
    let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
    let event = EventFd::from_flags(flags).map_err(|errno| failed(errno.into()))?;
    // The kernel wants it open for reading while it is told, and no longer.
    let control = std::fs::File::open(directory.path.join(CONTROL_V1)).map_err(failed)?;
    let line = format!("{} {}", event.as_fd().as_raw_fd(), control.as_raw_fd());
    match directory.write("cgroup.event_control", &line) {
        Ok(()) => Ok(event),
        Err(cause) => Err(Error::system("write", &path, cause)),
    }
}

fn add_watch(inotify: &Inotify, directory: &Directory) -> nix::Result<()> {
    let path = directory.path.join(EVENTS_V2);
    inotify.add_watch(&path, AddWatchFlags::IN_MODIFY).map(drop)
}

fn kills_below(directory: &Directory) -> u64 {
    let own = directory.read(CONTROL_V1);
    let own = own.map_or(0, |text| value(&text, "oom_kill"));
    let below = directory.below().unwrap_or_default();
    own + below.iter().map(kills_below).sum::<u64>()
}

/// The number behind a name, one a line; 0 if it is not there.
fn value(text: &str, name: &str) -> u64 {
    let lines = text.lines();
    let value = lines
        .filter_map(|line| line.split_once(' '))
        .find(|(key, _)| *key == name);
    value.map_or(0, |(_, value)| crate::stats::parse(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_by_whole_names() {
        let text = "oom_kill_disable 1\nunder_oom 0\noom_kill 3";
        assert_eq!(value(text, "oom_kill"), 3);
        assert_eq!(value(text, "under_oom"), 0);
        assert_eq!(value(text, "oom"), 0);
    }
}
