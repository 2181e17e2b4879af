"""Many runs on one laptop at a time, each with a trouble of its own at the API.

A case's name is its run's branch and its scene in the script, so that one stand-in serves all of
them and its record tells them apart.  The runs wait side by side, and where one trouble leaves a
run going it meets another later on: a box costs seconds, a trouble more costs little.
"""

from __future__ import annotations

import contextlib
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from plandock.runs.model import Run, State
from plandock.runs.store import Store
from plandock.standin import (
    Failure,
    Request,
    Script,
    StandIn,
    ToolCall,
    bash,
    commit,
    execution_scene,
    write_file,
)
from tests.crash.crashing import in_engine, store_of
from tests.support.laptop import Laptop

PATIENCE_S = 1500.0
HANDED_OFF_AT_ONCE = 3
FILES = {"one.txt": "1", "ran.txt": "ran", "two.txt": "2", "three.txt": "3"}
WORK = (
    write_file("one.txt", "1\n"),
    commit("One"),
    bash("echo ran >> ran.txt"),  # seen twice if it ran twice
    write_file("two.txt", "2\n"),
    commit("Two"),
    write_file("three.txt", "3\n"),  # not committed by the agent
)
TROUBLE, LATER, LAST = 2, 4, 5
"""The steps at which the API fails: a command with a commit behind it, a commit, a last edit."""

Act = Callable[["Story"], None]


@dataclass(frozen=True)
class Case:
    """One run: how its API fails, its settings, its work, and what its user does meanwhile."""

    name: str
    failures: tuple[Failure, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    work: Sequence[ToolCall] = WORK
    act: Act | None = None
    everywhere: bool = False  # on every engine, not on the first alone


@dataclass
class Story:
    """What became of a case.  ``seen`` is what its act has noted, ``boxes`` what containers were
    there while it waited, a list for each wait that was looked into."""

    case: Case
    laptop: Laptop
    run_id: str = ""
    seen: dict[str, Any] = field(default_factory=dict)
    boxes: list[list[str]] = field(default_factory=list)
    error: BaseException | None = None
    run: dict[str, Any] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    left: list[str] = field(default_factory=list)

    def hand_off(self, **env: str) -> None:
        """Let its run begin, with its settings and these; another one where there is one."""
        self.laptop.plandock(
            "run", "--plan", "-", "--branch", self.case.name,
            stdin=f"# The case {self.case.name}\n\nDo it.\n", env={**self.case.env, **env},
        )  # fmt: skip
        with store_of(self.laptop) as store:
            title = f"The case {self.case.name}"
            self.run_id = next(str(r.id) for r in store.list() if r.plan_title == title)

    def now(self) -> Run:
        """The run as it stands in the store; no command of the product moves it on by that."""
        with store_of(self.laptop) as store:
            return store.get(self.run_id)

    def until(self, *states: State, reason: str = "", attempt: int = 0) -> Run:
        """The run as soon as it is in one of these states (for that reason, in that attempt)."""
        end = time.monotonic() + PATIENCE_S
        while True:
            run = self.now()
            if run.state in states and reason in ("", run.reason) and run.attempt >= attempt:
                return run
            assert run.state is not State.FAILED, run
            assert time.monotonic() < end, run
            time.sleep(0.1)

    def until_told(self, *, otherwise: str) -> None:
        """Wait until the run's message is another one, while it waits."""
        end = time.monotonic() + PATIENCE_S
        while (run := self.now()).message == otherwise:
            assert run.state is State.WAITING, run
            assert time.monotonic() < end, run
            time.sleep(0.1)

    def until_asked(self, step: int, *, token: str = "", failure: str = "") -> None:
        """Wait until the stand-in got a request at this step, with this token and failure.

        A failure of "" stands for an answer, a token of "" for any.
        """
        end = time.monotonic() + PATIENCE_S
        while not any(
            r.step == step and r.failure == failure and token in ("", r.token)
            for r in self.laptop.standin.requests
            if r.scene == self.case.name
        ):
            assert time.monotonic() < end, (self.case.name, step, token, failure)
            time.sleep(0.05)

    @property
    def waits(self) -> list[dict[str, Any]]:
        """Each move into `waiting`: ``at``, ``reason``, ``message``, ``waiting_until``."""
        return [e for e in self.events if e.get("to") == "waiting"]

    @property
    def waits_s(self) -> list[float]:
        """For each wait with a time, how long it was to be when it began, in seconds."""
        return [
            seconds(wait["waiting_until"]) - seconds(wait["at"])
            for wait in self.waits
            if wait.get("waiting_until")
        ]

    @property
    def wasted(self) -> int:
        """The requests to the model that brought nothing: failed, or answered once more."""
        steps = {(r.scene, r.step) for r in self.requests if not r.failure}
        return len(self.requests) - len(steps)

    def assert_whole(self) -> None:
        """Every commit once and every file on its branch, what ran once ran once, nothing left."""
        git, branch = self.laptop.repo.git, self.case.name
        assert self.run["branch"] == branch
        subjects = git("log", "--format=%s", f"main..{branch}").splitlines()
        assert subjects.count("One") == subjects.count("Two") == 1, subjects
        for name, content in FILES.items():
            assert git("show", f"{branch}:{name}") == content
        assert self.left == []


def seconds(at: str) -> float:
    """An RFC 3339 time as Unix time."""
    return datetime.fromisoformat(at).timestamp()


def script_of(cases: Iterable[Case]) -> Script:
    """A scene for each case, chosen by the title of its plan."""
    return Script(
        tuple(
            execution_scene(case.work, name=case.name, match=rf"# The case {case.name}\n")
            for case in cases
        )
    )


class Storm:
    """The runs of one laptop."""

    def __init__(self, laptop: Laptop, cases: Sequence[Case]) -> None:
        self.laptop, self.cases = laptop, cases
        self.stories: dict[str, Story] = {}
        self._standins = [laptop.standin]

    def run(self) -> None:
        """Let every run go to its end."""
        self.hand_off()
        self.to_the_end()

    def hand_off(self) -> None:
        """Let every run begin."""
        standin = self.laptop.standin
        standin.script = script_of(self.cases)
        for case in self.cases:
            for failure in case.failures:
                standin.inject(replace(failure, scene=case.name))
            self.stories[case.name] = Story(case, self.laptop)
        with ThreadPoolExecutor(HANDED_OFF_AT_ONCE) as pool:
            for _ in pool.map(Story.hand_off, self.stories.values()):
                pass

    def to_the_end(self) -> None:
        """Let the users act, look into every wait, and see how all of it ends."""
        actors = [
            threading.Thread(target=_act, args=(story,), name=name, daemon=True)
            for name, story in self.stories.items()
            if story.case.act
        ]
        for actor in actors:
            actor.start()
        looked: set[tuple[str, str]] = set()
        end = time.monotonic() + PATIENCE_S
        with store_of(self.laptop) as store:
            while time.monotonic() < end:
                self._look_into_waits(store, looked)
                over = all(store.get(s.run_id).state.final for s in self.stories.values())
                if over and not any(actor.is_alive() for actor in actors):
                    break
                time.sleep(0.2)
            for story in self.stories.values():
                story.events = store.events(story.run_id)
        if self.laptop.standin is not self._standins[-1]:
            self._standins.append(self.laptop.standin)
        requests = [r for standin in self._standins for r in standin.requests]
        for story in self.stories.values():
            story.run = self.laptop.json("show", story.run_id)
            story.left = in_engine(self.laptop, story.run_id)
            session, began = story.run["box_session_id"], seconds(story.run["created_at"])
            story.requests = [
                r
                for r in requests
                if session == r.session_id
                or (story.case.name == r.scene and seconds(r.time) >= began)
                if r.path.startswith("/v1/messages?")
            ]

    def _look_into_waits(self, store: Store, looked: set[tuple[str, str]]) -> None:
        for story in self.stories.values():
            if store.get(story.run_id).state is not State.WAITING:
                continue
            since = store.last_move(story.run_id)
            if (story.run_id, since) in looked:
                continue
            boxes = _containers(self.laptop.engine, story.run_id)
            # On a slow machine the wait may be over before its containers were asked for.
            run = store.get(story.run_id)
            if run.state is State.WAITING and store.last_move(story.run_id) == since:
                looked.add((story.run_id, since))
                story.boxes.append(boxes)

    def clean_up(self) -> None:
        """Leave nothing in the engine."""
        self.laptop.clean_up()


def _containers(engine: str, run_id: str) -> list[str]:
    argv = [engine, "ps", "-aq", "--filter", f"label=plandock.run={run_id}"]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split()


def _act(story: Story) -> None:
    assert story.case.act
    try:
        story.case.act(story)
    except BaseException as error:  # shown by the test of the case
        story.error = error


@contextlib.contextmanager
def storms(*storms: Storm) -> Iterator[dict[str, Story]]:
    """Let the runs of several laptops go side by side to their ends."""
    try:
        with ThreadPoolExecutor(len(storms)) as pool:
            for _ in pool.map(Storm.run, storms):
                pass
        yield {name: story for storm in storms for name, story in storm.stories.items()}
    finally:
        for storm in storms:
            storm.clean_up()
            storm.laptop.standin.stop()


def standin() -> StandIn:
    """A stand-in whose script comes with the cases."""
    return StandIn(script_of([Case("nothing")])).start()
