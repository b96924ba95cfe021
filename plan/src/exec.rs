//! Decides about a further process of a running container. Its description comes from a
//! file, or is that of the container's own process with the replacements of the command
//! line.

use alloc::ffi::CString;

use anyhow::{Context, Result, bail};
use oci_spec::runtime::{Capabilities, LinuxCapabilities, Process, User};
use teu_namespaces_types::{Kind, NamespacePlan};

use super::process::{ForEveryProcess, ProcessPlan};
use super::scheduling::Affinity;
use super::seccomp::Timing;
use super::seen::Caller;
use crate::capability_set::CapabilitySet;
use crate::document;
use crate::prelude::*;

/// The values of the command line that replace those of the container's own process.
#[derive(Debug, Clone, Default)]
pub struct Replacements {
    /// The program and its arguments.
    pub args: Vec<OsString>,
    pub cwd: Option<String>,
    /// Variables to add.
    pub env: Vec<String>,
    /// Whether the process gets a terminal. The container's own process does not matter
    /// here.
    pub terminal: bool,
    /// The user as numbers: `UID[:GID]`.
    pub user: Option<String>,
    /// Groups to add.
    pub additional_gids: Vec<u32>,
    pub selinux_label: Option<String>,
    pub apparmor_profile: Option<String>,
    pub no_new_privileges: Option<bool>,
    /// Capabilities to add.
    pub capabilities: Vec<String>,
}

/// The plan of a further process.
#[derive(Debug)]
pub struct ExecPlan {
    /// The name of the container.
    pub id: String,
    pub process: ProcessPlan,
    /// Whether the process joins the container's session keyring.
    pub keyring: bool,
    /// The number of descriptors from 3 on that the program inherits.
    pub preserved_fds: u32,
    /// See `Plan::parent_sets_limits`.
    pub parent_sets_limits: bool,
}

impl ExecPlan {
    /// Decides about `process` in the container `id`. `foreground` says that this command
    /// stays with the process and that its streams are the user's.
    ///
    /// # Errors
    /// Returns an error that names the field if one is missing, wrong or not possible on
    /// this host.
    pub fn new(
        id: &str,
        process: &Process,
        shared: &ForEveryProcess,
        caller: &Caller,
        namespaces: &NamespacePlan,
        foreground: bool,
    ) -> Result<ExecPlan> {
        let mut process = ProcessPlan::of(process, shared, caller, namespaces, foreground)?;
        process.capabilities.kept = kept_capabilities(&process);
        Ok(ExecPlan {
            id: id.to_owned(),
            keyring: shared.new_keyring,
            preserved_fds: 0,
            parent_sets_limits: namespaces.is_private(Kind::User),
            process,
        })
    }

    /// Returns the CPUs for the process, or `None` if it has no CPU affinity of its own.
    pub fn affinity(&self) -> Option<&Affinity> {
        self.process.scheduling.affinity.as_ref()
    }

    /// Sets the program's arguments as bytes, because arguments of the command line may not
    /// be UTF-8.
    ///
    /// # Errors
    /// Returns an error if an argument has a NUL byte.
    pub fn set_args(&mut self, args: Vec<OsString>) -> Result<()> {
        let args = args.into_iter().map(|arg| CString::new(arg.into_vec()));
        self.process.args = args.collect::<Result<_, _>>().context("process.args")?;
        Ok(())
    }
}

/// Returns the capabilities that the process needs, beyond its own, for its last steps in
/// the container's pid namespace. They are as few as possible, because processes of the
/// container may be able to take the process over.
fn kept_capabilities(process: &ProcessPlan) -> CapabilitySet {
    let timing = process.seccomp.as_ref().map(|seccomp| seccomp.timing);
    let mut kept = CapabilitySet::empty();
    if timing == Some(Timing::BeforeDroppingCapabilities) {
        kept |= CapabilitySet::SYS_ADMIN;
    }
    // The process has to set its scheduler itself, because not every scheduler is inherited
    // (sched(7)).
    if process.scheduling.scheduler.is_some() {
        kept |= CapabilitySet::SYS_NICE;
    }
    kept
}

impl Replacements {
    /// Returns the container's own `process` with these replacements.
    ///
    /// # Errors
    /// Returns an error, in runc's words, if there is no program or if the user is not a
    /// number.
    pub fn apply(&self, mut process: Process) -> Result<Process> {
        if self.args.is_empty() {
            bail!("exec args cannot be empty");
        }
        let args = self.args.iter();
        let args = args.map(|arg| arg.to_string_lossy().into_owned()).collect();
        process
            .set_args(Some(args))
            .set_terminal(Some(self.terminal));
        if let Some(cwd) = &self.cwd {
            process.set_cwd(cwd.into());
        }
        if self.selinux_label.is_some() {
            process.set_selinux_label(self.selinux_label.clone());
        }
        if self.apparmor_profile.is_some() {
            process.set_apparmor_profile(self.apparmor_profile.clone());
        }
        if self.no_new_privileges.is_some() {
            process.set_no_new_privileges(self.no_new_privileges);
        }
        let env = process.env_mut().get_or_insert_default();
        env.extend_from_slice(&self.env);
        let user = process.user_mut();
        if let Some(text) = &self.user {
            set_user(user, text)?;
        }
        let groups = user.additional_gids_mut().get_or_insert_default();
        groups.extend_from_slice(&self.additional_gids);
        if let Some(mut sets) = process.capabilities().clone()
            && !self.capabilities.is_empty()
        {
            add_capabilities(&mut sets, &self.capabilities);
            process.set_capabilities(Some(sets));
        }
        Ok(process)
    }
}

fn set_user(user: &mut User, text: &str) -> Result<()> {
    let (uid, gid) = match text.split_once(':') {
        Some((uid, gid)) => (uid, Some(gid)),
        None => (text, None),
    };
    if let Some(gid) = gid {
        user.set_gid(gid.parse().with_context(|| format!("bad gid: {gid:?}"))?);
    }
    user.set_uid(uid.parse().with_context(|| format!("bad uid: {uid:?}"))?);
    Ok(())
}

/// Adds capabilities to all sets except for the inheritable one, because programs with file
/// capabilities would get them (CVE-2022-29162). The ambient set is extended only if the
/// inheritable set is not empty, because an ambient capability must be inheritable.
fn add_capabilities(sets: &mut LinuxCapabilities, names: &[String]) {
    let mut added = Vec::with_capacity(names.len());
    for name in names {
        match document::capability(name) {
            Some(capability) => added.push(capability),
            None => log::warn!("ignoring unknown or unavailable capabilities: [{name}]"),
        }
    }
    let with_added = |set: &Option<Capabilities>| {
        let all = set.iter().flatten().chain(&added);
        Some(all.copied().collect())
    };
    let inheritable = sets.inheritable().as_ref();
    let has_inheritable = inheritable.is_some_and(|set| !set.is_empty());
    let (bounding, effective) = (with_added(sets.bounding()), with_added(sets.effective()));
    let (permitted, ambient) = (with_added(sets.permitted()), with_added(sets.ambient()));
    sets.set_bounding(bounding)
        .set_effective(effective)
        .set_permitted(permitted);
    if has_inheritable {
        sets.set_ambient(ambient);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base() -> Process {
        crate::testing::read(
            r#"{"terminal":true,"user":{"uid":1,"gid":2,"additionalGids":[3]},"args":["sh"],
                "env":["A=1"],"cwd":"/a","capabilities":{"bounding":["CAP_KILL"]}}"#,
        )
    }

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn nothing_but_the_program_and_the_terminal_is_replaced_unasked() {
        let replacements = Replacements {
            args: vec!["true".into()],
            ..Default::default()
        };
        let process = replacements.apply(base()).expect("process");
        let mut expected = base();
        expected
            .set_terminal(Some(false))
            .set_args(Some(words("true")));
        assert_eq!(process, expected);
    }

    #[test]
    fn everything_can_be_replaced() {
        let replacements = Replacements {
            args: vec!["a".into(), "b".into()],
            cwd: Some("/b".into()),
            env: words("A=2 B=3"),
            terminal: true,
            user: Some("5:6".into()),
            additional_gids: vec![7],
            selinux_label: Some("label".into()),
            apparmor_profile: Some("profile".into()),
            no_new_privileges: Some(true),
            capabilities: words("CAP_CHOWN"),
        };
        let process = replacements.apply(base()).expect("process");
        let asked = crate::testing::read(
            r#"{"terminal":true,"user":{"uid":5,"gid":6,"additionalGids":[3,7]},"args":["a","b"],
                "env":["A=1","A=2","B=3"],"cwd":"/b","selinuxLabel":"label",
                "apparmorProfile":"profile","noNewPrivileges":true,"capabilities":{
                "bounding":["CAP_KILL","CAP_CHOWN"],"effective":["CAP_CHOWN"],
                "permitted":["CAP_CHOWN"]}}"#,
        );
        assert_eq!(process, asked);
    }

    #[test]
    fn added_capabilities_are_ambient_only_beside_inheritable_ones() {
        let mut sets = crate::testing::read(r#"{"inheritable":["CAP_KILL"]}"#);
        add_capabilities(&mut sets, &words("CAP_CHOWN CAP_WINK MKNOD cap_mknod"));
        let asked: LinuxCapabilities = crate::testing::read(
            r#"{"bounding":["CAP_CHOWN"],"effective":["CAP_CHOWN"],"permitted":["CAP_CHOWN"],
                "inheritable":["CAP_KILL"],"ambient":["CAP_CHOWN"]}"#,
        );
        assert_eq!(sets, asked);
    }

    #[test]
    fn users_are_numbers() {
        for (text, expected) in [("5", Some((5, 2))), ("5:0", Some((5, 0))), ("root", None)] {
            let mut user = base().user().clone();
            let set = set_user(&mut user, text).is_ok();
            assert_eq!(set.then_some((user.uid(), user.gid())), expected, "{text}");
        }
        let words = |text| {
            set_user(base().user_mut(), text)
                .expect_err(text)
                .to_string()
        };
        assert_eq!(words("a:1"), r#"bad uid: "a""#);
        assert_eq!(words("1:"), r#"bad gid: """#);
    }

    #[test]
    fn there_must_be_a_program() {
        let error = Replacements::default().apply(base()).expect_err("none");
        assert_eq!(error.to_string(), "exec args cannot be empty");
    }
}
