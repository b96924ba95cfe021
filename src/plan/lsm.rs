//! Labels of the security modules: which ones the process gets.

use std::ffi::CString;

use anyhow::{Context, Result, bail};

use crate::host::Host;
use oci_spec::runtime::Process;

/// The labels of the process. At most one module is in use on a machine, but
/// the specification may name both.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LsmPlan {
    /// The AppArmor profile (`process.apparmorProfile`).
    pub(crate) apparmor_profile: Option<CString>,
    /// The profile is put on top of the runtime's own, and both bind: without
    /// new privileges the kernel lets no confined process leave its profile.
    pub(crate) stacks_apparmor_profile: bool,
    /// The SELinux label (`process.selinuxLabel`).
    pub(crate) selinux_label: Option<CString>,
}

impl LsmPlan {
    /// Decides about the labels.
    ///
    /// # Errors
    /// A SELinux label where SELinux is off. An AppArmor profile is tried in
    /// any case: the kernel's answer is the error engines know.
    pub(crate) fn new(process: &Process, host: &Host) -> Result<LsmPlan> {
        let selinux_label = process.selinux_label().as_deref().unwrap_or_default();
        let apparmor_profile = process.apparmor_profile().as_deref().unwrap_or_default();
        if !selinux_label.is_empty() && !host.has_selinux() {
            bail!("selinux label is specified in config, but selinux is disabled or not supported");
        }
        let must_stay = process.no_new_privileges() == Some(true) && !apparmor_profile.is_empty();
        Ok(LsmPlan {
            // Where nothing can be read AppArmor is off, which the write tells.
            stacks_apparmor_profile: must_stay && host.is_confined_by_apparmor().unwrap_or(true),
            apparmor_profile: label(apparmor_profile, "process.apparmorProfile")?,
            selinux_label: label(selinux_label, "process.selinuxLabel")?,
        })
    }
}

fn label(label: &str, field: &str) -> Result<Option<CString>> {
    if label.is_empty() {
        return Ok(None);
    }
    Ok(Some(
        CString::new(label).with_context(|| format!("{field} {label:?}"))?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn a_selinux_label_needs_selinux() {
        let nowhere = Host::below(Path::new("/nonexistent"));
        let process =
            crate::testing::read(r#"{"selinuxLabel":"system_u:system_r:container_t:s0"}"#);
        let error = LsmPlan::new(&process, &nowhere).expect_err("refused");
        assert!(
            error
                .to_string()
                .contains("selinux is disabled or not supported")
        );
    }

    #[test]
    fn an_apparmor_profile_is_taken_as_it_is() {
        let process = crate::testing::read(r#"{"apparmorProfile":"docker-default"}"#);
        let plan = LsmPlan::new(&process, &Host::new()).expect("plan");
        assert_eq!(plan.apparmor_profile.as_deref(), Some(c"docker-default"));
        assert_eq!(plan.selinux_label, None);
    }
}
