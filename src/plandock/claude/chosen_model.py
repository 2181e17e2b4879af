"""The model that a plan was accepted with: what the hook saw, and what the conversation tells.

Measured with 2.1.197 and 2.1.332: no hook tells of a change of model, and a transcript names the
model that *planned*, which is another one for ``opusplan`` (opus) and haiku (sonnet), and is named
without ``[1m]``.  `/model` leaves its command and its answer in the transcript; the picker behind
Alt+P leaves nothing.  So the most specific thing that is known and does not contradict the
requests of the planning counts; where all do, the model that planned.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from plandock.claude.conversation import is_session_id, read_records

_NAME = re.compile(r"[A-Za-z0-9][\w.:\[\]@/-]{0,99}", re.ASCII)
_EFFORT = re.compile(r"[a-z]{1,20}")
_COMMAND = re.compile(
    r"<command-name>/model</command-name>.*?<command-args>(.*?)</command-args>", re.S
)
_ANSWER = re.compile(r"<local-command-stdout>(.*?)</local-command-stdout>", re.S)
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
# Both versions' own words; the display name of a model follows.
_DONE = "Set model to "
_FAMILIES = ("opus", "sonnet", "haiku", "fable")
_ONE_MILLION = "[1m]"


class Origin(enum.StrEnum):
    """How a run's model is known, the most specific first."""

    COMMAND = "/model in the conversation"
    START = "the start of the session"
    ASKED = "--model, ANTHROPIC_MODEL or the settings"
    SAVED = "the settings, saved since the session began"
    PLANNED = "the requests of the planning"
    UNKNOWN = "not known, so Claude Code's default"


@dataclass(frozen=True)
class Choice:
    """What to start the CLI with; "" leaves its own default."""

    model: str
    effort: str
    origin: Origin


@dataclass
class _Told:
    """What a conversation tells since its process began."""

    command: str = ""  # what the last `/model` that was obeyed set
    first: str = ""  # the model of the first answer
    planned: str = ""  # the model of the last answer since the last `/model`
    one_million: bool = False  # that one was asked for with the long context
    effort: str = ""


def choose(seen: Mapping[str, Any]) -> Choice:
    """The model and effort of a session, from what the hook has seen of it."""
    transcript = _text(seen, "transcript")
    at = seen.get("at")
    since = float(at) if isinstance(at, (int, float)) else 0.0
    told = _Told()
    began_as = _text(seen, "began_as")
    if transcript and is_session_id(began_as) and began_as != Path(transcript).stem:
        # What was set before the user's own `/clear` holds after it (measured, both versions).
        _read(Path(transcript).with_name(f"{began_as}.jsonl"), since, told)
    _read(Path(transcript), since, told)
    effort = _text(seen, "effort") or told.effort or _text(seen, "saved_effort")
    if not _EFFORT.fullmatch(effort):
        effort = ""
    model, origin = _model(seen, told)
    return Choice("" if model == "default" else model, effort, origin)


def differs(wanted: str, asked: str) -> bool:
    """Whether a run's agent was answered by another model than the one that was wanted."""
    word = wanted.lower().removesuffix(_ONE_MILLION)
    if word == "opusplan":
        word = "sonnet"
    known = word in _FAMILIES or word.startswith("claude-")
    return bool(asked) and known and not _same(word, asked)


def _model(seen: Mapping[str, Any], told: _Told) -> tuple[str, Origin]:
    started, asked, saved = (_name(seen.get(n)) for n in ("started", "asked", "saved"))
    if told.command and _agrees(told.command, told.planned):
        return _exact(told.command, told), Origin.COMMAND
    if told.command:
        started = asked = ""  # overtaken by a command, and that by something without a trace
    # Alt+P saves its choice and leaves no record: so opus is no sign of opusplan any more.
    anew = bool(saved) and saved != seen.get("saved_then") and _agrees(saved, told.planned)
    opusplan = not anew and _is_opusplan(started, asked, told)
    if started and (opusplan or _agrees(started, told.planned)):
        return started, Origin.START
    if not started and asked and _agrees(asked, told.planned):
        return _exact(asked, told), Origin.ASKED
    if anew:
        return _exact(saved, told), Origin.SAVED
    if told.planned:
        return told.planned + (_ONE_MILLION if told.one_million else ""), Origin.PLANNED
    return "", Origin.UNKNOWN


def _is_opusplan(started: str, asked: str, told: _Told) -> bool:
    """Whether a session that would carry out with sonnet planned with opus on purpose.

    Where nothing tells what the process was asked for (no /proc), its first answer does.
    """
    if "sonnet" not in started or "opus" not in told.planned:
        return False
    return asked.startswith("opusplan") or (not asked and told.first == told.planned)


def _agrees(model: str, planned: str) -> bool:
    """Whether a session that is set to ``model`` plans with ``planned`` ("": not known)."""
    word = model.lower().removesuffix(_ONE_MILLION)
    if not planned:
        return True
    if word == "opusplan":
        return "opus" in planned or "sonnet" in planned
    if "haiku" in word and "sonnet" in planned:
        return True
    return not (word in _FAMILIES or word.startswith("claude-")) or _same(word, planned)


def _same(word: str, named: str) -> bool:
    """Whether an alias or an id (perhaps without its date) is that model."""
    if word in _FAMILIES:
        return word in named
    return named == word or named.startswith(f"{word}-") or word.startswith(f"{named}-")


def _exact(model: str, told: _Told) -> str:
    """A setting as the id that the session used, where it carries out with what it plans with."""
    word = model.lower().removesuffix(_ONE_MILLION)
    upgraded = word == "opusplan" or ("haiku" in word and "haiku" not in told.planned)
    if not told.planned or upgraded:
        return model
    long = told.one_million or model.lower().endswith(_ONE_MILLION)
    return told.planned + (_ONE_MILLION if long else "")


def _read(transcript: Path, since: float, told: _Told) -> None:
    """Take what a conversation's file tells from a time (Unix seconds) on."""
    arguments = None
    for record in read_records(transcript):
        if _time(record) < since:
            continue
        kind = record.get("type")
        if kind == "assistant" and record.get("isSidechain") is not True:
            _take_answer(told, record)
        elif kind == "api-request" and record.get("querySource") == "repl_main_thread":
            params = record.get("params")
            betas = params.get("betas") if isinstance(params, dict) else None
            if isinstance(betas, list):
                told.one_million = any(str(x).startswith("context-1m") for x in betas)
        elif kind in ("user", "system") and (text := _words(record)):
            if found := _COMMAND.search(text):
                arguments = found[1].strip()
            elif arguments is not None and (answer := _ANSWER.search(text)):
                _take_command(told, arguments, answer[1])
                arguments = None


def _take_answer(told: _Told, record: Mapping[str, Any]) -> None:
    message = record.get("message")
    model = _name(message.get("model") if isinstance(message, dict) else None)
    if model:
        told.first = told.first or model
        told.planned = model
        told.effort = _text(record, "effort") or told.effort


def _take_command(told: _Told, arguments: str, answer: str) -> None:
    shown = _COLOURS.sub("", answer).strip()
    if not shown.startswith(_DONE):
        return  # refused, or left as it was
    shown = shown.removeprefix(_DONE).lower()
    long = "1m" in shown.partition("\n")[0] or arguments.lower().endswith(_ONE_MILLION)
    family = next((x for x in _FAMILIES if x in shown), "")
    if "opus" in shown and "plan" in shown.split(" and saved")[0]:
        family = "opusplan"  # the picker's "Opus Plan Mode"
    picked = family + (_ONE_MILLION if long else "") if family else ""
    told.command = _name(arguments) or picked
    told.planned, told.one_million = "", long


def _words(record: Mapping[str, Any]) -> str:
    """The text of a record that is a person's or the CLI's own, never a tool's result."""
    message = record.get("message")
    content = message.get("content") if isinstance(message, dict) else record.get("content")
    return content if isinstance(content, str) else ""


def _time(record: Mapping[str, Any]) -> float:
    """A record's time in Unix seconds; that of one without any is later than all."""
    stamp = record.get("timestamp")
    try:
        return datetime.fromisoformat(str(stamp).replace("Z", "+00:00")).timestamp()
    except (ValueError, OverflowError):
        return float("inf")


def _name(value: object) -> str:
    return value if isinstance(value, str) and _NAME.fullmatch(value) else ""


def _text(data: Mapping[str, Any], key: str) -> str:
    value = data.get(key)
    return value if isinstance(value, str) else ""
