"""A throw-away box beside a real gateway, attacked from inside; for `doctor --isolation`."""

from __future__ import annotations

import json
import secrets
import signal
import tempfile
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

from plandock import proc
from plandock.box import launch
from plandock.box.expectations import expectations_of, isolation_fault
from plandock.engines.protocol import Engine
from plandock.errors import EngineError, PlandockError
from plandock.runs.model import Run, RunId
from plandock.settings.keys import Settings

# Small, so that reaching its limits costs this machine little.
MEMORY = 512 << 20
PROCESSES = 256
PATIENCE_S = 900.0  # above what all attempts together may take on a slow machine
_LONGEST = 1 << 16


def attack(
    engine: Engine, image: str, settings: Settings, upstream: str = ""
) -> Generator[dict[str, Any], None, None]:
    """Each check as it is made: ``name``, ``ok`` (None: cannot be enforced here), ``detail``.

    Box and gateway are the product's own, with this user's settings but for smaller limits;
    they and their volumes are gone at the end, however it comes.  Raises :class:`EngineError`.
    """
    mark = f"doctor-{secrets.token_hex(4)}"
    run = Run(RunId(mark), repo=f"/home/plandock/{mark}", cwd="/", upstream=upstream)
    small = replace(settings, memory=MEMORY, pids=PROCESSES, credentials="host", egress=())
    with _made(engine, run, image, small):
        yield from _probed(engine, run, image, small)


@contextmanager
def _made(engine: Engine, run: Run, image: str, settings: Settings) -> Iterator[None]:
    try:
        launch.make_volumes(engine, run)
        stage = launch.stage_spec(run, image, "sha1")
        folders = (run.repo, launch.MIRROR, launch.CONVERSATION, launch.LINK)
        argv = ("python3", "-I", "/opt/plandock/keeper.py", "prepare", *folders)
        engine.run(replace(stage, argv=argv, stdin_open=False))
        for spec in (
            launch.gateway_spec(run, image, settings, {}),
            launch.box_spec(run, image, settings),
        ):
            engine.create(spec)
            engine.start(spec.name)
        yield
    finally:
        _remove(engine, run)


def _remove(engine: Engine, run: Run) -> None:
    """Take everything away, whatever signal comes meanwhile; an engine may still be making it."""
    main = threading.current_thread() is threading.main_thread()
    ends = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if main else ()
    before = {number: signal.signal(number, signal.SIG_IGN) for number in ends}
    label = f"plandock.run={run.id}"
    try:
        for _attempt in range(5):
            with suppress(PlandockError):
                launch.remove_containers(engine, run)
                launch.remove_volumes(engine, run)
                engine.remove_volume(launch.names_of(run).mirror)
                if not engine.containers(label) and not engine.volumes(label):
                    return
            time.sleep(0.5)
        raise EngineError(
            f"what {run.id} made is still in {engine.name}",
            hint=f"{engine.name} ps -a --filter label={label}",
        )
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _probed(engine: Engine, run: Run, image: str, settings: Settings) -> Iterator[dict[str, Any]]:
    box = launch.box_spec(run, image, settings)
    wish = json.dumps(expectations_of(box, engine)).encode()
    ready = ("test", "-S", f"{launch.LINK}/proxy.sock", "-a", "-p", "/run/plandock/control")
    end = time.monotonic() + 300.0
    while not _answers(engine, box.name, ready):
        state = engine.inspect(box.name)
        if state is None or not state.running:
            said = launch.last_words(engine, box.name)
            fault = isolation_fault(said).get("message", f"it ended at once: {said}")
            yield {"name": "box", "ok": False, "detail": fault}
            return
        if time.monotonic() > end:
            yield {"name": "box", "ok": False, "detail": "it and its gateway did not get ready"}
            return
        time.sleep(0.1)
    with tempfile.TemporaryFile() as errors:
        argv = ("python3", "-I", "/opt/plandock/attack_probe.py")
        child = engine.open_exec(box.name, argv, user="1000:1000", stderr=errors)
        assert child.stdin is not None
        assert child.stdout is not None
        timer = threading.Timer(PATIENCE_S, child.kill)
        timer.start()
        whole = False
        try:
            with suppress(BrokenPipeError):
                child.stdin.write(wish)
                child.stdin.close()
            while line := child.stdout.readline(_LONGEST):
                found = _check(line)
                whole = found.get("name") == "done"
                if not whole:
                    yield found
        finally:
            timer.cancel()
            child.stdout.close()
            proc.end(child)
        if not whole:
            errors.seek(0)
            said = errors.read(_LONGEST).decode("utf-8", "replace").strip()
            yield {"name": "box", "ok": False, "detail": f"the checks broke off: {said[-300:]}"}


def _answers(engine: Engine, container: str, argv: tuple[str, ...]) -> bool:
    with suppress(PlandockError):
        return engine.exec(container, argv, user="1000:1000", check=False).ok
    return False


def _check(line: bytes) -> dict[str, Any]:
    """One line of the probe; what is none is a failed check."""
    try:
        found = json.loads(line)
    except ValueError:
        found = None
    if isinstance(found, dict) and isinstance(found.get("name"), str):
        return found
    return {"name": "box", "ok": False, "detail": f"it said {line[:100]!r}"}
