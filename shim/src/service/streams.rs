//! The streams of tasks: opens them, finds them by their tokens, and removes them.
//!
//! Copying is in `io`.

use std::time::Instant;

use anyhow::Context;
use rustix::fs::{Gid, Uid};

use super::loggers::LOGGER;
use super::oom::OOM;
use super::{Service, TOKENS_OF_A_PROCESS, failed, no_container};
use crate::io::{self, Streams};
use crate::poll::Token;
use crate::ttrpc::Status;

impl Service {
    /// Handles events of a process's streams.
    pub(crate) fn stream_ready(&mut self, token: Token) {
        let base = token - token % TOKENS_OF_A_PROCESS;
        let Some((id, exec)) = self.streams.get(&base).cloned() else {
            return;
        };
        match token - base {
            LOGGER => return self.logger_ready(base, &id),
            OOM => return self.tell_oom(&id, Instant::now()),
            _ => {}
        }
        let poll = &self.poll;
        let process = self
            .tasks
            .get_mut(&id)
            .and_then(|task| task.process(&exec).ok());
        if let Some(streams) = process.and_then(|process| process.streams.as_mut()) {
            streams.ready(poll, token);
        }
        self.continue_deletion(&id, &exec);
    }

    pub(super) fn open_streams(&mut self, id: &str, exec: &str) -> Result<io::ChildEnds, Status> {
        let token = self.next_token;
        let (poll, namespace, sockets) = (&self.poll, &self.namespace, &self.sockets);
        let task = self.tasks.get_mut(id).ok_or_else(no_container)?;
        let (user, group) = task.owner;
        let process = task.process(exec)?;
        let whose = io::Process {
            namespace,
            id: if exec.is_empty() { id } else { exec },
            owner: (Uid::from_raw(user), Gid::from_raw(group)),
            sockets,
        };
        let opened = Streams::new(poll, token, &process.stdio, &whose, Instant::now());
        let (streams, ends) = opened
            .context("failed to create init process I/O")
            .map_err(failed)?;
        process.streams = Some(streams);
        self.next_token += TOKENS_OF_A_PROCESS;
        self.streams.insert(token, (id.to_owned(), exec.to_owned()));
        Ok(ends)
    }

    /// The first token of a process's current streams.
    pub(super) fn first_token(&self, id: &str, exec: &str) -> Option<Token> {
        let mut tokens = self.streams.iter().rev();
        let found = tokens.find(|(_, (task, name))| task == id && name == exec);
        found.map(|(token, _)| *token)
    }

    /// Removes the tokens of a process's streams.
    pub(super) fn forget_streams(&mut self, id: &str, exec: &str) {
        self.streams
            .retain(|_, (task, name)| task != id || name != exec);
    }
}
