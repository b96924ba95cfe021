//! Hearing of processes that the kernel kills for want of memory.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use crate::Cgroup;
use crate::error::{Error, Result};
use crate::file::Directory;

const CONTROL_V1: &str = "memory.oom_control";
const EVENTS_V2: &str = "memory.events";

/// v1 may tell that memory is short before the kernel kills: how often and how long
/// its counter is looked at again.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
const LOOK_AGAIN_FOR: Duration = Duration::from_secs(1);

/// News of a cgroup's kills, each told once: the kernel tells that something
/// changed, and its counter what.
#[derive(Debug)]
pub struct OomWatch {
    directory: Directory,
    source: Source,
    /// The kernel's counter when it was last read.
    seen: u64,
    /// Since when memory is short without a kill, and the next look.
    short: Option<(Instant, Instant)>,
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
            short: None,
        };
        watch.seen = watch.kills();
        watch
    }

    /// Takes what the kernel has told by `now`, and returns how many kills are new:
    /// when there may be news, at [`OomWatch::deadline`], and after the end.
    pub fn new_kills(&mut self, now: Instant) -> u64 {
        let is_short = self.take_news();
        let counter = self.kills();
        // The counters of new files, and of fewer cgroups, begin again.
        let new = counter.saturating_sub(self.seen);
        self.seen = counter;
        let since = self.short.map(|(since, _)| since);
        match since.or(is_short.then_some(now)) {
            Some(since) if new == 0 && now < since + LOOK_AGAIN_FOR => {
                self.short = Some((since, now + LOOK_AGAIN));
                0
            }
            // With the killer disabled, this is all there is to tell.
            Some(_) if new == 0 => {
                self.short = None;
                u64::from(self.is_stuck())
            }
            _ => {
                self.short = None;
                new
            }
        }
    }

    /// When to look again, news or not.
    pub fn deadline(&self) -> Option<Instant> {
        self.short.map(|(_, next)| next)
    }

    /// Whether memory is short, and what comes of it may not have been counted.
    fn take_news(&self) -> bool {
        match &self.source {
            // The descriptor does not block: there may be nothing to take.
            Source::V1(event) => event.read().is_ok(),
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
                false
            }
        }
    }

    /// Whether memory is short and nobody is killed for it, since the killer
    /// is disabled (v1).
    fn is_stuck(&self) -> bool {
        let text = self.directory.read(CONTROL_V1).unwrap_or_default();
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
