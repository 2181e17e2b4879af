"""What conversations' files tell, as both real CLIs wrote them; and where they do not tell.

The files below `data/conversations` are real ones, cut down to the records that tell, with neutral
paths: each holds an accepted plan, and what began the next turn after it.
"""

import itertools
import json
import os
import shutil
import threading
from datetime import datetime
from pathlib import Path

import pytest

from plandock.hook import transcript
from plandock.hook.transcript import Began
from tests.support.patience import PATIENCE_S

CONVERSATIONS = Path(__file__).parent / "data" / "conversations"
OLDEST, NEWEST = "2.1.197", "2.1.332"
versions = pytest.mark.parametrize("version", [OLDEST, NEWEST])


def records(path):
    """Every record of a conversation's file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def at(record):
    """A record's time, in Unix seconds."""
    return datetime.fromisoformat(record["timestamp"].replace("Z", "+00:00")).timestamp()


def approved_at(path):
    """When the plan was accepted: the time of the result of ExitPlanMode."""
    return next(at(r) for r in records(path) if "has approved your plan" in json.dumps(r))


def later_turns(path):
    """The ids of the turns that began after the plan was accepted."""
    since = approved_at(path)
    ids = [r["promptId"] for r in records(path) if "promptId" in r and at(r) > since]
    return list(dict.fromkeys(ids))


BEGINNINGS = [
    (OLDEST, "typed", Began.PERSON),
    (NEWEST, "typed", Began.PERSON),
    (OLDEST, "command", Began.PERSON),
    (NEWEST, "command", Began.PERSON),
    (OLDEST, "task-ends", Began.PROGRAM),
    (NEWEST, "task-ends", Began.PROGRAM),
    (OLDEST, "agent-ends", Began.PROGRAM),
    (NEWEST, "agent-ends", Began.PROGRAM),
    (OLDEST, "schedule", Began.PROGRAM),
    (NEWEST, "schedule", Began.PROGRAM),
    (NEWEST, "limit", Began.PROGRAM),
    (NEWEST, "queued", Began.BEFORE),
    (NEWEST, "two-queued", Began.BEFORE),
    # The oldest puts what is queued into the turn of the acceptance.
    (OLDEST, "queued", Began.BEFORE),
    (OLDEST, "two-queued", Began.BEFORE),
]


@pytest.mark.parametrize(("version", "case", "expected"), BEGINNINGS)
def test_a_real_conversation_tells_who_began_each_later_turn(version, case, expected):
    """Typed after the hand-off is a person; nothing else of what begins a turn is."""
    path = CONVERSATIONS / version / f"{case}.jsonl"
    since = approved_at(path) + 0.001
    turns = later_turns(path)
    assert turns
    # What a person wrote met a limit; the turn that follows is the CLI's own.
    for turn in turns[1:] if case == "limit" else turns:
        assert transcript.began(str(path), turn, since=since) is expected


def test_a_new_turn_may_have_the_id_of_an_old_one(tmp_path):
    """2.1.332 copies a conversation so: the person's word in the copy counts."""
    old = spoken("Plan it please", when="2025-12-31T00:00:00.000Z")
    path = conversation(tmp_path / "c.jsonl", old, spoken("go on"))
    assert transcript.began(path, "p", since=SINCE) is Began.PERSON
    path = conversation(tmp_path / "d.jsonl", old)
    assert transcript.began(path, "p", since=SINCE) is Began.BEFORE


def test_what_was_queued_after_the_hand_off_is_a_persons_word(tmp_path):
    """The time at which a prompt was queued counts, not the time at which it was submitted."""
    path = CONVERSATIONS / NEWEST / "queued.jsonl"
    (turn,) = later_turns(path)
    queued = next(at(r) for r in records(path) if r.get("operation") == "enqueue")
    assert transcript.began(str(path), turn, since=queued - 0.001) is Began.PERSON
    assert transcript.began(str(path), turn, since=queued + 0.001) is Began.BEFORE


def conversation(path, *lines):
    """A conversation's file of these records."""
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)


def spoken(text="go on", *, turn="p", when="2026-01-01T00:00:01.000Z", **changes):
    """The record of a prompt that a person typed, but for the changes; None takes a key away."""
    record = {"type": "user", "promptId": turn, "timestamp": when, "promptSource": "typed"}
    record |= {"origin": {"kind": "human"}, "message": {"role": "user", "content": text}}
    return {k: v for k, v in (record | changes).items() if v is not None}


def enqueued(text, when="2026-01-01T00:00:00.500Z"):
    """The record that a prompt waits in the queue."""
    return {
        "type": "queue-operation", "operation": "enqueue", "content": text, "timestamp": when,
    }  # fmt: skip


SINCE = datetime.fromisoformat("2026-01-01T00:00:00+00:00").timestamp()
COMMAND = "<command-message>hello</command-message>\n<command-name>/hello</command-name>"

NOT_A_PERSON = {
    "meta": spoken(isMeta=True),
    "a subagent's": spoken(isSidechain=True),
    "by the CLI": spoken(promptSource="system"),
    "by a program": spoken(promptSource="sdk"),
    "of a source of tomorrow": spoken(promptSource="dreamt"),
    "a source that is no text": spoken(promptSource=["typed"]),
    "after a limit": spoken(origin={"kind": "auto-continuation"}),
    "a task's end": spoken(origin={"kind": "task-notification"}),
    "a peer's": spoken(origin={"kind": "peer"}),
    "of an origin of tomorrow": spoken(origin={"kind": "dream"}),
    "of no origin": spoken(origin=None),
    "an origin that is no object": spoken(origin="human"),
    "without a source": spoken(promptSource=None),
    "queued, at no known time": spoken(promptSource="queued"),
    "a command of a plugin": spoken(COMMAND, promptSource=None, origin={"kind": "plugin"}),
    "without a time": spoken(timestamp="soon"),
}


@pytest.mark.parametrize("record", NOT_A_PERSON.values(), ids=NOT_A_PERSON.keys())
def test_what_is_not_known_to_be_a_persons_word_is_none(tmp_path, record):
    """Whatever is new or odd about a record: it does not count as a person."""
    path = conversation(tmp_path / "c.jsonl", record)
    assert transcript.began(path, "p", since=SINCE) in (Began.PROGRAM, Began.BEFORE)
    control = conversation(tmp_path / "control.jsonl", spoken())
    assert transcript.began(control, "p", since=SINCE) is Began.PERSON


def test_a_command_that_waited_in_the_queue_is_no_persons_word_without_an_origin(tmp_path):
    """2.1.197 writes a scheduled command like a typed one; what is queued tells them apart."""
    typed = spoken(COMMAND, promptSource=None, origin=None)
    path = conversation(tmp_path / "typed.jsonl", typed)
    assert transcript.began(path, "p", since=SINCE) is Began.PERSON
    path = conversation(tmp_path / "scheduled.jsonl", enqueued("/hello"), typed)
    assert transcript.began(path, "p", since=SINCE) is Began.PROGRAM


COMMANDS = [
    (["+/hello"], Began.BEFORE),
    (["+/hello with words", "-"], Began.BEFORE),
    (["+/hello", "!"], Began.PERSON),  # put back into the line, and typed
    (["+/other", "+/hello"], Began.BEFORE),
    (["+/hello", "+the user's words"], Began.BEFORE),
    (["+/own:hello"], Began.BEFORE),  # told by another name than it was given by
    (["+the user's words"], Began.PERSON),
]


@pytest.mark.parametrize(("operations", "expected"), COMMANDS, ids=itertools.count())
def test_a_command_counts_from_when_it_was_queued(tmp_path, operations, expected):
    """Submitted after the hand-off by 2.1.332, with an origin and no source, like a typed one."""
    when = "2026-01-01T00:01:00.000Z"
    told = spoken(COMMAND, promptSource=None, when=when)
    path = conversation(tmp_path / "c.jsonl", *queue(*operations), told)
    assert transcript.began(path, "p", since=SINCE + 30) is expected
    # In the time between, nobody had typed it; what is typed after it is a word of its own.
    if expected is Began.BEFORE:
        assert transcript.began(path, "p", since=SINCE - 1) is Began.PERSON
        later = spoken(COMMAND, promptSource=None, when=when, turn="q")
        operations = [x for x in operations if x != "+/other"]
        path = conversation(tmp_path / "d.jsonl", *queue(*operations), told, later)
        assert transcript.began(path, "q", since=SINCE + 30) is Began.PERSON


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n\n",
        b"garbage\n",
        b'{"promptId":"p"',
        b"[" * 99999,
        b'["promptId"]\n',
        b"\xff\x00\n",
    ],
)
def test_a_file_that_does_not_tell_leaves_it_unknown(tmp_path, content):
    """Torn, empty, no JSON, no objects: nobody is known to have spoken."""
    path = tmp_path / "c.jsonl"
    path.write_bytes(content)
    assert transcript.began(str(path), "p", since=0.0, patience_s=0.0) is Began.UNKNOWN
    assert transcript.waiting(str(path)) == []
    assert transcript.queued_as(str(path), "go on") is None
    assert transcript.accepted_plan(str(path)) is None


@pytest.mark.parametrize("path", ["", "/nowhere/c.jsonl", "/", "/dev/zero", "\0"])
def test_no_file_leaves_it_unknown_at_once(path):
    """Absent, a folder, a device without end: unknown, and not waited for."""
    assert transcript.began(path, "p", since=0.0, patience_s=0.0) is Began.UNKNOWN
    assert transcript.waiting(path) == []


def test_a_record_that_comes_late_is_waited_for(tmp_path):
    """The CLI writes the turn's record after its first tool call has begun."""
    path = tmp_path / "c.jsonl"
    path.write_text("{}\n")
    late = threading.Timer(0.3, conversation, [path, spoken()])
    late.start()
    try:
        found = transcript.began(str(path), "p", since=SINCE, patience_s=PATIENCE_S)
    finally:
        late.join()
    assert found is Began.PERSON


def test_a_file_that_comes_late_is_waited_for(tmp_path, monkeypatch):
    """A copy of a conversation has no file before its first tool call."""
    monkeypatch.setattr(transcript, "_UNWRITTEN_S", PATIENCE_S)
    path = tmp_path / "c.jsonl"
    late = threading.Timer(0.3, conversation, [path, spoken(promptSource="system")])
    late.start()
    try:
        found = transcript.began(str(path), "p", since=SINCE, patience_s=PATIENCE_S)
    finally:
        late.join()
    assert found is Began.PROGRAM


def test_only_the_end_of_a_long_file_is_read(tmp_path):
    """A conversation of a gigabyte costs no more than one of a few megabytes."""
    path = tmp_path / "c.jsonl"
    with path.open("wb") as file:
        file.write(json.dumps(spoken(turn="old")).encode() + b"\n")
        file.truncate(1 << 30)
        file.seek(0, 2)
        file.write(b"\n" + json.dumps(spoken()).encode() + b"\n")
    assert transcript.began(str(path), "p", since=SINCE) is Began.PERSON
    assert transcript.began(str(path), "old", since=SINCE, patience_s=0.0) is Began.UNKNOWN


def test_a_fifo_in_its_place_does_not_hold_the_hook_up(tmp_path):
    """Whatever lies at the path is not waited for."""
    os.mkfifo(tmp_path / "c.jsonl")
    path = str(tmp_path / "c.jsonl")
    assert transcript.began(path, "p", since=0.0, patience_s=0.0) is Began.UNKNOWN
    assert transcript.accepted_plan(path) is None


# --- the queue ----------------------------------------------------------------------------------


@versions
@pytest.mark.parametrize(
    ("case", "expected"),
    [("queued", ["also add a changelog"]), ("two-queued", ["first one", "second one"])],
)
def test_what_waits_at_the_acceptance_is_found(tmp_path, version, case, expected):
    """Both CLIs, up to the record of the acceptance; at the end of the file nothing waits."""
    path = CONVERSATIONS / version / f"{case}.jsonl"
    # Not in the order of time: what was taken out later stands before the acceptance's record.
    written = [r for r in records(path) if at(r) < approved_at(path)]
    assert transcript.waiting(conversation(tmp_path / "c.jsonl", *written)) == expected
    assert transcript.waiting(str(path)) == []


def test_a_queue_ends_with_its_process(tmp_path):
    """What was queued before a person typed straight away waits no more, and is not sent."""
    old = enqueued("OLD", "2025-12-31T00:00:00.000Z")
    lines = [old, spoken("Plan it please"), enqueued("new", "2026-01-01T00:00:02.000Z")]
    path = conversation(tmp_path / "c.jsonl", *lines)
    assert transcript.waiting(path) == ["new"]
    out = {"type": "queue-operation", "operation": "dequeue"}
    assert transcript.waiting(conversation(tmp_path / "d.jsonl", *lines, out)) == []


def test_a_person_who_wrote_is_found_in_any_turn(tmp_path):
    """After the hand-off alone, and no program."""
    path = conversation(tmp_path / "c.jsonl", spoken(), spoken(turn="q", promptSource="system"))
    assert transcript.person_wrote(path, since=SINCE) is True
    assert transcript.person_wrote(path, since=SINCE + 60) is False
    path = conversation(tmp_path / "d.jsonl", spoken(promptSource="system"))
    assert transcript.person_wrote(path, since=SINCE) is False


def queue(*operations):
    """Records of a queue: `+text` was queued; `-` and `-text` were taken out; `!` all of it."""
    for n, word in enumerate(operations):
        when = f"2026-01-01T00:00:{n:02}.000Z"
        if word[0] == "+":
            yield enqueued(word[1:], when)
            continue
        operation = {"-": "dequeue" if len(word) == 1 else "remove", "!": "popAll"}[word[0]]
        record = {"type": "queue-operation", "operation": operation, "timestamp": when}
        yield record | ({"content": word[1:]} if len(word) > 1 else {})


QUEUES = [
    (["+a", "+b"], ["a", "b"]),
    (["+a", "-", "+b"], ["b"]),
    (["+a", "+b", "-b"], ["a"]),
    (["+a", "+b", "!"], []),
    (["-", "+a"], ["a"]),
    (["+<task-notification>x", "+a"], ["a"]),
    ([f"+{n}" for n in range(60)], [str(n) for n in range(50)]),
    (["+" + "x" * 70_000], ["x" * 65_536]),
]


@pytest.mark.parametrize(("operations", "expected"), QUEUES, ids=itertools.count())
def test_the_queue_is_replayed(tmp_path, operations, expected):
    """Taken out in order or by name, put back as a whole; no notification goes along."""
    path = conversation(tmp_path / "c.jsonl", *queue(*operations))
    assert transcript.waiting(path) == expected


@versions
def test_what_the_model_has_scheduled_is_not_taken_for_the_users_word(tmp_path, version):
    """A schedule's prompt that waits at the acceptance: the call that made it tells."""
    path = CONVERSATIONS / version / "schedule.jsonl"
    call = {"type": "tool_use", "name": "CronCreate", "input": {"prompt": "go on with the work"}}
    made = {"type": "assistant", "message": {"role": "assistant", "content": [call]}}
    waits = [enqueued("go on with the work"), enqueued("my own word")]
    file = conversation(tmp_path / "c.jsonl", *records(path), made, *waits)
    assert transcript.waiting(file) == ["my own word"]
    entry = transcript.queued_as(file, "go on with the work")
    assert entry is not None
    assert not entry.by_person


def test_a_prompt_is_known_by_its_entry_in_the_queue(tmp_path):
    """Before and after it was taken out; what was typed again later is no entry of the queue."""
    path = conversation(tmp_path / "c.jsonl", *queue("+go on"))
    assert transcript.queued_as(path, "go on") is not None
    path = conversation(tmp_path / "c.jsonl", *queue("+go on", "-"))
    assert transcript.queued_as(path, " go on\n") is not None
    assert transcript.queued_as(path, "go") is None
    taken = (*queue("+go on", "-"), spoken("go on", promptSource="queued"))
    path = conversation(tmp_path / "c.jsonl", *taken)
    assert transcript.queued_as(path, "go on") is None


def test_what_was_queued_is_carried_over_a_clearing(tmp_path):
    """What waits, and what was taken out for a turn that is not in this conversation."""
    never = float("inf")
    path = conversation(tmp_path / "c.jsonl", *queue("+a", "+b", "-"))
    assert [q.text for q in transcript.carried_over(path, never)] == ["a", "b"]
    for told in (spoken("/hello", promptSource="queued"), spoken(COMMAND, promptSource=None)):
        path = conversation(tmp_path / "d.jsonl", *queue("+/hello", "-"), told)
        assert transcript.carried_over(path, never) == []
        # Its turn began in the conversation that was cleared, after the plan was proposed there.
        assert [q.text for q in transcript.carried_over(path, 0.0)] == ["/hello"]


# --- the plan of a cleared conversation -----------------------------------------------------------


@versions
def test_a_cleared_conversation_tells_its_plan_as_it_was_edited(version):
    """What the user's editor saved is the plan."""
    found = transcript.accepted_plan(str(CONVERSATIONS / version / "cleared-edited.jsonl"))
    assert found is not None
    assert found.plan.endswith("2. Commit it\n- EDITED STEP\n")
    assert found.messages == ()


@versions
def test_feedback_that_came_with_the_approval_is_found(version):
    """It stands in the message beside the plan; the CLI's pointer to the host stays behind."""
    found = transcript.accepted_plan(str(CONVERSATIONS / version / "cleared-feedback.jsonl"))
    assert found is not None
    assert found.plan == "# Add a farewell\n\n1. Write src/farewell.py\n2. Commit it\n"
    assert found.messages == ("User feedback on this plan: please mind the tests",)


def test_feedback_that_names_a_file_of_records_is_kept(tmp_path):
    """Only the CLI's own pointer is left out, not whatever ends like it."""
    text = "Implement the following plan:\n\n# P\n\nUser feedback on this plan: read data.jsonl"
    path = conversation(tmp_path / "c.jsonl", spoken(text, promptSource=None, planContent="# P"))
    found = transcript.accepted_plan(path)
    assert found is not None
    assert found.messages == ("User feedback on this plan: read data.jsonl",)


@versions
def test_what_the_user_wrote_before_the_first_call_is_found(version):
    """The first answer was words; then the user wrote once more."""
    found = transcript.accepted_plan(str(CONVERSATIONS / version / "cleared-words-first.jsonl"))
    assert found is not None
    assert found.messages == ("go on",)


@pytest.mark.parametrize("plan", ["", " \n", 3, None, ["# Plan"]])
def test_a_plan_that_says_nothing_is_none(tmp_path, plan):
    """Whatever stands there, the hook does not fail over it."""
    path = conversation(tmp_path / "c.jsonl", spoken("Implement it") | {"planContent": plan})
    assert transcript.accepted_plan(path) is None


def test_a_conversation_of_another_kind_has_no_accepted_plan(tmp_path):
    """Typed words about a plan are none."""
    path = conversation(tmp_path / "c.jsonl", spoken("Implement the following plan:\n\n# Mine"))
    assert transcript.accepted_plan(path) is None
    shutil.copy(CONVERSATIONS / NEWEST / "typed.jsonl", tmp_path)
    assert transcript.accepted_plan(str(tmp_path / "typed.jsonl")) is None
