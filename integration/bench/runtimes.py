"""The runtimes to compare, the kernel's floor, and the timing of commands."""

import json
import os
import shutil
import subprocess
import sys
import time

from bundle import PROGRAM, ROOT, compile_program, make_bundle, make_rootfs

FLOOR = "floor"


def parse(parser):
    """Adds the arguments that all benchmarks of runtimes have, and parses the command line."""
    parser.add_argument("--v1", action="store_true",
                        help="hide the cgroup v2 hierarchy of a hybrid system, which crun refuses")
    parser.add_argument("--results", help="file to write all that was measured to, as JSON")
    parser.add_argument("runtimes", nargs="*", metavar="NAME=PATH")
    given = parser.parse_args()
    if given.v1 and os.path.exists("/sys/fs/cgroup/unified"):
        hide_v2()
    if not given.runtimes:
        path = f"{os.environ['PATH']}:{ROOT}/target/conformance/runtimes"
        found = {name: shutil.which(name, path=path) for name in ("crun", "runc")}
        given.runtimes = [f"teu={ROOT}/target/teu"]
        given.runtimes += [f"{name}={path}" for name, path in found.items() if path]
    given.runtimes = dict(runtime.split("=", 1) for runtime in given.runtimes)
    return given


def hide_v2():
    """Executes this program again in a new mount namespace in which the v2 hierarchy is covered."""
    hide = 'mount --make-rprivate /; mount -t tmpfs none /sys/fs/cgroup/unified; exec "$@"'
    again = [word for word in sys.argv if word != "--v1"]
    os.execvp("unshare", ["unshare", "-m", "sh", "-c", hide, "sh", *again])


def write_results(path, results):
    if path:
        with open(path, "w", encoding="utf-8") as file:
            json.dump(results, file)


def cgroups(name):
    """The directories that a runtime makes for a container of this name."""
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        mounts = [line.split() for line in file]
    with open("/proc/self/cgroup", encoding="utf-8") as file:
        for line in file:
            _, controllers, own = line.rstrip("\n").split(":", 2)
            for mount in mounts:
                top, kind, options = mount[4], mount[-3], mount[-1].split(",")
                is_it = (kind == "cgroup2" and not controllers
                         or kind == "cgroup" and set(controllers.split(",")) <= set(options))
                parent = f"{top}{own}".rstrip("/")
                # A hierarchy that is covered by another mount has no such file.
                if is_it and os.path.exists(f"{parent}/cgroup.procs"):
                    yield f"{parent}/{name}"


class Bench:
    """The bundles, and the commands to measure."""

    def __init__(self, directory, given):
        self.directory = directory
        self.given = given
        self.rootfs = f"{directory}/rootfs"
        self.programs = make_rootfs(self.rootfs)
        self.floor = compile_program("floor", directory)
        self.floors = f"bench-{os.getpid()}-floor"
        make_bundle(f"{directory}/ends", self.rootfs, [PROGRAM])
        make_bundle(f"{directory}/waits", self.rootfs, [PROGRAM, "wait"])

    def command(self, name, *words):
        return [self.given.runtimes[name], "--root", f"{self.directory}/root-{name}", *words]

    def run_floor(self, *program):
        """The command line of floor.c that runs this program in a container."""
        return [self.floor, self.rootfs, *cgroups(self.floors), "--", *program]

    def measure(self, command, pause=0.0):
        """Runs a command. Returns its wall time and CPU time in microseconds, peak memory in KiB, and
        wait status."""
        time.sleep(pause)
        done = subprocess.run([self.programs, "measure", *command], capture_output=True, check=True)
        return [int(number) for number in done.stdout.split()]

    def clean(self):
        """Removes the cgroups that a failed floor.c has left."""
        for path in filter(os.path.exists, cgroups(self.floors)):
            os.rmdir(path)
