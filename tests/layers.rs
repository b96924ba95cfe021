//! Who may use whom, read off the sources: the rules of the design that a
//! compiler does not know.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::harness::*;

tests![
    rules_see_what_they_forbid,
    init_carries_out_and_decides_nothing,
    plan_does_not_touch_the_machine,
    crates_below_know_nothing_of_the_binary,
    server_of_the_shim_leaves_work_to_jobs,
    unsafe_code_has_one_address,
    only_main_ends_the_process,
];

/// The Rust files below a directory, by path from the repository's root.
fn sources(directory: &str) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    let mut directories = vec![repository(directory)];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path
                    .strip_prefix(repository(""))
                    .unwrap()
                    .display()
                    .to_string();
                files.insert(name, without_comments(&path));
            }
        }
    }
    files
}

/// The code of a file up to its unit tests, which may use what they like.
fn without_comments(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let code = text.split("\n#[cfg(test)]\nmod tests").next().unwrap();
    let lines = code
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default());
    lines.collect::<Vec<_>>().join("\n")
}

/// Whether `code` names the path `needle` as whole words: `state::` is in
/// `crate::state::Status`, not in `restate::x`.
fn names(code: &str, needle: &str) -> bool {
    let is_word = |character: char| character.is_alphanumeric() || character == '_';
    code.match_indices(needle).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = code[at + needle.len()..].chars().next();
        !before.is_some_and(is_word) && !after.is_some_and(is_word)
    })
}

/// Fails with all files of `sources` that name one of the `forbidden` paths.
/// `use crate::{state, sys}` counts for `crate::state`, too.
#[track_caller]
fn assert_without(sources: &BTreeMap<String, String>, forbidden: &[&str]) {
    let mut found = Vec::new();
    for (name, code) in sources {
        for path in forbidden {
            if names(code, path) || imports(code).iter().any(|import| import.starts_with(path)) {
                found.push(format!("{name} uses {path}"));
            }
        }
    }
    assert!(
        found.is_empty(),
        "against the layers:\n  {}",
        found.join("\n  ")
    );
}

/// Every path imported, with braces taken apart: `use crate::{spec, sys::x};`
/// gives `crate::spec` and `crate::sys::x`.
fn imports(code: &str) -> Vec<String> {
    let starts = code.split_inclusive('\n').scan(0, |at, line| {
        let start = *at;
        *at += line.len();
        Some((start, line))
    });
    let is_import = |line: &str| {
        let line = line.trim_start();
        line.starts_with("use ") || line.starts_with("pub") && line.contains(" use ")
    };
    let mut paths = Vec::new();
    for (start, _) in starts.filter(|(_, line)| is_import(line)) {
        let statement = code[start..].split(';').next().unwrap_or_default();
        let tree = statement.split_once("use ").map_or("", |(_, tree)| tree);
        let tree: String = tree
            .chars()
            .filter(|character| !character.is_whitespace())
            .collect();
        expand("", &tree, &mut paths);
    }
    paths
}

fn expand(prefix: &str, tree: &str, paths: &mut Vec<String>) {
    let Some((head, rest)) = tree.split_once('{') else {
        paths.push(format!("{prefix}{tree}"));
        return;
    };
    let inner = rest.strip_suffix('}').unwrap_or(rest);
    let (mut depth, mut start) = (0, 0);
    for (at, character) in inner.char_indices().chain([(inner.len(), ',')]) {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            // The comma after the last one has nothing behind it.
            ',' if depth == 0 && start == at => {}
            ',' if depth == 0 => {
                expand(&format!("{prefix}{head}"), &inner[start..at], paths);
                start = at + 1;
            }
            _ => {}
        }
    }
}

fn rules_see_what_they_forbid() {
    needs(&[]);
    let code = "pub(crate) use crate::{\n    pipe::{self, HostEnd},\n    state::Status,\n};";
    assert_eq!(
        imports(code),
        [
            "crate::pipe::self",
            "crate::pipe::HostEnd",
            "crate::state::Status"
        ]
    );
    assert!(names("let status = crate::state::read()?;", "crate::state"));
    assert!(!names("let status = crate::state_root();", "crate::state"));
    assert!(
        sources("src").len() > 20,
        "the sources are where they are looked for"
    );
}

fn init_carries_out_and_decides_nothing() {
    needs(&[]);
    let forbidden = [
        "oci_spec",
        "crate::document",
        "crate::state",
        "crate::bundle",
        "crate::cli",
        "crate::commands",
        "crate::host",
        "serde_json",
    ];
    assert_without(&sources("src/init"), &forbidden);
}

fn plan_does_not_touch_the_machine() {
    needs(&[]);
    let forbidden = [
        "crate::sys",
        "crate::init",
        "crate::pipe",
        "crate::cli",
        "std::fs",
        "std::process",
        "nix",
        "rustix::fs",
        "rustix::mount",
    ];
    assert_without(&sources("src/plan"), &forbidden);
}

fn crates_below_know_nothing_of_the_binary() {
    needs(&[]);
    let forbidden = ["anyhow", "teu", "oci_spec"];
    assert_without(&sources("cgroups/src"), &forbidden);
    assert_without(&sources("namespaces/src"), &forbidden);
    assert_without(&sources("seccomp/src"), &forbidden);
    assert_without(
        &sources("seccomp/src"),
        &["libc", "nix", "rustix", "std::fs", "std::process"],
    );
    // Its edits are of the types of config.json.
    assert_without(
        &sources("gpu/src"),
        &["anyhow", "teu", "teu_cgroups", "teu_namespaces"],
    );
    // What a container is, the runtime alone says.
    assert_without(
        &sources("shim/src"),
        &["oci_spec", "teu_gpu", "teu_seccomp"],
    );
    assert_without(&sources("cgroups/src"), &["teu_namespaces"]);
    assert_without(&sources("namespaces/src"), &["teu_cgroups"]);
}

/// What waits for calls and copies output does nothing else, or its filter of system
/// calls would end it.
fn server_of_the_shim_leaves_work_to_jobs() {
    needs(&[]);
    let forbidden = [
        "std::process::Command",
        "std::os::unix::process::CommandExt",
        "std::thread",
        "crate::mounts",
        "crate::Runtime",
        "rustix::mount",
        "teu_namespaces",
    ];
    let mut sources = sources("shim/src");
    // Its first steps come before the filter.
    sources.remove("shim/src/server.rs");
    sources.retain(|name, _| {
        let name = name.trim_start_matches("shim/src/");
        ["events", "io", "metrics", "packets", "server", "service", "task", "ttrpc"]
            .iter()
            .any(|module| name.starts_with(module))
            // Unit tests in a file of their own.
            && !name.ends_with("/tests.rs")
    });
    assert!(sources.len() > 10, "{:?}", sources.keys());
    assert_without(&sources, &forbidden);
}

fn unsafe_code_has_one_address() {
    needs(&[]);
    for directory in [
        "src",
        "cgroups/src",
        "gpu/src",
        "namespaces/src",
        "seccomp/src",
        "shim/src",
        "tests",
    ] {
        let mut sources = sources(directory);
        sources.retain(|name, _| !name.ends_with("/sys.rs") && name != "tests/layers.rs");
        assert_without(&sources, &["unsafe"]);
    }
}

fn only_main_ends_the_process() {
    needs(&[]);
    let mut sources = sources("src");
    sources.remove("src/main.rs");
    assert_without(&sources, &["process::exit"]);
    assert_without(&self::sources("shim/src"), &["process::exit"]);
}
