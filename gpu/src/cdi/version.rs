//! The versions of the format, and the version that each feature needs.

use super::file::{ContainerEdits, File};

/// All versions, in order.
const VERSIONS: [&str; 10] = [
    "0.1.0", "0.2.0", "0.3.0", "0.4.0", "0.5.0", "0.6.0", "0.7.0", "0.8.0", "1.0.0", NEWEST,
];
/// The newest version that is read.
pub const NEWEST: &str = "1.1.0";

fn number(version: &str) -> Option<usize> {
    VERSIONS.iter().position(|known| *known == version)
}

impl File {
    /// The lowest version of the format that has all features in use.
    #[must_use]
    pub fn lowest_version(&self) -> &'static str {
        lowest(self).0
    }

    /// Checks that the file's version exists, and has all features in use.
    ///
    /// # Errors
    /// The version does not exist, or is too low.
    pub(super) fn check_version(&self) -> Result<(), String> {
        let given = &self.cdi_version;
        let given_number = number(given.strip_prefix('v').unwrap_or(given)).ok_or_else(|| {
            format!(
                "invalid version {given:?}: not one of {}",
                VERSIONS.join(", ")
            )
        })?;
        let (version, what) = lowest(self);
        match number(version) > Some(given_number) {
            true => Err(format!(
                "the spec version must be at least v{version}, not {given:?}: it has {what}"
            )),
            false => Ok(()),
        }
    }
}

/// The lowest version that has all features in use, and the feature that needs it.
fn lowest(file: &File) -> (&'static str, String) {
    let needs = needs(file).into_iter();
    needs
        .max_by_key(|(version, _)| number(version))
        .unwrap_or_default()
}

/// The versions needed by features that not all versions have.
fn needs(file: &File) -> Vec<(&'static str, String)> {
    let mut needs = vec![("0.3.0", "devices".to_owned())];
    let mut need = |version, what: &str| needs.push((version, what.to_owned()));
    if !file.annotations.is_empty() {
        need("0.6.0", "annotations");
    }
    if file
        .kind
        .rsplit('/')
        .next()
        .is_some_and(|class| class.contains('.'))
    {
        need("0.6.0", "a dot in the class");
    }
    for device in &file.devices {
        if !device
            .name
            .starts_with(|first: char| first.is_ascii_alphabetic())
        {
            need(
                "0.5.0",
                &format!(
                    "the device name {:?}, which begins with a digit",
                    device.name
                ),
            );
        }
        if !device.annotations.is_empty() {
            need("0.6.0", &format!("annotations of device {:?}", device.name));
        }
    }
    let devices = file.devices.iter().map(|device| &device.container_edits);
    for edits in devices.chain([&file.container_edits]) {
        edits_need(edits, &mut need);
    }
    needs
}

fn edits_need(edits: &ContainerEdits, need: &mut impl FnMut(&'static str, &str)) {
    if edits.mounts.iter().any(|mount| !mount.kind.is_empty()) {
        need("0.4.0", "the type of a mount");
    }
    if edits
        .device_nodes
        .iter()
        .any(|node| !node.host_path.is_empty())
    {
        need("0.5.0", "hostPath of a device node");
    }
    if !edits.additional_gids.is_empty() {
        need("0.7.0", "additionalGids");
    }
    if let Some(rdt) = &edits.intel_rdt {
        need("0.7.0", "intelRdt");
        if !rdt.schemata.is_empty() || rdt.enable_monitoring {
            need("1.1.0", "schemata or enableMonitoring of intelRdt");
        }
    }
    if !edits.net_devices.is_empty() {
        need("1.1.0", "netDevices");
    }
}
