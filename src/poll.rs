//! Waits for several descriptors at once, until a deadline (poll(2)).

use std::time::Instant;

use rustix::event::{PollFd, Timespec};
use rustix::io::Errno;

/// Waits until a descriptor is ready, or until the deadline; without a deadline, for ever.
/// Returns whether a descriptor is ready. If the deadline has passed, returns at once. A
/// signal does not end the wait.
///
/// # Errors
/// poll(2) fails.
pub(crate) fn wait_until(
    events: &mut [PollFd<'_>],
    deadline: Option<Instant>,
) -> Result<bool, Errno> {
    loop {
        let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
        // A time that the kernel cannot count is no limit.
        let left = left.and_then(|left| Timespec::try_from(left).ok());
        match rustix::event::poll(events, left.as_ref()) {
            Ok(ready) => return Ok(ready > 0),
            Err(Errno::INTR) => {}
            Err(err) => return Err(err),
        }
    }
}

/// Waits until a descriptor is ready. A signal does not end the wait.
///
/// # Errors
/// poll(2) fails.
pub(crate) fn wait(events: &mut [PollFd<'_>]) -> Result<(), Errno> {
    wait_until(events, None).map(|_| ())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustix::event::PollFlags;

    use super::*;

    #[test]
    fn waits_until_the_deadline_or_the_first_event() {
        let (reader, writer) = rustix::pipe::pipe().expect("a pipe");
        let mut events = [PollFd::new(&reader, PollFlags::IN)];
        let time = Duration::from_millis(30);
        let begin = Instant::now();
        assert_eq!(wait_until(&mut events, Some(begin + time)), Ok(false));
        assert!(begin.elapsed() >= time, "{:?}", begin.elapsed());
        assert_eq!(
            wait_until(&mut events, Some(begin)),
            Ok(false),
            "it has passed"
        );
        drop(writer);
        assert_eq!(wait_until(&mut events, Some(begin)), Ok(true));
        assert_eq!(wait(&mut events), Ok(()));
        assert!(events[0].revents().contains(PollFlags::HUP));
    }
}
