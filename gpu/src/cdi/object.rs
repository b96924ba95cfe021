//! How objects of a file are read: strictly, but as the library of the Container
//! Device Interface, which is written in Go, does it. So the case of a name does
//! not matter, and `null` is nothing.

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
                        let mut object = $object::default();
                        let mut seen: Vec<&str> = Vec::new();
                        while let Some(name) = map.next_key::<String>()? {
                            $(if name.eq_ignore_ascii_case($name) {
                                if seen.contains(&$name) {
                                    return Err(A::Error::duplicate_field($name));
                                }
                                seen.push($name);
                                let value = map.next_value::<Option<$type>>()?;
                                object.$field = value.unwrap_or_default();
                                continue;
                            })*
                            return Err(A::Error::unknown_field(&name, &[$($name),*]));
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
