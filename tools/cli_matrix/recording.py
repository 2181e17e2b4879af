"""A recorded conversation: the payloads in the order they came, without what differs by chance."""

from __future__ import annotations

import json
import re
import shutil
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_CALL = re.compile(r"toolu_[0-9A-Za-z]+")
_SLUG = re.compile(r"/plans/[a-z0-9-]+\.md")
_MILLISECONDS = re.compile(r'"duration_ms":\d+')
_USED = re.compile(r"\d+% used")
_NAMESPACE = uuid.UUID("5b3f6c0e-8a57-4c1e-9f5d-1d0c2f7a9e11")


@dataclass
class Recording:
    """One case with one version: the words of the dialog, and each payload by its name."""

    case: str
    dialog: list[str] = field(default_factory=list)
    payloads: dict[str, str] = field(default_factory=dict)
    fault: str = ""
    """Why the conversation did not come to its end; empty where it did."""

    def load(self) -> list[tuple[str, dict[str, Any]]]:
        """Every payload with its name, in order, as objects."""
        return [(name, json.loads(text)) for name, text in self.payloads.items()]


def name_of(payload: dict[str, Any]) -> str:
    """What a payload is filed under: its event, and what tells it from others of that event."""
    event = str(payload.get("hook_event_name", "unknown"))
    keys = {
        "SessionStart": ("source",),
        "SessionEnd": ("reason",),
        "PermissionRequest": ("tool_name",),
        "UserPromptSubmit": (),
    }.get(event, ("tool_name", "permission_mode"))
    return "-".join([event, *(str(payload.get(key, "none")) for key in keys)])


def normalise(case: str, home: Path, dialog: Iterable[str], raw: Iterable[str]) -> Recording:
    """A recording of what the CLI sent, in its own spelling but for home, ids and durations.

    The same conversation gives the same bytes each time, so that a difference is the CLI's.  Of
    payloads with one name the first is kept.
    """
    ids: dict[str, str] = {}

    def stable(found: re.Match[str]) -> str:
        made = uuid.uuid5(_NAMESPACE, f"{case} {len(ids)}")
        known = f"toolu_{made.hex[:22]}" if found[0].startswith("toolu_") else str(made)
        return ids.setdefault(found[0], known)

    recording = Recording(case, [_USED.sub("N% used", words) for words in dialog])
    folder_key = re.sub(r"[^A-Za-z0-9]", "-", str(home))
    for text in raw:
        if (name := name_of(json.loads(text))) in recording.payloads:
            continue
        text = text.strip().replace(str(home), "/home/user").replace(folder_key, "-home-user")
        text = _CALL.sub(stable, _UUID.sub(stable, text))
        text = _SLUG.sub("/plans/plan-it-please-warm-firefly.md", text)
        text = _MILLISECONDS.sub('"duration_ms":1', text)
        recording.payloads[name] = text
    return recording


def save(recording: Recording, folder: Path) -> None:
    """Write `FOLDER/CASE/`, in place of what lies there: a file per payload, order, dialog."""
    place = folder / recording.case
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    for name, text in recording.payloads.items():
        (place / f"{name}.json").write_text(text + "\n")
    (place / "events.txt").write_text("".join(f"{x}\n" for x in recording.payloads))
    (place / "dialog.txt").write_text("".join(f"{x}\n" for x in recording.dialog))


def read(folder: Path, case: str) -> Recording:
    """What :func:`save` wrote; raises :class:`FileNotFoundError` where a file of it is absent."""
    place = folder / case
    names = (place / "events.txt").read_text().splitlines()
    payloads = {name: (place / f"{name}.json").read_text().strip() for name in names}
    return Recording(case, (place / "dialog.txt").read_text().splitlines(), payloads)
