//! Watches a cgroup for processes that the kernel kills because memory is short.
//!
//! [`Cgroup::watch_oom`] registers with the kernel: an eventfd on v1, an inotify watch
//! on v2. The caller polls [`OomWatch`] and calls [`OomWatch::new_kills`] when it is
//! readable. The kernel only tells that something changed, so `new_kills` reads the
//! kernel's counter and returns the difference to the last time.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use crate::Cgroup;
use crate::directory::Directory;
use crate::error::{Error, Result};

const CONTROL_V1: &str = "memory.oom_control";
const EVENTS_V2: &str = "memory.events";

/// On v1 the kernel may tell that memory is short before it kills a process. For
/// [`LOOK_AGAIN_FOR`], the counter is therefore read again at this interval.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
const LOOK_AGAIN_FOR: Duration = Duration::from_secs(1);

/// A watch on a cgroup, which reports each kill once.
#[derive(Debug)]
pub struct OomWatch {
    directory: Directory,
    source: Source,
    /// The kernel's counter when it was last read.
    seen: u64,
    /// If memory is short and no process was killed yet: since when, and the time to
    /// read the counter again.
    short: Option<(Instant, Instant)>,
}

#[derive(Debug)]
enum Source {
    /// kernel, cgroup-v1/memory.rst, "OOM Control". The event means that memory is
    /// short; the kill follows a moment later.
    V1(EventFd),
    V2(Inotify),
}

impl Cgroup {
    /// Begins to watch for kills. Earlier kills are not reported. Returns `None` if the
    /// container has no cgroup of the memory controller.
    ///
    /// # Errors
    /// Returns an error if the kernel does not have the interface, or if the cgroup was
    /// removed.
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

    /// Returns how many processes of the cgroup the kernel has killed because memory was
    /// short.
    ///
    /// # Errors
    /// Returns an error if the file with the counter cannot be read.
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
        watch.seen = watch.kills().unwrap_or(0);
        watch
    }

    /// Takes the kernel's events and returns the number of new kills. To be called when
    /// the descriptor is readable, at [`OomWatch::deadline`], and after the container
    /// has stopped. `now` is the present time.
    pub fn new_kills(&mut self, now: Instant) -> u64 {
        let is_short = self.take_events();
        let counter = self.kills().unwrap_or(self.seen);
        // The counter is smaller if the file is new or a cgroup below was removed.
        let new = counter.saturating_sub(self.seen);
        self.seen = counter;
        let since = self.short.map(|(since, _)| since);
        match since.or(is_short.then_some(now)) {
            Some(since) if new == 0 && now < since + LOOK_AGAIN_FOR => {
                self.short = Some((since, now + LOOK_AGAIN));
                0
            }
            // The OOM killer is disabled: report the shortage instead of a kill.
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

    /// Returns when [`OomWatch::new_kills`] has to be called even without an event.
    pub fn deadline(&self) -> Option<Instant> {
        self.short.map(|(_, next)| next)
    }

    /// Takes the kernel's events. Returns whether memory is short and the counter may not
    /// show the kill yet.
    fn take_events(&self) -> bool {
        match &self.source {
            // The descriptor does not block: without an event, read() fails.
            Source::V1(event) => event.read().is_ok(),
            Source::V2(inotify) => {
                let events = inotify.read_events().unwrap_or_default();
                // The file was removed, because the controller was disabled. If the
                // controller was enabled again, there is a new file.
                let is_new = |flags: AddWatchFlags| flags.contains(AddWatchFlags::IN_IGNORED);
                if events.iter().any(|event| is_new(event.mask)) {
                    match add_watch(inotify, &self.directory) {
                        // Without the file there are no events.
                        Ok(()) | Err(_) => {}
                    }
                }
                false
            }
        }
    }

    /// Returns whether memory is short and the OOM killer is disabled (v1).
    fn is_stuck(&self) -> bool {
        let text = self.directory.read(CONTROL_V1).unwrap_or_default();
        value(&text, "oom_kill_disable") == 1 && value(&text, "under_oom") == 1
    }

    /// Reads the kernel's counter of kills. Returns `None` if a part of it cannot be read.
    fn kills(&self) -> Option<u64> {
        match self.source {
            // On v1, each cgroup counts its own processes only.
            Source::V1(_) => kills_below(&self.directory),
            Source::V2(_) => {
                let text = self.directory.read(EVENTS_V2);
                Some(text.map_or(0, |text| value(&text, "oom_kill")))
            }
        }
    }
}

impl AsFd for OomWatch {
    /// Returns the descriptor, which is readable if there are events.
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
    // The kernel needs the open file only during the write below.
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

/// Returns `None` if the cgroups below cannot be listed.
fn kills_below(directory: &Directory) -> Option<u64> {
    let own = |cgroup: &Directory| {
        let text = cgroup.read(CONTROL_V1);
        text.map_or(0, |text| value(&text, "oom_kill"))
    };
    let mut kills = own(directory);
    let all = directory.for_each_below(|below| {
        kills += own(below);
        Ok(())
    });
    all.is_ok().then_some(kills)
}

/// Returns the number of the line with this name, or 0 if there is no such line.
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
    fn a_value_is_found_by_its_whole_name() {
        let text = "oom_kill_disable 1\nunder_oom 0\noom_kill 3";
        assert_eq!(value(text, "oom_kill"), 3);
        assert_eq!(value(text, "under_oom"), 0);
        assert_eq!(value(text, "oom"), 0);
    }
}
