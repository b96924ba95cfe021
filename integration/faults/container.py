"""The container under test: its bundle with every protection, its report from inside, and
the search for what is left of it on the host."""

import json
import os
import shutil
import subprocess
import time
from pathlib import Path

# The probe, once it runs: what it sees, then a call that its filter answers in a way no
# kernel does (swapoff: ENOSPC), a sysctl, and a file that is masked.
LOOKS = ["report", "--", "syscall", "168", "--", "read", "/proc/sys/kernel/shm_rmid_forced", "--", "read", "/masked"]
LINES = 4
# With which a container in the foreground ends.
STATUS = 7

# What differs from one container to the next, or says nothing about protection.
VOLATILE = {"pid", "ppid", "clocks", "root", "keyring", "fds", "session", "process_group"}

# Of the cgroup, on either version: what `update` changes.
LIMITS = ["pids/pids.max", "memory/memory.limit_in_bytes", "cpu/cpu.shares", "devices/devices.list",
          "pids.max", "memory.max", "cpu.weight"]

# Before a program that makes containers: namespaces of its own, so that what is left there is
# theirs. Bash, the first process there, reaps orphans.
INSIDE = ["unshare", "--mount", "--pid", "--net", "--ipc", "--uts", "--fork", "--kill-child", "--mount-proc",
          "bash", "-c", '"$@"; exit $?', "bash"]

CAPABILITIES = ["CAP_KILL", "CAP_NET_BIND_SERVICE"]


def configuration(cgroup, user_namespace):
    """config.json. With a user namespace also what the other variant has not: new privileges
    stay possible, so the filter is loaded before the capabilities go."""
    character = {"type": "c", "access": "rwm", "allow": True}
    linux = {
        "cgroupsPath": cgroup,
        "namespaces": [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount", "cgroup")],
        "resources": {
            "devices": [{"allow": False, "access": "rwm"}, {**character, "major": 10, "minor": 229}],
            "pids": {"limit": 60},
            "memory": {"limit": 256 << 20},
            "cpu": {"shares": 512},
        },
        # Its node is made, and may not be opened.
        "devices": [{"path": "/dev/kmsg", "type": "c", "major": 1, "minor": 11, "fileMode": 0o666}],
        "sysctl": {"kernel.shm_rmid_forced": "1"},
        "rootfsPropagation": "private",
        "maskedPaths": ["/proc/keys", "/proc/timer_list", "/sys/firmware", "/masked"],
        "readonlyPaths": ["/proc/bus", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        "seccomp": {
            "defaultAction": "SCMP_ACT_ALLOW",
            "architectures": ["SCMP_ARCH_X86_64"],
            "syscalls": [{"names": ["swapoff"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}],
        },
    }
    if user_namespace:
        ids = [{"containerID": 0, "hostID": 100000, "size": 65536}]
        linux["namespaces"].append({"type": "user"})
        linux |= {"uidMappings": ids, "gidMappings": ids}
        # Not of a user namespace: the node would be the host's, by a mount.
        linux["devices"] = []
    sets = ("bounding", "effective", "permitted", "inheritable", "ambient")
    temporary = ["nosuid", "nodev", "noexec", "mode=1777", "size=1m"]
    return {
        "ociVersion": "1.2.0",
        "process": {
            "args": ["/probe", "seq", *LOOKS, "--", "sleep"],
            "env": ["PATH=/"],
            "cwd": "/",
            "user": {"uid": 1000, "gid": 1000, "additionalGids": [1001], "umask": 0o27},
            "capabilities": {name: CAPABILITIES for name in sets},
            "rlimits": [{"type": f"RLIMIT_{name}", "soft": value, "hard": value}
                        for name, value in (("NOFILE", 512), ("NPROC", 100), ("CORE", 0))],
            "noNewPrivileges": not user_namespace,
            "oomScoreAdj": 500,
        },
        "root": {"path": "rootfs", "readonly": True},
        "hostname": "faults",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=64k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
             "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]},
            {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": temporary},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
            {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
             "options": ["nosuid", "noexec", "nodev", "ro"]},
            {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": temporary},
            {"destination": "/volume", "type": "bind", "source": "volume",
             "options": ["rbind", "ro", "nosuid", "nodev", "noexec", "rprivate"]},
        ],
        "linux": linux,
    }


def hierarchies():
    """Where each is mounted."""
    base = Path("/sys/fs/cgroup")
    if (base / "cgroup.procs").exists():
        return [base]
    return [top for top in base.iterdir() if (top / "cgroup.procs").exists() and not top.is_symlink()]


def make_cgroups(path):
    """Makes the directory of this path in each hierarchy; containers can have theirs below."""
    for top in hierarchies():
        parent = top
        for part in Path(path).parts:
            own = parent / part
            own.mkdir(exist_ok=True)
            for name in ("cpuset.cpus", "cpuset.mems"):
                # Those of v1 begin empty.
                if (own / name).exists() and (own / "tasks").exists():
                    (own / name).write_text((parent / name).read_text())
            parent = own


class Container:
    """One at a time, always of the same name. This process is the first of its pid namespace
    and in a mount namespace of its own, so whatever is left is the container's."""

    ID = "c"

    def __init__(self, runtime, probe, directory, cgroup, user_namespace):
        self.runtime, self.directory, self.cgroup = str(runtime), directory, cgroup
        self.bundle, self.root = directory / "bundle", directory / "root"
        rootfs = self.bundle / "rootfs"
        for name in ("proc", "dev", "sys", "tmp", "volume"):
            (rootfs / name).mkdir(parents=True)
        shutil.copy(probe, rootfs / "probe")
        (rootfs / "masked").write_text("the host's secret")
        (self.bundle / "volume").mkdir()
        self.output = directory / "output"
        self.spec = configuration(f"/{cgroup}/{self.ID}", user_namespace)
        make_cgroups(cgroup)
        self.write(self.spec)

    def cgroups(self):
        """The directory that this container's cgroup is made in, in each hierarchy."""
        return [top / self.cgroup for top in hierarchies()]

    def write(self, spec):
        (self.bundle / "config.json").write_text(json.dumps(spec))
        exec_process = spec["process"] | {"args": ["/probe", "seq", *LOOKS]}
        (self.directory / "process.json").write_text(json.dumps(exec_process))

    def arguments(self, command, *more):
        return [self.runtime, "--root", str(self.root), command, *more]

    def teu(self, command, *more):
        """Undisturbed. Returns whether it succeeded, and what it wrote."""
        arguments = self.arguments(command, *more)
        with open(self.output, "ab") as output:
            done = subprocess.run(arguments, stdin=subprocess.DEVNULL, stdout=output, stderr=output, timeout=30)
        return done.returncode == 0

    def lines(self):
        return self.output.read_text(errors="replace").splitlines() if self.output.exists() else []

    def looks(self):
        """What the probe saw, without what changes from one to the next; None if it did not run."""
        text = self.output.read_text(errors="replace") if self.output.exists() else ""
        # The last line may be on its way.
        seen = [json.loads(line) for line in text.split("\n")[:-1] if line.startswith("{")]
        if len(seen) < LINES:
            return None
        report, *others = seen[:LINES]
        report["descriptors"] = len(report["fds"])
        report = {key: value for key, value in report.items() if key not in VOLATILE}
        report["namespaces"] = {kind: "host's" if name == os.readlink(f"/proc/self/ns/{kind}") else "own"
                                for kind, name in report["namespaces"].items()}
        for mount in report["mounts"]:
            # Numbers of the kernel, and of tmpfs what it says of the host's free memory.
            del mount["id"], mount["parent"], mount["device"]
        report["others"] = others
        return report

    def wait_for_looks(self, seconds=15):
        """Until the probe has said all, or nobody is there any more who could."""
        wait(lambda: self.looks() is not None or not self.processes(), seconds)
        return self.looks() is not None

    def limits(self):
        found = {}
        for parent in self.cgroups():
            for name in LIMITS:
                controller, _, file = name.rpartition("/")
                path = parent / self.ID / file
                if path.exists() and (not controller or controller in parent.parts[4].split(",")):
                    found[str(path)] = path.read_text()
        return found

    def processes(self):
        """All but this one and the first, which reaps what is orphaned."""
        return [int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) not in (1, os.getpid())]

    def pid(self):
        """Of init, as the cgroup has it."""
        for parent in self.cgroups():
            file = parent / self.ID / "cgroup.procs"
            pids = file.read_text().split() if file.exists() else []
            if pids:
                return int(pids[0])
        return None

    def leftovers(self, mounts):
        """Processes, cgroups, state and mounts that are still there; ends what dies by itself."""
        wait(lambda: not self.processes(), 2)
        left = [f"process {pid} ({command(pid)})" for pid in self.processes()]
        for parent in self.cgroups():
            left += [f"cgroup {path}" for path in parent.iterdir() if path.is_dir()]
        left += [f"state {path}" for path in self.root.rglob("*")] if self.root.exists() else []
        now = Path("/proc/self/mountinfo").read_text()
        if now != mounts:
            left.append(f"mounts {set(now.splitlines()) ^ set(mounts.splitlines())}")
        return left

    def clear(self):
        """By force, so that the next container finds nothing of this one."""
        for pid in self.processes():
            try:
                os.kill(pid, 9)
            except ProcessLookupError:
                pass
        assert wait(lambda: not self.processes(), 5), f"killed processes are still there: {self.processes()}"
        for parent in self.cgroups():
            for path in parent.iterdir():
                if path.is_dir():
                    path.rmdir()
        if self.root.exists():
            shutil.rmtree(self.root)
        self.output.unlink(missing_ok=True)

    def remove(self):
        for parent in self.cgroups():
            parent.rmdir()


def wait(is_so, seconds):
    """Whether it came to be so in time."""
    end = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > end:
            return False
        time.sleep(0.005)
    return True


def command(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return "gone"
