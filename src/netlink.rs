//! The few messages of rtnetlink(7) that moving a network device takes.
//!
//! Written out here: five kinds of message are two hundred lines, while the
//! netlink crates bring a dozen crates and every message the kernel knows.
//! Numbers are in the machine's byte order, as the kernel has them.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Result, bail};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with,
};

// linux/netlink.h
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
const NLM_F_DUMP: u16 = 0x300;
const NLM_F_EXCL: u16 = 0x200;
const NLM_F_CREATE: u16 = 0x400;

// linux/rtnetlink.h
const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const RT_SCOPE_UNIVERSE: u8 = 0;

// linux/if_link.h, linux/if_addr.h, linux/if.h
const IFLA_IFNAME: u16 = 3;
const IFLA_NET_NS_FD: u16 = 28;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const IFA_FLAGS: u16 = 8;
const IFA_F_NODAD: u32 = 0x02;
const IFA_F_PERMANENT: u32 = 0x80;
const IFA_F_NOPREFIXROUTE: u32 = 0x200;
const IFF_UP: u32 = 1;

/// Sizes of `nlmsghdr`, `ifinfomsg`, `ifaddrmsg` and `rtattr`.
const HEADER: usize = 16;
const LINK: usize = 16;
const ADDRESS: usize = 8;
const ATTRIBUTE: usize = 4;

/// The kernel sends no more than this at once.
const LARGEST_ANSWER: usize = 64 * 1024;

/// A socket to the network namespace in which it was opened.
#[derive(Debug)]
pub(crate) struct Netlink(OwnedFd);

/// An address of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    family: u8,
    prefix_length: u8,
    /// `IFA_LOCAL`, `IFA_ADDRESS` and `IFA_BROADCAST`, those there are, and
    /// those of `IFA_FLAGS` that a person sets.
    attributes: Vec<(u16, Vec<u8>)>,
}

impl Netlink {
    /// Opens a socket in the calling thread's network namespace.
    pub(crate) fn open() -> Result<Netlink> {
        // No protocol is protocol 0, NETLINK_ROUTE.
        let socket = socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            None,
        );
        Ok(Netlink(socket.context("open a netlink socket")?))
    }

    /// The index of the device called `name`.
    ///
    /// # Errors
    /// ENODEV if there is none.
    pub(crate) fn index(&self, name: &str) -> Result<i32> {
        let mut request = Request::link(RTM_GETLINK, 0, 0, 0, 0);
        request.attribute(IFLA_IFNAME, &terminated(name))?;
        match self.ask(request)?.first() {
            Some(link) => number(link, 4).map(u32::cast_signed),
            None => bail!("no answer for {name:?}"),
        }
    }

    /// The indexes of all devices.
    pub(crate) fn indexes(&self) -> Result<Vec<i32>> {
        let links = self.ask(Request::link(RTM_GETLINK, NLM_F_DUMP, 0, 0, 0))?;
        links
            .iter()
            .map(|link| number(link, 4).map(u32::cast_signed))
            .collect()
    }

    /// Switches the device on or off.
    pub(crate) fn set_up(&self, index: i32, up: bool) -> Result<()> {
        let flags = if up { IFF_UP } else { 0 };
        self.tell(Request::link(RTM_NEWLINK, 0, index, flags, IFF_UP))
    }

    /// Moves the device to the network namespace and renames it, in one go.
    pub(crate) fn move_to(&self, index: i32, namespace: BorrowedFd<'_>, name: &str) -> Result<()> {
        let mut request = Request::link(RTM_NEWLINK, 0, index, 0, 0);
        request.attribute(IFLA_IFNAME, &terminated(name))?;
        request.attribute(IFLA_NET_NS_FD, &namespace.as_raw_fd().to_ne_bytes())?;
        self.tell(request)
    }

    /// The addresses of the device that somebody gave it for good and that
    /// mean the same everywhere.
    pub(crate) fn lasting_addresses(&self, index: i32) -> Result<Vec<Address>> {
        let request = Request::new(RTM_GETADDR, NLM_F_DUMP, &[0; ADDRESS]);
        let mut addresses = Vec::new();
        for answer in self.ask(request)? {
            if number(&answer, 4)? == index.cast_unsigned() {
                addresses.extend(Address::lasting(&answer)?);
            }
        }
        Ok(addresses)
    }

    /// Gives the device an address.
    pub(crate) fn add_address(&self, index: i32, address: &Address) -> Result<()> {
        let mut body = vec![address.family, address.prefix_length, 0, RT_SCOPE_UNIVERSE];
        body.extend(index.to_ne_bytes());
        let mut request = Request::new(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, &body);
        for (kind, value) in &address.attributes {
            request.attribute(*kind, value)?;
        }
        self.tell(request)
    }

    /// Sends a request that has no answer but yes or no.
    fn tell(&self, request: Request) -> Result<()> {
        self.ask(request).map(|_| ())
    }

    /// Sends a request and collects the bodies of the answers.
    fn ask(&self, request: Request) -> Result<Vec<Vec<u8>>> {
        let dumps = request.dumps();
        send(&self.0, &request.finished()?, SendFlags::empty()).context("ask the kernel")?;
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
                let (kind, body, next) = split_message(rest)?;
                rest = next;
                match kind {
                    NLMSG_DONE => return Ok(bodies),
                    // The error number, negative; 0 is the acknowledgement.
                    NLMSG_ERROR => match number(body, 0)?.cast_signed() {
                        0 if dumps => {}
                        0 => return Ok(bodies),
                        error => return Err(Errno::from_raw_os_error(-error).into()),
                    },
                    _ => bodies.push(body.to_vec()),
                }
            }
        }
    }
}

impl Address {
    /// The address of an `RTM_NEWADDR` answer, if it is one to keep.
    fn lasting(answer: &[u8]) -> Result<Option<Address>> {
        let [family, prefix_length, flags, scope, ..] = *answer else {
            bail!("the kernel's answer is too short");
        };
        let mut flags = u32::from(flags);
        let mut attributes = Vec::new();
        let mut rest = answer.get(ADDRESS..).unwrap_or_default();
        while !rest.is_empty() {
            let (kind, value, next) = split_attribute(rest)?;
            rest = next;
            match kind {
                // All the flags, of which the other place has the first eight.
                IFA_FLAGS => flags = number(value, 0)?,
                IFA_ADDRESS | IFA_LOCAL | IFA_BROADCAST => {
                    attributes.push((kind, value.to_vec()));
                }
                // Among them the label, which starts with the device's name.
                _ => {}
            }
        }
        let own_flags = flags & (IFA_F_NODAD | IFA_F_NOPREFIXROUTE);
        attributes.push((IFA_FLAGS, own_flags.to_ne_bytes().to_vec()));
        let lasting = flags & IFA_F_PERMANENT != 0 && scope == RT_SCOPE_UNIVERSE;
        Ok(lasting.then_some(Address {
            family,
            prefix_length,
            attributes,
        }))
    }
}

/// A message being written.
#[derive(Debug)]
struct Request(Vec<u8>);

impl Request {
    fn new(kind: u16, flags: u16, body: &[u8]) -> Request {
        // The length comes last; sequence number and port are for programs
        // that have several requests under way.
        let mut message = vec![0; HEADER];
        message[4..6].copy_from_slice(&kind.to_ne_bytes());
        let flags = flags | NLM_F_REQUEST | NLM_F_ACK;
        message[6..8].copy_from_slice(&flags.to_ne_bytes());
        message.extend(body);
        Request(message)
    }

    /// A request about a device: `ifinfomsg`.
    fn link(kind: u16, flags: u16, index: i32, link_flags: u32, change: u32) -> Request {
        let mut body = [0; LINK];
        body[4..8].copy_from_slice(&index.to_ne_bytes());
        body[8..12].copy_from_slice(&link_flags.to_ne_bytes());
        body[12..16].copy_from_slice(&change.to_ne_bytes());
        Request::new(kind, flags, &body)
    }

    fn attribute(&mut self, kind: u16, value: &[u8]) -> Result<()> {
        let length = u16::try_from(ATTRIBUTE + value.len()).context("netlink attribute")?;
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(aligned(self.0.len()), 0);
        Ok(())
    }

    fn dumps(&self) -> bool {
        u16::from_ne_bytes([self.0[6], self.0[7]]) & NLM_F_DUMP == NLM_F_DUMP
    }

    fn finished(mut self) -> Result<Vec<u8>> {
        let length = u32::try_from(self.0.len()).context("netlink message")?;
        self.0[..4].copy_from_slice(&length.to_ne_bytes());
        Ok(self.0)
    }
}

/// The kind and body of the first message, and what comes after it.
fn split_message(bytes: &[u8]) -> Result<(u16, &[u8], &[u8])> {
    let length = number(bytes, 0)? as usize;
    let kind = short(bytes, 4)?;
    let body = bytes
        .get(HEADER..length)
        .context("the kernel's answer is too short")?;
    Ok((kind, body, bytes.get(aligned(length)..).unwrap_or_default()))
}

/// The kind and value of the first attribute, and what comes after it.
fn split_attribute(bytes: &[u8]) -> Result<(u16, &[u8], &[u8])> {
    /// `NLA_F_NESTED` and `NLA_F_NET_BYTEORDER` share the place.
    const KIND_MASK: u16 = 0x3fff;
    let length = usize::from(short(bytes, 0)?);
    let kind = short(bytes, 2)? & KIND_MASK;
    let value = bytes
        .get(ATTRIBUTE..length)
        .context("the kernel's answer is too short")?;
    Ok((
        kind,
        value,
        bytes.get(aligned(length)..).unwrap_or_default(),
    ))
}

/// Messages and attributes begin at multiples of four bytes.
fn aligned(length: usize) -> usize {
    length.next_multiple_of(4)
}

fn number(bytes: &[u8], at: usize) -> Result<u32> {
    let bytes = bytes
        .get(at..at + 4)
        .context("the kernel's answer is too short")?;
    Ok(u32::from_ne_bytes(bytes.try_into()?))
}

fn short(bytes: &[u8], at: usize) -> Result<u16> {
    let bytes = bytes
        .get(at..at + 2)
        .context("the kernel's answer is too short")?;
    Ok(u16::from_ne_bytes(bytes.try_into()?))
}

fn terminated(name: &str) -> Vec<u8> {
    [name.as_bytes(), b"\0"].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_device_is_the_first() {
        let netlink = Netlink::open().expect("netlink");
        assert_eq!(netlink.index("lo").expect("lo"), 1);
        assert!(netlink.indexes().expect("indexes").contains(&1));
        let error = netlink.index("teu-none").expect_err("missing");
        assert_eq!(error.downcast_ref(), Some(&Errno::NODEV));
    }

    #[test]
    fn answers_that_are_cut_short_are_errors() {
        let mut request = Request::link(RTM_NEWLINK, 0, 7, 0, 0);
        request.attribute(IFLA_IFNAME, b"abc\0").expect("attribute");
        let message = request.finished().expect("message");
        let (kind, body, rest) = split_message(&message).expect("whole");
        assert_eq!((kind, rest.len()), (RTM_NEWLINK, 0));
        assert_eq!(
            split_attribute(&body[LINK..]).expect("whole"),
            (IFLA_IFNAME, &b"abc\0"[..], &[][..])
        );
        for length in 0..message.len() {
            split_message(&message[..length]).expect_err("cut");
        }
        split_attribute(&body[LINK..LINK + 5]).expect_err("cut");
    }
}
