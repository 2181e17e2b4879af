"""The queue in whole runs: twenty acceptances at once, and a wait that ends among others."""

from __future__ import annotations

import os
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from plandock.runs.store import Store
from plandock.standin import Failure, Script, bash, execution_scene
from tests.support import accepting, machine, product, queueing
from tests.support.heldrun import GO, HeldRun
from tests.support.laptop import Laptop
from tests.support.repository import Repository, make_repository

pytestmark = [pytest.mark.timeout(7200), pytest.mark.e2e]

PLAN = "# Sort the list\n\nDo it.\n"
WORK = "echo sorted > work.txt && git add -A && git commit -qm Sort"
# The same in each box, so that some of them make the very same commit.
SCRIPT = Script(scenes=(execution_scene((bash(WORK),)),))
PLACES = 2
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


@contextmanager
def boxes_counted(laptop: Laptop, ids: Sequence[str]) -> Iterator[list[int]]:
    """How many boxes of these runs are at work in the engine, looked at again and again."""
    counts: list[int] = []
    over = threading.Event()
    argv = [laptop.engine, "ps", "--filter", "label=plandock.role=box", "--format", "{{.Names}}"]
    ours = {f"plandock-{x}-box" for x in ids}

    def look() -> None:
        while not over.wait(0.3):
            names = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
            counts.append(len(ours.intersection(names.split())))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield counts
    finally:
        over.set()
        thread.join()


def wait_for_all(laptop: Laptop) -> dict[str, Any]:
    """Every run by its id, once all have ended; however long that takes, as long as it goes on."""
    seen, end = 0, time.monotonic() + STALLED_S
    with Store(store_file(laptop)) as store:
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


def test_twenty_acceptances_at_once_make_twenty_runs_and_twenty_branches(
    make_laptop: Callable[..., Laptop], cli: Path
) -> None:
    """Two go at a time, the oldest first, in three repositories; each has the name it was promised.

    In the first the user has branches in the way, and takes a promised name while the run waits.
    In the second a branch `feature` stands where a folder would, the third has a template.
    """
    laptop = make_laptop(cli)
    laptop.standin.script = SCRIPT
    laptop.plandock("init", "--scope", "user")
    first = laptop.repo
    second, third = (make_repository(laptop.home / name) for name in ("second", "third"))
    for name in ("feature/auto", "feature/auto-3"):
        first.git("branch", name)
    second.git("branch", "feature")
    third.commit({".plandock.toml": 'branch = "plans/{slug}-{run}"\n'})
    before = {repo.root: branches(repo) for repo in (first, second, third)}
    untouched = laptop.fingerprint()

    places = [first.root] * 12 + [second.root] * 3 + [third.root] * 2
    promised = hand_off_at_once(laptop, places, by_hand=3)
    assert len(promised) == 20
    with boxes_counted(laptop, list(promised)) as counts:
        _places_are_shown(laptop)
        stolen = _take_the_name_of_the_youngest(laptop, first, promised)
        runs = wait_for_all(laptop)

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
    assert set(branches(second)) == {
        "main", "feature", "feature-auto", "feature-auto-2", "feature-auto-3",
    }  # fmt: skip
    named = {x: r["branch"] for x, r in runs.items() if r["repo"] == str(third.root)}
    assert named == {x: f"plans/sort-the-list-{x}" for x in named}
    assert laptop.fingerprint() == untouched
    _nobody_went_before_their_turn(laptop)
    assert counts
    assert max(counts) <= PLACES


def _places_are_shown(laptop: Laptop) -> None:
    """Each run in the queue has its place, the oldest the first, also for people."""
    queued = [r for r in laptop.runs() if r["state"] == "queued"]
    queued.sort(key=lambda r: (r["created_at"], r["id"]))
    assert [r["queue_position"] for r in queued] == list(range(1, len(queued) + 1))
    assert len(queued) > PLACES
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
    assert len(course.admissions) == 20
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
    _until(laptop, waits, "waiting")
    goes = HeldRun(laptop)
    laptop.standin.script = SCRIPT
    laptop.plandock("run", "--plan", "-", stdin=PLAN)
    younger = laptop.runs()[0]["id"]
    laptop.plandock("resume", waits)
    _until(laptop, waits, "queued")
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


def _until(laptop: Laptop, run_id: str, state: str) -> None:
    end = time.monotonic() + 240
    while (found := laptop.json("show", run_id))["state"] != state:
        assert time.monotonic() < end, found
        time.sleep(0.3)
