//! Refuses, by name, what the specification asks for and teu cannot do: no
//! field is passed over in silence.

use anyhow::{Result, bail};

use crate::spec::Spec;

/// Refuses fields that nothing else looks at.
///
/// # Errors
/// The first such field that is set.
pub(crate) fn refuse_unsupported(spec: &Spec) -> Result<()> {
    let others = [
        ("solaris", spec.solaris.is_some()),
        ("windows", spec.windows.is_some()),
        ("vm", spec.vm.is_some()),
        ("zos", spec.zos.is_some()),
        ("freebsd", spec.freebsd.is_some()),
    ];
    for (field, present) in others {
        if present {
            bail!("{field}: teu makes Linux containers only");
        }
    }
    let process = spec.process.as_ref();
    if process.is_some_and(|process| !process.command_line.is_empty()) {
        bail!("process.commandLine: it is for Windows only; use process.args");
    }
    let Some(linux) = &spec.linux else {
        return Ok(());
    };
    let rdt = linux.intel_rdt.as_ref();
    if rdt.is_some_and(|rdt| rdt.enable_cmt || rdt.enable_mbm) {
        bail!(
            "linux.intelRdt: enableCMT and enableMBM left the specification; use enableMonitoring"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(config: &str) -> Result<()> {
        refuse_unsupported(&serde_json::from_str(config).expect("test input parses"))
    }

    #[test]
    fn other_platforms_and_what_is_not_built_are_refused_by_name() {
        let cases = [
            (r#"{"windows":{}}"#, "windows: "),
            (r#"{"vm":{"kernel":{"path":"/k"}}}"#, "vm: "),
            (
                r#"{"process":{"commandLine":"a b"}}"#,
                "process.commandLine: ",
            ),
            (
                r#"{"linux":{"intelRdt":{"enableCMT":true}}}"#,
                "linux.intelRdt: ",
            ),
        ];
        for (config, words) in cases {
            let error = check(config).expect_err(config).to_string();
            assert!(error.starts_with(words), "{error}");
        }
        check(r#"{"linux":{},"solaris":null}"#).expect("asks for nothing");
    }
}
