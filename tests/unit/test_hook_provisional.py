"""What the launcher has marked before Python started: taken over, replaced or taken away."""

import json

import pytest

from tests.support import hooks

NEW = hooks.VERSIONS[-1]
ACCEPTED, PROPOSED = "PostToolUse-ExitPlanMode-auto", "PreToolUse-ExitPlanMode-plan"
BY_LAUNCHER = {"by": "launcher", "kind": "handing-off"}
versions = pytest.mark.parametrize("version", hooks.VERSIONS)


def leave(world, session, mark=BY_LAUNCHER, folder="latch"):
    """Leave a mark as the launcher does."""
    (world.state / folder).mkdir(parents=True, exist_ok=True)
    (world.state / folder / session).write_text(json.dumps(mark))


def latch(world, session):
    """The latch that stands for a session, or None."""
    file = world.state / "latch" / session
    return json.loads(file.read_bytes()) if file.exists() else None


@versions
def test_a_hand_off_replaces_it(world, version):
    """The usual way: what stands then names the run."""
    payload = world.payload(version, "auto", ACCEPTED)
    leave(world, payload["session_id"])
    assert "handed off as" in world.call(payload).stop
    (run,) = world.runs()
    kept = latch(world, payload["session_id"])
    assert (kept["kind"], kept["run"], "by" in kept) == ("handed-off", run.id, False)


@versions
@pytest.mark.parametrize("change", ["mode", "subagent"])
def test_no_acceptance_takes_it_away(world, version, change):
    """An approval by hand, and a subagent's plan: tools run on, here."""
    payload = world.payload(version, "auto", ACCEPTED)
    if change == "mode":
        payload["permission_mode"] = "default"
    else:
        payload["tool_response"]["isAgent"] = True
    leave(world, payload["session_id"])
    assert world.call(payload).silent
    assert latch(world, payload["session_id"]) is None


def test_a_latch_of_an_earlier_hand_off_is_not_taken_away(world):
    """A subagent's plan in a latched conversation frees nothing."""
    payload = world.payload(NEW, "auto", ACCEPTED)
    payload["tool_response"]["isAgent"] = True
    leave(world, payload["session_id"], {"kind": "handed-off", "run": "r1"})
    assert world.call(payload).silent
    assert latch(world, payload["session_id"]) == {"kind": "handed-off", "run": "r1"}


def test_the_hook_was_killed_and_the_user_writes(world):
    """The model hears that nothing was handed off; a person's turn may use tools again."""
    prompt = world.payload(NEW, "auto", "UserPromptSubmit")
    session = prompt["session_id"]
    leave(world, session)
    call = world.payload(NEW, "auto", "PreToolUse-Write-auto", session_id=session)
    assert world.call(call).code == 2
    answer = world.call(prompt).context
    assert "NOT handed off" in answer
    assert f"plandock run --session {session}" in answer
    kept = latch(world, session)
    assert (kept["kind"], "by" in kept) == ("refused", False)
    assert kept["at"] > 0
    assert world.call(call).code == 2  # a turn that nobody is known to have begun
    assert world.call(world.speak(call)).silent
    assert latch(world, session) is None


@versions
@pytest.mark.parametrize("killed", [PROPOSED, "SessionEnd-clear", "SessionStart-clear"])
def test_a_hook_killed_on_the_way_to_a_cleared_context(world, version, killed):
    """Whichever of them it is, the new session's first call does not run here."""
    events = (PROPOSED, "SessionEnd-clear", "SessionStart-clear")
    for name in events:
        payload = world.payload(version, "clear", name)
        if name == PROPOSED:
            leave(world, payload["session_id"], {"by": "launcher", "session": "x"}, "proposed")
        elif name == "SessionStart-clear":
            leave(world, payload["session_id"], {"by": "launcher", "kind": "cleared"})
        if name != killed:
            assert world.call(payload).silent
    call = world.payload(version, "clear", "PreToolUse-Write-auto")
    if killed != "SessionStart-clear":
        assert "by" not in latch(world, call["session_id"])
    assert world.call(call).code == 2


@versions
def test_a_clearing_that_accepts_nothing_is_let_be(world, version):
    """The user's own `/clear`, without a plan before it, while another conversation has one."""
    leave(world, "another", {"session": "another", "pid": 1, "cwd": "/"}, "proposed")
    payload = world.payload(version, "clear", "SessionStart-clear")
    leave(world, payload["session_id"], {"by": "launcher", "kind": "cleared"})
    assert world.call(payload).silent
    assert latch(world, payload["session_id"]) is None


def test_no_proposal_takes_its_mark_away(world):
    """ExitPlanMode outside of plan mode proposes nothing."""
    payload = world.payload(NEW, "auto", PROPOSED, permission_mode="default")
    leave(world, payload["session_id"], {"by": "launcher"}, "proposed")
    assert world.call(payload).silent
    assert world.marks() == set()


@versions
def test_a_plan_accepted_in_a_background_session_is_handed_off(world, version):
    """`claude --bg`, `/bg`: what Claude Code says of the session's kind changes nothing."""
    world.env |= {"CLAUDE_CODE_SESSION_KIND": "bg", "CLAUDE_CODE_SESSION_ATTENDED": "0"}
    payload = world.payload(version, "auto", ACCEPTED)
    leave(world, payload["session_id"])
    assert "handed off as" in world.call(payload).stop
    assert latch(world, payload["session_id"])["kind"] == "handed-off"
    call = world.payload(version, "auto", "PreToolUse-Write-auto")
    assert world.call(call | {"session_id": payload["session_id"]}).code == 2
