//! DECIDE: from the bundle's specification and the host's facts to plain data
//! that `init/` and the host side carry out. Changes nothing, has no `sys`.
//!
//! Each file has its counterpart of the same name in `init/`.

pub(crate) mod capabilities;
pub(crate) mod cgroup;
pub(crate) mod check;
pub(crate) mod devices;
pub(crate) mod id_list;
pub(crate) mod lsm;
pub(crate) mod memory_policy;
pub(crate) mod mount_options;
pub(crate) mod mounts;
pub(crate) mod namespaces;
pub(crate) mod process;
pub(crate) mod rootfs;
pub(crate) mod scheduling;
