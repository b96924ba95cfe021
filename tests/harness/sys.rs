//! System calls that neither std nor nix offers without unsafe code.
#![expect(unsafe_code, reason = "raw system calls live here and nowhere else")]

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};

/// Sets the rows and columns of a terminal (ioctl_tty(2), TIOCSWINSZ).
pub(crate) fn set_window_size(terminal: impl AsFd, rows: u16, columns: u16) -> nix::Result<()> {
    let size = libc::winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: TIOCSWINSZ reads one `winsize`, which `size` is, and keeps nothing.
    let result = unsafe {
        libc::ioctl(
            terminal.as_fd().as_raw_fd(),
            libc::TIOCSWINSZ,
            &raw const size,
        )
    };
    Errno::result(result).map(drop)
}

/// Brings the loopback device of this network namespace up (netdevice(7)).
pub(crate) fn switch_on_loopback() -> io::Result<()> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
    // SAFETY: `ifreq` is a structure of numbers and arrays, for which zero is a
    // valid value.
    let mut request: libc::ifreq = unsafe { MaybeUninit::zeroed().assume_init() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo\0") {
        *to = libc::c_char::from_ne_bytes([*from]);
    }
    request.ifr_ifru.ifru_flags = libc::c_short::try_from(libc::IFF_UP).unwrap_or_default();
    // SAFETY: `request` is a valid `ifreq` whose flags are set; the kernel reads
    // it during the call.
    let result = unsafe {
        libc::ioctl(
            socket.as_raw_fd(),
            libc::SIOCSIFFLAGS as libc::Ioctl,
            &raw const request,
        )
    };
    Errno::result(result).map(drop).map_err(io::Error::from)
}

/// Gives this thread real-time priority over normal threads (sched_setscheduler(2)), without its
/// children. musl's own function does nothing.
pub(crate) fn run_first() -> nix::Result<()> {
    // The kernel's `struct sched_param`; musl's has more fields.
    let priority: libc::c_int = 1;
    let policy = libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK;
    // SAFETY: the kernel reads one integer, which `priority` is, and keeps nothing;
    // 0 is this thread.
    let result =
        unsafe { libc::syscall(libc::SYS_sched_setscheduler, 0, policy, &raw const priority) };
    Errno::result(result).map(drop)
}

/// Receives a message with its text and its descriptors (unix(7)).
pub(crate) fn receive(socket: impl AsFd) -> io::Result<(String, Vec<OwnedFd>)> {
    let mut text = [0; 4096];
    let mut parts = [IoSliceMut::new(&mut text)];
    let mut space = nix::cmsg_space!([i32; 8]);
    let socket = socket.as_fd().as_raw_fd();
    let message = recvmsg::<()>(
        socket,
        &mut parts,
        Some(&mut space),
        MsgFlags::MSG_CMSG_CLOEXEC,
    )?;
    let mut descriptors = Vec::new();
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(numbers) = control {
            // SAFETY: the kernel made these descriptors for this process with
            // the message just received, so nothing else owns them.
            descriptors.extend(
                numbers
                    .into_iter()
                    .map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }),
            );
        }
    }
    let length = message.bytes;
    Ok((
        String::from_utf8_lossy(&text[..length]).into_owned(),
        descriptors,
    ))
}

/// A call that waits for the listener's answer: the fields of `struct seccomp_notif`
/// (linux/seccomp.h) that tests look at.
#[derive(Debug)]
pub(crate) struct Notification {
    id: u64,
    pub(crate) pid: u32,
    pub(crate) number: i32,
}

/// Receives the next call that the filter leaves to the listener
/// (`SECCOMP_IOCTL_NOTIF_RECV`).
pub(crate) fn receive_notification(listener: impl AsFd) -> nix::Result<Notification> {
    let mut notification: libc::seccomp_notif =
        // SAFETY: a structure of numbers, for which zero is a valid value; the
        // kernel wants it to be zero.
        unsafe { MaybeUninit::zeroed().assume_init() };
    // SAFETY: the kernel writes one `seccomp_notif`.
    let result = unsafe {
        libc::ioctl(
            listener.as_fd().as_raw_fd(),
            libc::SECCOMP_IOCTL_NOTIF_RECV,
            &raw mut notification,
        )
    };
    Errno::result(result)?;
    Ok(Notification {
        id: notification.id,
        pid: notification.pid,
        number: notification.data.nr,
    })
}

/// Answers a call (`SECCOMP_IOCTL_NOTIF_SEND`): makes it fail with this error, or lets the
/// kernel execute it.
pub(crate) fn answer_notification(
    listener: impl AsFd,
    notification: &Notification,
    error: Option<Errno>,
) -> nix::Result<()> {
    const CONTINUE: u32 = 1;
    let mut response = libc::seccomp_notif_resp {
        id: notification.id,
        val: 0,
        error: error.map_or(0, |error| -(error as i32)),
        flags: if error.is_some() { 0 } else { CONTINUE },
    };
    // SAFETY: the kernel reads one `seccomp_notif_resp`.
    let result = unsafe {
        libc::ioctl(
            listener.as_fd().as_raw_fd(),
            libc::SECCOMP_IOCTL_NOTIF_SEND,
            &raw mut response,
        )
    };
    Errno::result(result).map(drop)
}

/// Runs `case` while a system call is answered as by [`answer_call`]. It runs in a new thread,
/// because a filter cannot be removed from its thread.
pub(crate) fn while_call_is_answered(
    call: i64,
    arguments: &[u32],
    errno: i32,
    case: impl FnOnce() + Send,
) {
    let filtered = || {
        answer_call(call, arguments, errno).expect("install a filter");
        case();
    };
    let ended = std::thread::scope(|scope| scope.spawn(filtered).join());
    if let Err(panic) = ended {
        std::panic::resume_unwind(panic);
    }
}

/// Answers a system call in the kernel's place if its first arguments, at most two, have these
/// values: with this errno, or with 0, so that it seems to succeed.
fn answer_call(call: i64, arguments: &[u32], errno: i32) -> nix::Result<()> {
    // BPF_LD | BPF_W | BPF_ABS, BPF_JMP | BPF_JEQ | BPF_K and BPF_RET | BPF_K.
    const LOAD: u16 = 0x20;
    const IS: u16 = 0x15;
    const RETURN: u16 = 0x06;
    // Offsets in struct seccomp_data: the number, and the lower halves of the first two
    // arguments on a little-endian machine.
    const NUMBER: u32 = 0;
    const FIRST: u32 = 16;
    const SECOND: u32 = 24;
    let line = |code, if_so, if_not, k| libc::sock_filter {
        code,
        jt: if_so,
        jf: if_not,
        k,
    };
    let number = call.try_into().expect("a small number");
    let arguments = [FIRST, SECOND].into_iter().zip(arguments.iter().copied());
    let wanted: Vec<(u32, u32)> = [(NUMBER, number)].into_iter().chain(arguments).collect();
    let mut lines = Vec::new();
    for (number, (place, value)) in wanted.iter().enumerate() {
        // Jump over the remaining comparisons, of two instructions each, and the answer.
        let to_allow = 2 * (wanted.len() - number - 1) + 1;
        lines.push(line(LOAD, 0, 0, *place));
        lines.push(line(IS, 0, to_allow.try_into().expect("few"), *value));
    }
    let answer = libc::SECCOMP_RET_ERRNO | errno.cast_unsigned();
    lines.push(line(RETURN, 0, 0, answer));
    lines.push(line(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW));
    let program = libc::sock_fprog {
        len: lines.len().try_into().expect("few lines"),
        filter: lines.as_mut_ptr(),
    };
    // SAFETY: `program` and the lines it points to live until the call returns,
    // and the kernel keeps a copy.
    let result = unsafe {
        libc::prctl(
            libc::PR_SET_SECCOMP,
            libc::c_ulong::from(libc::SECCOMP_MODE_FILTER),
            &raw const program,
        )
    };
    Errno::result(result).map(drop)
}
