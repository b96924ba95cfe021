//! The server's log: lines in a fifo, which containerd copies into its own log.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use log::{LevelFilter, Log, Metadata, Record};

/// The fifo. A line is lost if the fifo is full or has no reader.
struct Fifo(File);

/// Directs all later log messages to the bundle's fifo, if containerd reads it.
pub(crate) fn open(bundle: &Path, debug: bool) {
    let fifo = OpenOptions::new()
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(bundle.join("log"));
    let Ok(fifo) = fifo else { return };
    if log::set_boxed_logger(Box::new(Fifo(fifo))).is_ok() {
        log::set_max_level(match debug {
            true => LevelFilter::Debug,
            false => LevelFilter::Info,
        });
    }
}

impl Log for Fifo {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let level = match record.level() {
            log::Level::Error => "error",
            log::Level::Warn => "warning",
            log::Level::Info => "info",
            log::Level::Debug | log::Level::Trace => "debug",
        };
        let message = record.args().to_string();
        let line = format!("level={level} msg={message:?} runtime=io.containerd.teu.v2\n");
        (&self.0).write_all(line.as_bytes()).ok();
    }

    fn flush(&self) {}
}
