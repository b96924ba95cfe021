//! The few requests of rtnetlink(7) that moving a network device takes.
//!
//! This module makes and reads the content of messages, which are the structures of
//! linux/rtnetlink.h. The crate netlink-packet-core does the frames of messages and
//! attributes. Numbers are in the machine's byte order, as in the kernel.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Result, bail};
use libc::{IFF_UP, RT_SCOPE_UNIVERSE, RTM_GETADDR, RTM_GETLINK, RTM_NEWADDR, RTM_NEWLINK};
use netlink_packet_core::{
    DefaultNla, Emitable, ErrorBuffer, NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL,
    NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NetlinkBuffer, NetlinkHeader, NlasIterator, Parseable,
};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with,
};

// From linux/if_link.h and linux/if_addr.h.
const IFLA_IFNAME: u16 = 3;
const IFLA_NET_NS_FD: u16 = 28;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const IFA_FLAGS: u16 = 8;
const IFA_F_NODAD: u32 = 0x02;
const IFA_F_PERMANENT: u32 = 0x80;
const IFA_F_NOPREFIXROUTE: u32 = 0x200;

/// The most bytes that the kernel sends at once.
const LARGEST_ANSWER: usize = 64 * 1024;

/// A socket to the network namespace in which it was opened.
#[derive(Debug)]
pub(crate) struct Netlink(OwnedFd);

/// An address of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    family: u8,
    prefix_length: u8,
    /// `IFA_LOCAL`, `IFA_ADDRESS` and `IFA_BROADCAST` as far as present, and the flags
    /// of `IFA_FLAGS` that a user sets.
    attributes: Vec<DefaultNla>,
}

impl Netlink {
    /// Opens a socket in the calling thread's network namespace.
    pub(crate) fn open() -> Result<Netlink> {
        // Without a protocol, the protocol is 0, which is NETLINK_ROUTE.
        let socket = socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            None,
        );
        Ok(Netlink(socket.context("open a netlink socket")?))
    }

    /// Returns the index of the device called `name`.
    ///
    /// # Errors
    /// ENODEV if there is no such device.
    pub(crate) fn index(&self, name: &str) -> Result<u32> {
        let links = self.ask(RTM_GETLINK, NLM_F_ACK, &[0; 16], &[named(name)])?;
        match links.first().and_then(|link| link.first_chunk::<8>()) {
            Some(&[_, _, _, _, index @ ..]) => Ok(u32::from_ne_bytes(index)),
            None => bail!("no answer for {name:?}"),
        }
    }

    /// Switches the device on or off.
    pub(crate) fn set_up(&self, index: u32, up: bool) -> Result<()> {
        let mask = IFF_UP.cast_unsigned();
        self.tell_link(index, if up { mask } else { 0 }, mask, &[])
    }

    /// Moves the device to the network namespace and renames it, in one request.
    pub(crate) fn move_to(&self, index: u32, namespace: BorrowedFd<'_>, name: &str) -> Result<()> {
        let namespace = namespace.as_raw_fd().to_ne_bytes().to_vec();
        let namespace = DefaultNla::new(IFLA_NET_NS_FD, namespace);
        self.tell_link(index, 0, 0, &[named(name), namespace])
    }

    /// Changes a device (`ifinfomsg`).
    fn tell_link(
        &self,
        index: u32,
        flags: u32,
        mask: u32,
        attributes: &[DefaultNla],
    ) -> Result<()> {
        let body = [0, index, flags, mask].map(u32::to_ne_bytes).concat();
        self.ask(RTM_NEWLINK, NLM_F_ACK, &body, attributes)?;
        Ok(())
    }

    /// Returns the permanent addresses of the device with global scope.
    pub(crate) fn lasting_addresses(&self, index: u32) -> Result<Vec<Address>> {
        let mut addresses = Vec::new();
        for answer in self.ask(RTM_GETADDR, NLM_F_DUMP, &[0; 8], &[])? {
            addresses.extend(Address::lasting(&answer, index)?);
        }
        Ok(addresses)
    }

    /// Gives the device an address.
    pub(crate) fn add_address(&self, index: u32, address: &Address) -> Result<()> {
        let kind = [address.family, address.prefix_length, 0, RT_SCOPE_UNIVERSE];
        let body = [kind, index.to_ne_bytes()].concat();
        let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
        self.ask(RTM_NEWADDR, flags, &body, &address.attributes)?;
        Ok(())
    }

    /// Sends a request and collects the bodies of the answers.
    fn ask(
        &self,
        kind: u16,
        flags: u16,
        body: &[u8],
        attributes: &[DefaultNla],
    ) -> Result<Vec<Vec<u8>>> {
        let mut header = NetlinkHeader::default();
        let start = header.buffer_len() + body.len();
        let mut request = vec![0; start + attributes.buffer_len()];
        header.length = u32::try_from(request.len())?;
        header.message_type = kind;
        header.flags = NLM_F_REQUEST | flags;
        header.emit(&mut request);
        request[header.buffer_len()..start].copy_from_slice(body);
        attributes.emit(&mut request[start..]);
        send(&self.0, &request, SendFlags::empty()).context("ask the kernel")?;

        let mut bodies = Vec::new();
        let mut buffer = vec![0; LARGEST_ANSWER];
        loop {
            let length = match recv(&self.0, &mut buffer[..], RecvFlags::empty()) {
                Ok((_, length)) => length,
                Err(Errno::INTR) => continue,
                Err(err) => return Err(err).context("read the kernel's answer"),
            };
            let mut rest = &buffer[..length];
            while !rest.is_empty() {
                let answer = NetlinkBuffer::new_checked(rest)?;
                // Messages begin at multiples of four bytes.
                let next = (answer.length() as usize).next_multiple_of(4);
                rest = rest.get(next..).unwrap_or_default();
                match answer.message_type() {
                    NLMSG_DONE => return Ok(bodies),
                    NLMSG_ERROR => match ErrorBuffer::new_checked(answer.payload())?.code() {
                        // This is the acknowledgement.
                        None => return Ok(bodies),
                        Some(error) => {
                            return Err(Errno::from_raw_os_error(-error.get()).into());
                        }
                    },
                    _ => bodies.push(answer.payload().to_vec()),
                }
            }
        }
    }
}

impl Address {
    /// Parses an `RTM_NEWADDR` answer. `None` if it is not a permanent address of the
    /// device.
    fn lasting(answer: &[u8], index: u32) -> Result<Option<Address>> {
        let Some((&[family, prefix_length, flags, scope, device @ ..], rest)) =
            answer.split_first_chunk::<8>()
        else {
            bail!("the kernel's answer is too short");
        };
        if u32::from_ne_bytes(device) != index {
            return Ok(None);
        }
        let mut flags = u32::from(flags);
        let mut attributes = Vec::new();
        for attribute in NlasIterator::new(rest) {
            let attribute = attribute?;
            match attribute.kind() {
                // This attribute has all flags; the header has the first eight only.
                IFA_FLAGS => flags = u32::from_ne_bytes(attribute.value().try_into()?),
                IFA_ADDRESS | IFA_LOCAL | IFA_BROADCAST => {
                    attributes.push(DefaultNla::parse(&attribute)?);
                }
                // Skip the others, such as the label, which starts with the device's
                // name.
                _ => {}
            }
        }
        let own_flags = flags & (IFA_F_NODAD | IFA_F_NOPREFIXROUTE);
        attributes.push(DefaultNla::new(IFA_FLAGS, own_flags.to_ne_bytes().to_vec()));
        let lasting = flags & IFA_F_PERMANENT != 0 && scope == RT_SCOPE_UNIVERSE;
        Ok(lasting.then_some(Address {
            family,
            prefix_length,
            attributes,
        }))
    }
}

/// Makes the attribute of a device's name.
fn named(name: &str) -> DefaultNla {
    DefaultNla::new(IFLA_IFNAME, [name.as_bytes(), b"\0"].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_device_is_the_first() {
        let netlink = Netlink::open().expect("netlink");
        assert_eq!(netlink.index("lo").expect("lo"), 1);
        let error = netlink.index("teu-none").expect_err("missing");
        assert_eq!(error.downcast_ref(), Some(&Errno::NODEV));
    }
}
