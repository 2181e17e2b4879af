"""Acceptance with cleared context: no PostToolUse comes, the new session's first call tells."""

import json
import shutil
import time
from pathlib import Path

import pytest

from tests.support import hooks

PROPOSED = "PreToolUse-ExitPlanMode-plan"
OLD, NEW = hooks.VERSIONS
CONVERSATIONS = Path(__file__).parent / "data" / "conversations"
versions = pytest.mark.parametrize("version", hooks.VERSIONS)


def clear(world, version):
    """Up to the new session: proposal, SessionEnd(clear), SessionStart(clear); its latch."""
    for name in (PROPOSED, "PermissionRequest-ExitPlanMode", "SessionEnd-clear"):
        assert world.call(world.payload(version, "clear", name)).silent
    start = world.payload(version, "clear", "SessionStart-clear")
    assert world.call(start).silent
    return world.state / "latch" / start["session_id"]


@versions
def test_the_first_call_after_a_clearing_is_the_acceptance(world, version):
    """Both CLIs: the new session's first tool call is refused, and the plan is handed off once."""
    clear(world, version)
    call = world.payload(version, "clear", "PreToolUse-Write-auto")
    answer = world.call(call)
    (run,) = world.runs()
    assert answer.code == 2
    assert run.id in answer.err
    assert (run.trigger, run.fresh, run.transcript) == ("cleared", True, "")
    assert run.session_id == call["session_id"]
    assert run.plan_title == "Plan"
    assert world.call(call | {"tool_use_id": "toolu_retry"}).code == 2
    assert len(world.runs()) == 1
    prompt = world.payload(version, "clear", "UserPromptSubmit", session_id=run.session_id)
    assert run.id in world.call(prompt).context
    assert world.call(call).code == 2
    assert world.call(world.speak(call)).silent


def start_from(call, case, version):
    """Lay a real cleared conversation where a payload says that its own lies."""
    path = Path(call["transcript_path"])
    path.parent.mkdir(parents=True)
    shutil.copy(CONVERSATIONS / version / f"cleared-{case}.jsonl", path)


@versions
def test_a_cleared_conversation_stays_latched_until_its_plan_is_handed_off(world, version):
    """The first answer was words, and the user wrote "go on": the next call hands off, here runs
    nothing, and what the user wrote goes along."""
    clear(world, version)
    call = world.payload(version, "clear", "PreToolUse-Write-auto")
    start_from(call, "words-first", version)
    prompt = world.payload(version, "clear", "UserPromptSubmit", session_id=call["session_id"])
    prompt["transcript_path"] = call["transcript_path"]
    assert "first tool call hands it off" in world.call(prompt | {"prompt": "go on"}).context
    assert world.call(world.speak(call)).code == 2
    (run,) = world.runs()
    assert (run.trigger, run.user_messages) == ("cleared", ["go on", "go on"])


@versions
def test_what_was_written_goes_along_though_its_record_comes_late(world, version):
    """The CLI writes it down after the call that hands off: the prompt itself was seen."""
    clear(world, version)
    call = world.payload(version, "clear", "PreToolUse-Write-auto")
    start_from(call, "feedback", version)
    prompt = world.payload(version, "clear", "UserPromptSubmit", session_id=call["session_id"])
    prompt["transcript_path"] = call["transcript_path"]
    for text in ("go on", "<task-notification>over</task-notification>"):
        world.call(prompt | {"prompt": text})
    assert world.call(call).code == 2
    feedback = "User feedback on this plan: please mind the tests"
    assert world.runs()[0].user_messages == [feedback, "go on"]


@versions
def test_feedback_with_the_approval_goes_along(world, version):
    """Typed into the dialog, before the context was cleared."""
    clear(world, version)
    call = world.payload(version, "clear", "PreToolUse-Write-auto")
    start_from(call, "feedback", version)
    assert world.call(call).code == 2
    assert world.runs()[0].user_messages == ["User feedback on this plan: please mind the tests"]


@versions
def test_an_edited_plan_is_the_one_that_is_carried_out(world, version):
    """Its file tells where the conversation's own is not there yet."""
    latch = clear(world, version)
    plan_file = Path(json.loads(latch.read_text())["plan_file"])
    plan_file.parent.mkdir(parents=True, exist_ok=True)
    plan_file.write_text("# Edited in the editor\n")
    assert world.call(world.payload(version, "clear", "PreToolUse-Write-auto")).code == 2
    assert world.runs()[0].plan_title == "Edited in the editor"


@versions
def test_the_plan_of_a_cleared_session_comes_from_its_transcript(world, version):
    """`planContent` of the new conversation is the plan as it was accepted, edits included."""
    clear(world, version)
    call = world.payload(version, "clear", "PreToolUse-Write-auto")
    transcript = Path(call["transcript_path"])
    transcript.parent.mkdir(parents=True)
    record = {"type": "user", "planContent": "# Edited\ud800"}
    transcript.write_text(json.dumps({"type": "x"}) + "\n" + json.dumps(record))
    assert world.call(call).code == 2
    assert world.runs()[0].plan_title == "Edited?"


@versions
@pytest.mark.parametrize("mode", ["default", "plan"])
def test_a_clearing_with_approval_by_hand_is_left_alone(world, version, mode):
    """Cleared, and edits are approved by hand: the work is done locally."""
    clear(world, version)
    call = world.payload(version, "clear", "PreToolUse-Write-auto")
    assert world.call(call | {"permission_mode": mode}).silent
    assert world.call(call).silent
    assert world.runs() == []
    assert world.marks() == set()


@versions
def test_the_users_own_clear_after_escape_hands_nothing_off(world, version):
    """Esc, /clear, a new prompt: the old plan is not carried out."""
    clear(world, version)
    call = world.payload(version, "clear", "PreToolUse-Write-auto")
    prompt = world.payload(version, "clear", "UserPromptSubmit", session_id=call["session_id"])
    assert world.call(prompt).silent
    assert world.call(call).silent
    assert world.runs() == []
    assert world.marks() == set()


@versions
@pytest.mark.parametrize(
    ("text", "told"),
    [("also add a changelog", ["also add a changelog"]), ("/hello", ["/hello"]),
     ("<task-notification>over</task-notification>", [])],
    ids=["words", "command", "task"],
)  # fmt: skip
def test_what_was_queued_before_the_clearing_does_not_unlatch(world, version, text, told):
    """It opens the new conversation, before the plan is in it: its first call hands off, and what
    the user had queued goes along."""
    latch = clear(world, version)
    planning = Path(json.loads(latch.read_text())["transcript"])
    planning.parent.mkdir(parents=True, exist_ok=True)
    entry = {"type": "queue-operation", "operation": "enqueue", "content": text}
    planning.write_text(json.dumps(entry | {"timestamp": "2026-01-01T00:00:00.500Z"}) + "\n")
    call = world.payload(version, "clear", "PreToolUse-Write-auto")
    prompt = world.payload(version, "clear", "UserPromptSubmit", session_id=call["session_id"])
    prompt |= {"transcript_path": call["transcript_path"], "prompt": text}
    assert "first tool call hands it off" in world.call(prompt).context
    # The plan comes as a prompt of its own then (measured, 2.1.332).
    own = "Implement the following plan:\n\n" + json.loads(latch.read_text())["plan"]
    assert "first tool call hands it off" in world.call(prompt | {"prompt": own}).context
    assert world.call(call).code == 2
    (run,) = world.runs()
    assert (run.trigger, run.plan_title, run.user_messages) == ("cleared", "Plan", told)


def test_what_is_queued_while_a_plan_is_shown_does_not_make_it_forgotten(world):
    """2.1.332 tells of the prompt as it is queued; then the plan is accepted, and cleared."""
    proposed = world.payload(NEW, "clear", PROPOSED)
    world.call(proposed)
    prompt = world.payload(NEW, "clear", "UserPromptSubmit", session_id=proposed["session_id"])
    prompt["transcript_path"] = proposed["transcript_path"]
    world.call(prompt | {"prompt": "also", "prompt_id": proposed["prompt_id"]})
    for name in ("SessionEnd-clear", "SessionStart-clear"):
        world.call(world.payload(NEW, "clear", name))
    assert world.call(world.payload(NEW, "clear", "PreToolUse-Write-auto")).code == 2
    assert len(world.runs()) == 1


@versions
def test_nothing_runs_any_more_in_the_conversation_that_was_cleared(world, version):
    """What was queued calls its first tool under the old name (measured, both versions)."""
    proposed = world.payload(version, "clear", PROPOSED)
    for name in (PROPOSED, "SessionEnd-clear"):
        assert world.call(world.payload(version, "clear", name)).silent
    call = world.payload(version, "clear", "PreToolUse-Write-auto")
    start = world.payload(version, "clear", "SessionStart-clear")
    here = {k: proposed[k] for k in ("session_id", "transcript_path", "permission_mode")}
    queued = call | here | {"prompt_id": "of the queued prompt"}
    assert "cleared this conversation" in world.call(queued).err
    world.call(start)
    assert world.call(queued).code == 2
    assert world.runs() == []
    assert world.call(call).code == 2
    assert len(world.runs()) == 1
    assert not (world.state / "latch" / proposed["session_id"]).exists()


@versions
@pytest.mark.parametrize("text", ["also add a changelog", "/hello", "<task-notification>x"])
def test_a_queued_prompt_in_plan_mode_is_no_going_on_by_hand(world, version, text):
    """Its call may come under the new name already, still in plan mode (measured, 2.1.197)."""
    planning = Path(json.loads(clear(world, version).read_text())["transcript"])
    planning.parent.mkdir(parents=True, exist_ok=True)
    entry = {"type": "queue-operation", "operation": "enqueue", "content": text}
    planning.write_text(json.dumps(entry | {"timestamp": "2026-01-01T00:00:00.500Z"}) + "\n")
    call = world.payload(version, "clear", "PreToolUse-Write-auto")
    assert world.call(call | {"permission_mode": "plan", "prompt_id": "of the queued"}).code == 2
    assert world.runs() == []
    assert world.call(call).code == 2
    assert len(world.runs()) == 1


@versions
def test_a_person_who_goes_back_to_plan_mode_plans(world, version):
    """They have said otherwise."""
    clear(world, version)
    call = world.payload(version, "clear", "PreToolUse-Write-auto", permission_mode="plan")
    assert world.call(world.speak(call)).silent
    assert world.runs() == []
    assert world.marks() == set()


@versions
def test_a_person_goes_back_to_the_conversation_that_was_cleared(world, version):
    """They had left its plan with Esc, and their own `/clear` accepted nothing."""
    proposed = world.payload(version, "clear", PROPOSED)
    for name in (PROPOSED, "SessionEnd-clear", "SessionStart-clear"):
        world.call(world.payload(version, "clear", name))
    call = world.payload(version, "clear", "PreToolUse-Write-auto")
    here = {k: proposed[k] for k in ("session_id", "transcript_path", "permission_mode")}
    assert world.call(world.speak(call | here)).silent
    assert world.runs() == []


def test_another_terminals_clearing_is_not_taken_for_this_ones(world):
    """Without a prompt's id, the process tells: a clearing in another terminal is not ours."""
    for name in (PROPOSED, "SessionEnd-clear"):
        world.call(world.payload(NEW, "clear", name))
    world.env["CLAUDE_PID"] = "4712"
    world.call(world.payload(NEW, "clear", "SessionStart-clear"))
    assert world.call(world.payload(NEW, "clear", "PreToolUse-Write-auto")).silent
    assert world.runs() == []


def test_without_a_named_process_the_parent_tells(world):
    """CLAUDE_PID is absent, or nonsense: both events come from one parent, which is enough."""
    for nonsense in ("", "9" * 5000):
        world.env["CLAUDE_PID"] = nonsense
        clear(world, NEW)
        call = world.payload(NEW, "clear", "PreToolUse-Write-auto", transcript_path="")
        assert world.call(call).code == 2
        world.call(world.payload(NEW, "clear", "UserPromptSubmit", session_id=call["session_id"]))


def test_an_old_clearing_does_not_count(world):
    """A SessionStart long after the SessionEnd is not its other half."""
    for name in (PROPOSED, "SessionEnd-clear"):
        world.call(world.payload(OLD, "clear", name))
    (path,) = (world.state / "proposed").iterdir()
    data = json.loads(path.read_text())
    path.write_text(json.dumps(data | {"cleared_at": time.time() - 600}))
    world.call(world.payload(OLD, "clear", "SessionStart-clear"))
    assert world.call(world.payload(OLD, "clear", "PreToolUse-Write-auto")).silent


def test_a_cleared_hand_off_that_was_killed_is_made_by_the_next_call(world):
    """The mark keeps the plan until the run is recorded."""
    path = clear(world, NEW)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"kind": "handing-off"}))
    assert world.call(world.payload(NEW, "clear", "PreToolUse-Write-auto")).code == 2
    assert len(world.runs()) == 1


def test_an_impossible_cleared_hand_off_refuses_with_the_reason(world):
    """Cleared context and no engine: the call is blocked, and the user is told by the model."""
    world.env["DOCKER_HOST"] = f"unix://{world.home}/no-such-socket"
    clear(world, NEW)
    answer = world.call(world.payload(NEW, "clear", "PreToolUse-Write-auto"))
    assert answer.code == 2
    assert "docker is not running" in answer.err
    assert world.runs() == []
