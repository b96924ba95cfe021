//! Reads a JSON text into a tree in which each field exists once. A repeated name, also
//! in another case, is treated as Go does (package encoding/json, Unmarshal), except
//! that two different values are refused. Not for types: see `document.rs`.

use core::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::map::Entry;
use serde_json::{Error, Map, Value};

use crate::prelude::*;

/// Renames fields that are written in another case. Go accepts "CPU" for "cpu", so
/// callers of runc may write it.
///
/// # Errors
/// Returns an error if a field exists in both spellings, with different values.
pub(super) fn ignore_case(
    object: &mut Map<String, Value>,
    names: &[&'static str],
) -> Result<(), Error> {
    let others = object.keys().filter(|key| !names.contains(&key.as_str()));
    let others: Vec<String> = others.cloned().collect();
    for other in others {
        let meant = names.iter().find(|name| name.eq_ignore_ascii_case(&other));
        if let Some(name) = meant
            && let Some(value) = object.remove(&other)
        {
            add(object, (*name).to_owned(), value)?;
        }
    }
    Ok(())
}

/// Adds a field. If it exists already, the fields of both objects count and null counts
/// as absent, as in Go. Two other values are refused if they differ: Go takes the last,
/// but one value may forbid what the other allows, so a reader must not guess.
fn add<E: serde::de::Error>(
    object: &mut Map<String, Value>,
    name: String,
    value: Value,
) -> Result<(), E> {
    let mut entry = match object.entry(name) {
        Entry::Vacant(entry) => {
            entry.insert(value);
            return Ok(());
        }
        Entry::Occupied(entry) => entry,
    };
    match (entry.get_mut(), value) {
        (Value::Object(own), Value::Object(other)) => {
            for (name, value) in other {
                add(own, name, value)?;
            }
        }
        (own @ Value::Null, other) => *own = other,
        (own, other) if other == Value::Null || *own == other => {}
        _ => {
            let words = format!("the field {:?} is there twice and differs", entry.key());
            return Err(E::custom(words));
        }
    }
    Ok(())
}

/// The tree that a text becomes.
pub(super) struct Tree(pub(super) Value);

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
            add(&mut object, name, value)?;
        }
        Ok(object.into())
    }
}

/// Reads an object into a tree that has only the field of this name, in any case.
pub(super) struct Only(pub(super) &'static str);

impl<'de> DeserializeSeed<'de> for Only {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Only {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(name) = entries.next_key::<String>()? {
            if name.eq_ignore_ascii_case(self.0) {
                let Tree(value) = entries.next_value()?;
                add(&mut object, self.0.to_owned(), value)?;
            } else {
                entries.next_value::<IgnoredAny>()?;
            }
        }
        Ok(object.into())
    }
}
