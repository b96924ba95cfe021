"""Makes the benchmark's container: like Docker's, with five namespaces, limits and masked paths."""

import json
import os
import subprocess

HERE = os.path.dirname(os.path.realpath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
PROGRAM = "/programs"


def specification(rootfs, args):
    mounts = [
        ("/proc", "proc", []),
        ("/dev", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
        ("/dev/pts", "devpts", ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]),
        ("/dev/shm", "tmpfs", ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
        ("/dev/mqueue", "mqueue", ["nosuid", "noexec", "nodev"]),
        ("/sys", "sysfs", ["nosuid", "noexec", "nodev", "ro"]),
    ]
    capabilities = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]
    masked = ["acpi", "asound", "kcore", "keys", "latency_stats", "timer_list", "timer_stats",
              "sched_debug", "scsi"]
    return {
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": args,
            "cwd": "/",
            "capabilities": {kind: capabilities for kind in ("bounding", "effective", "permitted")},
            "noNewPrivileges": True,
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
        },
        "root": {"path": rootfs, "readonly": True},
        "hostname": "bench",
        "mounts": [{"destination": where, "type": kind, "source": kind, "options": options}
                   for where, kind, options in mounts],
        "linux": {
            "namespaces": [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount")],
            "resources": {
                "devices": [{"allow": False, "access": "rwm"}],
                "cpu": {"shares": 512, "cpus": "0"},
                "memory": {"limit": 64 << 20},
                "pids": {"limit": 64},
            },
            "maskedPaths": [f"/proc/{name}" for name in masked] + ["/sys/firmware"],
            "readonlyPaths": [f"/proc/{name}" for name in ("bus", "fs", "irq", "sys")],
        },
    }


def compile_program(name, directory):
    """Compiles NAME.c into a static program. Returns its path."""
    path = f"{directory}/{name}"
    subprocess.run(["cc", "-O2", "-static", "-o", path, f"{HERE}/{name}.c"], check=True)
    return path


def make_rootfs(path):
    """Makes a root filesystem with the container's program. Returns the path of the program."""
    for name in ("proc", "sys", "dev"):
        os.makedirs(f"{path}/{name}")
    return compile_program("programs", path)


def make_bundle(path, rootfs, args, cgroup=None):
    spec = specification(rootfs, args)
    if cgroup:
        spec["linux"]["cgroupsPath"] = cgroup
    os.makedirs(path)
    with open(f"{path}/config.json", "w", encoding="utf-8") as file:
        json.dump(spec, file)
