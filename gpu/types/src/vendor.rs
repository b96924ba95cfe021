//! The vendors of GPUs.

use std::str::FromStr;

use serde::Serialize;

/// The vendor of a GPU, on which the files and nodes depend that it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Vendor {
    /// NVIDIA, with its own driver.
    Nvidia,
    /// AMD.
    Amd,
    /// Intel.
    Intel,
    /// Any other vendor with nodes in /dev/dri.
    Drm,
}

impl Vendor {
    /// All vendors, in the order in which GPUs are searched.
    pub const ALL: [Vendor; 4] = [Vendor::Nvidia, Vendor::Amd, Vendor::Intel, Vendor::Drm];

    /// Returns the word for the vendor.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Vendor::Nvidia => "nvidia",
            Vendor::Amd => "amd",
            Vendor::Intel => "intel",
            Vendor::Drm => "drm",
        }
    }

    /// Returns the kind of the vendor's devices in CDI files.
    #[must_use]
    pub fn kind(self) -> &'static str {
        match self {
            Vendor::Nvidia => "nvidia.com/gpu",
            Vendor::Amd => "amd.com/gpu",
            Vendor::Intel => "intel.com/gpu",
            Vendor::Drm => "drm/gpu",
        }
    }

    /// Returns the vendor of a kind of devices in CDI files.
    #[must_use]
    pub fn of_kind(kind: &str) -> Option<Vendor> {
        Vendor::ALL.into_iter().find(|vendor| vendor.kind() == kind)
    }
}

impl FromStr for Vendor {
    type Err = String;

    fn from_str(word: &str) -> Result<Vendor, String> {
        let mut all = Vendor::ALL.into_iter();
        all.find(|vendor| vendor.word() == word).ok_or_else(|| {
            let words = Vendor::ALL.map(Vendor::word).join(", ");
            format!("driver {word:?}: not one of {words}")
        })
    }
}
