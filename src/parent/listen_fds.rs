//! Descriptors that the caller keeps open for the container: the sockets of a service
//! manager (LISTEN_FDS, sd_listen_fds(3)), and those of `--preserve-fds`.

use anyhow::{Context, Result, bail};

use crate::{errno, sys};

/// The descriptors that the caller hands over to the container, from 3 on: first those
/// of LISTEN_FDS, then those of `--preserve-fds`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ListenFds {
    /// The number in LISTEN_FDS.
    pub(crate) listen: u32,
    /// The number of all descriptors that `init::execute::exec` is to preserve.
    pub(crate) preserved: u32,
}

impl ListenFds {
    /// Counts the descriptors of the environment and of `--preserve-fds`.
    ///
    /// # Errors
    /// The sum is too large.
    pub(crate) fn count(preserve: u32) -> Result<ListenFds> {
        let variable = |name: &str| std::env::var(name).ok()?.parse::<u32>().ok();
        let for_us = variable("LISTEN_PID").is_some_and(|pid| pid == std::process::id());
        let listen = if for_us {
            variable("LISTEN_FDS").unwrap_or(0)
        } else {
            0
        };
        let preserved = listen
            .checked_add(preserve)
            .context("too many descriptors to preserve")?;
        Ok(ListenFds { listen, preserved })
    }

    /// Takes the descriptors over. Sets close-on-exec on all of them, so that no hook
    /// inherits them; `init::execute::exec` clears it again.
    ///
    /// # Errors
    /// A descriptor is not open. The text is runc's.
    pub(crate) fn take(preserve: u32) -> Result<ListenFds> {
        let fds = ListenFds::count(preserve)?;
        fds.take_over()?;
        Ok(fds)
    }

    /// Takes over the descriptors of `--preserve-fds` only, because a further process
    /// of a container is not a service.
    ///
    /// # Errors
    /// The errors of [`ListenFds::take`].
    pub(crate) fn take_preserved(preserved: u32) -> Result<()> {
        ListenFds {
            listen: 0,
            preserved,
        }
        .take_over()
    }

    fn take_over(self) -> Result<()> {
        for index in 0..self.preserved {
            if let Err(err) = sys::take_inherited_descriptor(3 + index) {
                let err = errno::text(err);
                let (listen, preserve) = (self.listen, self.preserved - self.listen);
                match index.checked_sub(listen) {
                    Some(index) => {
                        bail!("unable to stat preserved-fd {index} (of {preserve}): {err}")
                    }
                    None => bail!("unable to stat LISTEN_FDS {index} (of {listen}): {err}"),
                }
            }
        }
        Ok(())
    }

    /// Returns the variables that announce the descriptors to the program, which is
    /// process 1.
    pub(crate) fn variables(self) -> Vec<(&'static str, String)> {
        match self.listen {
            0 => Vec::new(),
            count => vec![
                ("LISTEN_FDS", count.to_string()),
                ("LISTEN_PID", "1".into()),
            ],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use std::fs;

    #[test]
    fn descriptors_of_the_caller_are_told_from_our_own() {
        testing::in_child(|| {
            sys::close_from(3).expect("close");
            assert_eq!(ListenFds::take(0).expect("none"), ListenFds::default());
            let null = fs::File::open("/dev/null").expect("null");
            let error = ListenFds::take(1).expect_err("our own");
            assert_eq!(
                error.to_string(),
                "unable to stat preserved-fd 0 (of 1): no such file or directory"
            );
            rustix::io::fcntl_setfd(&null, rustix::io::FdFlags::empty()).expect("setfd");
            let taken = ListenFds::take(1).expect("the caller's");
            assert_eq!(
                taken,
                ListenFds {
                    listen: 0,
                    preserved: 1
                }
            );
            assert!(taken.variables().is_empty());
            let flags = rustix::io::fcntl_getfd(&null).expect("getfd");
            assert_eq!(flags, rustix::io::FdFlags::CLOEXEC);
        });
    }

    #[test]
    fn what_the_program_is_told() {
        let fds = ListenFds {
            listen: 2,
            preserved: 3,
        };
        assert_eq!(
            fds.variables(),
            [("LISTEN_FDS", "2".into()), ("LISTEN_PID", "1".into())]
        );
    }
}
