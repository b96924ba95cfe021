//! Decides the labels of the process: its AppArmor profile and its SELinux label.

use alloc::ffi::CString;

use anyhow::{Context, Result, bail};

use super::seen::Caller;
use crate::prelude::*;
use oci_spec::runtime::Process;

/// The labels of the process. The specification may set both, although a machine usually
/// has only one of the two modules.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LsmPlan {
    /// The AppArmor profile (`process.apparmorProfile`).
    pub apparmor_profile: Option<CString>,
    /// Whether the profile is stacked on teu's own profile, so that both apply. This is
    /// needed with no_new_privs, because the kernel then lets no confined process leave its
    /// profile.
    pub stacks_apparmor_profile: bool,
    /// The SELinux label (`process.selinuxLabel`).
    pub selinux_label: Option<CString>,
}

impl LsmPlan {
    /// Decides about the labels.
    ///
    /// # Errors
    /// Returns an error if a SELinux label is set and SELinux is off. An AppArmor profile
    /// is not checked here, because engines know the kernel's error for it.
    pub fn new(process: &Process, caller: &Caller) -> Result<LsmPlan> {
        let selinux_label = process.selinux_label().as_deref().unwrap_or_default();
        let apparmor_profile = process.apparmor_profile().as_deref().unwrap_or_default();
        if !selinux_label.is_empty() && !caller.has_selinux {
            bail!("selinux label is specified in config, but selinux is disabled or not supported");
        }
        Ok(LsmPlan {
            stacks_apparmor_profile: must_stay(process) && caller.is_confined_by_apparmor,
            apparmor_profile: label(apparmor_profile, "process.apparmorProfile")?,
            selinux_label: label(selinux_label, "process.selinuxLabel")?,
        })
    }
}

/// Returns whether teu, if an AppArmor profile confines it, has to stack the process's
/// profile on its own: with no_new_privs the kernel does not let the process leave teu's
/// profile.
pub fn must_stay(process: &Process) -> bool {
    let profile = process.apparmor_profile().as_deref().unwrap_or_default();
    process.no_new_privileges() == Some(true) && !profile.is_empty()
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

    #[test]
    fn a_selinux_label_needs_selinux() {
        let process =
            crate::testing::read(r#"{"selinuxLabel":"system_u:system_r:container_t:s0"}"#);
        let error = LsmPlan::new(&process, &Caller::root()).expect_err("refused");
        assert!(
            error
                .to_string()
                .contains("selinux is disabled or not supported")
        );
    }

    #[test]
    fn an_apparmor_profile_is_taken_as_it_is() {
        let process = crate::testing::read(r#"{"apparmorProfile":"docker-default"}"#);
        let plan = LsmPlan::new(&process, &Caller::root()).expect("plan");
        assert_eq!(plan.apparmor_profile.as_deref(), Some(c"docker-default"));
        assert_eq!(plan.selinux_label, None);
    }
}
