//! Checks docs/spec-coverage.md: it must have a row for every field of the specification, and
//! the tests named in each row must exist.
//!
//! The fields are read from the types of the crate oci-spec, so that fields that are new there
//! are noticed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;

use serde::de::value::StrDeserializer;
use serde::de::{self, Deserialize, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;

use crate::harness::*;

tests![
    every_field_has_a_row,
    every_row_names_a_test,
    a_type_tells_its_fields,
];

/// Sections for other platforms; their fields are left out.
const OTHER_PLATFORMS: [&str; 5] = ["freebsd", "solaris", "vm", "windows", "zos"];

/// Fields of oci-spec 0.10 that are in no version of the specification: id mappings beside
/// `linux`, and two misspelled names.
const NOT_SPECIFIED: [&str; 4] = [
    "uidMappings",
    "gidMappings",
    "linux.intelRdt.enableCmt",
    "linux.intelRdt.enableMbm",
];

fn every_field_has_a_row() {
    needs(&[]);
    let all = all_fields();
    assert!(all.len() > 200, "{}", all.len());
    let rows: BTreeSet<String> = rows().into_keys().collect();
    let missing: Vec<_> = all.difference(&rows).collect();
    let unknown: Vec<_> = rows.difference(&all).collect();
    assert!(
        missing.is_empty(),
        "no row in docs/spec-coverage.md for {missing:#?}"
    );
    assert!(
        unknown.is_empty(),
        "docs/spec-coverage.md names no field of any type: {unknown:#?}"
    );
}

fn every_row_names_a_test() {
    needs(&[]);
    let mut faults = Vec::new();
    for (field, row) in rows() {
        if row.does.is_empty() {
            faults.push(format!("{field}: what teu does is not told"));
        }
        if row.tests.is_empty() {
            faults.push(format!("{field}: no test"));
        }
        let missing = row.tests.iter().filter(|test| !is_test(test));
        faults.extend(missing.map(|test| format!("{field}: there is no test {test}")));
    }
    assert!(
        faults.is_empty(),
        "docs/spec-coverage.md:\n  {}",
        faults.join("\n  ")
    );
}

/// All fields of the specification: those of oci-spec, corrected.
fn all_fields() -> BTreeSet<String> {
    let mut fields = fields::<oci_spec::runtime::Spec>();
    fields.retain(|field| !is_below(field, &NOT_SPECIFIED));
    fields.extend(LACKING.map(str::to_owned));
    fields
}

/// Whether the field is in `fields` or below a field in it.
fn is_below(field: &str, fields: &[&str]) -> bool {
    let mut rest = fields.iter().filter_map(|start| field.strip_prefix(start));
    rest.any(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// Fields that oci-spec 0.10 lacks. It has two of them misspelled.
const LACKING: [&str; 3] = [
    "freebsd",
    "linux.intelRdt.enableCMT",
    "linux.intelRdt.enableMBM",
];

/// The table's row of a field.
struct Row {
    does: String,
    /// Tests, such as `plan/src/hooks.rs::what_is_no_hook`.
    tests: Vec<String>,
}

/// The rows of all tables by field. No field may have two rows.
fn rows() -> BTreeMap<String, Row> {
    let text = fs::read_to_string(repository("docs/spec-coverage.md")).unwrap();
    let mut rows = BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [field, does, tests] = cells[..] else {
            panic!("a row of {} cells: {line}", cells.len());
        };
        let tests = tests
            .split_whitespace()
            .map(|test| test.trim_matches(['`', ',']).to_owned());
        let row = Row {
            does: does.to_owned(),
            tests: tests.collect(),
        };
        let field = field.trim_matches('`').to_owned();
        assert!(rows.insert(field, row).is_none(), "a second row: {line}");
    }
    rows
}

/// Whether `file::test` is a test. Files beside this one list theirs in `tests!`; others mark
/// them with `#[test]`.
pub(crate) fn is_test(name: &str) -> bool {
    let Some((file, function)) = name.split_once("::") else {
        return false;
    };
    let text = fs::read_to_string(repository(file)).unwrap_or_default();
    if file.starts_with("tests/") {
        let list = text.split_once("\ntests![").map_or("", |(_, rest)| rest);
        let list = list.split(']').next().unwrap_or_default();
        return list.split(',').any(|test| test.trim() == function);
    }
    let mut lines = text.lines().map(str::trim);
    let start = format!("fn {function}()");
    let mut is_marked = false;
    lines.any(|line| {
        if line.starts_with(&start) && is_marked {
            return true;
        }
        is_marked = line == "#[test]" || is_marked && line.starts_with("#[");
        false
    })
}

/// The names of all fields of `T`: `a.b`, `list[].c`, `map.*.d`.
fn fields<'de, T: Deserialize<'de>>() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let value = Fields {
        path: String::new(),
        names: &mut names,
    };
    if let Err(Unwanted(message)) = T::deserialize(value) {
        panic!("after {names:#?}: {message}");
    }
    names
}

/// A deserializer with a value for every field that a type asks for. It notes their names.
/// Options are present; lists and maps have a single entry.
struct Fields<'a> {
    path: String,
    names: &'a mut BTreeSet<String>,
}

/// A text that the type of a field accepts, because some types of oci-spec parse texts.
fn word(path: &str) -> &'static str {
    match path.rsplit_once('.') {
        Some(("process.capabilities", _)) => "CAP_KILL",
        Some(("process.execCPUAffinity", _)) => "0",
        _ => "",
    }
}

/// The fields of a struct.
struct Members<'a> {
    path: String,
    left: std::slice::Iter<'static, &'static str>,
    current: String,
    names: &'a mut BTreeSet<String>,
}

/// The only entry of a list or map.
struct Entry<'a>(Option<Fields<'a>>);

/// The error of a type that refuses its value.
#[derive(Debug)]
struct Unwanted(String);

impl fmt::Display for Unwanted {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Unwanted {}

impl de::Error for Unwanted {
    fn custom<T: fmt::Display>(message: T) -> Unwanted {
        Unwanted(message.to_string())
    }
}

impl<'de> Deserializer<'de> for Fields<'_> {
    type Error = Unwanted;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Unwanted> {
        visitor.visit_map(Members {
            path: self.path,
            left: fields.iter(),
            current: String::new(),
            names: self.names,
        })
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unwanted> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Unwanted> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unwanted> {
        let path = format!("{}[]", self.path);
        visitor.visit_seq(Entry(Some(Fields {
            path,
            names: self.names,
        })))
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unwanted> {
        let path = format!("{}.*", self.path);
        visitor.visit_map(Entry(Some(Fields {
            path,
            names: self.names,
        })))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Unwanted> {
        visitor.visit_enum(StrDeserializer::new(variants[0]))
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unwanted> {
        visitor.visit_bool(false)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unwanted> {
        visitor.visit_str(word(&self.path))
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unwanted> {
        visitor.visit_str(word(&self.path))
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unwanted> {
        visitor.visit_u8(0)
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char bytes byte_buf unit unit_struct
        tuple tuple_struct identifier ignored_any
    }
}

impl<'de> MapAccess<'de> for Members<'_> {
    type Error = Unwanted;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Unwanted> {
        let is_foreign = |field: &str| self.path.is_empty() && OTHER_PLATFORMS.contains(&field);
        for field in self.left.by_ref() {
            self.current = match self.path.as_str() {
                "" => (*field).to_owned(),
                path => format!("{path}.{field}"),
            };
            self.names.insert(self.current.clone());
            if !is_foreign(field) {
                return seed.deserialize(StrDeserializer::new(field)).map(Some);
            }
        }
        Ok(None)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Unwanted> {
        let path = std::mem::take(&mut self.current);
        seed.deserialize(Fields {
            path,
            names: &mut *self.names,
        })
    }
}

impl<'de> SeqAccess<'de> for Entry<'_> {
    type Error = Unwanted;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Unwanted> {
        self.0
            .take()
            .map(|value| seed.deserialize(value))
            .transpose()
    }
}

impl<'de> MapAccess<'de> for Entry<'_> {
    type Error = Unwanted;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Unwanted> {
        let key = StrDeserializer::new("key");
        self.0.is_some().then(|| seed.deserialize(key)).transpose()
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Unwanted> {
        let value = self.0.take();
        seed.deserialize(value.ok_or_else(|| de::Error::custom("a value without a key"))?)
    }
}

fn a_type_tells_its_fields() {
    needs(&[]);
    let names = all_fields();
    for name in [
        "process.scheduler.runtime",
        "mounts[].uidMappings[].hostID",
        "linux.timeOffsets.*.secs",
        "windows",
    ] {
        assert!(names.contains(name), "{name} is not among {names:#?}");
    }
    assert!(is_test("plan/src/hooks.rs::what_is_no_hook"));
    assert!(is_test("tests/coverage.rs::a_type_tells_its_fields"));
    for name in [
        "tests/coverage.rs::fields",
        "plan/src/hooks.rs::list",
        "src/nowhere.rs::x",
    ] {
        assert!(!is_test(name), "{name}");
    }
}
