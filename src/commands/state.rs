//! `teu state`: prints the state of a container. Not for reading it: see `src/state/`.

use super::output::print;
use crate::json;
use crate::state::{ContainerState, StateDir, Status};
use anyhow::{Context, Result};
use jiff::Timestamp;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// A container in the form of `state` and `list`: the state of the runtime
/// specification (runtime.md, "State") and three more keys, as in runc. The order of
/// the fields is that of the output.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct StateView {
    /// The version of the specification by which the container was made.
    pub(crate) oci_version: String,
    pub(crate) id: String,
    /// The pid of init as the caller sees it; 0 once the container has stopped.
    pub(crate) pid: i32,
    /// "created", "running", "paused" or "stopped".
    pub(crate) status: String,
    /// The bundle's directory, absolute.
    pub(crate) bundle: String,
    /// The root filesystem's directory, absolute.
    pub(crate) rootfs: String,
    /// The time when the container was created, in UTC with nanoseconds, in the form of
    /// Go's `time.RFC3339Nano`.
    pub(crate) created: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) annotations: BTreeMap<String, String>,
    /// The owner of the state directory: a user's name, or "#" and the uid of a user
    /// without a name. Only `list` sets it.
    pub(crate) owner: String,
}

impl StateView {
    /// Looks at the container now.
    ///
    /// # Errors
    /// The status cannot be determined.
    pub(crate) fn new(dir: &StateDir, state: &ContainerState) -> Result<StateView> {
        let status = dir.status(state)?;
        let path = |path: &Path| path.to_string_lossy().into_owned();
        Ok(StateView {
            oci_version: state.oci_version.clone(),
            id: state.id.clone(),
            pid: if status == Status::Stopped {
                0
            } else {
                state.pid
            },
            status: status.word().into(),
            bundle: path(&state.bundle),
            rootfs: path(&state.rootfs),
            created: (Timestamp::UNIX_EPOCH + Duration::from_nanos(state.created)).to_string(),
            annotations: state.annotations.clone(),
            owner: String::new(),
        })
    }
}

/// Prints the state of a container.
///
/// # Errors
/// The container does not exist.
#[inline(never)]
pub(crate) fn state(root: &Path, id: &str) -> Result<()> {
    let (dir, state) = StateDir::load(root, id)?;
    print(&text(&StateView::new(&dir, &state)?)?)
}

/// Writes the state in the form of `teu state`, without a newline at the end, as in
/// runc.
///
/// # Errors
/// The serializer fails; no such case is known.
pub(crate) fn text(view: &StateView) -> Result<Vec<u8>> {
    json::indented(view, "  ").context("write the state as JSON")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn view(id: &str) -> StateView {
        StateView {
            oci_version: "1.3.0".into(),
            id: id.into(),
            pid: 42,
            status: "running".into(),
            bundle: "/b".into(),
            rootfs: "/b/rootfs".into(),
            created: "2026-11-22T17:09:19.5Z".into(),
            annotations: BTreeMap::new(),
            owner: String::new(),
        }
    }

    #[test]
    fn keys_and_indentation_are_runcs() {
        let mut view = view("c1");
        let plain = r#"{
  "ociVersion": "1.3.0",
  "id": "c1",
  "pid": 42,
  "status": "running",
  "bundle": "/b",
  "rootfs": "/b/rootfs",
  "created": "2026-11-22T17:09:19.5Z",
  "owner": ""
}"#;
        assert_eq!(String::from_utf8(text(&view).unwrap()).unwrap(), plain);
        view.annotations = BTreeMap::from([("z".into(), "<1>".into()), ("a".into(), "2".into())]);
        let annotated = String::from_utf8(text(&view).unwrap()).unwrap();
        let expected =
            "  \"annotations\": {\n    \"a\": \"2\",\n    \"z\": \"\\u003c1\\u003e\"\n  },\n";
        assert!(annotated.contains(expected), "{annotated}");
    }
}
