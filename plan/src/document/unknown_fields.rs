//! Warns of fields that the type of an object does not have.
//!
//! The specification allows such fields (config.md, "Extensibility"), so they are ignored
//! with a warning that names the nearest known field.

use core::fmt;

use super::Place;
use crate::prelude::*;

/// A field that the specification does not know. Such fields are allowed, but one may
/// be a misspelt known field, which then has no effect. Engines that use the
/// specification's types write no such fields.
#[derive(Debug)]
pub struct UnknownField<'a> {
    pub file: &'a Path,
    pub place: &'a Place<'a>,
    pub known: &'a [&'static str],
}

impl fmt::Display for UnknownField<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let UnknownField { file, place, known } = self;
        write!(f, "{}: unknown field {place} is ignored", file.display())?;
        let name = place.field();
        match name.and_then(|name| teu_spelling::nearest(name, known)) {
            Some(nearest) => write!(f, "; is {nearest:?} meant?"),
            None => Ok(()),
        }
    }
}

/// Warns of the field: it is allowed, but has no effect.
pub fn warn(field: &UnknownField<'_>) {
    log::warn!("{field}");
}
