//! How objects of a file are read: strictly, but as the library of the Container
//! Device Interface, which is written in Go, does it. So the case of a name does
//! not matter, and `null` is nothing.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, Visitor};

/// Whether an object can be as it is.
pub(super) trait Check {
    /// # Errors
    /// What is wrong with it.
    fn check(&self) -> Result<(), String>;
}

/// Whether a field says nothing.
pub(super) fn is_nothing<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// The name of a field, one of these.
pub(super) struct Name(pub(super) &'static [&'static str]);

impl<'de> DeserializeSeed<'de> for Name {
    type Value = &'static str;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<&'static str, D::Error> {
        from.deserialize_identifier(self)
    }
}

impl Visitor<'_> for Name {
    type Value = &'static str;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a field")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<&'static str, E> {
        let mut known = self.0.iter().copied();
        let found = known.find(|known| known.eq_ignore_ascii_case(name));
        found.ok_or_else(|| match teu_spelling::nearest(name, self.0) {
            Some(nearest) => E::custom(format_args!(
                "unknown field `{name}` (is `{nearest}` meant?)"
            )),
            None => E::unknown_field(name, self.0),
        })
    }
}

/// Defines an object by its fields and their names in a file. One that is
/// unknown or there twice is an error.
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
                        let mut seen: Vec<&str> = Vec::new();
                        while let Some(name) = map.next_key_seed(crate::cdi::object::Name(NAMES))? {
                            if seen.contains(&name) {
                                return Err(A::Error::duplicate_field(name));
                            }
                            seen.push(name);
                            match name {
                                $($name => {
                                    let value = map.next_value::<Option<$type>>()?;
                                    object.$field = value.unwrap_or_default();
                                })*
                                other => return Err(A::Error::unknown_field(other, NAMES)),
                            }
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
