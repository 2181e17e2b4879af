"""The queue in whole runs: acceptances at once, and a wait that ends among others.

`make soak` and `make matrix` take twenty acceptances at once.
"""

from __future__ import annotations

import os
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from plandock.runs.model import State
from plandock.standin import Failure, Request, Script, StandIn, bash, execution_scene
from tests.crash.crashing import store_of
from tests.support import accepting, machine, product, queueing
from tests.support.heldrun import GO, HeldRun
from tests.support.laptop import Laptop
from tests.support.pairs import FULL
from tests.support.repository import Repository, make_repository

pytestmark = [pytest.mark.timeout(7200), pytest.mark.e2e]

PLAN = "# Sort the list\n\nDo it.\n"
WORK = "echo sorted > work.txt && git add -A && git commit -qm Sort"
# The same in each box, so that some of them make the very same commit.
SCRIPT = Script(scenes=(execution_scene((bash(WORK),)),))
PLACES = 2
# In three repositories by the hook, and in the first by command.
AT_ONCE = (12, 3, 2, 3) if FULL else (4, 2, 1, 1)
STALLED_S = 900.0


@pytest.fixture
def cli() -> Path:
    """The newest CLI; the queue does not depend on it."""
    path = os.environ.get(machine.CLI_VERSIONS["newest"], "")
    assert os.access(path, os.X_OK), "the CLI is missing. Next step: `make setup`"
    return Path(path)


def store_file(laptop: Laptop) -> Path:
    """The laptop's store of runs."""
    return laptop.home / ".local/state/plandock/plandock.db"


def hand_off_at_once(laptop: Laptop, acceptances: Sequence[Path], by_hand: int) -> dict[str, str]:
    """Accept a plan in each of these folders, and start some by command: promised names by run.

    Each acceptance is a process of the wired hook's, of a conversation of its own.
    """
    given = [accepting.acceptance(laptop, PLAN, cwd=cwd, transcript_path="") for cwd in acceptances]
    by_command = [
        subprocess.Popen(
            product.argv("run", "--plan", "-"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=laptop.repo.root,
            env=laptop.env,
        )
        for _ in range(by_hand)
    ]
    by_hook = [accepting.start(laptop, "PostToolUse", "accepted", one) for one in given]
    said = [hook.communicate(timeout=600) for hook in by_hook]
    said += [command.communicate(PLAN.encode(), timeout=600) for command in by_command]
    promised = {}
    for out, err in said:
        found = re.search(r"handed off as (r\w+) → branch ([\w./-]+)", _text(out))
        assert found, (out, err)
        promised[found[1]] = found[2]
    return promised


def _text(out: bytes) -> str:
    """What a hook or a command said; the hook's answer is JSON, in ASCII."""
    return out.decode().encode("ascii", "backslashreplace").decode("unicode_escape")


def wait_for_all(laptop: Laptop) -> dict[str, Any]:
    """Every run by its id, once all have ended; however long that takes, as long as it goes on."""
    seen, end = 0, time.monotonic() + STALLED_S
    with store_of(laptop) as store:
        while unfinished := store.list(unfinished=True):
            events = sum(len(store.events(run.id)) for run in store.list())
            if events != seen:
                seen, end = events, time.monotonic() + STALLED_S
            assert time.monotonic() < end, [(str(r.id), str(r.state)) for r in unfinished]
            time.sleep(0.5)
    return {run["id"]: run for run in laptop.runs()}


def not_done(runs: dict[str, Any]) -> list[str]:
    """The runs that ended otherwise, and why."""
    return [
        f"{run['id']} {run['state']} ({run['reason']}) at {run['step']}: {run['message']}"
        for run in runs.values()
        if run["state"] != "done"
    ]


def branches(repository: Repository) -> dict[str, str]:
    """The branches of a repository and their commits."""
    lines = repository.git("for-each-ref", "--format=%(refname) %(objectname)", "refs/heads/")
    pairs = (x.split() for x in lines.splitlines())
    return {name.removeprefix("refs/heads/"): commit for name, commit in pairs}


class Gate(StandIn):
    """A stand-in that answers nobody until it is opened: whoever has a place keeps it."""

    def __init__(self, script: Script) -> None:
        super().__init__(script)
        self.opened = threading.Event()

    def record(self, request: Request) -> None:
        """Note the request at once, and have it wait."""
        super().record(request)
        self.opened.wait(STALLED_S)


@pytest.fixture
def gate() -> Iterator[Gate]:
    """The scripted model behind a gate."""
    with Gate(SCRIPT) as server:
        yield server
        server.opened.set()
        assert server.errors == []


@pytest.fixture
def laptop(tmp_path: Path, cli: Path, gate: Gate) -> Iterator[Laptop]:
    """A laptop whose runs get no answer before the gate is opened."""
    made = Laptop(tmp_path / "laptop", cli=cli, engine="docker", standin=gate)
    yield made
    gate.opened.set()
    made.clean_up()


def test_acceptances_at_once_make_a_run_and_a_branch_each(laptop: Laptop, gate: Gate) -> None:
    """Two go at a time, the oldest first, in three repositories; each has the name it was promised.

    In the first the user has branches in the way, and takes a promised name while the run waits.
    In the second a branch `feature` stands where a folder would, the third has a template.
    """
    laptop.plandock("init", "--scope", "user")
    first = laptop.repo
    second, third = (make_repository(laptop.home / name) for name in ("second", "third"))
    for name in ("feature/auto", "feature/auto-3"):
        first.git("branch", name)
    second.git("branch", "feature")
    third.commit({".plandock.toml": 'branch = "plans/{slug}-{run}"\n'})
    before = {repo.root: branches(repo) for repo in (first, second, third)}
    untouched = laptop.fingerprint()

    in_first, in_second, in_third, by_hand = AT_ONCE
    places = [first.root] * in_first + [second.root] * in_second + [third.root] * in_third
    with queueing.boxes_at_work(laptop) as boxes:
        promised = hand_off_at_once(laptop, places, by_hand=by_hand)
        assert len(promised) == sum(AT_ONCE)
        gate.wait_for(PLACES, timeout_s=STALLED_S)
        _places_are_shown(laptop)
        stolen = _take_the_name_of_the_youngest(laptop, first, promised)
        gate.opened.set()
        runs = wait_for_all(laptop)
        boxes.wait_for_ends(set(promised), timeout_s=STALLED_S)

    assert set(runs) == set(promised)
    assert not_done(runs) == []
    for repo in (first, second, third):
        made = {r["branch"]: r for r in runs.values() if r["repo"] == str(repo.root)}
        mine = branches(repo)
        kept = before[repo.root] | ({stolen: first.head()} if repo is first else {})
        assert {name: mine[name] for name in kept} == kept
        assert set(mine) - set(kept) == set(made)
        for name, run in made.items():
            assert mine[name] == run["head"]
            assert run["commits"] == 1
            assert repo.git("show", f"{name}:work.txt") == "sorted"
            if promised[run["id"]] not in (name, stolen):
                raise AssertionError(f"{run['id']} was promised {promised[run['id']]}: {name}")
    others = set(promised.values()) - {stolen}
    instead = {r["branch"] for x, r in runs.items() if promised[x] == stolen}
    assert len(instead) == 1
    assert not instead & others
    numbered = ["feature-auto", *(f"feature-auto-{n}" for n in range(2, in_second + 1))]
    assert set(branches(second)) == {"main", "feature", *numbered}
    named = {x: r["branch"] for x, r in runs.items() if r["repo"] == str(third.root)}
    assert named == {x: f"plans/sort-the-list-{x}" for x in named}
    assert laptop.fingerprint() == untouched
    _nobody_went_before_their_turn(laptop)
    assert boxes.most == PLACES


def _places_are_shown(laptop: Laptop) -> None:
    """Each run that has no place has one in the queue, the oldest the first, also for people."""
    queued = [r for r in laptop.runs() if r["state"] == "queued"]
    queued.sort(key=lambda r: (r["created_at"], r["id"]))
    assert [r["queue_position"] for r in queued] == list(range(1, len(queued) + 1))
    assert len(queued) == sum(AT_ONCE) - PLACES
    shown = laptop.plandock("ps").stdout
    assert re.search(r"queued, 1st", shown)
    assert re.search(r"queued, \d+th", shown)


def _take_the_name_of_the_youngest(
    laptop: Laptop, repo: Repository, promised: dict[str, str]
) -> str:
    """The user makes the very branch that the last in the queue was promised; its name."""
    queued = [r for r in laptop.runs() if r["queue_position"] and r["repo"] == str(repo.root)]
    last = max(queued, key=lambda r: int(r["queue_position"]))
    repo.git("branch", promised[last["id"]])
    return promised[last["id"]]


def _nobody_went_before_their_turn(laptop: Laptop) -> None:
    course = queueing.course(store_file(laptop))
    assert course.most_at_once == PLACES
    assert len(course.admissions) == sum(AT_ONCE)
    for admission in course.admissions:
        assert admission.went + len(admission.older_queued) < PLACES, admission


def test_a_run_whose_wait_is_over_goes_before_the_younger_and_after_who_goes(
    make_laptop: Callable[..., Laptop], cli: Path
) -> None:
    """It gave its place away while it waited; it keeps its age, and nobody is put out of a box."""
    laptop = make_laptop(cli, env={"PLANDOCK_MAX_PARALLEL": "1"})
    laptop.standin.script = SCRIPT
    laptop.standin.inject(Failure("usage_limit", reset_in_s=3600.0))
    laptop.plandock("run", "--plan", "-", stdin=PLAN)
    waits = laptop.runs()[0]["id"]
    queueing.until(laptop, waits, State.WAITING)
    goes = HeldRun(laptop)
    laptop.standin.script = SCRIPT
    laptop.plandock("run", "--plan", "-", stdin=PLAN)
    younger = laptop.runs()[0]["id"]
    laptop.plandock("resume", waits)
    queueing.until(laptop, waits, State.QUEUED)
    stand = {run["id"]: (run["state"], run["queue_position"]) for run in laptop.runs()}
    assert stand == {
        waits: ("queued", 1),
        goes.id: ("running", None),
        younger: ("queued", 2),
    }
    assert goes.execute("touch", GO)[0] == 0
    runs = wait_for_all(laptop)
    assert not_done(runs) == []
    assert queueing.course(store_file(laptop)).order == [waits, goes.id, waits, younger]
