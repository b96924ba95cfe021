//! Remembers the contents of a cgroup's files before an update, and writes them back if the
//! update fails.
//!
//! Only contents that were changed are written back, in reverse order. Which files an update
//! changes is decided in `merge`.

use std::io;
use std::os::unix::fs::MetadataExt;

use teu_cgroups_types::Limits;

use crate::Cgroup;
use crate::devices::{self, Rules};
use crate::directory::{Directory, Step, Steps, Write};
use crate::error::{Error, Result};
use crate::v1;
use crate::v1::cpuset::{Cpuset, FILES};

/// The kernel's default of `cpu.shares`.
const DEFAULT_SHARES: u64 = 1024;

/// The state to restore if an update fails. An empty value restores nothing.
#[derive(Debug, Default)]
pub(super) struct Undo {
    files: Files,
    /// The sets of the cgroup and of those below it, for each file of a cpuset.
    cpusets: Vec<(&'static str, Vec<Cpuset>)>,
    /// The old limits, if the update changes device rules. Only the rules are used.
    devices: Option<Limits>,
    /// The limits to tell systemd again, if systemd made the cgroup.
    told: Option<Limits>,
}

/// The contents of a cgroup's files, in the order in which they may be written.
#[derive(Debug, Default)]
pub(crate) struct Files(Vec<Old>);

/// A file and its old contents.
#[derive(Debug, PartialEq, Eq)]
struct Old {
    directory: Directory,
    file: String,
    /// The whole text, to find out whether it has changed.
    text: String,
    /// The value to write in order to restore the text.
    value: String,
}

impl Undo {
    /// Reads the contents that `writes` are going to replace. A file that does not exist, or
    /// that cannot be read by design, is left out.
    ///
    /// # Errors
    /// Returns an error if the limits are not valid, or if a file cannot be read.
    pub(super) fn new(cgroup: &Cgroup, old: &Limits, writes: &Limits) -> Result<Undo> {
        let mut undo = Undo {
            files: Files::of(cgroup, writes)?,
            ..Undo::default()
        };
        undo.told = Some(before(old, writes));
        if let (Some(_), Some(rules)) = (&writes.devices, &old.devices) {
            undo.devices = Some(Limits {
                devices: Some(rules.clone()),
                ..Limits::default()
            });
        }
        Ok(undo)
    }

    /// Reads the sets of several v1 cgroups, parents before children.
    pub(super) fn remember_cpusets(
        &mut self,
        file: &'static str,
        cpusets: &[Cpuset],
    ) -> Result<()> {
        let old = cpusets
            .iter()
            .map(|each| Cpuset::now(&each.directory, file));
        self.cpusets.push((file, old.collect::<Result<_>>()?));
        Ok(())
    }

    /// Restores the old state.
    pub(super) fn carry_out(self, cgroup: &Cgroup) -> Result<()> {
        // Tell systemd first, because it writes to the files.
        let told = self.told.map_or(Ok(()), |old| cgroup.tell_limits(&old));
        let devices = self.devices.map_or(Ok(()), |old| restore(cgroup, &old));
        let cpusets = self.cpusets.iter().rev();
        let cpusets = cpusets.map(|(file, old)| v1::cpuset::write_all(file, old));
        let cpusets = cpusets.fold(Ok(()), Result::and);
        self.files.write_back().and(cpusets).and(devices).and(told)
    }
}

impl Files {
    /// Reads the files to which these limits are written.
    ///
    /// # Errors
    /// As [`Undo::new`].
    pub(crate) fn of(cgroup: &Cgroup, limits: &Limits) -> Result<Files> {
        let mut files = Files::default();
        for (directory, steps) in cgroup.all_steps(limits)? {
            for write in all_writes(&steps) {
                files.remember(directory, write)?;
            }
        }
        Ok(files)
    }

    fn remember(&mut self, directory: &Directory, write: &Write) -> Result<()> {
        let Some(text) = read(directory, &write.file)? else {
            return Ok(());
        };
        let value = match text.is_empty() && FILES.contains(&write.file.as_str()) {
            // An empty set cannot be restored while the cgroup has processes. Restore the
            // effective set, which has the same meaning.
            true => read(directory, &format!("{}.effective", write.file))?.unwrap_or_default(),
            false => value(&write.file, &write.value, &text),
        };
        let old = Old {
            value,
            directory: directory.clone(),
            file: write.file.clone(),
            text,
        };
        if !self.0.contains(&old) {
            self.0.push(old);
        }
        Ok(())
    }

    /// Writes back the contents that have changed, in reverse order. A write that the kernel
    /// refuses because of another value is repeated after the others.
    pub(crate) fn write_back(self) -> Result<()> {
        let mut left: Vec<Old> = self.0.into_iter().rev().collect();
        loop {
            let (count, mut result) = (left.len(), Ok(()));
            left.retain(|old| match old.write_back() {
                Ok(()) => false,
                Err(error) => {
                    if result.is_ok() {
                        result = Err(error);
                    }
                    true
                }
            });
            if left.is_empty() || left.len() == count {
                return result;
            }
        }
    }
}

/// Reads a file. Returns `None` if it does not exist, or if it is write-only, such as
/// memory.reclaim.
fn read(directory: &Directory, file: &str) -> Result<Option<String>> {
    const READABLE: u32 = 0o444;
    let path = || directory.path.join(file);
    let is_readable = || path().metadata().map(|file| file.mode() & READABLE != 0);
    match directory.read(file) {
        Ok(text) => Ok(Some(text)),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(_) if is_readable().is_ok_and(|readable| !readable) => Ok(None),
        Err(cause) => Err(Error::system("read", &path(), cause)),
    }
}

fn restore(cgroup: &Cgroup, old: &Limits) -> Result<()> {
    match (cgroup.v1_directory("devices"), &old.devices) {
        (Some(directory), Some(list)) => {
            let rules = Rules::new(list);
            cgroup.tell_devices(&rules)?;
            devices::v1::restore(directory, &rules)
        }
        _ => cgroup.restrict_devices(old).map(drop),
    }
}

/// Returns the old values of the limits that `writes` change. A limit that was not set gets
/// the value that removes it.
fn before(old: &Limits, writes: &Limits) -> Limits {
    let or_none = |new: Option<i64>, old: Option<i64>| new.map(|_| old.unwrap_or(-1));
    let mut before = Limits {
        pids: or_none(writes.pids, old.pids),
        ..Limits::default()
    };
    let (cpu, memory) = (&writes.cpu, &writes.memory);
    before.memory.limit = or_none(memory.limit, old.memory.limit);
    before.memory.swap = or_none(memory.swap, old.memory.swap);
    before.memory.reservation = memory.reservation.and(old.memory.reservation);
    before.cpu.quota = or_none(cpu.quota, old.cpu.quota);
    before.cpu.period = cpu.period.and(old.cpu.period);
    before.cpu.shares = cpu.shares.map(|_| old.cpu.shares.unwrap_or(DEFAULT_SHARES));
    before.cpu.idle = cpu.idle.and(old.cpu.idle);
    before.block_io.weight = writes.block_io.weight.and(old.block_io.weight);
    for (new, old, before) in [
        (&cpu.cpus, &old.cpu.cpus, &mut before.cpu.cpus),
        (&cpu.mems, &old.cpu.mems, &mut before.cpu.mems),
    ] {
        if !new.is_empty() {
            before.clone_from(old);
        }
    }
    let changed = old
        .unified
        .iter()
        .filter(|(file, _)| writes.unified.contains_key(*file));
    before.unified = changed
        .map(|(file, value)| (file.clone(), value.clone()))
        .collect();
    before
}

impl Old {
    fn write_back(&self) -> Result<()> {
        // Write only contents that changed, because some values can be read but not
        // written.
        if self
            .directory
            .read(&self.file)
            .is_ok_and(|now| now == self.text)
        {
            return Ok(());
        }
        let written = self.directory.write(&self.file, &self.value);
        written.map_err(|cause| {
            let path = self.directory.path.join(&self.file);
            Error::system("restore the value of", &path, cause)
        })
    }
}

/// Returns all writes of the steps, including those that are made instead of others.
fn all_writes(steps: &Steps) -> impl Iterator<Item = &Write> {
    let writes = steps.steps.iter().flat_map(|step| match step {
        Step::Write(write) => std::slice::from_ref(write),
        Step::InAnyOrder(writes) => writes,
    });
    writes.flat_map(|write| std::iter::successors(Some(write), |write| write.instead()))
}

/// Returns the value that restores the text `old` of a file after `new` is written. For a
/// file with a line for each device or key, that is the line of the key in `new`.
fn value(file: &str, new: &str, old: &str) -> String {
    if file == "memory.oom_control" {
        let line = old
            .lines()
            .find_map(|line| line.strip_prefix("oom_kill_disable "));
        return line.unwrap_or("0").to_owned();
    }
    let Some(without_line) = keyed(file) else {
        return old.to_owned();
    };
    // A weight without a device is the default weight of all devices.
    let key = match new.split_once(' ') {
        Some((key, _)) => key,
        None => "default",
    };
    let line = old
        .lines()
        .find(|line| line.split_whitespace().next() == Some(key));
    match line {
        Some(line) => line.to_owned(),
        None => format!("{key} {without_line}"),
    }
}

/// For a file with a line for each device or key: returns the value that is equivalent to a
/// missing line (kernel, cgroup-v2.rst and cgroup-v1/).
fn keyed(file: &str) -> Option<&'static str> {
    match file {
        "io.max" => Some("rbps=max wbps=max riops=max wiops=max"),
        "io.weight" | "io.bfq.weight" => Some("default"),
        "io.latency" => Some("target=0"),
        "rdma.max" => Some("hca_handle=max hca_object=max"),
        "misc.max" => Some("max"),
        "net_prio.ifpriomap" => Some("0"),
        _ if file.ends_with("_device") => Some("0"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn an_unreadable_file_stops_an_update() {
        let path = std::env::temp_dir().join(format!("teu-undo-{}", std::process::id()));
        fs::create_dir_all(path.join("unreadable")).expect("mkdir");
        let written_only = path.join("written_only");
        fs::create_dir_all(&written_only).expect("mkdir");
        let mode = fs::Permissions::from_mode(0o200);
        fs::set_permissions(&written_only, mode).expect("chmod");
        let mut files = Files::default();
        let mut remember = |file: &str| {
            let write = Write::new("x", file, 1);
            files.remember(&Directory::new(&path), &write)
        };
        let found = [
            remember("missing"),
            remember("written_only"),
            remember("unreadable"),
        ];
        fs::remove_dir_all(&path).expect("remove");
        assert!(matches!(found, [Ok(()), Ok(()), Err(_)]), "{found:?}");
    }

    #[test]
    fn values_that_restore_a_text() {
        for (file, new, old, back) in [
            ("cpu.shares", "512", "1024", "1024"),
            ("cpuset.cpus", "0", "", ""),
            (
                "io.max",
                "8:0 rbps=5",
                "8:0 rbps=9 wbps=max riops=max wiops=max",
                "8:0 rbps=9 wbps=max riops=max wiops=max",
            ),
            (
                "io.max",
                "8:16 rbps=5",
                "8:1 rbps=9 wbps=max",
                "8:16 rbps=max wbps=max riops=max wiops=max",
            ),
            ("io.weight", "500", "default 100\n8:0 200", "default 100"),
            (
                "io.weight",
                "8:16 500",
                "default 100\n8:0 200",
                "8:16 default",
            ),
            (
                "blkio.throttle.read_bps_device",
                "8:0 5",
                "8:0 7\n8:16 9",
                "8:0 7",
            ),
            ("blkio.throttle.read_bps_device", "8:0 5", "", "8:0 0"),
            (
                "rdma.max",
                "mlx5_1 hca_handle=3",
                "mlx5_1 hca_handle=2 hca_object=max",
                "mlx5_1 hca_handle=2 hca_object=max",
            ),
            ("net_prio.ifpriomap", "eth0 5", "lo 0\neth0 1", "eth0 1"),
            (
                "memory.oom_control",
                "1",
                "oom_kill_disable 0\nunder_oom 0\noom_kill 3",
                "0",
            ),
        ] {
            assert_eq!(value(file, new, old), back, "{file} {new}");
        }
    }
}
