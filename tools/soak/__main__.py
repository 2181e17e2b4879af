"""Command line of the soak: `python -m tools.soak`, one JSON object on standard output."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any

from plandock.box import launch
from plandock.runs import alive
from plandock.runs.model import Run
from plandock.runs.store import Store
from plandock.standin import StandIn
from tests.crash.crashing import processes_of
from tests.support.laptop import Laptop
from tests.support.queueing import course
from tools.bench.boxes import make_conversation
from tools.bench.ground import prepare
from tools.bench.timing import BenchError, say
from tools.soak.feeding import Feeder, HandOff, TimeIsUp, ps_seconds, script, store_file
from tools.soak.leaks import Ground
from tools.soak.planting import planted
from tools.soak.watching import Supervisors

EDGE = 20
# How many wait in the queue beside those that go, and how long they have where time is up.
QUEUED, DRAIN_S = 6, 480.0
# What a peak of memory may differ between two lots of runs that do the same (MiB).
NOISE_MIB = 6.0
# The most files seen open depend on the moment of the look: a program just being started.
NOISE_FILES = 10


def main(argv: Sequence[str] | None = None) -> int:
    """Let the runs go and print the report; 0 only where all came home and nothing leaked."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.soak", description=__doc__, allow_abbrev=False
    )
    parser.add_argument("--runs", type=int, default=200, metavar="N", help="default 200")
    parser.add_argument("--engine", choices=("docker", "podman"), default="docker")
    parser.add_argument("--places", type=int, default=2, metavar="N", help="at once (default 2)")
    parser.add_argument("--minutes", type=float, default=90.0, help="at most (default 90)")
    args = parser.parse_args(argv)
    if args.runs < 2:
        parser.error("--runs must be at least 2")
    # Unwinds, so that no container, volume or folder stays.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        with tempfile.TemporaryDirectory(
            prefix="plandock-soak-", ignore_cleanup_errors=True
        ) as folder:
            cli = prepare(Path(folder), args.engine)
            report = soak(Path(folder), cli, args)
    except (BenchError, AssertionError) as error:
        say(f"failed: {error}")
        return 1
    except KeyboardInterrupt:
        return 130
    report["faults"] = faults(report)
    print(json.dumps(report, indent=2))
    return 1 if report["faults"] else 0


def faults(report: Mapping[str, Any]) -> list[str]:
    """What a report says that must not be, a line each; nothing of it is a matter of speed."""
    said = [f"leaked: {kind}: {', '.join(x)}" for kind, x in report["leaks"].items() if x]
    said += [f"not found though planted: {x}" for x in report["control"]["missed"]]
    for what in ("done", "branches"):
        if report[what] != report["runs"]:
            said.append(f"{what}: {report[what]} of {report['runs']}")
    if not report["in_time"]:
        said.append("the time was up")
    if report["most_at_once"] > report["places"]:
        said.append(f"{report['most_at_once']} runs went at once")
    for what, noise in (
        ("supervisor_peak_mib", NOISE_MIB),
        ("supervisor_open_files", NOISE_FILES),
        ("files_per_run", 0),
    ):
        grown = report["growth"][what]
        if grown["last"] > grown["first"] + noise:
            said.append(f"{what} grew from {grown['first']} to {grown['last']}")
    return said


def soak(folder: Path, cli: Path, wish: argparse.Namespace) -> dict[str, Any]:
    """Let the runs go through the queue; the report."""
    engine, count, places = str(wish.engine), int(wish.runs), int(wish.places)
    load = os.getloadavg()[0]
    temporary = folder / "tmp"
    temporary.mkdir()
    # Set-up may have started an engine whose socket is not where the client looks by itself.
    env = {name: os.environ[name] for name in ("DOCKER_HOST",) if name in os.environ}
    env |= {"TMPDIR": str(temporary), "PLANDOCK_MAX_PARALLEL": str(places)}
    with ExitStack() as later:
        standin = later.enter_context(StandIn(script()))
        laptop = Laptop(folder / "laptop", cli=cli, engine=engine, standin=standin, env=env)
        talk = make_conversation(laptop)
        laptop.plandock("init", "--scope", "user")
        began = time.monotonic()
        end = began + wish.minutes * 60 - DRAIN_S
        feeder = Feeder(laptop, talk, depth=places + QUEUED, end=end)
        ground = Ground(laptop, (laptop.repo.root, feeder.second), temporary)
        later.callback(_clean_up, ground)
        with Supervisors(store_file(laptop)) as supervisors:
            given, figures, in_time = _feed(feeder, ground, count)
        seconds = time.monotonic() - began
        runs = _runs(laptop)
        figures["ps_ms"]["last"] = _ms(ps_seconds(laptop))
        say("looking for what was left behind")
        leaks = ground.leaks(runs, patience_s=60.0)
        with planted(ground, runs[-1]) as left:
            seen = ground.leaks(runs, patience_s=0.0)
        edge = min(EDGE, count // 2)
        by_id = {str(run.id): run for run in runs}
        ordered = [by_id[x.run] for x in given if x.run in by_id]
        hooks = [x.hook_s for x in given if x.hook_s is not None]
        figures |= {
            "supervisor_peak_mib": _edges(
                [supervisors.peak_kib[r.id] / 1024 for r in ordered], edge
            ),
            "supervisor_open_files": _edges(
                [float(supervisors.open_files[r.id]) for r in ordered], edge, max
            ),
            "files_per_run": _edges([float(len(ground.files(r.id))) for r in ordered], edge, max),
            "bytes_per_run": _edges(
                [float(_size(ground.state / "runs" / r.id)) for r in ordered], edge, max
            ),
            "hook_ms": _edges([1000 * x for x in hooks], edge),
            "run_seconds": _edges([_went_s(run) for run in ordered], edge),
        }  # fmt: skip
        return {
            "runs": count,
            "handed_off": len(given),
            "done": sum(run.state == "done" for run in runs),
            "failed": sum(run.state == "failed" for run in runs),
            "branches": len(_branches(ground)),
            "seconds": round(seconds),
            "in_time": in_time,
            "places": places,
            "most_at_once": course(store_file(laptop)).most_at_once,
            "leaks": leaks,
            "control": {"planted": len(left), "missed": sorted(k for k in left if not seen[k])},
            "growth": figures,
            "supervisor_peak_mib_highest": round(max(supervisors.peak_kib.values()) / 1024, 1),
            "ended_otherwise": [f"{r.id} {r.state} {r.reason}: {r.message}" for r in runs
                                if r.state != "done"],
            "machine": {
                "cpus": os.cpu_count(),
                "load_1m_before": round(load, 1),
                "load_1m_after": round(os.getloadavg()[0], 1),
                "engine": engine,
                "cli": cli.parent.name,
            },
        }  # fmt: skip


def _feed(
    feeder: Feeder, ground: Ground, count: int
) -> tuple[list[HandOff], dict[str, dict[str, float]], bool]:
    """Hand all runs off and wait for their ends: the hand-offs, two figures, and if in time."""
    given: list[HandOff] = []
    store, ps = {"first": 0.0}, {"first": 0.0}
    in_time = True
    try:
        for number in range(count):
            given.append(feeder.hand_off(number))
            if number == 0:
                # By itself: what every run is held against, and an image may have to be built.
                feeder.until_at_most(0)
                ground.learn(next(r for r in _runs(feeder.laptop) if r.id == given[0].run))
                ps["first"] = _ms(ps_seconds(feeder.laptop))
            if number + 1 == min(EDGE, count // 2):
                store["first"] = _store_bytes(feeder.laptop) / (number + 1)
            if number % 10 == 9:
                say(f"{number + 1} of {count} handed off, load {os.getloadavg()[0]:.1f}")
        feeder.end += DRAIN_S
        feeder.until_at_most(0)
    except TimeIsUp:
        say("the time is up: no more are handed off")
        in_time = False
    feeder.drain(DRAIN_S)
    store["last"] = _store_bytes(feeder.laptop) / max(1, len(given))
    return given, {"store_bytes_per_run": store, "ps_ms": ps}, in_time


def _clean_up(ground: Ground) -> None:
    """End every run where it stands, and remove what is in the engine; no signal breaks it off."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    for _ in range(5):
        for run in _runs(ground.laptop):
            if alive.is_same(run.supervisor_pid, run.supervisor_started):
                os.kill(run.supervisor_pid, signal.SIGKILL)
        # What a supervisor had begun in the engine comes to its end first.
        if not processes_of(ground.laptop, patience_s=10.0):
            break
    runs = _runs(ground.laptop)
    ground.remove([str(run.id) for run in runs], {launch.names_of(run).mirror for run in runs})


def _runs(laptop: Laptop) -> list[Run]:
    if not store_file(laptop).exists():
        return []
    with Store(store_file(laptop)) as store:
        return store.list()


def _branches(ground: Ground) -> set[tuple[Path, str]]:
    """The branches that are there and that a run says it made, by repository."""
    found = set()
    for run in _runs(ground.laptop):
        refs = Path(run.repo) / ".git/refs/heads" / run.branch
        if run.branch and refs.is_file():
            found.add((Path(run.repo), run.branch))
    return found


def _store_bytes(laptop: Laptop) -> int:
    """The size of the database, with what is in its log."""
    with sqlite3.connect(f"file:{store_file(laptop)}?mode=ro", uri=True) as database:
        pages = database.execute("PRAGMA page_count").fetchone()[0]
        size = database.execute("PRAGMA page_size").fetchone()[0]
    database.close()
    return int(pages) * int(size)


def _size(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())


def _went_s(run: Run) -> float:
    """From the place that a run got to its end."""
    if not (run.started_at and run.ended_at):
        return 0.0
    times = [datetime.fromisoformat(x).timestamp() for x in (run.started_at, run.ended_at)]
    return times[1] - times[0]


def _edges(
    values: Sequence[float],
    edge: int,
    of: Callable[[Sequence[float]], float] = statistics.median,
) -> dict[str, float]:
    """The medians (or what else is asked) of the first and of the last values."""
    if not values:
        return {"first": 0.0, "last": 0.0}
    return {"first": round(of(values[:edge]), 1), "last": round(of(values[-edge:]), 1)}


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 1)


if __name__ == "__main__":
    sys.exit(main())
