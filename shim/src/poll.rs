//! What the one thread waits for (epoll(7)).

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;

pub use epoll::EventFlags;

/// Whose descriptor it is; the loop knows what to do about it.
pub type Token = u64;

/// An epoll instance.
#[derive(Debug)]
pub struct Poll(OwnedFd);

impl Poll {
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

    /// Waits for other `flags` of the descriptor; for none, only errors and the end.
    ///
    /// # Errors
    /// Those of epoll_ctl(2).
    pub fn change(&self, fd: impl AsFd, token: Token, flags: EventFlags) -> Result<(), Errno> {
        epoll::modify(&self.0, fd, epoll::EventData::new_u64(token), flags)
    }

    /// No longer waits for the descriptor. Closing its last copy does the same.
    ///
    /// # Errors
    /// Those of epoll_ctl(2).
    pub fn remove(&self, fd: impl AsFd) -> Result<(), Errno> {
        epoll::delete(&self.0, fd)
    }

    /// What is ready, after at most `timeout`.
    ///
    /// # Errors
    /// Those of epoll_wait(2) but EINTR.
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
