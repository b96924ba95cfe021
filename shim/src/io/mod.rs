//! The streams of a process: the descriptors 0, 1 and 2 with which it starts, and the copies
//! of input from the client and of output to the client.
//!
//! The client names fifos, or a file or a program for the output. The process does not get
//! these fifos but pipes of the shim, so that output waits there while a client is slow, or
//! while it is restarted.

mod console_socket;
mod copy;
mod fifo;
mod logger;
mod output;
mod uri;

use std::fs::{DirBuilder, OpenOptions};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use rustix::fs::{Gid, Uid, fchown};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::poll::{Poll, Token};
use console_socket::ConsoleSocket;
use copy::{Copy, Progress};
use fifo::OutputFifo;
pub use logger::{Logger, Readiness};
use output::{Output, Sink};
use uri::Uri;

/// The client's names for the streams. An empty name means no stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stdio {
    /// A fifo or a file.
    pub stdin: String,
    /// A fifo, a file, or the URI of a file or a program. A URI is for stderr, too.
    pub stdout: String,
    /// A fifo or a file.
    pub stderr: String,
    /// Whether the process has a terminal; then there is no stderr.
    pub terminal: bool,
}

/// The process to which the streams belong.
#[derive(Debug, Clone, Copy)]
pub struct Process<'a> {
    /// The container's namespace in containerd.
    pub namespace: &'a str,
    /// The id of the container or of the exec.
    pub id: &'a str,
    /// The user and group that own the pipes. They are the process's, so that it may open
    /// `/dev/stdout` again.
    pub owner: (Uid, Gid),
    /// A directory for the socket of the terminal. It has a short path, and no other program
    /// makes files in it.
    pub sockets: &'a Path,
}

/// The descriptors with which the process starts.
#[derive(Debug)]
pub struct ChildEnds {
    /// Descriptor 0. With a terminal, all three are `/dev/null` until the terminal is made.
    pub stdin: OwnedFd,
    /// Descriptor 1.
    pub stdout: OwnedFd,
    /// Descriptor 2.
    pub stderr: OwnedFd,
    /// The program that reads the output. It must be ready before the process starts.
    pub logger: Option<Logger>,
}

/// The streams between a process and its client.
#[derive(Debug)]
pub struct Streams {
    /// The token of stdin. Those of stdout and stderr follow.
    token: Token,
    stdin: Option<Input>,
    outputs: [Option<Output>; 2],
    terminal: Option<Terminal>,
    /// The time at which output that is not read is dropped.
    give_up_at: Option<Instant>,
}

/// The copy of the input.
#[derive(Debug)]
struct Input {
    copy: Copy,
    /// A writer that keeps the input open. Without it, the input ends with the last client.
    keeper: Option<OwnedFd>,
}

#[derive(Debug)]
enum Terminal {
    Awaited {
        socket: ConsoleSocket,
        stdin: String,
        stdout: Sink,
    },
    Here {
        master: OwnedFd,
        /// The input has ended, so the terminal is closed when its output is read.
        hangs_up: bool,
    },
}

/// The offsets of the streams' tokens from the first token.
const STDIN: Token = 0;
const STDOUT: Token = 1;
const STDERR: Token = 2;

impl Streams {
    /// Opens the streams that the client names and starts to copy. The streams use `token`
    /// and the next two.
    ///
    /// # Errors
    /// A stream does not exist or cannot be opened, or has an unknown scheme.
    /// The client names something that is not there, or that no shim knows.
    pub fn new(
        poll: &Poll,
        token: Token,
        stdio: &Stdio,
        process: &Process<'_>,
        now: Instant,
    ) -> Result<(Streams, ChildEnds)> {
        let mut streams = Streams {
            token,
            stdin: None,
            outputs: [None, None],
            terminal: None,
            give_up_at: None,
        };
        let ends = if stdio.terminal {
            streams.await_terminal(stdio, process, now)?
        } else {
            streams.open(poll, stdio, process, now)?
        };
        Ok((streams, ends))
    }

    fn open(
        &mut self,
        poll: &Poll,
        stdio: &Stdio,
        process: &Process<'_>,
        now: Instant,
    ) -> Result<ChildEnds> {
        let stdin = self.open_input(poll, Path::new(&stdio.stdin), process)?;
        let uri = Uri::parse(&stdio.stdout);
        let mut logger = None;
        let [stdout, stderr] = match uri.scheme.as_str() {
            "fifo" => {
                let stdout = self.open_output(poll, 0, &uri.path, process, now)?;
                let stderr = if stdio.stderr == stdio.stdout {
                    // One pipe keeps the order of what is written to stdout and stderr.
                    stdout.try_clone().context("dup the output's pipe")?
                } else {
                    self.open_output(poll, 1, Path::new(&stdio.stderr), process, now)?
                };
                [stdout, stderr]
            }
            "file" => {
                let file = make_log(&uri.path)?;
                [file.try_clone().context("dup the log")?, file]
            }
            "binary" | "binary-v2" => {
                let [stdout, stderr] = [pipe(process)?, pipe(process)?];
                logger = Some(Logger::new(&uri, process, stdout.0, stderr.0)?);
                [stdout.1, stderr.1]
            }
            scheme => bail!("unknown STDIO scheme {scheme}"),
        };
        Ok(ChildEnds {
            stdin,
            stdout,
            stderr,
            logger,
        })
    }

    /// Opens the input and returns the process's descriptor.
    fn open_input(&mut self, poll: &Poll, path: &Path, process: &Process<'_>) -> Result<OwnedFd> {
        if path.as_os_str().is_empty() {
            return null();
        }
        if !fifo::is_fifo(path)? {
            let file = OpenOptions::new().read(true).open(path);
            return Ok(file.with_context(|| format!("open {path:?}"))?.into());
        }
        let (from, to) = pipe(process)?;
        self.copy_input(poll, path, to, copy::PIPE)?;
        Ok(from)
    }

    fn copy_input(&mut self, poll: &Poll, path: &Path, to: OwnedFd, chunk: usize) -> Result<()> {
        let (from, keeper) = fifo::open_for_input(path)?;
        let copy = Copy::new(poll, self.token + STDIN, from, to, chunk).context("copy stdin")?;
        self.stdin = Some(Input {
            copy,
            keeper: Some(keeper),
        });
        Ok(())
    }

    /// Opens an output and returns the process's descriptor.
    fn open_output(
        &mut self,
        poll: &Poll,
        number: usize,
        path: &Path,
        process: &Process<'_>,
        now: Instant,
    ) -> Result<OwnedFd> {
        if path.as_os_str().is_empty() {
            return null();
        }
        if !fifo::is_fifo(path)? {
            let file = OpenOptions::new().append(true).open(path);
            return Ok(file.with_context(|| format!("open {path:?}"))?.into());
        }
        let sink = Sink::Fifo(OutputFifo::new(path, now)?);
        let (from, to) = pipe(process)?;
        self.copy_output(poll, number, from, sink, copy::PIPE, now)?;
        Ok(to)
    }

    fn copy_output(
        &mut self,
        poll: &Poll,
        number: usize,
        from: OwnedFd,
        sink: Sink,
        chunk: usize,
        now: Instant,
    ) -> Result<()> {
        let token = self.output_token(number);
        let output = Output::new(poll, token, from, sink, chunk);
        let output = output.and_then(|output| output.tick(poll, token, now));
        self.outputs[number] = output.context("copy output")?;
        Ok(())
    }

    /// Makes the socket to which the runtime will send the terminal.
    fn await_terminal(
        &mut self,
        stdio: &Stdio,
        process: &Process<'_>,
        now: Instant,
    ) -> Result<ChildEnds> {
        let uri = Uri::parse(&stdio.stdout);
        let mut logger = None;
        let stdout = match uri.scheme.as_str() {
            "fifo" => Sink::Fifo(OutputFifo::new(&uri.path, now)?),
            "binary" | "binary-v2" => {
                let (stdout, stderr) = (pipe(process)?, pipe(process)?);
                logger = Some(Logger::new(&uri, process, stdout.0, stderr.0)?);
                Sink::Logger(stdout.1)
            }
            scheme => bail!("unknown STDIO scheme {scheme}"),
        };
        // The name is unique: no other process has this pid, no other streams this token.
        let name = format!("pty-{}-{:x}", rustix::process::getpid(), self.token);
        self.terminal = Some(Terminal::Awaited {
            socket: ConsoleSocket::listen(process.sockets.join(name))?,
            stdin: stdio.stdin.clone(),
            stdout,
        });
        Ok(ChildEnds {
            stdin: null()?,
            stdout: null()?,
            stderr: null()?,
            logger,
        })
    }

    /// The path of the socket for the terminal, if the process gets one.
    #[must_use]
    pub fn console_socket(&self) -> Option<&Path> {
        match &self.terminal {
            Some(Terminal::Awaited { socket, .. }) => Some(socket.path()),
            _ => None,
        }
    }

    /// Receives the terminal, if the process gets one. The runtime must have ended, because
    /// it sends the terminal before.
    ///
    /// # Errors
    /// The runtime has not sent a terminal.
    pub fn receive_terminal(&mut self, poll: &Poll, now: Instant) -> Result<()> {
        match self.terminal.take() {
            Some(Terminal::Awaited {
                socket,
                stdin,
                stdout,
            }) => {
                let master = socket.receive()?;
                let copy = || master.try_clone().context("dup the terminal");
                if !stdin.is_empty() {
                    self.copy_input(poll, Path::new(&stdin), copy()?, copy::TERMINAL)?;
                }
                self.copy_output(poll, 0, copy()?, stdout, copy::TERMINAL, now)?;
                self.terminal = Some(Terminal::Here {
                    master,
                    hangs_up: false,
                });
                Ok(())
            }
            here => {
                self.terminal = here;
                Ok(())
            }
        }
    }

    /// Copies after an event of the descriptor with this token.
    pub fn ready(&mut self, poll: &Poll, token: Token) {
        match token.wrapping_sub(self.token) {
            STDIN => self.input_ready(poll),
            STDOUT => self.go_on(0, |output| output.ready(poll)),
            STDERR => self.go_on(1, |output| output.ready(poll)),
            _ => {}
        }
    }

    fn input_ready(&mut self, poll: &Poll) {
        let Some(input) = &mut self.stdin else { return };
        let progress = input.copy.ready(poll).unwrap_or_else(|err| {
            log::warn!("copy stdin: {}", teu_errno::text(&err.into()));
            Progress::Done
        });
        if progress == Progress::Done {
            self.stdin = None;
            // A terminal's input has no end of its own: only closing the master ends it.
            if let Some(Terminal::Here { hangs_up, .. }) = &mut self.terminal {
                *hangs_up = true;
                self.finish_terminal(poll);
            }
        }
    }

    /// Applies a step to an output. The output is removed if it is done or has failed.
    fn go_on(&mut self, number: usize, step: impl FnOnce(Output) -> Result<Option<Output>, Errno>) {
        if let Some(output) = self.outputs[number].take() {
            self.outputs[number] = step(output).unwrap_or_else(|err| {
                log::warn!("copy output: {}", teu_errno::text(&err.into()));
                None
            });
        }
        self.hang_up();
    }

    /// Closes the terminal if its input has ended and its output is read.
    fn hang_up(&mut self) {
        if self.is_drained()
            && let Some(Terminal::Here { hangs_up: true, .. }) = self.terminal
        {
            self.terminal = None;
        }
    }

    /// The time at which [`Streams::tick`] must be called.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let looks = self.outputs.iter().flatten().filter_map(Output::deadline);
        let give_up_at = self.give_up_at.filter(|_| !self.is_drained());
        looks.chain(give_up_at).min()
    }

    /// Checks for readers, and drops output that is too late.
    pub fn tick(&mut self, poll: &Poll, now: Instant) {
        for number in 0..self.outputs.len() {
            let token = self.output_token(number);
            self.go_on(number, |output| output.tick(poll, token, now));
        }
        if self.give_up_at.is_some_and(|time| time <= now) {
            for output in self.outputs.iter_mut().filter_map(Option::take) {
                output.give_up(poll);
            }
        }
    }

    /// Ends the input once all clients have closed it (CloseIO).
    pub fn close_stdin(&mut self) {
        if let Some(input) = &mut self.stdin {
            input.keeper = None;
        }
    }

    /// Sets the size of the terminal, if there is one.
    ///
    /// # Errors
    /// Those of ioctl_tty(2).
    pub fn resize(&self, width: u16, height: u16) -> Result<(), Errno> {
        let Some(Terminal::Here { master, .. }) = &self.terminal else {
            return Ok(());
        };
        tcsetwinsize(
            master,
            Winsize {
                ws_col: width,
                ws_row: height,
                ws_xpixel: 0,
                ws_ypixel: 0,
            },
        )
    }

    /// Handles the end of the process. The output of a terminal ends when it is empty,
    /// because other processes may keep the terminal open for long; the output of a pipe
    /// ends when no process has the pipe open.
    pub fn process_ended(&mut self, poll: &Poll) {
        if self.terminal.is_some() {
            self.finish_terminal(poll);
        }
    }

    fn finish_terminal(&mut self, poll: &Poll) {
        self.go_on(0, |mut output| output.finish(poll).map(|()| Some(output)));
    }

    /// Sets the time at which output that has not ended or is not read is dropped.
    pub fn give_up_at(&mut self, time: Instant) {
        self.give_up_at = Some(time);
    }

    /// Whether all output is where the client can read it, or was dropped.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.outputs.iter().flatten().all(Output::has_arrived)
    }

    fn output_token(&self, number: usize) -> Token {
        self.token + if number == 0 { STDOUT } else { STDERR }
    }
}

/// Makes a pipe that belongs to the process's owner.
fn pipe(process: &Process<'_>) -> Result<(OwnedFd, OwnedFd)> {
    let (from, to) = pipe_with(PipeFlags::CLOEXEC).context("make a pipe")?;
    let (user, group) = process.owner;
    fchown(&from, Some(user), Some(group)).context("chown a pipe")?;
    Ok((from, to))
}

fn null() -> Result<OwnedFd> {
    let null = OpenOptions::new().read(true).write(true).open("/dev/null");
    Ok(null.context("open /dev/null")?.into())
}

/// Opens a file for appending output.
fn make_log(path: &Path) -> Result<OwnedFd> {
    if let Some(parent) = path.parent() {
        let made = DirBuilder::new().recursive(true).mode(0o755).create(parent);
        made.with_context(|| format!("mkdir {parent:?}"))?;
    }
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o644)
        // O_NONBLOCK, because opening a fifo without a reader would block the server.
        .custom_flags(libc::O_NONBLOCK)
        .open(path);
    Ok(file.with_context(|| format!("open {path:?}"))?.into())
}

#[cfg(test)]
mod tests;
