"""Claude Code's screen, worked as a person works it: each key follows what the screen shows.

The CLI drops keys while it builds a screen (measured: 2.1.330 drops one that comes with the plan
dialog).  So nothing that counts is typed before a harmless key was seen to arrive.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.support.tmux import Tmux

DIALOG = r"Would you like to proceed\?"
"""The question above the options of an accepted plan, the same in every version so far."""

AUTOMATIC = r"^Yes, and (use auto mode|auto-accept)"
"""The words of the option that accepts a plan without asking about edits: both versions' own."""

PATIENCE_S = 300.0
"""How long the CLI may take for any one thing; a busy machine is no failure."""

# A key that the CLI has read and that changed nothing for this long was dropped (seconds).
_DROPPED_AFTER_S = 5.0
# Enter was seen to be dropped by a dialog whose cursor moved already (2.1.332).  A second one that
# comes late meets an empty prompt, where it (like Esc) does nothing; still it has more time.
_ENTER_DROPPED_AFTER_S = 15.0

_OPTION = re.compile(r"^\s*(❯)?\s*(\d)\. (\S.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Option:
    """One option of a dialog: its words, and whether the cursor stands on it."""

    words: str
    chosen: bool


def options(screen: str) -> list[Option]:
    """The options of the dialog on the screen, from the top; [] where there is none."""
    found: list[Option] = []
    for chosen, number, words in _OPTION.findall(screen):
        if number == "1":
            found = []  # a numbered list above it, such as the plan's own steps
        found.append(Option(words.strip(), bool(chosen)))
    return found if any(x.chosen for x in found) else []


def press_until(
    terminal: Tmux,
    key: str,
    arrived: Callable[[str], object],
    dropped_after_s: float = _DROPPED_AFTER_S,
) -> None:
    """Press a harmless key until the screen shows that it arrived.

    It is pressed again only when the CLI has read it and let it fall.
    """
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        terminal.send(key)
        if _is_seen(terminal, arrived, dropped_after_s):
            return
    raise AssertionError(f"{key} did not arrive; the screen:\n{terminal.screen()}")


def _is_seen(terminal: Tmux, arrived: Callable[[str], object], dropped_after_s: float) -> bool:
    """Wait for a key's effect; False where the CLI has read the key, and time went by without."""
    began = time.monotonic()
    while True:
        # Asked before the look, so that a pause of this process takes no look away.
        waited_s = time.monotonic() - began
        over = waited_s >= dropped_after_s and (not terminal.unread() or waited_s >= PATIENCE_S)
        if arrived(terminal.screen()):
            return True
        if over:
            return False
        time.sleep(0.15)


def write(terminal: Tmux, text: str) -> None:
    """Put a text into the line that the cursor is in, and see it there."""
    shown = re.compile(r"^\s*❯\s(?:\d\. )?\s*" + re.escape(text) + r"\s*$", re.MULTILINE)
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        terminal.type(text)
        if _is_seen(terminal, shown.search, _DROPPED_AFTER_S):
            return
        terminal.send("C-u")  # whatever part of it arrived
    raise AssertionError(f"{text!r} did not arrive; the screen:\n{terminal.screen()}")


def ask(terminal: Tmux, prompt: str) -> None:
    """Give the CLI a prompt; it must be none that stands on the screen already."""
    write(terminal, prompt)
    terminal.send("Enter")


def wait_for_plan(terminal: Tmux) -> list[str]:
    """Wait for the dialog of a plan, until it takes keys; the words of its options."""
    terminal.wait_for(DIALOG, PATIENCE_S)
    return wait_for_options(terminal)


def wait_for_options(terminal: Tmux) -> list[str]:
    """Wait for any dialog, until it takes keys; its cursor is on the first option then."""
    wait_until(terminal, lambda: options(terminal.screen()))
    _move_to(terminal, 1)
    _move_to(terminal, 0)
    return [x.words for x in options(terminal.screen())]


def choose(terminal: Tmux, words: str, *, feedback: str = "") -> None:
    """Take the option of a dialog whose words match; `feedback` is written into it first."""
    offered = options(terminal.screen())
    found = [n for n, x in enumerate(offered) if re.search(words, x.words)]
    assert found, f"no option says /{words}/:\n{terminal.screen()}"
    _move_to(terminal, found[0])
    if feedback:
        write(terminal, feedback)
    before = [x.words for x in options(terminal.screen())]
    press_until(
        terminal,
        "Enter",
        lambda screen: [x.words for x in options(screen)] != before,
        _ENTER_DROPPED_AFTER_S,
    )


def dismiss(terminal: Tmux) -> None:
    """Leave a dialog that takes keys by Esc, and see the prompt's line come back."""
    press_until(terminal, "Escape", lambda screen: not options(screen), _ENTER_DROPPED_AFTER_S)
    terminal.wait_for(r"^❯\s*$", PATIENCE_S)


def leave(terminal: Tmux) -> None:
    """End the CLI as a person does, and wait for its end."""
    ask(terminal, "/exit")
    wait_until(terminal, lambda: terminal.exit_code() is not None)


def wait_until(terminal: Tmux, arrived: Callable[[], object]) -> None:
    """Wait for something to come of what was typed; fails with the screen."""
    end = time.monotonic() + PATIENCE_S
    while not arrived():
        assert time.monotonic() < end, f"nothing came of it; the screen:\n{terminal.screen()}"
        time.sleep(0.15)


def _move_to(terminal: Tmux, line: int) -> None:
    while (now := _cursor(terminal.screen())) != line:
        _step(terminal, now, "Down" if now < line else "Up")


def _step(terminal: Tmux, line: int, key: str) -> None:
    press_until(terminal, key, lambda screen: _cursor(screen) not in (line, -1))


def _cursor(screen: str) -> int:
    return next((n for n, x in enumerate(options(screen)) if x.chosen), -1)
