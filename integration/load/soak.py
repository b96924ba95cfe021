"""The soak: containers that stay, half of them with a shim each, and calls to them for a long time."""

import random
import statistics
import subprocess
import time
from pathlib import Path

from containers import Broken, CommandLine, Shim, pids
from shims import weight

OTHER = "true"
VERBS = ["exec", "update", "pause", "resume", "stats"]
# The allowed ratio of the last third of the time to the first third, each a median of minutes.
# Times are compared in multiples of the time of `busybox true`, which runs between the calls,
# because the machine may have other work meanwhile.
TIME, MEMORY = 2.0, 1.05
# Seconds between two calls, so that the machine has time for other work.
PAUSE = 0.02


def soak(host, count, minutes):
    """Runs the soak. Returns what has grown or failed."""
    units = [(Shim(host, f"soak-{number}-", random.Random(number), 1) if number % 2 else
              CommandLine(host, f"soak-{number}-", random.Random(number))) for number in range(count)]
    boxes = [unit.tasks[0] if isinstance(unit, Shim) else unit for unit in units]
    shims = [pid for unit in units if isinstance(unit, Shim) for pid in unit.processes]
    chance, failures = random.Random(count), []
    try:
        for box in boxes:
            box.detached_share = 0
            for verb in ("create", "start"):
                call(box, verb)
        parts = max(round(minutes), 3)
        print(head(), flush=True)
        rows = []
        for number in range(parts):
            rows.append(times(boxes, chance, minutes * 60 / parts) | sizes(shims))
            print(line(f"{(number + 1) * minutes / parts:.1f}", rows[-1]), flush=True)
        failures = growth(rows)
        for unit in units:
            unit.finish()
    except Exception as error:  # noqa: BLE001: whatever it is, the run ends with a result
        failures = [str(error) if isinstance(error, Broken) else repr(error)]
        for unit in units:
            unit.abandon()
    return failures


def call(box, verb):
    """Runs a command that must succeed. Returns its duration in milliseconds."""
    begin = time.perf_counter()
    refusal = box.perform(verb)
    took = (time.perf_counter() - begin) * 1000
    if refusal:
        raise Broken(f"{verb} of {box.name}: {refusal}")
    box.status = box.after[verb][box.status]
    return took


def times(boxes, chance, seconds):
    """Calls containers for some time. Returns the median duration of each command, by the command
    line and by the shim."""
    taken = {(verb, is_shim): [] for is_shim in (False, True) for verb in VERBS}
    others = []
    end = time.monotonic() + seconds
    while time.monotonic() < end or not all(taken.values()):
        box = chance.choice(boxes)
        for verb in VERBS:
            taken[verb, box.is_shim].append(call(box, verb))
            time.sleep(PAUSE)
        begin = time.perf_counter()
        subprocess.run(["busybox", "true"], check=True)
        others.append((time.perf_counter() - begin) * 1000)
    return {key: statistics.median(values) for key, values in taken.items()} | {OTHER: statistics.median(others)}


def sizes(shims):
    """The memory and descriptors of the shims, and the numbers of all processes and mounts."""
    return {
        "PSS KiB": weight(shims)[1],
        "descriptors": sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in shims),
        "processes": len(pids()),
        "mounts": len(Path("/proc/self/mountinfo").read_text().splitlines()),
    }


def growth(rows):
    """Compares the last third of the rows with the first. Returns the values that have grown."""
    third = len(rows) // 3
    print(f"{'':32}{'first third':>12}{'last third':>12}{'ratio':>8}{'limit':>8}")
    failures = []
    for key in rows[0]:
        if key == OTHER:
            continue
        first, last = (statistics.median(row[key] / (row[OTHER] if isinstance(key, tuple) else 1) for row in part)
                       for part in (rows[:third], rows[-third:]))
        limit = TIME if isinstance(key, tuple) else MEMORY if key == "PSS KiB" else 1.0
        text = f"{name(key):32}{first:12.2f}{last:12.2f}{last / first:8.2f}{limit:8.2f}"
        print(text)
        if last > first * limit:
            failures.append(f"grows: {text}")
    return failures


def name(key):
    return f"{key[0]} by {'shim' if key[1] else 'teu'}, in parts" if isinstance(key, tuple) else key


def head():
    columns = "".join(f"{by + ' ' + verb:>12}" for by in ("teu", "shim") for verb in VERBS)
    return f"minute{columns}{OTHER:>9}{'PSS KiB':>9}{'descr.':>8}{'proc.':>8}{'mounts':>8}"


def line(minute, row):
    sizes_ = "".join(f"{row[key]:{width}}" for key, width in
                     (("PSS KiB", 9), ("descriptors", 8), ("processes", 8), ("mounts", 8)))
    times_ = "".join(f"{value:12.2f}" for key, value in row.items() if isinstance(key, tuple))
    return f"{minute:6}{times_}{row[OTHER]:9.2f}{sizes_}"
