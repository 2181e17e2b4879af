"""The hook as Claude Code runs it: real processes, real payloads, a throwaway home.

Hand-offs run from a copy of the package whose supervisor only notes that it was started.
"""

import json
import os
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from plandock.hook import entry, handoff
from plandock.hook.payload import LARGEST_PLAN, Event
from plandock.runs import alive, marks
from plandock.runs.store import Store
from tests.support import hooks

ACCEPTED = "PostToolUse-ExitPlanMode-auto"
PROPOSED = "PreToolUse-ExitPlanMode-plan"
NEW = hooks.VERSIONS[-1]
versions = pytest.mark.parametrize("version", hooks.VERSIONS)


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
    hooks.until(lambda: world.starts(run.id) == 1)


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
    hooks.until(lambda: world.starts(run.id) >= 1)
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
    hooks.until(lambda: world.starts(run.id) == 1)
    living, killed = alive.mine(), (1 << 22, "of another boot")
    for pid, started in (living, killed):
        with Store(world.state / "plandock.db") as store:
            store.change(run.id, supervisor_pid=pid, supervisor_started=started)
        assert world.accept().stop == first
    hooks.until(lambda: world.starts(run.id) == 2)


def test_the_output_ends_although_the_supervisor_goes_on(world, hook_package):
    """No descriptor is inherited: Claude Code reads to end of file, and must not hang."""
    hold = hook_package / "supervisor" / "hold"
    hold.touch()
    # Where the output does not end before the supervisor, this lets the test come to its end.
    release = threading.Timer(120, hold.unlink, [True])
    release.start()
    try:
        world.accept()  # reads standard output and error to their ends
        (run,) = world.runs()
        hooks.until(lambda: world.starts(run.id) == 1)
        assert "ended" not in world.log(run.id)
    finally:
        release.cancel()
        hold.unlink(missing_ok=True)


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
        later = world.payload(version, case, "UserPromptSubmit", prompt_id="another turn")
        assert world.call(later).silent
        assert world.marks() == set()


def test_a_subagents_plan_is_no_acceptance(world):
    """A leader's acceptance of a subagent's plan is not the user's."""
    assert world.accept(tool_response={"plan": "# P", "isAgent": True}).silent
    assert world.runs() == []


IN_A_BOX = """\
import sys
sys.path.insert(0, sys.argv[1])
from plandock.hook import entry
entry._BOX_FILE = sys.argv[2]
sys.exit(entry.main())
"""


def test_nothing_happens_inside_a_box(world):
    """Where the box image's own file lies the hook neither hands off nor refuses."""
    world.accept()
    argv = [sys.executable, "-I", "-S", "-c", IN_A_BOX, str(world.package.parent)]
    accepted = world.payload(NEW, "auto", ACCEPTED, tool_use_id="toolu_other")
    call = world.payload(NEW, "auto", "PreToolUse-Write-auto")
    assert world.call(accepted, [*argv, __file__]).silent
    assert world.call(call, [*argv, __file__]).silent
    assert len(world.runs()) == 1
    assert world.call(call, [*argv, "/nowhere"]).code == 2  # the control: outside, it refuses


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


@pytest.mark.parametrize("raw", [b"", b"AT_BASE: 0x7f\n{}", b'{"session_id":"s"}'])
def test_garbage_where_a_plan_is_at_stake_stops(world, raw):
    """The launcher's word tells what it was about; other words let things be."""
    argv = [sys.executable, "-I", "-S", str(hooks.ENTRY)]
    for word in ("accepted", "cleared-start"):
        assert "empty or garbled" in world.call(raw, [*argv, word]).stop
    proposed = world.call(raw, [*argv, "proposed"])
    assert (proposed.code, "empty or garbled" in proposed.err) == (2, True)
    for word in ("guard", "prompt", "cleared-end", "started", "stopped"):
        assert world.call(raw, [*argv, word]).silent


@pytest.mark.parametrize("closed", ["proposed", "latch", "."])
def test_a_plan_that_could_not_be_latched_is_not_proposed(world, closed):
    """A state folder that cannot be written: a file is in the way of the marks' folder."""
    file = world.state if closed == "." else world.state / closed
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("in the way")
    answer = world.call(world.payload(NEW, "auto", PROPOSED))
    assert answer.code == 2
    assert "cannot write its state folder" in answer.err
    assert str(file) in answer.err
    # ExitPlanMode where no plan is made, and other calls, are let be.
    for name, mode in ((PROPOSED, "auto"), ("PreToolUse-Write-auto", "auto")):
        assert world.call(world.payload(NEW, "auto", name, permission_mode=mode)).silent
    # Kept context: the turn ends whether or not a latch stands.
    assert world.accept().stop


def test_a_plan_that_is_too_large_says_so(world):
    """In the payload, and in the file that it names."""
    large = "x" * (LARGEST_PLAN + 1)
    assert "longer than 1 MiB" in world.accept(tool_response={"plan": large}).stop
    file = world.home / "large.md"
    file.write_text(large)
    stop = world.accept(tool_input={}, tool_response={"filePath": str(file)}).stop
    assert "longer than 1 MiB" in stop


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
        assert (marks.get(world.state / "latch", "s") or {})["kind"] == "handing-off"
        raise RuntimeError("far enough")

    real_sync, real_name = os.fsync, os.replace

    def sync(handle):
        order.append("sync")
        real_sync(handle)

    def name(source, target):
        order.append("name")
        real_name(source, target)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "replace", name)
    monkeypatch.setattr(handoff, "hand_off", look)
    event = Event("PostToolUse", "s", "ExitPlanMode", mode="auto", plan="# P")
    entry._act(event)
    assert order[:4] == ["sync", "name", "sync", "hand off"]


def test_the_next_prompt_tells_the_model_once_and_tools_run_in_its_turn(world):
    """The user speaks again: the model learns of the run exactly once, and its calls run."""
    world.accept()
    (run,) = world.runs()
    prompt = world.payload(NEW, "auto", "UserPromptSubmit", session_id=run.session_id)
    context = world.call(prompt).context
    assert run.id in context
    assert run.branch in context
    assert "state: queued" in context
    assert world.call(prompt).silent
    call = world.payload(NEW, "auto", "PreToolUse-Write-auto", session_id=run.session_id)
    assert world.call(call).code == 2  # a prompt alone is nobody's word
    assert world.call(world.speak(call)).silent
    assert world.call(call).silent
    assert world.marks() == set()


NOBODY = [
    {"promptSource": "system", "origin": {"kind": "task-notification"}},
    {"promptSource": "system", "isMeta": True},
    {"origin": {"kind": "auto-continuation"}},
    {"timestamp": "2020-01-01T00:00:00.000Z"},
]


@versions
@pytest.mark.parametrize("record", NOBODY, ids=["task", "schedule", "limit", "before"])
def test_a_turn_that_no_person_began_runs_no_tool(world, version, record):
    """A task's end, a schedule, going on after a limit, words from before: the latch stands."""
    world.call(world.payload(version, "auto", ACCEPTED))
    (run,) = world.runs()
    session = {"session_id": run.session_id}
    call = world.payload(version, "auto", "PreToolUse-Write-auto", **session)
    turn = world.speak(call, **record)
    prompt = world.payload(version, "auto", "UserPromptSubmit", **session)
    world.call(prompt | {"prompt_id": turn["prompt_id"]})
    answer = world.call(turn)
    assert answer.code == 2
    assert run.id in answer.err
    assert world.call(world.speak(call)).silent  # the control: a person, now


def test_a_task_that_ends_is_no_word_of_the_user(world):
    """The model is told that nobody has written; the word on the run is kept for a person."""
    world.accept()
    (run,) = world.runs()
    prompt = world.payload(NEW, "auto", "UserPromptSubmit", session_id=run.session_id)
    ended = {"prompt": "<task-notification>\n<task-id>b1</task-id>\n</task-notification>"}
    for _ in range(2):
        context = world.call(prompt | ended).context
        assert "The user has not written since" in context
        assert run.id in context
    assert "state: queued" in world.call(prompt).context


def queue_up(path, text):
    """The CLI's record that this prompt waits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    record = {"type": "queue-operation", "operation": "enqueue", "content": text, "timestamp": now}
    with path.open("a") as file:
        file.write(json.dumps(record) + "\n")


@versions
def test_what_the_user_had_queued_goes_along_to_the_run(world, version):
    """Queued before the acceptance, and while it was being answered: both reach the run, once."""
    accepted = world.payload(version, "auto", ACCEPTED)
    path = Path(accepted["transcript_path"])
    queue_up(path, "also add a changelog")
    queue_up(path, "<task-notification>not yours</task-notification>")
    stop = world.call(accepted).stop
    assert "Your queued message goes along with it." in stop
    (run,) = world.runs()
    assert run.user_messages == ["also add a changelog"]
    latch = world.state / "latch" / run.session_id
    queue_up(path, "and mind the tests")
    latch.write_text(json.dumps(json.loads(latch.read_text()) | {"at": time.time() + 1}))
    prompt = world.payload(version, "auto", "UserPromptSubmit", session_id=run.session_id)
    for text in ("also add a changelog", "and mind the tests"):
        assert "It goes along to the run." in world.call(prompt | {"prompt": text}).context
    assert world.runs()[0].user_messages == ["also add a changelog", "and mind the tests"]


def test_what_was_queued_and_comes_too_late_is_named_with_the_way_to_say_it(world):
    """The agent has begun: the model is told that the run did not get it."""
    accepted = world.payload(NEW, "auto", ACCEPTED)
    world.call(accepted)
    (run,) = world.runs()
    with Store(world.state / "plandock.db") as store:
        store.change(run.id, attempt=1)
    queue_up(Path(accepted["transcript_path"]), "and mind the tests")
    latch = world.state / "latch" / run.session_id
    latch.write_text(json.dumps(json.loads(latch.read_text()) | {"at": time.time() + 1}))
    prompt = world.payload(NEW, "auto", "UserPromptSubmit", session_id=run.session_id)
    context = world.call(prompt | {"prompt": "and mind the tests"}).context
    assert f"plandock resume {run.id} --say TEXT" in context
    assert world.runs()[0].user_messages == []


def copy_of(world, accepted, *, calls=()):
    """A conversation with an id of its own: prompt, tool call, and its file with these calls."""
    path = Path(accepted["transcript_path"]).with_name("copy.jsonl")
    own = {"session_id": "the-copy", "transcript_path": str(path)}
    prompt = world.payload(NEW, "auto", "UserPromptSubmit", **own)
    call = world.payload(NEW, "auto", "PreToolUse-Write-auto", **own)
    content = [{"type": "tool_use", "id": x, "name": "ExitPlanMode"} for x in calls]
    record = {"type": "assistant", "message": {"role": "assistant", "content": content}}
    return prompt, call, path, json.dumps(record) + "\n"


@pytest.mark.parametrize("written_first", [True, False])
def test_a_copy_of_a_latched_conversation_is_latched_too(world, written_first):
    """`/fork`, `/bg`, `--fork-session`: another id, the same plan; a person's word frees it.

    Its file is there before its first prompt, or comes after it.
    """
    accepted = world.payload(NEW, "auto", ACCEPTED)
    world.call(accepted)
    (run,) = world.runs()
    prompt, call, path, text = copy_of(world, accepted, calls=[accepted["tool_use_id"]])
    path.parent.mkdir(parents=True)
    if written_first:
        path.write_text(text)
    world.call(prompt)
    path.write_text(text)
    nobodys = world.speak(call, promptSource="system", isMeta=True)
    answer = world.call(nobodys)
    assert answer.code == 2
    assert run.id in answer.err
    assert world.call(world.speak(call)).silent
    assert world.marks() == {f"{x}/{run.session_id}" for x in ("latch", "note")}


@pytest.mark.parametrize("who", [{}, {"promptSource": "sdk"}], ids=["person", "program"])
@pytest.mark.parametrize("has_file", [True, False])
def test_another_conversation_is_left_alone_while_one_is_latched(world, who, has_file):
    """New ones, old ones, a person's and a program's: no call is refused, no mark stays."""
    accepted = world.payload(NEW, "auto", ACCEPTED)
    world.call(accepted)
    (run,) = world.runs()
    prompt, call, path, text = copy_of(world, accepted, calls=["toolu_of_another_plan"])
    if has_file:
        path.parent.mkdir(parents=True)
        path.write_text(text)
    assert world.call(prompt).silent
    turn = world.speak(call, **who)
    assert world.call(turn).silent
    assert world.call(turn).silent
    assert world.marks() == {f"{x}/{run.session_id}" for x in ("latch", "note")}


def test_a_persons_word_frees_a_conversation_for_good_though_a_copy_is_latched(world):
    """The copy holds the same call: the original, and a copy that was freed, stay free."""
    accepted = world.payload(NEW, "auto", ACCEPTED)
    world.call(accepted)
    (run,) = world.runs()
    prompt, call, path, text = copy_of(world, accepted, calls=[accepted["tool_use_id"]])
    world.call(prompt)
    path.parent.mkdir(parents=True)
    path.write_text(text)
    assert world.call(world.speak(call, promptSource="sdk")).code == 2
    own = {"session_id": run.session_id}
    original = world.payload(NEW, "auto", "PreToolUse-Write-auto", **own)
    Path(original["transcript_path"]).write_text(text)
    assert world.call(world.speak(original)).silent
    for who in ({}, {"promptSource": "system", "isMeta": True}):
        world.call(world.payload(NEW, "auto", "UserPromptSubmit", **own))
        assert world.call(world.speak(original, **who)).silent
    assert f"latch/{run.session_id}" not in world.marks()


FAILS = """\
import sys
sys.path.insert(0, sys.argv[1])
from plandock.hook import entry, transcript
def fail(*_args, **_more):
    raise RuntimeError("far enough")
transcript.began = fail
sys.exit(entry.main())
"""


def test_a_hook_that_fails_refuses_where_a_latch_stands(world):
    """Whatever goes wrong in it: a session that was handed off runs no tool; others go on."""
    world.accept()
    (run,) = world.runs()
    argv = [sys.executable, "-I", "-S", "-c", FAILS, str(world.package.parent)]
    call = world.payload(NEW, "auto", "PreToolUse-Write-auto", session_id=run.session_id)
    answer = world.call(call | {"prompt_id": "another"}, argv)
    assert answer.code == 2
    assert run.id in answer.err
    assert world.call(call | {"session_id": "another-session"}, argv).silent


def test_what_is_queued_after_the_hand_off_is_told_like_a_typed_word(world):
    """The user typed while a turn went on: the model hears what became of the plan."""
    accepted = world.payload(NEW, "auto", ACCEPTED)
    world.call(accepted)
    (run,) = world.runs()
    queue_up(Path(accepted["transcript_path"]), "how far is it?")
    prompt = world.payload(NEW, "auto", "UserPromptSubmit", session_id=run.session_id)
    context = world.call(prompt | {"prompt": "how far is it?"}).context
    assert "state: queued" in context
    assert "has not written" not in context


def test_a_new_conversation_that_is_never_written_down_is_left_alone(world):
    """Where the CLI keeps no conversation on the disk there is no copy either."""
    accepted = world.payload(NEW, "auto", ACCEPTED)
    world.call(accepted)
    prompt, call, *_ = copy_of(world, accepted)
    assert world.call(prompt).silent
    assert world.call(call).silent
    assert "latch/the-copy" not in world.marks()


def test_a_plan_that_is_proposed_in_a_persons_turn_is_remembered(world):
    """The latch goes and the proposal is noted by one and the same call."""
    world.accept()
    (run,) = world.runs()
    proposed = world.payload(NEW, "auto", PROPOSED, session_id=run.session_id)
    assert world.call(world.speak(proposed)).silent
    assert world.marks() == {f"note/{run.session_id}", f"proposed/{run.session_id}"}


@pytest.mark.parametrize("recorded", [True, False])
def test_a_prompt_after_a_hook_that_was_killed_hears_what_became_of_the_plan(world, recorded):
    """After the latch and before the note: that it was handed off, or that it was not.

    An earlier run of the same conversation is not taken for that of this plan.
    """
    begun = time.time()
    world.accept()
    (run,) = world.runs()
    prompt = world.payload(NEW, "auto", "UserPromptSubmit", session_id=run.session_id)
    world.call(prompt)
    at = begun if recorded else time.time() + 1.0
    marks.put(world.state / "latch", run.session_id, {"kind": "handing-off", "at": at})
    context = world.call(prompt).context
    assert ("NOT handed off" in context) is not recorded
    assert (run.id in context) is recorded
    assert (f"plandock run --session {run.session_id}" in context) is not recorded
    assert world.call(prompt).silent


def test_a_prompt_hears_of_its_run_though_the_store_was_damaged(world):
    """The hook, too, rebuilds a damaged store, from the runs' folders."""
    world.accept()
    (run,) = world.runs()
    for path in world.state.glob("plandock.db*"):
        path.unlink()
    (world.state / "plandock.db").write_bytes(b"not a database" * 100)
    prompt = world.payload(NEW, "auto", "UserPromptSubmit", session_id=run.session_id)
    assert "state: queued" in world.call(prompt).context
    assert world.runs() == [run]


def test_a_prompt_goes_through_with_a_broken_store(world):
    """A store that cannot be read keeps neither the prompt nor the latch."""
    world.accept()
    (run,) = world.runs()
    for path in world.state.glob("plandock.db*"):
        path.unlink()
    (world.state / "plandock.db.lock").mkdir()  # a folder in the store's place would be mended
    prompt = world.payload(NEW, "auto", "UserPromptSubmit", session_id=run.session_id)
    assert "state: unknown" in world.call(prompt).context
    assert world.marks() == {f"latch/{run.session_id}"}
    (world.state / "plandock.db.lock").rmdir()


def test_a_hand_off_in_a_linked_work_tree_records_whose_it_is(
    world: hooks.HookWorld, tmp_path: Path
) -> None:
    """Claude Code may remove the tree before the run has ended."""
    world.accept()
    linked = tmp_path / "linked"
    world.repo.git("worktree", "add", "-q", str(linked))
    world.accept(cwd=str(linked), tool_use_id="toolu_9")
    homes = {run.repo: run.git_home for run in world.runs()}
    root = str(world.repo.root)
    assert homes == {root: "", str(linked): root}
