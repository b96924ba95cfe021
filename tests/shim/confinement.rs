//! The confinement of the server: its capabilities and filter, and the effect of a forbidden system
//! call. A debugger replaces the server's next system call, so that no bug in the server is
//! needed to make it.

use std::os::unix::process::ExitStatusExt;

use nix::sys::signal::Signal;
use teu_shim::proto::task::ConnectRequest;

use super::engine::{Bootstrap, Engine, running, sleeping};
use crate::harness::{Root, Seconds, Teu, X86, is_alive, needs, process, tests, wait_until};

tests![
    server_has_given_up_what_it_does_not_need,
    call_of_its_own_is_made,
    unexpected_call_ends_it_alone,
];

fn server_has_given_up_what_it_does_not_need() {
    needs(&[Root, Teu]);
    let engine = Engine::new();
    let container = sleeping();
    let shim = engine.start(&container, Bootstrap::Flags);
    let status = std::fs::read_to_string(format!("/proc/{}/status", shim.pid));
    let status = status.expect("read the status of the server");
    let value = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.expect("a line of the status").trim().to_owned()
    };
    assert_eq!(value("Seccomp:"), "2");
    // CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH and CAP_KILL.
    assert_eq!(value("CapPrm:"), "0000000000000027");
    assert_eq!(value("CapInh:"), "0000000000000000");
}

/// Makes the server, which waits in epoll_wait(2), execute another system call; without a call,
/// the same again.
#[cfg(target_arch = "x86_64")]
fn inject(server: i32, call: Option<(i64, [u64; 3])>) {
    use std::time::Duration;

    use nix::sys::ptrace;
    use nix::unistd::Pid;

    let server = Pid::from_raw(server);
    ptrace::seize(server, ptrace::Options::empty()).expect("trace the server");
    let mut registers = loop {
        ptrace::interrupt(server).expect("stop the server");
        wait_until("the server stands still", || {
            let stat = std::fs::read_to_string(format!("/proc/{server}/stat"));
            stat.is_ok_and(|stat| stat.contains(") t "))
        });
        let registers = ptrace::getregs(server).expect("read the registers");
        let waits = [
            libc::SYS_epoll_wait,
            libc::SYS_epoll_pwait,
            libc::SYS_epoll_pwait2,
        ];
        if waits.contains(&registers.orig_rax.cast_signed()) {
            break registers;
        }
        // The stop has another reason.
        ptrace::cont(server, None).expect("let the server go on");
        std::thread::sleep(Duration::from_millis(5));
    };
    let own = registers.orig_rax;
    // Go back to the syscall instruction, which has two bytes; nothing must be restarted.
    registers.rip -= 2;
    registers.orig_rax = u64::MAX;
    registers.rax = own;
    if let Some((number, arguments)) = call {
        registers.rax = number.cast_unsigned();
        [registers.rdi, registers.rsi, registers.rdx] = arguments;
    }
    ptrace::setregs(server, registers).expect("set the registers");
    ptrace::detach(server, None).expect("let the server go");
}

#[cfg(not(target_arch = "x86_64"))]
fn inject(_server: i32, _call: Option<(i64, [u64; 3])>) {
    unreachable!("the registers are those of x86_64");
}

/// Shows that the injection works, because the next test relies on it. geteuid(2) is allowed,
/// and returns 0 to root, which the server takes for no events.
fn call_of_its_own_is_made() {
    needs(&[Root, Teu, X86]);
    let engine = Engine::new();
    let container = sleeping();
    let (mut shim, _) = running(&engine, &container);
    for call in [None, Some((libc::SYS_geteuid, [0; 3]))] {
        inject(shim.pid, call);
        let connect = ConnectRequest {
            id: container.id.clone(),
        };
        shim.call(&connect).expect("connect");
    }
    shim.remove(&container.id);
}

/// Containers survive the server's death, and the engine's cleanup works.
fn unexpected_call_ends_it_alone() {
    needs(&[Root, Teu, X86, Seconds(120)]);
    let engine = Engine::new();
    const CODE: u64 = libc::PROT_EXEC.cast_unsigned() as u64;
    for (number, arguments) in [
        (libc::SYS_mount, [0; 3]),
        (libc::SYS_umount2, [0; 3]),
        (libc::SYS_unshare, [0; 3]),
        (libc::SYS_setns, [0; 3]),
        (libc::SYS_clone, [0; 3]),
        (libc::SYS_clone3, [0; 3]),
        (libc::SYS_execve, [0; 3]),
        (libc::SYS_ptrace, [0; 3]),
        (libc::SYS_bpf, [0; 3]),
        (libc::SYS_io_uring_setup, [0; 3]),
        (libc::SYS_init_module, [0; 3]),
        (
            libc::SYS_socket,
            [libc::AF_INET.cast_unsigned().into(), 1, 0],
        ),
        (libc::SYS_mmap, [0, 4096, CODE]),
        (libc::SYS_mprotect, [0, 4096, CODE]),
    ] {
        let container = sleeping();
        let (shim, init) = running(&engine, &container);
        inject(shim.pid, Some((number, arguments)));
        wait_until(&format!("call {number} has ended the server"), || {
            !is_alive(shim.pid)
        });
        let status = process::wait(shim.pid);
        assert_eq!(
            status.signal(),
            Some(Signal::SIGSYS as i32),
            "call {number}"
        );
        assert!(is_alive(init), "the container has ended with call {number}");
        // Another container of the group would get a new shim.
        drop(engine.start(&container, Bootstrap::Flags));
        assert_eq!(engine.delete(&container).exit_status, 137);
        assert!(!container.has_state());
        wait_until("init has ended", || !is_alive(init));
    }
}
