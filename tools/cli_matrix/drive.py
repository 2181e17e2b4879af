"""Drives the real CLI through one case of the table, with hooks that write down each payload."""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from plandock.standin import (
    Scene,
    Script,
    StandIn,
    ToolCall,
    Turn,
    planning_scene,
    write_file,
)
from tests.support import claude_screen
from tests.support.laptop import Laptop
from tests.support.tmux import Tmux
from tools.cli_matrix.cases import FILE, PLAN, Case
from tools.cli_matrix.recording import Recording, name_of, normalise

EVENTS = {
    "PreToolUse": "*",
    "PermissionRequest": "*",
    "PostToolUse": "ExitPlanMode",
    "UserPromptSubmit": None,
    "SessionStart": None,
    "SessionEnd": None,
}
"""The events that are written down, and their matchers: all that plandock looks at, and more."""

# How long an answer may take to show; an event that a version does not send costs this (seconds).
_PATIENCE_S = 180.0

_RECORDER = """\
import os, sys, time
raw = sys.stdin.buffer.read()
folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), "seen")
name = os.path.join(folder, f"{time.monotonic_ns():020}")
with open(name + ".draft", "wb") as file:
    file.write(raw)
os.rename(name + ".draft", name)
sys.stdout.write("".join(sys.argv[1:]))
"""


def record(cli: Path, case: Case, root: Path) -> Recording:
    """Have the conversation in a throwaway home below `root`; never raises for what the CLI does.

    Where it does not come to its end, the recording holds what there is, and why.
    """
    root.mkdir(parents=True)
    (root / "seen").mkdir()
    dialog: list[str] = []
    fault = ""
    with StandIn(_script(case)) as standin:
        env = {"IS_SANDBOX": "1"}  # else the CLI refuses root to skip permissions
        laptop = Laptop(root, cli=cli, engine="none", standin=standin, env=env)
        _wire(laptop, root, case)
        terminal = Tmux()
        try:
            dialog = laptop.plan(terminal, "Plan it please", *case.words)
            if not _answer(terminal, case, standin, lambda: _names(root)):
                fault = f"{case.last or 'the next request'} did not come"
            claude_screen.leave(terminal)
        except AssertionError as error:
            fault = fault or str(error)
        finally:
            terminal.close()
        if not fault and standin.errors:
            fault = standin.errors[0]
    recording = normalise(case.name, laptop.home, dialog, _texts(root))
    recording.fault = fault
    return recording


def _script(case: Case) -> Script:
    write = write_file(FILE, "hi\n")
    on_host = (Turn("", (write,), needs_ok="ExitPlanMode", otherwise="I wait."), Turn("Done."))
    beside: tuple[ToolCall, ...] = (write,) if case.stops else ()
    planning = planning_scene(PLAN, siblings=beside, continuation=on_host)
    cleared = Scene("cleared", (Turn("", (write,)), Turn("Done.")), "^Implement the following")
    return Script((cleared, planning))


def _wire(laptop: Laptop, root: Path, case: Case) -> None:
    script = root / "recorder.py"
    script.write_text(_RECORDER)
    command = shlex.join([sys.executable, "-I", "-S", str(script)])
    stop = shlex.quote(json.dumps({"continue": False, "stopReason": "recorded"}))
    hooks: dict[str, Any] = {}
    for event, matcher in EVENTS.items():
        answer = f" {stop}" if case.stops and event == "PostToolUse" else ""
        entry: dict[str, Any] = {"hooks": [{"type": "command", "command": command + answer}]}
        hooks[event] = [entry if matcher is None else {"matcher": matcher, **entry}]
    (laptop.config / "settings.json").write_text(json.dumps({**case.settings, "hooks": hooks}))


def _answer(terminal: Tmux, case: Case, standin: StandIn, names: Callable[[], list[str]]) -> bool:
    """Answer the dialog; whether that came which tells that all is over."""
    asked = len(standin.model_requests)
    if case.option:
        claude_screen.choose(terminal, case.option, feedback=case.feedback)
    else:
        claude_screen.dismiss(terminal)
        return True

    def over() -> bool:
        return case.last in names() if case.last else len(standin.model_requests) > asked

    end = time.monotonic() + _PATIENCE_S
    while not over():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    if case.last.startswith("PermissionRequest"):
        claude_screen.wait_for_options(terminal)
        claude_screen.dismiss(terminal)
    if case.shown:
        terminal.wait_for(case.shown, _PATIENCE_S)
    return True


def _texts(root: Path) -> list[str]:
    """The payloads so far, oldest first."""
    found = sorted(x for x in (root / "seen").iterdir() if not x.suffix)
    return [x.read_text() for x in found]


def _names(root: Path) -> list[str]:
    return [name_of(json.loads(text)) for text in _texts(root)]
