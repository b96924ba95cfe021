//! Refuses settings that teu does not support, and names the field, so that no field is
//! ignored silently. Not for fields that another file of the plan reads.

use anyhow::{Result, bail};

use oci_spec::runtime::Spec;

/// Refuses fields that no other file reads.
///
/// # Errors
/// Returns an error that names the first such field.
pub fn refuse_unsupported(spec: &Spec) -> Result<()> {
    let process = spec.process().as_ref();
    let command_line = process.and_then(|process| process.command_line().as_deref());
    if command_line.is_some_and(|line| !line.is_empty()) {
        bail!("process.commandLine: it is for Windows only; use process.args");
    }
    let linux = spec.linux().as_ref();
    let rdt = linux.and_then(|linux| linux.intel_rdt().as_ref());
    let is_asked = |field: &Option<bool>| *field == Some(true);
    if rdt.is_some_and(|rdt| is_asked(rdt.enable_cmt()) || is_asked(rdt.enable_mbm())) {
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
        refuse_unsupported(&crate::testing::read(config))
    }

    #[test]
    fn what_is_not_built_is_refused_by_name() {
        let cases = [
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
        check(r#"{"linux":{}}"#).expect("asks for nothing");
    }
}
