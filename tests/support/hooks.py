"""A place for the hook to run in: real payloads, a repository, a made-up login, CLI and engine.

The hook's process is the real one.  Where a hand-off may succeed it runs from a copy of the
package whose supervisor only notes that it was started, so that no run is carried out.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from plandock.claude.binary import TESTED
from plandock.runs.model import Run
from plandock.runs.store import Store
from tests.support.journal import note
from tests.support.machine import CLONE
from tests.support.repository import Repository

PAYLOADS = CLONE / "tests" / "unit" / "data" / "payloads"
VERSIONS = TESTED
PACKAGE = CLONE / "src" / "plandock"
ENTRY = PACKAGE / "hook" / "entry.py"

_FAKE_SUPERVISOR = """\
import sys, time
from pathlib import Path
print("started", sys.argv[1], flush=True)
while Path(__file__).with_name("hold").exists():
    time.sleep(0.02)
print("ended", flush=True)
"""


def load(version: str, case: str, name: str) -> dict[str, Any]:
    """A payload as that version of the CLI sent it, with neutral paths."""
    data: dict[str, Any] = json.loads((PAYLOADS / version / case / f"{name}.json").read_bytes())
    return data


@dataclass(frozen=True)
class Answer:
    """What one hook process answered."""

    code: int
    out: str
    err: str

    @property
    def stop(self) -> str:
        """The stop reason of an answer that ends the turn; fails on any other answer."""
        assert self.code == 0, self.err
        data = json.loads(self.out)
        assert data["continue"] is False
        reason: str = data["stopReason"]
        return reason

    @property
    def context(self) -> str:
        """The words for the model that go along with the user's prompt."""
        assert self.code == 0, self.err
        words: str = json.loads(self.out)["hookSpecificOutput"]["additionalContext"]
        return words

    @property
    def silent(self) -> bool:
        """Whether the hook let things be."""
        return (self.code, self.out, self.err) == (0, "", "")


def copy_package(root: Path) -> Path:
    """A copy of plandock below `root` whose supervisor does nothing; the copy's folder."""
    copy = root / "plandock"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "supervisor" / "__main__.py").write_text(_FAKE_SUPERVISOR)
    for name, limit in (("git.py", "_QUICK_S = 15.0"), ("runs/database.py", "_PATIENCE_S = 20.0")):
        # A test on a slow machine waits longer than a user would.
        text = (copy / name).read_text()
        assert limit in text
        (copy / name).write_text(text.replace(limit, f"{limit.partition(' = ')[0]} = 600.0"))
    return copy


@dataclass
class HookWorld:
    """Everything that a hook process sees."""

    repo: Repository
    home: Path
    package: Path
    tools: Path
    env: dict[str, str] = field(default_factory=dict)

    def payload(self, version: str, case: str, name: str, **changes: Any) -> dict[str, Any]:
        """A real payload, moved to this world's repository and home."""
        text = json.dumps(load(version, case, name))
        text = text.replace("/home/user/project", str(self.repo.root))
        data: dict[str, Any] = json.loads(text.replace("/home/user", str(self.home)))
        return data | changes

    def start(self, payload: object, argv: list[str] | None = None) -> subprocess.Popen[bytes]:
        """Start a hook process and give it its payload."""
        raw = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        with tempfile.TemporaryFile() as given:
            given.write(raw)
            given.seek(0)
            return subprocess.Popen(
                argv or [sys.executable, "-I", "-S", str(self.package / "hook" / "entry.py")],
                stdin=given,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=self.env,
                cwd=self.home,
            )

    def call(self, payload: object, argv: list[str] | None = None) -> Answer:
        """Run a hook process to the end of its output."""
        return finish(self.start(payload, argv))

    def accept(self, **changes: Any) -> Answer:
        """A plan is accepted, auto mode, as the newer CLI says it."""
        name = "PostToolUse-ExitPlanMode-auto"
        return self.call(self.payload(VERSIONS[-1], "auto", name, **changes))

    def speak(self, payload: dict[str, Any], **changes: Any) -> dict[str, Any]:
        """A person types the prompt of a payload's turn now: its record, as the CLI writes it.

        ``changes`` are to the record.  Returns the payload, in a turn of its own.
        """
        payload = payload | {"prompt_id": str(uuid.uuid4())}
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        record = {"type": "user", "promptId": payload["prompt_id"], "timestamp": now}
        record |= {"promptSource": "typed", "origin": {"kind": "human"}}
        record |= {"message": {"role": "user", "content": payload.get("prompt", "go on")}}
        path = Path(payload["transcript_path"])
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            file.write(json.dumps(record | changes) + "\n")
        return payload

    @property
    def state(self) -> Path:
        """The state folder."""
        return Path(self.env["XDG_STATE_HOME"]) / "plandock"

    def runs(self) -> list[Run]:
        """Every run in the store; none where there is no store."""
        if not (self.state / "plandock.db").is_file():
            return []
        with Store(self.state / "plandock.db") as store:
            return store.list()

    def log(self, run_id: str) -> str:
        """What the run's supervisors have said so far."""
        path = self.state / "runs" / run_id / "supervisor.log"
        return path.read_text() if path.exists() else ""

    def starts(self, run_id: str) -> int:
        """How many supervisors the run has had."""
        return self.log(run_id).count("started")

    def wait_for_supervisors(self) -> None:
        """Let every supervisor that has begun come to its end."""
        ids = [run.id for run in self.runs()]
        until(lambda: all(self.log(x).count("ended") == self.starts(x) for x in ids))

    def marks(self) -> set[str]:
        """The marks that stand, as `folder/session`."""
        folders = ("latch", "note", "proposed")
        return {f"{f}/{p.name}" for f in folders for p in (self.state / f).glob("*")}


def until(condition: Callable[[], bool], seconds: float = 240.0) -> None:
    """Wait for something to come to pass; fails when it does not in time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to pass in time"
        time.sleep(0.02)


def finish(process: subprocess.Popen[bytes]) -> Answer:
    """Wait for a hook process and all its output."""
    with process:
        out, err = process.communicate(timeout=600)
        return Answer(process.returncode, out.decode(), err.decode())


@contextmanager
def fake_docker_socket() -> Iterator[Path]:
    """A socket that answers a ping as docker does, for the time of the context."""
    folder = Path(tempfile.mkdtemp(prefix="plandock-"))  # a socket's path is at most 107 bytes
    note("folder", folder)
    path = folder / "s"
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    listener.listen(64)

    def serve() -> None:
        while True:
            try:
                link, _ = listener.accept()
            except OSError:
                return
            # On a slow machine the hook may have stopped waiting; the next one is answered.
            with link, suppress(OSError):
                link.recv(4096)
                link.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK")

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield path
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(120)
        shutil.rmtree(folder)


def make_world(root: Path, repo: Repository, home: Path, package: Path, ping: Path) -> HookWorld:
    """A world where a hand-off succeeds; `root` takes the programs on PATH."""
    tools = root / "bin"
    tools.mkdir(parents=True)
    for name in ("docker", "claude"):
        (tools / name).write_text("#!/bin/sh\nexit 1\n")
        (tools / name).chmod(0o755)
    git = shutil.which("git")
    assert git
    (tools / "git").symlink_to(git)
    login = home / ".claude" / ".credentials.json"
    login.parent.mkdir(exist_ok=True)
    login.write_text('{"claudeAiOauth":{"accessToken":"sk-ant-oat01-made-up"}}')
    kept = ("HOME", "LANG", "GIT_CONFIG_GLOBAL", "GIT_CONFIG_NOSYSTEM")
    env = {n: v for n, v in os.environ.items() if n in kept or n.startswith("XDG_")}
    env |= {"PATH": str(tools), "DOCKER_HOST": f"unix://{ping}", "CLAUDE_PID": "4711"}
    return HookWorld(repo, home, package, tools, env)
