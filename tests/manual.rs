//! Man pages and completions, as `make manual` writes them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use clap_complete::Shell;
use serde_json::{Deserializer, Value};

use crate::harness::*;

#[allow(dead_code, reason = "its main is that of the example")]
#[path = "../examples/docs.rs"]
mod docs;

tests![
    pages_that_are_named_are_there,
    manual_of_teu_tells_what_options_do_not,
    examples_stay_as_they_are_written,
    bash_completes_commands_values_and_containers,
    completion_of_another_form_is_an_error,
    uninstall_removes_what_install_made,
];

fn written() -> PathBuf {
    let directory = scratch().join("manual");
    docs::write(&directory).unwrap();
    directory
}

/// All pages by name, such as "teu-run(8)", formatted by nroff.
fn pages() -> BTreeMap<String, String> {
    let files = fs::read_dir(written().join("man/man8")).unwrap();
    files
        .map(|file| {
            let path = file.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap();
            let text = fs::read_to_string(&path).unwrap();
            (format!("{name}(8)"), text.replace("\\-", "-"))
        })
        .collect()
}

fn pages_that_are_named_are_there() {
    needs(&[]);
    let pages = pages();
    assert!(pages.len() > 15, "{:?}", pages.keys());
    for (name, text) in &pages {
        for (at, _) in text.match_indices("(8)") {
            let before = |letter: char| !letter.is_ascii_lowercase() && letter != '-';
            let start = text[..at].rfind(before).map_or(0, |last| last + 1);
            let named = &text[start..at + 3];
            let is_ours = named.starts_with("teu");
            assert!(!is_ours || pages.contains_key(named), "{name}: {named}");
        }
        assert!(name == "teu(8)" || text.contains("teu(8)"), "{name}");
    }
}

fn manual_of_teu_tells_what_options_do_not() {
    needs(&[]);
    let page = &pages()["teu(8)"];
    let titles: Vec<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix(".SH "))
        .collect();
    let expected = [
        "NAME",
        "SYNOPSIS",
        "DESCRIPTION",
        "OPTIONS",
        "COMMANDS",
        "\"EXIT STATUS\"",
        "ENVIRONMENT",
        "FILES",
        "EXAMPLES",
        "\"SEE ALSO\"",
    ];
    assert_eq!(titles, expected);
}

/// Outside of .nf and .fi, nroff would fill the lines and change their spaces.
fn examples_stay_as_they_are_written() {
    needs(&[]);
    let mut examples = BTreeMap::new();
    for (name, text) in pages() {
        let mut kept = false;
        for line in text.lines() {
            match line {
                ".nf" => kept = true,
                ".fi" => kept = false,
                _ if kept => *examples.entry(name.clone()).or_insert_with(String::new) += line,
                // The fields of the title are two spaces apart.
                _ => assert!(
                    !line.contains("  ") || line.starts_with(".TH"),
                    "{name}: {line}"
                ),
            }
            // Headings of the help texts must have become headings.
            assert!(
                !line.ends_with("EXAMPLE:") && line != ".SH EXTRA",
                "{name}: {line}"
            );
        }
    }
    // The first example is JSON; the second, with calls, is another.
    let mut update = Deserializer::from_str(&examples["teu-update(8)"]).into_iter();
    let limits: Value = update.next().unwrap().unwrap();
    assert_eq!(limits["pids"]["limit"], 100);
    assert!(examples["teu-spec(8)"].contains("tar -C rootfs"));
}

fn bash_completes_commands_values_and_containers() {
    needs(&[Root, Tool("bash")]);
    let container = Container::created(Bundle::new());
    let script = written().join("completions/teu.bash");
    let program = runtime();
    let offered = |words: &str| {
        // The completion calls teu itself, which searches this test's containers.
        let script = format!(
            "source {}; teu() {{ {} --root {} \"$@\"; }}; COMP_WORDS=({words} ''); \
             COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); \
             complete -p teu | grep -q -- '-F _teu ' || exit; \
             _teu teu '' \"${{COMP_WORDS[COMP_CWORD - 1]}}\"; echo \"${{COMPREPLY[@]}}\"",
            script.display(),
            program.display(),
            state_root().display(),
        );
        let output = Invocation::new("bash").args(["-c", &script]).output().ok();
        let words = output.stdout.split_whitespace();
        words.map(str::to_owned).collect::<Vec<String>>()
    };
    for command in [
        "start",
        "exec",
        "delete --force",
        "update --memory 1M",
        "ps -f json",
    ] {
        let offered = offered(&format!("teu {command}"));
        assert!(offered.contains(&container.id), "{command}: {offered:?}");
    }
    // The id of a new container is not completed, nor is an argument that is not an id.
    for command in [
        "create",
        "run",
        "list",
        "stats --interval",
        "exec --pid-file",
    ] {
        let offered = offered(&format!("teu {command}"));
        assert!(!offered.contains(&container.id), "{command}: {offered:?}");
    }
    for (option, values) in [
        ("list --format", "table json"),
        ("ps -f", "table json"),
        ("--log-format", "text json"),
        ("--cgroup-manager", "cgroupfs systemd disabled"),
        ("--rootless", "auto true false"),
    ] {
        assert_eq!(
            offered(&format!("teu {option}")).join(" "),
            values,
            "{option}"
        );
    }
    let commands = offered("teu");
    for page in pages().keys() {
        let Some(command) = page.strip_prefix("teu-") else {
            continue;
        };
        // The commands below `gpu` have pages as well.
        let command = command.trim_end_matches("(8)").split('-').next().unwrap();
        assert!(commands.iter().any(|offered| offered == command), "{page}");
    }
}

/// A script in which the place for container ids is not found must be an error, because its
/// completion would know no containers.
fn completion_of_another_form_is_an_error() {
    needs(&[]);
    for shell in [Shell::Bash, Shell::Zsh] {
        let error = docs::with_containers(shell, "complete -c teu").unwrap_err();
        assert!(error.to_string().ends_with("in the completion"), "{error}");
    }
}

fn uninstall_removes_what_install_made() {
    needs(&[Tool("make")]);
    let tree = scratch().join("tree");
    let manual = written();
    let make = |goal: &str| {
        let variable = |name: &str, path: &Path| format!("{name}={}", path.display());
        let make = Invocation::new("make")
            .arg("--directory")
            .arg(repository(""));
        let make = make.arg(goal).arg(variable("DESTDIR", &tree));
        let binary = variable("BINARY", &runtime());
        make.args([binary, variable("MANUAL", &manual)])
            .output()
            .ok();
    };
    let files = || {
        let find = Invocation::new("find").arg(&tree).args(["!", "-type", "d"]);
        find.output().ok().stdout
    };
    make("files");
    assert!(files().lines().count() > 20, "{}", files());
    make("uninstall");
    assert_eq!(files(), "");
}
