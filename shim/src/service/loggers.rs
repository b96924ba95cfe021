//! The loggers of tasks: their starts, the jobs that wait for them, and their ends.
//!
//! Reading the report of a logger that is ready is in `io/logger.rs`.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::anyhow;

use super::jobs::Then;
use super::{Service, failed};
use crate::io::{self, Readiness};
use crate::job::Work;
use crate::poll::{EventFlags, Token};
use crate::task::Logger;
use crate::ttrpc::Status;

/// The time within which a logger must be ready. containerd's own shim has no limit.
const READY_LIMIT: Duration = Duration::from_secs(20);
/// The time for which a logger may run after it was asked to end; containerd's shim has the
/// same.
const LOGGER_LIMIT: Duration = Duration::from_secs(12);
/// The token of a logger's readiness, after those of the streams.
pub(super) const LOGGER: Token = 4;

/// A job that waits for a logger to be ready.
#[derive(Debug)]
pub(super) struct Deferred {
    pub(super) readiness: Readiness,
    /// The time at which the job fails.
    pub(super) give_up_at: Instant,
    pub(super) work: Work,
    pub(super) fds: Vec<OwnedFd>,
    pub(super) then: Then,
}

impl Service {
    /// Starts the logger of a process. Keeps the job that makes the process until the logger
    /// is ready.
    pub(super) fn begin_logger(
        &mut self,
        id: &str,
        exec: &str,
        logger: io::Logger,
        work: Work,
        fds: Vec<OwnedFd>,
        then: Then,
    ) -> Result<(), Status> {
        let no_streams = || failed(anyhow!("the process {exec:?} of {id} has no streams"));
        let token = self.first_token(id, exec).ok_or_else(no_streams)?;
        let job = self.spawner.job(logger.work, logger.fds).map_err(failed)?;
        self.await_end(id, Ok(job), Then::Logged);
        let task = self.tasks.get_mut(id);
        let process = task.and_then(|task| task.process(exec).ok());
        if let Some(process) = process {
            process.logger = Some(Logger { job, kill_at: None });
        }
        self.poll
            .add(&logger.readiness, token + LOGGER, EventFlags::IN)
            .map_err(|err| failed(err.into()))?;
        self.deferred.insert(
            token,
            Deferred {
                readiness: logger.readiness,
                give_up_at: Instant::now() + READY_LIMIT,
                work,
                fds,
                then,
            },
        );
        Ok(())
    }

    /// Starts the job that waits for this logger if the logger is ready. Fails the job if the
    /// logger has ended.
    pub(super) fn logger_ready(&mut self, token: Token, id: &str) {
        let Some(deferred) = self.deferred.remove(&token) else {
            return;
        };
        let begun = match deferred.readiness.look() {
            Ok(false) => {
                self.deferred.insert(token, deferred);
                return;
            }
            Ok(true) => {
                // Closing the pipe removes it from the epoll instance.
                drop(deferred.readiness);
                self.spawner.job(deferred.work, deferred.fds)
            }
            Err(err) => Err(err),
        };
        self.await_end(id, begun, deferred.then);
    }

    /// Fails the jobs of a task that wait for loggers, because init has ended.
    pub(super) fn give_up_loggers(&mut self, id: &str) {
        let streams = self.streams.iter().filter(|(_, (task, _))| task == id);
        let tokens: Vec<Token> = streams.map(|(token, _)| *token).collect();
        for token in tokens {
            self.give_up_logger(token, "the container has ended before it was ready");
        }
    }

    /// Fails the jobs whose loggers are not ready in time.
    pub(super) fn give_up_late_loggers(&mut self, now: Instant) {
        let late = self
            .deferred
            .iter()
            .filter(|(_, deferred)| deferred.give_up_at <= now);
        let tokens: Vec<Token> = late.map(|(token, _)| *token).collect();
        for token in tokens {
            self.give_up_logger(
                token,
                &format!("logging binary did not call ready within {READY_LIMIT:?}"),
            );
        }
    }

    fn give_up_logger(&mut self, token: Token, why: &str) {
        let Some((id, _)) = self.streams.get(&token) else {
            return;
        };
        let id = id.clone();
        if let Some(deferred) = self.deferred.remove(&token) {
            self.await_end(
                &id,
                Err(anyhow!("the logger of {id}: {why}")),
                deferred.then,
            );
        }
    }

    /// Asks a logger to end, because the output it reads has ended.
    pub(super) fn stop_logger(&mut self, logger: Option<Logger>) {
        if let Some(mut logger) = logger {
            self.spawner.signal(logger.job, libc::SIGTERM).ok();
            logger.kill_at = Some(Instant::now() + LOGGER_LIMIT);
            self.stopping_loggers.push(logger);
        }
    }

    /// Kills loggers that have not ended in time.
    pub(super) fn kill_loggers(&mut self, now: Instant) {
        for logger in &mut self.stopping_loggers {
            if logger.kill_at.is_some_and(|time| time <= now) {
                logger.kill_at = None;
                self.spawner.signal(logger.job, libc::SIGKILL).ok();
            }
        }
    }
}
