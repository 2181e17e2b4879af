"""What a conversation's file tells: who began a turn, what is queued, the plan of a cleared one.

A prompt alone does not tell: Claude Code submits what a person types, what they had queued, the
end of a background task, a wake-up, a schedule and its own going on after a usage limit all alike.
The conversation's file tells (measured, 2.1.197 and 2.1.332): a turn begins with a user record
that carries the turn's `promptId`, `promptSource` (`typed`, `queued`, `system`,
`suggestion_accepted`) and `origin.kind` (`human`, `task-notification`, none for a schedule); a
prompt that waited has an `enqueue` record with the time at which it was queued.  Records come up
to some 0.2 s after the tool call that they lead to.
"""

from __future__ import annotations

import enum
import json
import os
import re
import stat
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from plandock.hook.payload import LARGEST_PLAN, clean_plan

# Records come after the tool call; a busy machine is no reason to give up soon (seconds).
PATIENCE_S = 5.0
NOTIFICATION = "<task-notification>"
# The end of the file that is looked at, in bytes: a turn's beginning, where it has called no tool.
_TAIL = 16 * 1024 * 1024
# The beginning of a cleared conversation: bytes of the file, and records.
_HEAD = 8 * LARGEST_PLAN
_FIRST_RECORDS = 400
# A conversation whose file is not there at all may never get one (facts, section 3).
_UNWRITTEN_S = 1.0
# The turn has a record from before the hand-off: one of its own may follow, as in a copy.
_OLD_RECORD_S = 1.0
_PAUSE_S = 0.02
_PERSONS = frozenset({"typed", "queued", "suggestion_accepted"})
_COMMAND = ("<command-message>", "<command-name>")
_NAME = re.compile(r"<command-name>\s*(/\S*?)\s*</command-name>")
_POINTER = re.compile(r"/projects/[^\s/]+/[0-9a-f-]{36}\.jsonl\Z")
_RELEASE = re.compile(r"\d{1,6}\.\d{1,6}\.\d{1,6}")
# What goes along of what the user has written: messages, and characters of each.
_MOST_MESSAGES = 50
_LONGEST_MESSAGE = 64 * 1024


class Began(enum.Enum):
    """Who began a turn, as far as it is positively known."""

    PERSON = "a person, after the hand-off"
    BEFORE = "a person, before the hand-off"
    PROGRAM = "a background task, a schedule, or the CLI itself"
    UNKNOWN = "nothing says who"


@dataclass(frozen=True)
class AcceptedPlan:
    """The plan that a cleared conversation starts from, and what the user said beside it."""

    plan: str
    messages: tuple[str, ...] = ()


@dataclass(frozen=True)
class Queued:
    """A prompt that waits, or waited, for the end of a turn; `at` is Unix time in seconds."""

    text: str
    at: float
    by_person: bool


def began(
    transcript: str, prompt_id: str, *, since: float, patience_s: float = PATIENCE_S
) -> Began:
    """Who began the turn of that prompt; ``since`` (Unix seconds) is when the plan was handed off.

    Waits up to ``patience_s`` for the record of the turn (less where it has an old one), and never
    raises: where the file does not tell, nothing is known.
    """
    if not transcript or not prompt_id:
        return Began.UNKNOWN
    begun = time.monotonic()
    while True:
        speakers = [who for turn, who in _prompts(transcript, since) if turn == prompt_id]
        # The newest gives the first turn of a copied conversation the id of the original's first.
        found = Began.PERSON if Began.PERSON in speakers else next(iter(speakers), Began.UNKNOWN)
        if found in (Began.PERSON, Began.PROGRAM):
            return found
        longest_s = patience_s
        if found is Began.BEFORE:
            longest_s = min(patience_s, _OLD_RECORD_S)
        elif not os.path.exists(transcript):
            longest_s = min(patience_s, _UNWRITTEN_S)
        if time.monotonic() - begun >= longest_s:
            return found
        time.sleep(_PAUSE_S)


def person_wrote(transcript: str, *, since: float) -> bool:
    """Whether the end of the conversation's file holds a person's word from after ``since``."""
    return any(who is Began.PERSON for _, who in _prompts(transcript, since))


def waiting(transcript: str) -> list[str]:
    """What a person has queued and the CLI has not yet submitted, in order, bounded."""
    left, _, _ = _replay_queue(transcript)
    return bounded(q.text for q in left if q.by_person)


def carried_over(transcript: str, since: float) -> list[Queued]:
    """What was in the queue when the conversation was cleared: it goes on to the next one, and the
    first of it may be taken out already.

    ``since`` (Unix seconds) is when the plan was proposed: while it is before its user no turn can
    begin, so what was taken out after that was taken out at the clearing.
    """
    left, taken, removed = _replay_queue(transcript)
    return [*(q for q, at in removed if at >= since or q is taken), *left]


def queued_as(transcript: str, prompt: str) -> Queued | None:
    """The entry of the queue that has just been submitted as this prompt, or None.

    At that moment the record that it was taken out may not be written yet (measured, 2.1.197).
    """
    left, taken, _ = _replay_queue(transcript)
    same = [q for q in (taken, *left) if q is not None and q.text == prompt.strip()]
    return same[0] if same else None


def accepted_plan(transcript: str, *, patience_s: float = 0.0) -> AcceptedPlan | None:
    """The plan that a cleared conversation starts from; None for any other conversation.

    Its first user record carries `planContent`, the plan as it was accepted; feedback that was
    typed with the approval stands after it in the message (measured, 2.1.197 and 2.1.332).  Waits
    up to ``patience_s`` for that record, and less where there is no file at all.
    """
    begun = time.monotonic()
    while True:
        found = _accepted_plan(_parsed(_lines(transcript)[:_FIRST_RECORDS], b'"user"'))
        if not os.path.exists(transcript):
            patience_s = min(patience_s, _UNWRITTEN_S)
        if found is not None or time.monotonic() - begun >= patience_s:
            return found
        time.sleep(_PAUSE_S)


def first_named(transcript: str, ids: Sequence[str]) -> str:
    """The first of these ids that the end of the conversation's file holds, or ""."""
    if not ids:
        return ""
    text = b"\n".join(_lines(transcript, from_end=_TAIL))
    return next((x for x in ids if json.dumps(x).encode() in text), "")


def first_records(transcript: str, *needles: bytes) -> Iterator[dict[str, Any]]:
    """The first records of the file that hold one of these; none where it cannot be read."""
    return _parsed(_lines(transcript)[:_FIRST_RECORDS], *needles)


def last_records(transcript: str, *needles: bytes) -> Iterator[dict[str, Any]]:
    """The records of the file's end that hold one of these, with some of the first again."""
    return _parsed(_lines(transcript, from_end=_TAIL), *needles)


def written_by(transcript: str) -> str:
    """The version of Claude Code that wrote the end of the file, or "" where it does not say.

    Every record of a message has it (measured).  It is the process's own, whatever lies at its
    program's place by now: an update replaces the file under a running conversation.
    """
    found = ""
    for record in _parsed(_lines(transcript, from_end=_TAIL), b'"version"'):
        version = record.get("version")
        if record.get("type") in ("user", "assistant") and isinstance(version, str):
            found = version if _RELEASE.fullmatch(version) else found
    return found


def _accepted_plan(records: Iterable[Mapping[str, Any]]) -> AcceptedPlan | None:
    plan = ""
    messages: list[str] = []
    for record in records:
        text = _prompt_text(record) or ""
        content = record.get("planContent")
        if record.get("type") != "user":
            continue
        if not plan and isinstance(content, str) and content.strip():
            plan = clean_plan(content)
            beside = text.partition(content.strip())[2].split("\n\n")
            # The CLI's own pointer to the planning conversation leads nowhere in a box.
            messages = [x.strip() for x in beside if x.strip() and not _POINTER.search(x.strip())]
        elif plan and text and str(record.get("promptSource")) in _PERSONS:
            messages.append(text)
    return AcceptedPlan(plan, tuple(bounded(messages))) if plan else None


def bounded(messages: Iterable[str]) -> list[str]:
    """Messages of the user as they go along: so many of them, each so long."""
    return [text[:_LONGEST_MESSAGE] for text in islice(messages, _MOST_MESSAGES)]


def _replay_queue(
    transcript: str,
) -> tuple[list[Queued], Queued | None, list[tuple[Queued, float]]]:
    """What waits in the queue, what was taken out of it for a turn that has no record yet, and all
    that was taken out, with its time.

    A `dequeue` takes the oldest; a `remove` may name its text, and without one takes the oldest;
    `popAll` puts everything back into the line that the person edits.  A queue ends with its
    process, which may leave no record of it: what a person types straight away shows it empty.
    """
    left: list[Queued] = []
    taken: Queued | None = None
    removed: list[tuple[Queued, float]] = []
    scheduled: set[str] = set()
    needles = (b'"queue-operation"', b'"promptId"', b'"prompt"')
    for record in _parsed(_lines(transcript, from_end=_TAIL), *needles):
        scheduled |= _prompts_of_calls(record)
        if (waiting := _queued(record)) is not None:
            words, at = waiting
            by_program = words.startswith(NOTIFICATION) or words in scheduled
            left.append(Queued(words, at, by_person=not by_program))
        elif record.get("type") == "user":
            source = record.get("promptSource")
            if source or (_prompt_text(record) or "").startswith(_COMMAND):
                taken = None
            if source == "typed":
                left = [q for q in left if q.at > _time(record)]
        elif record.get("type") != "queue-operation" or not left:
            continue
        elif record.get("operation") == "popAll":
            left.clear()
        else:
            words = str(record.get("content") or "").strip()
            taken = left.pop(next((n for n, q in enumerate(left) if q.text == words), 0))
            removed.append((taken, _time(record)))
    return left, taken, removed


def _prompts_of_calls(record: Mapping[str, Any]) -> set[str]:
    """Prompts that the model itself has laid down for later (CronCreate, ScheduleWakeup …)."""
    message = record.get("message") if record.get("type") == "assistant" else None
    content = message.get("content") if isinstance(message, dict) else None
    found = set()
    for block in content if isinstance(content, list) else []:
        given = block.get("input") if isinstance(block, dict) else None
        prompt = given.get("prompt") if isinstance(given, dict) else None
        if isinstance(prompt, str):
            found.add(prompt.strip())
    return found


def _queued(record: Mapping[str, Any]) -> tuple[str, float] | None:
    """The text of an entry of the queue, and when it was queued (Unix seconds)."""
    if record.get("type") != "queue-operation" or record.get("operation") != "enqueue":
        return None
    text = record.get("content")
    if not isinstance(text, str) or not text.strip():
        return None
    return text.strip(), _time(record)


def _prompts(transcript: str, since: float) -> Iterator[tuple[object, Began]]:
    """The id and the speaker of each prompt near the end of the conversation's file."""
    queued: dict[str, float] = {}
    commands: list[Queued] = []
    needles = (b'"queue-operation"', b'"promptId"')
    for record in _parsed(_lines(transcript, from_end=_TAIL), *needles):
        if (waiting := _queued(record)) is not None:
            queued[waiting[0]] = waiting[1]
            if waiting[0].startswith("/"):
                commands.append(Queued(*waiting, by_person=False))
        elif record.get("operation") == "popAll":
            commands.clear()
        elif record.get("type") == "user" and (text := _prompt_text(record)) is not None:
            waited = _waited(text, commands)
            yield record.get("promptId"), _speaker(record, text, queued, waited, since)


def _waited(text: str, commands: list[Queued]) -> Queued | None:
    """The command that waited and is what this record tells, taken out of those that waited.

    By its name, else the oldest: a command may be told by a longer name than it was given by.
    """
    if not (commands and text.startswith(_COMMAND)):
        return None
    named = _NAME.search(text)
    name = named[1] if named else ""
    return commands.pop(next((n for n, q in enumerate(commands) if q.text.split()[0] == name), 0))


def _speaker(
    record: Mapping[str, Any],
    text: str,
    queued: Mapping[str, float],
    waited: Queued | None,
    since: float,
) -> Began:
    origin, source = record.get("origin"), record.get("promptSource")
    kind = origin.get("kind") if isinstance(origin, dict) else None
    at = _time(record)
    if record.get("isMeta") is True or record.get("isSidechain") is True:
        return Began.PROGRAM
    if source is None:
        # A command that a person typed has no source; 2.1.197 gives it no origin either
        # (measured), and there the queue alone tells it from one that a schedule sends.
        if not text.startswith(_COMMAND) or kind not in (None, "human"):
            return Began.PROGRAM
        if waited is not None:
            at = waited.at
            if kind is None and at > since:
                return Began.PROGRAM
    elif not isinstance(source, str) or source not in _PERSONS or kind != "human":
        return Began.PROGRAM
    elif source == "queued":
        if text not in queued:
            return Began.PROGRAM
        at = queued[text]
    return Began.PERSON if at > since else Began.BEFORE


def _prompt_text(record: Mapping[str, Any]) -> str | None:
    """The words of a user record, or None where it holds a tool's result."""
    message = record.get("message")
    content = message.get("content") if isinstance(message, dict) else None
    if isinstance(content, str):
        return content.strip()
    if not isinstance(content, list):
        return None
    blocks = [b for b in content if isinstance(b, dict)]
    if any(b.get("type") == "tool_result" for b in blocks):
        return None
    return "\n".join(str(b.get("text", "")) for b in blocks if b.get("type") == "text").strip()


def _time(record: Mapping[str, Any]) -> float:
    """A record's time in Unix seconds; 0 where it has none that can be read."""
    from datetime import datetime  # a millisecond that most calls of the hook need not spend

    stamp = record.get("timestamp")
    try:
        return datetime.fromisoformat(str(stamp).replace("Z", "+00:00")).timestamp()
    except (ValueError, OverflowError):
        return 0.0


def _lines(transcript: str, *, from_end: int = 0) -> list[bytes]:
    """Lines from the beginning of a file, or whole ones of its last ``from_end`` bytes."""
    try:
        # Not to be kept waiting by a FIFO that somebody laid there.
        handle = os.open(transcript, os.O_RDONLY | os.O_NONBLOCK)
        with os.fdopen(handle, "rb") as file:
            skipped = max(0, os.fstat(handle).st_size - from_end) if from_end else 0
            file.seek(skipped)
            lines = (file.read(from_end or _HEAD) or b"").split(b"\n")
    except (OSError, ValueError):
        return []
    return lines[1:] if skipped else lines


def _parsed(lines: Iterable[bytes], *needles: bytes) -> Iterator[dict[str, Any]]:
    """The records of lines that hold one of these; a torn line is passed over."""
    for raw in lines:
        if not any(needle in raw for needle in needles):
            continue
        try:
            record = json.loads(raw)
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict):
            yield record


def records(transcript: str, *needles: bytes) -> Iterator[dict[str, Any]]:
    """The records of the whole file whose lines hold one of these texts, in order."""
    return _parsed(_each_line(transcript), *needles)


def _each_line(transcript: str) -> Iterator[bytes]:
    """The lines of a plain file, one at a time; one that is longer than any we look for is not."""
    try:
        handle = os.open(transcript, os.O_RDONLY | os.O_NONBLOCK)
        with os.fdopen(handle, "rb") as file:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                return
            while line := file.readline(_HEAD):
                if len(line) < _HEAD or line.endswith(b"\n"):
                    yield line
                    continue
                while (line := file.readline(_HEAD)) and not line.endswith(b"\n"):
                    pass
    except (OSError, ValueError):
        return


def time_of(record: Mapping[str, Any]) -> float:
    """A record's time in Unix seconds; 0 where it has none that can be read."""
    return _time(record)
