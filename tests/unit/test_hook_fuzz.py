"""The hook against ten thousand payloads that nobody should send, and some through the process.

Seeded, so that a failure comes again.  Whatever comes: never a traceback, never a hand-off without
an acceptance, never a refusal of a call of a session that handed nothing off.
"""

import copy
import io
import json
import os
import random
import shutil
import sys
from types import SimpleNamespace

import pytest

from plandock import git, paths
from plandock.errors import EngineError, RepositoryError
from plandock.hook import entry, handoff, transcript
from plandock.runs.model import Run, RunId
from tests.support import hooks

PAYLOADS = 10_000
SEED = 20260826

REAL = [json.loads(p.read_bytes()) for p in sorted(hooks.PAYLOADS.rglob("*.json"))]
SESSIONS = ["s-1", "s-2", "s-3", "0" * 128]
HOSTILE = [
    "",
    "../../../etc/passwd",
    "/etc/passwd",
    "a\nb",
    "\0",
    "\ud800",
    "\x1b]0;title\x07",
    "$(touch /nowhere)",
    "`id`",
    "-rf",
    "x" * 5000,
    "漢字",
    "\u202e",
    "PostToolUse",
    "ExitPlanMode",
    "auto",
    "plan",
    "clear",
    "/nowhere",
    ".",
    "..",
]
WRONG: list[object] = [
    None,
    True,
    False,
    0,
    -1,
    1e308,
    10**400,
    [],
    {},
    [[]],
    {"plan": {}},
    ["ExitPlanMode"],
]


def mutated(rng):
    """A real payload with up to four fields changed, taken away or made up."""
    data = json.loads(json.dumps(rng.choice(REAL)))
    if rng.random() < 0.8:
        data["session_id"] = rng.choice(SESSIONS)
    for _ in range(rng.choice((0, 0, 1, 1, 2, 4))):
        inner = data
        if rng.random() < 0.3:
            inner = rng.choice([x for x in data.values() if isinstance(x, dict)] or [data])
        known = [*inner, "session_id", "hook_event_name", "permission_mode", "source", "isAgent"]
        key = rng.choice(known)
        if rng.random() < 0.2:
            inner.pop(key, None)
        else:
            inner[key] = copy.deepcopy(rng.choice(HOSTILE + WRONG))
    return json.dumps(data).encode()


def torn(rng):
    """A payload cut off, with a byte flipped, or doubled."""
    raw = bytearray(mutated(rng))
    raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
    return bytes(rng.choice((raw, raw[: rng.randrange(len(raw))], raw * 2)))


def garbage(rng):
    """Bytes, JSON that is no object, deep nesting, and now and then a very large one."""
    kinds = [
        rng.randbytes(rng.randrange(200)),
        json.dumps(rng.choice(HOSTILE + WRONG)).encode(),
        b"[" * 20_000,
        b'{"session_id":' * 2000,
        b"\xef\xbb\xbf" + mutated(rng),
        mutated(rng).decode("utf-8", "replace").encode("utf-16"),
    ]
    return rng.choice(kinds)


def huge(rng):
    """A real event with megabytes in one field."""
    data = json.loads(json.dumps(rng.choice(REAL)))
    data[rng.choice(["prompt", "session_id", "cwd", "tool_name"])] = "x" * (3 << 20)
    data["tool_response"] = {"plan": "y" * (2 << 20)}
    return json.dumps(data).encode()


def payloads(count):
    """That many payloads, always the same."""
    rng = random.Random(SEED)
    for i in range(count):
        kind = rng.choices((mutated, torn, garbage), (8, 1, 1))[0]
        yield huge(rng) if i % 500 == 499 else kind(rng)


def as_event(raw):
    """The payload as a plain reader sees it: independent of the hook's own reading."""
    try:
        data = json.loads(raw)
    except (ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}


def is_acceptance(data):
    """Whether a person accepted a plan, by the shared facts, section 1."""
    answer = data.get("tool_response")
    return (
        data.get("hook_event_name") == "PostToolUse"
        and data.get("tool_name") == "ExitPlanMode"
        # One that nobody knows is none by hand.
        and data.get("permission_mode") not in ("default", "plan")
        and not (isinstance(answer, dict) and answer.get("isAgent") is True)
    )


@pytest.fixture
def handed_off(monkeypatch):
    """Hand-offs are counted instead of made: some fail as expected, some as a bug would."""
    made = []

    def pretend(**wish):
        made.append(wish)
        assert wish["plan"]
        if len(made) % 5 == 3:
            raise EngineError("docker is not running", hint="start it")
        if len(made) % 5 == 4:
            raise ValueError("a bug\nof \x1b[31mours")
        return Run(id=RunId("r7k2"), branch="feature/auto"), True

    def nowhere(_directory):
        raise RepositoryError("not in a git repository")

    monkeypatch.setattr(handoff, "hand_off", pretend)
    # None of these conversations is on the disk; the wait for one is tested elsewhere.
    monkeypatch.setattr(transcript, "_UNWRITTEN_S", 0.0)
    monkeypatch.setattr(git, "top_level", nowhere)
    monkeypatch.setattr(os, "fsync", lambda _fd: None)  # ten thousand of them take minutes
    return made


def call_here(raw, monkeypatch):
    """One call in this process: exit code, standard output, standard error."""
    out, err = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(raw)))
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    code = entry.main()
    return code, out.getvalue(), err.getvalue()


def check_answer(code, out, err, raw):
    """The form of every answer: a stop, a word for the model, a refusal, or silence."""
    assert "Traceback" not in err, raw[:500]
    if code == 2:
        assert out == "", raw[:500]
        assert err.count("\n") == 1, raw[:500]
        assert err.strip().isprintable(), raw[:500]
        return
    assert (code, err) == (0, ""), raw[:500]
    if out:
        answer = json.loads(out)
        shown = answer.get("stopReason") or answer["hookSpecificOutput"]["additionalContext"]
        assert shown.replace("\n", "").isprintable(), raw[:500]


def test_single_events_hand_off_only_when_they_are_acceptances(handed_off, monkeypatch):
    """With nothing on record: an acceptance stops the turn, all else is silence, never a block."""
    accepted = 0
    for raw in payloads(PAYLOADS):
        before = len(handed_off)
        code, out, err = call_here(raw, monkeypatch)
        check_answer(code, out, err, raw)
        assert code == 0, raw[:500]
        stopped = bool(out) and json.loads(out).get("continue") is False
        data = as_event(raw)
        if len(handed_off) > before:
            assert is_acceptance(data), raw[:500]
            assert stopped, raw[:500]
        if stopped:
            assert is_acceptance(data), raw[:500]
        accepted += stopped
        if paths.state_dir().exists():
            shutil.rmtree(paths.state_dir())
    assert accepted > 100


def test_sequences_refuse_only_sessions_that_handed_off(handed_off, monkeypatch):
    """With everything on record that came before: a refusal needs an acceptance or a clearing."""
    watched = set()
    refused = 0
    for raw in payloads(PAYLOADS):
        before = len(handed_off)
        code, out, err = call_here(raw, monkeypatch)
        check_answer(code, out, err, raw)
        data = as_event(raw)
        session, name = str(data.get("session_id")), data.get("hook_event_name")
        cleared = name == "PreToolUse" and session in watched
        if len(handed_off) > before:
            assert is_acceptance(data) or cleared, raw[:500]
        if code == 2:
            assert name == "PreToolUse", raw[:500]
            assert session in watched, raw[:500]
            refused += 1
        if is_acceptance(data) or (name == "SessionStart" and data.get("source") == "clear"):
            watched.add(session)
    assert refused > 100
    assert len(handed_off) > 100


def test_marks_stay_in_their_folders(handed_off, monkeypatch, tmp_path):
    """Whatever a session calls itself, files appear in the state folder's own folders alone."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    for raw in payloads(2000):
        call_here(raw, monkeypatch)
    made = {p.relative_to(tmp_path).parts[:3] for p in tmp_path.rglob("*") if p.is_file()}
    marks = ("latch", "note", "note.lock", "proposed", "started", "seen", "missed")
    ours = (*marks, "hook.log", "plandock.db", "plandock.db.lock")
    assert made <= {("state", "plandock", x) for x in ours}
    depth = {len(p.relative_to(tmp_path).parts) for p in tmp_path.rglob("*") if p.is_file()}
    assert depth <= {3, 4}


def test_the_real_process_keeps_its_word(world):
    """Sixty of them through the program itself, one state folder for all: the same promises."""
    rng = random.Random(SEED)
    stopped = 0
    for i in range(60):
        raw = huge(rng) if i == 59 else (mutated, mutated, torn, garbage)[i % 4](rng)
        raw = raw.replace(b"/home/user/project", os.fsencode(world.repo.root))
        answer = world.call(raw)
        check_answer(answer.code, answer.out, answer.err, raw)
        stops = answer.code == 0 and '"continue": false' in answer.out
        assert not stops or is_acceptance(as_event(raw)), raw[:500]
        stopped += stops
    assert stopped >= len(world.runs()) > 0
