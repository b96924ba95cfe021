//! `-info` tells containerd the runtime's features; `-v` prints the version for people.

use std::io::{self, Read, Write};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use prost::Message;

use crate::Runtime;
use crate::invocation::Invocation;
use crate::options::Options;
use crate::proto::Any;
use crate::proto::types::{RuntimeInfo, RuntimeVersion};

/// The type by which Go programs know the JSON of `features`.
const FEATURES: &str = "types.containerd.io/opencontainers/runtime-spec/1/features/Features";

/// Writes a [`RuntimeInfo`] to stdout. Options may come on stdin.
pub(crate) fn info(invocation: &Invocation, runtime: &dyn Runtime) -> Result<()> {
    let mut stdin = Vec::new();
    io::stdin().read_to_end(&mut stdin).context("read stdin")?;
    let asked = Any::decode(stdin.as_slice()).context("read stdin")?;
    let options = Options::read(Some(&asked))?;
    let features = match options.binary_name.as_str() {
        "" => runtime.features()?,
        other => features_of(other)?,
    };
    let info = RuntimeInfo {
        name: runtime_name(&invocation.program),
        version: Some(RuntimeVersion {
            version: runtime.version().to_owned(),
            revision: runtime.revision().to_owned(),
        }),
        options: (asked != Any::default()).then(|| Any::new(&options)),
        features: Some(Any {
            type_url: FEATURES.to_owned(),
            value: features,
        }),
        ..RuntimeInfo::default()
    };
    let mut stdout = io::stdout();
    stdout
        .write_all(&info.encode_to_vec())
        .context("write the answer")?;
    stdout.flush().context("write the answer")
}

fn features_of(other: &str) -> Result<Vec<u8>> {
    let output = Command::new(other)
        .arg("features")
        .stdin(Stdio::null())
        .output();
    let output = output.with_context(|| format!("run {other:?}"))?;
    ensure!(
        output.status.success(),
        "{other:?} does not report its features"
    );
    Ok(output.stdout)
}

/// The runtime's name in containerd's configuration, derived from the program's name.
fn runtime_name(program: &str) -> String {
    let name = program.strip_prefix("containerd-shim-").unwrap_or(program);
    match name.rsplit_once('-') {
        Some((name, version)) => format!("io.containerd.{name}.{version}"),
        None => name.to_owned(),
    }
}

/// Writes the version to stdout.
pub(crate) fn version(invocation: &Invocation, runtime: &dyn Runtime) -> Result<()> {
    let mut stdout = io::stdout();
    let written = writeln!(
        stdout,
        "{}:\n  Version:  {}\n  Revision: {}",
        invocation.program,
        runtime.version(),
        runtime.revision()
    );
    written.context("write the version")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_is_containerds() {
        assert_eq!(
            runtime_name("containerd-shim-teu-v2"),
            "io.containerd.teu.v2"
        );
        assert_eq!(
            runtime_name("containerd-shim-my-own-v2"),
            "io.containerd.my-own.v2"
        );
        assert_eq!(runtime_name("teu"), "teu");
    }
}
