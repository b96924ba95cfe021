//! Deserializes the objects of a CDI file: strictly, but with the rules of CDI's Go library,
//! in which the case of a field's name does not matter and `null` means absent.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, Visitor};

/// Checks the values of an object.
pub(super) trait Check {
    /// Checks the object.
    ///
    /// # Errors
    /// The object is invalid; the error is the reason.
    fn check(&self) -> Result<(), String>;
}

/// Whether a field has its default value.
pub(super) fn is_nothing<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Deserializes the name of a field to its index in this list.
pub(super) struct Name(pub(super) &'static [&'static str]);

impl<'de> DeserializeSeed<'de> for Name {
    type Value = usize;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<usize, D::Error> {
        from.deserialize_identifier(self)
    }
}

impl Visitor<'_> for Name {
    type Value = usize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a field")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<usize, E> {
        let mut known = self.0.iter();
        let found = known.position(|known| known.eq_ignore_ascii_case(name));
        found.ok_or_else(|| match teu_spelling::nearest(name, self.0) {
            Some(nearest) => E::custom(format_args!(
                "unknown field `{name}` (is `{nearest}` meant?)"
            )),
            None => E::unknown_field(name, self.0),
        })
    }
}

/// Defines an object by its fields and their names in a file. An unknown or repeated field is
/// an error.
macro_rules! object {
    ($(#[$about:meta])* $object:ident {
        $($(#[$what:meta])* $field:ident: $type:ty = $name:literal,)*
    }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
        pub struct $object {
            $(
                $(#[$what])*
                #[serde(
                    rename = $name,
                    skip_serializing_if = "crate::cdi::object::is_nothing"
                )]
                pub $field: $type,
            )*
        }

        impl<'de> serde::Deserialize<'de> for $object {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<$object, D::Error> {
                struct Visitor;

                impl<'de> serde::de::Visitor<'de> for Visitor {
                    type Value = $object;

                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str("an object")
                    }

                    fn visit_map<A: serde::de::MapAccess<'de>>(
                        self,
                        mut map: A,
                    ) -> Result<$object, A::Error> {
                        use serde::de::Error;
                        const NAMES: &[&str] = &[$($name),*];
                        let mut object = $object::default();
                        let mut seen = [false; NAMES.len()];
                        while let Some(field) = map.next_key_seed(crate::cdi::object::Name(NAMES))? {
                            if std::mem::replace(&mut seen[field], true) {
                                return Err(A::Error::duplicate_field(NAMES[field]));
                            }
                            let mut fields = 0..;
                            $(if fields.next() == Some(field) {
                                let value = map.next_value::<Option<$type>>()?;
                                object.$field = value.unwrap_or_default();
                                continue;
                            })*
                        }
                        crate::cdi::object::Check::check(&object).map_err(A::Error::custom)?;
                        Ok(object)
                    }
                }

                from.deserialize_map(Visitor)
            }
        }
    };
}
pub(super) use object;
