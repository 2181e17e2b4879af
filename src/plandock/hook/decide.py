"""The hook's decision, as a pure function of the event and of what is recorded.

The rows are those of the shared facts, sections 1 and 2 (measured): ExitPlanMode and the mode
that follows it decide, never the words of a menu.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from plandock.hook.payload import Event


class Act(enum.Enum):
    """What the hook is to do."""

    NOTHING = "nothing"
    REMEMBER_PROPOSAL = "remember proposal"
    FORGET_PROPOSAL = "forget proposal"
    HAND_OFF = "hand off"
    REFUSE = "refuse this call"
    MARK_CLEARED = "the session with the proposal was cleared"
    WATCH_CLEARED = "watch the session that follows it"
    LIFT = "the user speaks again"
    UNLATCH = "nothing to watch for"


@dataclass(frozen=True)
class Recorded:
    """What stands on disk about this session (and, after a clearing, about the one before)."""

    latch: Mapping[str, Any] | None = None
    proposal: Mapping[str, Any] | None = None
    note: Mapping[str, Any] | None = None
    cleared: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Decision:
    """What to do, and for a hand-off what set it off."""

    act: Act
    trigger: str = ""


NOTHING = Decision(Act.NOTHING)


def decide(
    event: Event, recorded: Recorded, *, on_accept: frozenset[str], in_box: bool = False
) -> Decision:
    """What to do about an event.  ``on_accept`` are the modes that count as an acceptance."""
    if in_box:
        return NOTHING
    if event.name == "PreToolUse":
        return _before_tool(event, recorded, on_accept)
    if event.name == "PostToolUse" and event.tool == "ExitPlanMode":
        # A subagent's plan is accepted by its leader, not by the person.
        if event.is_agent:
            return NOTHING
        if event.mode in on_accept:
            return Decision(Act.HAND_OFF, "accepted")
        return Decision(Act.FORGET_PROPOSAL)
    if event.name == "UserPromptSubmit":
        if recorded.latch is not None or recorded.note or recorded.proposal is not None:
            return Decision(Act.LIFT)
        return NOTHING
    if event.name == "SessionEnd" and event.reason == "clear" and recorded.proposal:
        return Decision(Act.MARK_CLEARED)
    if event.name == "SessionStart" and event.source == "clear" and recorded.cleared:
        return Decision(Act.WATCH_CLEARED)
    return NOTHING


def _before_tool(event: Event, recorded: Recorded, on_accept: frozenset[str]) -> Decision:
    latch = recorded.latch
    if latch is not None and latch.get("kind") == "handing-off" and "cleared_at" in latch:
        # Its hand-off is under way in another process or was killed there: once more is safe,
        # since a plan is recorded once.
        return Decision(Act.HAND_OFF, "cleared")
    if latch is not None and latch.get("kind") != "cleared":
        return Decision(Act.REFUSE)
    if latch is not None:
        # The cleared-context path has no PostToolUse: the new session's first call is the
        # acceptance.  In another mode the person chose to approve by hand.
        if event.mode in on_accept:
            return Decision(Act.HAND_OFF, "cleared")
        return Decision(Act.UNLATCH)
    if event.tool == "ExitPlanMode" and event.mode == "plan":
        return Decision(Act.REMEMBER_PROPOSAL)
    return NOTHING
