//! What containerd says on stdin when it starts a shim, and is told on stdout.
//!
//! Since 2.3 both are messages. Before, stdin has the runtime's options, if anything,
//! and stdout an address, which implies version 2 of the task service, or JSON with a
//! version. JSON is too new for containerd 1.6, and version 3 for 1.7, which passes the
//! same flags and environment as 2.0 to 2.2. So the answer is an address, which all of
//! them read; it costs those of 2.x a `start` and a `delete` for each container of a
//! pod.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use prost::Message;

use crate::invocation::Invocation;
use crate::options::Options;
use crate::proto::Any;
use crate::proto::bootstrap::{BootstrapParams, BootstrapResult};

const SOCKET_DIR: &str = "/run/containerd/s";

/// Of log/slog.
const DEBUG: i32 = -4;

/// How containerd talks to those who start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    /// By flags and the environment.
    Flags,
    /// By messages.
    Messages,
}

/// What is said of the server that is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bootstrap {
    protocol: Protocol,
    /// Where containerd's clients connect.
    pub(crate) address: String,
    /// Where events go.
    pub(crate) events_address: String,
    /// Where the server's socket goes.
    pub(crate) socket_dir: PathBuf,
    /// How the runtime is to be run.
    pub(crate) options: Options,
    /// Whether the log is to say more.
    pub(crate) debug: bool,
}

impl Bootstrap {
    /// Puts what came on stdin beside what the command line says.
    pub(crate) fn read(stdin: &[u8], invocation: &Invocation) -> Result<Bootstrap> {
        if let Ok(params) = BootstrapParams::decode(stdin)
            && params.instance_id == invocation.id
            && params.namespace == invocation.namespace
        {
            return Bootstrap::of_messages(params);
        }
        // A message with more than an Any is one that is meant for someone else.
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

    /// What stdout is to say of a server at this address.
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
