"""The acceptance table: each answer that a person may give to a plan, and what must come of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

PLAN = "# Plan\n\n1. write out.txt\n"
FILE = "out.txt"
"""What the model writes on the host once a plan was approved and nothing stops it."""


@dataclass(frozen=True)
class Case:
    """One answer at the dialog.

    ``option`` is searched for in the words of the options; empty means Esc.  ``last`` is the
    event that the answer leads to at last; empty where none comes.  ``shown`` is what the screen
    says at the end of the turn: a person who leaves earlier is told of otherwise (2.1.330).
    ``expected`` is what plandock must make of it, as :func:`signals.verdict` says it.
    """

    name: str
    option: str
    last: str
    expected: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    words: tuple[str, ...] = ()
    feedback: str = ""
    shown: str = "Done"
    stops: bool = False
    """The hook ends the turn, as plandock does, and a Write stands beside ExitPlanMode."""


NOTHING = "nothing"

CASES = (
    Case(
        "accept", "auto-accept", "PreToolUse-Write-acceptEdits", "accepted, acceptEdits",
        settings={"disableAutoMode": "disable", "permissions": {"disableAutoMode": "disable"}},
    ),
    Case("auto", "^Yes, and use auto mode", "PreToolUse-Write-auto", "accepted, auto"),
    Case(
        "bypass", "(?i)bypass permissions", "PreToolUse-Write-bypassPermissions",
        "accepted, bypassPermissions",
        settings={"skipDangerousModePermissionPrompt": True},
        words=("--allow-dangerously-skip-permissions",),
    ),
    Case(
        "clear", "clear context", "PreToolUse-Write-auto", "cleared, auto",
        settings={"showClearContextOnPlanAccept": True},
    ),
    Case("manual", "manually", "PermissionRequest-Write", NOTHING, shown=""),
    Case("reject", "Tell Claude", "", NOTHING, feedback="make it shorter", shown="I wait"),
    Case("esc", "", "", NOTHING, shown=""),
    Case(
        "stop", "^Yes, and use auto mode", "PreToolUse-Write-auto", "accepted, auto",
        shown="recorded", stops=True,
    ),
)  # fmt: skip
