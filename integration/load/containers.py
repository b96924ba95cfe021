"""Containers that go through random commands, by the command line and by the shim, each with
its expected state; and the search for what is left of them on the host."""

import json
import os
import shutil
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import shims
from container import command as command_line
from container import configuration, hierarchies, wait
from shims import Connection, Refused, message

# By how much an emulated machine is slower; time limits grow by it.
SLOWNESS = float(os.environ.get("TEU_TEST_SLOWNESS", "1"))

ABSENT, CREATED, RUNNING, STOPPED = "absent", "created", "running", "stopped"
PAUSED = {status: f"paused {status}" for status in (CREATED, RUNNING)}
ALIVE = [*PAUSED, *PAUSED.values()]

# For each command, the status that follows from a status. Where there is no entry, the command
# must be refused.
AFTER = {
    "create": {ABSENT: CREATED},
    "start": {CREATED: RUNNING},
    "exec": {status: status for status in PAUSED},
    "update": {status: status for status in ALIVE},
    "stats": {status: status for status in ALIVE},
    "pause": PAUSED,
    "resume": {paused: status for status, paused in PAUSED.items()},
    "kill": dict.fromkeys(ALIVE, STOPPED),
    "delete": {CREATED: ABSENT, STOPPED: ABSENT},
    "delete --force": dict.fromkeys([ABSENT, *ALIVE, STOPPED], ABSENT),
}
# The share of commands that must be refused.
SHARE_REFUSED = 0.15


class Broken(Exception):
    """The runtime did something wrong, or left something behind."""


class Host:
    """The programs, directories and counters that all containers of a run share."""

    def __init__(self, runtime, directory, cgroup):
        self.directory, self.cgroup = directory, cgroup
        # Copy the runtime, because processes elsewhere that execute the same file would lower
        # the proportional memory (PSS) of the shims.
        self.runtime = shutil.copy(runtime, directory / "teu")
        self.shim = str(directory / "containerd-shim-teu-v2")
        os.symlink(self.runtime, self.shim)
        self.root, self.shim_root = directory / "root", directory / "shim-root"
        self.events, self.containerd = str(directory / "events"), str(directory / "containerd")
        self.rootfs, self.volume = directory / "rootfs", directory / "volume"
        for name in ("proc", "dev", "sys", "tmp", "volume"):
            (self.rootfs / name).mkdir(parents=True)
        for directory in (self.volume, self.root, self.root_of(True)):
            directory.mkdir(parents=True)
        shutil.copy(shutil.which("busybox"), self.rootfs / "busybox")
        self.outcomes = Counter()
        # The recent duration of each command in seconds, from which the moment of a kill is chosen.
        self.usual = Counter()

    def root_of(self, is_shim):
        return self.shim_root / shims.NAMESPACE if is_shim else self.root

    def bundle(self, name, user_namespace):
        path = self.directory / name
        path.mkdir()
        spec = configuration(f"/{self.cgroup}/{name}", user_namespace)
        spec["process"]["args"] = ["/busybox", "sh", "-c", "busybox sleep 10000 & exec busybox sleep 10000"]
        # All containers have the same user, whose processes this limit would count together.
        limits = [limit for limit in spec["process"]["rlimits"] if limit["type"] != "RLIMIT_NPROC"]
        spec["process"]["rlimits"] = limits
        spec["root"]["path"] = str(self.rootfs)
        spec["mounts"][-1]["source"] = str(self.volume)
        (path / "config.json").write_text(json.dumps(spec))
        return path

    def teu(self, is_shim, *words, stderr=subprocess.STDOUT):
        """Runs a command of teu to its end. Returns its exit status and output."""
        command = [self.runtime, "--root", str(self.root_of(is_shim)), *words]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr, text=True,
                             timeout=60 * SLOWNESS)
        return done.returncode, done.stdout

    def limit(self, name):
        """The limit of processes in the container's cgroup."""
        files = [top / self.cgroup / name / "pids.max" for top in hierarchies()]
        return next(file.read_text().strip() for file in files if file.exists())

    def leftovers(self, name, is_shim):
        """Lists what is left of a container that was deleted."""
        def found():
            paths = [self.root_of(is_shim) / name, *(top / self.cgroup / name for top in hierarchies())]
            mounts = Path("/proc/self/mountinfo").read_text().splitlines()
            return [*(f"left: {path}" for path in paths if path.exists()),
                    *(f"process {pid}: {command_line(pid)}" for pid in processes_of(name)),
                    *(f"mount {mount}" for mount in mounts if f"/{name}" in mount)]

        wait(lambda: not found(), 2 * SLOWNESS)
        return found()


def pids():
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def processes_of(name):
    """The processes in a container's cgroup."""
    for pid in pids():
        try:
            cgroups = Path(f"/proc/{pid}/cgroup").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if f"/{name}\n" in cgroups or f"/{name}/" in cgroups:
            yield pid


def children(pid):
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def kill(pid):
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        # The process has ended meanwhile.
        pass


class Container:
    """A container, its expected status, and the commands that it has seen."""

    is_shim = False
    after = AFTER
    # The share of commands that are killed.
    share_cut = 0.2

    def __init__(self, host, name, chance):
        self.host, self.name, self.chance = host, name, chance
        self.status, self.history = ABSENT, []
        self.bundle = host.bundle(name, user_namespace=chance.random() < 0.25)

    def choose(self):
        """Chooses a command, mostly one that must succeed in the present status."""
        works = [verb for verb in self.after if self.status in self.after[verb]]
        refused = [verb for verb in self.after if verb not in works]
        if self.chance.random() < SHARE_REFUSED and refused:
            return self.chance.choice(refused)
        # Prefer the others to kill and delete, which would end most lives early.
        weights = [1 if verb.startswith(("kill", "delete")) else 4 for verb in works]
        return self.chance.choices(works, weights)[0]

    def step(self):
        verb = self.choose()
        is_cut = self.chance.random() < self.share_cut
        self.history.append(f"{verb}{' (cut)' if is_cut else ''} when {self.status}")
        expected = self.after[verb].get(self.status)
        begin = time.monotonic()
        refusal = self.cut(verb) if is_cut else self.perform(verb)
        if is_cut:
            self.host.outcomes[verb, "cut"] += 1
            self.settle(verb)
            return
        took = time.monotonic() - begin
        self.host.usual[verb] = 0.8 * self.host.usual[verb] + 0.2 * took
        self.host.outcomes[verb, "refused" if refusal else "done"] += 1
        if expected is None and refusal is None:
            raise Broken(f"{verb}: not refused")
        if expected is not None and refusal is not None:
            raise Broken(f"{verb}: refused: {refusal}")
        self.status = expected or self.status
        self.check()

    def moment(self, verb):
        """Sleeps for a random part of the command's usual duration."""
        time.sleep(self.chance.random() * 1.2 * (self.host.usual[verb] or 0.005))

    def check(self):
        """Checks that `state`, and sometimes `list` and `ps`, say what is expected."""
        expected = self.status.split()[0]
        if not wait(lambda: self.state() == expected, 10 * SLOWNESS):
            raise Broken(f"state: {self.state()}, not {expected}")
        if self.chance.random() < 0.3:
            # On standard error, `list` warns about containers that are made or deleted meanwhile.
            status, listed = self.host.teu(self.is_shim, "list", "--format", "json", stderr=subprocess.DEVNULL)
            if status != 0:
                raise Broken(f"list: {status}, {listed}")
            found = {box["id"]: box["status"] for box in json.loads(listed) or []}
            if found.get(self.name, ABSENT) != expected:
                raise Broken(f"list: {found.get(self.name)}, not {expected}")
        if self.chance.random() < 0.3 and self.status in ALIVE:
            status, listed = self.host.teu(self.is_shim, "ps", "--format", "json", self.name)
            if status != 0 or not set(json.loads(listed)) <= set(processes_of(self.name)):
                raise Broken(f"ps: {status}, {listed}")

    def runtime_state(self):
        """The status that `teu state` prints."""
        status, said = self.host.teu(self.is_shim, "state", self.name)
        if status == 0:
            return json.loads(said)["status"]
        if "does not exist" not in said:
            raise Broken(f"state: {status}, {said}")
        return ABSENT

    def abandon(self):
        """Removes the container after a failure, so that its remains are not reported as well."""
        self.host.teu(self.is_shim, "delete", "--force", self.name)

    def assert_gone(self):
        if left := self.host.leftovers(self.name, self.is_shim):
            raise Broken("; ".join(left))


class CommandLine(Container):
    """A container made by the command line, whose commands are killed at random moments."""

    # The share of `exec` whose process stays.
    detached_share = 0.5

    def life(self, steps):
        for _ in range(steps):
            self.step()

    def words(self, verb):
        name = self.name
        self.pids = self.chance.randint(20, 90)
        return {
            "create": ["create", "--bundle", str(self.bundle), name],
            "exec": (["exec", "--detach", name, "/busybox", "sleep", "10000"]
                     if self.chance.random() < self.detached_share else
                     ["exec", name, "/busybox", "echo", "executed"]),
            "stats": ["events", "--stats", name],
            "update": ["update", "--pids-limit", str(self.pids), name],
            "kill": ["kill", name, "KILL"],
            "delete --force": ["delete", "--force", name],
        }.get(verb, [verb, name])

    def begin(self, words):
        """Starts a command. Its output goes to a file, because a container keeps it open."""
        with open(self.bundle / "output", "wb") as output:
            command = [self.host.runtime, "--root", str(self.host.root), *words]
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)

    def perform(self, verb):
        """Runs a command. Returns why it was refused, or None."""
        words = self.words(verb)
        status = self.begin(words).wait(60 * SLOWNESS)
        output = (self.bundle / "output").read_text(errors="replace")
        if status != 0:
            if status != (255 if verb == "exec" else 1) or len(output.splitlines()) != 1:
                raise Broken(f"{verb}: status {status}, {output}")
            return output
        if verb == "stats":
            return None if json.loads(output)["type"] == "stats" else output
        if output != ("executed\n" if "echo" in words else ""):
            raise Broken(f"{verb}: {output}")
        if verb == "update" and self.host.limit(self.name) != str(self.pids):
            raise Broken(f"update: a limit of {self.host.limit(self.name)}, not {self.pids}")
        return None

    def cut(self, verb):
        """Kills the command, or one of its children, at a random moment."""
        process = self.begin(self.words(verb))
        self.moment(verb)
        kill(self.chance.choice([process.pid, *children(process.pid)]))
        process.wait(60 * SLOWNESS)

    def settle(self, verb):
        """Finds out what a killed command did."""
        if verb in ("kill", "delete", "delete --force"):
            # The command may have sent its signal, which takes effect later: make sure that it does.
            self.host.teu(False, "kill", self.name, "KILL")
            wait(lambda: self.left() in (STOPPED, ABSENT), 10 * SLOWNESS)
        else:
            time.sleep(0.05 * SLOWNESS)
        found = self.left()
        if found == ABSENT:
            self.finish()
        else:
            self.status = PAUSED[self.status.removeprefix("paused ")] if found == "paused" else found

    def left(self):
        """The status; absent also if the container is half made or half removed."""
        try:
            found = self.state()
        except Broken:
            return ABSENT
        return found if found in (CREATED, RUNNING, "paused", STOPPED) else ABSENT

    def state(self):
        return self.runtime_state()

    def finish(self):
        """Deletes the container by force, and checks that nothing is left of it."""
        status, said = self.host.teu(False, "delete", "--force", self.name)
        if status != 0:
            raise Broken(f"delete --force: {status}, {said}")
        self.assert_gone()
        self.status = ABSENT


class Task(Container):
    """A container that is a task of a shim."""

    is_shim = True
    # A killed command means a killed shim, which ends the life of all its tasks.
    share_cut = 0.03
    # The differences are those of containerd's own shim; a task has no deletion by force.
    after = {verb: follows for verb, follows in AFTER.items() if verb != "delete --force"}
    after["pause"] = {RUNNING: PAUSED[RUNNING]}
    after["stats"] = AFTER["stats"] | {STOPPED: STOPPED}
    STATUSES = {1: CREATED, 2: RUNNING, 3: STOPPED, 4: "paused"}

    def __init__(self, shim, name, chance):
        super().__init__(shim.host, name, chance)
        self.shim, self.executed = shim, 0

    def calls(self, verb):
        """The calls to the shim that make up a command."""
        task = message(_1=self.name)
        if verb == "exec":
            self.executed += 1
            id_ = f"exec-{self.executed}"
            process = json.dumps({"user": {"uid": 0, "gid": 0}, "args": ["/busybox", "true"], "cwd": "/"})
            exec_ = message(_1=self.name, _2=id_)
            return [("Exec", message(_1=self.name, _2=id_, _7=message(_1="process", _2=process))),
                    ("Start", exec_), ("Wait", exec_), ("Delete", exec_)]
        if verb == "update":
            self.pids = self.chance.randint(20, 90)
            resources = json.dumps({"pids": {"limit": self.pids}})
            return [("Update", message(_1=self.name, _2=message(_1="resources", _2=resources)))]
        if verb == "kill":
            return [("Kill", message(_1=self.name, _3=int(signal.SIGKILL)))]
        if verb == "create":
            return [("Create", message(_1=self.name, _2=str(self.bundle), _10=self.shim.options))]
        return [(verb.capitalize(), task)]

    def perform(self, verb):
        for method, request in self.calls(verb):
            try:
                answer = self.shim.connection.call(method, request)
            except Refused as reason:
                return str(reason)
            if method == "Wait" and (status := shims.fields(answer).get(1, 0)) != 0:
                raise Broken(f"exec: status {status}")
        if verb == "update" and self.host.limit(self.name) != str(self.pids):
            raise Broken(f"update: a limit of {self.host.limit(self.name)}, not {self.pids}")
        return None

    def cut(self, verb):
        """Kills the shim at a random moment of the command."""
        for method, request in self.calls(verb)[:self.chance.randint(1, 4)]:
            self.shim.connection.send(method, request)
        self.moment(verb)
        self.shim.kill()

    def settle(self, verb):
        """Does nothing, because no shim is left to ask."""

    def state(self):
        try:
            answer = self.shim.connection.call("State", message(_1=self.name))
        except Refused:
            found = ABSENT
        else:
            found = self.STATUSES[shims.fields(answer)[4]]
        if found != self.runtime_state():
            return f"{found} to the shim, {self.runtime_state()} to teu"
        return found


class Shim:
    """A shim, a connection to it, and its tasks."""

    def __init__(self, host, name, chance, count):
        self.host, self.chance = host, chance
        self.options = shims.options("", str(host.shim_root))
        self.tasks = [Task(self, f"{name}{suffix}", chance) for suffix in "abc"[:count]]
        self.is_killed = False
        first = self.tasks[0]
        os.mkfifo(first.bundle / "log")
        self.log = open(first.bundle / "log", "r+b", buffering=0)
        self.connection = Connection(self.run(first, "start"), 60 * SLOWNESS)
        # With the first task, the shim opens descriptors that it keeps.
        for verb in ("create", "delete"):
            if refusal := first.perform(verb):
                raise Broken(f"{verb}, at first: {refusal}")
        # They are the server and the spawner.
        self.processes = [pid for pid in pids() if f" -id {first.name} " in command_line(pid)]
        self.descriptors = self.count_descriptors()

    def run(self, task, *words):
        """Runs the shim's program as containerd does for a task. Returns its output."""
        command = shims.command(self.host.shim, self.host.containerd, task.name, *words)
        done = subprocess.run(command, input=self.options, capture_output=True, cwd=task.bundle,
                              env=shims.environment(self.host.events), timeout=60 * SLOWNESS)
        if done.returncode != 0:
            raise Broken(f"{words[-1]} of {task.name}: {done.returncode}, {done.stderr}")
        return done.stdout

    def count_descriptors(self):
        return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in self.processes)

    def kill(self):
        """Kills the server or the spawner; the other one then ends by itself."""
        self.is_killed = True
        kill(self.chance.choice(self.processes))

    def life(self, steps):
        for _ in range(steps):
            self.chance.choice(self.tasks).step()
            if self.is_killed:
                return

    def abandon(self):
        for pid in self.processes:
            kill(pid)
        self.connection.close()
        self.log.close()
        for task in self.tasks:
            self.run(task, "-bundle", str(task.bundle), "delete")

    def finish(self):
        """Deletes all tasks and ends the shim, or cleans up after a killed shim, as containerd does.
        Checks that nothing is left."""
        for task in () if self.is_killed else self.tasks:
            for verb in ("kill", "delete"):
                if task.status in ALIVE or task.status == STOPPED and verb == "delete":
                    if refusal := task.perform(verb):
                        raise Broken(f"{verb}, at last: {refusal}")
                    task.status = task.after[verb][task.status]
                    task.check()
        if self.is_killed:
            # A closed connection is how containerd learns of the end of a shim.
            self.connection.wait_for_close()
        else:
            if not wait(lambda: self.count_descriptors() == self.descriptors, 2 * SLOWNESS):
                raise Broken(f"{self.count_descriptors()} descriptors, {self.descriptors} when there was no task")
            self.connection.send("Shutdown", message(_1=self.tasks[0].name))
        self.connection.close()
        self.log.close()
        for task in self.tasks:
            self.run(task, "-bundle", str(task.bundle), "delete")
            task.assert_gone()
            status, said = self.host.teu(True, "delete", "--force", task.name)
            if status != 0:
                raise Broken(f"delete --force: {status}, {said}")
        left = lambda: [pid for pid in self.processes if os.path.exists(f"/proc/{pid}")]  # noqa: E731
        if not wait(lambda: not left() and not os.path.exists(self.connection.path), 5 * SLOWNESS):
            raise Broken(f"left of the shim: {left()}, {self.connection.path}")
