"""The hook as Claude Code runs it: real processes, real payloads, a throwaway home.

Hand-offs run from a copy of the package whose supervisor only notes that it was started.
"""

import json
import os
import shutil
import sys
import time
from pathlib import Path

import pytest

from plandock.hook import entry, handoff, marks
from plandock.runs.store import Store
from tests.support import hooks

ACCEPTED = "PostToolUse-ExitPlanMode-auto"
PROPOSED = "PreToolUse-ExitPlanMode-plan"
OLD, NEW = hooks.VERSIONS
versions = pytest.mark.parametrize("version", hooks.VERSIONS)


@pytest.fixture(scope="session")
def package(tmp_path_factory):
    """One copy of plandock with a harmless supervisor."""
    return hooks.copy_package(tmp_path_factory.mktemp("package"))


@pytest.fixture(scope="session")
def ping():
    """What answers for docker."""
    with hooks.fake_docker_socket() as path:
        yield path


@pytest.fixture
def world(tmp_path, repo, home, package, ping):
    """A place where a hand-off succeeds; no supervisor is left when the test ends."""
    made = hooks.make_world(tmp_path, repo, home, package, ping)
    (package / "supervisor" / "seconds").write_text("0")
    yield made
    for run in made.runs():
        until(lambda run=run: not starts(made, run.id) or "ended" in log(made, run.id))


def log(world, run_id):
    path = world.state / "runs" / run_id / "supervisor.log"
    return path.read_text() if path.exists() else ""


def starts(world, run_id):
    return log(world, run_id).count("started")


def until(condition, seconds=10.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to pass in time"
        time.sleep(0.02)


# --- the acceptance ---------------------------------------------------------------------------


@versions
@pytest.mark.parametrize("mode", ["acceptEdits", "auto", "bypassPermissions"])
def test_an_acceptance_stops_the_turn_and_is_recorded(world, version, mode):
    """Any automatic acceptance, of either CLI, gives one run, its supervisor, and the stop."""
    payload = world.payload(version, "auto", ACCEPTED, permission_mode=mode)
    stop = world.call(payload).stop
    (run,) = world.runs()
    assert f"handed off as {run.id} → branch {run.branch}" in stop
    assert (run.state, run.trigger, run.permission_mode) == ("queued", "accepted", mode)
    assert run.repo == run.cwd == str(world.repo.root)
    assert run.base == world.repo.head()
    assert (run.session_id, run.transcript) == (payload["session_id"], payload["transcript_path"])
    assert run.claude == str(world.tools / "claude")
    assert (world.state / "runs" / run.id / "plan.md").read_text() == "# Plan\n\n1. write out.txt\n"
    assert world.marks() == {f"latch/{run.session_id}", f"note/{run.session_id}"}
    until(lambda: starts(world, run.id) == 1)


def test_the_console_script_answers_alike(world):
    """`plandock hook` is the same hook."""
    world.env["PYTHONPATH"] = str(world.package.parent)
    argv = [sys.executable, "-m", "plandock", "hook"]
    answer = world.call(world.payload(NEW, "auto", ACCEPTED), argv)
    assert world.runs()[0].id in answer.stop


def test_the_same_event_ten_times_at_once_is_one_run(world):
    """Ten processes with one event: one run, one supervisor, ten equal answers."""
    payload = world.payload(NEW, "auto", ACCEPTED)
    answers = [hooks.finish(x) for x in [world.start(payload) for _ in range(10)]]
    (run,) = world.runs()
    assert {answer.stop for answer in answers} == {answers[0].stop}
    assert run.id in answers[0].stop
    until(lambda: starts(world, run.id) >= 1)
    assert [p.name for p in (world.state / "runs").iterdir()] == [run.id]


def test_another_plan_of_the_same_session_is_another_run(world):
    """Two acceptances in one conversation are two runs, on two branches."""
    world.accept(tool_use_id="toolu_1")
    world.accept(tool_use_id="toolu_2")
    first, second = world.runs()
    assert first.branch != second.branch


def test_a_run_whose_supervisor_never_started_is_started_on_the_next_delivery(world):
    """Killed between the record and the start: the repeated event makes up for it, once."""
    first = world.accept().stop
    (run,) = world.runs()
    until(lambda: starts(world, run.id) == 1)
    assert world.accept().stop == first
    with Store(world.state / "plandock.db") as store:
        store.change(run.id, created_at="2020-01-01T00:00:00.000Z")
    assert world.accept().stop == first
    until(lambda: starts(world, run.id) == 2)


def test_the_output_ends_although_the_supervisor_goes_on(world, package):
    """No descriptor is inherited: Claude Code reads to end of file, and must not hang."""
    (package / "supervisor" / "seconds").write_text("3")
    world.accept()  # reads standard output and error to their ends
    (run,) = world.runs()
    until(lambda: starts(world, run.id) == 1)
    assert "ended" not in log(world, run.id)


def test_a_plan_without_text_in_the_payload_is_read_from_its_file(world):
    """Neither answer nor question carries the plan: the file that they name does."""
    plan = world.home / "plan.md"
    plan.write_text("# From the file\n")
    world.accept(tool_input={}, tool_response={"filePath": str(plan)})
    assert world.runs()[0].plan_title == "From the file"


def test_a_plans_title_is_printable(world):
    """Escape sequences and direction marks of a plan do not reach a terminal by its title."""
    world.accept(tool_response={"plan": "# \x1b[31mRed\x1b]0;x\x07 \u202eplan\x00\ud800\n"})
    assert world.runs()[0].plan_title == "Red plan?"


def test_what_is_kept_is_for_the_owner_alone(world):
    """The state folder, the marks, the store and the plan are readable by nobody else."""
    world.accept()
    (run,) = world.runs()
    private = [world.state / x for x in (".", "latch", "note", "plandock.db", f"runs/{run.id}")]
    private += [world.state / x for x in (*world.marks(), f"runs/{run.id}/plan.md")]
    assert [p for p in private if p.stat().st_mode & 0o077] == []


# --- what is no acceptance --------------------------------------------------------------------


@versions
@pytest.mark.parametrize("case", ["manual", "reject", "esc"])
def test_no_other_answer_at_the_dialog_hands_off(world, version, case):
    """By hand, rejected, Esc: nothing is said, nothing refused, no run."""
    order = ["UserPromptSubmit", PROPOSED, "PermissionRequest-ExitPlanMode"]
    if case == "manual":
        order += ["PostToolUse-ExitPlanMode-default", "PreToolUse-Write-default"]
    for name in order:
        assert world.call(world.payload(version, case, name)).silent
    assert world.runs() == []
    assert len(world.marks()) == (0 if case == "manual" else 1)
    if case != "manual":
        assert world.call(world.payload(version, case, "UserPromptSubmit")).silent
        assert world.marks() == set()


def test_a_subagents_plan_is_no_acceptance(world):
    """A leader's acceptance of a subagent's plan is not the user's."""
    assert world.accept(tool_response={"plan": "# P", "isAgent": True}).silent
    assert world.runs() == []


def test_nothing_happens_inside_a_box(world):
    """In a box the hook neither hands off nor refuses."""
    world.accept()
    world.env["PLANDOCK_BOX"] = "1"
    assert world.accept(tool_use_id="toolu_other").silent
    assert world.call(world.payload(NEW, "auto", "PreToolUse-Write-auto")).silent
    assert len(world.runs()) == 1


def test_a_mode_that_the_user_took_out_goes_on_locally(world):
    """`on_accept` in the user's own settings decides which acceptances hand off."""
    config = Path(world.env["XDG_CONFIG_HOME"]) / "plandock" / "config.toml"
    config.parent.mkdir(parents=True)
    config.write_text('on_accept = ["acceptEdits"]\n')
    assert world.accept().silent
    assert "handed off" in world.accept(permission_mode="acceptEdits").stop


@pytest.mark.parametrize("raw", [b"", b"garbage", b"[" * 9999, b"\xff" * 99, b"{}"])
def test_garbage_is_passed_over_by_the_real_program(world, raw):
    """The program as it lies in the clone, on what is no event: silence."""
    assert world.call(raw, [sys.executable, "-I", "-S", str(hooks.ENTRY)]).silent


# --- the guard --------------------------------------------------------------------------------


@versions
def test_calls_beside_the_acceptance_are_refused(world, version):
    """A tool call of the same message comes after the stop: it is blocked, with the run's name."""
    world.call(world.payload(version, "auto", ACCEPTED))
    (run,) = world.runs()
    call = world.payload(version, "auto", "PreToolUse-Write-auto", session_id=run.session_id)
    answer = world.call(call)
    assert (answer.code, answer.out) == (2, "")
    assert run.id in answer.err
    assert "Traceback" not in answer.err
    assert world.call(call | {"session_id": "another-session"}).silent


def test_the_latch_lies_on_the_disk_before_anything_else_is_done(world, monkeypatch):
    """Before the hand-off begins, the mark is written, synced, named, and its folder synced."""
    order = []

    def look(**_):
        order.append("hand off")
        assert marks.get(world.state / "latch", "s") == {"kind": "handing-off"}
        raise RuntimeError("far enough")

    real_sync, real_name = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (order.append("sync"), real_sync(fd))[1])
    monkeypatch.setattr(os, "replace", lambda a, b: (order.append("name"), real_name(a, b))[1])
    monkeypatch.setattr(handoff, "hand_off", look)
    event = entry.Event("PostToolUse", "s", "ExitPlanMode", mode="auto", plan="# P")
    entry._act(event)
    assert order[:4] == ["sync", "name", "sync", "hand off"]


def test_the_next_prompt_lifts_the_latch_and_tells_the_model_once(world):
    """The user speaks again: tools run, and the model learns of the run exactly once."""
    world.accept()
    (run,) = world.runs()
    prompt = world.payload(NEW, "auto", "UserPromptSubmit", session_id=run.session_id)
    context = world.call(prompt).context
    assert run.id in context
    assert run.branch in context
    assert "state: queued" in context
    assert world.call(prompt).silent
    call = world.payload(NEW, "auto", "PreToolUse-Write-auto", session_id=run.session_id)
    assert world.call(call).silent


def test_a_prompt_goes_through_with_a_broken_store(world):
    """A store that cannot be read keeps neither the prompt nor the latch."""
    world.accept()
    (run,) = world.runs()
    for path in world.state.glob("plandock.db*"):
        path.unlink()
    (world.state / "plandock.db").write_bytes(b"not a database" * 100)
    prompt = world.payload(NEW, "auto", "UserPromptSubmit", session_id=run.session_id)
    assert "state: unknown" in world.call(prompt).context
    assert world.marks() == set()
    (world.state / "plandock.db").unlink()


# --- a hand-off that cannot be ----------------------------------------------------------------


def no_engine(world):
    world.env["DOCKER_HOST"] = f"unix://{world.home}/no-such-socket"


def no_engine_at_all(world):
    (world.tools / "docker").unlink()


def no_login(world):
    (world.home / ".claude" / ".credentials.json").unlink()


def no_repository(world):
    shutil.rmtree(world.repo.root / ".git")


def no_commit(world):
    shutil.rmtree(world.repo.root / ".git")
    world.repo.git("init", "--quiet")


def no_folder(world):
    shutil.rmtree(world.repo.root)


def no_cli(world):
    (world.tools / "claude").unlink()


def no_identity(world):
    (world.home / ".gitconfig").unlink()


def no_git(world):
    (world.tools / "git").unlink()


def broken_settings(world):
    world.repo.write({".plandock.toml": "branch = ["})


def unknown_setting(world):
    world.repo.write({".plandock.toml": "brunch = 1\n"})


def impossible_branch(world):
    world.repo.write({".plandock.toml": 'branch = "a..b"\n'})


def full_of_odd_bytes(world):
    world.repo.write({".plandock.toml": b"\xff\xfe\x00"})


def no_store(world):
    world.state.mkdir(parents=True)
    (world.state / "plandock.db").mkdir()


IMPOSSIBLE = [
    (no_engine, "docker is not running"),
    (no_engine_at_all, "docker is not installed"),
    (no_login, "no Claude login"),
    (no_repository, "not in a git repository"),
    (no_commit, "no commit yet"),
    (no_folder, "not a folder"),
    (no_cli, "claude command was not found"),
    (no_identity, "git does not know who you are"),
    (no_git, "git was not found"),
    (broken_settings, ".plandock.toml"),
    (unknown_setting, "brunch"),
    (impossible_branch, "a..b"),
    (full_of_odd_bytes, ".plandock.toml"),
    (no_store, "the store of runs cannot be opened"),
]


@pytest.mark.parametrize(("breaks", "why"), IMPOSSIBLE, ids=[x[0].__name__ for x in IMPOSSIBLE])
def test_an_impossible_hand_off_stops_the_turn_all_the_same(world, breaks, why):
    """The reason and the next step are shown, no tool runs, and nothing is recorded."""
    breaks(world)
    payload = world.payload(NEW, "auto", ACCEPTED)
    session = payload["session_id"]
    stop = world.call(payload).stop
    assert why in stop
    assert "\nNext: " in stop
    assert f"plandock run --session {session}" in stop
    call = world.payload(NEW, "auto", "PreToolUse-Write-auto", session_id=session)
    answer = world.call(call)
    assert answer.code == 2
    assert why in answer.err
    assert world.runs() == []
    assert list((world.state / "runs").glob("*")) == []
    prompt = world.payload(NEW, "auto", "UserPromptSubmit", session_id=session)
    assert "NOT handed off" in world.call(prompt).context
    assert world.call(call).silent


def test_an_acceptance_stops_even_where_nothing_can_be_written(world):
    """The state folder cannot be: the turn stops, other calls and prompts are left alone."""
    blocked = world.home / "file"
    blocked.write_text("")
    world.env["XDG_STATE_HOME"] = str(blocked)
    stop = world.accept().stop
    assert "could not hand the plan off" in stop
    for name in ("PreToolUse-Write-auto", PROPOSED, "UserPromptSubmit"):
        assert world.call(world.payload(NEW, "auto", name)).silent


def test_a_supervisor_that_cannot_start_leaves_no_run(world, monkeypatch):
    """A run that was recorded in vain is taken back: later, nobody would expect it to start."""

    def fail(*_args, **_more):
        raise OSError(11, "Resource temporarily unavailable")

    for name in ("PATH", "DOCKER_HOST"):
        monkeypatch.setenv(name, world.env[name])
    monkeypatch.setattr(handoff.proc, "start_detached", fail)
    with pytest.raises(OSError):
        handoff.hand_off(
            plan="# P",
            cwd=str(world.repo.root),
            session_id="s",
            tool_use_id="t",
            trigger="accepted",
        )
    assert world.runs() == []
    assert list((world.state / "runs").iterdir()) == []


def test_a_repository_cannot_name_the_program_to_run(world):
    """`env` in a project's settings reaches hooks; PLANDOCK_CLAUDE out of it does not count."""
    world.repo.write({".claude/settings.json": json.dumps({"env": {"PLANDOCK_CLAUDE": "/bin/x"}})})
    world.env["PLANDOCK_CLAUDE"] = "/bin/x"
    world.accept()
    assert world.runs()[0].claude == str(world.tools / "claude")


# --- cleared context --------------------------------------------------------------------------


def clear(world, version, **changes):
    """Up to the new session: proposal, SessionEnd(clear), SessionStart(clear)."""
    for name in (PROPOSED, "PermissionRequest-ExitPlanMode", "SessionEnd-clear"):
        assert world.call(world.payload(version, "clear", name)).silent
    assert world.call(world.payload(version, "clear", "SessionStart-clear", **changes)).silent


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
    assert world.call(call).silent


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
    clear(world, NEW)
    (path,) = (world.state / "latch").iterdir()
    path.write_text(json.dumps(json.loads(path.read_text()) | {"kind": "handing-off"}))
    assert world.call(world.payload(NEW, "clear", "PreToolUse-Write-auto")).code == 2
    assert len(world.runs()) == 1


def test_an_impossible_cleared_hand_off_refuses_with_the_reason(world):
    """Cleared context and no engine: the call is blocked, and the user is told by the model."""
    no_engine(world)
    clear(world, NEW)
    answer = world.call(world.payload(NEW, "clear", "PreToolUse-Write-auto"))
    assert answer.code == 2
    assert "docker is not running" in answer.err
    assert world.runs() == []
