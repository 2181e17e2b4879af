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
from plandock.hook.transcript import Began


class Act(enum.Enum):
    """What the hook is to do."""

    NOTHING = "nothing"
    REMEMBER_PROPOSAL = "remember proposal"
    FORGET_PROPOSAL = "forget proposal"
    HAND_OFF = "hand off"
    REFUSE = "refuse this call"
    MARK_CLEARED = "the session with the proposal was cleared"
    WATCH_CLEARED = "watch the session that follows it"
    ANSWER_PROMPT = "tell the model of the hand-off, and let the latch stand"
    TELL_ONCE = "tell the model what is to be told, and forget the proposal"
    UNLATCH = "nothing to watch for"


@dataclass(frozen=True)
class Recorded:
    """What stands on disk about this session (and, after a clearing, about the one before)."""

    latch: Mapping[str, Any] | None = None
    proposal: Mapping[str, Any] | None = None
    note: Mapping[str, Any] | None = None
    cleared: Mapping[str, Any] | None = None
    began: Began = Began.UNKNOWN  # who began the present turn; looked at where a latch stands
    starts_from_plan: bool = False  # the conversation was cleared by an acceptance, or may be


@dataclass(frozen=True)
class Decision:
    """What to do, for a hand-off what set it off, and whether the latch goes first."""

    act: Act
    trigger: str = ""
    unlatches: bool = False


NOTHING = Decision(Act.NOTHING)

# The kind of latch on a conversation that was cleared while a plan was before its user.
CLEARED_AWAY = "cleared-away"

# The modes in which the person goes on by hand, and those that `on_accept` can name.
BY_HAND = ("default", "plan")
_NAMED = ("acceptEdits", "auto", "bypassPermissions")


def counts(mode: str, on_accept: frozenset[str]) -> bool:
    """Whether this mode after a plan is an automatic acceptance.

    A mode that no version measured has is one, unless the user wants no hand-off at all.
    """
    return mode in on_accept or bool(on_accept and mode not in BY_HAND + _NAMED)


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
        if counts(event.mode, on_accept):
            return Decision(Act.HAND_OFF, "accepted")
        return Decision(Act.FORGET_PROPOSAL)
    if event.name == "UserPromptSubmit":
        return _at_prompt(recorded)
    if event.name == "SessionEnd" and event.reason == "clear" and recorded.proposal:
        return Decision(Act.MARK_CLEARED)
    if event.name == "SessionStart" and event.source == "clear" and recorded.cleared:
        return Decision(Act.WATCH_CLEARED)
    return NOTHING


def _at_prompt(recorded: Recorded) -> Decision:
    """A prompt was submitted, by whomever: that alone lifts no latch."""
    latch = recorded.latch
    if latch is not None and latch.get("kind") == "cleared" and not recorded.starts_from_plan:
        # The user's own /clear: the plan before it was never accepted.
        return Decision(Act.TELL_ONCE, unlatches=True)
    if latch is not None:
        return Decision(Act.ANSWER_PROMPT)
    if recorded.note or recorded.proposal is not None:
        return Decision(Act.TELL_ONCE)
    return NOTHING


def _before_tool(event: Event, recorded: Recorded, on_accept: frozenset[str]) -> Decision:
    latch = recorded.latch
    if latch is not None and latch.get("kind") == "handing-off" and "cleared_at" in latch:
        # Its hand-off is under way in another process or was killed there: once more is safe,
        # since a plan is recorded once.
        return Decision(Act.HAND_OFF, "cleared")
    proposed = event.tool == "ExitPlanMode" and event.mode == "plan"
    if latch is not None and latch.get("kind") == CLEARED_AWAY and not on_accept:
        return Decision(Act.UNLATCH, unlatches=True)
    if latch is not None and latch.get("kind") != "cleared":
        if recorded.began is not Began.PERSON:
            return Decision(Act.REFUSE)
        return Decision(Act.REMEMBER_PROPOSAL if proposed else Act.UNLATCH, unlatches=True)
    if latch is not None:
        # The cleared-context path has no PostToolUse: the new session's first call is the
        # acceptance.  In another mode the person chose to approve by hand.
        if counts(event.mode, on_accept):
            return Decision(Act.HAND_OFF, "cleared")
        if on_accept and recorded.began is Began.BEFORE:
            # The plan's own turn may still be to come; where it is there, it was accepted.
            if recorded.starts_from_plan:
                return Decision(Act.HAND_OFF, "cleared")
            return Decision(Act.REFUSE)
        return Decision(Act.UNLATCH, unlatches=True)
    if proposed:
        return Decision(Act.REMEMBER_PROPOSAL)
    return NOTHING
