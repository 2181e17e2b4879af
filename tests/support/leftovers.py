"""What a test session leaves behind on this machine: listed at its end, and a failure.

Others use the same engines at the same time: a user's runs, the tests of another clone.  So only
what bears a word of this session's journal is its own, or what names one of its folders.  Images
of boxes stay on purpose: they are a cache.  See :func:`watch`.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest

from plandock.box import image as box_image
from plandock.box import launch
from plandock.engines import detect
from plandock.engines.command_line import CommandLineEngine
from tests.support import journal, machine

_PATIENCE_S = float(os.environ.get("PLANDOCK_TEST_ENDS_WITHIN_S", "300"))
"""How long processes and containers may take to end once the last test is over."""
_LABELS = ("plandock.run", "plandock.mirror", "plandock.login", "plandock.test")
_LISTED = {
    "container": ("ps", "-a", "--format", "{{.Names}}"),
    "volume": ("volume", "ls", "--format", "{{.Name}}"),
    "network": ("network", "ls", "--format", "{{.Name}}"),
}
_WORKER = b"import sys;exec(eval(sys.stdin.readline()))"


def watch(config: pytest.Config) -> None:
    """Keep a journal for a session, and look for leftovers at its end; call it in
    ``pytest_configure``.  Of several workers none looks, but the process that started them."""
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Watch(), "leftovers")


class _Watch:
    def __init__(self) -> None:
        handle, name = tempfile.mkstemp(prefix="plandock-test-journal-")
        os.close(handle)
        self.journal = Path(name)
        self.found: list[str] = []
        self.before = os.environ.get(journal.VARIABLE)
        os.environ[journal.VARIABLE] = name  # workers inherit it

    @pytest.hookimpl(trylast=True)  # the workers have ended by then
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        made = Made.read(self.journal)
        end = time.monotonic() + _PATIENCE_S
        while (found := list(leftovers(made))) and time.monotonic() < end:
            time.sleep(0.5)
        self.found = found
        if found and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.found:
            # For the closing line, which counts objects with attributes.
            terminalreporter.stats["left behind"] = [SimpleNamespace(line=x) for x in self.found]
            terminalreporter.section("left behind", sep="=", red=True, bold=True)
            for line in self.found:
                terminalreporter.write_line(f"LEFT BEHIND {line}", red=True)
        else:
            terminalreporter.write_line("nothing was left behind on this machine")

    def pytest_unconfigure(self) -> None:
        self.journal.unlink(missing_ok=True)
        if self.before is None:
            del os.environ[journal.VARIABLE]
        else:
            os.environ[journal.VARIABLE] = self.before


@dataclass
class Made:
    """By what this session's things are known: words with the test that chose them, folders."""

    words: dict[str, str] = field(default_factory=dict)
    bases: set[str] = field(default_factory=set)
    folders: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, place: Path) -> Made:
        """From a session's journal, and from the state folders of the homes in it."""
        made = cls()
        for entry in journal.read(place):
            if entry.kind == "name":
                made.words[entry.value] = entry.test
            elif entry.kind == "folder":
                made.folders[entry.value] = entry.test
            elif entry.kind == "repository":
                made.words[_mirror(entry.value)] = entry.test
            elif entry.kind == "base":
                made.bases.add(entry.value)
            else:
                made._learn_home(Path(entry.value), entry.test)
        return made

    def _learn_home(self, home: Path, test: str) -> None:
        if not self.has_path(str(home)):
            self.bases.add(str(home))
        state = home / ".local/state/plandock"
        for folder in (*state.glob("runs/*"), *state.glob("dropped/*")):
            self.words[folder.name.partition("-")[0]] = test
            try:
                repository = json.loads((folder / "run.json").read_bytes())["repo"]
            except (OSError, ValueError, KeyError, TypeError):
                continue
            self.words[_mirror(repository)] = test

    def has_path(self, path: str) -> bool:
        """Whether a path lies below a folder of this session."""
        return any(path == x or path.startswith(x + "/") for x in (*self.bases, *self.folders))

    def names(self, text: bytes) -> bool:
        """Whether an environment or a command line names a folder of this session."""
        places = [os.fsencode(x) for x in (*self.bases, *self.folders)]
        # Whole names of folders: another session's may begin alike.
        return any(x + end in text for x in places for end in (b"/", b"\0", b":"))


def _mirror(repository: str) -> str:
    return launch.Names("", repository).mirror.rpartition("-")[2]


def leftovers(made: Made) -> Iterator[str]:
    """One line for each thing of this session that is there."""
    yield from _processes(made)
    for folder, test in made.folders.items():
        if os.path.lexists(folder):
            yield _line("folder", folder, test)
    yield from _of_the_kernel(made)
    with tempfile.TemporaryDirectory() as home, pytest.MonkeyPatch.context() as patch:
        machine.move_in(Path(home), patch)
        for engine in map(CommandLineEngine, detect.NAMES):
            if shutil.which(engine.name) and not machine.why_engine_is_absent(engine.name):
                yield from _in_engine(engine, made)


def _line(kind: str, name: str, test: str) -> str:
    return f"{kind} {name}" + (f" of {test}" if test else "")


def _processes(made: Made) -> Iterator[str]:
    """Processes of this user, or of all where this user may look, but those that run the tests."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes()
            said = command + b"\0" + (folder / "environ").read_bytes() + b"\0"
        except OSError:
            continue
        pid = int(folder.name)
        if made.names(said) and _WORKER not in command and pid not in _own_line():
            shown = command.replace(b"\0", b" ").decode("utf-8", "replace").strip()
            yield f"process {pid}: {shown[:200]}"


def _own_line() -> set[int]:
    """This process and those that it descends from."""
    line, pid = set(), os.getpid()
    while pid > 1:
        line.add(pid)
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            break
    return line


def _of_the_kernel(made: Made) -> Iterator[str]:
    """Mounts, network interfaces and namespaces, and control groups."""
    try:
        mounts = Path("/proc/self/mounts").read_text().splitlines()
    except OSError:
        mounts = []
    for line in mounts:
        if made.has_path(place := line.split()[1]):
            yield f"mount {place}"
    places = {
        "network interface": "/sys/class/net",
        "network namespace": "/run/netns",
        **{f"cgroup {x.name}": str(x) for x in Path("/sys/fs/cgroup").glob("*/")},
        "cgroup": "/sys/fs/cgroup",
    }
    for kind, place in places.items():
        for name in os.listdir(place) if os.path.isdir(place) else []:
            for word in made.words.keys() & {name, *name.split("-")}:
                yield _line(kind, name, made.words[word])


def _in_engine(engine: CommandLineEngine, made: Made) -> Iterator[str]:
    labels: dict[tuple[str, str], Mapping[str, str]] = {}
    for label in _LABELS:
        labels |= {("container", x.name): x.labels for x in engine.containers(label)}
        labels |= {("volume", x.name): x.labels for x in engine.volumes(label)}
    for kind, words in _LISTED.items():
        argv = [engine.name, *words]
        said = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=True).stdout
        for name in said.split():
            labels.setdefault((kind, name), {})
    for image in (*engine.images("plandock.test"), *box_image.list_images(engine)):
        labels[("image", (image.tags or (image.id,))[0])] = image.labels
    own = _own_words(labels.values(), made)
    for (kind, name), has in sorted(labels.items()):
        for word in sorted(own.keys() & {*name.split("-"), *has.values()})[:1]:
            yield _line(f"{engine.name} {kind}", name, own[word])


def _own_words(things: Iterable[Mapping[str, str]], made: Made) -> dict[str, str]:
    """The words of this session, less those that something of another state folder bears: the id
    of a run is short, and another user's may have the same."""
    own = dict(made.words)
    for labels in things:
        if launch.RECORD in labels:
            run = labels.get("plandock.run", "")
            if made.has_path(_state_folder(labels[launch.RECORD])):
                own.setdefault(run, "")
            else:
                own.pop(run, None)
    return own


def _state_folder(record: str) -> str:
    try:
        return str(json.loads(base64.b64decode(record, validate=True))["state_dir"])
    except (ValueError, KeyError, TypeError):
        return ""
