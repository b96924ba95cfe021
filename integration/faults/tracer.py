"""Runs a program and all its descendants under ptrace(2), lists their system calls, and
makes one of them fail or kills its process.

strace injects faults too, but counts the calls of each process separately. It cannot be
told in which process the fifth read(2) is to fail, so it cannot select a call of init that
the parent makes as well. x86_64 only, because other architectures keep the number of a
call elsewhere.
"""

import ctypes
import errno
import os
import re
import signal
import struct
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

# <linux/ptrace.h>
DETACH, POKEUSER, SYSCALL, SETOPTIONS, GETEVENTMSG = 17, 6, 24, 0x4200, 0x4201
SEIZE, INTERRUPT, GET_SYSCALL_INFO = 0x4206, 0x4207, 0x420E
OPTIONS = 1 | 2 | 4 | 8 | 16  # TRACESYSGOOD, TRACEFORK, TRACEVFORK, TRACECLONE, TRACEEXEC
EVENT_EXEC, EVENT_STOP = 4, 128
ENTRY, EXIT = 1, 2
# Offsets in struct user, <sys/user.h>.
RAX, ORIG_RAX = 80, 120
WALL = 0x40000000

LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.ptrace.restype = ctypes.c_long
LIBC.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]

# A process that waits in one of these has done its part of the command: tracing can end.
WAITS = ("poll", "ppoll", "wait4", "epoll_wait", "epoll_pwait")


def system_calls():
    """Number to name, from the kernel's header."""
    header = Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h").read_text()
    return {int(number): name for name, number in re.findall(r"#define __NR_(\w+) (\d+)", header)}


@dataclass(frozen=True)
class Point:
    """The `nth` call (from 1) of `name` by the process that was the `process`th to be made
    (from 0). If both are None: every call of that name by any process."""

    process: int | None
    name: str
    nth: int | None

    def __str__(self):
        if self.process is None:
            return f"every {self.name}"
        return f"{'teu' if self.process == 0 else f'child {self.process}'}: {self.name} #{self.nth}"


@dataclass
class Outcome:
    status: int | None = None  # as subprocess has it: -9 for SIGKILL; None: it did not end in time
    reached: bool = False
    calls: list = field(default_factory=list)  # of (Point, text of its first arguments)


def on_alarm(*_):
    raise TimeoutError


class Ended(Exception):
    """The process is gone, so there is nothing to trace."""


def ptrace(request, pid, address=0, data=0):
    ctypes.set_errno(0)
    result = LIBC.ptrace(request, pid, address, data)
    code = ctypes.get_errno()
    if result == -1 and code:
        raise Ended if code == errno.ESRCH else OSError(code, f"ptrace({request:#x}, {pid})")
    return result


class Tracer:
    """`program` is the name of the file whose processes are traced: one that executes another
    is let go. Those that outlive the first one are traced until they end, too, or wait for
    something."""

    def __init__(self, program):
        self.program = program
        self.names = system_calls()
        signal.signal(signal.SIGALRM, on_alarm)

    def run(self, arguments, output, point=None, fault=None, beside=None, timeout=20):
        """Runs the command with standard output and error in the file `output`. `fault` is an
        errno's name or KILL. `beside`: the pid of a process that is there already and traced
        as the next after the command's own."""
        self.point, self.fault = point, fault
        self.outcome, self.counts = Outcome(), Counter()
        self.order, self.made, self.failing = {}, 0, set()
        start, self.main = self.fork(arguments, output)
        self.attach(self.main)
        if beside:
            self.attach(beside)
            ptrace(INTERRUPT, beside)
        os.close(start)
        signal.setitimer(signal.ITIMER_REAL, timeout)
        try:
            while not self.has_ended():
                self.handle(*os.waitpid(-1, WALL))
        except ChildProcessError:
            pass
        except TimeoutError:
            if self.outcome.status is None:
                self.kill_all()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        self.let_go_of_all()
        return self.outcome

    def fork(self, arguments, output):
        """A child that executes the command when the descriptor that is returned is closed."""
        wait, start = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.close(start)
                os.read(wait, 1)
                null = os.open("/dev/null", os.O_RDONLY)
                file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
                os.dup2(null, 0), os.dup2(file, 1), os.dup2(file, 2)
                os.execv(arguments[0], arguments)
            finally:
                os._exit(127)
        os.close(wait)
        return start, pid

    def attach(self, pid):
        ptrace(SEIZE, pid, 0, OPTIONS)
        self.number(pid)

    def number(self, pid):
        if pid not in self.order:
            self.order[pid] = self.made
            self.made += 1

    def has_ended(self):
        return self.outcome.status is not None and (self.is_over() or not self.order)

    def is_over(self):
        """Returns whether the selected call has failed, so that nothing more has to be traced."""
        return self.outcome.reached and self.point.process is not None and not self.failing

    def handle(self, pid, status):
        if os.WIFEXITED(status) or os.WIFSIGNALED(status):
            self.order.pop(pid, None)
            if pid == self.main:
                self.outcome.status = os.waitstatus_to_exitcode(status)
            return
        try:
            self.stopped(pid, os.WSTOPSIG(status), status >> 16)
        except Ended:
            pass

    def stopped(self, pid, stop, event):
        deliver = 0
        if stop == signal.SIGTRAP | 0x80:
            self.at_system_call(pid)
        elif event == EVENT_EXEC:
            # Sealed, the runtime is called the same, or `memfd:teu:sealed (deleted)`.
            name = os.path.basename(os.readlink(f"/proc/{pid}/exe"))
            if name != self.program and "memfd:" not in name:
                return self.let_go(pid)
        elif event == EVENT_STOP:
            self.number(pid)
        elif event:
            child = ctypes.c_ulong()
            ptrace(GETEVENTMSG, pid, 0, ctypes.addressof(child))
            self.number(child.value)
        else:
            deliver = stop
        if pid not in self.order:
            return
        if self.is_over():
            return self.let_go(pid, deliver)
        ptrace(SYSCALL, pid, 0, deliver)

    def at_system_call(self, pid):
        info = ctypes.create_string_buffer(88)
        ptrace(GET_SYSCALL_INFO, pid, ctypes.sizeof(info), ctypes.addressof(info))
        if info.raw[0] == EXIT and pid in self.failing:
            ptrace(POKEUSER, pid, RAX, -getattr(errno, self.fault))
            self.failing.remove(pid)
        if info.raw[0] != ENTRY:
            return
        number, *arguments = struct.unpack_from("<7Q", info.raw, 24)
        name = self.names.get(number, str(number))
        if self.outcome.status is not None and name in WAITS:
            return self.let_go(pid)
        self.counts[pid, name] += 1
        point = Point(self.order[pid], name, self.counts[pid, name])
        if self.point is None:
            self.outcome.calls.append((point, texts(pid, arguments)))
        elif self.point in (point, Point(None, name, None)):
            self.outcome.reached = True
            if self.fault == "KILL":
                os.kill(pid, signal.SIGKILL)
            else:
                ptrace(POKEUSER, pid, ORIG_RAX, -1)
                self.failing.add(pid)

    def let_go(self, pid, deliver=0):
        ptrace(DETACH, pid, 0, deliver)
        self.order.pop(pid, None)

    def kill_all(self):
        for pid in self.order:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, WALL)
        self.order.clear()

    def let_go_of_all(self):
        for pid in list(self.order):
            try:
                ptrace(INTERRUPT, pid)
                os.waitpid(pid, WALL)
                self.let_go(pid)
            except (Ended, ChildProcessError):
                pass
        self.order.clear()


def texts(pid, arguments):
    """Those of the first arguments that point at text."""
    found = []
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for address in arguments[:3]:
            try:
                memory.seek(address)
                text = memory.read(64).split(b"\0")[0]
            except (OSError, ValueError, OverflowError):
                continue
            if len(text) > 1 and text.isascii() and text.decode().isprintable():
                found.append(text.decode())
    return " ".join(found)
