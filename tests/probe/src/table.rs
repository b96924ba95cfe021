//! Prints the report for people: a table of at most 100 columns.

use serde_json::Value;

use crate::report;

/// The width of the table.
const WIDTH: usize = 100;
/// The column at which the second column starts.
const INDENT: usize = 15;

/// The table of a report, with a final newline.
pub(crate) fn table(report: &Value) -> String {
    let mut table = Table {
        lines: String::new(),
    };
    table.title("What the container sees");
    process(&mut table, report);
    namespaces(&mut table, report);
    capabilities(&mut table, report);
    cgroup(&mut table, report);
    mounts(&mut table, report);
    devices(&mut table, report);
    table.lines
}

struct Table {
    lines: String,
}

impl Table {
    fn title(&mut self, title: &str) {
        self.lines
            .push_str(&format!("{title}\n{}\n", "─".repeat(WIDTH)));
    }

    /// Adds a row. Words beyond the width continue below, in the second column.
    fn row(&mut self, name: &str, words: impl IntoIterator<Item = impl AsRef<str>>) {
        let mut line = format!("{name:<INDENT$}");
        let mut is_empty = true;
        for word in words {
            let word = word.as_ref();
            if !is_empty && line.chars().count() + 1 + word.chars().count() > WIDTH {
                self.lines.push_str(line.trim_end());
                self.lines.push('\n');
                line = " ".repeat(INDENT);
                is_empty = true;
            }
            if !is_empty {
                line.push(' ');
            }
            line.push_str(word);
            is_empty = false;
        }
        self.lines.push_str(line.trim_end());
        self.lines.push('\n');
    }

    /// Adds an empty line before the next group of rows.
    fn gap(&mut self) {
        self.lines.push('\n');
    }
}

fn process(table: &mut Table, report: &Value) {
    let groups = report["groups"]
        .as_array()
        .map(|groups| groups.iter().map(plain).collect::<Vec<_>>().join(","));
    table.row(
        "process",
        [format!(
            "pid {}, hostname {}, cwd {}, umask {}",
            plain(&report["pid"]),
            plain(&report["hostname"]),
            plain(&report["cwd"]),
            plain(&report["umask"]),
        )],
    );
    table.row("command", strings(&report["args"]));
    table.row(
        "uid, gid",
        [format!(
            "{}, {} (groups {})",
            plain(&report["uid"]),
            plain(&report["gid"]),
            groups
                .filter(|groups| !groups.is_empty())
                .unwrap_or_else(|| "none".to_owned()),
        )],
    );
    for (name, map) in [
        ("uid map", &report["uid_map"]),
        ("gid map", &report["gid_map"]),
    ] {
        let lines = map.as_array().into_iter().flatten();
        table.row(
            name,
            lines.map(|line| {
                let length = match line[2].as_u64() {
                    Some(length) if length == u64::from(u32::MAX) => "all".to_owned(),
                    _ => plain(&line[2]),
                };
                format!("{} → {} ({length})", plain(&line[0]), plain(&line[1]))
            }),
        );
    }
    let seccomp = match report["seccomp"].as_u64() {
        Some(0) => "off".to_owned(),
        Some(1) => "strict".to_owned(),
        Some(2) => format!("filter ({} loaded)", plain(&report["seccomp_filters"])),
        _ => "cannot be seen".to_owned(),
    };
    table.row("seccomp", [seccomp]);
    let no_new_privileges = if report["no_new_privileges"] == 1 {
        "on"
    } else {
        "off"
    };
    table.row("no new privs", [no_new_privileges]);
    table.gap();
}

/// Tells new namespaces from inherited ones, by the starter's namespaces in
/// `TEU_HOST_NAMESPACES` (`pid:[1],mnt:[2]`), if that is set.
fn namespaces(table: &mut Table, report: &Value) {
    let host = report["env"]["TEU_HOST_NAMESPACES"].as_str();
    let names = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"];
    for pair in names.chunks(2) {
        let cell = |name: &str| {
            let link = plain(&report["namespaces"][name]);
            let origin = match host {
                Some(host) if host.split(',').any(|inherited| inherited == link) => "inherited",
                Some(_) => "new",
                None => "",
            };
            format!("{name:<7} {origin:<10} {link:<22}")
        };
        let name = if pair[0] == "cgroup" {
            "namespaces"
        } else {
            ""
        };
        table.row(name, pair.iter().map(|name| cell(name)));
    }
    table.gap();
}

fn capabilities(table: &mut Table, report: &Value) {
    for set in [
        "effective",
        "permitted",
        "inheritable",
        "bounding",
        "ambient",
    ] {
        let names = strings(&report["capabilities"][set]["names"]);
        let name = if set == "effective" {
            "capabilities"
        } else {
            ""
        };
        let missing: Vec<String> = report::CAPABILITIES
            .iter()
            .filter(|name| !names.iter().any(|held| held == *name))
            .map(|name| short_capability(name))
            .collect();
        let words = match (names.len(), missing.len()) {
            (0, _) => vec!["none".to_owned()],
            (_, 0) => vec!["all".to_owned()],
            // Most capabilities are present, so name those that are missing.
            (_, 1..8) => std::iter::once("all but".to_owned())
                .chain(missing)
                .collect(),
            _ => names.iter().map(|name| short_capability(name)).collect(),
        };
        let first = std::iter::once(format!("{set:<11}"));
        table.row(name, first.chain(words));
    }
    table.gap();
}

fn short_capability(name: &str) -> String {
    name.trim_start_matches("CAP_").to_lowercase()
}

fn cgroup(table: &mut Table, report: &Value) {
    let cgroup = &report["cgroup"];
    let value = |name: &str| match &cgroup[name] {
        Value::Null => "cannot be seen".to_owned(),
        value => plain(value),
    };
    table.row(
        "cpuset",
        [format!(
            "cpus {}, mems {}; may run on {}",
            value("cpus"),
            value("mems"),
            value("cpus_allowed"),
        )],
    );
    table.row("cpu shares", [value("shares")]);
    table.row("memory limit", [memory(&value("memory"))]);
    table.row("pids limit", [value("pids")]);
    table.gap();
}

/// A memory limit. On v1, the kernel writes "no limit" as the largest multiple of a page.
fn memory(limit: &str) -> String {
    match limit.parse::<u64>() {
        Ok(bytes) if bytes > 1 << 60 => "none".to_owned(),
        Ok(bytes) => format!("{bytes} bytes"),
        Err(_) => limit.to_owned(),
    }
}

fn mounts(table: &mut Table, report: &Value) {
    let mounts = report["mounts"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    for (index, mount) in mounts.iter().enumerate() {
        let target = plain(&mount["target"]);
        let options = strings(&mount["options"]).join(",");
        let first = format!("{target:<30} {:<8} {options}", plain(&mount["type"]));
        table.row(if index == 0 { "mounts" } else { "" }, [shortened(&first)]);
    }
    table.gap();
}

fn shortened(line: &str) -> String {
    let room = WIDTH - INDENT;
    if line.chars().count() <= room {
        return line.to_owned();
    }
    line.chars().take(room - 1).chain(['…']).collect()
}

fn devices(table: &mut Table, report: &Value) {
    let devices = report["devices"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let nodes: Vec<&Value> = devices
        .iter()
        .filter(|node| !node["major"].is_null())
        .collect();
    let may = |node: &&&Value| node["read"] == "ok" || node["write"] == "ok";
    let opened = nodes.iter().filter(may).map(|node| {
        let letters = match (node["read"] == "ok", node["write"] == "ok") {
            (true, true) => "rw",
            (true, false) => "r",
            _ => "w",
        };
        format!(
            "{} {letters} ({}:{})",
            plain(&node["path"]),
            plain(&node["major"]),
            plain(&node["minor"])
        )
    });
    table.row("may open", opened.map(|cell| format!("{cell:<27}")));
    let refused = nodes
        .iter()
        .filter(|node| !may(node))
        .map(|node| format!("{} {}", plain(&node["path"]), plain(&node["read"])));
    let refused: Vec<String> = refused.collect();
    if !refused.is_empty() {
        table.row("may not open", refused);
    }
}

fn strings(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().map(plain).collect()
}

/// A string without quotes; other values as JSON.
fn plain(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}
