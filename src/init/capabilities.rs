//! Gives the process its capability sets (capabilities(7)).

use std::os::fd::AsFd;

use anyhow::{Context, Result, bail};
use rustix::thread::{
    CapabilitySets, capabilities, capability_is_in_ambient_set, clear_ambient_capability_set,
    configure_capability_in_ambient_set, remove_capability_from_bounding_set, set_capabilities,
    set_keep_capabilities,
};
use teu_plan::capabilities::{CapabilitiesPlan, names};
use teu_plan::capability_set::CapabilitySet;

use crate::errno;
use crate::procfs::status::Status;

/// Drops the capabilities of `plan.dropped` from the bounding set, and no others, because
/// each drop needs CAP_SETPCAP, even if the capability is not in the set. Must come before
/// the change of user, which takes CAP_SETPCAP away. `status` is the file
/// `/proc/self/status` of this process (proc_pid_status(5)).
///
/// # Errors
/// A drop fails, or succeeds without an effect. The kernel's own list in `status` is read
/// afterwards, because a system call filter may answer a call in place of the kernel.
pub(crate) fn limit_bounding_set(plan: &CapabilitiesPlan, status: impl AsFd) -> Result<()> {
    const DOING: &str = "unable to apply bounding set";
    for capability in each(plan.dropped) {
        remove_capability_from_bounding_set(kernels(capability))
            .with_context(|| format!("{DOING}: drop {}", name(capability)))?;
    }
    let now = Status::read(status).with_context(|| format!("{DOING}: read it"))?;
    match each(now.bounding & plan.dropped).next() {
        None => Ok(()),
        Some(left) => bail!("{DOING}: drop {}: it is still there", name(left)),
    }
}

/// Sets whether the permitted set survives the change from root to another user.
pub(crate) fn keep_over_change_of_user(keep: bool) -> Result<()> {
    set_keep_capabilities(keep).context("set keep capabilities")
}

/// Gives up the capabilities that were kept for steps after the change of user.
pub(crate) fn drop_kept(plan: &CapabilitiesPlan) -> Result<()> {
    if plan.kept.is_empty() {
        return Ok(());
    }
    check(set(plan, CapabilitySet::empty())?, plan.ambient)
}

/// Sets the effective, permitted and inheritable sets (capset(2)) and returns them. The
/// capabilities of `kept` that are permitted now stay effective and permitted as well.
fn set(plan: &CapabilitiesPlan, mut kept: CapabilitySet) -> Result<CapabilitySets> {
    const DOING: &str = "unable to apply caps: can't apply capabilities";
    if !kept.is_empty() {
        let permitted = capabilities(None).context(DOING)?.permitted;
        kept &= CapabilitySet::from_bits_retain(permitted.bits());
    }
    let sets = CapabilitySets {
        effective: kernels(plan.effective | kept),
        permitted: kernels(plan.permitted | kept),
        inheritable: kernels(plan.inheritable),
    };
    set_capabilities(None, sets).context(DOING)?;
    Ok(sets)
}

/// Sets the permitted, effective, inheritable and ambient sets. Must come after the
/// change of user.
///
/// # Errors
/// A set cannot be set, or differs afterwards.
pub(crate) fn apply(plan: &CapabilitiesPlan) -> Result<()> {
    let sets = set(plan, plan.kept)?;
    clear_ambient_capability_set().context("unable to apply caps: clear the ambient set")?;
    for capability in each(plan.ambient) {
        // Only warn, as runc does: engines ask for ambient capabilities that are not
        // inheritable, and mean no harm.
        if let Err(err) = configure_capability_in_ambient_set(kernels(capability), true) {
            log::warn!(
                "can't raise ambient capability {}: {}",
                name(capability),
                errno::text(err)
            );
        }
    }
    check(sets, plan.ambient)
}

/// Checks that the process has exactly `sets`, and no ambient capability outside of
/// `ambient`. Looks only at capabilities that are permitted and inheritable, because
/// the kernel allows no others in the ambient set.
fn check(sets: CapabilitySets, ambient: CapabilitySet) -> Result<()> {
    let now = capabilities(None).context("unable to apply caps: read them")?;
    if now != sets {
        bail!("unable to apply caps: they are {now:?}, not {sets:?}");
    }
    let may_be = sets.permitted & sets.inheritable;
    for capability in each(CapabilitySet::from_bits_retain(may_be.bits()) - ambient) {
        match capability_is_in_ambient_set(kernels(capability)) {
            Ok(false) => {}
            Ok(true) => bail!("unable to apply caps: {} is ambient", name(capability)),
            Err(err) => {
                return Err(err).with_context(|| {
                    format!("unable to apply caps: read ambient {}", name(capability))
                });
            }
        }
    }
    Ok(())
}

/// Each capability of the set, alone, including those without a name.
fn each(set: CapabilitySet) -> impl Iterator<Item = CapabilitySet> {
    (0..u64::BITS)
        .map(|number| CapabilitySet::from_bits_retain(1 << number))
        .filter(move |capability| set.contains(*capability))
}

/// Returns a set as the system calls take it.
fn kernels(set: CapabilitySet) -> rustix::thread::CapabilitySet {
    rustix::thread::CapabilitySet::from_bits_retain(set.bits())
}

fn name(capability: CapabilitySet) -> String {
    let number = || format!("capability {}", capability.bits().trailing_zeros());
    names(capability).next().unwrap_or_else(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use std::fs::File;

    const CHOWN: CapabilitySet = CapabilitySet::CHOWN;
    const KILL: CapabilitySet = CapabilitySet::KILL;

    fn status() -> File {
        File::open("/proc/self/status").expect("status")
    }

    /// Reads the five sets of this process from the kernel.
    fn sets() -> CapabilitiesPlan {
        let status = std::io::read_to_string(status()).expect("status");
        let set = |name: &str| {
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix(name))
                .expect("line");
            CapabilitySet::from_bits_retain(u64::from_str_radix(line.trim(), 16).expect("mask"))
        };
        CapabilitiesPlan {
            bounding: set("CapBnd:"),
            effective: set("CapEff:"),
            inheritable: set("CapInh:"),
            permitted: set("CapPrm:"),
            ambient: set("CapAmb:"),
            ..CapabilitiesPlan::default()
        }
    }

    #[test]
    fn the_kernel_shows_the_sets_of_the_plan() {
        testing::in_child(|| {
            let bounding = CHOWN | KILL | CapabilitySet::NET_BIND_SERVICE;
            let plan = CapabilitiesPlan {
                bounding,
                dropped: sets().bounding - bounding,
                effective: CHOWN | KILL,
                inheritable: KILL,
                permitted: CHOWN | KILL,
                ambient: KILL,
                kept: CapabilitySet::empty(),
            };
            limit_bounding_set(&plan, status()).expect("bounding");
            keep_over_change_of_user(true).expect("keep");
            rustix::thread::set_thread_uid(rustix::process::Uid::from_raw(1000)).expect("uid");
            keep_over_change_of_user(false).expect("keep");
            apply(&plan).expect("apply");
            let dropped = CapabilitySet::empty();
            assert_eq!(sets(), CapabilitiesPlan { dropped, ..plan });
        });
    }

    #[test]
    fn an_ambient_capability_that_cannot_be_is_left_out() {
        testing::in_child(|| {
            let plan = CapabilitiesPlan {
                bounding: CHOWN,
                dropped: sets().bounding - CHOWN,
                permitted: CHOWN,
                ambient: CHOWN,
                ..CapabilitiesPlan::default()
            };
            limit_bounding_set(&plan, status()).expect("bounding");
            apply(&plan).expect("apply");
            let expected = CapabilitiesPlan {
                ambient: CapabilitySet::empty(),
                dropped: CapabilitySet::empty(),
                ..plan
            };
            assert_eq!(sets(), expected);
        });
    }

    #[test]
    fn what_is_not_permitted_cannot_be_applied() {
        testing::in_child(|| {
            apply(&CapabilitiesPlan::default()).expect("drop all");
            let plan = CapabilitiesPlan {
                permitted: CHOWN,
                ..CapabilitiesPlan::default()
            };
            let error = apply(&plan).expect_err("refused");
            assert!(
                error.to_string().contains("can't apply capabilities"),
                "{error}"
            );
        });
    }
}
