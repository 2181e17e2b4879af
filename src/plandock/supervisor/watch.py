"""What is kept an eye on while the agent works: the time, the user's wish, the login, the way out.

Two threads, each with a store of its own; an engine that does not answer is tried again, for the
reader of the log will say soon enough that it is gone.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType

from plandock.box import launch
from plandock.engines.protocol import Engine
from plandock.errors import CredentialsError, PlandockError
from plandock.runs.model import Run
from plandock.runs.store import Store
from plandock.settings.keys import Settings
from plandock.supervisor import accounts, egress, logins, paying
from plandock.supervisor.log_lines import lines_of
from plandock.supervisor.steps import say

_LOOK_S = 0.5
_LOGIN_S = 3.0
_SAVE_S = 15.0
# How long a box may still work on the answer after which usage credits would pay.
_LAST_S = 3.0
# With less room than this the box is ended while its work can still be committed (bytes).
LEAST_ROOM = 64 << 20


class Watch:
    """Use as a context manager around the reading of the box's log."""

    def __init__(self, engine: Engine, run: Run) -> None:
        self._engine, self._run = engine, run
        self._settings = Settings.from_dict(run.settings)
        self._box = launch.names_of(run).box
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._with_store, args=(look,), daemon=True)
            for look in (self._look, self._keep_gateway)
        ]

    def __enter__(self) -> Watch:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._threads[0].join()

    def _with_store(self, look: Callable[[Store], None]) -> None:
        """A thread's whole life; a store that cannot be opened just now is tried again, for
        without these looks no stop, no time limit and no renewed login would be heeded."""
        while not self._over.is_set():
            with self._errors(), Store() as store:
                look(store)
                return

    def _look(self, store: Store) -> None:
        began = time.monotonic()
        saved = looked = began
        stopping = False
        while not self._over.wait(_LOOK_S):
            with self._errors():
                now = time.monotonic()
                run = store.get(self._run.id)
                active = self._run.active_s + now - began
                if run.stop_forced:
                    self._engine.kill(self._box)
                elif run.stop_requested and not stopping:
                    self._engine.stop(self._box)
                    stopping = True
                elif active > self._settings.timeout_s and not stopping:
                    store.change(run.id, reason="timeout")
                    self._engine.stop(self._box)
                    stopping = True
                if now - saved > _SAVE_S:
                    saved = now
                    store.change(run.id, active_s=active)
                if now - looked > _LOGIN_S and not stopping:
                    looked = now
                    try:
                        stopping = not self._renew(store, run)
                    except accounts.Unsettled:
                        looked -= _LOGIN_S - _LOOK_S  # again at once
        with self._errors():
            active = self._run.active_s + time.monotonic() - began
            store.change(self._run.id, active_s=active)

    def _renew(self, store: Store, run: Run) -> bool:
        """Hand the box the login that the host's own Claude Code has renewed meanwhile.

        False where that is another account's now: then the box is ended, and the run waits.
        Raises :class:`Unsettled` where that shows in a moment.
        """
        if self._settings.billing == "api-key":
            return True
        try:
            login = logins.on_this_machine(run, self._settings, min_life_s=0.0)
        except accounts.AnotherAccount as another:
            say(f"the box is ended: {another.message}")
            store.change(run.id, reason="login", message=another.message, hint=another.hint)
            self._engine.stop(self._box)
            return False
        except accounts.Unsettled:
            raise
        except CredentialsError:
            return True  # no news: what the box has may do for long
        if login is not None and logins.mark_of(login) != run.login_mark:
            logins.hand_over(self._engine, run, login)
            changes = accounts.paying(run, accounts.whose(run, login))
            store.change(run.id, login_mark=logins.mark_of(login), **changes)
            store.note_event(run.id, "login-renewed")
            say("the renewed login was handed in")
        return True

    def _keep_gateway(self, store: Store) -> None:
        """Start the gateway again whenever it ends before the box does."""
        gateway = launch.names_of(self._run).gateway
        while not self._over.wait(_LOOK_S):
            with self._errors():
                self._heed(store, gateway)
                if self._over.is_set():
                    return
                state = self._engine.inspect(gateway)
                box = self._engine.inspect(self._box)
                if state is not None and not state.running and box is not None and box.running:
                    self._engine.start(gateway)
                    store.note_event(self._run.id, "gateway-restarted")
                    say("the gateway had ended and was started again")
                    # A sealed one keeps the login in its own memory alone.
                    store.change(self._run.id, login_mark="")

    def _heed(self, store: Store, gateway: str) -> None:
        """Read the gateway's log until it ends: it tells when the engine's disk fills up."""
        reader = self._engine.logs(gateway, follow=True)
        assert reader.stdout is not None
        ended = threading.Event()

        def let_go() -> None:
            while not ended.is_set():
                if self._over.wait(_LOOK_S):
                    reader.terminate()
                    return

        threading.Thread(target=let_go, daemon=True).start()
        try:
            for line in lines_of(reader.stdout):
                if b'"credits"' in line and paying.stops(self._run) and self._tells(line):
                    say("usage credits pay, by what the gateway reads; it lets nothing out now")
                    self._over.wait(_LAST_S)
                    self._engine.stop(self._box)
                if b'"disk"' not in line:
                    continue
                with contextlib.suppress(ValueError, RecursionError):
                    said = json.loads(line)
                    room = said.get("free_bytes") if isinstance(said, dict) else None
                    if said.get("decision") == "disk" and isinstance(room, int):
                        self._short_of_room(store, room)
        finally:
            ended.set()
            reader.terminate()
            reader.wait()

    @staticmethod
    def _tells(line: bytes) -> bool:
        said = egress.decision_of(line)
        return said is not None and said["decision"] == paying.DECISION

    def _short_of_room(self, store: Store, room: int) -> None:
        say(f"the engine's disk has {room >> 20} MiB left")
        if room < LEAST_ROOM:
            store.change(self._run.id, reason="disk")
            self._engine.stop(self._box)

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (PlandockError, OSError) as error:
            say(f"watch: {error}")
            self._over.wait(1.0)
