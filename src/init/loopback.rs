//! Switches on the loopback device of a new network namespace. Not for other devices:
//! `parent/net_devices.rs` moves them.

use anyhow::{Context, Result};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use crate::sys;

/// Switches on `lo` in the caller's network namespace, which then has
/// 127.0.0.1 and ::1.
///
/// # Errors
/// The kernel refuses the change.
pub(crate) fn switch_on() -> Result<()> {
    // Any socket works; a socket of this family needs no protocol.
    let socket = socket_with(
        AddressFamily::UNIX,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .context("open a socket")?;
    sys::switch_on_device(&socket, c"lo").context("switch on the loopback device")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use nix::sched::{CloneFlags, unshare};

    #[test]
    fn loopback_answers() {
        testing::in_child(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("unshare");
            let reach = |address: &str| {
                let listener = std::net::TcpListener::bind(address)?;
                std::net::TcpStream::connect(listener.local_addr()?)
            };
            reach("127.0.0.1:0").expect_err("off");
            switch_on().expect("switch on");
            reach("127.0.0.1:0").expect("on");
            reach("[::1]:0").expect("on");
        });
    }
}
