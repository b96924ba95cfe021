//! Sorts maps of the specification by name. oci-spec's type is a `HashMap`, which iterates
//! in a random order, so plans would differ from run to run.

use alloc::collections::BTreeMap;

use crate::prelude::*;

/// Returns the entries of a map, sorted by name.
pub(super) fn sorted<V>(map: Option<&HashMap<String, V>>) -> BTreeMap<&str, &V> {
    let entries = map.into_iter().flatten();
    entries
        .map(|(name, value)| (name.as_str(), value))
        .collect()
}
