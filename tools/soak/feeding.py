"""Handing runs off: through the wired hook and by command, in two repositories, to a full queue."""

from __future__ import annotations

import json
import re
import subprocess
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

from plandock import paths
from plandock.runs.store import Store
from plandock.standin import Script, Turn, bash, execution_scene, planning_scene
from tests.support import product
from tests.support.accepting import acceptance, command
from tests.support.laptop import Laptop
from tests.support.repository import make_repository
from tools.bench.boxes import Talk
from tools.bench.timing import BenchError, timed

PLAN = "# Soak\n\n1. Write work.txt\n2. Commit it\n"
WORK = "echo work > work.txt && git add -A && git commit -qm Work && echo left > left.txt"
_LOOK_S = 0.2


class TimeIsUp(Exception):
    """The soak has not come to its end in the time that it was given."""


def script() -> Script:
    """One command in the box: a commit, and a file that is left uncommitted."""
    planning = planning_scene(PLAN, continuation=(Turn("Done on the host."),))
    return Script(scenes=(execution_scene((bash(WORK),)), planning))


@dataclass(frozen=True)
class HandOff:
    """One hand-off: its run, and how long the hook took (seconds; None: not by the hook)."""

    run: str
    hook_s: float | None


class Feeder:
    """Keeps the queue of a laptop filled to `depth` unfinished runs."""

    def __init__(self, laptop: Laptop, talk: Talk, *, depth: int, end: float) -> None:
        self.laptop, self.talk, self.depth, self.end = laptop, talk, depth, end
        self.second = make_repository(laptop.home / "second").root

    def hand_off(self, number: int) -> HandOff:
        """Hand a run off as soon as there is room for it in the queue."""
        self.until_at_most(self.depth - 1)
        if number % 4 == 1:
            given = self.laptop.plandock("run", "--plan", "-", "--json", stdin=PLAN)
            return HandOff(str(json.loads(given.stdout)["id"]), None)
        if number % 4 == 3:
            return self._accept(self.second, "")
        session = str(uuid.uuid4())
        transcript = self.talk.file.with_name(f"{session}.jsonl")
        told = self.talk.asked + self.talk.approval
        transcript.write_bytes(told.replace(self.talk.session.encode(), session.encode()))
        return self._accept(self.laptop.repo.root, session, transcript)

    def _accept(self, cwd: Path, session: str, transcript: Path | None = None) -> HandOff:
        given = acceptance(
            self.laptop, PLAN, session=session, cwd=cwd, transcript_path=str(transcript or "")
        )
        call = timed(
            ["sh", "-c", command("PostToolUse", "accepted")],
            stdin=given,
            env=self.laptop.env,
            cwd=cwd,
        )
        found = re.search(rb"handed off as (r\w+)", call.out)
        if call.code != 0 or found is None:
            raise BenchError(f"the acceptance was not handed off: {call.out.decode()!r}")
        return HandOff(found[1].decode(), call.seconds)

    def until_at_most(self, most: int) -> None:
        """Wait until no more runs than this are unfinished; raises TimeIsUp."""
        while self.unfinished() > most:
            if time.monotonic() > self.end:
                raise TimeIsUp
            time.sleep(_LOOK_S)

    def drain(self, longest_s: float) -> None:
        """Let those that were handed off come to their end, and stop what has not by then."""
        self.end = time.monotonic() + longest_s
        try:
            self.until_at_most(0)
        except TimeIsUp:
            with Store(store_file(self.laptop)) as store:
                left = store.list(unfinished=True)
            for run in left:
                self.laptop.plandock("stop", run.id, "--now", check=False)

    def unfinished(self) -> int:
        """How many runs have not come to their end."""
        file = store_file(self.laptop)
        if not file.exists():
            return 0
        with Store(file) as store:
            return len(store.list(unfinished=True))


def store_file(laptop: Laptop) -> Path:
    """The laptop's store of runs."""
    return laptop.home / ".local/state/plandock" / paths.store_file().name


def ps_seconds(laptop: Laptop, rounds: int = 5) -> float:
    """How long `plandock ps` takes: the median of some calls."""
    argv = product.argv("ps")
    taken = []
    for _ in range(rounds):
        began = time.perf_counter()
        subprocess.run(
            argv, cwd=laptop.repo.root, env=laptop.env, stdout=subprocess.DEVNULL, check=True
        )
        taken.append(time.perf_counter() - began)
    return sorted(taken)[rounds // 2]
