"""Merging our hooks into Claude Code's settings, and taking them out again without a trace.

Our entries are known by the marker comment at the end of their command, never by its text, so
older versions are found too.  What is needed to take them out again stands in that marker: a
container that was there before, but empty, is noted as kept (``# plandock keep=hooks``).  Without
a note, what becomes empty was made by us and goes, up to the file itself.  So no memory is needed
beside the file, and whoever gets it from the repository can undo it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from plandock.errors import SettingsError
from plandock.hook.json_text import Container, added, container, parse, place, removed, start_of
from plandock.hook.launcher import HOOKS, Hook

_MARKER = re.compile(r"#[ \t]*plandock(?:[ \t]+keep=([a-z,-]*))?(?:[ \t]+v?[0-9.]+)?[ \t]*\Z")


@dataclass(frozen=True)
class _Entry:
    """One of our hook objects in a text, with the containers around it and its place in each."""

    event: str
    matcher: str | None
    value: dict[str, Any]
    notes: frozenset[str]
    around: tuple[tuple[Container, int], ...]  # root, hooks, event's array, group's array

    @property
    def object_start(self) -> int:
        box, index = self.around[-1]
        return box.parts[index].value_start


def merge(text: str | None, hooks: tuple[Hook, ...] = HOOKS) -> str:
    """The settings text with every one of ``hooks`` in it; ``None`` is an absent file.

    Changes nothing else, not a byte; entries of ours that are there already stay where they are
    and are brought up to date.  Raises :class:`SettingsError` (with line and column, but no file
    name) for anything but plain JSON of the shape that Claude Code reads.
    """
    if text is None:
        return _with_missing("{}", frozenset(), hooks) + "\n"
    body = 1 if text.startswith("\ufeff") else 0
    if not text[body:].strip(" \t\r\n"):
        return text[:body] + _with_missing("{}", frozenset({"blank"}), hooks) + text[body:]
    check(text)
    before = _others(parse(text))
    result = text
    while (changed := _upgraded(result, hooks)) != result:
        result = changed
    entries = list(_entries(result))
    notes = frozenset(n for e in entries for n in e.notes if not n.startswith("event"))
    result = _with_missing(result, notes if entries else _notes_of_root(result), hooks)
    while surplus := _surplus(result, hooks):
        result = _without(result, surplus) or result
    if _others(parse(result)) != before or not complete(result, hooks):
        raise SettingsError("the hooks cannot be put in safely", hint="put them in by hand")
    return result


def unmerge(text: str) -> str | None:
    """The settings text without our entries; ``None`` when the file was made by us alone.

    The exact inverse of :func:`merge` where nothing else changed.  Raises as :func:`merge`.
    """
    if not text.strip("\ufeff \t\r\n"):
        return text
    check(text)
    before = _others(parse(text))
    while entries := list(_entries(text)):
        # The last one first: each removal then undoes one addition.
        rest = _without(text, entries[-1])
        if rest is None or not rest.strip("\ufeff \t\r\n"):
            return rest
        text = rest
    if _others(parse(text)) != before:
        raise SettingsError("the hooks cannot be taken out safely", hint="take them out by hand")
    return text


def complete(text: str, hooks: tuple[Hook, ...] = HOOKS) -> bool:
    """Whether each of our hooks stands in the text once, as this version writes it."""
    found = list(_entries(text))
    places = sorted(str((entry.event, entry.matcher)) for entry in found)
    return all(_is_current(entry, hooks) for entry in found) and places == sorted(
        str((hook.event, hook.matcher)) for hook in hooks
    )


def mentioned(text: str) -> bool:
    """Whether any entry of ours, of whatever version, stands in the text."""
    return next(_entries(text), None) is not None


def _ours(hook: object) -> re.Match[str] | None:
    command = hook.get("command") if isinstance(hook, dict) else None
    return _MARKER.search(command) if isinstance(command, str) else None


def _written(hook: Hook, notes: frozenset[str]) -> dict[str, Any]:
    marker = "# plandock" + (f" keep={','.join(sorted(notes))}" if notes else "")
    command = f"{hook.command} {marker}"
    return {"type": "command", "command": command, "timeout": hook.timeout_s}


def _is_current(entry: _Entry, hooks: tuple[Hook, ...]) -> bool:
    wanted = _wanted(entry, hooks)
    return wanted is not None and all(
        entry.value.get(name) == value for name, value in wanted.items()
    )


def _wanted(entry: _Entry, hooks: tuple[Hook, ...]) -> dict[str, Any] | None:
    for hook in hooks:
        if (hook.event, hook.matcher) == (entry.event, entry.matcher):
            return _written(hook, entry.notes)
    return None


def _entries(text: str) -> Iterator[_Entry]:
    """Our entries in document order; what has another shape than ours is passed over."""
    root = container(text, start_of(text))
    for top, member in enumerate(root.parts):
        if member.key != "hooks" or text[member.value_start] != "{":
            continue
        hooks = container(text, member.value_start)
        for nth, event in enumerate(hooks.parts):
            if text[event.value_start] != "[":
                continue
            groups = container(text, event.value_start)
            for which, element in enumerate(groups.parts):
                group = json.loads(text[element.value_start : element.end])
                if not isinstance(group, dict) or not any(map(_ours, _list(group.get("hooks")))):
                    continue
                inside = container(text, element.value_start).named("hooks")
                if inside is None:
                    continue
                inner = container(text, inside.value_start)
                around = ((root, top), (hooks, nth), (groups, which))
                for index, hook in enumerate(group["hooks"]):
                    if marked := _ours(hook):
                        notes = frozenset(filter(None, (marked[1] or "").split(",")))
                        yield _Entry(
                            str(event.key), group.get("matcher"), hook, notes,
                            (*around, (inner, index)),
                        )  # fmt: skip


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _upgraded(text: str, hooks: tuple[Hook, ...]) -> str:
    """The text with the first value put right that is not; the same text when all are."""
    for entry in _entries(text):
        for name, value in (_wanted(entry, hooks) or {}).items():
            if entry.value.get(name) == value:
                continue
            box = container(text, entry.object_start)
            part = box.named(name)
            if part is None:
                return added(text, box, name, value)
            new = json.dumps(value, ensure_ascii=False)
            return text[: part.value_start] + new + text[part.end :]
    return text


def _surplus(text: str, hooks: tuple[Hook, ...]) -> _Entry | None:
    """The last entry that is obsolete, or stands there a second time."""
    surplus = None
    seen = set()
    for entry in _entries(text):
        if _wanted(entry, hooks) is None or (entry.event, entry.matcher) in seen:
            surplus = entry
        seen.add((entry.event, entry.matcher))
    return surplus


def _with_missing(text: str, notes: frozenset[str], ours: tuple[Hook, ...]) -> str:
    """The text with the hooks added that it lacks, event by event."""
    have = {(e.event, e.matcher) for e in _entries(text)}
    missing: dict[str, list[Hook]] = {}
    for hook in ours:
        if (hook.event, hook.matcher) not in have:
            missing.setdefault(hook.event, []).append(hook)
    if missing and container(text, start_of(text)).named("hooks") is None:
        new = {event: [_group(h, notes) for h in hooks] for event, hooks in missing.items()}
        return added(text, container(text, start_of(text)), "hooks", new)
    for event, hooks in missing.items():
        kept = notes | frozenset(
            n for e in _entries(text) if e.event == event for n in e.notes if n.startswith("event")
        )
        for hook in hooks:
            box = _hooks(text)
            array = box.named(event)
            if array is None:
                new_groups = [_group(h, notes) for h in hooks]
                text = added(text, box, event, new_groups)
                break
            groups = container(text, array.value_start)
            kept |= _kept("event", groups)
            text = added(text, groups, None, _group(hook, kept))
    return text


def _group(hook: Hook, notes: frozenset[str]) -> dict[str, Any]:
    matcher = {} if hook.matcher is None else {"matcher": hook.matcher}
    return {**matcher, "hooks": [_written(hook, notes)]}


def _hooks(text: str) -> Container:
    part = container(text, start_of(text)).named("hooks")
    assert part is not None
    return container(text, part.value_start)


def _kept(name: str, box: Container) -> frozenset[str]:
    """The note that a container was there before us, empty (and with white space inside)."""
    if box.parts:
        return frozenset()
    return frozenset({name if box.end - box.start == 2 else f"{name}-space"})


def _notes_of_root(text: str) -> frozenset[str]:
    root = container(text, start_of(text))
    hooks = root.named("hooks")
    notes = _kept("root", root)
    return notes | _kept("hooks", container(text, hooks.value_start)) if hooks else notes


def _without(text: str, entry: _Entry) -> str | None:
    """The text without one entry, and without the containers of ours that it leaves empty."""
    (root, top), (hooks, nth), (groups, which), (inner, index) = entry.around
    if len(inner.parts) > 1:
        return removed(text, inner, index)
    for name, box, at in (("event", groups, which), ("hooks", hooks, nth), ("root", root, top)):
        spaced = f"{name}-space" in entry.notes
        if len(box.parts) > 1 or spaced or name in entry.notes:
            return removed(text, box, at, keep_space=spaced)
    if "blank" in entry.notes:
        return text[: root.start] + text[root.end :]
    return None


def _others(settings: Any) -> dict[str, Any]:
    """The settings as values, less our entries and less empty containers: what must not change."""
    rest = {key: value for key, value in settings.items() if key != "hooks"}
    events: dict[str, Any] = {}
    for event, groups in (settings.get("hooks") or {}).items():
        if not isinstance(groups, list):
            events[event] = groups
            continue
        kept = []
        for group in groups:
            if isinstance(group, dict) and any(map(_ours, _list(group.get("hooks")))):
                foreign = [hook for hook in group["hooks"] if not _ours(hook)]
                kept += [{**group, "hooks": foreign}] if foreign else []
            else:
                kept.append(group)
        if kept:
            events[event] = kept
    return {**rest, "hooks": events} if events else rest


def check(text: str) -> None:
    """Raise :class:`SettingsError` for what could not be edited safely.

    That is: no JSON, another shape than Claude Code's, or a key that stands twice.
    """
    parse(text)
    root = container(text, start_of(text)) if text[start_of(text)] == "{" else None
    if root is None:
        raise _misshapen(text, start_of(text), "the settings must be an object")
    _no_key_twice(text, root, "hooks")
    hooks_part = root.named("hooks")
    if hooks_part is None:
        return
    if text[hooks_part.value_start] != "{":
        raise _misshapen(text, hooks_part.value_start, '"hooks" must be an object')
    hooks = container(text, hooks_part.value_start)
    _no_key_twice(text, hooks)
    for event in hooks.parts:
        if text[event.value_start] != "[":
            raise _misshapen(text, event.value_start, f'"{event.key}" must be an array')
        for element in container(text, event.value_start).parts:
            if text[element.value_start] != "{":
                raise _misshapen(text, element.value_start, "a hook's entry must be an object")
            group = container(text, element.value_start)
            _no_key_twice(text, group)
            inner = group.named("hooks")
            if inner is not None and text[inner.value_start] != "[":
                raise _misshapen(text, inner.value_start, '"hooks" must be an array')
            for hook in container(text, inner.value_start).parts if inner else ():
                if text[hook.value_start] == "{":
                    _no_key_twice(text, container(text, hook.value_start))


def _no_key_twice(text: str, box: Container, only: str | None = None) -> None:
    seen = set()
    for part in box.parts:
        if part.key in seen and only in (None, part.key):
            raise _misshapen(text, part.start, f'"{part.key}" stands here a second time')
        seen.add(part.key)


def _misshapen(text: str, offset: int, what: str) -> SettingsError:
    hint = "mend the file first; nothing was changed"
    return SettingsError(f"{place(text, offset)}: {what}", hint=hint)
