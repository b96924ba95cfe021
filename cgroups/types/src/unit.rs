//! Decides the unit of a container: its name, its slice, its properties from annotations,
//! and the cgroup that systemd gives it (systemd.unit(5), systemd.slice(5)). Makes no call
//! to systemd.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use zbus::Variant;

use crate::error::PlanError;
use crate::gvariant;

/// The result of the fallible functions of this module.
type Result<T> = std::result::Result<T, PlanError>;

/// The prefix of annotations that set properties of the unit.
const ANNOTATION: &str = "org.systemd.property.";

/// systemd's UNIT_NAME_MAX.
const LONGEST_NAME: usize = 255;

/// A systemd manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Manager {
    /// The system's manager, which obeys root only.
    System,
    /// The manager of a logged-in user.
    User,
}

/// A property of a unit, and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Property {
    /// The name.
    pub name: String,
    /// The value.
    pub value: Variant<'static>,
}

impl Property {
    /// Makes a property.
    pub fn new(name: &str, value: impl Into<Variant<'static>>) -> Property {
        Property {
            name: name.to_owned(),
            value: value.into(),
        }
    }

    /// Makes a property whose value is a number.
    pub fn number(name: &str, number: u64) -> Property {
        Property::new(name, number)
    }
}

/// The unit of a container: a transient scope, or a slice if the configuration names one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    name: String,
    slice: String,
    /// The unit's cgroup, relative to the manager's.
    path: PathBuf,
    manager: Manager,
    description: String,
    properties: Vec<Property>,
    owner: Option<u32>,
}

impl Unit {
    /// Makes the unit from `linux.cgroupsPath`, which has the form "slice:prefix:name" with
    /// systemd. If it is empty, the unit is the scope "PROGRAM-ID.scope". If the slice is
    /// empty, it is system.slice or, for a user's manager, user.slice.
    ///
    /// # Errors
    /// Returns an error if the path has another form, or if a name is not valid for a slice
    /// or unit.
    pub fn new(
        cgroups_path: &str,
        program: &str,
        container_id: &str,
        manager: Manager,
    ) -> Result<Unit> {
        let refuse = |reason: String| Err(PlanError::Unit { reason });
        let default_slice = match manager {
            Manager::System => "system.slice",
            Manager::User => "user.slice",
        };
        let words: Vec<&str> = cgroups_path.split(':').collect();
        let (slice, prefix, own_name) = match words[..] {
            [""] => ("", program, escape(container_id)),
            [slice, prefix, name] => (slice, prefix, name.to_owned()),
            _ => {
                return refuse(format!(
                    "expected cgroupsPath to be of format \"slice:prefix:name\" for systemd \
                     cgroups, got {cgroups_path:?} instead"
                ));
            }
        };
        let slice = if slice.is_empty() {
            default_slice
        } else {
            slice
        };
        let name = match own_name.ends_with(".slice") {
            true => own_name.clone(),
            false => format!("{prefix}-{own_name}.scope"),
        };
        let path = expand_slice(slice)?;
        let path = match name.ends_with(".slice") {
            true => expand_slice(&name)?,
            false if is_unit_name(&name) => path.join(&name),
            false => return refuse(format!("{name:?} is not a valid name of a unit")),
        };
        Ok(Unit {
            description: format!("{program} container {own_name}"),
            name,
            slice: slice.to_owned(),
            path,
            manager,
            properties: Vec::new(),
            owner: None,
        })
    }

    /// Adds the property of the annotation `org.systemd.property.NAME`, whose value is in
    /// GVariant's text format. Ignores other annotations. A name that ends in "Sec", such as
    /// TimeoutStopSec, takes seconds as in unit files, and becomes the manager's property in
    /// microseconds.
    ///
    /// # Errors
    /// Returns an error if the name is not valid, if annotations may not set the property,
    /// or if the value cannot be parsed.
    pub fn annotate(&mut self, key: &str, value: &str) -> Result<()> {
        let Some(name) = key.strip_prefix(ANNOTATION) else {
            return Ok(());
        };
        let refuse = |reason: String| Err(annotation(key, reason));
        if name.len() < 3 || !name.bytes().all(|byte| byte.is_ascii_alphabetic()) {
            return refuse("a property's name has at least three letters and nothing else".into());
        }
        let decided = match name {
            "Slice" => Some("the unit's name"),
            "DeviceAllow" | "DevicePolicy" => Some("the device rules"),
            "Delegate" | "PIDs" | "PIDFDs" => Some("the runtime"),
            _ => None,
        };
        if let Some(decided) = decided {
            return refuse(format!("the property is set by {decided}"));
        }
        let seconds = name
            .strip_suffix("Sec")
            .filter(|stem| stem.ends_with(|letter: char| letter.is_ascii_lowercase()));
        let (name, value) = match seconds {
            Some(stem) => (format!("{stem}USec"), gvariant::parse_seconds(value)),
            None => (name.to_owned(), gvariant::parse(value)),
        };
        match value {
            Ok(value) => {
                self.properties.push(Property { name, value });
                Ok(())
            }
            Err(reason) => refuse(reason),
        }
    }

    /// Refuses an annotation whose property is set again in `all`: systemd would use the
    /// later value.
    ///
    /// # Errors
    /// Returns an error that names the annotation.
    pub fn refuse_overridden(&self, all: &[Property]) -> Result<()> {
        let last = |name: &str| all.iter().rfind(|property| property.name == name);
        match self
            .properties
            .iter()
            .find(|own| last(&own.name) != Some(own))
        {
            Some(own) => Err(annotation(
                &format!("{ANNOTATION}{}", own.name),
                "a limit or another annotation sets another value of the property".into(),
            )),
            None => Ok(()),
        }
    }

    /// Delegates the cgroup to this user of the host on v2, so that the container may make
    /// cgroups below it.
    pub fn delegate_to(&mut self, owner: u32) {
        self.owner = Some(owner);
    }

    /// Returns the unit's name, with its suffix.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the manager that makes the unit.
    pub fn manager(&self) -> Manager {
        self.manager
    }

    /// Returns the unit's description.
    pub fn description(&self) -> &str {
        &self.description
    }

    /// Returns the name of the slice in which the unit is.
    pub fn slice(&self) -> &str {
        &self.slice
    }

    /// Returns the properties that annotations set.
    pub fn properties(&self) -> &[Property] {
        &self.properties
    }

    /// Returns the user to whom the cgroup is delegated.
    pub fn owner(&self) -> Option<u32> {
        self.owner
    }

    /// Returns whether the unit is a slice. systemd does not start a slice with a process.
    pub fn is_slice(&self) -> bool {
        self.name.ends_with(".slice")
    }

    /// Returns the unit's cgroup, relative to the manager's.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn annotation(key: &str, reason: String) -> PlanError {
    PlanError::Annotation {
        key: key.to_owned(),
        reason,
    }
}

/// Returns the path of a slice: "a-b.slice" is in "a.slice", and "-.slice" is the root.
fn expand_slice(slice: &str) -> Result<PathBuf> {
    let refuse = || PlanError::Unit {
        reason: format!("invalid slice name: {slice}"),
    };
    let stem = slice.strip_suffix(".slice").ok_or_else(refuse)?;
    if stem == "-" {
        return Ok(PathBuf::new());
    }
    if !is_unit_name(slice) || stem.split('-').any(str::is_empty) {
        return Err(refuse());
    }
    let dashes = stem.match_indices('-').map(|(at, _)| at);
    let ends = dashes.chain([stem.len()]);
    Ok(ends.map(|end| format!("{}.slice", &stem[..end])).collect())
}

/// Checks a unit's name as systemd does (basic/unit-name.c), so that an error names the
/// field and comes before anything is made.
fn is_unit_name(name: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b":-_.\\@".contains(&byte);
    let stem = name.rsplit_once('.').map_or("", |(stem, _)| stem);
    name.len() <= LONGEST_NAME
        && !stem.is_empty()
        && !stem.starts_with('@')
        && name.bytes().all(is_allowed)
}

/// Escapes a container's id for a unit's name. Of the characters of an id, only "+" has to
/// be escaped (systemd-escape(1)).
fn escape(id: &str) -> String {
    id.replace('+', "\\x2b")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(path: &str) -> Result<Unit> {
        Unit::new(path, "box", "a+1", Manager::System)
    }

    #[test]
    fn names_and_places() {
        // (cgroupsPath, unit, place)
        let table = [
            ("", "box-a\\x2b1.scope", "system.slice/box-a\\x2b1.scope"),
            (
                "system.slice:docker:1234",
                "docker-1234.scope",
                "system.slice/docker-1234.scope",
            ),
            (":p:n", "p-n.scope", "system.slice/p-n.scope"),
            ("-.slice:p:n", "p-n.scope", "p-n.scope"),
            (
                "a-b-c.slice:p:n",
                "p-n.scope",
                "a.slice/a-b.slice/a-b-c.slice/p-n.scope",
            ),
            // A slice is where its name puts it.
            (
                "a.slice:ignored:a-b.slice",
                "a-b.slice",
                "a.slice/a-b.slice",
            ),
        ];
        for (path, name, place) in table {
            let unit = unit(path).unwrap();
            assert_eq!(unit.name(), name, "{path}");
            assert_eq!(unit.path(), PathBuf::from(place), "{path}");
        }
        let unit = Unit::new("", "box", "c", Manager::User).unwrap();
        assert_eq!(unit.path(), PathBuf::from("user.slice/box-c.scope"));
    }

    #[test]
    fn invalid_names_are_refused() {
        let long = format!("a.slice:p:{}", "x".repeat(300));
        let table = [
            (
                "/a/b",
                "expected cgroupsPath to be of format \"slice:prefix:name\"",
            ),
            ("a:b", "expected cgroupsPath to be of format"),
            ("a:b:c:d", "expected cgroupsPath to be of format"),
            ("a.scope:p:n", "invalid slice name: a.scope"),
            (".slice:p:n", "invalid slice name: .slice"),
            ("a--b.slice:p:n", "invalid slice name: a--b.slice"),
            ("-a.slice:p:n", "invalid slice name: -a.slice"),
            ("a/b.slice:p:n", "invalid slice name: a/b.slice"),
            (
                "..slice:p:../../x",
                "\"p-../../x.scope\" is not a valid name of a unit",
            ),
            (
                "a.slice:p:n n",
                "\"p-n n.scope\" is not a valid name of a unit",
            ),
            ("a.slice:p:x/.slice", "invalid slice name: x/.slice"),
            (&long, "is not a valid name of a unit"),
        ];
        for (path, words) in table {
            let error = unit(path).unwrap_err().to_string();
            assert!(error.contains(words), "{path}: {error}");
        }
    }

    #[test]
    fn annotations_become_properties() {
        let mut unit = unit("").unwrap();
        unit.annotate("org.example.x", "what").unwrap();
        unit.annotate("org.systemd.property.TimeoutStopSec", "2")
            .unwrap();
        unit.annotate("org.systemd.property.CollectMode", "'inactive-or-failed'")
            .unwrap();
        // The letter before "Sec" is upper case, so the name is not changed.
        unit.annotate("org.systemd.property.ASec", "2").unwrap();
        assert_eq!(
            unit.properties(),
            [
                Property::number("TimeoutStopUSec", 2_000_000),
                Property::new("CollectMode", "inactive-or-failed"),
                Property::new("ASec", 2),
            ]
        );
        for (key, value, words) in [
            (
                "org.systemd.property.Slice",
                "'x.slice'",
                "the property is set by the unit's name",
            ),
            (
                "org.systemd.property.PIDs",
                "[uint32 1]",
                "the property is set by the runtime",
            ),
            (
                "org.systemd.property.Delegate",
                "false",
                "the property is set by the runtime",
            ),
            (
                "org.systemd.property.DeviceAllow",
                "[]",
                "the property is set by the device rules",
            ),
            (
                "org.systemd.property.",
                "1",
                "a property's name has at least three letters",
            ),
            (
                "org.systemd.property.A-b",
                "1",
                "a property's name has at least three letters",
            ),
            (
                "org.systemd.property.Abc",
                "x",
                "\"x\" is neither a value nor a type",
            ),
            ("org.systemd.property.AbSec", "'1'", "'1' is not a number"),
        ] {
            let error = unit.annotate(key, value).unwrap_err().to_string();
            let words = format!("annotations[{key:?}]: {words}");
            assert!(error.starts_with(&words), "{error}");
        }
    }

    #[test]
    fn an_annotation_is_obeyed_or_refused() {
        let mut unit = unit("").unwrap();
        unit.annotate("org.systemd.property.Description", "'mine'")
            .unwrap();
        unit.annotate("org.systemd.property.TasksMax", "uint64 5")
            .unwrap();
        let mut all = vec![Property::new("Description", unit.description().to_owned())];
        all.extend(unit.properties().iter().cloned());
        unit.refuse_overridden(&all).unwrap();
        all.push(Property::number("TasksMax", 5));
        unit.refuse_overridden(&all).unwrap();
        all.push(Property::number("TasksMax", 6));
        let error = unit.refuse_overridden(&all).unwrap_err().to_string();
        let field = "annotations[\"org.systemd.property.TasksMax\"]: ";
        assert!(error.starts_with(field), "{error}");
    }
}
