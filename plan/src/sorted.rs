//! Maps of the specification in the order of their names: theirs is another each time.

use alloc::collections::BTreeMap;

use crate::prelude::*;

/// The entries of a map in the order of their names.
pub(super) fn sorted<V>(map: Option<&HashMap<String, V>>) -> BTreeMap<&str, &V> {
    let entries = map.into_iter().flatten();
    entries
        .map(|(name, value)| (name.as_str(), value))
        .collect()
}
