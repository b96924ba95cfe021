//! Decides to which group of the resctrl filesystem the container goes, for the allocation
//! of cache and memory bandwidth (config-linux.md, "IntelRdt"; kernel:
//! Documentation/filesystems/resctrl.rst). `parent/intel_rdt.rs` moves it there.

use anyhow::{Result, bail};

use super::seen::Resctrl;
use crate::prelude::*;
use oci_spec::runtime::LinuxIntelRdt;

/// The resctrl group of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IntelRdtPlan {
    /// The mountpoint of resctrl.
    pub root: PathBuf,
    pub group: Group,
    /// The lines to write to the group's `schemata`. If empty, the file is not written.
    pub schemata: Vec<String>,
    /// The name of the monitoring group to make in the group.
    pub monitoring: Option<String>,
}

/// The control group (CLOS) of the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Group {
    /// The default group, in which every process starts.
    Default,
    /// A group for this container only, with its id as name. It is removed with the
    /// container.
    Own(String),
    /// A group that other containers may use, too. It is not removed with the container.
    Shared { name: String, must_exist: bool },
}

impl IntelRdtPlan {
    /// Decides about `linux.intelRdt` of the container `id`.
    ///
    /// # Errors
    /// Returns an error if the machine lacks the feature, or if a value is not valid.
    pub fn new(rdt: &LinuxIntelRdt, id: &str, resctrl: Option<&Resctrl>) -> Result<IntelRdtPlan> {
        let Some(resctrl) = resctrl else {
            bail!("intelRdt is specified in config, but Intel RDT is not enabled");
        };
        for (field, set) in [
            ("enableCMT", rdt.enable_cmt()),
            ("enableMBM", rdt.enable_mbm()),
        ] {
            if *set == Some(true) {
                bail!("linux.intelRdt.{field} gave way to enableMonitoring in runtime-spec 1.3");
            }
        }
        if is_set(rdt.l3_cache_schema()) && !resctrl.has_cache_allocation {
            bail!(
                "intelRdt.l3CacheSchema is specified in config, but Intel RDT/CAT is not enabled"
            );
        }
        if is_set(rdt.mem_bw_schema()) && !resctrl.has_bandwidth_allocation {
            bail!("intelRdt.memBwSchema is specified in config, but Intel RDT/MBA is not enabled");
        }
        let schemata = schemata(rdt)?;
        let group = match rdt.clos_id().as_deref().unwrap_or_default() {
            "" => Group::Own(id.to_owned()),
            "/" => Group::Default,
            name if matches!(name, "." | "..") || name.contains(['/', '\n', '\0']) => {
                bail!("invalid intelRdt.ClosID {name:?}")
            }
            name => Group::Shared {
                name: name.to_owned(),
                must_exist: schemata.is_empty(),
            },
        };
        let monitoring = (*rdt.enable_monitoring() == Some(true)).then(|| id.to_owned());
        Ok(IntelRdtPlan {
            root: resctrl.root.clone(),
            group,
            schemata,
            monitoring,
        })
    }

    /// Returns the directory of the group.
    pub fn directory(&self) -> PathBuf {
        match &self.group {
            Group::Default => self.root.clone(),
            Group::Own(name) | Group::Shared { name, .. } => self.root.join(name),
        }
    }
}

fn is_set(schema: &Option<String>) -> bool {
    schema.as_ref().is_some_and(|schema| !schema.is_empty())
}

/// Returns the lines in the order in which the specification wants them written.
fn schemata(rdt: &LinuxIntelRdt) -> Result<Vec<String>> {
    if let Some(schema) = rdt.mem_bw_schema()
        && !schema.is_empty()
        && !schema.starts_with("MB:")
    {
        bail!("linux.intelRdt.memBwSchema {schema:?} does not begin with \"MB:\"");
    }
    let lines = rdt.l3_cache_schema().iter().chain(rdt.mem_bw_schema());
    let lines = lines.chain(rdt.schemata().iter().flatten());
    let lines: Vec<String> = lines.filter(|line| !line.is_empty()).cloned().collect();
    match lines.iter().find(|line| line.contains('\n')) {
        Some(line) => bail!("linux.intelRdt: schema {line:?} has more than one line"),
        None => Ok(lines),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(json: &str) -> Result<IntelRdtPlan> {
        let resctrl = Resctrl {
            root: "/sys/fs/resctrl".into(),
            has_cache_allocation: true,
            has_bandwidth_allocation: false,
        };
        IntelRdtPlan::new(&crate::testing::read(json), "box", Some(&resctrl))
    }

    #[test]
    fn groups() {
        let shared = |must_exist| Group::Shared {
            name: "gold".into(),
            must_exist,
        };
        for (json, group, lines) in [
            ("{}", Group::Own("box".into()), 0),
            (r#"{"closID":"/","schemata":["L2:0=f"]}"#, Group::Default, 1),
            (r#"{"closID":"gold"}"#, shared(true), 0),
            (
                r#"{"closID":"gold","l3CacheSchema":"L3:0=f","schemata":["L3:0=1"]}"#,
                shared(false),
                2,
            ),
        ] {
            let plan = plan(json).expect(json);
            assert_eq!((plan.group, plan.schemata.len()), (group, lines), "{json}");
        }
        let plan = plan(r#"{"enableMonitoring":true}"#).expect("plan");
        assert_eq!(plan.monitoring.as_deref(), Some("box"));
    }

    #[test]
    fn what_cannot_be() {
        for (json, words) in [
            (r#"{"closID":".."}"#, r#"invalid intelRdt.ClosID "..""#),
            (r#"{"closID":"a/b"}"#, r#"invalid intelRdt.ClosID "a/b""#),
            (
                r#"{"memBwSchema":"MB:0=10"}"#,
                "intelRdt.memBwSchema is specified in config, but Intel RDT/MBA is not enabled",
            ),
            (
                r#"{"schemata":["L3:0=f\nL3:0=1"]}"#,
                r#"linux.intelRdt: schema "L3:0=f\nL3:0=1" has more than one line"#,
            ),
            (
                r#"{"enableCMT":true}"#,
                "linux.intelRdt.enableCMT gave way to enableMonitoring in runtime-spec 1.3",
            ),
        ] {
            assert_eq!(plan(json).expect_err(json).to_string(), words);
        }
    }

    #[test]
    fn a_machine_without_it() {
        let error = IntelRdtPlan::new(&LinuxIntelRdt::default(), "box", None).expect_err("none");
        assert_eq!(
            error.to_string(),
            "intelRdt is specified in config, but Intel RDT is not enabled"
        );
    }
}
