"""The trial of one mutation: its tests pass on the tree as it is, and fail, asserting, when broken.

A test that fails in another way (an import that breaks, a fixture that cannot be made, time that
runs out) has noticed nothing about the rule: such a trial proves nothing, and says so.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree

from tools.mutations.copied_tree import CopiedTree, copied_tree
from tools.mutations.images import remove_image_of
from tools.mutations.mutation import Mutation

# For one selection of tests, on a machine with far too much to do (seconds).
PATIENCE_S = 900.0
# What fixtures may take to clean up, once their test is interrupted (seconds).
GRACE_S = 60.0
_ASSERTED = re.compile(r"AssertionError\b|assert\b|Failed: (?!Timeout)")
# `(run,) = world.runs()` says how many there must be, too.
_COUNTED = re.compile(r"ValueError: (?:not enough|too many) values to unpack")

# How a trial may end: the rule is guarded, it is not, or the trial says nothing about it.
Kind = Literal["caught", "not caught", "no proof"]


@dataclass(frozen=True)
class Result:
    """How the trial of one mutation ended; ``test`` is what caught it, ``seconds`` its time."""

    name: str
    promise: int
    layer: str
    kind: Kind
    test: str
    seconds: float
    why: str = ""


@dataclass(frozen=True)
class TestRun:
    """What pytest said of one selection: how many passed, and the first that did not."""

    code: int
    passed: int
    failed: str
    message: str
    asserted: bool

    @property
    def sound(self) -> bool:
        """Whether everything passed, and there was something."""
        return self.code == 0 and self.passed > 0


class Trials:
    """Tries mutations of the tree at ``source``, each in a copy of its own.

    What each selection of tests says of the tree as it is, is asked once.  :meth:`stop` ends the
    tests that are under way, from another thread, too.
    """

    def __init__(
        self, source: Path, patience_s: float = PATIENCE_S, grace_s: float = GRACE_S
    ) -> None:
        self._source = source
        self._patience_s, self._grace_s = patience_s, grace_s
        self._plain: dict[tuple[str, ...], TestRun] = {}
        self._locks: dict[tuple[str, ...], threading.Lock] = {}
        self._lock = threading.Lock()
        self._children: set[subprocess.Popen[bytes]] = set()
        self._stopped = False

    def run(self, mutation: Mutation) -> Result:
        """Try one mutation.  Raises :class:`~tools.mutations.mutation.TableError`."""
        changed = mutation.changed(self._source)
        plain = self._on_the_plain_tree(mutation.tests)
        began = time.monotonic()

        def ended(kind: Kind, test: str = "", why: str = "") -> Result:
            took = time.monotonic() - began
            return Result(
                mutation.name, mutation.promise, mutation.layer, kind, test, round(took, 1), why
            )

        if not plain.sound:
            why = f"its tests do not pass on the tree as it is: {plain.failed} {plain.message}"
            return ended("no proof", why=why)
        with copied_tree(self._source) as copy:
            copy.write(mutation.file, changed)
            try:
                broken = self._pytest(copy, mutation.tests)
            finally:
                if mutation.image:
                    remove_image_of(copy)
        if broken.sound:
            return ended("not caught", why=f"{broken.passed} passed")
        if broken.code == 1 and broken.asserted:
            return ended("caught", broken.failed)
        return ended("no proof", broken.failed, broken.message or f"exit code {broken.code}")

    def stop(self) -> None:
        """Interrupt the tests, which lets them clean up; those that do not end are killed."""
        with self._lock:
            self._stopped = True
            children = list(self._children)
        for child in children:
            self._end(child)

    def _on_the_plain_tree(self, tests: tuple[str, ...]) -> TestRun:
        with self._lock:
            lock = self._locks.setdefault(tests, threading.Lock())
        with lock:
            if tests not in self._plain:
                with copied_tree(self._source) as copy:
                    self._plain[tests] = self._pytest(copy, tests)
            return self._plain[tests]

    def _pytest(self, copy: CopiedTree, tests: Sequence[str]) -> TestRun:
        copy.scratch.mkdir()
        report = copy.scratch / "report.xml"
        argv = [str(copy.python), "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
        argv += [f"--junitxml={report}", f"--basetemp={copy.scratch / 'b'}", *tests]
        said = copy.scratch / "said.txt"
        with said.open("w") as output:
            with self._lock:
                if self._stopped:
                    raise KeyboardInterrupt
                child = subprocess.Popen(
                    argv, cwd=copy.root, env=copy.environment(), stdin=subprocess.DEVNULL,
                    stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
                )  # fmt: skip
                self._children.add(child)
        try:
            child.wait(self._patience_s)
        except subprocess.TimeoutExpired:
            self._end(child)
            return TestRun(-1, 0, "", f"no end after {self._patience_s:.0f} s", asserted=False)
        finally:
            with self._lock:
                self._children.discard(child)
        return _read(report, child.returncode, said.read_text("utf-8", "replace"))

    def _end(self, child: subprocess.Popen[bytes]) -> None:
        """End pytest by Ctrl-C, so that its fixtures take away what they made, or by force."""
        child.send_signal(signal.SIGINT)
        try:
            child.wait(self._grace_s)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()


def _read(report: Path, code: int, said: str) -> TestRun:
    """What a JUnit report says; pytest's last words where there is none."""
    try:
        cases = list(ElementTree.parse(report).getroot().iter("testcase"))  # noqa: S314 - our own
    except (OSError, ElementTree.ParseError):
        cases = []
    passed = sum(len(case) == 0 for case in cases)
    for case in cases:
        for outcome in case:
            if outcome.tag not in ("failure", "error"):
                continue
            message = outcome.get("message", "").strip()
            # Only a failure of the call itself: an error is a fixture's, or of the collection.
            by_test = (outcome.text or "").strip().rpartition("\n")[2].startswith("tests/")
            asserted = outcome.tag == "failure" and bool(
                _ASSERTED.match(message) or (by_test and _COUNTED.match(message))
            )
            line = (message.splitlines() or [""])[0][:300]
            return TestRun(code, passed, _id(case), f"{outcome.tag}: {line}", asserted)
    last = (said.strip().splitlines() or [""])[-1][:300]
    return TestRun(code, passed, "", "" if code == 0 else last, asserted=False)


def _id(case: ElementTree.Element) -> str:
    file = case.get("classname", "").replace(".", "/")
    return f"{file}.py::{case.get('name')}" if file else str(case.get("name"))
