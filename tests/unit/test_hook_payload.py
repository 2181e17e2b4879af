"""The hook's reading of a payload: real ones of both CLI versions, and hostile ones."""

import json

import pytest

from plandock.hook import payload
from tests.support import hooks

PLAN = "# Plan\n\n1. write out.txt\n"


def parse(**fields):
    """The event of a made-up payload with these fields."""
    base = {"session_id": "s-1", "hook_event_name": "PostToolUse", "tool_name": "ExitPlanMode"}
    return payload.parse(json.dumps(base | fields).encode())


@pytest.mark.parametrize("version", hooks.VERSIONS)
def test_a_real_acceptance_gives_every_field(version):
    """PostToolUse(ExitPlanMode) of both versions carries plan, mode, folder and conversation."""
    event = payload.parse(
        json.dumps(hooks.load(version, "auto", "PostToolUse-ExitPlanMode-auto")).encode()
    )
    assert event is not None
    assert (event.name, event.tool, event.mode) == ("PostToolUse", "ExitPlanMode", "auto")
    assert event.plan == PLAN
    assert event.cwd == "/home/user/project"
    assert event.transcript.endswith(f"/{event.session_id}.jsonl")
    assert event.plan_file.startswith("/home/user/.claude/plans/")
    assert event.tool_use_id.startswith("toolu_")
    assert not event.is_agent


@pytest.mark.parametrize("path", sorted(hooks.PAYLOADS.rglob("*.json")), ids=lambda p: p.stem)
def test_every_real_payload_is_understood(path):
    """Each payload that the real CLI sent is an event, with its own name."""
    event = payload.parse(path.read_bytes())
    assert event is not None
    assert event.name == path.stem.split("-")[0]


def test_the_newer_version_sends_no_prompt_id_after_a_clearing():
    """2.1.197 repeats the prompt's id in SessionStart(clear), 2.1.330 does not (measured)."""
    ids = [
        payload.parse(json.dumps(hooks.load(v, "clear", "SessionStart-clear")).encode())
        for v in hooks.VERSIONS
    ]
    assert [bool(e and e.prompt_id) for e in ids] == [True, False]


def test_the_answers_plan_wins_over_the_questions():
    """A plan that the user edited stands in the answer; the question's is the older one."""
    both = {"tool_input": {"plan": "old"}, "tool_response": {"plan": "new"}}
    assert parse(**both).plan == "new"
    assert parse(**both | {"tool_response": {}}).plan == "old"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xff\xfe\x00",
        b"null",
        b"[]",
        b'"PostToolUse"',
        b"{",
        b"[" * 100_000,
        b'{"n":' + b"1" * 5000 + b"}",
        b"{}",
        b'{"session_id":"s"}',
        b'{"hook_event_name":"PreToolUse"}',
    ],
    ids=range(11),
)
def test_what_is_no_event_is_none(raw):
    """Anything but an object with a session and an event is passed over without a word."""
    assert payload.parse(raw) is None


def test_a_payload_that_is_too_large_is_none(monkeypatch):
    """A payload over the limit is not even read as JSON."""
    monkeypatch.setattr(payload, "LARGEST_PAYLOAD", 10)
    assert parse() is None


@pytest.mark.parametrize(
    "session", ["", "../../etc/passwd", "a/b", ".hidden", "a..b", "a\nb", "a\0b", "é", "x" * 129, 7]
)
def test_a_session_id_that_could_be_a_path_is_refused(session):
    """Session ids name files, so only plain ones are taken."""
    assert parse(session_id=session) is None


@pytest.mark.parametrize(
    "path", ["relative", "", "/a\nb", "/a\0b", "/a\x1b[31m", "/\ud800", "/" + "x" * 4096, 7, None]
)
def test_a_path_that_cannot_be_one_is_empty(path):
    """Relative, over-long, unencodable paths and such with control characters count as none."""
    event = parse(cwd=path, transcript_path=path, tool_response={"filePath": path})
    assert (event.cwd, event.transcript, event.plan_file) == ("", "", "")


@pytest.mark.parametrize("path", ["/with space", '/it\'s "quoted"', "/ünï/漢字", "/caf\udce9"])
def test_an_unusual_path_is_kept(path):
    """Spaces, quotes, other scripts and undecodable bytes are ordinary in paths."""
    assert parse(cwd=path).cwd == path


@pytest.mark.parametrize("wrong", [None, 1, True, [], ["x"], {"x": 1}, 1.5])
def test_wrong_types_count_as_absent(wrong):
    """A field of another type is as good as no field, and never an exception."""
    names = ("tool_name", "permission_mode", "cwd", "tool_use_id", "prompt_id", "source", "reason")
    event = parse(**dict.fromkeys(names, wrong), tool_input=wrong, tool_response=wrong)
    texts = (event.tool, event.mode, event.cwd, event.tool_use_id, event.prompt_id, event.source)
    assert {*texts, event.reason, event.plan, event.plan_file} == {""}
    assert not event.is_agent


def test_only_true_makes_a_subagent():
    """`isAgent` counts only as the truth value itself."""
    assert parse(tool_response={"isAgent": True}).is_agent
    assert not parse(tool_response={"isAgent": "true"}).is_agent


def test_a_plan_can_always_be_written():
    """A lone surrogate, which no file could hold, is replaced."""
    assert parse(tool_response={"plan": "a\ud800b"}).plan == "a?b"


@pytest.mark.parametrize("plan", ["", "  \n", "x" * (payload.LARGEST_PLAN + 1)])
def test_no_plan_and_too_large_a_plan_are_empty(plan):
    """Blank plans and those over the limit count as absent, so that the file is looked at."""
    assert parse(tool_response={"plan": plan}).plan == ""
