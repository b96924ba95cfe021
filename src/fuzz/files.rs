//! Fuzzes the readers of the kernel's files.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use teu_cgroups::{Cgroup, SavedPaths};
use teu_namespaces::{IdMap, IdMaps, id_maps as reader};

/// Reads an id map. Checks that it is the same after it is written and read again, and that
/// ids are translated to those of the host as the kernel does it (user_namespaces(7)).
pub fn id_maps(text: &[u8]) -> Option<()> {
    let lines = reader::parse(std::str::from_utf8(text).ok()?)?;
    let mut written = String::new();
    for IdMap {
        container,
        host,
        size,
    } in &lines
    {
        writeln!(written, "{container} {host} {size}").expect("written");
    }
    assert_eq!(reader::parse(&written).as_ref(), Some(&lines));
    let maps = IdMaps {
        uid: lines.clone(),
        ..IdMaps::default()
    };
    let ends = lines
        .iter()
        .map(|line| line.container.wrapping_add(line.size));
    let begins = lines.iter().map(|line| line.container);
    for id in begins.chain(ends).flat_map(|id| [id.wrapping_sub(1), id]) {
        let on_host = lines.iter().find_map(|line| {
            let (first, id) = (u64::from(line.container), u64::from(id));
            let is_mapped = (first..first + u64::from(line.size)).contains(&id);
            let on_host = is_mapped.then(|| id - first + u64::from(line.host))?;
            u32::try_from(on_host).ok()
        });
        assert_eq!(maps.host_uid(id), on_host);
    }
    Some(())
}

/// Reads the files of a cgroup, each after a line `== NAME`, as statistics of cgroup v1 and
/// v2. Checks that all numbers are numbers, and that the fast way to a few of them has the
/// same result.
pub fn statistics(text: &[u8]) -> Option<()> {
    let name = format!("teu-fuzz-{}", std::process::id());
    let directory = Directory(std::env::temp_dir().join(name));
    fs::create_dir_all(&directory.0).expect("a directory");
    write_files(text, &directory.0)?;
    let of_v1 = [
        "cpu", "cpuacct", "cpuset", "memory", "pids", "blkio", "hugetlb", "rdma",
    ];
    assert_counted(&of_v1, &directory.0);
    assert_counted(&[""], &directory.0);
    Some(())
}

/// A directory that is removed when this value is dropped.
struct Directory(PathBuf);

impl Drop for Directory {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).expect("remove the directory");
    }
}

fn write_files(text: &[u8], directory: &Path) -> Option<()> {
    let text = std::str::from_utf8(text).ok()?.strip_prefix("== ")?;
    for file in text.split("\n== ") {
        let (name, content) = file.split_once('\n')?;
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"._".contains(&byte);
        if !name.bytes().all(is_name) || name.trim_matches('.').is_empty() || name.len() > 100 {
            return None;
        }
        fs::write(directory.join(name), content).expect("a file");
    }
    Some(())
}

fn assert_counted(controllers: &[&str], directory: &Path) {
    let paths: BTreeMap<&str, &Path> = controllers.iter().map(|name| (*name, directory)).collect();
    let mut saved = serde_json::to_value(paths).expect("JSON");
    saved["unit"] = serde_json::Value::Null;
    let saved: SavedPaths = serde_json::from_value(saved).expect("paths");
    let cgroup = Cgroup::open(&saved);
    let (stats, usage) = (cgroup.stats(), cgroup.usage());
    // A float that is not a number becomes null in JSON.
    let json = serde_json::to_string(&stats).expect("JSON");
    assert!(!json.contains("null"), "{json}");
    assert_eq!(usage.cpu, stats.cpu.usage.total);
    assert_eq!(usage.pids, stats.pids.current);
    assert!(usage.memory <= stats.memory.usage.usage);
    let bytes = |operation| {
        let entries = stats.block_io.bytes.iter();
        let values = entries
            .filter(|entry| entry.operation == operation)
            .map(|entry| entry.value);
        values.fold(0, u64::saturating_add)
    };
    assert_eq!((usage.read, usage.written), (bytes("Read"), bytes("Write")));
}
