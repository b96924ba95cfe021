//! systemd as the maker of a container's cgroup: a transient unit, started,
//! changed and stopped over D-Bus (org.freedesktop.systemd1(5)).
//!
//! Not for files of the cgroup, which come after; see `Cgroup`. The client is
//! our own: a few calls with a handful of types, synchronous, without threads.

mod bus;
mod properties;
mod scope;
mod text;
mod wire;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::devices::Rules;
use crate::error::{Error, Result};
use crate::file::Ignored;
use crate::limits::Limits;
use bus::{Bus, MANAGER, Problem};
use properties::Property;
use wire::{Message, Value};

pub(crate) use properties::{check, rounded};
pub use scope::Unit;

/// How often a connection that was lost is made anew for one call: systemd
/// drops all of them when it executes itself again.
const RECONNECTIONS: u32 = 3;

/// Which systemd.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Manager {
    /// The machine's, which only root may command.
    System,
    /// The one that every user with a login has.
    User,
}

/// Whether this machine was booted with systemd (sd_booted(3)).
pub(crate) fn is_running() -> bool {
    let found = std::fs::symlink_metadata("/run/systemd/system");
    found.is_ok_and(|found| found.is_dir())
}

/// Whose systemd the environment of this process leads to, by the machine's
/// user ids: user namespaces do not matter, since the cgroup of who listens
/// tells. `None` if there is none, or it is of nobody's session.
pub fn owner_of_user_manager() -> Option<u32> {
    let addresses = bus::addresses(Manager::User, &|name| std::env::var_os(name));
    let pid = addresses
        .iter()
        .find_map(|address| bus::listener(address).ok())?;
    let cgroups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    owner_of_session(&cgroups)
}

/// From "/user.slice/user-1000.slice/user@1000.service/...".
fn owner_of_session(cgroups: &str) -> Option<u32> {
    let number = |name: &str| {
        name.strip_prefix("user-")?
            .strip_suffix(".slice")?
            .parse()
            .ok()
    };
    cgroups.split(['/', '\n']).find_map(number)
}

/// A unit, as later commands need to know it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SavedUnit {
    pub(crate) name: String,
    pub(crate) manager: Manager,
}

/// The conversation with a manager; begun when the first call is made.
#[derive(Debug)]
pub(crate) struct Systemd {
    manager: Manager,
    bus: Option<Bus>,
    version: Option<u32>,
}

impl Systemd {
    pub(crate) fn new(manager: Manager) -> Systemd {
        Systemd {
            manager,
            bus: None,
            version: None,
        }
    }

    /// The cgroup of the manager itself, below which its units are.
    pub(crate) fn control_group(&mut self) -> Result<PathBuf> {
        let path = self
            .property("ControlGroup")
            .map_err(|problem| failed("ask systemd for its cgroup".into(), &problem))?;
        Ok(path.trim_start_matches('/').into())
    }

    /// Starts the unit with the process in it, if it takes one, and waits until
    /// that is done.
    ///
    /// Errors: the manager cannot be reached or refuses, or there is such a
    /// unit already. What was started is stopped again.
    pub(crate) fn start(
        &mut self,
        unit: &Unit,
        pid: i32,
        limits: &Limits,
        is_v2: bool,
    ) -> Result<()> {
        let mut properties = unit.start_properties(pid, limits, is_v2, &mut || self.version());
        properties.extend(self.limit_properties(limits, is_v2));
        let arguments = [
            Value::String(unit.name().to_owned()),
            Value::String("replace".into()),
            pairs(&properties),
            Value::Array("(sa(sv))".into(), Vec::new()),
        ];
        let mut result = self.job("StartTransientUnit", &arguments);
        if result
            .as_ref()
            .is_err_and(|problem| problem.is("UnitExists"))
        {
            // One that failed stays until it is asked to go.
            self.reset_failed(unit.name());
            result = self.job("StartTransientUnit", &arguments);
        }
        let doing = || format!("start systemd unit {:?}", unit.name());
        let reason = match result {
            Ok(result) if result == "done" => return Ok(()),
            Ok(result) => format!("the job is {result:?}"),
            // The answer was lost, but maybe not the question.
            Err(_) if is_in_unit(pid, unit.name()) => return Ok(()),
            Err(problem @ Problem::Refused { .. }) => problem.to_string(),
            Err(problem) => {
                self.give_up(unit);
                problem.to_string()
            }
        };
        self.reset_failed(unit.name());
        Err(Error::Systemd {
            doing: doing(),
            reason,
        })
    }

    /// Best effort: a start that was not heard of again may still be under way.
    /// A slice could be others' as well.
    fn give_up(&mut self, unit: &Unit) {
        if unit.is_slice() {
            return;
        }
        match self.call(MANAGER, "StopUnit", &stop_arguments(unit.name())) {
            Ok(_) | Err(_) => {}
        }
    }

    /// Changes limits, until the unit ends.
    pub(crate) fn set_limits(&mut self, unit: &str, limits: &Limits, is_v2: bool) -> Result<()> {
        let properties = self.limit_properties(limits, is_v2);
        self.set(unit, &properties)
    }

    fn limit_properties(&mut self, limits: &Limits, is_v2: bool) -> Vec<Property> {
        let version = &mut || self.version();
        match is_v2 {
            true => properties::on_v2(limits, version),
            false => properties::on_v1(limits, version),
        }
    }

    /// Changes what devices may be used. Returns the rules that systemd cannot
    /// be told and that a reload of systemd would undo.
    pub(crate) fn set_devices(
        &mut self,
        unit: &str,
        rules: &Rules,
        is_v2: bool,
    ) -> Result<Vec<Ignored>> {
        // Only old versions need it, and only for a driver's devices.
        let proc_devices = || std::fs::read_to_string("/proc/devices").unwrap_or_default();
        let version = self.version();
        let (properties, ignored) = properties::devices(rules, is_v2, version, &proc_devices);
        self.set(unit, &properties)?;
        Ok(ignored)
    }

    fn set(&mut self, unit: &str, properties: &[Property]) -> Result<()> {
        if properties.is_empty() {
            return Ok(());
        }
        let arguments = [
            Value::String(unit.to_owned()),
            // Until the unit ends, not in a file for ever.
            Value::Bool(true),
            pairs(properties),
        ];
        let set = self.call(MANAGER, "SetUnitProperties", &arguments);
        let doing = || format!("set properties of systemd unit {unit:?}");
        set.map(drop).map_err(|problem| failed(doing(), &problem))
    }

    /// Moves a process into the unit's cgroup, or one below it.
    pub(crate) fn attach(&mut self, unit: &str, below: &Path, pid: i32) -> Result<()> {
        let arguments = [
            Value::String(unit.to_owned()),
            Value::String(format!("/{}", below.display())),
            Value::Array("u".into(), vec![Value::Uint32(pid.unsigned_abs())]),
        ];
        let attached = self.call(MANAGER, "AttachProcessesToUnit", &arguments);
        let doing = || format!("move process {pid} into systemd unit {unit:?}");
        attached
            .map(drop)
            .map_err(|problem| failed(doing(), &problem))
    }

    /// Stops the unit and waits for that, and lets systemd forget it if it
    /// failed. One that is gone already is fine.
    pub(crate) fn stop(&mut self, unit: &str) -> Result<()> {
        let arguments = stop_arguments(unit);
        let mut ended = self.job("StopUnit", &arguments);
        if ended == Err(Problem::Closed) {
            // systemd was executed again, and knows what it was about.
            ended = self.job("StopUnit", &arguments);
        }
        let stopped = match ended {
            // However the job ended, the cgroup is looked at next.
            Ok(_) => Ok(()),
            Err(problem) if problem.is("NoSuchUnit") => return Ok(()),
            Err(problem) => Err(failed(format!("stop systemd unit {unit:?}"), &problem)),
        };
        if stopped.is_ok() {
            self.reset_failed(unit);
        }
        stopped
    }

    /// Best effort: a unit that did not fail, or is gone, is an error here.
    fn reset_failed(&mut self, unit: &str) {
        let arguments = [Value::String(unit.to_owned())];
        match self.call(MANAGER, "ResetFailedUnit", &arguments) {
            Ok(_) | Err(_) => {}
        }
    }

    /// As a number: "252.39-1~deb12u1" is 252. 0, which nothing is new in, if
    /// systemd does not say.
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
        let arguments = [
            Value::String(MANAGER.into()),
            Value::String(name.to_owned()),
        ];
        let answer = self.call("org.freedesktop.DBus.Properties", "Get", &arguments)?;
        let mut body = answer.body();
        match (answer.signature.as_str(), body.signature()?.as_str()) {
            ("v", "s") => body.text(),
            _ => Err(Problem::Malformed("a property of another type")),
        }
    }

    /// Calls a method that begins a job, and waits for the job's result.
    fn job(&mut self, member: &str, arguments: &[Value]) -> std::result::Result<String, Problem> {
        let answer = self.call(MANAGER, member, arguments)?;
        match &mut self.bus {
            Some(bus) => {
                let result = bus.wait_for_job(&answer);
                if result.is_err() {
                    self.bus = None;
                }
                result
            }
            None => Err(Problem::Closed),
        }
    }

    /// Calls a method. A connection that was closed is made anew; after any
    /// other trouble with it, the next call makes a new one.
    fn call(
        &mut self,
        interface: &str,
        member: &str,
        arguments: &[Value],
    ) -> std::result::Result<Message, Problem> {
        for attempt in 0.. {
            let result = self
                .connected()
                .and_then(|bus| bus.call(interface, member, arguments));
            match result {
                Err(Problem::Closed) if attempt < RECONNECTIONS => self.bus = None,
                Err(Problem::Refused { .. }) | Ok(_) => return result,
                Err(_) => {
                    self.bus = None;
                    return result;
                }
            }
        }
        Err(Problem::Closed)
    }

    fn connected(&mut self) -> std::result::Result<&mut Bus, Problem> {
        let bus = match self.bus.take() {
            Some(bus) => bus,
            None => Bus::connect(&bus::addresses(self.manager, &|name| {
                std::env::var_os(name)
            }))?,
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

fn stop_arguments(unit: &str) -> [Value; 2] {
    [
        Value::String(unit.to_owned()),
        Value::String("replace".into()),
    ]
}

fn pairs(properties: &[Property]) -> Value {
    let pairs = properties.iter().map(Property::pair);
    Value::Array("(sv)".into(), pairs.collect())
}

/// Whether the process is in the unit's cgroup, as the kernel says.
fn is_in_unit(pid: i32, unit: &str) -> bool {
    let cgroups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let end = format!("/{unit}");
    cgroups.lines().any(|line| line.ends_with(&end))
}

fn version_number(text: &str) -> Option<u32> {
    let text = text.trim_start_matches(['"', 'v']);
    let end = text.find(|letter: char| !letter.is_ascii_digit());
    text[..end.unwrap_or(text.len())].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::bus::tests::{Answers, Fake, job_removed, refusal, reply};
    use super::*;
    use std::io::Write as _;
    use std::os::unix::net::UnixStream;
    use std::sync::{Arc, Mutex};

    /// A client that speaks with `fake`.
    fn client(fake: &Fake) -> Systemd {
        let bus = Bus::connect(std::slice::from_ref(&fake.address)).unwrap();
        Systemd {
            manager: Manager::System,
            bus: Some(bus),
            version: Some(252),
        }
    }

    fn with_job(serial: u32, result: &str, socket: &mut UnixStream) {
        let job = Value::ObjectPath("/job/1".into());
        socket.write_all(&reply(serial, &[job])).unwrap();
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
                    assert_eq!(call.signature, "ssa(sv)a(sa(sv))");
                    assert_eq!(call.body().text().unwrap(), "p-n.scope");
                    socket.write_all(&refusal(serial, "UnitExists")).unwrap();
                }
                ("StartTransientUnit", _) => with_job(serial, "done", socket),
                _ => socket.write_all(&reply(serial, &[])).unwrap(),
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
            _ => socket.write_all(&reply(serial, &[])).unwrap(),
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
        // Nothing to say, nothing said.
        limits.pids = None;
        systemd.set_limits("p-n.scope", &limits, true).unwrap();
        systemd.stop("p-n.scope").unwrap();
    }

    #[test]
    fn a_manager_that_goes_away_is_told_from_a_refusal() {
        let script: Answers = Box::new(|_, serial, socket| {
            let job = Value::ObjectPath("/job/1".into());
            socket.write_all(&reply(serial, &[job])).unwrap();
            socket.shutdown(std::net::Shutdown::Both).unwrap();
        });
        let fake = Fake::new("gone", vec![script]);
        let mut systemd = client(&fake);
        let answer = systemd.call(MANAGER, "StopUnit", &[]).unwrap();
        let ended = systemd.bus.as_mut().unwrap().wait_for_job(&answer);
        assert_eq!(ended, Err(Problem::Closed));
    }

    #[test]
    fn the_kernel_tells_whether_a_process_is_in_a_unit() {
        let own = std::fs::read_to_string("/proc/self/cgroup").unwrap();
        let pid = i32::try_from(std::process::id()).unwrap();
        let last = own.lines().find_map(|line| Some(line.rsplit_once('/')?.1));
        if let Some(name) = last.filter(|name| !name.is_empty()) {
            assert!(is_in_unit(pid, name));
        }
        assert!(!is_in_unit(pid, "no-such.scope"));
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
