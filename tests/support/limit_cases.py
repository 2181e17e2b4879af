"""The cases of `tests/e2e/test_limits.py`: how the API fails, and what users do meanwhile."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from plandock.runs.model import State
from plandock.standin import Failure, StandIn, ToolCall, bash
from tests.crash.crashing import supervisor_of
from tests.support import product
from tests.support.laptop import ACCESS, Laptop
from tests.support.limits import LAST, LATER, PATIENCE_S, TROUBLE, WORK, Case, Story

RENEWED = ACCESS.replace("made-up", "renewed")
AGAIN = ACCESS.replace("made-up", "renewed-again")
STORED = ACCESS.replace("made-up", "stored")
LONG_S = 3 * 3600.0
PATIENTLY_S = 600.0
"""What Claude Code gives one command at most; two minutes where nothing is said."""
LIMIT_S, BUDGET_USD = 30, 0.08


def fails(kind: Any, step: int = TROUBLE, **more: Any) -> Failure:
    """A failure at a step, by default that of the (first) trouble."""
    return Failure(kind, step=step, **more)


# -- what users do meanwhile


def look_and_stop(story: Story) -> None:
    """While it waits: every command that tells of it; its supervisor killed; two stops at once."""
    laptop, run_id, seen = story.laptop, story.run_id, story.seen
    story.until(State.WAITING)
    seen["ps"] = laptop.plandock("ps", env={"COLUMNS": "250"}).stdout
    seen["ps --json"] = next(r for r in laptop.json("ps") if r["id"] == run_id)
    seen["show --json"] = laptop.json("show", run_id)
    seen["show"] = laptop.plandock("show", run_id).stdout
    seen["wait"] = laptop.plandock("wait", run_id, "--timeout", "1", check=False).returncode
    seen["pids"] = kill_and_revive(story)
    argv = product.argv("stop", run_id)
    stops = [
        subprocess.Popen(argv, cwd=laptop.repo.root, env=laptop.env, stdout=subprocess.DEVNULL)
        for _ in range(2)
    ]
    seen["stops"] = [stop.wait(PATIENCE_S) for stop in stops]
    seen["wait after"] = laptop.plandock("wait", run_id, check=False).returncode


def kill_and_revive(story: Story) -> tuple[int, int]:
    """Kill the supervisor of a run that waits, then type any command: both supervisors' pids."""
    story.seen["before the kill"] = story.until(State.WAITING)
    first = supervisor_of(story.now())
    assert first, story.now()  # 0 would be the tests' own processes
    os.kill(first, signal.SIGKILL)
    end = time.monotonic() + PATIENCE_S
    while not (second := supervisor_of(story.now())) or second == first:
        story.laptop.plandock("ps")
        assert time.monotonic() < end
        time.sleep(0.1)
    story.seen["after the kill"] = story.now()
    return first, second


def orphan(story: Story) -> None:
    """Its supervisor is killed while it waits; later its user knows better than a long wait."""
    story.seen["pids"] = kill_and_revive(story)
    story.until_asked(LATER, failure="usage_limit")
    story.until(State.WAITING, attempt=2)
    story.seen["said"] = story.laptop.plandock("resume", story.run_id).stdout


def resume_until_done(story: Story) -> None:
    """The run ends at a limit of the user's own, and is let go on, as often as it takes."""
    laptop, stops, limit_s = story.laptop, story.seen.setdefault("stops", []), LIMIT_S
    budget = BUDGET_USD
    while (run := story.until(State.STOPPED, State.DONE)).state is State.STOPPED:
        code = laptop.plandock("wait", story.run_id, check=False).returncode
        branches = laptop.repo.git("branch", "--list", story.case.name)
        files = laptop.repo.git("ls-tree", "--name-only", story.case.name) if branches else ""
        stops.append((run, code, files.split()))
        if run.commits:
            laptop.plandock("resume", story.run_id)
        elif run.reason == "timeout":
            # On a slow machine the time is over before anything was done, each time again.
            limit_s *= 2
            story.hand_off(PLANDOCK_TIMEOUT=f"{limit_s}s")
        else:
            # What the first request costs differs from version to version.
            budget *= 1.3
            story.hand_off(PLANDOCK_MAX_BUDGET_USD=f"{budget:.3f}")


def renew(story: Story) -> None:
    """What is left of the login does not do for a run, so it waits before anything is there; then
    the API refuses the login, and the host's Claude Code renews it while the run waits."""
    seen, laptop = story.seen, story.laptop
    seen["before the start"] = story.until(State.WAITING)
    until_noted(story, "login")  # nobody is told of a wait that is over
    seen["asked"] = len(laptop.standin.requests)
    laptop.log_in()
    seen["waiting"] = story.until(State.WAITING, reason="login", attempt=1)
    until_noted(story, "login", 2)
    for minutes in (2, 5):
        # Each is seen not to do, so the run was looked at that often while it waited.
        told = story.now().message
        laptop.log_in(token=RENEWED, expires_in_s=60.0 * minutes)
        story.until_told(otherwise=told)
    laptop.log_in(token=RENEWED)


def store_a_token(story: Story) -> None:
    """The renewed login is refused, too; then the user stores a token."""
    story.until(State.WAITING, reason="login")
    until_noted(story, "login")
    story.laptop.log_in(token=RENEWED)
    story.until_asked(TROUBLE, token=RENEWED, failure="unauthorized")
    story.until(State.WAITING, reason="login")
    until_noted(story, "login", 2)
    story.laptop.plandock("login", "--token", stdin=STORED)


def renew_at_the_first_refusal(story: Story) -> None:
    """The host's login is renewed while the CLI in the box still tries again."""
    story.until_asked(TROUBLE, failure="unauthorized")
    story.laptop.log_in(token=RENEWED)


def renew_while_it_works(story: Story) -> None:
    """The host's login is renewed long before the API refuses the old one; the next login is
    renewed while the CLI in the box still tries again."""
    story.until_asked(TROUBLE)
    story.laptop.log_in(token=RENEWED)
    story.until_asked(LAST, token=RENEWED, failure="unauthorized")
    story.seen["attempt"] = story.now().attempt
    story.laptop.log_in(token=AGAIN)


def in_box(story: Story, *argv: str) -> bool:
    """Whether a command goes well in the run's box, in its workspace."""
    words = [story.laptop.engine, "exec", "-w", str(story.laptop.repo.root)]
    words += [f"plandock-{story.run_id}-box", *argv]
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


def until_in_box(story: Story, name: str) -> None:
    """Wait for a file that the agent's command makes, at the step of the trouble."""
    story.until_asked(TROUBLE)
    end = time.monotonic() + PATIENCE_S
    while not in_box(story, "test", "-e", name):
        assert not story.now().state.final, story.now()
        assert time.monotonic() < end
        time.sleep(0.2)


def kill_the_box(story: Story) -> None:
    """The box is killed from outside, in the middle of a command."""
    until_in_box(story, "hung")
    argv = [story.laptop.engine, "kill", f"plandock-{story.run_id}-box"]
    subprocess.run(argv, capture_output=True, check=True)


def close_and_reopen(story: Story) -> None:
    """Nothing listens where the API was, then it does again, at the same place."""
    laptop, old = story.laptop, story.laptop.standin
    until_in_box(story, "here")
    old.stop()
    with socket.socket() as kept:
        # Bound and not listening: refused as before, and nobody else gets the port.
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        kept.bind(("127.0.0.1", old.port))
        assert in_box(story, "touch", "go")
        story.until(State.WAITING)
    laptop.standin = StandIn(old.script, port=old.port).start()


def leave_notes(laptop: Laptop) -> None:
    """Have the user's command note what it is told."""
    program = laptop.home / "note"
    script = (
        f"#!{sys.executable}\n"
        "import json, os, sys\n"
        f"with open({str(laptop.home / 'told')!r}, 'a') as file:\n"
        "    file.write(f\"{os.environ['PLANDOCK_EVENT']} {json.load(sys.stdin)['id']}\\n\")\n"
    )
    program.write_text(script)
    program.chmod(0o755)
    laptop.env["PLANDOCK_NOTIFY"] = str(program)


def noted(story: Story) -> list[str]:
    """The events that the user's command was told of, for this run, so far."""
    file = story.laptop.home / "told"
    lines = file.read_text().splitlines() if file.exists() else []
    return [x.partition(" ")[0] for x in lines if x.endswith(f" {story.run_id}")]


def until_noted(story: Story, event: str, count: int = 1) -> None:
    """Wait until the user's command was told of an event so often."""
    end = time.monotonic() + PATIENCE_S
    while noted(story).count(event) < count:
        assert time.monotonic() < end, noted(story)
        time.sleep(0.1)


def notes(story: Story) -> list[str]:
    """The events that the user's command was told of, for this run, up to its end."""
    end = time.monotonic() + PATIENCE_S
    while True:
        told = noted(story)
        # The supervisor tells after it has recorded the end.
        if {"done", "failed", "stopped"} & set(told):
            return told
        assert time.monotonic() < end, told
        time.sleep(0.2)


# -- the cases


def hangs_once(name: str, work: Sequence[ToolCall] = WORK) -> tuple[ToolCall, ...]:
    """Work that hangs in a command the first time that it comes there, with a commit behind it."""
    hang = f"test -e {name} || {{ touch {name}; tail -f /dev/null; }}"
    return (*work[:2], bash(hang, timeout_s=PATIENTLY_S), *work[2:])


def commits_once(message: str) -> ToolCall:
    """A commit that is made once, wherever the run was stopped: between an edit and it, which put
    the edit on the branch already, or after it, before the conversation knew of it."""
    there = f"git log --format=%s | grep -qx {message}"
    return bash(f"{there} || {{ git add -A && git commit -q --allow-empty -m {message}; }}")


# A clock or a bill may end a run anywhere, also between a call and the record of its answer
# (docs/reliability.md); then the call is made again.
STOPPABLE = (
    WORK[0], commits_once("One"), bash("echo ran > ran.txt"), WORK[3], commits_once("Two"),
    *WORK[5:],
)  # fmt: skip
ROOMY = {"PLANDOCK_MAX_PARALLEL": "5"}
LIMIT_IN_S, ORPHAN_IN_S = 15.0, 40.0
# The longest first.
API = (
    Case(
        "busy", (
            fails("overloaded", times=8),
            fails("usage_limit", LATER, reset_in_s=-3600.0),  # a reset in the past
        ),
    ),
    Case(
        "silence", (fails("silence", silent_s=PATIENCE_S),), {"PLANDOCK_SILENCE": "30s"},
        work=hangs_once("hung"), act=kill_the_box, everywhere=True,
    ),
    Case(
        "deadline", env={"PLANDOCK_TIMEOUT": f"{LIMIT_S}s"},
        work=hangs_once("hung", STOPPABLE), act=resume_until_done,
    ),
    Case(
        "orphan", (
            fails("usage_limit", reset_in_s=ORPHAN_IN_S, until_reset=True),
            fails("usage_limit", LATER, reset_in_s=400 * 86_400.0),  # a reset far away
        ), act=orphan,
    ),
    Case(
        "limit", (
            fails("usage_limit", reset_in_s=LIMIT_IN_S, until_reset=True),
            fails("malformed", LATER, times=2),
            fails("cut_stream", LAST),
        ), everywhere=True,
    ),
    Case(
        "for-a-moment", (
            fails("overloaded", 1, times=3),
            fails("server_error", times=2),
            fails("reset", 3, times=2),
            fails("rate_limited", LATER, times=2),
        ),
    ),
    Case("stopped", (fails("usage_limit", reset_in_s=LONG_S),), act=look_and_stop),
    Case(
        "budget", env={"PLANDOCK_MAX_BUDGET_USD": f"{BUDGET_USD}"}, work=STOPPABLE,
        act=resume_until_done,
    ),
)  # fmt: skip
EXPIRED = fails("unauthorized", times=None, if_token=ACCESS)
# Each with a laptop of its own: a login is renewed for all runs of one.
LOGIN = (Case("login", (EXPIRED,), act=renew, everywhere=True),)
STORE = (Case("stored", (EXPIRED, replace(EXPIRED, if_token=RENEWED)), act=store_a_token),)
SEALED = (
    Case("sealed", (EXPIRED,), {"PLANDOCK_CREDENTIALS": "sealed"}, act=renew_at_the_first_refusal),
)
# The command ends when the box has the new login, and the next request finds the old one refused.
IN_BOX = "until grep -q renewed ~/.claude/.credentials.json; do sleep 0.2; done"
HANDED_IN = (
    Case(
        "handed-in",
        (replace(EXPIRED, step=TROUBLE + 1), replace(EXPIRED, step=LAST, if_token=RENEWED)),
        work=(*WORK[:2], bash(IN_BOX, timeout_s=PATIENTLY_S), *WORK[2:]),
        act=renew_while_it_works,
        everywhere=True,
    ),
)
PAUSE = "touch here; until test -e go; do sleep 0.2; done"
CLOSED = (
    Case(
        "closed",
        work=(*WORK[:2], bash(PAUSE, timeout_s=PATIENTLY_S), *WORK[2:]),
        act=close_and_reopen,
    ),
)
LAPTOPS = (API, LOGIN, STORE, SEALED, HANDED_IN, CLOSED)
CASES = {case.name: case for cases in LAPTOPS for case in cases}
