"""The cases of one test file, side by side: in each a user hands a plan off and sees it end.

A test file lists them in `CASES` and imports the fixtures `batch` and `case`; its tests say with
:func:`looks_at` at which cases they look.  Every case that is asked for is taken once, before the
first test; what one meets is told by the tests that look at it, and by no others.
"""

from __future__ import annotations

import contextlib
import functools
import re
import subprocess
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from plandock.errors import PlandockError
from plandock.runs.model import Run
from plandock.standin import Request, Script, StandIn, ToolCall, Turn, bash, execution_scene
from tests.crash.crashing import in_engine, label, log_of
from tests.support import machine
from tests.support.laptop import PATIENCE_S, Laptop
from tests.support.pairs import PAIRS, Pair
from tests.support.tmux import Tmux

AT_ONCE = 4
# In the box's own scratch, where an exec of the test finds it.
_HELD = "/tmp/plandock-test-held"


@dataclass(frozen=True)
class Case:
    """What a user does with one run: ``act`` from the hand-off on, ``work`` the agent's calls.

    Cases that name the same ``laptop`` (and pair) share one; ``env`` is then of their hand-off.
    """

    name: str
    act: Callable[[CaseResult], object]
    pair: Pair
    work: Sequence[ToolCall | Turn | str] = ()
    laptop: str = ""
    env: Mapping[str, str] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """Its name and its pair: the id of a test that looks at it, its scene, its branch."""
        return f"{self.name}-{self.pair}"


def cases(
    name: str,
    act: Callable[[CaseResult], object],
    work: Sequence[ToolCall | Turn | str] = (),
    *,
    among: Iterable[Pair] = PAIRS,
    **more: Any,
) -> list[Case]:
    """A case for each of the pairs."""
    return [Case(name, act, pair, work, **more) for pair in among]


def looks_at(known: Sequence[Case], *names: str) -> pytest.MarkDecorator:
    """Let a test look at the cases of these names, with every pair that they are taken with."""
    found = [case.id for name in names for case in known if case.name == name]
    assert found, names
    return pytest.mark.parametrize("case", found, indirect=True)


def hold() -> ToolCall:
    """A call that ends when :meth:`CaseResult.let_go` says so."""
    return bash(f"touch {_HELD}; while [ -e {_HELD} ]; do sleep 0.2; done", timeout_s=600.0)


class CaseResult:
    """What became of a case.  ``seen`` holds what its act has noted on the way."""

    def __init__(self, case: Case, batch: RunBatch) -> None:
        self.case, self._batch = case, batch
        self.run_id = ""
        self.seen: dict[str, Any] = {}
        self.error = self.screen = self.skipped = ""
        self.folder = batch.make_folder()
        # What the act leaves to be removed, after what runs left in the engine.
        self.at_the_end = contextlib.ExitStack()

    @property
    def laptop(self) -> Laptop:
        """Its laptop, made when it is first asked for."""
        return self._batch.laptop_of(self)

    def make_laptop(self, **changes: Any) -> Laptop:
        """Its laptop, made other than by default; before it is first asked for."""
        return self._batch.laptop_of(self, **changes)

    @property
    def plan(self) -> str:
        """The plan that lets the stand-in choose its scene."""
        return f"# The case {self.case.id}\n\nDo it.\n"

    def hand_off(self, branch: str | None = None) -> str:
        """Let its run begin, for the branch of its name (``""``: for the product's own choice)."""
        branch = self.case.id if branch is None else branch
        words = ("--branch", branch) if branch else ()
        self.run_id = self.laptop.hand_off(self.plan, *words, env=self.case.env)
        return self.run_id

    def run_through(self, branch: str | None = None) -> Run:
        """Hand off, and see it end."""
        self.hand_off(branch)
        return self.until_over()

    def until(self, *states: str, reason: str = "") -> Run:
        """See :meth:`Laptop.until`."""
        return self.laptop.until(self.run_id, *states, reason=reason)

    def until_over(self) -> Run:
        """See :meth:`Laptop.until_over`."""
        return self.laptop.until_over(self.run_id)

    def until_held(self) -> None:
        """Wait until the box is up, by the store, then in it until the agent has come to its
        :func:`hold`."""
        self.until("running")
        end = time.monotonic() + PATIENCE_S
        look = f"n=0; until [ -e {_HELD} ] || [ $n = 100 ]; do sleep 0.2; n=$((n+1)); done"
        while self._in_box("sh", "-c", f"{look}; [ -e {_HELD} ]"):
            with self.laptop.store() as store:
                run = store.get(self.run_id)
            assert not run.state.final, run
            assert time.monotonic() < end, run
            time.sleep(0.3)

    def let_go(self) -> None:
        """Let the agent go on."""
        assert self._in_box("rm", _HELD) == 0

    def _in_box(self, *argv: str) -> int:
        box = f"plandock-{self.run_id}-box"
        words = [self.case.pair.engine, "exec", "--user", "1000:1000", box]
        return subprocess.run([*words, *argv], capture_output=True, check=False).returncode

    @contextlib.contextmanager
    def terminal(self) -> Iterator[Tmux]:
        """A terminal whose last screen is shown where a test of this case fails."""
        made = Tmux()
        try:
            yield made
        finally:
            self.screen = made.screen()
            made.close()

    @property
    def run(self) -> dict[str, Any]:
        """The run as `show --json` has it."""
        with self.laptop.store() as store:
            return store.get(self.run_id).to_json()

    @property
    def events(self) -> list[dict[str, Any]]:
        """Every event of the run, oldest first."""
        with self.laptop.store() as store:
            return store.events(self.run_id)

    @property
    def model_requests(self) -> list[Request]:
        """What was asked of the model for its plan."""
        return [r for r in self.laptop.standin.requests if r.scene == self.case.id]

    def shown(self, name: str) -> str:
        """A file on the run's branch."""
        return self.laptop.repo.git("show", f"{self.run['branch']}:{name}")

    def in_engine(self) -> list[str]:
        """Containers and volumes of the run."""
        return in_engine(self.laptop, self.run_id)

    def story(self) -> str:
        """All that helps to see why a test that looks at the case fails."""
        told = [f"{self.case.id}, on {self.folder}", self.error]
        if self.run_id:
            told += [f"{e['at']} {label(e) or e}" for e in self.events]
            with contextlib.suppress(PlandockError):  # dropped
                told += [str(self.run), log_of(self.run_id, self.laptop)]
        return "\n".join([*told, self.screen])


class RunBatch:
    """Takes cases side by side, at most ``at_once`` of them at a time."""

    def __init__(
        self, cases: Iterable[Case], make_folder: Callable[[], Path], at_once: int = AT_ONCE
    ) -> None:
        self.make_folder, self._at_once = make_folder, at_once
        self._laptops: dict[str, Laptop] = {}
        self._lock = threading.Lock()
        self.results = {case.id: CaseResult(case, self) for case in cases}
        self._to_do = deque(self.results.values())

    def run(self) -> None:
        """Let every case go from its beginning to its end."""
        threads = [threading.Thread(target=self._work, daemon=True) for _ in range(self._at_once)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _work(self) -> None:
        while True:
            try:
                result = self._to_do.popleft()
            except IndexError:
                return
            _act(result)

    def laptop_of(self, result: CaseResult, **changes: Any) -> Laptop:
        """The laptop of a case, with a stand-in of its own; made when it is first asked for."""
        case = result.case
        key = f"{case.laptop}-{case.pair}" if case.laptop else case.id
        with self._lock:
            assert not changes or key not in self._laptops, f"{key} has its laptop already"
            if key not in self._laptops:
                sharing = [
                    other.case
                    for other in self.results.values()
                    if (other.case.laptop, other.case.pair) == (case.laptop, case.pair)
                ]
                standin = StandIn(script_of(sharing if case.laptop else [case])).start()
                given = {"env": {"PLANDOCK_MAX_PARALLEL": f"{self._at_once}"}, **changes}
                self._laptops[key] = Laptop(
                    result.folder, cli=case.pair.cli, engine=case.pair.engine,
                    standin=standin, **given,
                )  # fmt: skip
            return self._laptops[key]

    def close(self) -> None:
        """Leave nothing in the engines; begin nothing more where the user has interrupted."""
        self._to_do.clear()
        with contextlib.ExitStack() as stack:
            for result in self.results.values():
                stack.push(result.at_the_end)
            for laptop in self._laptops.values():
                stack.callback(laptop.standin.stop)
                stack.callback(laptop.clean_up)


def script_of(cases: Iterable[Case]) -> Script:
    """A scene for each case, chosen by the title of its plan."""
    return Script(
        tuple(
            execution_scene(case.work, name=case.id, match=rf"# The case {re.escape(case.id)}\n")
            for case in cases
        )
    )


why_engine_is_absent = functools.cache(machine.why_engine_is_absent)


def _act(result: CaseResult) -> None:
    try:
        assert not (reason := why_engine_is_absent(result.case.pair.engine)), reason
        result.case.act(result)
    except pytest.skip.Exception as reason:
        result.skipped = str(reason)
    except BaseException:  # told by every test that looks at the case
        result.error = traceback.format_exc()


@pytest.fixture(scope="module")
def batch(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunBatch]:
    """Every case of the file's `CASES` that a test looks at, from beginning to end."""
    params = [
        i.callspec.params
        for i in request.session.items
        if i.path == request.path and hasattr(i, "callspec")
    ]
    asked = {p["case"] for p in params if "case" in p}
    known: Sequence[Case] = request.module.CASES
    made = RunBatch([c for c in known if c.id in asked], lambda: tmp_path_factory.mktemp("case"))
    try:
        made.run()
        yield made
    finally:
        made.close()


@pytest.fixture
def case(batch: RunBatch, request: pytest.FixtureRequest) -> CaseResult:
    """What became of one case."""
    result = batch.results[request.param]
    if result.skipped:
        pytest.skip(result.skipped)
    print(result.story())  # shown where the test fails
    assert not result.error, result.error
    assert result.laptop.standin.errors == []
    return result
