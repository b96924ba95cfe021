//! Checks which module uses which: the rules of CONTRIBUTING.md that the compiler does not
//! check, read from the sources.

use std::collections::{BTreeMap, BTreeSet};
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
    no_module_uses_what_uses_it,
    top_of_the_sources_is_small,
];

/// The directories with sources of several modules: the binary and some crates.
const OF_MODULES: [&str; 6] = [
    "src",
    "cgroups/src",
    "gpu/src",
    "namespaces/src",
    "seccomp/src",
    "shim/src",
];

/// The Rust files below a directory, by path from the repository's root.
fn sources(directory: &str) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    let mut directories = vec![repository(directory)];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
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
    assert!(!files.is_empty(), "no sources in {directory}");
    files
}

/// The code of a file before its unit tests, which may use any module.
fn without_comments(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let tests = [
        "\n#[cfg(test)]\nmod tests",
        "\n#[cfg(test)]\npub(crate) mod tests",
    ];
    let ends = tests.iter().filter_map(|start| text.find(start));
    let code = &text[..ends.min().unwrap_or(text.len())];
    let lines = code
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default());
    lines.collect::<Vec<_>>().join("\n")
}

/// Whether `code` contains the path `needle` as whole words: `state::` is in
/// `crate::state::Status`, not in `restate::x`.
fn names(code: &str, needle: &str) -> bool {
    let is_word = |character: char| character.is_alphanumeric() || character == '_';
    code.match_indices(needle).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = code[at + needle.len()..].chars().next();
        !before.is_some_and(is_word) && !after.is_some_and(is_word)
    })
}

/// Fails with a list of all files in `sources` that contain a forbidden path. In
/// `use crate::{state, sys}` there is `crate::state`, too.
#[track_caller]
fn assert_without(sources: &BTreeMap<String, String>, forbidden: &[&str]) {
    let mut found = Vec::new();
    for (name, code) in sources {
        for path in forbidden {
            let is_below = |import: &String| {
                let rest = import.strip_prefix(path);
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
            };
            if names(code, path) || imports(code).iter().any(is_below) {
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

/// All imported paths, with braces expanded: `use crate::{spec, sys::x};` gives `crate::spec` and
/// `crate::sys::x`.
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
            // Nothing follows a trailing comma.
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
    let code = "pub(crate) use crate::{\n    pipe::{self, ParentEnd},\n    state::Status,\n};";
    assert_eq!(
        imports(code),
        [
            "crate::pipe::self",
            "crate::pipe::ParentEnd",
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
        "std::env",
        "std::fs",
        "std::net",
        "std::os::unix::net",
        "std::process",
        "std::thread",
        "std::time::Instant",
        "std::time::SystemTime",
        "nix",
        "teu_cgroups::OomWatch",
        "teu_cgroups::Update",
        "teu_namespaces::spawn",
        "File::open",
    ];
    let sources = sources("src/plan");
    assert_without(&sources, &forbidden);
    // Of these crates, which make system calls, `plan` may use types only.
    let types = [
        "rustix::process::Resource",
        "rustix::process::Rlimit",
        "rustix::thread::CapabilitySet",
    ];
    for (name, code) in &sources {
        for path in paths(code) {
            let is_call = path.starts_with("rustix::")
                && !path.ends_with("::")
                && !types.contains(&path.as_str());
            let is_cgroup =
                path == "teu_cgroups::Cgroup" || path.starts_with("teu_cgroups::Cgroup::");
            assert!(!is_call && !is_cgroup, "{name} uses {path}");
        }
    }
    // Of the rest of the binary, `plan` may use only config.json and errors.
    let known = ["document", "known_failures", "plan", "version"];
    for (name, code) in &sources {
        for path in paths(code) {
            let mut parts = path.split("::");
            let is_of_ours = parts.next() == Some("crate");
            let module = parts.next().filter(|_| is_of_ours);
            assert!(
                module.is_none_or(|module| known.contains(&module)),
                "{name} uses {path}"
            );
        }
        for look in [
            ".exists()",
            ".try_exists()",
            ".metadata()",
            ".symlink_metadata()",
            ".read_dir()",
            ".read_link()",
            ".canonicalize()",
            ".is_dir()",
            ".is_file()",
            ".is_symlink()",
            "::find()",
            "::find_with_systemd(",
            "::of_namespace(",
        ] {
            assert!(!code.contains(look), "{name} has {look}");
        }
    }
}

fn crates_below_know_nothing_of_the_binary() {
    needs(&[]);
    let forbidden = ["anyhow", "teu", "oci_spec"];
    assert_without(&sources("cgroups/src"), &forbidden);
    assert_without(&sources("mountinfo/src"), &forbidden);
    assert_without(&sources("namespaces/src"), &forbidden);
    assert_without(&sources("seccomp/src"), &forbidden);
    assert_without(
        &sources("seccomp/src"),
        &["libc", "nix", "rustix", "std::fs", "std::process"],
    );
    // gpu may use the types of config.json for its edits.
    assert_without(
        &sources("gpu/src"),
        &["anyhow", "teu", "teu_cgroups", "teu_namespaces"],
    );
    // Only the runtime knows what a container is made of.
    assert_without(
        &sources("shim/src"),
        &["oci_spec", "teu_gpu", "teu_seccomp"],
    );
    assert_without(&sources("cgroups/src"), &["teu_namespaces"]);
    assert_without(&sources("namespaces/src"), &["teu_cgroups"]);
}

/// The modules of the confined server must not do the jobs' work, because its filter of system
/// calls would kill it.
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
    // The server's first steps come before the filter.
    sources.remove("shim/src/server.rs");
    sources.retain(|name, _| {
        let name = name.trim_start_matches("shim/src/");
        ["io", "metrics", "packets", "publisher", "server", "service", "task", "ttrpc"]
            .iter()
            .any(|module| name.starts_with(module))
            // A file of unit tests.
            && !name.ends_with("/tests.rs")
    });
    assert!(sources.len() > 10, "{:?}", sources.keys());
    assert_without(&sources, &forbidden);
}

fn unsafe_code_has_one_address() {
    needs(&[]);
    let of_one_file = ["errno/src", "mountinfo/src", "spelling/src"];
    for directory in OF_MODULES.iter().chain(&of_one_file).chain(&["tests"]) {
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
    // Functions that end a clone, which does not execve: those called `main`, and CRIU's.
    sources.remove("src/sys.rs");
    for (name, code) in &sources {
        for (place, _) in code.match_indices("sys::exit(") {
            let before = code[..place].rsplit("\nfn ").next().unwrap();
            let before = before.rsplit("\npub(crate) fn ").next().unwrap();
            let function = before.split('(').next().unwrap();
            assert!(
                ["main", "become_criu"].contains(&function),
                "{function} in {name} ends the process"
            );
        }
    }
}

/// The modules of a crate whose files are in `directory`, each with the modules it uses: by file,
/// as `init::mounts`, and by directory, as `init`. A module that uses a directory's own file uses
/// only that.
fn uses(directory: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut sources = sources(directory);
    // Only the unit tests use it, and so do some functions in files that they share.
    sources.remove(&format!("{directory}/testing.rs"));
    let module = |name: &str| {
        let path = name.strip_prefix(directory).unwrap().trim_matches('/');
        let path = path.trim_end_matches(".rs").trim_end_matches("/mod");
        path.replace('/', "::")
    };
    let sources: BTreeMap<String, &String> = sources
        .iter()
        .map(|(name, code)| (module(name), code))
        .collect();
    let mut uses = BTreeMap::new();
    for (name, code) in &sources {
        let found = paths(code).into_iter().filter_map(|path| {
            let path = absolute(name, &path)?;
            let parts: Vec<&str> = path.split("::").collect();
            (1..=parts.len())
                .rev()
                .map(|count| parts[..count].join("::"))
                .find(|known| sources.contains_key(known))
        });
        let found = found.filter(|other| other != name);
        uses.insert(name.clone(), found.collect::<BTreeSet<_>>());
    }
    uses
}

/// All paths in the code that begin in its crate: imports, and those within the code.
fn paths(code: &str) -> Vec<String> {
    let is_word = |character: char| character.is_alphanumeric() || "_:".contains(character);
    let words = code.split(|character| !is_word(character));
    let inline = words.filter(|word| word.contains("::")).map(str::to_owned);
    imports(code).into_iter().chain(inline).collect()
}

/// The path from the crate's root, for a path in the module `name`.
fn absolute(name: &str, path: &str) -> Option<String> {
    let mut base: Vec<&str> = name.split("::").filter(|part| *part != "main").collect();
    let mut parts = path.split("::").peekable();
    match parts.next()? {
        "crate" => base.clear(),
        "self" => {}
        "super" => {
            base.pop();
            while parts.next_if_eq(&"super").is_some() {
                base.pop();
            }
        }
        _ => return None,
    }
    Some(base.into_iter().chain(parts).collect::<Vec<_>>().join("::"))
}

/// The modules that can be reached from `start` and that lead back to it.
fn circle(uses: &BTreeMap<String, BTreeSet<String>>, start: &str) -> Vec<String> {
    let reached = |start: &str| {
        let mut reached = BTreeSet::new();
        let mut next = vec![start.to_owned()];
        while let Some(module) = next.pop() {
            for other in uses.get(&module).into_iter().flatten() {
                if reached.insert(other.clone()) {
                    next.push(other.clone());
                }
            }
        }
        reached
    };
    let from_here = reached(start).into_iter();
    from_here
        .filter(|module| reached(module).contains(start))
        .collect()
}

/// The uses between top-level modules: single files, and directories as a whole.
fn by_directory(uses: &BTreeMap<String, BTreeSet<String>>) -> BTreeMap<String, BTreeSet<String>> {
    let top = |module: &String| module.split("::").next().unwrap().to_owned();
    let mut whole: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (module, others) in uses {
        let others = others.iter().map(top).filter(|other| *other != top(module));
        whole.entry(top(module)).or_default().extend(others);
    }
    whole
}

fn no_module_uses_what_uses_it() {
    needs(&[]);
    let mut found = BTreeSet::new();
    for directory in OF_MODULES {
        let uses = uses(directory);
        assert!(uses.values().flatten().count() > 3, "{uses:?}");
        // The layers are directories of the binary.
        let layers = (directory == "src").then(|| by_directory(&uses));
        for uses in layers.iter().chain([&uses]) {
            let circles = uses.keys().map(|module| circle(uses, module));
            found.extend(circles.filter(|circle| !circle.is_empty()));
        }
    }
    assert!(found.is_empty(), "circles: {found:#?}");
}

fn top_of_the_sources_is_small() {
    needs(&[]);
    let files = sources("src");
    let top = files.keys().filter(|name| name.matches('/').count() == 1);
    let top: Vec<_> = top.collect();
    assert!(top.len() <= 20, "{}: {top:?}", top.len());
}
