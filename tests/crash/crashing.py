"""The plan of the crash tests, a run as its store tells it, and that nothing of it was lost."""

from __future__ import annotations

import fcntl
import itertools
import os
import shlex
import signal
import stat
import subprocess
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from plandock.runs import alive
from plandock.runs.model import Run
from plandock.runs.store import Store
from plandock.standin import Script, bash, commit, execution_scene, write_file
from tests.support import product
from tests.support.laptop import Laptop

POLL_S = 0.002
PATIENCE_S = 1500.0
FINAL = ("done", "failed", "stopped")
SUBJECTS = ("First of three", "Second of three", "Third of three")
FILES = {
    "one.txt": "first\n",
    "two.txt": "second\n",
    "three.txt": "third\n",
    "left.txt": "not committed\n",
    "src/left.txt": "not committed either\n",
}


def script(*first: Any, looks: bool = False) -> Script:
    """Three commits with a little time in each, then edits that stay uncommitted.

    An agent that ``looks`` into `git log` commits nothing twice.  One whose box is killed needs to,
    and is told to: the CLI writes the conversation a moment late (measured, docs/reliability.md).
    """
    steps: list[Any] = [*first]
    for name, subject in zip(("one.txt", "two.txt", "three.txt"), SUBJECTS, strict=True):
        steps += [
            write_file(name, FILES[name]),
            bash("sleep 0.4"),
            bash(once(subject)) if looks else commit(subject),
        ]
    steps += [write_file(n, FILES[n]) for n in ("left.txt", "src/left.txt")]
    return Script(scenes=(execution_scene([*steps, bash("sleep 0.4")]),))


def once(subject: str) -> str:
    """The command that commits everything under this subject, unless that was done before."""
    quoted = shlex.quote(subject)
    there = f"git log --format=%s | grep -qxF -- {quoted}"
    return f"{there} || {{ git add -A && git commit -q -m {quoted}; }}"


def store_of(laptop: Laptop) -> Store:
    """The laptop's store, opened by the test."""
    return Store(laptop.home / ".local/state/plandock/plandock.db")


def label(event: dict[str, Any]) -> str:
    """The name of a recorded step or move; "" for any other event."""
    if event["kind"] == "step":
        return f"step {event['name']}"
    if event["kind"] == "moved":
        return f"{event['from']} to {event['to']}"
    return ""


def hand_off(laptop: Laptop) -> str:
    """Hand a plan off and do not wait; the run's id."""
    laptop.plandock("run", "--plan", "-", stdin="# The plan\n\nDo it.\n")
    with store_of(laptop) as store:
        return str(store.find("last").id)


def timeline_of(laptop: Laptop) -> dict[str, float]:
    """Every step and move of a run that nobody disturbs, in order, each with the time until the
    next one (seconds)."""
    refs, run = laptop.refs(), hand_off(laptop)
    until_over(laptop, run)
    assert_nothing_lost(laptop, run, refs)
    with store_of(laptop) as store:
        found = [(label(e), e["at"]) for e in store.events(run) if label(e)]
    times = [datetime.fromisoformat(at).timestamp() for _, at in found]
    lengths = [b - a for a, b in itertools.pairwise(times)] + [0.1]
    timeline: dict[str, float] = {}
    for (name, _), length in zip(found, lengths, strict=True):
        timeline.setdefault(name, length)
    return timeline


def until_event(laptop: Laptop, run_id: str, wanted: str, patience_s: float = PATIENCE_S) -> None:
    """Wait until a run records this step or move."""
    end = time.monotonic() + patience_s
    with store_of(laptop) as store:
        while True:
            over = store.get(run_id).state.final
            if wanted in map(label, store.events(run_id)):
                return
            assert not over, (store.get(run_id), log_of(run_id, laptop))
            assert time.monotonic() < end, store.get(run_id)
            time.sleep(POLL_S)


def until_over(laptop: Laptop, run_id: str, patience_s: float = PATIENCE_S) -> None:
    """Wait until the run has ended and its supervisor is gone, without a command of the user's."""
    end = time.monotonic() + patience_s
    with store_of(laptop) as store:
        while store.get(run_id).state not in FINAL or supervisor_of(store.get(run_id)):
            assert time.monotonic() < end, store.get(run_id)
            time.sleep(0.05)


def recover(laptop: Laptop) -> None:
    """What the next command of the user's does first: go on with what has no supervisor."""
    code = "from plandock.runs.store import Store; from plandock.supervisor import queue; "
    code += "queue.wake(Store())"
    argv = [product.python(), "-I", "-c", code]
    subprocess.run(argv, env=laptop.env, check=True, timeout=PATIENCE_S)


def supervisor_of(run: Run) -> int:
    """The pid of the run's living supervisor, or 0."""
    return run.supervisor_pid if alive.is_same(run.supervisor_pid, run.supervisor_started) else 0


def kill_supervisor(run: Run) -> bool:
    """SIGKILL to the run's supervisor, until it is dead; False where there is none alive."""
    if not (pid := supervisor_of(run)):
        return False
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    while alive.is_same(pid, run.supervisor_started):
        time.sleep(POLL_S)
    return True


def log_of(run_id: str, laptop: Laptop) -> str:
    """The end of what a run's supervisor has said."""
    log = run_folder(laptop, run_id) / "supervisor.log"
    return log.read_text(errors="replace")[-3000:] if log.exists() else ""


def run_folder(laptop: Laptop, run_id: str) -> Path:
    """The run's folder on the host."""
    return laptop.home / ".local/state/plandock/runs" / run_id


def assert_nothing_lost(laptop: Laptop, run_id: str, refs_before: dict[str, str]) -> Run:
    """One new branch with every commit and edit of the script's, one end, and nothing left."""
    with store_of(laptop) as store:
        run, events = store.get(run_id), store.events(run_id)
    log = run_folder(laptop, run_id) / "supervisor.log"
    assert run.state == "done", (run, log.read_text(errors="replace")[-3000:])
    assert [e["to"] for e in events if e["kind"] == "moved" and e["to"] in FINAL] == ["done"]
    refs = laptop.refs()
    assert set(refs) - set(refs_before) == {f"refs/heads/{run.branch}"}
    assert {name: refs[name] for name in refs_before} == refs_before
    subjects = laptop.repo.git("log", "--format=%s", f"{run.base}..{run.branch}").splitlines()
    assert all(subjects.count(s) == 1 for s in SUBJECTS), subjects
    for name, content in FILES.items():
        assert laptop.repo.git("show", f"{run.branch}:{name}").strip() == content.strip()
    assert run.head == refs[f"refs/heads/{run.branch}"]
    left = leftovers(laptop, run_id)
    assert not left, (left, events[-12:], log.read_text(errors="replace")[-3000:])
    return run


def leftovers(laptop: Laptop, run_id: str) -> list[str]:
    """Containers, volumes, sockets, processes, locks and half-made files of an ended run."""
    found = [f"process {words}" for words in processes_of(laptop)]
    # Not before these have ended: a client of the engine may still be at work.
    found += in_engine(laptop, run_id)
    folder = run_folder(laptop, run_id)
    for path in (folder / "lock",):
        with open(path, "r+b") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                found.append(f"held {path}")
    found += [str(p) for p in laptop.repo.root.rglob("*.lock")]
    found += [str(p) for p in folder.glob("quarantine-*")]
    for root in (laptop.home, laptop.repo.root):
        found += [str(p) for p in root.rglob("*") if stat.S_ISSOCK(p.lstat().st_mode)]
    return found


def in_engine(laptop: Laptop, run_id: str) -> list[str]:
    """What the engine has of a run, by label and by name."""
    found = []
    for words in (["ps", "-a", "--format", "{{.Names}}"], ["volume", "ls", "-q"]):
        done = subprocess.run([laptop.engine, *words], capture_output=True, text=True, check=True)
        found += [x for x in done.stdout.split() if f"plandock-{run_id}-" in x]
    return found


def processes_of(laptop: Laptop, patience_s: float = 300.0) -> list[str]:
    """Living processes whose environment names this laptop's home, after a moment to end."""
    wanted = f"HOME={laptop.home}".encode()
    end = time.monotonic() + patience_s
    while True:
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if wanted in (folder / "environ").read_bytes().split(b"\0"):
                    found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode())
            except OSError:
                continue
        found = [x for x in found if x]
        if not found or time.monotonic() > end:
            return found
        time.sleep(0.1)
