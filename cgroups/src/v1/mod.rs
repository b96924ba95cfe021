//! cgroup v1, where each controller, or a few of them together, has a hierarchy.
//!
//! [`steps`] turns limits into writes; the modules are named after the controllers.
//! Making and removing directories is done in `directory` and by `Cgroup`.

pub(crate) mod blkio;
pub(crate) mod cpu;
pub(crate) mod cpuset;
pub(crate) mod freezer;
pub(crate) mod memory;
pub(crate) mod network;
pub(crate) mod stats;

use teu_cgroups_types::Limits;

use crate::both;
use crate::controller::Controller;
use crate::directory::{Directory, Steps};
use crate::error::Result;
pub(crate) use stats::{stats, usage};

/// The container's directory in one v1 hierarchy.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) controllers: Vec<String>,
    pub(crate) directory: Directory,
}

impl Member {
    pub(crate) fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|name| name == controller)
    }
}

/// Returns the steps that set `limits` for one controller.
pub(crate) fn steps(controller: Controller, limits: &Limits) -> Result<Steps> {
    match controller {
        Controller::Cpuset => Ok(cpuset::steps(&limits.cpu)),
        Controller::Pids => Ok(both::pids::steps(limits.pids)),
        Controller::Memory => memory::steps(&limits.memory),
        Controller::BlockIo => Ok(blkio::steps(&limits.block_io)),
        Controller::Cpu => cpu::steps(&limits.cpu),
        Controller::Hugetlb => both::hugetlb::steps(&limits.hugetlb, "limit_in_bytes"),
        Controller::NetworkClass => Ok(network::class_steps(&limits.network)),
        Controller::NetworkPriority => network::priority_steps(&limits.network),
        Controller::Rdma => both::rdma::steps(&limits.rdma),
    }
}
