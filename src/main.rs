//! teu, a low-level OCI container runtime.
//!
//! `main` runs from a sealed view of the binary, reads the command line, opens the log,
//! executes the command, reports an error once and chooses the exit status. Not for the
//! work of commands: see `commands/`, one file each.

mod atomic_file;
mod bundle;
mod cli;
mod commands;
mod criu;
mod errno;
mod exeseal;
mod fd_socket;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod hook;
mod host;
mod init;
mod json;
mod known_failures;
mod logger;
mod parent;
mod pipe;
mod poll;
mod procfs;
mod shim;
mod signals;
mod size;
mod state;
mod sys;
#[cfg(test)]
mod testing;
mod version;

use crate::cli::{Asked, Cli, Command, GlobalArgs, Refusal};
use crate::commands::output::print;
use crate::commands::{
    create, delete, devices, events, exec, features, gpu, kill, list, pause, ps, start, stats,
    update,
};
use crate::logger::STEP;
use crate::parent::listen_fds::ListenFds;
use crate::state::root::Root;
use anyhow::{Context, Result};
use std::ffi::OsString;
use std::io::Write;
use std::panic;
use std::path::PathBuf;
use std::process::ExitCode;
use teu_plan::gpu_request::NVIDIA_HOOK;

/// The exit status of a failed command.
const FAILED: u8 = 1;
/// The exit status of an `exec` whose program did not run. Engines know it.
const EXEC_FAILED: u8 = 255;

const NOT_A_HOOK: &str = "nvidia-container-runtime-hook is a link to teu, which gives GPUs \
    without a hook. It was run because the container's runtime is not teu, or because teu found \
    no driver of NVIDIA's (`teu gpu check`)";

/// The allocator. musl's makes a system call for most allocations. It works in a child
/// after a fork without execve, because the process has one thread then. Unit tests
/// have many threads and use the default.
#[cfg(all(target_env = "musl", not(test)))]
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

/// The exit status of a cloned child after a panic: a shell's for SIGABRT.
const PANICKED: i32 = 134;

fn main() -> ExitCode {
    end_clones_after_a_panic();
    match name().as_deref() {
        Some(NVIDIA_HOOK) => {
            eprintln!("{NOT_A_HOOK}");
            ExitCode::from(FAILED)
        }
        Some(name) if name.starts_with(shim::PREFIX) => teu_shim::main(&shim::Teu),
        _ => {
            exeseal::start_sealed();
            ExitCode::from(run(std::env::args_os()))
        }
    }
}

/// Ends a cloned child by exit_group(2) when it panics. Its abort(3), in musl, would signal the
/// thread id from before the clone, which is another process's. This process itself aborts; in a
/// debug build it unwinds.
fn end_clones_after_a_panic() {
    let report = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        report(info);
        if teu_namespaces::is_clone() {
            teu_namespaces::exit_now(PANICKED);
        }
    }));
}

/// Executes a command line, which begins with the program's name. Returns the exit
/// status.
fn run(words: impl IntoIterator<Item = OsString>) -> u8 {
    let Cli {
        program,
        global,
        asked,
    } = Cli::read(words);
    let answered = answer(&program, &global, asked);
    let flushed = std::io::stdout()
        .flush()
        .context("write to standard output");
    let status = answered.and_then(|status| flushed.map(|()| status));
    status.unwrap_or_else(|error| {
        logger::fatal(&errno::chain(&error));
        FAILED
    })
}

/// Returns the file name by which the program was called. It selects the role of the
/// program, for example as a hook: Docker requires a program of that name for --gpus,
/// and adds it to the bundle as a hook. A runtime that runs this hook must fail,
/// because the container gets no GPU.
fn name() -> Option<String> {
    let path = PathBuf::from(std::env::args_os().next()?);
    Some(path.file_name()?.to_str()?.to_owned())
}

/// Executes the request. Returns the exit status.
fn answer(program: &str, global: &GlobalArgs, asked: Asked) -> Result<u8> {
    match asked {
        Asked::Help(text) => print(text.as_bytes()).map(|()| 0),
        Asked::Version => print(version::text(program).as_bytes()).map(|()| 0),
        Asked::Refused(refusal) => {
            open_log(global)?;
            refuse(&refusal)
        }
        Asked::Command(command) => {
            close_what_nobody_gave(&command)?;
            let root = global.root()?;
            open_log(global)?;
            let done = dispatch(program, command, global, root);
            log::trace!(target: STEP, "ended");
            done
        }
    }
}

/// Executes a command. Each command is `inline(never)`, because together in this
/// function they would have a stack frame of three pages and code of eighteen pages,
/// which every command would touch.
fn dispatch(program: &str, command: Command, global: &GlobalArgs, root: Root) -> Result<u8> {
    match command {
        Command::Create(args) => {
            let create = args.options(global, &root).and_then(|options| {
                exeseal::ensure_sealed()?;
                create::create(&options)
            });
            create.with_context(|| format!("{program} create failed"))?;
        }
        Command::Run(args) => {
            let run = args.options(global, &root).and_then(|options| {
                exeseal::ensure_sealed()?;
                commands::run::run(&options)
            });
            return run.with_context(|| format!("{program} run failed"));
        }
        Command::Exec(args) => {
            let exec = args.options(&root).and_then(|options| {
                exeseal::ensure_sealed()?;
                exec::exec(&options)
            });
            return Ok(exec.context("exec failed").unwrap_or_else(|error| {
                logger::fatal(&errno::chain(&error));
                EXEC_FAILED
            }));
        }
        Command::Checkpoint(args) => {
            commands::checkpoint::checkpoint(&args.options(&root)?)?;
        }
        Command::Restore(args) => {
            let options = args.options(global, &root)?;
            exeseal::ensure_sealed()?;
            return commands::restore::restore(&options);
        }
        Command::Start(args) => start::start(&root.path, &args.id)?,
        Command::State(args) => commands::state::state(&root.path, &args.id)?,
        Command::Pause(args) => pause::pause(&root.path, &args.id)?,
        Command::Ps(args) => ps::ps(&args.options(&root)?)?,
        Command::Resume(args) => pause::resume(&root.path, &args.id)?,
        Command::Kill(args) => kill::kill(&args.options(&root)?)?,
        Command::Delete(args) => delete::delete(&args.options(&root))?,
        Command::Devices(args) => return devices::devices(&args.options(&root)?),
        Command::Gpu(args) => return gpu::gpu(&args.options(&root)?),
        Command::List(args) => list::list(&args.options(root)?)?,
        Command::Spec(args) => commands::spec::spec(&args.options())?,
        Command::Features => features::features()?,
        Command::Stats(args) => stats::stats(&args.options(root)?)?,
        Command::Events(args) => events::events(&args.options(&root)?)?,
        Command::Update(args) => update::update(&args.options(&root)?)?,
    }
    Ok(0)
}

/// Closes descriptors that the caller left open by accident, because they could reach a
/// container or a hook. Must come first, while this process has opened no others.
///
/// The file of `exec --process` may be such a descriptor ("/dev/fd/63"). In that case
/// all stay open until init closes them.
fn close_what_nobody_gave(command: &Command) -> Result<()> {
    let given = match command {
        Command::Create(args) => ListenFds::count(args.bundle.preserve_fds)?.preserved,
        Command::Run(args) => ListenFds::count(args.bundle.preserve_fds)?.preserved,
        Command::Restore(_) | Command::Start(_) | Command::Delete(_) => 0,
        Command::Exec(args) if args.process.is_none() => args.preserve_fds,
        _ => return Ok(()),
    };
    let first = given
        .checked_add(3)
        .context("too many descriptors to preserve")?;
    sys::close_from(first).context("close_range")
}

fn open_log(global: &GlobalArgs) -> Result<()> {
    logger::set_up(&logger::Options {
        file: global.log.as_deref(),
        format: &global.log_format,
        is_debug: global.debug,
        trace: global.trace.as_deref(),
    })
}

/// Reports an invalid command line, on the streams that runc uses.
fn refuse(refusal: &Refusal) -> Result<u8> {
    std::io::stderr()
        .write_all(refusal.notice.as_bytes())
        .context("write to standard error")?;
    print(refusal.output.as_bytes())?;
    logger::fatal(&refusal.message);
    Ok(refusal.status)
}
