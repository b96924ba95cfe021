//! The parameters that containerd writes to stdin when it starts a shim, and the answer on
//! stdout.
//!
//! Since containerd 2.3 both are messages. Earlier versions write the runtime's options to
//! stdin, or nothing, and read from stdout either an address, which implies version 2 of
//! the task service, or JSON with a version. containerd 1.6 does not read JSON, and 1.7
//! does not know version 3, but passes the same flags and environment as 2.0 to 2.2. So
//! the answer is an address, which all of them read. Its cost for 2.0 to 2.2 is a `start`
//! and a `delete` for each container of a pod.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use prost::Message;

use crate::invocation::Invocation;
use crate::options::Options;
use crate::proto::Any;
use crate::proto::bootstrap::{BootstrapParams, BootstrapResult};

const SOCKET_DIR: &str = "/run/containerd/s";

/// The level `Debug` of Go's log/slog.
const DEBUG: i32 = -4;

/// The way in which containerd passes parameters to a shim that it starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    /// Flags and the environment.
    Flags,
    /// Messages on stdin and stdout.
    Messages,
}

/// The parameters of the server to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bootstrap {
    protocol: Protocol,
    /// The address where containerd's clients connect.
    pub(crate) address: String,
    /// The address to which events are sent.
    pub(crate) events_address: String,
    /// The directory of the server's socket.
    pub(crate) socket_dir: PathBuf,
    /// The options of the runtime.
    pub(crate) options: Options,
    /// Whether debug messages are logged.
    pub(crate) debug: bool,
}

impl Bootstrap {
    /// Combines the contents of stdin with the command line.
    pub(crate) fn read(stdin: &[u8], invocation: &Invocation) -> Result<Bootstrap> {
        if let Ok(params) = BootstrapParams::decode(stdin)
            && params.instance_id == invocation.id
            && params.namespace == invocation.namespace
        {
            return Bootstrap::of_messages(params);
        }
        // A message with more fields than an Any is meant for another container's shim.
        let options = Any::decode(stdin).context("read stdin")?;
        ensure!(
            options.encoded_len() == stdin.len(),
            "bootstrap parameters do not match command-line arguments"
        );
        Ok(Bootstrap {
            protocol: Protocol::Flags,
            address: invocation.address.clone(),
            events_address: invocation.events_address.clone(),
            socket_dir: SOCKET_DIR.into(),
            options: Options::read(Some(&options))?,
            debug: invocation.debug,
        })
    }

    fn of_messages(params: BootstrapParams) -> Result<Bootstrap> {
        let extensions = params.extensions.into_iter();
        let options = extensions
            .filter_map(|extension| extension.value)
            .find(Options::is_in);
        let socket_dir = params.socket_dir.filter(|dir| !dir.is_empty());
        Ok(Bootstrap {
            protocol: Protocol::Messages,
            address: params.containerd_grpc_address,
            events_address: params.containerd_ttrpc_address,
            socket_dir: socket_dir.unwrap_or_else(|| SOCKET_DIR.to_owned()).into(),
            options: Options::read(options.as_ref())?,
            debug: params.log_level <= DEBUG,
        })
    }

    /// Returns the answer for stdout: the server listens at `address`.
    pub(crate) fn answer(&self, address: String) -> Vec<u8> {
        match self.protocol {
            Protocol::Flags => address.into_bytes(),
            Protocol::Messages => BootstrapResult {
                version: 3,
                address,
                protocol: "ttrpc".to_owned(),
                ..BootstrapResult::default()
            }
            .encode_to_vec(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invocation::Action;
    use crate::proto::bootstrap::Extension;
    use std::path::Path;

    fn invocation() -> Invocation {
        Invocation {
            program: "shim".to_owned(),
            action: Action::Start,
            namespace: "ns".to_owned(),
            id: "abc".to_owned(),
            address: "/flag".to_owned(),
            events_address: "/env".to_owned(),
            bundle: PathBuf::new(),
            debug: false,
        }
    }

    fn options() -> Options {
        Options {
            shim_cgroup: "/shims".to_owned(),
            ..Options::default()
        }
    }

    fn params() -> BootstrapParams {
        let other = Any {
            type_url: "other".to_owned(),
            value: vec![0xff],
        };
        let extensions = [other, Any::new(&options())];
        BootstrapParams {
            instance_id: "abc".to_owned(),
            namespace: "ns".to_owned(),
            log_level: -8,
            containerd_ttrpc_address: "/ttrpc".to_owned(),
            containerd_grpc_address: "/grpc".to_owned(),
            extensions: extensions
                .map(|value| Extension { value: Some(value) })
                .into(),
            ..BootstrapParams::default()
        }
    }

    #[test]
    fn flags_are_told_by_what_is_not_a_message_for_us() {
        let none = Bootstrap::read(b"", &invocation()).unwrap();
        assert_eq!(none.protocol, Protocol::Flags);
        assert_eq!(
            (none.address.as_str(), none.events_address.as_str()),
            ("/flag", "/env")
        );
        assert_eq!(none.options, Options::default());

        let stdin = Any::new(&options()).encode_to_vec();
        let bootstrap = Bootstrap::read(&stdin, &invocation()).unwrap();
        assert_eq!(
            bootstrap,
            Bootstrap {
                options: options(),
                ..none
            }
        );
        assert_eq!(bootstrap.answer("unix:///s".to_owned()), b"unix:///s");
    }

    #[test]
    fn messages_say_more_than_flags() {
        let stdin = params().encode_to_vec();
        let bootstrap = Bootstrap::read(&stdin, &invocation()).unwrap();
        assert_eq!(bootstrap.protocol, Protocol::Messages);
        assert_eq!(bootstrap.options, options());
        assert_eq!(bootstrap.socket_dir, Path::new("/run/containerd/s"));
        assert!(bootstrap.debug);
        assert_eq!(
            (
                bootstrap.address.as_str(),
                bootstrap.events_address.as_str()
            ),
            ("/grpc", "/ttrpc")
        );
        assert_eq!(
            bootstrap.answer("unix:///s".to_owned()),
            b"\x08\x03\x12\x09unix:///s\x1a\x05ttrpc"
        );

        let elsewhere = BootstrapParams {
            socket_dir: Some("/s".to_owned()),
            ..params()
        };
        let bootstrap = Bootstrap::read(&elsewhere.encode_to_vec(), &invocation()).unwrap();
        assert_eq!(bootstrap.socket_dir, Path::new("/s"));
    }

    #[test]
    fn messages_for_others_are_refused() {
        let others = BootstrapParams {
            instance_id: "other".to_owned(),
            ..params()
        };
        assert_eq!(
            Bootstrap::read(&others.encode_to_vec(), &invocation())
                .unwrap_err()
                .to_string(),
            "bootstrap parameters do not match command-line arguments"
        );
        assert!(Bootstrap::read(b"{}", &invocation()).is_err());
        let unknown = Any {
            type_url: "other".to_owned(),
            value: Vec::new(),
        };
        assert!(Bootstrap::read(&unknown.encode_to_vec(), &invocation()).is_err());
    }
}
