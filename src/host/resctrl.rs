//! Finds the resctrl filesystem, for the allocation of cache and memory bandwidth
//! (kernel: Documentation/filesystems/resctrl.rst). Not for its groups: see
//! `parent/intel_rdt.rs`.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use teu_mountinfo::Mount;
use teu_plan::seen::Resctrl;

use super::Host;

impl Host {
    /// Finds the mounted resctrl filesystem; `None` if there is none.
    ///
    /// # Errors
    /// The mounts cannot be read.
    pub(crate) fn resctrl(&self) -> Result<Option<Resctrl>> {
        let Some(root) = self.resctrl_root()? else {
            return Ok(None);
        };
        Ok(Some(Resctrl {
            has_cache_allocation: root.join("info/L3").exists(),
            has_bandwidth_allocation: root.join("info/MB").exists(),
            root,
        }))
    }

    fn resctrl_root(&self) -> Result<Option<PathBuf>> {
        // Every kernel with support for resctrl has the empty directory, mounted or
        // not.
        let usual = self.path("sys/fs/resctrl");
        if usual.join("schemata").exists() {
            return Ok(Some(usual));
        }
        let mounts = self.path("proc/self/mountinfo");
        let mounts = fs::read(&mounts).with_context(|| format!("read {mounts:?}"))?;
        let mounts = teu_mountinfo::mounts(&mounts)?;
        let mount = mounts.iter().find(|mount| mount.kind == b"resctrl");
        Ok(mount.map(Mount::point))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn none_in_the_usual_place_and_elsewhere() {
        let dir = testing::Directory::new("resctrl");
        let host = Host::below(dir.path());
        host.resctrl().expect_err("no mountinfo");
        fs::create_dir_all(dir.path().join("proc/self")).expect("mkdir");
        fs::create_dir_all(dir.path().join("sys/fs/resctrl/info/L3")).expect("mkdir");
        let mountinfo = dir.path().join("proc/self/mountinfo");
        fs::write(&mountinfo, "").expect("write");
        assert_eq!(host.resctrl().expect("facts"), None);
        fs::write(
            &mountinfo,
            "30 1 0:26 / /none/resctrl rw shared:9 - resctrl none rw\n",
        )
        .expect("write");
        let elsewhere = host.resctrl().expect("facts").expect("mounted");
        assert_eq!(elsewhere.root, PathBuf::from("/none/resctrl"));
        assert!(!elsewhere.has_cache_allocation);
        fs::write(dir.path().join("sys/fs/resctrl/schemata"), "").expect("write");
        let usual = host.resctrl().expect("facts").expect("mounted");
        assert!(usual.has_cache_allocation && !usual.has_bandwidth_allocation);
    }
}
