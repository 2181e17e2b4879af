"""What a version tells: its signals, plandock's verdict on them, and what changed in between."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from plandock.hook.decide import Act, Recorded, decide
from plandock.hook.payload import parse
from tools.cli_matrix.cases import NOTHING
from tools.cli_matrix.recording import Recording

_WAYS = frozenset({"acceptEdits", "auto", "bypassPermissions"})

# Sent when the driver leaves, not for its answer: whether it names a prompt hangs on the moment.
_LEAVING = frozenset({"SessionEnd-prompt_input_exit"})

Signals = dict[str, tuple[str, ...]]
"""A signal's name, and its values in order."""


def signals(recordings: Sequence[Recording]) -> Signals:
    """Everything that one version told, case by case, and the keys of every kind of payload."""
    found: Signals = {}
    keys: dict[str, tuple[str, ...]] = {}
    for one in recordings:
        found[f"{one.case}: dialog"] = tuple(one.dialog)
        found[f"{one.case}: events"] = tuple(one.payloads)
        found[f"{one.case}: decision"] = (verdict(one),)
        for name, payload in one.load():
            if name in _LEAVING:
                continue
            keys[name] = tuple(dict.fromkeys((*keys.get(name, ()), *_keys(payload))))
    return found | {f"keys of {name}": keys[name] for name in sorted(keys)}


def verdict(recording: Recording) -> str:
    """What plandock's hook makes of a conversation: its trigger and the mode, or "nothing".

    Says so where a tool call was let through after the hand-off, or a plan handed off twice.
    Events that another process of plandock's would answer are answered here from memory.
    """
    marks = _Marks()
    handed_off: list[str] = []
    for name, payload in recording.load():
        act, trigger = marks.decide(recording.payloads[name])
        if act is Act.HAND_OFF:
            handed_off.append(f"{trigger}, {payload.get('permission_mode')}")
        elif handed_off and payload["hook_event_name"] == "PreToolUse" and act is not Act.REFUSE:
            return f"{handed_off[0]}; then {name} ran"
    return "; ".join(handed_off) or NOTHING


class _Marks:
    """The marks that hook processes leave for each other, as `hook/entry.py` writes them."""

    def __init__(self) -> None:
        self.latch: dict[str, Mapping[str, Any]] = {}
        self.proposal: dict[str, Mapping[str, Any]] = {}
        self.cleared: Mapping[str, Any] | None = None

    def decide(self, text: str) -> tuple[Act, str]:
        """The hook's decision on a payload, with its mark made; and a hand-off's trigger."""
        event = parse(text.encode())
        if event is None:
            return Act.NOTHING, ""
        session = event.session_id
        recorded = Recorded(self.latch.get(session), self.proposal.get(session), None, self.cleared)
        made = decide(event, recorded, on_accept=_WAYS)
        if made.act is Act.HAND_OFF:
            self.latch[session] = {"kind": "handed-off"}
        elif made.act is Act.REMEMBER_PROPOSAL:
            self.proposal[session] = {"session": session}
        elif made.act is Act.FORGET_PROPOSAL:
            self.proposal.pop(session, None)
        elif made.act is Act.MARK_CLEARED:
            self.cleared = {"session": session}
        elif made.act is Act.WATCH_CLEARED:
            self.latch[session] = {"kind": "cleared"}
        elif made.act is Act.TELL_ONCE:
            self.proposal.pop(session, None)
        if made.unlatches:
            self.latch.pop(session, None)
        return made.act, made.trigger


def _keys(payload: Mapping[str, Any]) -> list[str]:
    """The keys of a payload, and those of the objects in it as `object.key`."""
    found = []
    for key, value in payload.items():
        found.append(key)
        if isinstance(value, dict):
            found += [f"{key}.{inner}" for inner in value]
    return found


def difference(before: Sequence[str], after: Sequence[str]) -> str:
    """What came and what went, `-gone +new`; empty where nothing did."""
    gone = [f"-{x}" for x in before if x not in after]
    new = [f"+{x}" for x in after if x not in before]
    moved = ["in another order"] if not (gone or new) and list(before) != list(after) else []
    return " ".join(gone + new + moved)


def table(found: Mapping[str, Signals]) -> str:
    """Signals by versions: the first one's values, then what each changed; `*` marks a change."""
    versions = list(found)
    names = list(dict.fromkeys(name for one in found.values() for name in one))
    rows = [[" ", "signal", *versions]]
    for name in names:
        values = [found[version].get(name, ()) for version in versions]
        changes = [difference(a, b) for a, b in pairwise(values)]
        first = values[0][0] if len(values[0]) == 1 else f"{len(values[0])}"
        rows.append(["*" if any(changes) else " ", name, first, *(x or "=" for x in changes)])
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    widths = [min(w, 60) for w in widths[:-1]] + [0]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
