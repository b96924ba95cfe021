//! config.json and what is written like parts of it, as the types of the crate
//! oci-spec. Only `bundle.rs`, `plan/` and the commands that print such a text
//! may use those.
//!
//! A text becomes a tree, and its types are read from that. Read from the text
//! itself they would be too strict and too lax: they take no `null` of Go's, no
//! name in another case, no absent field that has to be there; but a capability in
//! any spelling and a list in place of an object, without a word. Their `Default`
//! is a container with a shell and capabilities, so [`nothing`] is what is absent.

use std::collections::BTreeSet;
use std::fmt::{self, Display};

use oci_spec::runtime::{Capability, LinuxDeviceType};
use serde::de::value::{MapDeserializer, SeqDeserializer, StrDeserializer};
use serde::de::{
    DeserializeOwned, Deserializer, Error as _, IntoDeserializer, MapAccess, SeqAccess, Visitor,
};
use serde::{Deserialize, forward_to_deserialize_any};
use serde_json::{Error, Map, Value};

/// Is told of a field that its object does not have: the place of it, and the
/// fields there are.
pub(crate) type TellUnknown<'a> = &'a dyn Fn(&Place<'_>, &[&'static str]);

/// Parses a JSON text. `unknown` is told of every field that the type does not
/// have; they are allowed (config.md, "Extensibility").
///
/// # Errors
/// The text is no JSON, or a field has the wrong type: the error names it.
pub(crate) fn read<T: DeserializeOwned>(
    text: &[u8],
    unknown: TellUnknown<'_>,
) -> Result<T, String> {
    let Tree(value) = serde_json::from_slice(text).map_err(|err| err.to_string())?;
    let place = Place {
        parent: None,
        name: Name::Field(""),
        unknown,
    };
    serde_path_to_error::deserialize(Node { value, place }).map_err(|err| {
        match err.path().to_string().as_str() {
            "." => err.inner().to_string(),
            place => format!("{place}: {}", err.inner()),
        }
    })
}

/// A value that says nothing: what is no option is empty or 0.
///
/// # Errors
/// The type has no such value: there is a word that has to be one of a few.
pub(crate) fn nothing<T: DeserializeOwned>() -> Result<T, String> {
    read(b"null", &|_, _| {})
}

/// The capability of that name; oci-spec's reader would take other spellings, too.
pub(crate) fn capability(name: &str) -> Option<Capability> {
    name.strip_prefix("CAP_")?.parse().ok()
}

/// Where in the document a value is, as `linux.namespaces[2].path`.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    parent: Option<&'a Place<'a>>,
    name: Name<'a>,
    unknown: TellUnknown<'a>,
}

#[derive(Clone, Copy)]
enum Name<'a> {
    Field(&'a str),
    Index(usize),
}

impl<'a> Place<'a> {
    fn below(&'a self, name: Name<'a>) -> Place<'a> {
        Place {
            parent: Some(self),
            name,
            unknown: self.unknown,
        }
    }

    /// The name of the field that is there; none for an item of a list.
    pub(crate) fn field(&self) -> Option<&str> {
        match self.name {
            Name::Field(name) => Some(name),
            Name::Index(_) => None,
        }
    }
}

impl Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(parent) = self.parent else {
            return Ok(());
        };
        parent.fmt(f)?;
        match self.name {
            Name::Index(index) => write!(f, "[{index}]"),
            Name::Field(name) if parent.parent.is_none() => f.write_str(name),
            Name::Field(name) => write!(f, ".{name}"),
        }
    }
}

/// A value of the document.
struct Node<'a> {
    value: Value,
    place: Place<'a>,
}

fn object(value: Value) -> Result<Map<String, Value>, Error> {
    match value {
        Value::Null => Ok(Map::new()),
        Value::Object(object) => Ok(object),
        other => Err(expected("an object", &other)),
    }
}

/// The fields of an object that is to be a `kind`, with these names: what it lacks
/// is null.
fn fields<'a>(
    kind: &str,
    names: &'static [&'static str],
    mut object: Map<String, Value>,
    place: &'a Place<'_>,
) -> Result<Vec<(&'static str, Node<'a>)>, Error> {
    ignore_case(&mut object, names)?;
    mend(kind, &mut object, place)?;
    // Of these two oci-spec says itself that the specification has none there.
    let is_foreign = |name: &&str| kind == "Spec" && name.ends_with("idMappings");
    let own = names.iter().copied().filter(|name| !is_foreign(name));
    let field = |name| {
        let value = object.remove(name).unwrap_or_default();
        let place = place.below(Name::Field(name));
        (name, Node { value, place })
    };
    let fields = own.map(field).collect();
    for name in object.keys() {
        (place.unknown)(&place.below(Name::Field(name)), names);
    }
    Ok(fields)
}

/// Mends what oci-spec's type of this name is too strict or too lax for.
///
/// # Errors
/// There is a section for another platform, or a device of no type.
fn mend(kind: &str, object: &mut Map<String, Value>, place: &Place<'_>) -> Result<(), Error> {
    match kind {
        "Spec" => {
            for platform in ["solaris", "windows", "vm", "zos", "freebsd"] {
                if object.remove(platform).unwrap_or_default() != Value::Null {
                    let words = format!("{platform}: teu makes Linux containers only");
                    return Err(Error::custom(words));
                }
            }
        }
        "LinuxCapabilities" => drop_unknown_capabilities(object),
        // Empty elements and spaces, as in runc.
        "ExecCPUAffinity" => {
            for list in object.values_mut() {
                if let Value::String(text) = list {
                    let parts = text.split(',').map(str::trim);
                    let parts: Vec<&str> = parts.filter(|part| !part.is_empty()).collect();
                    *text = parts.join(",");
                }
            }
        }
        // Its type goes to 2^63 only; no machine has as much.
        "LinuxHugepageLimit" => {
            let limit = object.get("limit").and_then(Value::as_u64);
            if limit > Some(i64::MAX.unsigned_abs()) {
                object.insert("limit".into(), i64::MAX.into());
            }
        }
        // Which one it is would not be told.
        "LinuxDevice" => {
            let word = object.get("type").and_then(Value::as_str);
            let word = word.unwrap_or_default();
            if word.parse::<LinuxDeviceType>().is_err() {
                let path = object.get("path").unwrap_or(&Value::Null);
                let words = format!("{path}: invalid device type {word:?}");
                return Err(Error::custom(words));
            }
        }
        "LinuxResources" => drop_without(object, "pids", &["limit"], place),
        "Linux" => drop_without(object, "seccomp", &["defaultAction", "syscalls"], place),
        _ => {}
    }
    Ok(())
}

/// Gives a field that is written in another case the name it has here. Go takes
/// "CPU" for "cpu" (package encoding/json, Unmarshal), so callers of runc may
/// write it.
///
/// # Errors
/// The field is there in both.
fn ignore_case(object: &mut Map<String, Value>, names: &[&'static str]) -> Result<(), Error> {
    let others = object.keys().filter(|key| !names.contains(&key.as_str()));
    let others: Vec<String> = others.cloned().collect();
    for other in others {
        let meant = names.iter().find(|name| name.eq_ignore_ascii_case(&other));
        if let Some(name) = meant
            && let Some(value) = object.remove(&other)
            && object.insert((*name).to_owned(), value).is_some()
        {
            return Err(twice(&other));
        }
    }
    Ok(())
}

/// Which of both counts is no reader's business to guess: one may hold the limits
/// and the other none.
fn twice<E: serde::de::Error>(name: &str) -> E {
    E::custom(format!("the field {name:?} is there twice"))
}

/// A JSON text as a tree, in which each object has a name once.
struct Tree(Value);

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Tree, D::Error> {
        deserializer.deserialize_any(TreeVisitor).map(Tree)
    }
}

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(Tree(item)) = list.next_element()? {
            items.push(item);
        }
        Ok(items.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some((name, Tree(value))) = entries.next_entry::<String, Tree>()? {
            if object.contains_key(&name) {
                return Err(twice(&name));
            }
            object.insert(name, value);
        }
        Ok(object.into())
    }
}

/// Drops a section that asks for nothing, since it has none of these fields.
fn drop_without(
    object: &mut Map<String, Value>,
    section: &'static str,
    fields: &'static [&'static str],
    place: &Place<'_>,
) {
    let Some(Value::Object(inside)) = object.get(section) else {
        return;
    };
    let is_one = |name: &&String| fields.iter().any(|field| name.eq_ignore_ascii_case(field));
    let empty = [Value::Null, "".into(), Value::Array(Vec::new())];
    let mut inside = inside.iter();
    if inside.any(|(name, value)| is_one(&name) && !empty.contains(value)) {
        return;
    }
    let place = place.below(Name::Field(section));
    let Some(Value::Object(inside)) = object.remove(section) else {
        return;
    };
    for name in inside.keys().filter(|name| !is_one(name)) {
        (place.unknown)(&place.below(Name::Field(name)), fields);
    }
}

/// They are left out with a warning (config.md, "Linux Process").
fn drop_unknown_capabilities(sets: &mut Map<String, Value>) {
    let mut unknown = BTreeSet::new();
    for set in sets.values_mut().filter_map(Value::as_array_mut) {
        set.retain(|name| match name.as_str() {
            Some(name) if capability(name).is_none() => {
                unknown.insert(name.to_owned());
                false
            }
            _ => true,
        });
    }
    if !unknown.is_empty() {
        let unknown: Vec<String> = unknown.into_iter().collect();
        log::warn!(
            "ignoring unknown or unavailable capabilities: [{}]",
            unknown.join(" ")
        );
    }
}

/// The words of a refusal, which are runc's where it has the field.
fn refusal(kind: &str, word: &str) -> String {
    match kind {
        "LinuxNamespaceType" => format!("namespace {word:?} does not exist"),
        "PosixRlimitType" => format!("wrong rlimit value: {word}"),
        "LinuxSchedulerPolicy" if word.is_empty() => "scheduler policy is required".to_owned(),
        "LinuxSchedulerPolicy" => format!("invalid scheduler policy: {word}"),
        "LinuxSchedulerFlag" => format!("invalid scheduler flag: {word}"),
        "IOPriorityClass" => format!("invalid ioPriority.Class: {word:?}"),
        "LinuxPersonalityDomain" => format!("invalid personality domain {word}"),
        "MemoryPolicyModeType" => format!("invalid memory policy mode {word:?}"),
        "MemoryPolicyFlagType" => format!("invalid memory policy flag {word:?}"),
        "LinuxSeccompAction" => format!("string {word} is not a valid action for seccomp"),
        "LinuxSeccompOperator" => format!("string {word} is not a valid operator for seccomp"),
        "LinuxSeccompFilterFlag" => format!("seccomp flag {word} is not known"),
        "Arch" => format!("string {word} is not a valid arch for seccomp"),
        _ => format!("{word:?} is not known here"),
    }
}

/// A word as oci-spec has it, which two flags of the scheduler are wrong in.
fn spelled(word: &str) -> &str {
    match word {
        "SCHED_FLAG_RESET_ON_FORK" => "SCHED_RESET_ON_FORK",
        "SCHED_FLAG_DL_OVERRUN" => "SCHED_FLAG_D_L_OVERRUN",
        "SCHED_RESET_ON_FORK" | "SCHED_FLAG_D_L_OVERRUN" => "",
        word => word,
    }
}

/// The optional fields that are texts or words: as for Go, an empty one is none.
/// In any other place it has the wrong type.
const TEXTS: &[&str] = &[
    "access",
    "apparmorProfile",
    "cgroupsPath",
    "closID",
    "commandLine",
    "cpus",
    "domainname",
    "final",
    "hostname",
    "initial",
    "l3CacheSchema",
    "listenerMetadata",
    "listenerPath",
    "memBwSchema",
    "mems",
    "mountLabel",
    "name",
    "nodes",
    "path",
    "rootfsPropagation",
    "selinuxLabel",
    "source",
    "type",
    "username",
];

fn expected(what: &str, found: &Value) -> Error {
    let found = match found {
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
        other => other.to_string(),
    };
    Error::custom(format!("expected {what}, found {found}"))
}

macro_rules! numbers {
    ($($deserialize:ident $visit:ident $kind:ident;)*) => {$(
        fn $deserialize<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            let number = match self.value {
                Value::Null => Ok(0),
                ref value => $kind::deserialize(value),
            };
            let range = || format!("a number from {} to {}", $kind::MIN, $kind::MAX);
            visitor.$visit(number.map_err(|_| expected(&range(), &self.value))?)
        }
    )*};
}

impl<'de> Deserializer<'de> for Node<'_> {
    type Error = Error;

    numbers! {
        deserialize_u16 visit_u16 u16;
        deserialize_u32 visit_u32 u32;
        deserialize_u64 visit_u64 u64;
        deserialize_i32 visit_i32 i32;
        deserialize_i64 visit_i64 i64;
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value {
            Value::Null => visitor.visit_bool(false),
            Value::Bool(value) => visitor.visit_bool(value),
            other => Err(expected("true or false", &other)),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_string(visitor)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value {
            Value::Null => visitor.visit_str(""),
            Value::String(text) => visitor.visit_string(text),
            other => Err(expected("a string", &other)),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        kind: &'static str,
        words: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let word = String::deserialize(self)?;
        let spelled = spelled(&word);
        if !words.contains(&spelled) {
            return Err(Error::custom(refusal(kind, &word)));
        }
        let spelled: StrDeserializer<'_, Error> = spelled.into_deserializer();
        visitor.visit_enum(spelled)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let is_text = || self.place.field().is_some_and(|name| TEXTS.contains(&name));
        match self.value == Value::Null || self.value == "" && is_text() {
            true => visitor.visit_none(),
            false => visitor.visit_some(self),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let Node { value, place } = self;
        let list = match value {
            Value::Null => Vec::new(),
            Value::Array(list) => list,
            other => return Err(expected("a list", &other)),
        };
        let items = list.into_iter().enumerate().map(|(index, value)| {
            let place = place.below(Name::Index(index));
            Node { value, place }
        });
        visitor.visit_seq(SeqDeserializer::new(items))
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let Node { value, place } = self;
        let mut object = object(value)?;
        let entries = object.iter_mut().map(|(name, value)| {
            let place = place.below(Name::Field(name));
            let value = value.take();
            (name.as_str(), Node { value, place })
        });
        visitor.visit_map(MapDeserializer::new(entries))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        kind: &'static str,
        names: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let Node { value, place } = self;
        let fields = fields(kind, names, object(value)?, &place)?.into_iter();
        visitor.visit_map(MapDeserializer::new(fields))
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.value.deserialize_any(visitor)
    }

    forward_to_deserialize_any! {
        i8 i16 u8 f32 f64 char bytes byte_buf unit unit_struct newtype_struct tuple
        tuple_struct identifier ignored_any
    }
}

impl<'de> IntoDeserializer<'de, Error> for Node<'_> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use oci_spec::runtime::{LinuxMemory, LinuxResources, PosixRlimit, Process, Scheduler, Spec};

    fn error(text: &str) -> String {
        read::<Spec>(text.as_bytes(), &|_, _| {}).expect_err(text)
    }

    #[test]
    fn null_means_absent() {
        let spec: Spec = testing::read(
            r#"{"ociVersion":"1.3.0","mounts":null,"process":{"args":null,"cwd":"/"},"linux":{"resources":null,"uidMappings":null}}"#,
        );
        assert_eq!(*spec.mounts(), None);
        assert_eq!(*spec.process().as_ref().expect("process").args(), None);
        assert_eq!(*spec.linux().as_ref().expect("linux").resources(), None);
    }

    /// The `Default` of these types has capabilities, namespaces, a shell.
    #[test]
    fn what_is_absent_is_nothing() {
        let process: Process = nothing().expect("process");
        assert_eq!(process, testing::read("{}"));
        assert_eq!((process.args(), process.env()), (&None, &None));
        assert_eq!((process.capabilities(), process.rlimits()), (&None, &None));
        assert_eq!((process.user().uid(), process.user().gid()), (0, 0));
        let spec: Spec = testing::read(
            r#"{"process":{"capabilities":{"bounding":["CAP_KILL"]}},"root":{},
                "linux":{"resources":{"devices":[{}]}}}"#,
        );
        assert_eq!((spec.mounts(), spec.hooks()), (&None, &None));
        assert_eq!(spec.root().as_ref().expect("root").readonly(), None);
        let process = spec.process().as_ref().expect("process");
        let sets = process.capabilities().as_ref().expect("capabilities");
        assert_eq!((sets.effective(), sets.permitted()), (&None, &None));
        assert_eq!((sets.inheritable(), sets.ambient()), (&None, &None));
        let linux = spec.linux().as_ref().expect("linux");
        assert_eq!((linux.namespaces(), linux.devices()), (&None, &None));
        assert_eq!(*linux.masked_paths(), None);
        let resources = linux.resources().as_ref().expect("resources");
        let rule = &resources.devices().as_ref().expect("rules")[0];
        assert!(!rule.allow());
    }

    #[test]
    fn a_wrong_type_names_its_place() {
        let cases = [
            (
                r#"{"process":{"user":{"uid":"root"}}}"#,
                "process.user.uid: expected a number from 0 to 4294967295, found \"root\"",
            ),
            (
                r#"{"process":{"user":{"uid":-1}}}"#,
                "process.user.uid: expected a number from 0 to 4294967295, found -1",
            ),
            (
                r#"{"linux":{"namespaces":[{"type":"pid"},{"type":7}]}}"#,
                "linux.namespaces[1].type: expected a string, found 7",
            ),
            (
                r#"{"mounts":{}}"#,
                "mounts: expected a list, found an object",
            ),
            (
                r#"{"linux":{"sysctl":{"a.b":1}}}"#,
                "linux.sysctl.a.b: expected a string, found 1",
            ),
            (
                r#"{"root":{"readonly":1}}"#,
                "root.readonly: expected true or false, found 1",
            ),
            (
                r#"{"process":{"execCPUAffinity":{"final":"x"}}}"#,
                "process.execCPUAffinity.final: Invalid execCPUAffinity format: x",
            ),
        ];
        for (text, words) in cases {
            assert_eq!(error(text), words);
        }
        assert!(error("{").starts_with("EOF while parsing"));
        assert!(error(r#"{"x":1} y"#).starts_with("trailing characters"));
        error(&"[".repeat(100_000));
    }

    #[test]
    fn other_platforms_are_refused_by_name() {
        for platform in ["solaris", "windows", "vm", "zos", "freebsd", "Windows"] {
            let words = error(&format!(r#"{{"{platform}":{{"x":1}}}}"#));
            assert!(
                words.ends_with("teu makes Linux containers only"),
                "{words}"
            );
            let spec: Spec = testing::read(&format!(r#"{{"{platform}":null}}"#));
            assert_eq!(spec, nothing().expect("specification"));
        }
    }

    #[test]
    fn a_field_is_there_once() {
        for (text, words) in [
            (
                r#"{"process":{"noNewPrivileges":true,"noNewPrivileges":false}}"#,
                r#"the field "noNewPrivileges" is there twice at line 1"#,
            ),
            (
                r#"{"linux":{"seccomp":{}},"linux":{}}"#,
                r#"the field "linux" is there twice at line 1"#,
            ),
            (
                r#"{"process":{"noNewPrivileges":false,"NoNewPrivileges":true}}"#,
                r#"process: the field "NoNewPrivileges" is there twice"#,
            ),
            (
                r#"{"root":{"Readonly":true,"READONLY":false}}"#,
                r#"root: the field "Readonly" is there twice"#,
            ),
        ] {
            assert!(error(text).starts_with(words), "{}", error(text));
        }
    }

    /// What has another type is not asked for nothing by an empty text.
    #[test]
    fn an_empty_text_is_no_number_and_no_section() {
        for (text, place) in [
            (r#"{"root":{"readonly":""}}"#, "root.readonly"),
            (
                r#"{"process":{"noNewPrivileges":""}}"#,
                "process.noNewPrivileges",
            ),
            (r#"{"process":{"capabilities":""}}"#, "process.capabilities"),
            (r#"{"process":{"rlimits":""}}"#, "process.rlimits"),
            (r#"{"process":{"oomScoreAdj":""}}"#, "process.oomScoreAdj"),
            (
                r#"{"hooks":{"prestart":[{"timeout":""}]}}"#,
                "hooks.prestart[0].timeout",
            ),
            (r#"{"linux":""}"#, "linux"),
            (r#"{"linux":{"seccomp":""}}"#, "linux.seccomp"),
            (r#"{"linux":{"maskedPaths":""}}"#, "linux.maskedPaths"),
            (r#"{"linux":{"resources":""}}"#, "linux.resources"),
            (
                r#"{"linux":{"resources":{"memory":{"limit":""}}}}"#,
                "linux.resources.memory.limit",
            ),
            (
                r#"{"linux":{"resources":{"devices":[{"allow":true,"major":""}]}}}"#,
                "linux.resources.devices[0].major",
            ),
            (
                r#"{"linux":{"devices":[{"type":"c","fileMode":""}]}}"#,
                "linux.devices[0].fileMode",
            ),
        ] {
            let words = error(text);
            assert!(words.starts_with(&format!("{place}: expected ")), "{words}");
        }
        let spec: Spec = testing::read(r#"{"hostname":"","linux":{"cgroupsPath":""}}"#);
        assert_eq!(*spec.hostname(), None);
        assert_eq!(*spec.linux().as_ref().expect("linux").cgroups_path(), None);
    }

    /// serde takes a list of its fields for a struct, and a map for a word.
    #[test]
    fn only_an_object_is_one() {
        for (text, place) in [
            ("[]", ""),
            (r#"{"process":{"user":[0,0]}}"#, "process.user: "),
            (
                r#"{"process":{"capabilities":[["CAP_SYS_ADMIN"]]}}"#,
                "process.capabilities: ",
            ),
            (
                r#"{"linux":{"resources":{"devices":[[true]]}}}"#,
                "linux.resources.devices[0]: ",
            ),
        ] {
            let words = format!("{place}expected an object, found a list");
            assert_eq!(error(text), words);
        }
        assert_eq!(
            error(r#"{"linux":{"namespaces":[{"type":{"pid":null}}]}}"#),
            "linux.namespaces[0].type: expected a string, found an object"
        );
    }

    #[test]
    fn a_word_is_one_of_the_specifications() {
        let cases = [
            (
                r#"{"linux":{"namespaces":[{"type":"mnt"}]}}"#,
                r#"linux.namespaces[0].type: namespace "mnt" does not exist"#,
            ),
            (
                r#"{"linux":{"namespaces":[{"path":"/x"}]}}"#,
                r#"linux.namespaces[0].type: namespace "" does not exist"#,
            ),
            (
                r#"{"process":{"rlimits":[{"type":"RLIMIT_X"}]}}"#,
                "process.rlimits[0].type: wrong rlimit value: RLIMIT_X",
            ),
            (
                r#"{"process":{"rlimits":[{"hard":1}]}}"#,
                "process.rlimits[0].type: wrong rlimit value: ",
            ),
            (
                r#"{"process":{"scheduler":{}}}"#,
                "process.scheduler.policy: scheduler policy is required",
            ),
            (
                r#"{"process":{"scheduler":{"policy":"X"}}}"#,
                "process.scheduler.policy: invalid scheduler policy: X",
            ),
            (
                r#"{"process":{"scheduler":{"policy":"SCHED_FIFO","flags":["SCHED_RESET_ON_FORK"]}}}"#,
                "process.scheduler.flags[0]: invalid scheduler flag: SCHED_RESET_ON_FORK",
            ),
            (
                r#"{"process":{"ioPriority":{"priority":0}}}"#,
                r#"process.ioPriority.class: invalid ioPriority.Class: """#,
            ),
            (
                r#"{"process":{"ioPriority":{"class":"IOPRIO_CLASS_NONE"}}}"#,
                r#"process.ioPriority.class: invalid ioPriority.Class: "IOPRIO_CLASS_NONE""#,
            ),
            (
                r#"{"linux":{"personality":{"domain":"BSD"}}}"#,
                "linux.personality.domain: invalid personality domain BSD",
            ),
            (
                r#"{"linux":{"personality":{}}}"#,
                "linux.personality.domain: invalid personality domain ",
            ),
            (
                r#"{"linux":{"memoryPolicy":{"mode":"INTERLEAVE"}}}"#,
                r#"linux.memoryPolicy.mode: invalid memory policy mode "INTERLEAVE""#,
            ),
            (
                r#"{"linux":{"memoryPolicy":{}}}"#,
                r#"linux.memoryPolicy.mode: invalid memory policy mode """#,
            ),
            (
                r#"{"linux":{"memoryPolicy":{"mode":"MPOL_BIND","flags":["bad"]}}}"#,
                r#"linux.memoryPolicy.flags[0]: invalid memory policy flag "bad""#,
            ),
            (
                r#"{"linux":{"devices":[{"path":"/dev/x"}]}}"#,
                r#"linux.devices[0]: "/dev/x": invalid device type """#,
            ),
            (
                r#"{"linux":{"resources":{"devices":[{"type":"C"}]}}}"#,
                r#"linux.resources.devices[0].type: "C" is not known here"#,
            ),
        ];
        for (text, words) in cases {
            assert_eq!(error(text), words);
        }
    }

    #[test]
    fn a_filter_says_what_it_does() {
        let profile = |rest: &str| error(&format!(r#"{{"linux":{{"seccomp":{{{rest}}}}}}}"#));
        let syscall = |rest: &str| {
            profile(&format!(
                r#""defaultAction":"SCMP_ACT_ALLOW","syscalls":[{{"names":["read"]{rest}}}]"#
            ))
        };
        for (words, rest) in [
            (
                profile(r#""defaultAction":"ALLOW""#),
                "defaultAction: string ALLOW is not a valid action for seccomp",
            ),
            (
                profile(r#""syscalls":[{"names":["read"],"action":"SCMP_ACT_ALLOW"}]"#),
                "defaultAction: string  is not a valid action for seccomp",
            ),
            (
                profile(r#""defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_VAX"]"#),
                "architectures[0]: string SCMP_ARCH_VAX is not a valid arch for seccomp",
            ),
            (
                profile(r#""defaultAction":"SCMP_ACT_ALLOW","flags":["NEW"]"#),
                "flags[0]: seccomp flag NEW is not known",
            ),
            (
                syscall(""),
                "syscalls[0].action: string  is not a valid action for seccomp",
            ),
            (
                syscall(r#","action":"SCMP_ACT_TRAP","args":[{"index":0,"op":"EQ"}]"#),
                "syscalls[0].args[0].op: string EQ is not a valid operator for seccomp",
            ),
            (
                syscall(r#","action":"SCMP_ACT_TRAP","args":[{"index":0,"value":0}]"#),
                "syscalls[0].args[0].op: string  is not a valid operator for seccomp",
            ),
        ] {
            assert_eq!(words, format!("linux.seccomp.{rest}"));
        }
    }

    #[test]
    fn numbers_keep_their_range() {
        let memory: LinuxMemory = testing::read(r#"{"limit":-1,"swap":9223372036854775807}"#);
        assert_eq!((memory.limit(), memory.swap()), (Some(-1), Some(i64::MAX)));
        let rlimit: PosixRlimit =
            testing::read(r#"{"type":"RLIMIT_AS","hard":18446744073709551615}"#);
        assert_eq!(rlimit.hard(), u64::MAX);
        let text = r#"{"hugepageLimits":[{"pageSize":"2MB","limit":18446744073709551615}]}"#;
        let resources: LinuxResources = testing::read(text);
        let limits = resources.hugepage_limits().as_ref().expect("limits");
        assert_eq!(limits[0].limit(), i64::MAX);
    }

    #[test]
    fn sections_that_ask_for_nothing_are_none() {
        for seccomp in ["{}", r#"{"flags":["x"]}"#, r#"{"syscalls":[]}"#] {
            let spec: Spec = testing::read(&format!(r#"{{"linux":{{"seccomp":{seccomp}}}}}"#));
            assert_eq!(*spec.linux().as_ref().expect("linux").seccomp(), None);
        }
        // And a limit of 0 is one.
        let pids = |text: &str| {
            let resources: LinuxResources = testing::read(text);
            resources.pids().map(|pids| pids.limit())
        };
        assert_eq!(pids(r#"{"pids":{"limit":0}}"#), Some(0));
        assert_eq!(pids(r#"{"PIDs":{"Limit":0}}"#), Some(0));
        assert_eq!(pids(r#"{"pids":{}}"#), None);
        assert_eq!(pids(r#"{"pids":null}"#), None);
    }

    #[test]
    fn case_of_names_does_not_matter_as_in_go() {
        let resources: LinuxResources =
            testing::read(r#"{"CPU":{"Cpus":"1","MEMS":"0"},"pids":{"Limit":7}}"#);
        let cpu = resources.cpu().as_ref().expect("cpu");
        assert_eq!(
            (cpu.cpus().as_deref(), cpu.mems().as_deref()),
            (Some("1"), Some("0"))
        );
        assert_eq!(resources.pids().expect("pids").limit(), 7);
        // Where names are the user's, each is its own.
        let text = r#"{"linux":{"sysctl":{"a":"1","A":"2"}},"Annotations":{"x":"1","X":"2"}}"#;
        let spec: Spec = testing::read(text);
        assert_eq!(spec.annotations().as_ref().map(|all| all.len()), Some(2));
    }

    #[test]
    fn flags_of_the_scheduler_are_the_specifications() {
        let text = r#"{"policy":"SCHED_FIFO","flags":["SCHED_FLAG_RESET_ON_FORK","SCHED_FLAG_DL_OVERRUN"]}"#;
        let scheduler: Scheduler = testing::read(text);
        assert_eq!(scheduler.flags().as_ref().map(Vec::len), Some(2));
    }

    #[test]
    fn capabilities_have_one_name_each() {
        for name in crate::plan::capabilities::names(rustix::thread::CapabilitySet::all()) {
            assert!(capability(&name).is_some(), "{name}");
        }
        let process: Process = testing::read(
            r#"{"capabilities":{"bounding":["CAP_KILL","CAP_WINK","CAP_","cap_chown","CHOWN",
                "CAP_chown","CAP_CAP_CHOWN","CAP_ſYSLOG"," CAP_CHOWN","CAP_CHOWN|CAP_SETUID"]}}"#,
        );
        let sets = process.capabilities().as_ref().expect("capabilities");
        assert_eq!(*sets.bounding(), Some([Capability::Kill].into()));
    }

    #[test]
    fn lists_of_cpus_may_have_holes() {
        let text = r#"{"execCPUAffinity":{"initial":" 0-1, ,3","final":""}}"#;
        let process: Process = testing::read(text);
        let affinity = process.exec_cpu_affinity().as_ref().expect("affinity");
        assert_eq!(affinity.initial().as_deref(), Some("0-1,3"));
        assert_eq!(*affinity.cpu_affinity_final(), None);
    }

    #[test]
    fn unknown_fields_are_told_by_place() {
        let seen = std::cell::RefCell::new(Vec::new());
        let text = br#"{"process":{"nice":1},"linux":{"namespaces":[{"type":"pid","kind":1}],
            "seccomp":{"defaultActionn":"SCMP_ACT_ERRNO"}},"uidMappings":[],"x":{}}"#;
        let tell = |place: &Place<'_>, known: &[&str]| {
            let is_process = known.contains(&"cwd");
            seen.borrow_mut().push(format!("{place} {is_process}"));
        };
        read::<Spec>(text, &tell).expect("parses");
        let mut seen = seen.into_inner();
        seen.sort();
        assert_eq!(
            seen,
            [
                "linux.namespaces[0].kind false",
                "linux.seccomp.defaultActionn false",
                "process.nice true",
                "uidMappings false",
                "x false",
            ]
        );
    }
}
