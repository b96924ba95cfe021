//! A JSON document as a tree, for `spec.rs` to take apart. Unlike
//! `serde_json::Value` it has its objects as lists, which suit the handful of
//! fields an object of config.json has better than a map does, and borrows their
//! names from the text.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Number;

/// Any JSON value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Json<'a> {
    Null,
    Bool(bool),
    Number(Number),
    String(String),
    List(Vec<Json<'a>>),
    Object(Object<'a>),
}

/// The fields of an object, in the order of their names. Of fields with the same
/// name, the last one counts.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Object<'a>(Vec<(Cow<'a, str>, Json<'a>)>);

impl<'a> Object<'a> {
    /// These fields, in the order they were written in. All at once: a map of
    /// the user's, such as annotations, may have many.
    fn new(mut fields: Vec<(Cow<'a, str>, Json<'a>)>) -> Object<'a> {
        fields.reverse();
        fields.sort_by(|(one, _), (other, _)| one.cmp(other));
        fields.dedup_by(|(one, _), (other, _)| one == other);
        Object(fields)
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| &**name)
    }

    fn position(&self, name: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(other, _)| (**other).cmp(name))
    }

    pub(crate) fn get_mut(&mut self, name: &str) -> Option<&mut Json<'a>> {
        let position = self.position(name).ok()?;
        Some(&mut self.0[position].1)
    }

    /// Takes a field out.
    pub(crate) fn remove(&mut self, name: &str) -> Option<Json<'a>> {
        let position = self.position(name).ok()?;
        Some(self.0.remove(position).1)
    }

    /// Takes out the fields whose name is such.
    pub(crate) fn remove_if(
        &mut self,
        mut is_such: impl FnMut(&str) -> bool,
    ) -> Vec<(Cow<'a, str>, Json<'a>)> {
        let removed = self.0.extract_if(.., |(name, _)| is_such(name));
        removed.collect()
    }

    /// Adds the fields that only `other` has, also of objects that both have.
    pub(crate) fn add_missing(&mut self, other: Object<'a>) {
        let mut missing = Vec::new();
        for (name, value) in other {
            match (self.get_mut(&name), value) {
                (Some(Json::Object(own)), Json::Object(other)) => own.add_missing(other),
                (Some(_), _) => {}
                (None, value) => missing.push((name, value)),
            }
        }
        if !missing.is_empty() {
            missing.append(&mut self.0);
            *self = Object::new(missing);
        }
    }
}

impl<'a> From<(&'a str, Json<'a>)> for Object<'a> {
    fn from((name, value): (&'a str, Json<'a>)) -> Object<'a> {
        Object(vec![(Cow::Borrowed(name), value)])
    }
}

impl<'a> IntoIterator for Object<'a> {
    type Item = (Cow<'a, str>, Json<'a>);
    type IntoIter = std::vec::IntoIter<Self::Item>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'de> Deserialize<'de> for Json<'de> {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Json<'de>, D::Error> {
        json.deserialize_any(AnyValue)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Json<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E>(self) -> Result<Json<'de>, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json<'de>, E> {
        Ok(Json::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json<'de>, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json<'de>, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json<'de>, E> {
        // JSON has no other floating-point numbers than those that are finite.
        Ok(Number::from_f64(value).map_or(Json::Null, Json::Number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Json<'de>, E> {
        Ok(Json::String(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json<'de>, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Json::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Json<'de>, A::Error> {
        let mut read = Vec::new();
        while let Some(FieldName(name)) = fields.next_key()? {
            read.push((name, fields.next_value()?));
        }
        Ok(Json::Object(Object::new(read)))
    }
}

struct FieldName<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for FieldName<'de> {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<FieldName<'de>, D::Error> {
        json.deserialize_str(Text).map(FieldName)
    }
}

struct Text;

impl<'de> Visitor<'de> for Text {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a field")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Borrowed(text))
    }

    // Where it has escapes in it.
    fn visit_str<E>(self, text: &str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Owned(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Json<'_> {
        serde_json::from_str(text).expect("JSON")
    }

    #[test]
    fn every_kind_of_value_is_read() {
        let text = r#"{"a":[null,true,-1,18446744073709551615,1.5,"x\n"],"b\u0020c":{}}"#;
        let numbers = [
            Json::Number((-1).into()),
            Json::Number(u64::MAX.into()),
            Json::Number(Number::from_f64(1.5).expect("finite")),
        ];
        let [minus, most, half] = numbers;
        let list = vec![
            Json::Null,
            Json::Bool(true),
            minus,
            most,
            half,
            Json::String("x\n".into()),
        ];
        let object = Object(vec![
            ("a".into(), Json::List(list)),
            ("b c".into(), Json::Object(Object::default())),
        ]);
        assert_eq!(read(text), Json::Object(object));
    }

    #[test]
    fn of_two_fields_with_a_name_the_last_counts() {
        let Json::Object(mut object) = read(r#"{"a":1,"b":2,"a":3}"#) else {
            panic!("no object");
        };
        assert_eq!(object.remove("a"), Some(Json::Number(3.into())));
        assert_eq!(object.remove("a"), None);
        assert_eq!(object.names().collect::<Vec<_>>(), ["b"]);
    }

    #[test]
    fn what_is_too_deep_is_refused() {
        let deep = "[".repeat(100_000);
        assert!(serde_json::from_str::<Json<'_>>(&deep).is_err());
    }
}
