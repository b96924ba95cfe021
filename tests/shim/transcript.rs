//! A script of all calls with every possible mistake, and the replies: those of teu's shim and
//! of containerd's must be equal except where the transcript says so.

use std::fmt::Debug;
use std::path::PathBuf;

use nix::sys::signal::Signal;
use serde_json::json;
use teu_shim::proto::Any;
use teu_shim::proto::events::{Event as _, TaskDelete, TaskExit, TaskOOM};
use teu_shim::proto::options::ProcessDetails;
use teu_shim::proto::options::runc::Options;
use teu_shim::proto::task::*;
use teu_shim::proto::ttrpc::Status;

use super::client::{Call, Client};
use super::engine::{
    Bootstrap, Engine, Shim, Streams, exec_request, kill_request, process_spec, start, wait,
};
use crate::harness::{
    Bundle, Container, GoShim, Root, Seconds, Teu, needs, runtime, scratch, tests, wait_until,
};

tests![
    ours_is_as_recorded,
    ours_is_as_recorded_for_older_engines,
    gos_is_as_recorded
];

fn ours_is_as_recorded() {
    needs(&[Root, Teu, Seconds(120)]);
    let engine = Engine::new();
    let whose = if engine.is_ours() { "teu" } else { "go" };
    compare(whose, &Script::run(engine, Bootstrap::Message, Some(3)));
}

fn ours_is_as_recorded_for_older_engines() {
    needs(&[Root, Teu, Seconds(120)]);
    let engine = Engine::new();
    let whose = if engine.is_ours() { "teu" } else { "go" };
    compare(whose, &Script::run(engine, Bootstrap::Flags, Some(2)));
}

/// Requires $TEU_GO_SHIM, the containerd-shim-runc-v2 of containerd 2.1.
fn gos_is_as_recorded() {
    needs(&[Root, Teu, GoShim, Seconds(120)]);
    let program = std::env::var_os("TEU_GO_SHIM").map(PathBuf::from);
    let engine = Engine::with(program.expect("just looked at"));
    compare("go", &Script::run(engine, Bootstrap::Flags, None));
}

/// Compares the replies with the recorded transcript. Lines in it that begin with `go | ` or
/// `teu| ` are for one shim only; a comment before them gives the reason.
#[track_caller]
fn compare(whose: &str, lines: &[String]) {
    let recorded = include_str!("../data/shim-transcript").lines();
    let recorded = recorded.filter(|line| !line.starts_with('#'));
    let recorded: Vec<&str> = recorded
        .filter_map(|line| match line.split_once("| ") {
            Some((owner @ ("go " | "teu"), line)) => (owner.trim() == whose).then_some(line),
            _ => Some(line),
        })
        .collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let missing = recorded.iter().filter(|line| !lines.contains(line));
    let new = lines.iter().filter(|line| !recorded.contains(line));
    let mut differences: Vec<String> = missing.map(|line| format!("- {line}")).collect();
    differences.extend(new.map(|line| format!("+ {line}")));
    if differences.is_empty() && recorded != lines {
        differences.push("the order of the lines".to_owned());
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

struct Script {
    engine: Engine,
    shim: Shim,
    client: Client,
    container: Container,
    id: String,
    section: &'static str,
    lines: Vec<String>,
    pids: Vec<String>,
}

impl Script {
    fn run(engine: Engine, bootstrap: Bootstrap, version: Option<i32>) -> Vec<String> {
        let limits = json!({ "limit": 64 << 20 });
        let bundle = Bundle::new()
            .probe("sleep")
            .set("/linux/resources/memory", limits);
        let container = Container::new(bundle);
        let shim = engine.start(&container, bootstrap);
        let client = shim.connect(version.unwrap_or(shim.version));
        let id = container.id.clone();
        let mut script = Script {
            engine,
            shim,
            client,
            container,
            id,
            section: "",
            lines: Vec::new(),
            pids: Vec::new(),
        };
        script.no_container();
        script.failed_creates();
        script.created();
        script.running();
        script.execs();
        script.failed_execs();
        script.paused();
        script.updates();
        script.stopped();
        script.deleted();
        script.killed_before_its_start();
        script.events();
        script.shim.shutdown();
        script.lines
    }

    /// Makes a call and records the result.
    fn ask<C: Call>(&mut self, what: &str, request: &C)
    where
        C::Reply: Debug,
    {
        self.ask_for(what, request, |reply| format!("{reply:?}"));
    }

    /// Makes a call and records the part of the reply that `show` selects.
    fn ask_for<C: Call>(&mut self, what: &str, request: &C, show: impl FnOnce(C::Reply) -> String) {
        let outcome = self.client.call(request);
        self.note_outcome(what, outcome.map(show));
    }

    fn note_outcome(&mut self, what: &str, outcome: Result<String, Status>) {
        let text = match outcome {
            Ok(text) => text,
            Err(status) => format!("{}: {}", code_name(status.code), status.message),
        };
        self.note(what, &text);
    }

    fn note(&mut self, what: &str, text: &str) {
        let text = self.plain(text);
        let line = format!("{}: {what}: {}", self.section, text.trim_end());
        eprintln!("{line}");
        self.lines.push(line);
    }

    /// Replaces what differs from run to run: paths, ids, pids, times and the cgroup version.
    fn plain(&mut self, text: &str) -> String {
        let mut text = text.replace('\n', " ");
        let bundle = &self.container.bundle.directory;
        for (path, name) in [
            (bundle, "BUNDLE"),
            (&scratch(), "SCRATCH"),
            (&runtime(), "RUNTIME"),
        ] {
            text = text.replace(&path.display().to_string(), name);
        }
        text = text
            .replace(&self.id, "ID")
            .replace("cgroups.v2.", "cgroups.v1.");
        // The file depends on the cgroup version.
        if let Some(at) = text.find("linux.resources.") {
            text.truncate(at);
        }
        // Go's zero time is in the year 1.
        text = replace_after(&text, "Timestamp { seconds: -", '}', |_| "".to_owned());
        text = text.replace("Timestamp { seconds: -}", "never");
        text = replace_after(&text, "Timestamp { seconds: ", '}', |_| "".to_owned());
        text = text.replace("Timestamp { seconds: }", "then");
        text = replace_after(&text, "to process ", ':', |_| "PID".to_owned());
        replace_after(&text, "pid: ", ' ', |pid| self.name_of(pid))
    }

    /// Names pids by the order in which they appear.
    fn name_of(&mut self, pid: &str) -> String {
        let digits = pid.trim_end_matches(',');
        if digits == "0" {
            return pid.to_owned();
        }
        let known = self.pids.iter().position(|known| known == digits);
        let number = known.unwrap_or_else(|| {
            self.pids.push(digits.to_owned());
            self.pids.len() - 1
        });
        pid.replace(digits, &format!("P{number}"))
    }

    /// Makes every call about a process that does not exist.
    fn ask_everything(&mut self, id: &str, exec: &str) {
        let (id, exec_id) = (id.to_owned(), exec.to_owned());
        let state = StateRequest {
            id: id.clone(),
            exec_id: exec_id.clone(),
        };
        self.ask("state", &state);
        self.ask("start", &start(&id, exec));
        self.ask("wait", &wait(&id, exec));
        self.ask("kill", &kill_request(&id, exec, 15));
        self.ask(
            "delete",
            &DeleteRequest {
                id: id.clone(),
                exec_id: exec_id.clone(),
            },
        );
        let size = ResizePtyRequest {
            id: id.clone(),
            exec_id: exec_id.clone(),
            width: 80,
            height: 24,
        };
        self.ask("resize", &size);
        self.ask(
            "close stdin",
            &CloseIORequest {
                id: id.clone(),
                exec_id,
                stdin: true,
            },
        );
        if !exec.is_empty() {
            return;
        }
        self.ask(
            "exec",
            &exec_request(&id, "none", "exit 0", &Streams::default()),
        );
        self.ask("pids", &PidsRequest { id: id.clone() });
        self.ask("pause", &PauseRequest { id: id.clone() });
        self.ask("resume", &ResumeRequest { id: id.clone() });
        self.ask("stats", &StatsRequest { id: id.clone() });
        self.ask(
            "update",
            &UpdateTaskRequest {
                id: id.clone(),
                ..UpdateTaskRequest::default()
            },
        );
        let checkpoint = CheckpointTaskRequest {
            id,
            ..CheckpointTaskRequest::default()
        };
        self.ask("checkpoint", &checkpoint);
    }

    fn no_container(&mut self) {
        self.section = "no container";
        let connect = ConnectRequest {
            id: self.id.clone(),
        };
        self.ask_for("connect", &connect, |reply| {
            format!("task_pid: {}", reply.task_pid)
        });
        let id = self.id.clone();
        self.ask_everything(&id, "");
        self.ask_everything(&id, "exec");
        for (what, service, method) in [
            ("unknown method", None, "Frobnicate"),
            ("unknown service", Some("containerd.task.v9.Task"), "State"),
        ] {
            let status = self.client.call_unknown(service, method).status;
            self.note_outcome(what, status.map_or_else(|| Ok("success".to_owned()), Err));
        }
        self.container_request("create without a bundle", |request| {
            request.bundle = scratch().join("none").display().to_string();
        });
    }

    /// Makes an invalid request to create the container.
    fn container_request(&mut self, what: &str, change: impl FnOnce(&mut CreateTaskRequest)) {
        let mut request = CreateTaskRequest {
            id: self.id.clone(),
            bundle: self.container.bundle.directory.display().to_string(),
            options: Some(Any::new(&self.engine.options())),
            ..CreateTaskRequest::default()
        };
        change(&mut request);
        self.ask(what, &request);
    }

    fn failed_creates(&mut self) {
        self.section = "failed create";
        let options = self.engine.options();
        let with = |options: Options| {
            move |request: &mut CreateTaskRequest| {
                request.options = Some(Any::new(&options));
            }
        };
        let binary_name = "no-such-runtime".to_owned();
        self.container_request(
            "no runtime",
            with(Options {
                binary_name,
                ..options
            }),
        );
        self.container_request("unknown stdio", |request| {
            request.stdout = "ftp://host/file".to_owned();
        });
        // Go's shim treats them as absent.
        if self.engine.is_ours() {
            self.container_request("unknown options", |request| {
                let value = Vec::new();
                request.options = Some(Any {
                    type_url: "no.such.Options".to_owned(),
                    value,
                });
            });
        }
        self.container_request("broken options", |request| {
            request.options.as_mut().expect("options").value = vec![0x0a, 0xff];
        });
        self.container_request("id with a slash", |request| request.id = "a/b".to_owned());
        self.container_request("no id", |request| request.id.clear());
        // Go's shim leaves that container behind.
        if self.engine.is_ours() {
            self.container_request("missing fifo", |request| {
                request.stdout = scratch().join("no/fifo").display().to_string();
            });
        }
        let bad = Container::new(Bundle::new().args(["/no/such/program"]));
        let outcome = self
            .client
            .try_create(&self.engine, &bad, &Streams::default());
        let text = outcome.map(|reply| format!("{reply:?}"));
        let text = text.map_err(|mut status| {
            status.message = status.message.replace(&bad.id, "BAD");
            status
        });
        self.note_outcome("no program", text);
        let bad = Container::new(Bundle::new().set("/process", json!("text")));
        let outcome = self
            .client
            .try_create(&self.engine, &bad, &Streams::default());
        let outcome = outcome.map(|reply| format!("{reply:?}"));
        self.note_outcome("broken config.json", outcome);
        let id = self.id.clone();
        let state = StateRequest {
            id,
            ..StateRequest::default()
        };
        self.ask("state after it", &state);
    }

    fn state(&mut self, exec: &str) {
        let request = StateRequest {
            id: self.id.clone(),
            exec_id: exec.to_owned(),
        };
        let what = if exec.is_empty() {
            "state".to_owned()
        } else {
            format!("state of {exec}")
        };
        self.ask(&what, &request);
    }

    fn pids(&mut self) {
        let request = PidsRequest {
            id: self.id.clone(),
        };
        self.ask_for("pids", &request, |reply| {
            let mut shown: Vec<String> = Vec::new();
            for process in reply.processes {
                let details = process.info.map(|info| {
                    info.decode_as::<ProcessDetails>()
                        .map(|details| details.expect("decode").exec_id)
                });
                shown.push(format!("pid: {} {details:?}", process.pid));
            }
            shown.join(", ")
        });
    }

    fn stats(&mut self) {
        let request = StatsRequest {
            id: self.id.clone(),
        };
        self.ask_for("stats", &request, |reply| {
            let stats = reply.stats.expect("statistics");
            let size = if stats.value.len() > 20 {
                "full"
            } else {
                "empty"
            };
            format!("{} {size}", stats.type_url)
        });
    }

    fn created(&mut self) {
        self.section = "created";
        let id = self.id.clone();
        self.container_request("create", |_| {});
        self.container_request("create again", |_| {});
        self.state("");
        self.pids();
        self.stats();
        let connect = ConnectRequest { id: id.clone() };
        self.ask_for("connect", &connect, |reply| {
            format!("task_pid: {}", reply.task_pid)
        });
        self.ask("pause", &PauseRequest { id: id.clone() });
        self.state("");
        self.ask("resume", &ResumeRequest { id: id.clone() });
        self.ask(
            "close stdin",
            &CloseIORequest {
                id: id.clone(),
                stdin: true,
                ..CloseIORequest::default()
            },
        );
        self.ask(
            "resize",
            &ResizePtyRequest {
                id: id.clone(),
                width: 80,
                height: 24,
                ..ResizePtyRequest::default()
            },
        );
        self.update("update", &json!({ "memory": { "limit": 48 << 20 } }));
        self.ask(
            "exec",
            &exec_request(&id, "early", "exit 0", &Streams::default()),
        );
        self.state("early");
        self.ask(
            "delete of the exec",
            &DeleteRequest {
                id: id.clone(),
                exec_id: "early".to_owned(),
            },
        );
        self.ask("signal 0", &kill_request(&id, "", 0));
        self.ask("signal 200", &kill_request(&id, "", 200));
        self.ask_everything_of_exec();
        self.ask("shutdown", &ShutdownRequest { id, now: false });
    }

    fn ask_everything_of_exec(&mut self) {
        let id = self.id.clone();
        self.ask_everything(&id, "unknown");
    }

    fn update(&mut self, what: &str, resources: &serde_json::Value) {
        let resources = Any {
            type_url: "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources".to_owned(),
            value: resources.to_string().into_bytes(),
        };
        let request = UpdateTaskRequest {
            id: self.id.clone(),
            resources: Some(resources),
            ..UpdateTaskRequest::default()
        };
        self.ask(what, &request);
    }

    fn running(&mut self) {
        self.section = "running";
        let id = self.id.clone();
        self.ask("start", &start(&id, ""));
        self.ask("start again", &start(&id, ""));
        self.state("");
        self.pids();
        self.stats();
        self.container_request("create again", |_| {});
        self.ask(
            "delete",
            &DeleteRequest {
                id: id.clone(),
                ..DeleteRequest::default()
            },
        );
        self.ask("resume", &ResumeRequest { id: id.clone() });
        self.ask(
            "close stdin",
            &CloseIORequest {
                id: id.clone(),
                stdin: true,
                ..CloseIORequest::default()
            },
        );
        self.ask(
            "resize",
            &ResizePtyRequest {
                id: id.clone(),
                width: 80,
                height: 24,
                ..ResizePtyRequest::default()
            },
        );
        self.ask("signal 200", &kill_request(&id, "", 200));
        self.ask("signal 0", &kill_request(&id, "", 0));
        self.ask_everything_of_exec();
        self.ask(
            "shutdown",
            &ShutdownRequest {
                id: id.clone(),
                now: false,
            },
        );
        let options = Any {
            type_url: "no.such.Options".to_owned(),
            value: vec![1],
        };
        let request = CheckpointTaskRequest {
            id,
            options: Some(options),
            ..CheckpointTaskRequest::default()
        };
        self.ask("checkpoint with other options", &request);
    }

    fn execs(&mut self) {
        self.section = "exec";
        let id = self.id.clone();
        let none = Streams::default();
        let delete = |exec: &str| DeleteRequest {
            id: id.clone(),
            exec_id: exec.to_owned(),
        };
        self.ask("add", &exec_request(&id, "one", "exit 3", &none));
        self.ask("add again", &exec_request(&id, "one", "exit 4", &none));
        self.state("one");
        self.ask("kill before start", &kill_request(&id, "one", 9));
        self.ask(
            "resize before start",
            &ResizePtyRequest {
                id: id.clone(),
                exec_id: "one".to_owned(),
                width: 80,
                height: 24,
            },
        );
        self.ask(
            "close stdin before start",
            &CloseIORequest {
                id: id.clone(),
                exec_id: "one".to_owned(),
                stdin: true,
            },
        );
        self.ask("start", &start(&id, "one"));
        self.ask("wait", &wait(&id, "one"));
        self.ask("wait again", &wait(&id, "one"));
        self.state("one");
        self.ask("start after the end", &start(&id, "one"));
        self.ask("kill after the end", &kill_request(&id, "one", 9));
        self.ask(
            "resize after the end",
            &ResizePtyRequest {
                id: id.clone(),
                exec_id: "one".to_owned(),
                width: 80,
                height: 24,
            },
        );
        self.ask(
            "close stdin after the end",
            &CloseIORequest {
                id: id.clone(),
                exec_id: "one".to_owned(),
                stdin: true,
            },
        );
        self.ask("delete", &delete("one"));
        self.ask("delete again", &delete("one"));

        self.ask("add two", &exec_request(&id, "two", "sleep", &none));
        self.ask("start two", &start(&id, "two"));
        // Go's shim would count the exec's end twice, and die with "makechan: size out of range"
        // at init's end.
        if self.engine.is_ours() {
            self.ask("start two again", &start(&id, "two"));
        }
        self.state("two");
        self.pids();
        self.ask("delete while it runs", &delete("two"));
        self.ask("signal 0", &kill_request(&id, "two", 0));
        self.ask("signal 200", &kill_request(&id, "two", 200));
        self.ask("kill", &kill_request(&id, "two", 15));
        self.ask("wait for two", &wait(&id, "two"));
        self.state("two");
        self.ask("delete two", &delete("two"));

        self.ask("add three", &exec_request(&id, "three", "exit 0", &none));
        self.ask("delete before start", &delete("three"));
        self.ask("start after delete", &start(&id, "three"));
    }

    fn failed_execs(&mut self) {
        self.section = "failed exec";
        let id = self.id.clone();
        let none = Streams::default();
        let with_spec = |exec: &str, spec: Option<Any>| ExecProcessRequest {
            spec,
            ..exec_request(&id, exec, "exit 0", &none)
        };
        let process =
            json!({ "user": {}, "args": ["/no/such/program"], "cwd": "/", "env": ["PATH=/"] });
        self.ask("add", &with_spec("bad", Some(process_spec(&process))));
        self.ask("start", &start(&id, "bad"));
        self.ask("wait", &wait(&id, "bad"));
        self.state("bad");
        // Go's shim would die with "panic: close of closed channel".
        if self.engine.is_ours() {
            self.ask("start again", &start(&id, "bad"));
        }
        self.ask("kill", &kill_request(&id, "bad", 9));
        self.ask(
            "delete",
            &DeleteRequest {
                id: id.clone(),
                exec_id: "bad".to_owned(),
            },
        );
        let text = Any {
            type_url: String::new(),
            value: b"no JSON".to_vec(),
        };
        self.ask("add without JSON", &with_spec("text", Some(text)));
        let list = json!({ "user": {}, "args": [], "cwd": "/" });
        self.ask(
            "add without a program",
            &with_spec("none", Some(process_spec(&list))),
        );
        self.ask("start without a program", &start(&id, "none"));
        self.ask(
            "delete without a program",
            &DeleteRequest {
                id: id.clone(),
                exec_id: "none".to_owned(),
            },
        );
        // Go's shim would die with "nil pointer dereference".
        if self.engine.is_ours() {
            self.ask("add without a spec", &with_spec("nothing", None));
        }
        let request = exec_request(&id, "", "exit 0", &none);
        self.ask("add without an id", &request);
        let stdio = Streams {
            stdout: "ftp://host/file".to_owned(),
            ..Streams::default()
        };
        self.ask(
            "add with unknown stdio",
            &exec_request(&id, "io", "exit 0", &stdio),
        );
        self.ask("start with unknown stdio", &start(&id, "io"));
        self.ask(
            "delete with unknown stdio",
            &DeleteRequest {
                id,
                exec_id: "io".to_owned(),
            },
        );
        self.state("");
    }

    fn paused(&mut self) {
        self.section = "paused";
        let id = self.id.clone();
        self.ask(
            "add before",
            &exec_request(&id, "before", "sleep", &Streams::default()),
        );
        self.ask("pause", &PauseRequest { id: id.clone() });
        self.state("");
        self.state("before");
        self.ask("pause again", &PauseRequest { id: id.clone() });
        self.ask("start the exec", &start(&id, "before"));
        self.ask(
            "add",
            &exec_request(&id, "frozen", "exit 0", &Streams::default()),
        );
        self.ask("start", &start(&id, ""));
        self.ask(
            "delete",
            &DeleteRequest {
                id: id.clone(),
                ..DeleteRequest::default()
            },
        );
        self.pids();
        self.stats();
        self.update("update", &json!({ "memory": { "limit": 56 << 20 } }));
        self.ask(
            "resize",
            &ResizePtyRequest {
                id: id.clone(),
                width: 80,
                height: 24,
                ..ResizePtyRequest::default()
            },
        );
        self.ask("resume", &ResumeRequest { id: id.clone() });
        self.ask("resume again", &ResumeRequest { id: id.clone() });
        self.state("");
        self.state("before");
        self.ask(
            "delete the exec",
            &DeleteRequest {
                id,
                exec_id: "before".to_owned(),
            },
        );
    }

    fn updates(&mut self) {
        self.section = "update";
        self.update("memory", &json!({ "memory": { "limit": 40 << 20 } }));
        self.update("no JSON for it", &json!("text"));
        self.update("nothing", &json!({}));
        self.update("impossible", &json!({ "cpu": { "quota": 1, "period": 1 } }));
        // Go's shim would die with "nil pointer dereference".
        if self.engine.is_ours() {
            let id = self.id.clone();
            self.ask(
                "no resources",
                &UpdateTaskRequest {
                    id,
                    ..UpdateTaskRequest::default()
                },
            );
        }
    }

    fn stopped(&mut self) {
        self.section = "stopped";
        let id = self.id.clone();
        let none = Streams::default();
        self.ask("add", &exec_request(&id, "last", "sleep", &none));
        self.ask("start it", &start(&id, "last"));
        self.ask("add another", &exec_request(&id, "late", "exit 0", &none));
        let waits = [
            self.client.send(&wait(&id, "")),
            self.client.send(&wait(&id, "")),
        ];
        let of_exec = self.client.send(&wait(&id, "last"));
        self.ask("kill", &kill_request(&id, "", Signal::SIGKILL as i32));
        for sent in waits {
            let outcome = self.client.receive(sent);
            self.note_outcome("wait", outcome.map(|reply| format!("{reply:?}")));
        }
        let outcome = self.client.receive(of_exec);
        self.note_outcome(
            "wait for the exec",
            outcome.map(|reply| format!("{reply:?}")),
        );
        self.engine.events.wait_for("/tasks/exit", &id.clone());
        self.state("");
        self.state("last");
        self.state("late");
        self.ask("start the late exec", &start(&id, "late"));
        self.ask(
            "delete the late exec",
            &DeleteRequest {
                id: id.clone(),
                exec_id: "late".to_owned(),
            },
        );
        self.ask("wait", &wait(&id, ""));
        self.ask("start", &start(&id, ""));
        self.ask("kill", &kill_request(&id, "", 9));
        let all = KillRequest {
            all: true,
            ..kill_request(&id, "", 9)
        };
        self.ask("kill all", &all);
        self.ask("add", &exec_request(&id, "posthumous", "exit 0", &none));
        self.ask("pause", &PauseRequest { id: id.clone() });
        self.ask("resume", &ResumeRequest { id: id.clone() });
        self.update("update", &json!({ "memory": { "limit": 64 << 20 } }));
        self.ask(
            "checkpoint",
            &CheckpointTaskRequest {
                id: id.clone(),
                ..CheckpointTaskRequest::default()
            },
        );
        self.pids();
        self.stats();
        self.ask(
            "resize",
            &ResizePtyRequest {
                id: id.clone(),
                width: 80,
                height: 24,
                ..ResizePtyRequest::default()
            },
        );
        self.ask(
            "close stdin",
            &CloseIORequest {
                id: id.clone(),
                stdin: true,
                ..CloseIORequest::default()
            },
        );
        self.container_request("create again", |_| {});
        let connect = ConnectRequest { id };
        self.ask_for("connect", &connect, |reply| {
            format!("task_pid: {}", reply.task_pid)
        });
    }

    fn deleted(&mut self) {
        self.section = "deleted";
        let id = self.id.clone();
        self.ask(
            "delete",
            &DeleteRequest {
                id: id.clone(),
                ..DeleteRequest::default()
            },
        );
        self.ask_everything(&id, "");
        self.ask_everything(&id, "last");
        let connect = ConnectRequest { id };
        self.ask_for("connect", &connect, |reply| {
            format!("task_pid: {}", reply.task_pid)
        });
    }

    fn killed_before_its_start(&mut self) {
        self.section = "killed before its start";
        let id = self.id.clone();
        self.container_request("create", |_| {});
        self.ask("kill", &kill_request(&id, "", 9));
        self.ask("wait", &wait(&id, ""));
        self.state("");
        self.ask("start", &start(&id, ""));
        self.ask(
            "delete",
            &DeleteRequest {
                id: id.clone(),
                ..DeleteRequest::default()
            },
        );
        self.section = "deleted before its start";
        self.container_request("create", |_| {});
        self.ask(
            "delete",
            &DeleteRequest {
                id,
                ..DeleteRequest::default()
            },
        );
    }

    fn events(&mut self) {
        self.section = "event";
        let count = |topic| {
            let heard = self.engine.events.heard();
            heard.iter().filter(|event| event.topic == topic).count()
        };
        // Three execs, and three runs of the container.
        wait_until("all have ended, and are gone", || {
            (count(TaskExit::TOPIC), count(TaskDelete::TOPIC)) == (6, 3)
        });
        for event in self.engine.events.heard() {
            // On cgroup v1, Go's shim sometimes takes the cgroup's removal for an OOM kill.
            if event.topic != TaskOOM::TOPIC || self.engine.is_ours() {
                self.note(&event.topic, &event.text);
            }
        }
    }
}

fn code_name(code: i32) -> String {
    let name = match code {
        2 => "Unknown",
        3 => "InvalidArgument",
        5 => "NotFound",
        6 => "AlreadyExists",
        8 => "ResourceExhausted",
        9 => "FailedPrecondition",
        12 => "Unimplemented",
        13 => "Internal",
        14 => "Unavailable",
        other => return format!("code {other}"),
    };
    name.to_owned()
}

/// Replaces the text after each `mark` up to `end`, or to the end of the text.
fn replace_after(
    text: &str,
    mark: &str,
    end: char,
    mut with: impl FnMut(&str) -> String,
) -> String {
    let mut parts = text.split(mark);
    let mut replaced = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(end).unwrap_or(part.len());
        replaced.push_str(mark);
        replaced.push_str(&with(&part[..end]));
        replaced.push_str(&part[end..]);
    }
    replaced
}
