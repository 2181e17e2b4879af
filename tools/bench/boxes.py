"""From acceptance to the box's first model request, and the memory of the supervisor."""

from __future__ import annotations

import json
import re
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path

from plandock.standin import (
    Request,
    Script,
    StandIn,
    Turn,
    execution_scene,
    planning_scene,
)
from tests.crash.crashing import processes_of
from tests.support import claude_screen
from tests.support.hooks import until
from tests.support.laptop import Laptop
from tests.support.tmux import Tmux
from tools.bench.hooks import PATIENCE_S, PLAN, accept, current, is_gone
from tools.bench.timing import BenchError, Pairs, measure_pairs, say, timed

PROMPT = b"Proceed with the approved plan. Carry out the approved plan completely."


class Watch(StandIn):
    """A stand-in that knows to the microsecond when each request came.

    The box's agent answers the plan with words alone, so that a run ends soon after it began.
    """

    def __init__(self) -> None:
        planning = planning_scene(PLAN, continuation=(Turn("Done on the host."),))
        super().__init__(Script(scenes=(execution_scene(()), planning)))
        self.moments: list[tuple[float, Request]] = []

    def record(self, request: Request) -> None:
        """Note the moment, before anything else."""
        self.moments.append((time.perf_counter(), request))
        super().record(request)

    def first_of(self, session: str) -> float | None:
        """When a session's first model request came (`time.perf_counter`); None: not yet."""
        found = (at for at, r in self.moments if r.scene and r.session_id == session)
        return next(found, None)


@dataclass
class Talk:
    """A planning conversation that the real CLI wrote, cut where the plan was approved."""

    file: Path
    asked: bytes
    approval: bytes

    @property
    def session(self) -> str:
        """The conversation's id."""
        return self.file.stem


def make_conversation(laptop: Laptop) -> Talk:
    """Let the real CLI plan in a terminal, accept the plan there, and keep what it wrote.

    plandock must not be wired yet.  Raises BenchError where the CLI records no approval.
    """
    say("conversation: the real CLI plans")
    terminal = Tmux()
    try:
        laptop.plan(terminal)
        claude_screen.choose(terminal, claude_screen.AUTOMATIC)
        until(lambda: _cut(laptop) is not None, PATIENCE_S)
    finally:
        terminal.close()
    if processes_of(laptop, PATIENCE_S):  # it may still write
        raise BenchError("the CLI does not end with its terminal")
    if (talk := _cut(laptop)) is None:
        raise BenchError("the CLI recorded no approval")
    return talk


def _cut(laptop: Laptop) -> Talk | None:
    """The conversation up to the ExitPlanMode call, and the record that answers it."""
    for file in laptop.config.glob("projects/*/*.jsonl"):
        lines = file.read_bytes().splitlines(keepends=True)
        asked = ""
        for number, line in enumerate(lines):
            if not line.endswith(b"\n"):
                break
            for block in _blocks(line):
                if block.get("type") == "tool_use" and block.get("name") == "ExitPlanMode":
                    asked = str(block.get("id"))
                elif asked and block.get("tool_use_id") == asked:
                    return Talk(file, b"".join(lines[:number]), line)
    return None


def _blocks(line: bytes) -> list[dict[str, object]]:
    message = json.loads(line).get("message")
    content = message.get("content") if isinstance(message, dict) else None
    return [b for b in content if isinstance(b, dict)] if isinstance(content, list) else []


@dataclass
class FirstRequests:
    """Both sides of the third ratio, over one laptop, conversation and stand-in."""

    laptop: Laptop
    watch: Watch
    talk: Talk
    peaks_kib: list[int] = field(default_factory=list)

    def measure(self, rounds: int, *, cold: bool) -> Pairs:
        """The pairs; afterwards `peaks_kib` holds the supervisors' peaks, one of each round."""
        name = "acceptance to the first request"
        found = measure_pairs(name, rounds, self._box, self._bare, cold=cold)
        self.peaks_kib = self.peaks_kib[-rounds:]  # with the first pair goes its peak
        return found

    def _box(self) -> float:
        """Seconds from the start of the hook's process to the box's first model request."""
        self.talk.file.write_bytes(self.talk.asked)
        seen = len(self.watch.moments)
        call, run = accept(
            self.laptop,
            session_id=self.talk.session,
            transcript_path=str(self.talk.file),
        )
        # The CLI records the approval once the hook has answered (measured), so that is when.
        with self.talk.file.open("ab") as file:
            file.write(self.talk.approval)

        self._until_asked(seen, run.id)
        arrived = self.watch.first_of(current(self.laptop, run.id).box_session_id or "none")
        self._to_the_end(run.id)
        ended = current(self.laptop, run.id)
        if arrived is None or ended.fresh or str(ended.state) != "done":
            raise BenchError(f"run {run.id} is {ended.state}: {ended.message}")
        self.laptop.plandock("drop", run.id, "--yes")
        return arrived - call.began

    def _until_asked(self, seen: int, run_id: str) -> None:
        """Wait for a model request after the first `seen` requests, or for the run's end.

        The moment itself is noted by the stand-in, so this may look seldom and disturb little.
        """
        end = time.monotonic() + 900.0  # an image may have to be built for the first pair
        looks = 0
        while not any(r.scene for _, r in self.watch.moments[seen:]):
            time.sleep(0.1)
            looks += 1
            if time.monotonic() > end or (
                looks % 20 == 0 and current(self.laptop, run_id).state.final
            ):
                return

    def _to_the_end(self, run_id: str) -> None:
        """Follow the supervisor to its end and note its peak; what is timed is over by now."""
        peak, pid = 0, current(self.laptop, run_id).supervisor_pid or 0
        end = time.monotonic() + PATIENCE_S
        while not is_gone(pid):
            if time.monotonic() > end:
                raise BenchError(f"the supervisor of {run_id} does not end")
            peak = max(peak, peak_kib(pid))
            time.sleep(0.02)
        self.peaks_kib.append(peak)

    def _bare(self) -> float:
        """Seconds from the start of `claude -p --resume` on the host to its first request."""
        self.talk.file.write_bytes(self.talk.asked + self.talk.approval)
        session = str(uuid.uuid4())
        call = timed(
            [
                *(self.laptop.cli, "-p", "--resume", self.talk.session),
                *("--fork-session", "--session-id", session),
                *("--output-format", "stream-json", "--verbose"),
            ],
            stdin=PROMPT,
            env=self.laptop.env,
            cwd=self.laptop.repo.root,
        )
        arrived = self.watch.first_of(session)
        if arrived is None or call.code != 0:
            raise BenchError(f"claude -p --resume failed: {call.out[-600:].decode()}")
        return arrived - call.began


def peak_kib(pid: int) -> int:
    """The peak of a process's resident memory, in KiB (`VmHWM`, proc(5)); 0: it has ended."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    found = re.search(r"^VmHWM:\s+(\d+) kB$", text, re.MULTILINE)
    return int(found[1]) if found else 0
