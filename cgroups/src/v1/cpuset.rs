//! Turns processors and memory nodes into writes for the v1 controller cpuset, fills new
//! cgroups, and changes the sets of a tree of cgroups.
//!
//! A new cgroup has neither processors nor memory nodes, and takes no process until it has
//! both. A set must be part of the parent's set at all times.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use teu_cgroups_types::CpuLimits;

use crate::cpu_list;
use crate::directory::{self, Directory, Steps, Write};
use crate::error::{Error, Result};

pub(crate) const FILES: [&str; 2] = ["cpuset.cpus", "cpuset.mems"];

pub(crate) fn steps(cpu: &CpuLimits) -> Steps {
    let mut steps = Steps::default();
    let [cpus_file, mems_file] = FILES;
    if !cpu.cpus.is_empty() {
        // A hierarchy mounted with "noprefix" has files without "cpuset.".
        let write = Write::new("cpu.cpus", cpus_file, &cpu.cpus);
        steps.write(write.or(Write::new("cpu.cpus", "cpus", &cpu.cpus)));
    }
    if !cpu.mems.is_empty() {
        let write = Write::new("cpu.mems", mems_file, &cpu.mems);
        steps.write(write.or(Write::new("cpu.mems", "mems", &cpu.mems)));
    }
    steps
}

/// Makes the container's cgroup and fills its sets, so that it takes processes: with the
/// requested sets, or else with those of the parent. If a set is requested, the
/// parent's is not copied even for a moment, because a sibling may have a part of it
/// exclusively. Returns whether the cgroup existed before.
pub(crate) fn make(
    path: &Path,
    top: &Path,
    cpu: &CpuLimits,
    made: &mut Vec<PathBuf>,
) -> Result<bool> {
    let existed = directory::make(path, top, made)?;
    let directory = Directory::new(path);
    let parent = Directory::new(path.parent().unwrap_or(top));
    for (file, asked) in FILES.iter().zip([&cpu.cpus, &cpu.mems]) {
        if asked.is_empty() {
            fill(&directory, top, file)?;
        } else if parent.path != top {
            // The parent may be new too, and then has to be filled first.
            fill(&parent, top, file)?;
        }
    }
    directory.carry_out(&steps(cpu))?;
    Ok(existed)
}

/// Copies the set of the parent to `directory` if its own is empty. Returns the set.
fn fill(directory: &Directory, top: &Path, file: &str) -> Result<String> {
    let (file, set) = match directory.read(file) {
        Err(error) if directory::is_gone(&error) => {
            let short = file.trim_start_matches("cpuset.");
            (short, directory.read_or_error(short)?)
        }
        Err(cause) => return Err(Error::system("read", &directory.path.join(file), cause)),
        Ok(set) => (file, set),
    };
    let parent = directory.path.parent().filter(|_| directory.path != top);
    let Some(parent) = parent.filter(|_| set.is_empty()) else {
        return Ok(set);
    };
    let set = fill(&Directory::new(parent), top, file)?;
    directory.write_or_error(file, &set)?;
    Ok(set)
}

/// A cgroup and its set, or the set that it is to get.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Cpuset {
    pub(crate) directory: Directory,
    pub(crate) set: BTreeSet<u32>,
}

impl Cpuset {
    /// Reads the present set. `file` is one of [`FILES`], here and in the functions below.
    pub(crate) fn now(directory: &Directory, file: &str) -> Result<Cpuset> {
        Ok(Cpuset {
            directory: directory.clone(),
            set: read_set(directory, file)?,
        })
    }
}

/// Returns the cgroups below `directory` whose sets are not part of `set`, parents before
/// children. Each is returned with its new set: its present set, reduced to `set`. If nothing
/// would be left, it gets its parent's new set.
///
/// # Errors
/// Returns an error if a set cannot be read.
pub(crate) fn descendants_outside(
    directory: &Directory,
    file: &str,
    set: &BTreeSet<u32>,
) -> Result<Vec<Cpuset>> {
    let mut found = Vec::new();
    for below in directory.below()? {
        let has = read_set(&below, file)?;
        if has.is_subset(set) {
            continue;
        }
        let kept = &has & set;
        let set = if kept.is_empty() { set.clone() } else { kept };
        let further = descendants_outside(&below, file, &set)?;
        found.push(Cpuset {
            directory: below,
            set,
        });
        found.extend(further);
    }
    Ok(found)
}

/// Gives each cgroup its set; parents come before children. The sets first grow from the
/// top and then shrink from the bottom, because a set must always be part of the parent's
/// set.
///
/// # Errors
/// Returns an error if the kernel refuses a set, such as one that overlaps an exclusive
/// set.
pub(crate) fn write_all(file: &str, cpusets: &[Cpuset]) -> Result<()> {
    for Cpuset { directory, set } in cpusets {
        write_set(directory, file, &(&read_set(directory, file)? | set))?;
    }
    for Cpuset { directory, set } in cpusets.iter().rev() {
        write_set(directory, file, set)?;
    }
    Ok(())
}

/// Reads a set. Returns the empty set in a hierarchy mounted with "noprefix", whose sets
/// are never narrowed.
fn read_set(directory: &Directory, file: &str) -> Result<BTreeSet<u32>> {
    match directory.read(file) {
        Ok(text) => Ok(cpu_list::parse(&text).unwrap_or_default()),
        Err(error) if directory::is_gone(&error) => Ok(BTreeSet::new()),
        Err(cause) => Err(Error::system("read", &directory.path.join(file), cause)),
    }
}

fn write_set(directory: &Directory, file: &str, set: &BTreeSet<u32>) -> Result<()> {
    directory.write_or_error(file, &cpu_list::format(set))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plain files stand in for a hierarchy mounted with "noprefix", which cannot be
    /// mounted while another one is in use.
    #[test]
    fn files_without_the_prefix_are_used() {
        let top = std::env::temp_dir().join(format!("teu-noprefix-{}", std::process::id()));
        let path = top.join("a/b");
        std::fs::create_dir_all(&path).unwrap();
        for (directory, set) in [(&top, "0-3"), (&top.join("a"), ""), (&path, "")] {
            std::fs::write(directory.join("cpus"), set).unwrap();
            std::fs::write(directory.join("mems"), set.trim_end_matches("-3")).unwrap();
        }
        let limits = CpuLimits {
            cpus: "1".into(),
            ..Default::default()
        };
        assert!(make(&path, &top, &limits, &mut Vec::new()).unwrap());
        let read = |file: &str| std::fs::read_to_string(top.join(file)).unwrap();
        assert_eq!((read("a/cpus"), read("a/mems")), ("0-3".into(), "0".into()));
        assert_eq!(
            (read("a/b/cpus"), read("a/b/mems")),
            ("1".into(), "0".into())
        );
        std::fs::remove_dir_all(&top).unwrap();
    }

    #[test]
    fn table() {
        let limits = CpuLimits {
            cpus: "0-1".into(),
            mems: "0".into(),
            ..Default::default()
        };
        assert_eq!(steps(&limits).lines(), ["cpuset.cpus=0-1", "cpuset.mems=0"]);
        assert_eq!(steps(&CpuLimits::default()), Steps::default());
    }
}
