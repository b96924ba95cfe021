//! A container's resource usage, in the messages of containerd's library for cgroups: one
//! for v1 and hybrid hosts, another for v2.
//!
//! The numbers come from the crate teu-cgroups. A number that the kernel does not report
//! is 0.

pub mod v1;
pub mod v2;

use teu_cgroups::Cgroup;

use crate::proto::Any;

/// Reads the statistics of a cgroup, for the answer to `Stats`.
pub fn of(cgroup: &Cgroup) -> Any {
    let stats = cgroup.stats();
    match cgroup.is_v2() {
        true => Any::new(&v2::Metrics::from(stats)),
        false => Any::new(&v1::Metrics::from(stats)),
    }
}

/// Defines a message whose first fields are numbers that the kernel writes into one file
/// under the given names: `field = tag "name"`.
macro_rules! table {
    (
        $(#[$about:meta])*
        $message:ident {
            $($field:ident = $tag:tt $key:literal,)+
        } and {
            $($rest:tt)*
        }
    ) => {
        $(#[$about])*
        #[derive(Clone, PartialEq, prost::Message)]
        pub struct $message {
            $(
                #[doc = concat!("The kernel's number `", $key, "`.")]
                #[prost(uint64, tag = $tag)]
                pub $field: u64,
            )+
            $($rest)*
        }

        impl $message {
            fn from_table(table: &std::collections::BTreeMap<String, u64>) -> $message {
                let number = |name| table.get(name).copied().unwrap_or(0);
                let mut message = $message::default();
                $(message.$field = number($key);)+
                message
            }
        }
    };
}
use table;

#[cfg(test)]
mod tests {
    use super::*;
    use nix::unistd::Pid;
    use prost::Message;

    #[test]
    fn numbers_of_this_process() {
        let cgroup = Cgroup::of_process(Pid::this()).expect("cgroup");
        let any = of(&cgroup);
        let bytes = any.value.as_slice();
        let pids = match cgroup.is_v2() {
            true => v2::Metrics::decode(bytes).unwrap().pids.unwrap().current,
            false => v1::Metrics::decode(bytes).unwrap().pids.unwrap().current,
        };
        // The kernel keeps no counts for the root of a hierarchy, so both are 0.
        assert_eq!(pids == 0, cgroup.usage().pids == 0);
        let own = Pid::this().as_raw();
        assert!(cgroup.processes().expect("processes").contains(&own));
    }
}
