//! teu, a low-level OCI container runtime.
//!
//! `main` reads the command line, opens the log, does what was asked, reports
//! an error once and chooses the exit status. What the commands do is in
//! `commands/`, a file each.

mod cli;
#[allow(
    dead_code,
    reason = "the commands that read these options are being built"
)]
mod commands;
#[allow(dead_code, reason = "the commands that fail so are being built")]
mod failure;
mod json;
#[allow(dead_code, reason = "the commands that log are being built")]
mod log;
#[allow(
    dead_code,
    reason = "the plan that uses these decisions is being built"
)]
mod plan;
mod root;
mod sys;
#[allow(dead_code, reason = "the state that records a time is being built")]
mod timestamp;
mod version;

use crate::cli::{Asked, Cli, Command, GlobalArgs, Refusal};
use crate::commands::{create, delete, features, kill, list, run, spec, start, state};
use anyhow::{Context, Result};
use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    let Cli {
        program,
        global,
        asked,
    } = Cli::read(std::env::args_os());
    match answer(&program, &global, asked) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            log::fatal(&failure::report(&error));
            ExitCode::FAILURE
        }
    }
}

/// Does what was asked and returns the exit status.
fn answer(program: &str, global: &GlobalArgs, asked: Asked) -> Result<u8> {
    match asked {
        Asked::Help(text) => print(&text).map(|()| 0),
        Asked::Version => print(&version::text(program)).map(|()| 0),
        Asked::Refused(refusal) => {
            open_log(global)?;
            refuse(&refusal)
        }
        Asked::Command(command) => {
            let root = global.root()?;
            open_log(global)?;
            dispatch(program, command, global, root)
        }
    }
}

fn dispatch(program: &str, command: Command, global: &GlobalArgs, root: root::Root) -> Result<u8> {
    match command {
        Command::Create(args) => {
            let create = args
                .options(global, &root)
                .and_then(|options| create::create(&options));
            create.with_context(|| format!("{program} create failed"))?;
        }
        Command::Run(args) => {
            let run = args
                .options(global, &root)
                .and_then(|options| run::run(&options));
            return run.with_context(|| format!("{program} run failed"));
        }
        Command::Start(args) => start::start(&args.options(&root))?,
        Command::State(args) => state::state(&args.options(&root))?,
        Command::Kill(args) => kill::kill(&args.options(&root)?)?,
        Command::Delete(args) => delete::delete(&args.options(&root))?,
        Command::List(args) => list::list(&args.options(root)?)?,
        Command::Spec(args) => spec::spec(&args.options())?,
        Command::Features(_) => features::features()?,
    }
    Ok(0)
}

fn open_log(global: &GlobalArgs) -> Result<()> {
    log::set_up(&log::Options {
        file: global.log.clone(),
        format: global.log_format.clone(),
        debug: global.debug,
    })
}

/// Says why the command line cannot be read, on the streams runc uses.
fn refuse(refusal: &Refusal) -> Result<u8> {
    std::io::stderr()
        .write_all(refusal.notice.as_bytes())
        .context("write to standard error")?;
    print(&refusal.output)?;
    log::fatal(&refusal.message);
    Ok(refusal.status)
}

fn print(text: &str) -> Result<()> {
    std::io::stdout()
        .write_all(text.as_bytes())
        .context("write to standard output")
}
