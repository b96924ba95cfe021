//! Starts, changes and stops the transient unit of a container over D-Bus
//! (org.freedesktop.systemd1(5)).
//!
//! `start_properties` and `limit_properties` decide the unit's properties, with the name and
//! slice of [`Unit`]. `connection` and `message` carry the calls. A call is repeated while
//! the manager is away, because it re-executes itself during upgrades.
//!
//! The files of the unit's cgroup are written by `Cgroup`.

mod connection;
mod limit_properties;
mod message;
mod problem;
mod start_properties;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use zbus::{DynamicType, Variant, as_variant};

use crate::devices::Rules;
use crate::directory::Ignored;
use crate::error::{Error, Result};
use connection::{Bus, MANAGER};
use message::Message;
use problem::{Address, PATIENCE, Problem};

pub(crate) use limit_properties::{check, rounded};
use start_properties::start_properties;
use teu_cgroups_types::{Limits, Manager, Property, Unit};

/// The pause between two attempts to reach a manager that went away.
const PAUSE: Duration = Duration::from_millis(50);

/// Returns how long to wait for a manager that went away. It goes away for a moment when
/// it re-executes itself (`systemctl daemon-reexec`, which upgrades do). The wait for a
/// user's manager is short, because a user may have a bus without a systemd.
fn absence(manager: Manager) -> Duration {
    match manager {
        Manager::System => PATIENCE,
        Manager::User => Duration::from_secs(5),
    }
}

/// Returns whether the machine was booted with systemd (sd_booted(3)).
pub(crate) fn is_running() -> bool {
    let found = std::fs::symlink_metadata("/run/systemd/system");
    found.is_ok_and(|found| found.is_dir())
}

/// Returns the owner of the user manager that this process's environment leads to, as a
/// user id of the host. User namespaces do not matter, because the id is taken from the
/// cgroup of the process that listens on the socket. Returns `None` if there is no manager,
/// or if its cgroup is not in a user's session.
pub fn owner_of_user_manager() -> Option<u32> {
    let addresses = connection::addresses(Manager::User, &|name| std::env::var_os(name));
    let pid = addresses
        .iter()
        .find_map(|address| connection::listener(address).ok())?;
    let cgroups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    owner_of_session(&cgroups)
}

/// Returns the user id in a path such as "/user.slice/user-1000.slice/user@1000.service/…".
fn owner_of_session(cgroups: &str) -> Option<u32> {
    let number = |name: &str| {
        name.strip_prefix("user-")?
            .strip_suffix(".slice")?
            .parse()
            .ok()
    };
    cgroups.split(['/', '\n']).find_map(number)
}

/// A unit in the form in which it is stored for later commands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SavedUnit {
    pub(crate) name: String,
    pub(crate) manager: Manager,
}

impl SavedUnit {
    pub(crate) fn of(unit: &Unit) -> SavedUnit {
        SavedUnit {
            name: unit.name().to_owned(),
            manager: unit.manager(),
        }
    }
}

/// The conversation with a manager. The first call connects.
#[derive(Debug)]
pub struct Systemd {
    manager: Manager,
    addresses: Vec<Address>,
    bus: Option<Bus>,
    /// Since when the manager has not answered.
    away_since: Option<Instant>,
    version: Option<u32>,
}

impl Systemd {
    pub(crate) fn manager(&self) -> Manager {
        self.manager
    }

    pub(crate) fn new(manager: Manager) -> Systemd {
        Systemd {
            manager,
            addresses: connection::addresses(manager, &|name| std::env::var_os(name)),
            bus: None,
            away_since: None,
            version: None,
        }
    }

    /// Returns the cgroup below which the manager makes its units.
    pub(crate) fn control_group(&mut self) -> Result<PathBuf> {
        let path = self
            .property("ControlGroup")
            .map_err(|problem| failed("ask systemd for its cgroup".into(), &problem))?;
        Ok(path.trim_start_matches('/').into())
    }

    /// Starts the unit and waits until it is started. A scope is started with the process.
    ///
    /// # Errors
    /// Returns an error if an annotation contradicts a limit, if the manager cannot be
    /// reached or refuses, or if the unit exists already. A unit that was started is then
    /// stopped.
    pub(crate) fn start(
        &mut self,
        unit: &Unit,
        pid: i32,
        limits: &Limits,
        is_v2: bool,
    ) -> Result<()> {
        let mut properties = start_properties(unit, pid, limits, is_v2, &mut || self.version());
        properties.extend(self.limit_properties(limits, is_v2));
        unit.refuse_overridden(&properties)?;
        let others: Vec<(&str, Vec<(&str, Variant)>)> = Vec::new();
        let arguments = (unit.name(), "replace", pairs(&properties), others);
        let mut result = self.start_job(unit, pid, &arguments);
        if is_there_already(&result) {
            // A failed unit keeps its name until it is reset.
            self.reset_failed(unit.name());
            result = self.start_job(unit, pid, &arguments);
        }
        let doing = || format!("start systemd unit {:?}", unit.name());
        let reason = match result {
            Ok(result) if result == "done" => return Ok(()),
            Ok(result) => format!("the job is {result:?}"),
            Err(_) if was_moved(pid, unit.name()) => return Ok(()),
            Err(problem) => {
                if !problem.is_refusal() {
                    self.give_up(unit);
                }
                problem.to_string()
            }
        };
        self.reset_failed(unit.name());
        Err(Error::Systemd {
            doing: doing(),
            reason,
        })
    }

    /// Asks for the start until there is an answer. The manager may have received a call
    /// whose answer was lost. If the repeated call finds that the unit exists, the lost call
    /// may have made it. That is so if the process is in the unit's cgroup. Repeats the call until
    /// the process is there, because the first start may be in progress, or may fail and free the
    /// unit's name.
    fn start_job<A: Serialize + DynamicType>(
        &mut self,
        unit: &Unit,
        pid: i32,
        arguments: &A,
    ) -> std::result::Result<String, Problem> {
        let deadline = Instant::now() + absence(self.manager);
        let mut was_lost = false;
        loop {
            let result = self.try_job("StartTransientUnit", arguments);
            let is_lost = result.as_ref().is_err_and(Problem::is_loss);
            was_lost |= is_lost;
            // Nothing tells who made a slice.
            let may_be_ours = was_lost && is_there_already(&result) && !unit.is_slice();
            if !(is_lost || may_be_ours) || was_moved(pid, unit.name()) || Instant::now() > deadline
            {
                return result;
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Stops a unit whose start got no answer, because the start may still be in progress.
    /// Errors are ignored. A slice is left, because other containers may use it.
    fn give_up(&mut self, unit: &Unit) {
        if unit.is_slice() {
            return;
        }
        match self.call(MANAGER, "StopUnit", &(unit.name(), "replace")) {
            Ok(_) | Err(_) => {}
        }
    }

    /// Changes limits for the lifetime of the unit.
    pub(crate) fn set_limits(&mut self, unit: &str, limits: &Limits, is_v2: bool) -> Result<()> {
        let properties = self.limit_properties(limits, is_v2);
        self.set(unit, &properties)
    }

    fn limit_properties(&mut self, limits: &Limits, is_v2: bool) -> Vec<Property> {
        let version = &mut || self.version();
        match is_v2 {
            true => limit_properties::on_v2(limits, version),
            false => limit_properties::on_v1(limits, version),
        }
    }

    /// Changes the device rules. Returns the rules that systemd cannot express: a reload of
    /// systemd would undo them.
    pub(crate) fn set_devices(
        &mut self,
        unit: &str,
        rules: &Rules,
        is_v2: bool,
    ) -> Result<Vec<Ignored>> {
        // Read lazily: only old versions need the file, and only for rules about all
        // devices of a driver.
        let proc_devices = || std::fs::read_to_string("/proc/devices").unwrap_or_default();
        let version = self.version();
        let (properties, ignored) = limit_properties::devices(rules, is_v2, version, &proc_devices);
        self.set(unit, &properties)?;
        Ok(ignored)
    }

    fn set(&mut self, unit: &str, properties: &[Property]) -> Result<()> {
        if properties.is_empty() {
            return Ok(());
        }
        // For the lifetime of the unit, instead of in a permanent file.
        let runtime = true;
        let arguments = (unit, runtime, pairs(properties));
        let set = self.call(MANAGER, "SetUnitProperties", &arguments);
        let doing = || format!("set properties of systemd unit {unit:?}");
        set.map(drop).map_err(|problem| failed(doing(), &problem))
    }

    /// Moves a process into the unit's cgroup or a cgroup below it.
    pub(crate) fn attach(&mut self, unit: &str, below: &Path, pid: i32) -> Result<()> {
        let below = format!("/{}", below.display());
        let arguments = (unit, below, vec![pid.unsigned_abs()]);
        let attached = self.call(MANAGER, "AttachProcessesToUnit", &arguments);
        let doing = || format!("move process {pid} into systemd unit {unit:?}");
        attached
            .map(drop)
            .map_err(|problem| failed(doing(), &problem))
    }

    /// Stops the unit, waits until it is stopped, and resets it if it failed. Succeeds if
    /// the unit does not exist.
    pub(crate) fn stop(&mut self, unit: &str) -> Result<()> {
        let arguments = (unit, "replace");
        let ended = self.until_heard(|systemd| systemd.try_job("StopUnit", &arguments));
        let stopped = match ended {
            // The result does not matter, because the caller checks the cgroup.
            Ok(_) => Ok(()),
            Err(problem) if problem.is("NoSuchUnit") => return Ok(()),
            Err(problem) => Err(failed(format!("stop systemd unit {unit:?}"), &problem)),
        };
        if stopped.is_ok() {
            self.reset_failed(unit);
        }
        stopped
    }

    /// Resets a failed unit. Ignores the error if the unit does not exist or did not fail.
    fn reset_failed(&mut self, unit: &str) {
        match self.call(MANAGER, "ResetFailedUnit", &unit) {
            Ok(_) | Err(_) => {}
        }
    }

    /// Returns systemd's version as a number: "252.39-1~deb12u1" is 252. Returns 0, which
    /// stands for the oldest version, if systemd does not tell.
    fn version(&mut self) -> u32 {
        if let Some(version) = self.version {
            return version;
        }
        let text = self.property("Version").unwrap_or_default();
        let version = version_number(&text).unwrap_or(0);
        self.version = Some(version);
        version
    }

    fn property(&mut self, name: &str) -> std::result::Result<String, Problem> {
        let answer = self.call("org.freedesktop.DBus.Properties", "Get", &(MANAGER, name))?;
        let value: as_variant::Deserialize<String> = answer.body()?;
        Ok(value.0)
    }

    /// Calls a method that has the same effect when it is called twice.
    fn call<A: Serialize + DynamicType>(
        &mut self,
        interface: &str,
        member: &str,
        arguments: &A,
    ) -> std::result::Result<Message, Problem> {
        self.until_heard(|systemd| systemd.ask(|bus| bus.call(interface, member, arguments)))
    }

    /// Repeats an attempt while the manager is away.
    fn until_heard<T>(
        &mut self,
        mut attempt: impl FnMut(&mut Systemd) -> std::result::Result<T, Problem>,
    ) -> std::result::Result<T, Problem> {
        loop {
            match attempt(self) {
                Err(problem) if problem.is_loss() && self.may_come_back() => {
                    std::thread::sleep(PAUSE);
                }
                result => return result,
            }
        }
    }

    /// Calls a method that starts a job, and waits for the job's result.
    fn try_job<A: Serialize + DynamicType>(
        &mut self,
        member: &str,
        arguments: &A,
    ) -> std::result::Result<String, Problem> {
        self.ask(|bus| {
            let answer = bus.call(MANAGER, member, arguments)?;
            bus.wait_for_job(&answer)
        })
    }

    /// Makes one attempt. After an error other than a refusal, the next attempt connects
    /// again.
    fn ask<T>(
        &mut self,
        question: impl FnOnce(&mut Bus) -> std::result::Result<T, Problem>,
    ) -> std::result::Result<T, Problem> {
        let result = self.connected().and_then(question);
        match &result {
            Err(problem) if !problem.is_refusal() => {
                self.bus = None;
                self.away_since.get_or_insert_with(Instant::now);
            }
            _ => self.away_since = None,
        }
        result
    }

    fn may_come_back(&self) -> bool {
        let patience = absence(self.manager);
        self.away_since
            .is_some_and(|since| since.elapsed() < patience)
    }

    fn connected(&mut self) -> std::result::Result<&mut Bus, Problem> {
        let bus = match self.bus.take() {
            Some(bus) => bus,
            None => Bus::connect(&self.addresses)?,
        };
        Ok(self.bus.insert(bus))
    }
}

fn failed(doing: String, problem: &Problem) -> Error {
    Error::Systemd {
        doing,
        reason: problem.to_string(),
    }
}

fn pairs(properties: &[Property]) -> Vec<(&str, &Variant<'static>)> {
    let names = properties.iter().map(|property| property.name.as_str());
    names
        .zip(properties.iter().map(|property| &property.value))
        .collect()
}

fn is_there_already(result: &std::result::Result<String, Problem>) -> bool {
    matches!(result, Err(problem) if problem.is("UnitExists"))
}

/// Returns whether the process was moved into the unit's cgroup. It was not if this process is
/// in a unit of that name itself, as in a container that has systemd's socket: then the other
/// process began in that cgroup.
fn was_moved(pid: i32, unit: &str) -> bool {
    is_in_unit("self", unit) == Some(false) && is_in_unit(&pid.to_string(), unit) == Some(true)
}

/// Returns whether a process is in a unit of this name, or `None` if there is no such
/// process.
fn is_in_unit(process: &str, unit: &str) -> Option<bool> {
    let cgroups = std::fs::read_to_string(format!("/proc/{process}/cgroup")).ok()?;
    let end = format!("/{unit}");
    Some(cgroups.lines().any(|line| line.ends_with(&end)))
}

fn version_number(text: &str) -> Option<u32> {
    let text = text.trim_start_matches(['"', 'v']);
    let end = text.find(|letter: char| !letter.is_ascii_digit());
    text[..end.unwrap_or(text.len())].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::connection::tests::{Answers, Fake, error, job, job_removed, refusal, reply};
    use super::*;
    use std::io::Write as _;
    use std::os::unix::net::UnixStream;
    use std::sync::{Arc, Mutex};

    /// Makes a client of `fake`.
    fn client(fake: &Fake) -> Systemd {
        Systemd {
            manager: Manager::System,
            addresses: vec![fake.address.clone()],
            bus: None,
            away_since: None,
            version: Some(252),
        }
    }

    fn with_job(serial: u32, result: &str, socket: &mut UnixStream) {
        socket.write_all(&reply(serial, &job("/job/1"))).unwrap();
        socket.write_all(&job_removed("/job/1", result)).unwrap();
    }

    fn unit() -> Unit {
        Unit::new("a.slice:p:n", "box", "c", Manager::System).unwrap()
    }

    #[test]
    fn the_owner_of_a_session_is_in_its_cgroup() {
        for (cgroups, owner) in [
            (
                "0::/user.slice/user-1000.slice/user@1000.service/init.scope\n",
                Some(1000),
            ),
            (
                "1:name=systemd:/user.slice/user-0.slice/session-1.scope\n0::/\n",
                Some(0),
            ),
            ("0::/system.slice/dbus.service\n", None),
            ("0::/user.slice\n", None),
        ] {
            assert_eq!(owner_of_session(cgroups), owner, "{cgroups}");
        }
    }

    #[test]
    fn versions() {
        for (text, number) in [
            ("252.39-1~deb12u1", Some(252)),
            ("v245.4-1.fc32", Some(245)),
            ("\"v258~rc2\"", Some(258)),
            ("", None),
            ("x", None),
        ] {
            assert_eq!(version_number(text), number, "{text}");
        }
    }

    #[test]
    fn a_failed_unit_in_the_way_is_reset() {
        let called = Arc::new(Mutex::new(Vec::new()));
        let calls = Arc::clone(&called);
        let script: Answers = Box::new(move |call, serial, socket| {
            let mut called = called.lock().unwrap();
            called.push(call.member.clone());
            match (call.member.as_str(), called.len()) {
                ("StartTransientUnit", 1) => {
                    type Pairs<'a> = Vec<(&'a str, Variant<'a>)>;
                    type Start<'a> = (&'a str, &'a str, Pairs<'a>, Vec<(&'a str, Pairs<'a>)>);
                    let (name, mode, ..): Start = call.body().unwrap();
                    assert_eq!((name, mode), ("p-n.scope", "replace"));
                    socket.write_all(&refusal(serial, "UnitExists")).unwrap();
                }
                ("StartTransientUnit", _) => with_job(serial, "done", socket),
                _ => socket.write_all(&reply(serial, &())).unwrap(),
            }
        });
        let fake = Fake::new("reset", vec![script]);
        let mut systemd = client(&fake);
        systemd.start(&unit(), 1, &Limits::default(), true).unwrap();
        drop(systemd);
        assert_eq!(
            *calls.lock().unwrap(),
            [
                "StartTransientUnit",
                "ResetFailedUnit",
                "StartTransientUnit"
            ]
        );
    }

    #[test]
    fn a_job_that_fails_is_an_error_with_its_result() {
        let script: Answers = Box::new(|call, serial, socket| match call.member.as_str() {
            "StartTransientUnit" => with_job(serial, "failed", socket),
            "SetUnitProperties" => socket
                .write_all(&refusal(serial, "BadUnitSetting"))
                .unwrap(),
            "StopUnit" => socket.write_all(&refusal(serial, "NoSuchUnit")).unwrap(),
            _ => socket.write_all(&reply(serial, &())).unwrap(),
        });
        let fake = Fake::new("failed", vec![script]);
        let mut systemd = client(&fake);
        let error = systemd
            .start(&unit(), 1, &Limits::default(), true)
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "start systemd unit \"p-n.scope\": the job is \"failed\""
        );
        let mut limits = Limits {
            pids: Some(1),
            ..Default::default()
        };
        let error = systemd.set_limits("p-n.scope", &limits, true).unwrap_err();
        assert_eq!(
            error.to_string(),
            "set properties of systemd unit \"p-n.scope\": \
             systemd said org.freedesktop.systemd1.BadUnitSetting: \"no\""
        );
        // Without limits, there is no call.
        limits.pids = None;
        systemd.set_limits("p-n.scope", &limits, true).unwrap();
        systemd.stop("p-n.scope").unwrap();
    }

    /// The answers of a manager that answers one call and then goes away.
    fn last_words(words: impl Fn(u32) -> Vec<u8> + Send + 'static) -> Answers {
        let mut is_gone = false;
        Box::new(move |_, serial, socket| {
            // Bytes sent before the manager went away are still read.
            if !std::mem::replace(&mut is_gone, true) {
                socket.write_all(&words(serial)).unwrap();
                socket.shutdown(std::net::Shutdown::Both).unwrap();
            }
        })
    }

    /// The answers of a bus on which the manager is missing.
    fn bus_says(name: &'static str) -> Answers {
        last_words(move |serial| error(serial, &format!("org.freedesktop.DBus.Error.{name}")))
    }

    #[test]
    fn a_manager_that_goes_away_is_asked_again() {
        let scripts = vec![
            last_words(|_| Vec::new()),
            // The manager goes away in the middle of a message, and during a job.
            last_words(|serial| reply(serial, &job("/job/1"))[..20].to_vec()),
            last_words(|serial| reply(serial, &job("/job/1"))),
            bus_says("NoReply"),
            bus_says("Disconnected"),
            bus_says("ServiceUnknown"),
            bus_says("NameHasNoOwner"),
            bus_says("Timeout"),
            bus_says("Spawn.ChildExited"),
            // The manager that came back has stopped the unit.
            last_words(|serial| refusal(serial, "NoSuchUnit")),
            bus_says("NoReply"),
            Box::new(|_, serial, socket| socket.write_all(&reply(serial, &())).unwrap()),
        ];
        let fake = Fake::new("again", scripts);
        let mut systemd = client(&fake);
        systemd.stop("p-n.scope").unwrap();
        let limits = Limits {
            pids: Some(1),
            ..Default::default()
        };
        systemd.set_limits("p-n.scope", &limits, true).unwrap();
    }

    #[test]
    fn a_no_of_the_bus_itself_is_final() {
        let fake = Fake::new("denied", vec![bus_says("AccessDenied")]);
        let error = client(&fake).stop("p-n.scope").unwrap_err();
        assert!(error.to_string().contains("Error.AccessDenied"), "{error}");
    }

    #[test]
    fn a_socket_without_a_listener_has_one_again_soon() {
        let path = Fake::path("away");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let listening = std::thread::spawn(|| {
            std::thread::sleep(Duration::from_millis(200));
            let gone = last_words(|serial| refusal(serial, "NoSuchUnit"));
            Fake::new("away", vec![gone])
        });
        let mut systemd = Systemd {
            addresses: vec![Address::Direct(path), Address::Bus("/nonexistent".into())],
            ..Systemd::new(Manager::System)
        };
        systemd.stop("p-n.scope").unwrap();
        drop(listening.join().unwrap());
    }

    /// A start that the manager received may fail later; then the name is free.
    #[test]
    fn a_start_that_was_lost_is_asked_for_until_it_is_decided() {
        let mut there = 3;
        let scripts: Vec<Answers> = vec![
            bus_says("NoReply"),
            Box::new(move |call, serial, socket| {
                assert_eq!(call.member, "StartTransientUnit");
                there -= 1;
                match there {
                    0 => with_job(serial, "done", socket),
                    _ => socket.write_all(&refusal(serial, "UnitExists")).unwrap(),
                }
            }),
        ];
        let fake = Fake::new("lost", scripts);
        let mut systemd = client(&fake);
        systemd.start(&unit(), 1, &Limits::default(), true).unwrap();
    }

    /// A process, and a cgroup with the name of a unit. Dropping them removes both.
    struct ProcessAndCgroup {
        directory: PathBuf,
        process: std::process::Child,
    }

    impl ProcessAndCgroup {
        fn new(name: &str) -> std::io::Result<ProcessAndCgroup> {
            let hierarchies = crate::hierarchy::of_this_process().unwrap();
            let has_pids = |one: &&crate::Hierarchy| one.controllers.contains(&"pids".into());
            let v1 = hierarchies.v1.iter().find(has_pids);
            let hierarchy = v1.or(hierarchies.v2.as_ref()).unwrap();
            let directory = hierarchy.mountpoint.join(name);
            std::fs::create_dir(&directory)?;
            let process = std::process::Command::new("sleep").arg("60").spawn()?;
            Ok(ProcessAndCgroup { directory, process })
        }
    }

    impl Drop for ProcessAndCgroup {
        fn drop(&mut self) {
            self.process.kill().unwrap();
            self.process.wait().unwrap();
            std::fs::remove_dir(&self.directory).unwrap();
        }
    }

    /// The unit is this container's if the process is in it, and foreign otherwise.
    #[test]
    fn a_unit_that_is_there_after_a_loss_may_be_ours() {
        let name = format!("ours{}", std::process::id());
        let Ok(here) = ProcessAndCgroup::new(&format!("p-{name}.scope")) else {
            eprintln!("[skipped] needs root");
            return;
        };
        let unit = Unit::new(&format!("a.slice:p:{name}"), "box", "c", Manager::System).unwrap();
        let pid = i32::try_from(here.process.id()).unwrap();
        let procs = here.directory.join("cgroup.procs");
        let exists = |is_ours: bool| -> Answers {
            let procs = procs.clone();
            Box::new(move |call, serial, socket| {
                let is_start = call.member == "StartTransientUnit";
                if is_start && is_ours {
                    std::fs::write(&procs, pid.to_string()).unwrap();
                }
                let answer = match is_start {
                    true => refusal(serial, "UnitExists"),
                    false => reply(serial, &()),
                };
                socket.write_all(&answer).unwrap();
            })
        };
        let fake = Fake::new("others", vec![bus_says("NoReply"), exists(false)]);
        // A user's manager is not waited for as long.
        let mut systemd = Systemd {
            manager: Manager::User,
            ..client(&fake)
        };
        let error = systemd.start(&unit, pid, &Limits::default(), true);
        let error = error.unwrap_err().to_string();
        assert!(error.contains("UnitExists"), "{error}");
        drop(systemd);

        let fake = Fake::new("ours", vec![bus_says("NoReply"), exists(true)]);
        let mut systemd = client(&fake);
        systemd.start(&unit, pid, &Limits::default(), true).unwrap();
    }

    #[test]
    fn the_kernel_tells_whether_a_process_is_in_a_unit() {
        let own = std::fs::read_to_string("/proc/self/cgroup").unwrap();
        let last = own.lines().find_map(|line| Some(line.rsplit_once('/')?.1));
        if let Some(name) = last.filter(|name| !name.is_empty()) {
            assert_eq!(is_in_unit("self", name), Some(true));
            // The process was started in the unit.
            let pid = i32::try_from(std::process::id()).unwrap();
            assert!(!was_moved(pid, name));
        }
        assert_eq!(is_in_unit("self", "no-such.scope"), Some(false));
        assert_eq!(is_in_unit("0", "no-such.scope"), None);
    }

    #[test]
    fn a_unit_is_saved_by_name_and_manager() {
        let saved = SavedUnit {
            name: "p-n.scope".into(),
            manager: Manager::User,
        };
        let text = serde_json::to_string(&saved).unwrap();
        assert_eq!(text, r#"{"name":"p-n.scope","manager":"user"}"#);
        assert_eq!(serde_json::from_str::<SavedUnit>(&text).unwrap(), saved);
    }
}
