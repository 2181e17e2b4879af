"""Attacks: using things up in whole runs, by the real CLI's Bash tool.

Whatever the agent does, the supervisor on the host lives on with little memory, the run comes to
one of the ends of the design, and its work is on the branch, or kept and said where.  An engine's
disk that runs full is in ``tests/crash/test_full_disks.py``, a limit of time in ``tests/e2e``.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from plandock.errors import PlandockError
from plandock.standin import Script, ToolCall, commit, execution_scene, write_file
from tests.crash.crashing import hand_off, store_of, supervisor_of
from tests.security.payloads import Payload, python, shell
from tests.security.test_exhaustion import counted
from tests.support import machine
from tests.support.laptop import Laptop

pytestmark = [pytest.mark.timeout(1800), pytest.mark.e2e]

MIB = 1 << 20
# What the harvest refuses does not depend on the engine; all of them where everything is asked for.
FULL = os.environ.get("PLANDOCK_TEST_MATRIX") == "full"
ENGINES_OF_THE_HARVEST = machine.wanted_engines() if FULL else machine.wanted_engines()[:1]
# Of the supervisor, at its highest: it holds a line of the box (16 MiB at most) a few times over.
MOST_MEMORY = 256 * MIB

_STEWARD = (
    # The agent has the steward's uid, and so may write into what the engine takes for its log.
    "for p in /proc/[0-9]*; do test \"$(tr '\\0' ' ' < $p/cmdline)\" = "
    "'python3 -I /opt/plandock/steward.py ' && out=$p/fd/1; done; "
)
NOISE: tuple[Payload, ...] = (
    Payload("endless-line-of-a-tool", "head -c 20M /dev/zero | tr '\\0' a"),
    Payload("many-lines-of-a-tool", "seq 1 200000"),
    Payload("endless-line-in-the-boxs-log", _STEWARD + "head -c 20M /dev/zero | tr '\\0' b > $out"),
    Payload("many-lines-in-the-boxs-log", _STEWARD + "echo > $out; seq 1 30000 > $out"),
    Payload("nesting-in-the-boxs-log",
            _STEWARD + "head -c 200000 /dev/zero | tr '\\0' '[' > $out; echo > $out"),
    Payload("memory-of-a-tool", python("x = bytearray(b'x' * (2 << 30))")),
    Payload("shared-memory", "head -c 200M /dev/zero > /dev/shm/fill; rm -f /dev/shm/fill"),
    Payload("processes", python(
        "import os, time\ntry:\n    while True:\n        if os.fork() == 0: os._exit(0)\n"
        "except OSError as error: print(error)")),
    Payload("many-small-files", "mkdir many; cd many; seq 1 52000 | xargs touch"),
    Payload("deep-folders", python(
        "import os\nfor n in range(700): os.mkdir('deep'); os.chdir('deep')\n"
        "open('bottom', 'w').write('x')")),
    Payload("sparse-file", "truncate -s 15G sparse.bin"),
    Payload("huge-file", "head -c 110M /dev/zero > huge.bin"),
)  # fmt: skip


class Watched:
    """A run from its hand-off to its end, and the most memory that its supervisor had."""

    def __init__(self, laptop: Laptop) -> None:
        self.laptop = laptop
        self.id = hand_off(laptop)
        self.peak = 0
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._look, daemon=True)
        self.thread.start()

    def _look(self) -> None:
        with store_of(self.laptop) as store:
            while not self.over.wait(0.2):
                try:
                    status = Path(f"/proc/{supervisor_of(store.get(self.id))}/status").read_text()
                    high = status.split("VmHWM:")[1].split()[0]
                except (OSError, IndexError):
                    continue
                except PlandockError:
                    return  # it is dropped
                self.peak = max(self.peak, int(high) << 10)

    def end(self, timeout_s: float = 1500.0) -> tuple[int, dict[str, Any]]:
        """Wait for the run's end: the exit code of `wait`, and the run."""
        try:
            done = self.laptop.plandock(
                "wait", self.id, "--timeout", str(int(timeout_s)), check=False, timeout_s=1600.0
            )
        finally:
            self.close()
        print(f"the supervisor had {self.peak >> 20} MiB at most")
        return done.returncode, self.laptop.json("show", self.id)

    def close(self) -> None:
        """Look no longer."""
        self.over.set()
        self.thread.join()


@pytest.fixture
def cli() -> Path:
    """The newest CLI."""
    path = os.environ.get(machine.CLI_VERSIONS["newest"], "")
    assert os.access(path, os.X_OK), "the CLI is missing. Next step: `make setup`"
    return Path(path)


def call(command: str) -> ToolCall:
    """A call of the Bash tool, whose own patience (in milliseconds; two minutes, then the agent
    goes on) is short for a machine with much to do."""
    given = {"command": command, "description": "Use up", "timeout": 600_000}
    return ToolCall("Bash", given)


def tried(payload: Payload) -> ToolCall:
    """A payload as a call of the Bash tool, with a mark of its having ended."""
    return call(f"( {payload.command} ); echo $? > ended.{payload.name}")


def steps(*calls: ToolCall) -> Script:
    """A box that makes these calls and ends."""
    return Script(scenes=(execution_scene(calls),))


def test_noise_and_waste_of_every_kind_end_with_the_work_on_the_branch(
    make_laptop: Callable[..., Laptop], cli: Path, engine: str
) -> None:
    """Twelve ways in one run: each came to its end, the supervisor stayed small, and what was too
    much is named and kept, while the work before and after it arrives."""
    env = {"PLANDOCK_MEMORY": "1500m", "PLANDOCK_PIDS": "256", "PLANDOCK_MAX_TURNS": "60"}
    laptop = make_laptop(cli, engine, env=env)
    laptop.standin.script = steps(
        write_file("before.txt", "before\n"),
        commit("Before"),
        *map(tried, NOISE),
        write_file("after.txt", "after\n"),
        call("git add after.txt ended.* && git commit -qm After"),
    )
    watched = Watched(laptop)
    code, run = watched.end()
    assert (code, run["state"]) == (0, "done"), run
    listed = laptop.repo.git("ls-tree", "-r", "--name-only", "feature/auto").splitlines()
    assert {"before.txt", "after.txt"} <= set(listed)
    assert {x for x in listed if x.startswith("ended.")} == {f"ended.{x.name}" for x in NOISE}
    notes = " ".join(run["notes"])
    for word in ("many", "sparse.bin", "huge.bin", "deep"):
        assert f"{word}" in notes, (word, run["notes"])
    assert "sparse.bin" not in listed
    assert 0 < watched.peak < MOST_MEMORY
    kept = laptop.home / ".local/state/plandock/runs" / run["id"] / "events.jsonl"
    assert b'"line-cut"' in kept.read_bytes()  # positive control: the line did come to the host


def test_a_fork_bomb_and_a_tool_that_never_ends_are_stopped_with_their_work(
    make_laptop: Callable[..., Laptop], cli: Path, engine: str
) -> None:
    """The user's stop ends them though the box can start no program: exit code 10, work kept."""
    laptop = make_laptop(cli, engine, env={"PLANDOCK_MEMORY": "2g", "PLANDOCK_PIDS": "128"})
    laptop.standin.script = steps(
        write_file("before.txt", "before\n"),
        commit("Before"),
        call(f"echo left > left.txt; {shell('b() { b | b & }; b')}; sleep infinity"),
        write_file("never.txt", "x"),
    )
    watched = Watched(laptop)
    box, end = f"plandock-{watched.id}-box", time.monotonic() + 900
    while not (full := counted(engine, box)) and time.monotonic() < end:
        time.sleep(0.3)
    assert full, "the bomb did not take every process of the box (positive control)"
    laptop.plandock("stop", watched.id, check=False)
    code, run = watched.end()
    assert (code, run["state"], run["reason"]) == (10, "stopped", "stopped"), run
    assert laptop.repo.git("show", "feature/auto:before.txt") == "before"
    assert laptop.repo.git("show", "feature/auto:left.txt") == "left"
    assert 0 < watched.peak < MOST_MEMORY
    assert laptop.leftovers() == []


@pytest.mark.parametrize("engine", ENGINES_OF_THE_HARVEST, indirect=True)
def test_a_commit_that_is_too_large_is_refused_and_kept(
    make_laptop: Callable[..., Laptop], cli: Path, engine: str
) -> None:
    """Exit code 23: nothing of it comes to the repository, bundle and volume stay and are named."""
    laptop = make_laptop(cli, engine)
    before, refs = laptop.fingerprint(), laptop.refs()
    laptop.standin.script = steps(
        write_file("before.txt", "before\n"),
        call("truncate -s 120M large.bin && git add large.bin before.txt && git commit -qm Large"),
    )
    watched = Watched(laptop)
    code, run = watched.end()
    assert (code, run["state"]) == (23, "failed"), run
    assert (laptop.fingerprint(), laptop.refs()) == (before, refs)
    assert f"plandock-{run['id']}-work" in run["hint"]
    bundle = laptop.home / ".local/state/plandock/runs" / run["id"] / "work.bundle"
    assert bundle.stat().st_size > 0
    assert f"plandock-{run['id']}-work" in laptop.leftovers()
    assert 0 < watched.peak < MOST_MEMORY
