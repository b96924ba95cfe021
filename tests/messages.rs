//! Messages and exit statuses that engines look for: those that containerd, moby and Podman
//! match. The tests freeze them, because a change breaks an engine.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::harness::*;

tests![
    missing_program_is_not_found_in_path,
    missing_program_with_a_slash_is_no_such_file,
    directory_as_program_is_named,
    program_without_permission_is_denied,
    missing_config_is_named,
    broken_config_is_refused,
    incomplete_process_is_refused,
    terminal_needs_a_console_socket,
    console_socket_needs_a_terminal,
    unknown_signal_is_named,
    terminal_needs_one_in_front,
    filter_that_finds_nothing_says_why,
    root_of_all_is_refused,
    unknown_command_is_three,
    unknown_flag_is_refused,
    wrong_number_of_arguments_is_counted,
    log_file_gets_json,
    debug_log_tells_the_story_of_a_creation,
    log_tells_no_story_without_debug,
    trace_file_has_the_steps_of_all_processes,
    trace_file_that_cannot_be_written_is_refused,
    log_has_the_local_time,
    log_file_leaves_the_bare_message_on_stderr,
    bad_log_format_is_refused,
    version_lines_are_parsable,
    errors_start_with_the_command,
];

fn missing_program_is_not_found_in_path() {
    needs(&[Root]);
    let output = Bundle::new().args(["nosuch"]).run().exits(1);
    output.says("exec: \\\"nosuch\\\": executable file not found in $PATH");
}

fn missing_program_with_a_slash_is_no_such_file() {
    needs(&[Root]);
    Bundle::new()
        .args(["/bin/nosuch"])
        .run()
        .exits(1)
        .says("no such file or directory");
}

fn directory_as_program_is_named() {
    needs(&[Root, Teu]);
    Bundle::new()
        .args(["/etc"])
        .run()
        .exits(1)
        .says("is a directory");
}

fn program_without_permission_is_denied() {
    needs(&[Root]);
    let bundle = Bundle::new()
        .file("/bin/plain", "text")
        .args(["/bin/plain"]);
    bundle.run().exits(1).says("permission denied");
}

fn missing_config_is_named() {
    needs(&[Root]);
    let container = Container::new(Bundle::new());
    fs::remove_file(container.bundle.directory.join("config.json")).unwrap();
    container
        .create()
        .exits(1)
        .says("JSON specification file config.json not found");
}

fn broken_config_is_refused() {
    needs(&[Root]);
    let container = Container::new(Bundle::new());
    for text in ["", "{", "[]", "{\"process\": 1}", "{}"] {
        fs::write(container.bundle.directory.join("config.json"), text).unwrap();
        container.create().exits(1);
        assert!(!container.has_state(), "{text:?}");
    }
}

fn incomplete_process_is_refused() {
    needs(&[Root]);
    let refused = |bundle: Bundle, words: &str| {
        Container::new(bundle).create().exits(1).says(words);
    };
    let run = Bundle::new().remove("/process").run().exits(1);
    run.says("process property must not be empty");
    refused(
        Bundle::new().set("/process/cwd", ""),
        "Cwd property must not be empty",
    );
    refused(
        Bundle::new().set("/process/cwd", "up"),
        "Cwd must be an absolute path",
    );
    refused(
        Bundle::new().set("/process/args", Vec::<Value>::new()),
        "args must not be empty",
    );
}

fn terminal_needs_a_console_socket() {
    needs(&[Root]);
    let container = Container::new(Bundle::new().terminal());
    container
        .create()
        .exits(1)
        .says("will detach without setting console socket")
        .says("set \\\"terminal\\\" to false in config.json");
}

fn console_socket_needs_a_terminal() {
    needs(&[Root]);
    let container = Container::new(Bundle::new());
    let output = container
        .create_with(["--console-socket", "/nowhere"])
        .exits(1);
    output
        .says("cannot use console socket if")
        .says("will not detach or allocate tty");
}

fn unknown_signal_is_named() {
    needs(&[Root]);
    let container = Container::created(Bundle::new());
    container
        .kill("WALK")
        .exits(1)
        .says("unknown signal")
        .says("WALK");
    // The signal may be written as for kill(1).
    let call = |words: [&str; 2]| teu(["kill"]).args(words).output().exits(1);
    call(["-9", &container.id]).says(&format!("kill {} 9)", container.id));
    call([&container.id, "-9"]).says("unknown signal \\\"-9\\\" (is 9 meant?)");
    assert_eq!(container.status(), "created");
}

fn terminal_needs_one_in_front() {
    needs(&[Root, Teu]);
    let container = Container::new(Bundle::new().terminal());
    let run = container.command("run", NO_FLAGS);
    let output = run.with_program([Path::new("setsid"), "--wait".as_ref(), &runtime()]);
    output
        .output()
        .exits(1)
        .says("open /dev/tty: no such device or address (")
        .says("set \\\"terminal\\\" to false in config.json");
}

fn filter_that_finds_nothing_says_why() {
    needs(&[Root, Teu]);
    let bundle = Bundle::new().set("/annotations", json!({ "role": "web" }));
    let _container = Container::created(bundle);
    let list = |filter: &str| teu(["list", "-q", "--filter", filter]).output();
    for (filter, meant) in [("state=running", "status"), ("bundel=/", "bundle")] {
        let words = format!("(is \\\"{meant}\\\" meant?)");
        list(filter).ok().says(&words);
    }
    // Filters may name annotations that no container has.
    for filter in ["role=db", "team=a", "bundle=/", "status=running"] {
        assert_eq!(list(filter).ok().stderr, "", "{filter}");
    }
    list("status=runing")
        .exits(1)
        .says("not one of creating, created, running, paused, stopped");
}

fn root_of_all_is_refused() {
    needs(&[Root, Teu]);
    let call = Invocation::new(runtime()).args(["--root", "/", "list"]);
    call.output()
        .exits(1)
        .says("Option --root argument should not be set to /");
}

fn unknown_command_is_three() {
    needs(&[]);
    teu(["walk"])
        .output()
        .exits(3)
        .says("No help topic for 'walk'");
    teu(["version"]).output().exits(3);
    teu(["runn"])
        .output()
        .exits(3)
        .says("No help topic for 'runn' (is 'run' meant?)");
}

fn unknown_flag_is_refused() {
    needs(&[]);
    let words = "flag provided but not defined: -bogus";
    teu(["list", "--bogus"]).output().exits(1).says(words);
    teu(["create", "--bundel", "x", "y"])
        .output()
        .exits(1)
        .says("flag provided but not defined: -bundel (is --bundle meant?)");
    // Short flags cannot be combined.
    teu(["list", "-qf"])
        .output()
        .exits(1)
        .says("flag provided but not defined: -qf");
}

fn wrong_number_of_arguments_is_counted() {
    needs(&[]);
    teu(["state"])
        .output()
        .exits(1)
        .says("requires exactly 1 argument");
    teu(["create", "one", "two"])
        .output()
        .exits(1)
        .says("requires exactly 1 argument");
    teu(["kill"])
        .output()
        .exits(1)
        .says("requires a minimum of 1 argument");
}

/// Calls `--log FILE --log-format FORMAT state never-was`; returns the file's text, too.
fn log_of(format: &str) -> (Output, String) {
    let file = scratch().join(format!("log-{format}"));
    let call = Invocation::new(runtime()).arg("--root").arg(state_root());
    let call = call
        .arg("--log")
        .arg(&file)
        .args(["--log-format", format, "state", "never-was"]);
    let output = call.output().exits(1);
    (output, fs::read_to_string(file).unwrap())
}

fn log_file_gets_json() {
    needs(&[Root]);
    let (_, log) = log_of("json");
    let line: Value = serde_json::from_str(log.lines().last().unwrap()).unwrap();
    assert_eq!(line["level"], "error");
    assert!(
        line["msg"]
            .as_str()
            .unwrap()
            .contains("container does not exist"),
        "{log}"
    );
    assert!(line["time"].as_str().unwrap().contains('T'), "{log}");
    assert!(log.starts_with("{\"level\":\"error\",\"msg\":\""), "{log}");
}

/// Runs a container; returns the lines of its log in JSON.
fn log_of_run(options: &[&str]) -> Vec<Value> {
    let file = scratch().join("story");
    let container = Container::new(Bundle::new().probe("exit 0"));
    let call = Invocation::new(runtime()).arg("--root").arg(state_root());
    let call = call.arg("--log").arg(&file).args(["--log-format", "json"]);
    let call = call.args(options).args(["run", "--bundle"]);
    call.arg(&container.bundle.directory)
        .arg(&container.id)
        .output()
        .ok();
    let log = fs::read_to_string(file).unwrap();
    log.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn debug_log_tells_the_story_of_a_creation() {
    needs(&[Root, Teu]);
    let lines = log_of_run(&["--debug"]);
    assert!((8..=16).contains(&lines.len()), "{lines:#?}");
    let mut steps = Vec::new();
    for line in &lines {
        let keys: Vec<_> = line.as_object().unwrap().keys().collect();
        // The keys of logrus when it reports the caller.
        assert_eq!(keys, ["file", "func", "level", "msg", "time"], "{line}");
        assert_eq!(line["level"], "debug");
        steps.push(line["msg"].as_str().unwrap());
    }
    // Init runs in parallel with the parent, so only the messages of each are in order.
    let host = [
        "planned",
        "reserved",
        "made its cgroup",
        "nsexec container setup",
        "init is in its cgroup",
        "init: closing the pipe to signal completion",
        "saved the state",
        "started its program",
    ];
    let init = ["child process in init()", "entered the container's root"];
    for story in [&host[..], &init[..]] {
        let mut left = steps.iter();
        for step in story {
            let line = left.find(|line| line.contains(step));
            let line = line.unwrap_or_else(|| panic!("{step:?} in {steps:#?}"));
            assert!(line.ends_with(" ms in all)"), "{line}");
        }
    }
}

/// Several commands share a trace file; see "Trace Event Format" of Chromium.
fn trace_file_has_the_steps_of_all_processes() {
    needs(&[Root, Teu]);
    let file = scratch().join("trace.json");
    let file = file.to_str().unwrap();
    let container = Container::new(Bundle::new().probe("sleep"));
    let call = |verb| container.command(verb, ["--trace", file]);
    container.detach(call("create")).ok();
    call("start").output().ok();
    let exec = call("exec").args(["/probe", "exit", "0"]).output().ok();
    assert_eq!(exec.stderr, "");
    let open = fs::read_dir(format!("/proc/{}/fd", container.pid())).unwrap();
    let open: Vec<_> = open
        .map(|fd| fs::read_link(fd.unwrap().path()).unwrap())
        .collect();
    assert!(!open.contains(&file.into()), "{open:?}");
    call("delete").arg("--force").output().ok();

    let text = fs::read_to_string(file).unwrap();
    let array = format!("{}]", text.trim_end().trim_end_matches(','));
    let events: Vec<Value> = serde_json::from_str(&array).unwrap();
    let of_command = |verb: &str| {
        let is_its = |event: &&Value| {
            event["name"] == "process_name"
                && event["args"]["name"]
                    .as_str()
                    .unwrap()
                    .contains(&format!(" {verb} "))
        };
        let pid = &events.iter().find(is_its).unwrap()["pid"];
        let steps = events
            .iter()
            .filter(|event| event["ph"] == "X" && event["pid"] == *pid);
        let (parents, childs): (Vec<_>, Vec<_>) = steps.partition(|event| event["tid"] == *pid);
        for steps in [&parents, &childs] {
            for pair in steps.windows(2) {
                let end = pair[0]["ts"].as_u64().unwrap() + pair[0]["dur"].as_u64().unwrap();
                assert_eq!(pair[1]["ts"].as_u64().unwrap(), end, "{pair:?}");
            }
        }
        let names = |steps: Vec<&Value>| -> Vec<_> {
            steps
                .iter()
                .map(|step| step["name"].as_str().unwrap().to_owned())
                .collect()
        };
        (names(parents), names(childs))
    };
    for (verb, parents, childs) in [
        (
            "create",
            &[
                "made its cgroup",
                "waited for init to get ready",
                "saved the state",
                "ended",
            ][..],
            &[
                "init mounted \"/proc\"",
                "entered the container's root",
                "init has its attributes",
            ][..],
        ),
        ("start", &["let init execute the program", "ended"], &[]),
        (
            "exec",
            &["waited for the process to get ready", "ended"],
            &["joined the namespaces"],
        ),
        (
            "delete",
            &["removed the cgroup", "removed the state", "ended"],
            &[],
        ),
    ] {
        let (of_parent, of_child) = of_command(verb);
        for (expected, steps) in [(parents, of_parent), (childs, of_child)] {
            let mut left = steps.iter();
            for step in expected {
                assert!(
                    left.any(|name| name.contains(step)),
                    "{verb}: {step:?} in {steps:#?}"
                );
            }
        }
    }
}

fn trace_file_that_cannot_be_written_is_refused() {
    needs(&[Root]);
    let output = teu(["--trace", "/nowhere/trace", "list"]).output();
    output.exits(1).says("open the trace file");
}

fn log_tells_no_story_without_debug() {
    needs(&[Root, Teu]);
    assert_eq!(log_of_run(&[]), Vec::<Value>::new());
}

fn log_has_the_local_time() {
    needs(&[]);
    for (zone, ending) in [("EAST-01:30", "+01:30"), ("WEST8", "-08:00"), ("UTC0", "Z")] {
        let log = teu(["walk"]).env("TZ", zone).output().exits(3).stderr;
        let (time, _) = log.split_once("\" level=error").ok_or(&log).unwrap();
        let time = time.trim_start_matches("time=\"");
        assert!(time.ends_with(ending), "{zone}: {time}");
        assert_eq!(time.len(), "2026-11-22T18:09:19".len() + ending.len());
    }
}

fn log_file_leaves_the_bare_message_on_stderr() {
    needs(&[Root]);
    let (output, log) = log_of("text");
    assert_eq!(output.stderr, "container does not exist\n");
    assert!(
        log.contains("level=error msg=\"container does not exist\""),
        "{log}"
    );
    assert!(log.starts_with("time=\""), "{log}");
}

fn bad_log_format_is_refused() {
    needs(&[]);
    let call = Invocation::new(runtime()).args(["--log-format", "xml", "list"]);
    call.output().exits(1).says("xml");
}

fn version_lines_are_parsable() {
    needs(&[]);
    let version = Invocation::new(runtime())
        .arg("--version")
        .output()
        .ok()
        .stdout;
    let first: Vec<_> = version.lines().next().unwrap().split(' ').collect();
    assert_eq!(first[..2], [name().as_str(), "version"], "{version}");
    assert!(
        version.lines().any(|line| line.starts_with("spec: 1.")),
        "{version}"
    );
}

fn errors_start_with_the_command() {
    needs(&[Root]);
    let words = format!("{} create failed: ", name());
    Container::new(Bundle::new().args(["nosuch"]))
        .create()
        .exits(1)
        .says(&words);
    let words = format!("{} run failed: ", name());
    Bundle::new().args(["nosuch"]).run().says(&words);
}

/// The name of the runtime in messages.
fn name() -> String {
    runtime()
        .file_name()
        .unwrap()
        .to_string_lossy()
        .into_owned()
}
