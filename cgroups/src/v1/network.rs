//! Turns network limits into writes for net_cls and net_prio, which only v1 has.

use teu_cgroups_types::NetworkLimits;

use crate::directory::{Steps, Write};
use crate::error::{Error, Result};

pub(crate) fn class_steps(network: &NetworkLimits) -> Steps {
    let mut steps = Steps::default();
    if let Some(class_id) = network.class_id.filter(|&class_id| class_id != 0) {
        steps.write(Write::new("network.classID", "net_cls.classid", class_id));
    }
    steps
}

pub(crate) fn priority_steps(network: &NetworkLimits) -> Result<Steps> {
    let mut steps = Steps::default();
    let field = "network.priorities";
    for (interface, priority) in &network.priorities {
        if interface.is_empty() || interface.contains(char::is_whitespace) {
            let reason = format!("{interface:?} is not an interface name");
            return Err(Error::refused(field, reason));
        }
        steps.write(Write::new(
            field,
            "net_prio.ifpriomap",
            format!("{interface} {priority}"),
        ));
    }
    Ok(steps)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table() {
        let network = NetworkLimits {
            class_id: Some(0x10_0001),
            priorities: vec![("lo".into(), 3), ("eth0".into(), 5)],
        };
        assert_eq!(class_steps(&network).lines(), ["net_cls.classid=1048577"]);
        assert_eq!(
            priority_steps(&network).unwrap().lines(),
            ["net_prio.ifpriomap=lo 3", "net_prio.ifpriomap=eth0 5"]
        );
        let network = NetworkLimits {
            class_id: None,
            priorities: vec![("a b".into(), 1)],
        };
        assert!(priority_steps(&network).is_err());
    }
}
