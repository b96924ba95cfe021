//! teu-cgroups
