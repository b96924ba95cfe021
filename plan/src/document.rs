//! Reads config.json, and other texts that are written like parts of it, into the types
//! of the crate oci-spec. Only `bundle.rs`, `plan/` and the commands that print such a
//! text may use these types.
//!
//! A text becomes a tree first, and the types are read from the tree. Read directly
//! from the text, the types would be too strict: they refuse Go's `null`, a name in
//! another case, and the absence of a field that they require. They would also be too
//! lax: they accept a capability in any spelling, and a list in place of an object.
//! Their `Default` is a container with a shell and capabilities, so [`nothing`] is the
//! value of an absent object.
//!
//! A new field of the specification comes with a newer release of oci-spec. Until then it
//! is unknown and ignored with a warning (`unknown_fields.rs`).

mod json;
mod mend;
pub mod unknown_fields;

use core::cell::OnceCell;
use core::fmt::{self, Display};

use oci_spec::runtime::Capability;
use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor,
};
use serde::{Deserialize, forward_to_deserialize_any};
use serde_json::{Error, Map, Value};

use json::{Only, Tree, ignore_case};
use mend::{TEXTS, mend, refusal, spelled};

use crate::prelude::*;

/// The function that is called for a field that its object does not have. It gets the place
/// of the field and the fields of the object.
pub type TellUnknown<'a> = &'a dyn Fn(&Place<'_>, &[&'static str]);

/// Parses a JSON text. Calls `unknown` for every field that the type does not have,
/// because such fields are allowed (config.md, "Extensibility").
///
/// # Errors
/// Returns an error that names the field if the text is not JSON or the field has the wrong
/// type.
pub fn read<T: DeserializeOwned>(text: &[u8], unknown: TellUnknown<'_>) -> Result<T, String> {
    let Tree(value) = serde_json::from_slice(text).map_err(|err| err.to_string())?;
    read_tree(value, unknown)
}

/// Parses the field `name` of the object in a JSON text. `T` is a struct with this field
/// only. The other fields are passed over: they may have any value and be there twice.
///
/// # Errors
/// Returns an error that names the field if the text is not a JSON object or the field has
/// the wrong type.
pub fn read_only<T: DeserializeOwned>(text: &[u8], name: &'static str) -> Result<T, String> {
    let mut json = serde_json::Deserializer::from_slice(text);
    let value = Only(name).deserialize(&mut json);
    let value = value.and_then(|value| json.end().map(|()| value));
    read_tree(value.map_err(|err| err.to_string())?, &|_, _| {})
}

fn read_tree<T: DeserializeOwned>(value: Value, unknown: TellUnknown<'_>) -> Result<T, String> {
    let reading = Reading {
        unknown,
        failed_at: OnceCell::new(),
    };
    let place = Place {
        parent: None,
        name: Name::Field(""),
        reading: &reading,
    };
    T::deserialize(Node { value, place }).map_err(|err| match reading.failed_at.get() {
        Some(place) => format!("{place}: {err}"),
        None => err.to_string(),
    })
}

/// Returns the value of an absent object: each field that is not an option is empty or
/// 0.
///
/// # Errors
/// Returns an error if the type has no such value, because a word in it must be one of a
/// list.
pub fn nothing<T: DeserializeOwned>() -> Result<T, String> {
    read(b"null", &|_, _| {})
}

/// Parses the name of a capability. oci-spec's reader would accept other spellings, too.
pub fn capability(name: &str) -> Option<Capability> {
    name.strip_prefix("CAP_")?.parse().ok()
}

/// One reading of a document.
struct Reading<'a> {
    unknown: TellUnknown<'a>,
    /// The place of the value that was refused. The crate serde_path_to_error would find
    /// it, too, but copies each name on the way: a twelfth of what `run` executes in user
    /// mode before it clones init.
    failed_at: OnceCell<String>,
}

/// The place of a value in the document, such as `linux.namespaces[2].path`.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    parent: Option<&'a Place<'a>>,
    name: Name<'a>,
    reading: &'a Reading<'a>,
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
            reading: self.reading,
        }
    }

    /// The name of the field; `None` for an item of a list.
    pub fn field(&self) -> Option<&str> {
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

impl fmt::Debug for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Display::fmt(self, f)
    }
}

/// A value of the document.
struct Node<'a> {
    value: Value,
    place: Place<'a>,
}

impl Node<'_> {
    /// Reads a value inside the document. The innermost place is kept if it is refused.
    fn read<'de, S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Error> {
        let place = self.place;
        seed.deserialize(self).inspect_err(|_| {
            place.reading.failed_at.get_or_init(|| place.to_string());
        })
    }
}

fn object(value: Value) -> Result<Map<String, Value>, Error> {
    match value {
        Value::Null => Ok(Map::new()),
        Value::Object(object) => Ok(object),
        other => Err(expected("an object", &other)),
    }
}

/// Splits an object of the type `kind` into the fields with these names. A missing
/// field is null.
fn fields<'a>(
    kind: &str,
    names: &'static [&'static str],
    mut object: Map<String, Value>,
    place: &'a Place<'_>,
) -> Result<Vec<(&'static str, Node<'a>)>, Error> {
    ignore_case(&mut object, names)?;
    mend(kind, &mut object, place)?;
    // Drop two fields of oci-spec's `Spec` that the specification does not have there.
    let is_foreign = |name: &&str| kind == "Spec" && name.ends_with("idMappings");
    let own = names.iter().copied().filter(|name| !is_foreign(name));
    let field = |name| {
        let value = object.remove(name).unwrap_or_default();
        let place = place.below(Name::Field(name));
        (name, Node { value, place })
    };
    let mut fields = Vec::with_capacity(names.len());
    fields.extend(own.map(field));
    for name in object.keys() {
        (place.reading.unknown)(&place.below(Name::Field(name)), names);
    }
    Ok(fields)
}

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
        visitor.visit_enum(StrDeserializer::new(spelled))
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
        visitor.visit_seq(Items(items))
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let Node { value, place } = self;
        let mut object = object(value)?;
        let entries = object.iter_mut().map(|(name, value)| {
            let place = place.below(Name::Field(name));
            let value = value.take();
            (name.as_str(), Node { value, place })
        });
        visitor.visit_map(Entries::new(entries))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        kind: &'static str,
        names: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let Node { value, place } = self;
        let fields = fields(kind, names, object(value)?, &place)?.into_iter();
        visitor.visit_map(Entries::new(fields))
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.value.deserialize_any(visitor)
    }

    forward_to_deserialize_any! {
        i8 i16 u8 f32 f64 char bytes byte_buf unit unit_struct newtype_struct tuple
        tuple_struct identifier ignored_any
    }
}

/// The items of a list.
struct Items<I>(I);

impl<'de, 'a, I: Iterator<Item = Node<'a>>> SeqAccess<'de> for Items<I> {
    type Error = Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Error> {
        self.0.next().map(|node| node.read(seed)).transpose()
    }

    fn size_hint(&self) -> Option<usize> {
        self.0.size_hint().1
    }
}

/// The fields of an object, or the entries of a map.
struct Entries<'a, I> {
    rest: I,
    /// The value of the name that was read last.
    value: Option<Node<'a>>,
}

impl<I> Entries<'_, I> {
    fn new(rest: I) -> Self {
        Entries { rest, value: None }
    }
}

impl<'de, 'a, 'n, I: Iterator<Item = (&'n str, Node<'a>)>> MapAccess<'de> for Entries<'a, I> {
    type Error = Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Error> {
        let Some((name, node)) = self.rest.next() else {
            return Ok(None);
        };
        self.value = Some(node);
        seed.deserialize(StrDeserializer::new(name)).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Error> {
        match self.value.take() {
            Some(node) => node.read(seed),
            None => Err(Error::custom("a value without a name")),
        }
    }

    fn size_hint(&self) -> Option<usize> {
        self.rest.size_hint().1
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

    /// oci-spec's `Default` of these types has capabilities, namespaces and a shell.
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

    /// Go takes the last of two values. Then the value that forbids less could win.
    #[test]
    fn a_field_has_one_value() {
        for (text, words) in [
            (
                r#"{"process":{"noNewPrivileges":true,"noNewPrivileges":false}}"#,
                r#"the field "noNewPrivileges" is there twice and differs at line 1"#,
            ),
            (
                r#"{"linux":{"seccomp":{"flags":["a"]}},"linux":{"seccomp":{"flags":[]}}}"#,
                r#"the field "flags" is there twice and differs at line 1"#,
            ),
            (
                r#"{"process":{"noNewPrivileges":false,"NoNewPrivileges":true}}"#,
                r#"process: the field "noNewPrivileges" is there twice and differs"#,
            ),
            (
                r#"{"root":{"Readonly":true,"READONLY":false}}"#,
                r#"root: the field "readonly" is there twice and differs"#,
            ),
            (
                r#"{"linux":{"resources":{"cpu":{"shares":5},"CPU":{"Shares":6}}}}"#,
                r#"linux.resources.cpu: the field "shares" is there twice and differs"#,
            ),
        ] {
            assert!(error(text).starts_with(words), "{}", error(text));
        }
    }

    #[test]
    fn objects_of_one_name_are_merged() {
        let text = r#"{"linux":{"maskedPaths":["/a"]},"LINUX":{"seccomp":null},
            "linux":{"seccomp":{"defaultAction":"SCMP_ACT_ALLOW"}, "maskedPaths":["/a"]},
            "linux":{"seccomp":null}}"#;
        let spec: Spec = testing::read(text);
        let linux = spec.linux().as_ref().expect("linux");
        assert!(linux.seccomp().is_some());
        assert_eq!(*linux.masked_paths(), Some(vec!["/a".to_owned()]));
    }

    #[test]
    fn a_single_field_is_read_like_the_whole() {
        #[derive(Debug, Deserialize)]
        struct Part {
            process: Option<Process>,
        }
        let part = |text: &str| read_only::<Part>(text.as_bytes(), "process");
        let text = r#"{"mounts":{},"x":[1,{}],"Process":{"cwd":"/a"},"process":{"Args":["b"]}}"#;
        let process = part(text).expect("part").process.expect("process");
        assert_eq!(process.cwd(), std::path::Path::new("/a"));
        assert_eq!(*process.args(), Some(vec!["b".to_owned()]));
        assert!(part(r#"{"root":7}"#).expect("part").process.is_none());
        for (text, words) in [
            (
                r#"{"process":{"user":{"uid":"root"}}}"#,
                "process.user.uid: expected a number",
            ),
            (
                r#"{"process":{"cwd":"/a"},"PROCESS":{"cwd":"/b"}}"#,
                r#"the field "cwd" is there twice and differs"#,
            ),
            ("[]", "invalid type: sequence, expected an object"),
            (r#"{"process":{}} y"#, "trailing characters"),
            (r#"{"root":{]}"#, "key must be a string"),
            ("{", "EOF while parsing"),
        ] {
            let error = part(text).expect_err(text);
            assert!(error.contains(words), "{error}");
        }
    }

    /// An empty text is no value for a field of another type.
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

    /// serde would accept a list of fields for a struct, and a map for a word.
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
        // A limit of 0 is kept: it does not mean that the limit is missing.
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
        let both = r#"{"cpu":{"shares":5,"mems":"0"},"CPU":{"Cpus":"1","mems":"0"}}"#;
        let resources: LinuxResources = testing::read(both);
        let cpu = resources.cpu().as_ref().expect("cpu");
        assert_eq!(
            (cpu.shares(), cpu.cpus().as_deref(), cpu.mems().as_deref()),
            (Some(5), Some("1"), Some("0"))
        );
        // In maps whose keys users choose, case matters.
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
        for name in crate::capabilities::names(crate::capability_set::CapabilitySet::all()) {
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
