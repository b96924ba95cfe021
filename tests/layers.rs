//! Checks which module uses which: the rules of CONTRIBUTING.md that the compiler does not
//! check, read from the sources.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use crate::harness::*;

tests![
    rules_see_what_they_forbid,
    init_carries_out_and_decides_nothing,
    plan_reaches_no_crate_that_makes_system_calls,
    compiler_refuses_a_plan_that_reads_a_file,
    crates_below_know_nothing_of_the_binary,
    server_of_the_shim_leaves_work_to_jobs,
    unsafe_code_has_one_address,
    only_main_ends_the_process,
    no_module_uses_what_uses_it,
    top_of_the_sources_is_small,
    hops_to_the_program_are_those_of_the_documentation,
    index_names_what_exists,
    fuzz_targets_have_the_dependencies_of_the_binary,
];

/// The directories with sources of several modules: the binary and some crates.
const OF_MODULES: [&str; 8] = [
    "src",
    "cgroups/src",
    "cgroups/types/src",
    "gpu/src",
    "namespaces/src",
    "plan/src",
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
        "teu_plan::document",
        "crate::state",
        "crate::bundle",
        "crate::cli",
        "crate::commands",
        "crate::host",
        "serde_json",
    ];
    assert_without(&sources("src/init"), &forbidden);
}

/// Crates without system calls, which the plan and its own crates may use.
const CRATES_OF_THE_PLAN: [&str; 9] = [
    "anyhow",
    "bitflags",
    "linux-raw-sys",
    "log",
    "oci-spec",
    "serde",
    "serde_json",
    "strsim",
    "zbus",
];

/// The dependencies in the Cargo.toml of a directory of the repository, each with its own
/// directory if it has one there.
fn dependencies(directory: &str) -> Vec<(String, Option<String>)> {
    let manifest = fs::read_to_string(repository(directory).join("Cargo.toml")).unwrap();
    let (_, list) = manifest
        .split_once("\n[dependencies]\n")
        .unwrap_or_default();
    let list = list.split("\n[").next().unwrap_or_default();
    let lines = list.lines().filter(|line| !line.starts_with('#'));
    let dependencies = lines.filter_map(|line| line.split_once(" = "));
    let dependencies = dependencies.map(|(name, value)| {
        let path = value.split_once("path = \"").map(|(_, path)| path);
        let path = path.map(|path| path.split('"').next().unwrap());
        let mut parts: Vec<&str> = directory.split('/').collect();
        for part in path.into_iter().flat_map(|path| path.split('/')) {
            match part {
                ".." => drop(parts.pop()),
                part => parts.push(part),
            }
        }
        (name.to_owned(), path.map(|_| parts.join("/")))
    });
    dependencies.collect()
}

/// Methods of a path that look it up: those that plan/clippy.toml forbids, too.
const LOOKING_METHODS: [&str; 10] = [
    "canonicalize",
    "exists",
    "is_dir",
    "is_file",
    "is_symlink",
    "metadata",
    "read_dir",
    "read_link",
    "symlink_metadata",
    "try_exists",
];

fn plan_reaches_no_crate_that_makes_system_calls() {
    needs(&[]);
    let mut own = vec!["plan".to_owned()];
    let mut at = 0;
    while let Some(directory) = own.get(at).cloned() {
        let dependencies = dependencies(&directory);
        for (name, path) in dependencies {
            match path {
                Some(path) if own.contains(&path) => {}
                Some(path) => own.push(path),
                None => assert!(
                    CRATES_OF_THE_PLAN.contains(&name.as_str()),
                    "{directory} depends on {name}"
                ),
            }
        }
        at += 1;
    }
    assert!(own.len() > 4, "{own:?}");
    // The compiler knows no difference between these methods and others of a path.
    for directory in &own {
        for (name, code) in sources(&format!("{directory}/src")) {
            for method in LOOKING_METHODS {
                let call = format!(".{method}(");
                assert!(!code.contains(&call), "{name} calls {method}");
            }
        }
    }
    for (name, code) in sources("plan/src") {
        let has_std = code.contains("extern crate std");
        assert_eq!(has_std, name == "plan/src/prelude.rs", "{name}");
    }
    let forbidden = [
        "std::env",
        "std::fs",
        "std::net",
        "std::os::unix::net",
        "std::process",
        "std::thread",
        "std::time",
    ];
    // The compiler refuses these in the plan itself.
    for directory in &own[1..] {
        assert_without(&sources(&format!("{directory}/src")), &forbidden);
    }
}

/// Code is compiled as a part of the plan would be: with the attributes of its lib.rs, and
/// its prelude.
fn compiler_refuses_a_plan_that_reads_a_file() {
    needs(&[Tool("rustc")]);
    let lib = fs::read_to_string(repository("plan/src/lib.rs")).unwrap();
    let is_head = |line: &&str| line.starts_with("#![") || line.starts_with("extern crate");
    let head: Vec<&str> = lib.lines().filter(is_head).collect();
    let head = head.join("\n");
    let prelude = repository("plan/src/prelude.rs");
    let compile = |code: &str| {
        let directory = scratch();
        let file = directory.join("lib.rs");
        let text = format!(
            "{head}\n#[path = {prelude:?}]\nmod prelude;\nuse prelude::*;\n\
             pub fn decide(path: &Path) {{ {code} }}\n"
        );
        fs::write(&file, text).unwrap();
        let output = Invocation::new("rustc")
            .args(["--edition=2024", "--crate-type=lib", "--emit=metadata"])
            .arg("--out-dir")
            .arg(&directory)
            .arg(&file)
            .output();
        (output.code() == 0, output.stderr)
    };
    let (compiles, words) = compile("path.join(format!(\"x\")).is_absolute();");
    assert!(compiles, "{words}");
    for code in [
        "std::fs::read(path);",
        "std::env::var(\"HOME\");",
        "std::process::id();",
        "std::time::SystemTime::now();",
        "std::net::TcpStream::connect(\"127.0.0.1:1\");",
        "::std::fs::read(path);",
        "crate::prelude::std::fs::read(path);",
    ] {
        let (compiles, words) = compile(code);
        let is_unknown = words.contains("error[E0433]") || words.contains("error[E0603]");
        assert!(!compiles && is_unknown, "{code} compiles: {words}");
    }
}

fn crates_below_know_nothing_of_the_binary() {
    needs(&[]);
    let forbidden = ["anyhow", "teu", "teu_plan", "oci_spec"];
    for directory in [
        "cgroups/src",
        "cgroups/types/src",
        "mountinfo/src",
        "namespaces/src",
        "namespaces/types/src",
        "seccomp/src",
    ] {
        assert_without(&sources(directory), &forbidden);
    }
    assert_without(
        &sources("seccomp/src"),
        &["libc", "nix", "rustix", "std::fs", "std::process"],
    );
    // gpu may use the types of config.json for its edits.
    for directory in ["gpu/src", "gpu/types/src"] {
        assert_without(
            &sources(directory),
            &["anyhow", "teu", "teu_plan", "teu_cgroups", "teu_namespaces"],
        );
    }
    // Only the runtime knows what a container is made of.
    assert_without(
        &sources("shim/src"),
        &["oci_spec", "teu_gpu", "teu_plan", "teu_seccomp"],
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
    let of_few_files = [
        "errno/src",
        "gpu/types/src",
        "mountinfo/src",
        "namespaces/types/src",
        "spelling/src",
    ];
    for directory in OF_MODULES.iter().chain(&of_few_files).chain(&["tests"]) {
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
    // In sys.rs, those of unit tests.
    sources.remove("src/sys.rs");
    let mut ends = 0;
    for (name, code) in &sources {
        for (place, _) in code.match_indices("exit_now(") {
            ends += 1;
            let before = code[..place].rsplit("\nfn ").next().unwrap();
            let before = before.rsplit("\npub(crate) fn ").next().unwrap();
            let function = before.split('(').next().unwrap();
            assert!(
                ["main", "become_criu"].contains(&function),
                "{function} in {name} ends the process"
            );
        }
    }
    assert!(ends >= 3, "{ends}");
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

/// The body of a function at the top of a file, or in an `impl` block.
fn body<'a>(code: &'a str, function: &str) -> &'a str {
    let start = code
        .match_indices(&format!("fn {function}"))
        .map(|(at, name)| at + name.len())
        .find(|at| code[*at..].starts_with(['(', '<']));
    let start = start.unwrap_or_else(|| panic!("there is no function {function}"));
    let end = code[start..].find("\n}\n").unwrap();
    &code[start..start + end]
}

/// integration/fuzz compiles the binary as its library, outside of the workspace.
fn fuzz_targets_have_the_dependencies_of_the_binary() {
    needs(&[]);
    let names = |directory| -> BTreeSet<String> {
        let names = dependencies(directory).into_iter().map(|(name, _)| name);
        names.collect()
    };
    let mut expected = names("");
    expected.insert("libfuzzer-sys".to_owned());
    assert_eq!(names("integration/fuzz"), expected);
}

/// docs/architecture.md counts the functions from `main` to execve. Each is called by one
/// that comes before it; one of the name `main`, by its module.
fn hops_to_the_program_are_those_of_the_documentation() {
    needs(&[]);
    let text = fs::read_to_string(repository("docs/architecture.md")).unwrap();
    let (count, list) = text.split_once(" functions call each other").unwrap();
    let lines = list.lines().skip_while(|line| !line.starts_with("    "));
    let lines = lines.take_while(|line| line.starts_with("    "));
    let mut bodies: Vec<String> = Vec::new();
    for line in lines {
        let (file, functions) = line.trim().split_once(' ').unwrap();
        let code = without_comments(&repository(file));
        let functions = functions.split(':').next().unwrap().split(',');
        for function in functions.map(str::trim) {
            let module = file
                .strip_suffix("/mod.rs")
                .and_then(|path| path.rsplit('/').next());
            let call = match (function, module) {
                ("main", Some(module)) => format!("{module}::main"),
                _ => function.to_owned(),
            };
            let is_called = bodies.iter().any(|body| names(body, &call));
            assert!(bodies.is_empty() || is_called, "none calls {function}");
            bodies.push(body(&code, function).to_owned());
        }
    }
    assert!(bodies.last().unwrap().contains("execve("));
    let count: usize = count.rsplit(' ').next().unwrap().parse().unwrap();
    assert_eq!(count, bodies.len());
}

/// docs/where.md names files, and after a file in parentheses names that occur in it.
fn index_names_what_exists() {
    needs(&[]);
    let text = fs::read_to_string(repository("docs/where.md")).unwrap();
    let cells = text.lines().filter(|line| line.starts_with("| "));
    let cells = cells.flat_map(|line| line.split('|').skip(2));
    let mut wrong = Vec::new();
    let mut count = 0;
    for cell in cells {
        let mut file = None;
        // Every second part is between backticks. Parentheses stay open before names.
        let mut in_parentheses = false;
        for (number, part) in cell.split('`').enumerate() {
            if number % 2 == 0 {
                in_parentheses = (in_parentheses || part.contains('(')) && !part.contains(')');
            } else if !in_parentheses {
                let path = repository(part);
                if !path.exists() {
                    wrong.push(part.to_owned());
                }
                file = Some(path);
                count += 1;
            } else if let Some(file) = &file {
                let name = part.rsplit("::").next().unwrap_or(part);
                if !fs::read_to_string(file).is_ok_and(|text| names(&text, name)) {
                    wrong.push(format!("{part} in {}", file.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(count > 300, "only {count} files are named");
}
