//! DECIDE: from the bundle's specification and the host's facts to plain data
//! that `init/` and the host side carry out. No system calls that change
//! anything, no `sys`.
//!
//! Each file has its counterpart of the same name in `init/`.

// The parts are filled in by their files:
//   namespaces.rs  NamespacePlan (with id_maps.rs)
//   rootfs.rs      RootfsPlan: mounts.rs (+ mount_options.rs), devices.rs, masks
//   process.rs     ProcessPlan: user, cwd, args, env, rlimits, scheduler … (+ capabilities.rs, lsm.rs)
//   sysctl.rs, net_devices.rs, intel_rdt.rs, hooks.rs, cgroup.rs, check.rs

pub(crate) mod capabilities;
pub(crate) mod hooks;
pub(crate) mod id_list;
pub(crate) mod intel_rdt;
pub(crate) mod lsm;
pub(crate) mod memory_policy;
pub(crate) mod net_devices;
pub(crate) mod process;
pub(crate) mod scheduling;
pub(crate) mod sysctl;
