//! The modes of the probe: each performs an operation and prints a line of JSON, `{"ok": …}` or
//! `{"errno": "EROFS"}`. Modes with an output of their own print only that (`echo`, `env`, `cat`,
//! `report`, `table`).

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags};
use nix::sched::CloneFlags;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::stat::{Mode, SFlag, makedev};
use nix::unistd::{ForkResult, Pid};
use serde_json::{Value, json};

use crate::{hook, report, sys, table};

/// The result of a mode.
enum Done {
    /// A value, to be printed as `{"ok": …}`.
    Answer(Value),
    /// The mode has printed its output.
    Printed,
    /// The program ends with this exit status.
    Exit(u8),
}

/// Runs the modes in `args`. Returns the exit status: that of `exit`, or 1 if the last mode failed
/// with an errno, or 2 for an unknown mode.
pub(crate) fn run(args: &[String]) -> ExitCode {
    let is_sequence = args.first().is_some_and(|mode| mode == "seq");
    let modes: Vec<&[String]> = if is_sequence {
        args[1..].split(|arg| arg == "--").collect()
    } else {
        vec![args]
    };
    let mut code = ExitCode::SUCCESS;
    for mode in modes {
        code = match run_one(mode) {
            Ok(Done::Answer(value)) => print(&json!({ "ok": value })),
            Ok(Done::Printed) => ExitCode::SUCCESS,
            Ok(Done::Exit(code)) => return ExitCode::from(code),
            Err(Failure::Errno(errno)) => {
                print(&json!({ "errno": report::errno_name(errno) }));
                ExitCode::FAILURE
            }
            Err(Failure::Usage) => {
                eprintln!("probe: cannot do {mode:?}");
                return ExitCode::from(2);
            }
        };
    }
    code
}

enum Failure {
    Errno(Errno),
    Usage,
}

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Failure {
        Failure::Errno(errno)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::Errno(error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))
    }
}

fn run_one(mode: &[String]) -> Result<Done, Failure> {
    let words: Vec<&str> = mode.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["report"] => printed(&report::report()),
        ["table"] => return printed_text(&table::table(&report::report())),
        ["echo", words @ ..] => return printed_text(&format!("{}\n", words.join(" "))),
        ["say", words @ ..] => {
            eprintln!("{}", words.join(" "));
            Done::Printed
        }
        ["env"] => return environment(),
        ["cat"] => return cat(),
        ["fds"] => Done::Answer(report::open_descriptors()),
        ["hook", file] => return Ok(answer(hook::record(Path::new(file))?)),
        ["hook-fail", code] => {
            eprintln!("hook fails as told");
            Done::Exit(number(code)?)
        }
        ["hook-sleep", seconds] | ["sleep", seconds] => {
            std::thread::sleep(Duration::from_secs_f64(number(seconds)?));
            answer(())
        }
        ["count", file] => return count(file),
        ["exit", code] => Done::Exit(number(code)?),
        _ => return process_mode(&words),
    };
    Ok(done)
}

fn process_mode(words: &[&str]) -> Result<Done, Failure> {
    let done = match words {
        ["sleep"] => loop {
            nix::unistd::pause();
        },
        ["kill", name] => answer(nix::sys::signal::raise(signal(name)?)?),
        ["trap", names @ ..] => return trap(names),
        ["watch", count] => return watch(number(count)?),
        ["winsize-watch"] => return watch_window_size(),
        ["fork", count] => return fork(number(count)?),
        ["run-away", count] => return run_away(number(count)?),
        ["spin", seconds] => spin(Duration::from_secs_f64(number(seconds)?)),
        ["allocate", bytes] => allocate(number(bytes)?),
        ["notify"] => return notify("READY=1"),
        ["notify", message] => return notify(message),
        ["setuid", uid] => answer(nix::unistd::setuid(number::<u32>(uid)?.into())?),
        ["setgid", gid] => answer(nix::unistd::setgid(number::<u32>(gid)?.into())?),
        ["unshare", kinds @ ..] => answer(nix::sched::unshare(clone_flags(kinds)?)?),
        ["setns", path] => answer(nix::sched::setns(
            fs::File::open(path)?,
            CloneFlags::empty(),
        )?),
        ["syscall", call, args @ ..] => return syscall(call, args),
        ["syscall32", call] => Done::Answer(json!(sys::syscall_32(number(call)?)?)),
        ["hostname", name] => answer(nix::unistd::sethostname(name)?),
        _ => return file_mode(words),
    };
    Ok(done)
}

fn file_mode(words: &[&str]) -> Result<Done, Failure> {
    let done = match words {
        ["open", path, access] => return open(path, access),
        ["keep", path, until] => return keep(path, Path::new(until)),
        ["reopen", path, seconds] => reopen(path, Duration::from_secs_f64(number(seconds)?)),
        ["stat", path] => Done::Answer(describe(path, &fs::metadata(path)?)),
        ["lstat", path] => Done::Answer(describe(path, &fs::symlink_metadata(path)?)),
        ["read", path] => Done::Answer(json!(
            String::from_utf8_lossy(&fs::read(path)?).into_owned()
        )),
        ["write", path, text] => return write(path, text),
        ["list", path] => {
            let mut names = Vec::new();
            for entry in fs::read_dir(path)? {
                names.push(entry?.file_name().to_string_lossy().into_owned());
            }
            names.sort();
            Done::Answer(json!(names))
        }
        ["mkdir", path] => answer(fs::create_dir(path)?),
        ["unlink", path] => answer(fs::remove_file(path)?),
        ["rmdir", path] => answer(fs::remove_dir(path)?),
        ["rename", from, to] => answer(fs::rename(from, to)?),
        ["symlink", target, path] => answer(std::os::unix::fs::symlink(target, path)?),
        ["readlink", path] => Done::Answer(json!(fs::read_link(path)?)),
        ["chdir", path] => answer(std::env::set_current_dir(path)?),
        ["chroot", path] => answer(std::os::unix::fs::chroot(path)?),
        ["chmod", path, mode] => {
            let mode = u32::from_str_radix(mode, 8).map_err(|_| Failure::Usage)?;
            answer(fs::set_permissions(path, fs::Permissions::from_mode(mode))?)
        }
        ["chown", path, uid, gid] => answer(std::os::unix::fs::chown(
            path,
            Some(number(uid)?),
            Some(number(gid)?),
        )?),
        ["mknod", path, kind, major, minor] => {
            return mknod(path, kind, number(major)?, number(minor)?);
        }
        ["mount", source, target, kind, options @ ..] => {
            return mount(source, target, kind, options.first().unwrap_or(&""));
        }
        ["umount", path] => answer(nix::mount::umount2(*path, MntFlags::MNT_DETACH)?),
        _ => return Err(Failure::Usage),
    };
    Ok(done)
}

/// The result of a mode that only succeeds or fails.
fn answer((): ()) -> Done {
    Done::Answer(json!(true))
}

fn printed(value: &Value) -> Done {
    print(value);
    Done::Printed
}

fn printed_text(text: &str) -> Result<Done, Failure> {
    io::stdout().write_all(text.as_bytes())?;
    Ok(Done::Printed)
}

/// Prints a line. If stdout is closed, the exit status tells.
fn print(value: &Value) -> ExitCode {
    match writeln!(io::stdout(), "{value}") {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn number<T: FromStr>(word: &str) -> Result<T, Failure> {
    word.parse().map_err(|_| Failure::Usage)
}

fn signal(name: &str) -> Result<Signal, Failure> {
    Signal::from_str(&format!("SIG{}", name.trim_start_matches("SIG"))).map_err(Failure::from)
}

fn environment() -> Result<Done, Failure> {
    let mut lines = String::new();
    for (name, value) in std::env::vars_os() {
        lines.push_str(&format!(
            "{}={}\n",
            name.to_string_lossy(),
            value.to_string_lossy()
        ));
    }
    printed_text(&lines)
}

fn cat() -> Result<Done, Failure> {
    let mut buffer = [0; 4096];
    loop {
        let length = io::stdin().read(&mut buffer)?;
        if length == 0 {
            return Ok(Done::Printed);
        }
        io::stdout().write_all(&buffer[..length])?;
        io::stdout().flush()?;
    }
}

/// Counts in memory and writes the number to `file`. Ends with 7 when `FILE.stop` exists.
fn count(file: &str) -> Result<Done, Failure> {
    let next = format!("{file}.next");
    let stop = format!("{file}.stop");
    for number in 1_u64.. {
        fs::write(&next, format!("{number}\n"))?;
        // A reader sees the old or the new file, never an empty one.
        fs::rename(&next, file)?;
        if Path::new(&stop).exists() {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(Done::Exit(7))
}

/// Prints "ready", waits for one of the signals, and prints "trapped NAME".
fn trap(names: &[&str]) -> Result<Done, Failure> {
    let mut signals = SigSet::empty();
    for name in names {
        signals.add(signal(name)?);
    }
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&signals), None)?;
    println!("ready");
    let caught = signals.wait()?;
    println!("trapped {}", caught.as_str().trim_start_matches("SIG"));
    Ok(Done::Printed)
}

/// Watches each of the next processes of this pid namespace until it ends, for at most ten
/// seconds. Collects all capabilities and the targets of all descriptors that it had.
fn watch(count: i32) -> Result<Done, Failure> {
    let end = Instant::now() + Duration::from_secs(10);
    let mut capabilities = 0;
    let mut descriptors = BTreeSet::new();
    let first = Pid::this().as_raw() + 1;
    for pid in first..first + count {
        let mut was_there = false;
        while Instant::now() < end {
            let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else {
                // The process has ended, perhaps before it was seen.
                if was_there || last_pid()? > pid {
                    break;
                }
                continue;
            };
            was_there = true;
            if let Some(line) = status.lines().find_map(|line| line.strip_prefix("CapPrm:")) {
                capabilities |= u64::from_str_radix(line.trim(), 16).map_err(|_| Errno::EINVAL)?;
            }
            for entry in fs::read_dir(format!("/proc/{pid}/fd"))
                .into_iter()
                .flatten()
                .flatten()
            {
                // The descriptor may be closed by now.
                if let Ok(link) = fs::read_link(entry.path()) {
                    descriptors.insert(link.display().to_string());
                }
            }
        }
    }
    Ok(Done::Answer(
        json!({ "capabilities": capabilities, "descriptors": descriptors }),
    ))
}

/// The pid of the youngest process of this pid namespace.
fn last_pid() -> Result<i32, Failure> {
    let text = fs::read_to_string("/proc/sys/kernel/ns_last_pid")?;
    text.trim().parse().map_err(|_| Errno::EINVAL.into())
}

/// Prints `ROWSxCOLUMNS` now and after every SIGWINCH.
fn watch_window_size() -> Result<Done, Failure> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGWINCH);
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&signals), None)?;
    loop {
        let (rows, columns) = sys::window_size(io::stdin().as_fd())?;
        println!("{rows}x{columns}");
        signals.wait()?;
    }
}

/// Starts `count` sleeping children; the result is their pids.
fn fork(count: usize) -> Result<Done, Failure> {
    let mut children = Vec::new();
    for _ in 0..count {
        match sys::fork()? {
            ForkResult::Parent { child } => children.push(child.as_raw()),
            ForkResult::Child => loop {
                nix::unistd::pause();
            },
        }
    }
    Ok(Done::Answer(json!(children)))
}

/// Starts `count` children that fork and end again and again, so that a list of them is always out
/// of date. Then sleeps. Ends after two minutes, in case the test could not end it.
fn run_away(count: usize) -> Result<Done, Failure> {
    let end = Instant::now() + Duration::from_secs(120);
    for _ in 0..count {
        if let ForkResult::Child = sys::fork()? {
            loop {
                match sys::fork() {
                    Ok(ForkResult::Parent { .. }) => return Ok(Done::Exit(0)),
                    Ok(ForkResult::Child) if Instant::now() > end => return Ok(Done::Exit(0)),
                    Ok(ForkResult::Child) => {}
                    // The limit of processes is reached; retry.
                    Err(_) => std::thread::yield_now(),
                }
            }
        }
    }
    println!("{}", json!({ "ok": "running away" }));
    loop {
        nix::unistd::pause();
    }
}

/// Opens `path`, waits until the file `until` exists, and writes to what it opened.
fn keep(path: &str, until: &Path) -> Result<Done, Failure> {
    let mut kept = OpenOptions::new().write(true).open(path)?;
    printed_text("kept\n")?;
    while !until.exists() {
        std::thread::sleep(Duration::from_millis(10));
    }
    kept.write_all(b"<7>a test of teu writes to an open device\n")?;
    Ok(answer(()))
}

/// Opens `path` again and again for `wall`. The result counts the successes and, by name, the
/// errnos.
fn reopen(path: &str, wall: Duration) -> Done {
    let start = Instant::now();
    let mut counts = std::collections::BTreeMap::<String, u64>::new();
    while start.elapsed() < wall {
        let outcome = match fs::File::open(path) {
            Ok(_) => "opened".to_owned(),
            Err(error) => {
                let errno = error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
                report::errno_name(errno).to_string()
            }
        };
        *counts.entry(outcome).or_default() += 1;
    }
    Done::Answer(json!(counts))
}

/// Computes for `wall`. The result is the CPU time and the CPUs used.
fn spin(wall: Duration) -> Done {
    let start = Instant::now();
    let mut cpus = std::collections::BTreeSet::new();
    while start.elapsed() < wall {
        if let Ok(cpu) = nix::sched::sched_getcpu() {
            cpus.insert(cpu);
        }
    }
    let used = nix::time::clock_gettime(nix::time::ClockId::CLOCK_PROCESS_CPUTIME_ID).ok();
    let seconds = used.map(|time| Duration::from(time).as_secs_f64());
    Done::Answer(json!({ "cpu_seconds": seconds, "cpus": cpus }))
}

/// Allocates `bytes` of memory and writes to all of it.
fn allocate(bytes: usize) -> Done {
    let memory = vec![1_u8; bytes];
    Done::Answer(json!(std::hint::black_box(memory).len()))
}

/// Sends a datagram to $NOTIFY_SOCKET (sd_notify(3)).
fn notify(message: &str) -> Result<Done, Failure> {
    let path = std::env::var_os("NOTIFY_SOCKET").ok_or(Errno::EDESTADDRREQ)?;
    UnixDatagram::unbound()?.send_to(message.as_bytes(), path)?;
    Ok(answer(()))
}

fn clone_flags(kinds: &[&str]) -> Result<CloneFlags, Failure> {
    kinds.iter().try_fold(CloneFlags::empty(), |flags, kind| {
        let flag = match *kind {
            "cgroup" => CloneFlags::CLONE_NEWCGROUP,
            "ipc" => CloneFlags::CLONE_NEWIPC,
            "mount" => CloneFlags::CLONE_NEWNS,
            "network" => CloneFlags::CLONE_NEWNET,
            "pid" => CloneFlags::CLONE_NEWPID,
            "user" => CloneFlags::CLONE_NEWUSER,
            "uts" => CloneFlags::CLONE_NEWUTS,
            _ => return Err(Failure::Usage),
        };
        Ok(flags | flag)
    })
}

fn syscall(call: &str, args: &[&str]) -> Result<Done, Failure> {
    let mut values = [0; 6];
    for (value, arg) in values.iter_mut().zip(args) {
        *value = number(arg)?;
    }
    Ok(Done::Answer(json!(sys::syscall(number(call)?, values)?)))
}

fn open(path: &str, access: &str) -> Result<Done, Failure> {
    OpenOptions::new()
        .read(access.contains('r'))
        .write(access.contains('w'))
        .open(path)?;
    Ok(answer(()))
}

/// Writes to a file, and creates it only where a regular file may be.
fn write(path: &str, text: &str) -> Result<Done, Failure> {
    let create = !path.starts_with("/proc/") && !path.starts_with("/sys/");
    let mut file = OpenOptions::new()
        .write(true)
        .create(create)
        .truncate(create)
        .open(path)?;
    file.write_all(text.as_bytes())?;
    Ok(answer(()))
}

fn describe(path: &str, metadata: &fs::Metadata) -> Value {
    json!({
        "path": path,
        "type": report::file_type(metadata),
        "mode": format!("{:04o}", metadata.permissions().mode() & 0o7777),
        "uid": metadata.uid(),
        "gid": metadata.gid(),
        "size": metadata.len(),
        "dev": metadata.dev(),
        "ino": metadata.ino(),
        "major": nix::sys::stat::major(metadata.rdev()),
        "minor": nix::sys::stat::minor(metadata.rdev()),
        "links": metadata.nlink(),
    })
}

fn mknod(path: &str, kind: &str, major: u64, minor: u64) -> Result<Done, Failure> {
    let kind = match kind {
        "c" => SFlag::S_IFCHR,
        "b" => SFlag::S_IFBLK,
        "p" => SFlag::S_IFIFO,
        _ => return Err(Failure::Usage),
    };
    let mode = Mode::from_bits_truncate(0o666);
    Ok(answer(nix::sys::stat::mknod(
        path,
        kind,
        mode,
        makedev(major, minor),
    )?))
}

/// Calls mount(2). Options that are not flags become the filesystem's data.
fn mount(source: &str, target: &str, kind: &str, options: &str) -> Result<Done, Failure> {
    let mut flags = MsFlags::empty();
    let mut data = Vec::new();
    for word in options.split(',').filter(|word| !word.is_empty()) {
        match word {
            "bind" => flags |= MsFlags::MS_BIND,
            "rbind" => flags |= MsFlags::MS_BIND | MsFlags::MS_REC,
            "remount" => flags |= MsFlags::MS_REMOUNT,
            "ro" => flags |= MsFlags::MS_RDONLY,
            "nosuid" => flags |= MsFlags::MS_NOSUID,
            "nodev" => flags |= MsFlags::MS_NODEV,
            "noexec" => flags |= MsFlags::MS_NOEXEC,
            "private" => flags |= MsFlags::MS_PRIVATE,
            "shared" => flags |= MsFlags::MS_SHARED,
            other => data.push(other),
        }
    }
    nix::mount::mount(
        Some(source),
        target,
        Some(kind),
        flags,
        Some(data.join(",").as_str()),
    )?;
    Ok(answer(()))
}

/// The pid of this process in the namespace of /proc, for hooks.
pub(crate) fn own_pid() -> i32 {
    Pid::this().as_raw()
}
