//! The server's socket: its path, whether a server listens on it, and its removal.

use std::fs::{self, DirBuilder, Permissions};
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use hmac_sha256::Hash;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

const SCHEME: &str = "unix://";

/// The file in the bundle with the socket's address. containerd 1 reconnects with it, and
/// `delete` finds the socket that a killed server left.
const FILE: &str = "address";

/// The socket of a group's server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Socket(PathBuf);

impl Socket {
    /// The socket of a group of containers. The path depends on the namespace and on
    /// containerd's address, too, because groups may have equal names there.
    pub(crate) fn new(dir: &Path, containerd: &str, namespace: &str, group: &str) -> Socket {
        let hash = Hash::hash(format!("{containerd}/{namespace}/{group}").as_bytes());
        let name: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        Socket(dir.join(name))
    }

    /// The socket of a listener.
    pub(crate) fn of(listener: &UnixListener) -> Option<Socket> {
        let address = listener.local_addr().ok()?;
        address.as_pathname().map(|path| Socket(path.to_owned()))
    }

    /// The directory of the sockets of all groups.
    pub(crate) fn directory(&self) -> Option<&Path> {
        self.0.parent()
    }

    /// The address that containerd is given.
    pub(crate) fn address(&self) -> String {
        format!("{SCHEME}{}", self.0.display())
    }

    /// Listens on the socket. Returns nothing if a server already does.
    pub(crate) fn listen(&self) -> Result<Option<Listening>> {
        if let Some(dir) = self.0.parent() {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
            made.with_context(|| format!("make directory {dir:?}"))?;
        }
        let listener = match UnixListener::bind(&self.0) {
            Err(err) if err.kind() == ErrorKind::AddrInUse => {
                if self.is_served() {
                    return Ok(None);
                }
                self.remove()?;
                UnixListener::bind(&self.0)
            }
            listener => listener,
        };
        let listener = listener.with_context(|| format!("listen on {:?}", self.0))?;
        let listening = Listening {
            listener,
            socket: Some(self.clone()),
        };
        // The directory's mode kept other users out until here.
        fs::set_permissions(&self.0, Permissions::from_mode(0o600))
            .with_context(|| format!("set the mode of {:?}", self.0))?;
        Ok(Some(listening))
    }

    /// Whether a server listens on the socket.
    pub(crate) fn is_served(&self) -> bool {
        let connected = || {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
            connect(socket, &SocketAddrUnix::new(&self.0)?)
        };
        // EAGAIN means that the backlog of a server is full.
        matches!(connected(), Ok(()) | Err(Errno::AGAIN))
    }

    /// Removes the socket's file.
    pub(crate) fn remove(&self) -> Result<()> {
        match fs::remove_file(&self.0) {
            Err(err) if err.kind() != ErrorKind::NotFound => {
                Err(err).with_context(|| format!("remove {:?}", self.0))
            }
            _ => Ok(()),
        }
    }

    /// Writes the address into a bundle.
    pub(crate) fn note_in(&self, bundle: &Path) -> Result<()> {
        let path = bundle.join(FILE);
        fs::write(&path, self.address()).with_context(|| format!("write {path:?}"))
    }

    /// Reads the address from a bundle.
    pub(crate) fn noted_in(bundle: &Path) -> Option<Socket> {
        let address = fs::read_to_string(bundle.join(FILE)).ok()?;
        address.strip_prefix(SCHEME).map(|path| Socket(path.into()))
    }
}

/// A socket on which no server accepts yet. Dropping it removes the file.
#[derive(Debug)]
pub(crate) struct Listening {
    listener: UnixListener,
    socket: Option<Socket>,
}

impl Listening {
    /// Duplicates the descriptor, for the server.
    pub(crate) fn descriptor(&self) -> Result<OwnedFd> {
        Ok(self
            .listener
            .try_clone()
            .context("copy the socket's descriptor")?
            .into())
    }

    /// Leaves the socket to the server.
    pub(crate) fn keep(mut self) {
        self.socket = None;
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        if let Some(Err(err)) = self.socket.as_ref().map(Socket::remove) {
            log::warn!("{err:#}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct TempDir(PathBuf);

    impl TempDir {
        fn new(name: &str) -> TempDir {
            let path = std::env::temp_dir().join(format!("teu-shim-{name}-{}", std::process::id()));
            fs::create_dir(&path).unwrap();
            TempDir(path)
        }
    }

    impl Drop for TempDir {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn name_is_as_containerds_shim_makes_it() {
        let dir = Path::new("/run/containerd/s");
        let socket = Socket::new(dir, "/run/containerd/containerd.sock", "default", "abc");
        assert_eq!(
            socket.address(),
            "unix:///run/containerd/s/\
             8cb244a719603fe00870d5ce1d8e1f1db43a654cb993d107df1f1ae23ddffa59"
        );
    }

    #[test]
    fn group_has_one_server() {
        let dir = TempDir::new("group");
        let socket = Socket::new(&dir.0.join("s"), "/c.sock", "ns", "group");
        let server = socket.listen().unwrap().unwrap();
        assert_eq!(Socket::of(&server.listener), Some(socket.clone()));
        assert!(socket.listen().unwrap().is_none());

        let descriptor = server.descriptor().unwrap();
        server.keep();
        assert!(socket.is_served());
        drop(descriptor);
        assert!(!socket.is_served() && socket.0.exists());

        let next = socket.listen().unwrap().unwrap();
        assert!(socket.is_served());
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&socket.0), mode(&dir.0.join("s"))), (0o600, 0o700));
        drop(next);
        assert!(!socket.0.exists());
        socket.remove().unwrap();
    }

    #[test]
    fn server_with_too_many_callers_is_one() {
        let dir = TempDir::new("callers");
        let socket = Socket::new(&dir.0, "/c.sock", "ns", "group");
        let server = socket.listen().unwrap().unwrap();
        rustix::net::listen(server.descriptor().unwrap(), 0).unwrap();
        let waiting = std::os::unix::net::UnixStream::connect(&socket.0).unwrap();
        assert!(socket.is_served());
        drop(waiting);
    }

    #[test]
    fn note_is_what_containerd_1_reads() {
        let dir = TempDir::new("note");
        assert_eq!(Socket::noted_in(&dir.0), None);
        let socket = Socket(PathBuf::from("/run/s"));
        socket.note_in(&dir.0).unwrap();
        assert_eq!(
            fs::read_to_string(dir.0.join("address")).unwrap(),
            "unix:///run/s"
        );
        assert_eq!(Socket::noted_in(&dir.0), Some(socket));
    }
}
