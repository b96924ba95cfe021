//! `stats`, which runc does not have.

use serde_json::Value;

use crate::harness::*;

tests![
    each_look_is_a_line_of_json,
    one_look_is_enough,
    processor_time_is_measured,
    table_is_drawn_again_in_its_place,
    table_can_be_written_to_a_file,
    all_that_run_are_shown,
    reader_may_go_away,
    wrong_words_of_stats_are_refused,
];

/// The containers in the last complete line.
fn last_look(running: &Running) -> Vec<Value> {
    let text = running.stdout();
    let whole = text.rsplit_once('\n').map_or("", |(lines, _)| lines);
    let look: Value = match whole.lines().last() {
        Some(line) => serde_json::from_str(line).unwrap(),
        None => return Vec::new(),
    };
    look["containers"].as_array().unwrap().clone()
}

fn each_look_is_a_line_of_json() {
    needs(&[Root, Controller("memory"), Teu, Controller("pids")]);
    let bundle = Bundle::new().probe("fork 1; sleep");
    let bundle = bundle
        .set("/linux/resources/memory/limit", 64 << 20)
        .set("/linux/resources/pids/limit", 9);
    let container = Container::running(bundle);
    container.wait_for_output("ok");
    let stats = container.command("stats", ["--interval", "50ms"]).spawn();
    wait_until("three looks", || stats.stdout().lines().count() >= 3);
    container.kill("KILL").ok();
    let looks = stats.wait().ok().answers();
    let row = &looks[0]["containers"][0];
    assert_eq!(row["id"], container.id.as_str());
    assert_eq!(row["status"], "running");
    assert_eq!(row["memoryLimitBytes"], 64 << 20);
    assert!(row["memoryBytes"].as_u64() > Some(10_000), "{row}");
    assert_eq!((&row["pids"], &row["pidsLimit"]), (&2.into(), &9.into()));
    assert!(
        row["readBytes"].is_u64() && row["writtenBytes"].is_u64(),
        "{row}"
    );
    assert!(
        looks[0]["time"].as_str().unwrap().ends_with('Z'),
        "{looks:?}"
    );
}

fn one_look_is_enough() {
    needs(&[Root, Teu]);
    let (one, other) = (
        Container::running(Bundle::new().probe("sleep")),
        Container::running(Bundle::new().probe("sleep")),
    );
    let call = teu(["stats", "--no-stream", &other.id]);
    let looks = call.output().ok().answers();
    assert_eq!(looks.len(), 1);
    assert_eq!(looks[0]["containers"].as_array().unwrap().len(), 1);
    assert_eq!(looks[0]["containers"][0]["id"], other.id.as_str());
    assert_eq!(looks[0]["containers"][0]["memoryLimitBytes"], Value::Null);
    one.command("pause", NO_FLAGS).output().ok();
    let looks = teu(["stats", "--no-stream"]).output().ok().answers();
    let rows = looks[0]["containers"].as_array().unwrap();
    assert_eq!(rows.len(), 2, "{rows:?}");
    let row = rows
        .iter()
        .find(|row| row["id"] == one.id.as_str())
        .unwrap();
    assert_eq!(row["status"], "paused");
}

fn processor_time_is_measured() {
    needs(&[Root, Controller("cpu"), Teu]);
    let half = serde_json::json!({ "quota": 10_000, "period": 20_000 });
    let bundle = Bundle::new()
        .probe("spin 20")
        .set("/linux/resources/cpu", half);
    let container = Container::running(bundle);
    let looks = "stats --interval 500ms --format json";
    let stats = teu(looks.split(' ')).arg(&container.id).spawn();
    wait_until("four looks", || stats.stdout().lines().count() >= 5);
    let before = cpu_time(&container);
    let row = last_look(&stats).remove(0);
    // The share depends on the machine, but never exceeds the quota or the kernel's count.
    let share = row["cpuPercent"].as_f64().unwrap();
    assert!(share > 0.5 && share < 75.0, "{row}");
    let counted = row["cpuNanoseconds"].as_u64().unwrap();
    assert!(
        counted <= cpu_time(&container) && counted > before / 4,
        "{row}"
    );
}

/// The kernel's count of CPU time in nanoseconds.
fn cpu_time(container: &Container) -> u64 {
    let cgroup = CgroupFiles::of(container.pid());
    if cgroup.is_v1("cpuacct") {
        return cgroup.read("cpuacct", "cpuacct.usage", "").parse().unwrap();
    }
    let stat = cgroup.read("cpu", "", "cpu.stat");
    let usage = stat
        .lines()
        .find_map(|line| line.strip_prefix("usage_usec "));
    usage.unwrap().parse::<u64>().unwrap() * 1000
}

fn table_is_drawn_again_in_its_place() {
    needs(&[Root, Teu]);
    let container = Container::running(Bundle::new().probe("sleep"));
    let (mut terminal, other_side) = Terminal::pair();
    terminal.resize(24, 60);
    let call = container.command("stats", ["--interval", "100ms"]);
    let stats = call.on_terminal(other_side).spawn();
    let first = terminal.expect("\x1b[J");
    assert!(first.starts_with("CONTAINER "), "{first:?}");
    assert!(first.contains(&container.id), "{first:?}");
    // Cut to the terminal's width.
    let widest = first
        .lines()
        .map(|line| line.trim_end_matches("\x1b[K").len());
    assert!(widest.max() <= Some(60 + "\r".len()), "{first:?}");
    let second = terminal.expect("\x1b[J");
    assert!(second.starts_with("\r\x1b[2A"), "{second:?}");
    container.kill("KILL").ok();
    stats.wait().ok();
}

fn table_can_be_written_to_a_file() {
    needs(&[Root, Teu]);
    let container = Container::running(Bundle::new().probe("sleep"));
    let flags = ["--no-stream", "--format", "table"];
    let output = container.command("stats", flags).output().ok();
    let lines: Vec<&str> = output.stdout.lines().collect();
    assert_eq!(lines.len(), 2, "{output}");
    assert!(
        lines[1].contains("running") && !output.stdout.contains('\x1b'),
        "{output}"
    );
}

fn all_that_run_are_shown() {
    needs(&[Root, Teu]);
    let first = Container::running(Bundle::new().probe("sleep"));
    let stats = teu(["stats", "--interval", "50ms"]).spawn();
    wait_until("the first is shown", || last_look(&stats).len() == 1);
    let second = Container::running(Bundle::new().probe("sleep"));
    wait_until("the second is shown", || last_look(&stats).len() == 2);
    first.delete_force().ok();
    wait_until("the first is gone", || {
        let rows = last_look(&stats);
        rows.len() == 1 && rows[0]["id"] == second.id.as_str()
    });
    second.delete_force().ok();
    wait_until("nothing is shown", || last_look(&stats).is_empty());
}

fn reader_may_go_away() {
    needs(&[Root, Teu]);
    let container = Container::running(Bundle::new().probe("sleep"));
    for command in [
        "stats --interval 20ms",
        "stats --format table --interval 20ms",
        "events --interval 20ms",
    ] {
        let line = format!(
            "{} --root {} {command} {} | head -c 1 >/dev/null; echo \"$?\"",
            runtime().display(),
            state_root().display(),
            container.id
        );
        let output = Invocation::new("bash")
            .args(["-o", "pipefail", "-c", &line])
            .output();
        assert_eq!(
            (output.stdout.as_str(), output.stderr.as_str()),
            ("0\n", ""),
            "{command}"
        );
    }
}

fn wrong_words_of_stats_are_refused() {
    needs(&[Root, Teu]);
    let container = Container::running(Bundle::new().probe("exit 0"));
    container.wait_for_status("stopped");
    container
        .command("stats", NO_FLAGS)
        .output()
        .exits(1)
        .says("container not running");
    teu(["stats", "nobody"])
        .output()
        .exits(1)
        .says("container does not exist");
    teu(["stats", "--interval", "0"])
        .output()
        .exits(1)
        .says("--interval");
    teu(["stats", "--format", "x"])
        .output()
        .exits(1)
        .says("invalid format option");
}
