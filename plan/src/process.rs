//! Decides about the container's process: program, environment, user, limits and so on.
//! `init/process.rs` and `init/execute.rs` carry the decisions out. Not for namespaces,
//! mounts or cgroups: these have their own files.

use alloc::collections::BTreeSet;
use alloc::ffi::CString;

use anyhow::{Context, Result, anyhow, bail};
use oci_spec::runtime::{
    self as spec, LinuxCapabilities, LinuxPersonalityDomain, PosixRlimitType, Spec,
};
use serde::{Deserialize, Serialize};
use teu_namespaces_types::{Kind, NamespacePlan};

use super::capabilities::CapabilitiesPlan;
use super::memory_policy::MemoryPolicyPlan;
use super::process_labels::LsmPlan;
use super::scheduling::SchedulingPlan;
use super::seccomp::{SeccompFilter, SeccompPlan};
use super::seen::Caller;
use crate::capability_set::CapabilitySet;
use crate::document;
use crate::prelude::*;

/// The umask of a container if config.json does not set one, as in runc.
const DEFAULT_UMASK: u32 = 0o022;

/// `personality(2)`: the domain that shows a 32-bit machine in uname(2).
const PER_LINUX32: u32 = 0x0008;

/// The plan of a process.
#[derive(Debug, Clone, PartialEq)]
pub struct ProcessPlan {
    /// The program and its arguments; empty if config.json has no process.
    pub args: Vec<CString>,
    pub environment: Environment,
    /// Absolute path of the working directory, inside the container.
    pub cwd: CString,
    pub credentials: Credentials,
    /// `None` keeps the current umask.
    pub umask: Option<u32>,
    pub rlimits: Vec<ResourceLimit>,
    pub no_new_privileges: bool,
    pub oom_score_adj: Option<i32>,
    pub scheduling: SchedulingPlan,
    pub memory_policy: Option<MemoryPolicyPlan>,
    /// The persona for personality(2).
    pub personality: Option<u32>,
    pub seccomp: Option<SeccompPlan>,
    /// Whether init makes itself undumpable (prctl(2), `PR_SET_DUMPABLE`), so that until it
    /// executes the program only processes with CAP_SYS_PTRACE can access it. False if teu
    /// lacks CAP_SYS_PTRACE, because teu could then neither move the process to a cgroup
    /// nor join its namespaces.
    pub is_hidden: bool,
    /// The signals that the process ignores at first, by inheritance. They are reset to the
    /// default, because the program must not ignore them. The lowest bit is signal 1.
    pub ignored_signals: u64,
    pub capabilities: CapabilitiesPlan,
    pub lsm: LsmPlan,
    pub terminal: Option<Terminal>,
    /// Whether the standard streams are those of teu's caller, such as a user's terminal,
    /// and were not made for the container.
    pub has_callers_streams: bool,
}

/// The settings that all processes of a container share. state.json keeps them for `exec`,
/// because the bundle may be changed or removed.
///
/// serde reads a missing `Option` as `None`, unless the field has a deserializer of its
/// own. So each has one here: a missing field is an error.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ForEveryProcess {
    /// The umask of a process that does not set one; `None` keeps the current umask.
    #[serde(deserialize_with = "Option::deserialize")]
    pub umask: Option<u32>,
    #[serde(deserialize_with = "Option::deserialize")]
    pub oom_score_adj: Option<i32>,
    #[serde(deserialize_with = "Option::deserialize")]
    pub personality: Option<u32>,
    #[serde(deserialize_with = "Option::deserialize")]
    pub memory_policy: Option<MemoryPolicyPlan>,
    /// Whether the container has a cpuset of its own.
    pub has_cpuset: bool,
    /// Whether the container has a session keyring of its own, which has the container's
    /// name.
    pub new_keyring: bool,
    #[serde(deserialize_with = "Option::deserialize")]
    pub seccomp: Option<SeccompFilter>,
    pub defaults: Defaults,
}

/// The restrictions of the container's own process. They hold for every further process,
/// too, unless its description has other values.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Defaults {
    #[serde(deserialize_with = "Option::deserialize")]
    capabilities: Option<LinuxCapabilities>,
    no_new_privileges: bool,
    apparmor_profile: String,
    selinux_label: String,
    rlimits: Vec<spec::PosixRlimit>,
    #[serde(deserialize_with = "Option::deserialize")]
    scheduler: Option<spec::Scheduler>,
    #[serde(deserialize_with = "Option::deserialize")]
    io_priority: Option<spec::LinuxIOPriority>,
    #[serde(deserialize_with = "Option::deserialize")]
    exec_cpu_affinity: Option<spec::ExecCPUAffinity>,
}

/// The environment variables of the process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment {
    /// The variables as `NAME=value`, each name once. An empty HOME is left out: see
    /// `needs_home`.
    pub variables: Vec<CString>,
    /// Whether HOME is absent or empty, and has to be taken from the container's
    /// /etc/passwd.
    pub needs_home: bool,
    /// The value of PATH, in which the program is searched.
    pub search_path: Option<String>,
}

/// The user and groups of the process, as ids inside the container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    pub uid: u32,
    pub gid: u32,
    /// The supplementary groups; `None` keeps those of the caller, because setgroups(2) is
    /// denied (user_namespaces(7)).
    pub groups: Option<Vec<u32>>,
}

/// A limit for setrlimit(2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResourceLimit {
    pub name: &'static str,
    pub resource: Resource,
    /// `None` means no limit.
    pub soft: Option<u64>,
    /// `None` means no limit.
    pub hard: Option<u64>,
}

/// A resource that setrlimit(2) limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    As,
    Core,
    Cpu,
    Data,
    Fsize,
    Locks,
    Memlock,
    Msgqueue,
    Nice,
    Nofile,
    Nproc,
    Rss,
    Rtprio,
    Rttime,
    Sigpending,
    Stack,
}

/// The terminal of a process that gets one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Terminal {
    /// The rows and columns, if config.json sets them.
    pub size: Option<(u16, u16)>,
}

impl ProcessPlan {
    /// Decides about the container's first process. `foreground` says that teu stays with
    /// the process and that its streams are the user's. If config.json has no process, the
    /// plan is for a process that can only wait (config.md, "Process": required only when
    /// the container is started).
    ///
    /// # Errors
    /// Returns an error that names the field if one is missing, wrong or not possible on
    /// this host.
    pub fn new(
        spec: &Spec,
        shared: &ForEveryProcess,
        caller: &Caller,
        namespaces: &NamespacePlan,
        foreground: bool,
    ) -> Result<ProcessPlan> {
        let mut plan = match spec.process() {
            Some(process) => ProcessPlan::of(process, shared, caller, namespaces, foreground)?,
            None => {
                let mut process: spec::Process = document::nothing().map_err(anyhow::Error::msg)?;
                process.set_cwd("/".into());
                ProcessPlan::with_args(
                    Vec::new(),
                    &process,
                    shared,
                    caller,
                    namespaces,
                    foreground,
                )?
            }
        };
        if plan.umask.is_none() && namespaces.is_private(Kind::Mount) {
            plan.umask = Some(DEFAULT_UMASK);
        }
        Ok(plan)
    }

    /// Decides about a process of the container to which `shared` belongs: its first
    /// process, or a further one of `exec`. `namespaces` are the namespaces in which the
    /// process will be.
    ///
    /// # Errors
    /// Returns the errors of [`ProcessPlan::new`].
    pub fn of(
        process: &spec::Process,
        shared: &ForEveryProcess,
        caller: &Caller,
        namespaces: &NamespacePlan,
        foreground: bool,
    ) -> Result<ProcessPlan> {
        let args = args(process.args().as_deref().unwrap_or_default())?;
        ProcessPlan::with_args(args, process, shared, caller, namespaces, foreground)
    }

    fn with_args(
        args: Vec<CString>,
        process: &spec::Process,
        shared: &ForEveryProcess,
        caller: &Caller,
        namespaces: &NamespacePlan,
        foreground: bool,
    ) -> Result<ProcessPlan> {
        // The first process in a new user namespace has all capabilities there, whatever
        // teu's own bounding set is.
        let available = if namespaces.is_private(Kind::User) {
            let known = caller.known_capabilities;
            known.context("the capabilities that the kernel knows were not read")?
        } else {
            caller.bounding
        };
        let no_new_privileges = process.no_new_privileges().unwrap_or(false);
        let has_terminal = process.terminal().unwrap_or(false);
        Ok(ProcessPlan {
            cwd: cwd(process.cwd())?,
            args,
            environment: Environment::new(process.env().as_deref().unwrap_or_default())?,
            credentials: Credentials::new(process.user(), caller.is_unprivileged, namespaces)?,
            umask: umask(process.user())?.or(shared.umask),
            rlimits: rlimits(process.rlimits().as_deref().unwrap_or_default())?,
            no_new_privileges,
            oom_score_adj: oom_score_adj(process.oom_score_adj())?.or(shared.oom_score_adj),
            scheduling: SchedulingPlan::new(process, shared.has_cpuset)?,
            memory_policy: shared.memory_policy.clone(),
            personality: shared.personality,
            seccomp: shared
                .seccomp
                .clone()
                .map(|filter| SeccompPlan::new(filter, no_new_privileges)),
            is_hidden: caller.effective.contains(CapabilitySet::SYS_PTRACE),
            ignored_signals: caller.ignored_signals,
            capabilities: CapabilitiesPlan::new(process.capabilities().as_ref(), available)?,
            lsm: LsmPlan::new(process, caller)?,
            // A process with a terminal of its own has it as all three standard streams.
            has_callers_streams: foreground && !has_terminal,
            terminal: has_terminal
                .then(|| Terminal::new(process.console_size()))
                .transpose()?,
        })
    }
}

impl ForEveryProcess {
    /// Decides the settings that all processes share. `new_keyring` says that `create`
    /// makes a session keyring.
    ///
    /// # Errors
    /// Returns an error that names the field that is wrong.
    pub fn new(spec: &Spec, new_keyring: bool) -> Result<ForEveryProcess> {
        let process = spec.process().as_ref();
        let linux = spec.linux().as_ref();
        let cpu = linux.and_then(|linux| linux.resources().as_ref()?.cpu().as_ref());
        let cpus = cpu.and_then(|cpu| cpu.cpus().as_deref());
        let memory_policy = linux.and_then(|linux| linux.memory_policy().as_ref());
        Ok(ForEveryProcess {
            umask: process.map_or(Ok(None), |process| umask(process.user()))?,
            oom_score_adj: oom_score_adj(process.and_then(|process| process.oom_score_adj()))?,
            personality: linux
                .and_then(|linux| linux.personality().as_ref())
                .map(personality),
            memory_policy: memory_policy.map(MemoryPolicyPlan::new).transpose()?,
            has_cpuset: cpus.is_some_and(|cpus| !cpus.is_empty()),
            new_keyring,
            // The caller fills this in, because it depends on the kernel's features.
            seccomp: None,
            defaults: process.map(Defaults::of).unwrap_or_default(),
        })
    }
}

impl Defaults {
    fn of(process: &spec::Process) -> Defaults {
        Defaults {
            capabilities: process.capabilities().clone(),
            no_new_privileges: process.no_new_privileges().unwrap_or(false),
            apparmor_profile: process.apparmor_profile().clone().unwrap_or_default(),
            selinux_label: process.selinux_label().clone().unwrap_or_default(),
            rlimits: process.rlimits().clone().unwrap_or_default(),
            scheduler: process.scheduler().clone(),
            io_priority: *process.io_priority(),
            exec_cpu_affinity: process.exec_cpu_affinity().clone(),
        }
    }

    /// Returns the further process `process`, with the container's settings in place of
    /// missing ones.
    pub fn complete(&self, mut process: spec::Process) -> spec::Process {
        let or = |own: &Option<String>, default: &str| {
            let own = own.as_deref().filter(|own| !own.is_empty());
            Some(own.unwrap_or(default).to_owned())
        };
        let rlimits = process.rlimits().clone().filter(|own| !own.is_empty());
        let apparmor_profile = or(process.apparmor_profile(), &self.apparmor_profile);
        let selinux_label = or(process.selinux_label(), &self.selinux_label);
        let capabilities = process.capabilities().clone();
        let no_new_privileges = process.no_new_privileges();
        let scheduler = process.scheduler().clone();
        let io_priority = *process.io_priority();
        let exec_cpu_affinity = process.exec_cpu_affinity().clone();
        process
            .set_capabilities(capabilities.or_else(|| self.capabilities.clone()))
            .set_no_new_privileges(no_new_privileges.or(Some(self.no_new_privileges)))
            .set_apparmor_profile(apparmor_profile)
            .set_selinux_label(selinux_label)
            .set_rlimits(rlimits.or_else(|| Some(self.rlimits.clone())))
            .set_scheduler(scheduler.or_else(|| self.scheduler.clone()))
            .set_io_priority(io_priority.or(self.io_priority))
            .set_exec_cpu_affinity(exec_cpu_affinity.or_else(|| self.exec_cpu_affinity.clone()));
        process
    }
}

impl Environment {
    /// Reads the variables of `process.env`. If a name occurs several times, only the last
    /// value is kept, in its place.
    ///
    /// # Errors
    /// Returns an error if a variable has no name, no `=`, or has a NUL byte.
    pub fn new(env: &[String]) -> Result<Environment> {
        let mut environment = Environment {
            needs_home: true,
            ..Default::default()
        };
        // Go from last to first, so that the first value found for a name is the one that
        // counts.
        let mut seen = BTreeSet::new();
        for variable in env.iter().rev() {
            let (name, value) = variable
                .split_once('=')
                .context("invalid environment variable: missing '='")?;
            if name.is_empty() {
                bail!("invalid environment variable: name cannot be empty");
            }
            if !seen.insert(name) {
                continue;
            }
            match (name, value) {
                ("HOME", "") => continue,
                ("HOME", _) => environment.needs_home = false,
                ("PATH", _) => environment.search_path = Some(value.to_owned()),
                _ => {}
            }
            let variable = CString::new(variable.as_str()).map_err(|_| {
                anyhow!("invalid environment variable {name:?}: contains nul byte (\\x00)")
            })?;
            environment.variables.push(variable);
        }
        environment.variables.reverse();
        Ok(environment)
    }
}

impl Credentials {
    fn new(
        user: &spec::User,
        unprivileged: bool,
        namespaces: &NamespacePlan,
    ) -> Result<Credentials> {
        let groups = user.additional_gids().as_deref().unwrap_or_default();
        if unprivileged && !groups.is_empty() {
            bail!("cannot set any additional groups in a rootless container");
        }
        // Set an empty list, too, because this removes the caller's groups.
        let may_set = !unprivileged && !namespaces.id_maps.deny_setgroups;
        if !may_set && !groups.is_empty() {
            log::warn!("process.user.additionalGids is ignored: setgroups is denied");
        }
        Ok(Credentials {
            uid: user.uid(),
            gid: user.gid(),
            groups: may_set.then(|| groups.to_owned()),
        })
    }
}

impl Terminal {
    fn new(size: Option<spec::Box>) -> Result<Terminal> {
        let size = size.filter(|size| size.height() != 0 && size.width() != 0);
        let size = size
            .map(|size| -> Result<_> { Ok((size.height().try_into()?, size.width().try_into()?)) });
        let size = size.transpose().context("process.consoleSize")?;
        Ok(Terminal { size })
    }
}

fn cwd(cwd: &Path) -> Result<CString> {
    if cwd.as_os_str().is_empty() {
        bail!("Cwd property must not be empty");
    }
    if !cwd.is_absolute() {
        bail!("Cwd must be an absolute path");
    }
    CString::new(cwd.as_os_str().as_bytes()).with_context(|| format!("process.cwd {cwd:?}"))
}

fn args(args: &[String]) -> Result<Vec<CString>> {
    if args.is_empty() {
        bail!("args must not be empty");
    }
    let arg = |(index, arg): (usize, &String)| {
        CString::new(arg.as_str()).with_context(|| format!("process.args[{index}]"))
    };
    args.iter().enumerate().map(arg).collect()
}

fn umask(user: &spec::User) -> Result<Option<u32>> {
    match user.umask() {
        Some(mask) if mask > 0o777 => bail!("process.user.umask {mask:#o} is above 0777"),
        mask => Ok(mask),
    }
}

fn oom_score_adj(adjustment: Option<i32>) -> Result<Option<i32>> {
    match adjustment {
        Some(value) if !(-1000..=1000).contains(&value) => {
            bail!("process.oomScoreAdj {value} is not between -1000 and 1000")
        }
        adjustment => Ok(adjustment),
    }
}

fn personality(personality: &spec::LinuxPersonality) -> u32 {
    let flags = personality.flags().as_deref().unwrap_or_default();
    if !flags.is_empty() {
        // The specification defines no flag yet (config-linux.md, "Personality").
        log::warn!(
            "ignoring unsupported personality flags: [{}]",
            flags.join(" ")
        );
    }
    match personality.domain() {
        LinuxPersonalityDomain::PerLinux => 0,
        LinuxPersonalityDomain::PerLinux32 => PER_LINUX32,
    }
}

fn resource(kind: PosixRlimitType) -> (&'static str, Resource) {
    match kind {
        PosixRlimitType::RlimitAs => ("RLIMIT_AS", Resource::As),
        PosixRlimitType::RlimitCore => ("RLIMIT_CORE", Resource::Core),
        PosixRlimitType::RlimitCpu => ("RLIMIT_CPU", Resource::Cpu),
        PosixRlimitType::RlimitData => ("RLIMIT_DATA", Resource::Data),
        PosixRlimitType::RlimitFsize => ("RLIMIT_FSIZE", Resource::Fsize),
        PosixRlimitType::RlimitLocks => ("RLIMIT_LOCKS", Resource::Locks),
        PosixRlimitType::RlimitMemlock => ("RLIMIT_MEMLOCK", Resource::Memlock),
        PosixRlimitType::RlimitMsgqueue => ("RLIMIT_MSGQUEUE", Resource::Msgqueue),
        PosixRlimitType::RlimitNice => ("RLIMIT_NICE", Resource::Nice),
        PosixRlimitType::RlimitNofile => ("RLIMIT_NOFILE", Resource::Nofile),
        PosixRlimitType::RlimitNproc => ("RLIMIT_NPROC", Resource::Nproc),
        PosixRlimitType::RlimitRss => ("RLIMIT_RSS", Resource::Rss),
        PosixRlimitType::RlimitRtprio => ("RLIMIT_RTPRIO", Resource::Rtprio),
        PosixRlimitType::RlimitRttime => ("RLIMIT_RTTIME", Resource::Rttime),
        PosixRlimitType::RlimitSigpending => ("RLIMIT_SIGPENDING", Resource::Sigpending),
        PosixRlimitType::RlimitStack => ("RLIMIT_STACK", Resource::Stack),
    }
}

/// Reads the limits. A resource that is listed twice is an error (config.md, "POSIX
/// process").
fn rlimits(rlimits: &[spec::PosixRlimit]) -> Result<Vec<ResourceLimit>> {
    let mut limits: Vec<ResourceLimit> = Vec::with_capacity(rlimits.len());
    for rlimit in rlimits {
        let (name, resource) = resource(rlimit.typ());
        if limits.iter().any(|limit| limit.name == name) {
            bail!("process.rlimits: {name} is set twice");
        }
        if rlimit.soft() > rlimit.hard() {
            bail!(
                "process.rlimits: {name}: soft limit {} is above the hard limit {}",
                rlimit.soft(),
                rlimit.hard()
            );
        }
        limits.push(ResourceLimit {
            name,
            resource,
            soft: finite(rlimit.soft()),
            hard: finite(rlimit.hard()),
        });
    }
    Ok(limits)
}

/// Returns `None` for the largest number, which means "no limit" (getrlimit(2),
/// `RLIM_INFINITY`).
fn finite(limit: u64) -> Option<u64> {
    (limit != u64::MAX).then_some(limit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use teu_namespaces_types::Namespace;

    fn strings(env: &[&str]) -> Vec<String> {
        env.iter().map(|text| (*text).to_owned()).collect()
    }

    fn environment(env: &[&str]) -> Result<Environment> {
        Environment::new(&strings(env))
    }

    fn variables(environment: &Environment) -> Vec<&str> {
        environment
            .variables
            .iter()
            .map(|text| text.to_str().expect("utf-8"))
            .collect()
    }

    fn plan(json: &str) -> Result<ProcessPlan> {
        let spec: Spec = crate::testing::read(json);
        let mut namespaces = NamespacePlan::default();
        namespaces.set(Kind::Mount, Namespace::New);
        ProcessPlan::new(
            &spec,
            &ForEveryProcess::new(&spec, false)?,
            &Caller::root(),
            &namespaces,
            false,
        )
    }

    #[test]
    fn a_whole_process() {
        let plan = plan(
            r#"{"process":{"args":["sh","-c","x"],"cwd":"/tmp","env":["PATH=/bin"],"terminal":true,
                "consoleSize":{"height":25,"width":80},"noNewPrivileges":true,"oomScoreAdj":-5,
                "user":{"uid":1,"gid":2},"rlimits":[{"type":"RLIMIT_CORE","soft":1,"hard":18446744073709551615}]},
                "linux":{"personality":{"domain":"LINUX32"}}}"#,
        )
        .expect("plan");
        assert_eq!(plan.args.len(), 3);
        assert_eq!(plan.cwd.as_c_str(), c"/tmp");
        assert_eq!(plan.environment.search_path.as_deref(), Some("/bin"));
        assert_eq!(plan.umask, Some(0o022));
        assert_eq!(plan.oom_score_adj, Some(-5));
        assert!(plan.no_new_privileges);
        assert_eq!(plan.personality, Some(8));
        assert_eq!(
            plan.terminal,
            Some(Terminal {
                size: Some((25, 80))
            })
        );
        assert_eq!((plan.credentials.uid, plan.credentials.gid), (1, 2));
        let limit = &plan.rlimits[0];
        assert_eq!((limit.soft, limit.hard), (Some(1), None));
        // The process asks for no capability, so the whole bounding set has to be dropped.
        let none = CapabilitiesPlan {
            dropped: CapabilitySet::all(),
            ..CapabilitiesPlan::default()
        };
        assert_eq!(plan.capabilities, none);
    }

    #[test]
    fn what_is_refused_and_in_which_words() {
        let process =
            |fields: &str| format!(r#"{{"process":{{"args":["a"],"cwd":"/",{fields}}}}}"#);
        for (json, words) in [
            (
                r#"{"process":{"args":["a"]}}"#.to_owned(),
                "Cwd property must not be empty",
            ),
            (
                r#"{"process":{"args":["a"],"cwd":"x"}}"#.to_owned(),
                "Cwd must be an absolute path",
            ),
            (
                r#"{"process":{"cwd":"/"}}"#.to_owned(),
                "args must not be empty",
            ),
            (
                process(r#""rlimits":[{"type":"RLIMIT_CPU"},{"type":"RLIMIT_CPU"}]"#),
                "process.rlimits: RLIMIT_CPU is set twice",
            ),
            (
                process(r#""rlimits":[{"type":"RLIMIT_CPU","soft":2,"hard":1}]"#),
                "process.rlimits: RLIMIT_CPU: soft limit 2 is above the hard limit 1",
            ),
            (
                process(r#""oomScoreAdj":1001"#),
                "process.oomScoreAdj 1001 is not between -1000 and 1000",
            ),
            (
                process(r#""user":{"umask":512}"#),
                "process.user.umask 0o1000 is above 0777",
            ),
            (
                process(r#""env":["A"]"#),
                "invalid environment variable: missing '='",
            ),
        ] {
            let error = plan(&json).expect_err(&json);
            assert_eq!(error.to_string(), words);
        }
    }

    #[test]
    fn the_last_variable_of_a_name_counts() {
        let environment =
            environment(&["A=1", "B=2", "A=3", "C=x=y", "PATH=/a", "PATH="]).expect("env");
        assert_eq!(variables(&environment), ["B=2", "A=3", "C=x=y", "PATH="]);
        assert_eq!(environment.search_path.as_deref(), Some(""));
        assert!(environment.needs_home);
    }

    #[test]
    fn an_empty_home_is_no_home() {
        for (env, needs_home, kept) in [
            (&["HOME=/root"][..], false, 1),
            (&["HOME="], true, 0),
            (&["HOME=/root", "HOME="], true, 0),
            (&["HOME=", "HOME=/root"], false, 1),
        ] {
            let environment = environment(env).expect("env");
            assert_eq!(
                (environment.needs_home, environment.variables.len()),
                (needs_home, kept)
            );
        }
    }

    #[test]
    fn what_is_no_variable() {
        for (env, words) in [
            ("A", "invalid environment variable: missing '='"),
            ("=A", "invalid environment variable: name cannot be empty"),
            (
                "A=\0",
                r#"invalid environment variable "A": contains nul byte (\x00)"#,
            ),
        ] {
            assert_eq!(environment(&[env]).expect_err(env).to_string(), words);
        }
    }

    #[test]
    fn who_may_set_groups() {
        let none = spec::User::default();
        let some = crate::testing::read(r#"{"additionalGids":[5]}"#);
        let plain = NamespacePlan::default();
        let mut denied = NamespacePlan::default();
        denied.id_maps.deny_setgroups = true;
        for (user, unprivileged, namespaces, groups) in [
            (&none, false, &plain, Some(vec![])),
            (&some, false, &plain, Some(vec![5])),
            (&some, false, &denied, None),
            (&none, true, &plain, None),
        ] {
            let credentials = Credentials::new(user, unprivileged, namespaces).expect("plan");
            assert_eq!(credentials.groups, groups);
        }
        let error = Credentials::new(&some, true, &plain).expect_err("refused");
        assert_eq!(
            error.to_string(),
            "cannot set any additional groups in a rootless container"
        );
    }

    #[test]
    fn the_default_mask_needs_a_mount_namespace() {
        let plain = NamespacePlan::default();
        let mut mount = NamespacePlan::default();
        mount.set(Kind::Mount, Namespace::New);
        for (user, namespaces, mask) in [
            (r#"{"umask":63}"#, &plain, Some(0o77)),
            (r#"{"umask":63}"#, &mount, Some(0o77)),
            ("{}", &mount, Some(0o022)),
            ("{}", &plain, None),
        ] {
            let json = format!(r#"{{"process":{{"args":["a"],"cwd":"/","user":{user}}}}}"#);
            let spec: Spec = crate::testing::read(&json);
            let shared = ForEveryProcess::new(&spec, false).expect("shared");
            let plan =
                ProcessPlan::new(&spec, &shared, &Caller::root(), namespaces, false).expect("plan");
            assert_eq!(plan.umask, mask, "{user}");
        }
    }

    #[test]
    fn a_further_process_takes_over_what_it_does_not_say() {
        let spec: Spec = crate::testing::read(
            r#"{"process":{"user":{"umask":23},"oomScoreAdj":7},
                "linux":{"personality":{"domain":"LINUX32"},"resources":{"cpu":{"cpus":"0"}}}}"#,
        );
        let shared = ForEveryProcess::new(&spec, true).expect("shared");
        let text = serde_json::to_string(&shared).expect("json");
        assert_eq!(
            serde_json::from_str::<ForEveryProcess>(&text).expect("json"),
            shared
        );
        let plan = |json: &str| {
            let process = crate::testing::read(json);
            ProcessPlan::of(
                &process,
                &shared,
                &Caller::root(),
                &NamespacePlan::default(),
                false,
            )
            .expect("plan")
        };
        let silent = plan(r#"{"args":["a"],"cwd":"/"}"#);
        assert_eq!((silent.umask, silent.oom_score_adj), (Some(0o27), Some(7)));
        assert_eq!(silent.personality, Some(PER_LINUX32));
        assert!(silent.scheduling.has_cpuset);
        let other = plan(r#"{"args":["a"],"cwd":"/","user":{"umask":0},"oomScoreAdj":9}"#);
        assert_eq!((other.umask, other.oom_score_adj), (Some(0), Some(9)));
    }
}
