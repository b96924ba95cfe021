//! Waits for descriptors with epoll(7), for the server's only thread.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;

pub use epoll::EventFlags;

/// Identifies a descriptor to the server's loop, which knows how to handle it.
pub type Token = u64;

/// An epoll instance.
#[derive(Debug)]
pub struct Poll(OwnedFd);

impl Poll {
    /// Makes an instance.
    ///
    /// # Errors
    /// Those of epoll_create1(2).
    pub fn new() -> Result<Poll, Errno> {
        epoll::create(epoll::CreateFlags::CLOEXEC).map(Poll)
    }

    /// Waits for `flags` of the descriptor, level-triggered.
    ///
    /// # Errors
    /// Those of epoll_ctl(2): EPERM for a regular file, which is always ready.
    pub fn add(&self, fd: impl AsFd, token: Token, flags: EventFlags) -> Result<(), Errno> {
        epoll::add(&self.0, fd, epoll::EventData::new_u64(token), flags)
    }

    /// Replaces the `flags` to wait for. With empty flags, only errors and hang-ups are reported.
    ///
    /// # Errors
    /// Those of epoll_ctl(2).
    pub fn change(&self, fd: impl AsFd, token: Token, flags: EventFlags) -> Result<(), Errno> {
        epoll::modify(&self.0, fd, epoll::EventData::new_u64(token), flags)
    }

    /// Stops waiting for the descriptor. Closing its last copy does so, too.
    ///
    /// # Errors
    /// Those of epoll_ctl(2).
    pub fn remove(&self, fd: impl AsFd) -> Result<(), Errno> {
        epoll::delete(&self.0, fd)
    }

    /// Waits for at most `timeout` and returns the ready descriptors.
    ///
    /// # Errors
    /// Those of epoll_wait(2) except EINTR.
    pub fn wait(&self, timeout: Option<Duration>) -> Result<Vec<(Token, EventFlags)>, Errno> {
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        let mut events: Vec<epoll::Event> = Vec::with_capacity(64);
        match epoll::wait(&self.0, spare_capacity(&mut events), timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(err) => return Err(err),
        }
        let ready = events.iter();
        Ok(ready.map(|event| (event.data.u64(), event.flags)).collect())
    }
}
