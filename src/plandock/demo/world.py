"""Where the demo happens: its folder, its environment, its run, and how all of it goes away."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import site
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from plandock import proc
from plandock.box import launch
from plandock.demo.narration import Narrator
from plandock.engines.protocol import Engine
from plandock.errors import PlandockError
from plandock.runs.model import Run
from plandock.runs.store import Store

# What finds the engine, which is the user's own also in a home that is not.
_ENGINE = (
    *("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CERT_PATH", "DOCKER_TLS_VERIFY"),
    *("CONTAINER_HOST", "CONTAINER_SSHKEY", "CONTAINERS_CONF", "CONTAINERS_STORAGE_CONF"),
    *("XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS"),
)
_SETTINGS = ("PLANDOCK_ENGINE", "PLANDOCK_IMAGE", "PLANDOCK_NODE", "PLANDOCK_RUNTIME")


class World:
    """A folder of its own with the sample repository and, but for a live demo, a home.

    `env` is the whole environment of every command of the story.
    """

    def __init__(self, engine: Engine, *, live: bool) -> None:
        # Resolved, because Claude Code and git name folders by their real paths.
        self.folder = Path(os.path.realpath(tempfile.mkdtemp(prefix="plandock-demo-")))
        self.home = self.folder / "home"
        self.repo = self.folder / "greeting"
        self.engine = engine
        self.live = live
        self._seen: Run | None = None
        self.env: dict[str, str] = dict(os.environ) if live else self._environment()

    def _environment(self) -> dict[str, str]:
        (self.folder / "tmp").mkdir()
        env = {x: os.environ[x] for x in (*_ENGINE, *_SETTINGS) if x in os.environ}
        real = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")
        if real.is_dir():
            env["DOCKER_CONFIG"] = str(real)  # names the context, and so where Docker is
        env["PYTHONUSERBASE"] = site.getuserbase()  # where `pip install --user` put us
        env |= {
            "HOME": str(self.home),
            "PATH": os.environ.get("PATH", os.defpath),
            "TERM": "xterm-256color",
            "LANG": "C.UTF-8",
            "TMPDIR": str(self.folder / "tmp"),  # Claude Code leaves folders of its own there
            "XDG_CONFIG_HOME": str(self.home / ".config"),
            "XDG_STATE_HOME": str(self.home / ".local/state"),
            "XDG_DATA_HOME": str(self.home / ".local/share"),
            "XDG_CACHE_HOME": str(self.home / ".cache"),
        }
        if self.engine.name == "podman" and os.geteuid() != 0:
            env.setdefault("CONTAINERS_STORAGE_CONF", str(self._storage()))
        return env

    def _storage(self) -> Path:
        """A file that names the user's own Podman storage, which is looked for below HOME."""
        form = "{{.Store.GraphDriverName}}\n{{.Store.GraphRoot}}\n{{.Store.RunRoot}}"
        said = proc.run(["podman", "info", "--format", form]).text.splitlines()
        names = ("driver", "graphroot", "runroot")
        rows = [f'{name} = "{value}"\n' for name, value in zip(names, said, strict=False)]
        path = self.folder / "storage.conf"
        path.write_text("[storage]\n" + "".join(rows), encoding="utf-8")
        return path

    # -- the product's own command line

    def plandock(self, *words: str, check: bool = True, timeout_s: float = 120.0) -> proc.Finished:
        """Run one command of plandock in the sample repository.

        Raises :class:`PlandockError` with its last words when it fails (with `check`).
        """
        done = proc.run(
            self._argv(words), cwd=self.repo, env=self.env, timeout_s=timeout_s, check=False
        )
        if check and not done.ok:
            said = done.stderr.decode("utf-8", "replace").strip() or done.text.strip()
            line = " ".join(words)
            raise PlandockError(f"`plandock {line}` ended with {done.returncode}: {said}")
        return done

    def stream(self, *words: str, timeout_s: float) -> Iterator[str]:
        """The lines that a command prints, as they come; it is ended after `timeout_s`."""
        with tempfile.TemporaryFile() as errors:
            child = proc.open_pipe(
                self._argv(words), cwd=self.repo, env=self.env, stdin=False, stderr=errors
            )
            limit = threading.Timer(timeout_s, child.terminate)
            limit.start()
            assert child.stdout is not None
            try:
                for line in child.stdout:
                    yield line.decode("utf-8", "replace").rstrip("\n")
            finally:
                limit.cancel()
                child.stdout.close()
                proc.end(child)

    def _argv(self, words: Sequence[str]) -> list[str]:
        # -P: the sample repository is the working directory and no place to import from.
        return [sys.executable, "-P", "-m", "plandock", *words]

    # -- the run

    @property
    def state_dir(self) -> Path:
        """The folder with the story's store and runs."""
        base = self.env.get("XDG_STATE_HOME", "")
        home = Path(self.env.get("HOME") or Path.home())
        return (Path(base) if base.startswith("/") else home / ".local/state") / "plandock"

    def find_run(self) -> Run | None:
        """The newest run of the sample repository, or None."""
        if not (self.state_dir / "plandock.db").is_file():
            return None
        with Store(self.state_dir / "plandock.db") as store:
            run = next((r for r in store.list() if r.repo == str(self.repo)), None)
        self._seen = run or self._seen
        return run

    # -- the end

    def clear(self, *, keep_folder: bool) -> list[str]:
        """Take away what the story made; returns what could not be, in a sentence each.

        The supervisor goes first, then containers and volumes until none comes any more, then
        the folder, which is the throwaway home's only place.
        """
        left: list[str] = []
        # A run that was dropped has left its repository's mirror, which is kept from run to run.
        run = self.find_run() or self._seen
        if run is not None:
            self._end_supervisor(run)
            try:
                self._empty_engine(run)
            except PlandockError as error:
                left.append(f"containers or volumes labelled plandock.run={run.id}: {error}")
        if not keep_folder:
            shutil.rmtree(self.folder, ignore_errors=True)
            if self.folder.exists():
                left.append(f"the folder {self.folder}")
        return left

    def _end_supervisor(self, run: Run) -> None:
        """End the run's supervisor, with the engine's client that it may be waiting for."""
        lock = self.state_dir / "runs" / run.id / "lock"
        for ask in (signal.SIGTERM, signal.SIGKILL):
            if not _held(lock) or run.supervisor_pid <= 1:
                return
            # It leads a session of its own; the lock says that it is still the one recorded.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(run.supervisor_pid, ask)
            until = time.monotonic() + 3.0
            while _held(lock) and time.monotonic() < until:
                time.sleep(0.05)

    def _empty_engine(self, run: Run) -> None:
        label, mirror = f"plandock.run={run.id}", launch.names_of(run).mirror
        for again in range(2):  # a call under way may still create something
            if again:
                time.sleep(0.5)
            launch.remove_containers(self.engine, run)
            launch.remove_volumes(self.engine, run)
        if any(v.name == mirror for v in self.engine.volumes(f"plandock.mirror={mirror}")):
            self.engine.remove_volume(mirror)
        rest = [c.name for c in self.engine.containers(label)]
        rest += [v.name for v in self.engine.volumes(label)]
        if rest:
            raise PlandockError(", ".join(rest))


def _held(lock: Path) -> bool:
    """Whether somebody holds a supervisor's lock."""
    try:
        handle = os.open(lock, os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def narrate_commands(narrator: Narrator, world: World, *lines: Sequence[str]) -> None:
    """Run commands of plandock one after the other and show what they print."""
    for words in lines:
        narrator.command("plandock " + " ".join(words))
        narrator.output(world.plandock(*words).text)
