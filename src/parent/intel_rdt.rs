//! Puts a container into a group of the resctrl filesystem, changes and reads the
//! group, and removes it. Not for decisions: see `plan/src/intel_rdt.rs`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Serialize;
use teu_plan::intel_rdt::{Group, IntelRdtPlan};
use teu_plan::seen::Resctrl;

/// Makes the group and its monitoring group as planned, and moves the process `pid`
/// into them. Must come before `pid` has children, because these start in its group.
///
/// Adds each directory to `made` as soon as it exists, so that [`remove`] can remove
/// it, also after an error.
///
/// # Errors
/// A group that must exist does not exist, or has other schemata; the hardware has no
/// more groups; or the kernel refuses a write. The error has the kernel's own text.
pub(crate) fn enter(plan: &IntelRdtPlan, pid: i32, made: &mut Vec<PathBuf>) -> Result<()> {
    let group = plan.directory();
    let is_new = make_group(plan, &group, made)?;
    match (&plan.group, plan.schemata.is_empty()) {
        (_, true) => {}
        // The group belongs to others. The container may use it if it has the planned
        // values.
        (Group::Shared { .. }, false) if !is_new => compare(&group, &plan.schemata)?,
        (_, false) => {
            let text = plan.schemata.join("\n") + "\n";
            write(&plan.root, &group.join("schemata"), &text)?;
        }
    }
    write(&plan.root, &group.join("tasks"), &pid.to_string())?;
    if let Some(name) = &plan.monitoring {
        let monitoring = group.join("mon_groups").join(name);
        make(plan, &monitoring)?;
        made.push(monitoring.clone());
        write(&plan.root, &monitoring.join("tasks"), &pid.to_string())?;
    }
    Ok(())
}

/// Removes the directories that [`enter`] made, in reverse order. The kernel moves
/// processes that are left in them to the group above.
///
/// # Errors
/// The kernel refuses the removal. A directory that is already gone is no error.
pub(crate) fn remove(made: &[PathBuf]) -> Result<()> {
    for path in made.iter().rev() {
        match fs::remove_dir(path) {
            Err(err) if err.kind() != io::ErrorKind::NotFound => {
                return Err(err).with_context(|| format!("remove the resctrl group {path:?}"));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Changed schemata. Dropping it restores the old ones, until [`NewSchemata::keep`].
#[derive(Debug)]
pub(crate) struct NewSchemata {
    path: PathBuf,
    /// The old schemata; empty once they are not to be restored.
    old: String,
}

/// Writes lines of a schema to a container's group, in the given order. Values that the
/// lines do not name stay.
///
/// # Errors
/// The kernel refuses a line; the error has the kernel's own text. The old schemata are
/// restored.
pub(crate) fn update(root: &Path, group: &Path, lines: &[String]) -> Result<NewSchemata> {
    let path = group.join("schemata");
    let old = fs::read_to_string(&path).with_context(|| format!("read {path:?}"))?;
    let new = NewSchemata { path, old };
    for line in lines {
        write(root, &new.path, &format!("{line}\n"))?;
    }
    Ok(new)
}

impl NewSchemata {
    /// Leaves the new schemata in place.
    pub(crate) fn keep(mut self) {
        self.old.clear();
    }
}

impl Drop for NewSchemata {
    fn drop(&mut self) {
        for line in self.old.lines() {
            if let Err(err) = fs::write(&self.path, format!("{}\n", line.trim())) {
                log::warn!("restore {:?} in {:?}: {err}", line.trim(), self.path);
            }
        }
    }
}

/// The values that `events` reports for a container's group, with runc's names.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct RdtStats {
    #[serde(skip_serializing_if = "Option::is_none")]
    l3_cache_info: Option<CacheInfo>,
    #[serde(skip_serializing_if = "String::is_empty")]
    l3_cache_schema_root: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    l3_cache_schema: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    mem_bw_info: Option<BandwidthInfo>,
    #[serde(skip_serializing_if = "String::is_empty")]
    mem_bw_schema_root: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    mem_bw_schema: String,
    /// One entry for each memory domain.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    mbm_stats: Vec<Bandwidth>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cmt_stats: Vec<Occupancy>,
    /// All lines of the group.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    schemata: Vec<String>,
}

/// The parts into which the L3 cache can be divided.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct CacheInfo {
    cbm_mask: String,
    min_cbm_bits: u64,
    num_closids: u64,
}

/// The parts into which memory bandwidth can be divided.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct BandwidthInfo {
    bandwidth_gran: u64,
    delay_linear: u64,
    min_bandwidth: u64,
    num_closids: u64,
}

/// The bytes moved to and from memory.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Bandwidth {
    mbm_total_bytes: u64,
    mbm_local_bytes: u64,
}

/// The bytes in use in the L3 cache.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Occupancy {
    llc_occupancy: u64,
}

/// Reads the limits of the machine and the values of the group, or of the container's
/// monitoring group in it. Omits values that are missing.
pub(crate) fn stats(resctrl: &Resctrl, group: &Path, id: &str) -> RdtStats {
    let text = |path: PathBuf| fs::read_to_string(path).unwrap_or_default();
    let info = |path: &str| text(resctrl.root.join("info").join(path)).trim().to_owned();
    let number = |path: &str| info(path).parse().unwrap_or(0);
    let lines = |group: &Path| -> Vec<String> {
        let text = text(group.join("schemata"));
        text.lines().map(|line| line.trim().to_owned()).collect()
    };
    let (all, own) = (lines(&resctrl.root), lines(group));
    let line = |lines: &[String], resource: &str| {
        let line = lines.iter().find(|line| line.starts_with(resource));
        line.cloned().unwrap_or_default()
    };
    let mut stats = RdtStats::default();
    if resctrl.has_cache_allocation {
        stats.l3_cache_info = Some(CacheInfo {
            cbm_mask: info("L3/cbm_mask"),
            min_cbm_bits: number("L3/min_cbm_bits"),
            num_closids: number("L3/num_closids"),
        });
        (stats.l3_cache_schema_root, stats.l3_cache_schema) = (line(&all, "L3"), line(&own, "L3"));
    }
    if resctrl.has_bandwidth_allocation {
        stats.mem_bw_info = Some(BandwidthInfo {
            bandwidth_gran: number("MB/bandwidth_gran"),
            delay_linear: number("MB/delay_linear"),
            min_bandwidth: number("MB/min_bandwidth"),
            num_closids: number("MB/num_closids"),
        });
        (stats.mem_bw_schema_root, stats.mem_bw_schema) = (line(&all, "MB"), line(&own, "MB"));
    }
    let monitoring = group.join("mon_groups").join(id);
    let monitored = if monitoring.is_dir() {
        &monitoring
    } else {
        group
    };
    for domain in domains(&monitored.join("mon_data")) {
        let number = |file: &str| text(domain.join(file)).trim().parse().ok();
        let both = (number("mbm_total_bytes"), number("mbm_local_bytes"));
        if let (Some(mbm_total_bytes), Some(mbm_local_bytes)) = both {
            stats.mbm_stats.push(Bandwidth {
                mbm_total_bytes,
                mbm_local_bytes,
            });
        }
        let occupancy = number("llc_occupancy");
        stats
            .cmt_stats
            .extend(occupancy.map(|llc_occupancy| Occupancy { llc_occupancy }));
    }
    stats.schemata = own;
    stats
}

/// Returns the directories of a group's domains, such as "mon_L3_00", in order.
fn domains(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    let mut domains: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    domains.sort();
    domains
}

/// Makes the group if the plan says so. Returns whether it was made now.
fn make_group(plan: &IntelRdtPlan, group: &Path, made: &mut Vec<PathBuf>) -> Result<bool> {
    match &plan.group {
        Group::Default => Ok(false),
        Group::Shared {
            name,
            must_exist: true,
        } if !group.is_dir() => {
            bail!(
                "linux.intelRdt.closID {name:?} does not exist, and there is no schema to make it"
            )
        }
        Group::Shared {
            must_exist: true, ..
        } => Ok(false),
        Group::Shared { .. } => make(plan, group),
        Group::Own(_) => {
            let is_new = make(plan, group)?;
            if is_new {
                made.push(group.to_owned());
            }
            Ok(is_new)
        }
    }
}

/// Makes the directory. Returns whether it was made now and did not exist before.
fn make(plan: &IntelRdtPlan, path: &Path) -> Result<bool> {
    match fs::create_dir(path) {
        Ok(()) => Ok(true),
        Err(err) if err.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(err) => {
            let context = format!("make the resctrl group {path:?}{}", why(&plan.root));
            Err(err).context(context)
        }
    }
}

fn write(root: &Path, path: &Path, text: &str) -> Result<()> {
    fs::write(path, text)
        .with_context(|| format!("write {:?} to {path:?}{}", text.trim_end(), why(root)))
}

/// Returns the kernel's text about its last refusal, which says more than the error
/// number.
fn why(root: &Path) -> String {
    match fs::read_to_string(root.join("info/last_cmd_status")) {
        Ok(status) if status.trim() != "ok" => format!(" (last_cmd_status: {})", status.trim()),
        // The kernel adds nothing to the error.
        _ => String::new(),
    }
}

/// Checks that the group has each wanted value.
fn compare(group: &Path, wanted: &[String]) -> Result<()> {
    let path = group.join("schemata");
    let actual = fs::read_to_string(&path).with_context(|| format!("read {path:?}"))?;
    for line in wanted {
        let all = values(line).all(|value| {
            actual
                .lines()
                .any(|line| values(line).any(|it| it == value))
        });
        if !all {
            bail!(
                "the resctrl group {group:?} exists and is not {line:?}: it has {:?}",
                actual.trim()
            );
        }
    }
    Ok(())
}

/// Splits a line such as `L3:0=7f0;1=01f` into values without leading zeros: `(L3, 0,
/// 7f0)`, `(L3, 1, 1f)`.
fn values(line: &str) -> impl Iterator<Item = (&str, &str, String)> {
    let (resource, values) = line.trim().split_once(':').unwrap_or((line.trim(), ""));
    values.split(';').filter_map(move |value| {
        let (domain, value) = value.split_once('=')?;
        let value = value.trim().trim_start_matches('0').to_ascii_lowercase();
        Some((resource.trim(), domain.trim(), value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    /// Makes a tree of ordinary files in place of the kernel's resctrl.
    fn machine(name: &str) -> testing::Directory {
        let dir = testing::Directory::new(name);
        fs::create_dir_all(dir.path().join("info")).expect("mkdir");
        fs::write(dir.path().join("info/last_cmd_status"), "ok\n").expect("write");
        dir
    }

    fn plan(dir: &testing::Directory, group: Group, schemata: &[&str]) -> IntelRdtPlan {
        IntelRdtPlan {
            root: dir.path().to_owned(),
            group,
            schemata: schemata.iter().map(|line| (*line).to_owned()).collect(),
            monitoring: None,
        }
    }

    fn read(dir: &testing::Directory, path: &str) -> String {
        fs::read_to_string(dir.path().join(path)).expect("read")
    }

    #[test]
    fn a_group_of_its_own_comes_and_goes() {
        let dir = machine("rdt-own");
        let plan = plan(&dir, Group::Own("box".into()), &["L3:0=f", "MB:0=20"]);
        let mut made = Vec::new();
        enter(&plan, 42, &mut made).expect("enter");
        assert_eq!(read(&dir, "box/schemata"), "L3:0=f\nMB:0=20\n");
        assert_eq!(read(&dir, "box/tasks"), "42");
        assert_eq!(made, [dir.path().join("box")]);
        // Remove the files first: unlike files of resctrl, they would make rmdir(2)
        // fail.
        fs::remove_file(dir.path().join("box/schemata")).expect("remove");
        fs::remove_file(dir.path().join("box/tasks")).expect("remove");
        remove(&made).expect("remove");
        assert!(!dir.path().join("box").exists());
        remove(&made).expect("once more");
    }

    #[test]
    fn a_monitoring_group_is_removed_from_a_group_that_stays() {
        let dir = machine("rdt-monitoring");
        fs::create_dir_all(dir.path().join("gold/mon_groups")).expect("mkdir");
        let group = Group::Shared {
            name: "gold".into(),
            must_exist: true,
        };
        let plan = IntelRdtPlan {
            monitoring: Some("box".into()),
            ..plan(&dir, group, &[])
        };
        let mut made = Vec::new();
        enter(&plan, 7, &mut made).expect("enter");
        assert_eq!(read(&dir, "gold/tasks"), "7");
        assert_eq!(read(&dir, "gold/mon_groups/box/tasks"), "7");
        assert_eq!(made, [dir.path().join("gold/mon_groups/box")]);
    }

    #[test]
    fn a_shared_group_must_be_as_expected() {
        let dir = machine("rdt-shared");
        let group = |must_exist| Group::Shared {
            name: "gold".into(),
            must_exist,
        };
        let mut made = Vec::new();
        let error = enter(&plan(&dir, group(true), &[]), 7, &mut made).expect_err("missing");
        assert!(
            error
                .to_string()
                .contains(r#"closID "gold" does not exist"#),
            "{error}"
        );

        let mut enter = |lines: &[&str]| enter(&plan(&dir, group(false), lines), 7, &mut made);
        enter(&["L3:0=7f0;1=1f"]).expect("made");
        let text = "    L3:0=7f0;1=01f\n    MB:0=100\n";
        fs::write(dir.path().join("gold/schemata"), text).expect("write");
        enter(&["L3:0=7F0", "MB:0=100"]).expect("the same");
        let error = enter(&["L3:0=7f0;1=ff"]).expect_err("another");
        assert!(
            error
                .to_string()
                .contains(r#"exists and is not "L3:0=7f0;1=ff""#),
            "{error}"
        );
        assert_eq!(read(&dir, "gold/schemata"), text);
        assert!(made.is_empty());
    }

    #[test]
    fn statistics_have_runcs_names() {
        let dir = machine("rdt-stats");
        let files = [
            ("info/L3/cbm_mask", "ff\n"),
            ("info/L3/min_cbm_bits", "2\n"),
            ("info/L3/num_closids", "16\n"),
            ("schemata", "    L3:0=ff\n"),
            ("box/schemata", "    L3:0=f\n"),
            (
                "box/mon_groups/c1/mon_data/mon_L3_00/mbm_total_bytes",
                "30\n",
            ),
            (
                "box/mon_groups/c1/mon_data/mon_L3_00/mbm_local_bytes",
                "20\n",
            ),
            ("box/mon_groups/c1/mon_data/mon_L3_01/llc_occupancy", "7\n"),
        ];
        for (path, text) in files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().expect("parent")).expect("mkdir");
            fs::write(path, text).expect("write");
        }
        let resctrl = Resctrl {
            root: dir.path().to_owned(),
            has_cache_allocation: true,
            has_bandwidth_allocation: false,
        };
        let stats = stats(&resctrl, &dir.path().join("box"), "c1");
        assert_eq!(
            serde_json::to_string(&stats).expect("json"),
            r#"{"l3_cache_info":{"cbm_mask":"ff","min_cbm_bits":2,"num_closids":16},"l3_cache_schema_root":"L3:0=ff","l3_cache_schema":"L3:0=f","mbm_stats":[{"mbm_total_bytes":30,"mbm_local_bytes":20}],"cmt_stats":[{"llc_occupancy":7}],"schemata":["L3:0=f"]}"#
        );
    }

    #[test]
    fn changed_schemata_come_back_unless_kept() {
        let dir = machine("rdt-update");
        let (group, old) = (dir.path().join("box"), "L3:0=ff\n");
        fs::create_dir(&group).expect("mkdir");
        fs::write(group.join("schemata"), old).expect("write");
        let lines = ["L3:0=f".to_owned()];
        drop(update(dir.path(), &group, &lines).expect("update"));
        assert_eq!(read(&dir, "box/schemata"), old);
        update(dir.path(), &group, &lines).expect("update").keep();
        assert_eq!(read(&dir, "box/schemata"), "L3:0=f\n");
        update(dir.path(), &dir.path().join("none"), &lines).expect_err("no group");
    }

    #[test]
    fn what_the_kernel_says_is_in_the_error() {
        let dir = machine("rdt-status");
        fs::write(dir.path().join("info/last_cmd_status"), "Invalid mask\n").expect("write");
        let plan = plan(&dir, Group::Default, &["L3:0=0"]);
        fs::create_dir(dir.path().join("schemata")).expect("in the way");
        let error = enter(&plan, 7, &mut Vec::new()).expect_err("refused");
        let words = testing::words(&error);
        assert!(
            words.ends_with("(last_cmd_status: Invalid mask): is a directory"),
            "{words}"
        );
    }
}
