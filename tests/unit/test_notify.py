"""How the user hears of a run's end: once by each way, and no text of a plan ever is a script."""

from __future__ import annotations

import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from plandock import paths
from plandock.notify import bell, desktop, news
from plandock.runs import marks, terminal
from plandock.runs.model import Run, RunId, State
from plandock.runs.store import Store
from plandock.supervisor import telling
from tests.support import hooks

HOSTILE = '"; touch /tmp/owned; $(id) \x1b]0;x\x07<b>&'
SESSION = "5d9a7a2e-1111-4222-8333-444455556666"


@pytest.fixture
def tools(tmp_path, monkeypatch):
    """A fake `notify-send` first on PATH that records its arguments, and a display."""
    folder = tmp_path / "tools"
    folder.mkdir()
    seen = tmp_path / "seen.jsonl"
    recorder = folder / "notify-send"
    recorder.write_text(
        f"#!{sys.executable}\nimport json, sys\n"
        f"open({str(seen)!r}, 'a').write(json.dumps(sys.argv[1:]) + '\\n')\n"
    )
    recorder.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("DISPLAY", ":0")
    return seen


@pytest.fixture
def add(repo):
    """Record a run; its record says which way to tell of it."""

    def record(state: State = State.DONE, **values) -> Run:
        made = Run(
            id=RunId("r222"), state=state, repo=str(repo.root), cwd=str(repo.root),
            handoff_key="r222", created_at="2026-01-02T03:04:05.000Z", attempt=1,
            **{"commits": 2, "plan_title": "Greet", "session_id": SESSION, **values},
        )  # fmt: skip
        with Store() as store:
            return store.add(made, name_branch=lambda _: "feature/auto")[0]

    return record


def lines(path) -> list:
    """What a recorder has seen."""
    return [json.loads(x) for x in path.read_text().splitlines()] if path.exists() else []


@pytest.mark.skipif(sys.platform == "darwin", reason="notify-send is Linux's")
def test_the_texts_are_single_arguments_and_markup_is_escaped(tools, add):
    """A title full of quotes, escapes and tags arrives as one argument after `--`; once."""
    add(plan_title=HOSTILE)
    for _ in range(2):
        telling.tell("r222")
    assert len(lines(tools)) == 1
    argv = lines(tools)[0]
    assert argv[:3] == ["--app-name=plandock", "--", "plandock: r222 is done"]
    assert len(argv) == 4
    assert argv[3] == '"; touch /tmp/owned; $(id) &lt;b&gt;&amp;: 2 commit(s) on feature/auto'


def test_without_a_display_nothing_is_started(tools, add, monkeypatch):
    """No session, no program."""
    monkeypatch.delenv("DISPLAY")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    add()
    telling.tell("r222")
    assert lines(tools) == []


def test_on_a_mac_the_script_is_constant_and_the_texts_are_its_arguments():
    """`osascript` gets three fixed lines, then the texts."""
    argv = desktop.command("title", HOSTILE, "darwin", {})
    assert argv[:7:2] == ["/usr/bin/osascript", "on run argv", argv[4], "end run"]
    assert "owned" not in "".join(argv[:7])
    assert argv[7] == "title"
    assert argv[8].startswith('"; touch')
    assert desktop.command("title", "body", "darwin", {"SSH_CONNECTION": "x"}) == []


def test_the_users_command_gets_the_run_and_the_event(tools, add, tmp_path):
    """The run as JSON on standard input, PLANDOCK_EVENT beside it, once for each event."""
    seen = tmp_path / "command.jsonl"
    script = (
        "import json,os,sys; open(sys.argv[1],'a').write(json.dumps("
        "[os.environ['PLANDOCK_EVENT'], json.load(sys.stdin)['id']])+'\\n')"
    )
    words = [sys.executable, "-c", script, str(seen)]
    add(State.WAITING, reason="login", settings={"notify": words})
    telling.tell("r222")
    telling.tell("r222")
    with Store() as store:
        store.move("r222", State.WAITING, State.FAILED, reason="agent")
    telling.tell("r222")
    assert lines(seen) == [["login", "r222"], ["failed", "r222"]]


def test_a_command_that_is_missing_is_a_line_in_the_log(tools, add, capsys):
    """The run's end stands, whatever the command is."""
    add(settings={"notify": ["/nonexistent/program"]})
    telling.tell("r222")
    assert "/nonexistent/program" in capsys.readouterr().out


def test_the_bell_rings_on_the_very_terminal_and_on_nothing_else(tmp_path, monkeypatch):
    """One BEL to a terminal of the user's; none to a file, or where it is another one now."""
    ours, theirs = os.openpty()
    try:
        path = os.ttyname(theirs)
        found = os.stat(path)
        known = {"path": path, "device": found.st_rdev, "owner": found.st_uid}
        assert bell.ring(known)
        assert os.read(ours, 10) == b"\a"
        assert not bell.ring({**known, "device": found.st_rdev + 1})
        assert not bell.ring({**known, "owner": found.st_uid + 1})
        file = tmp_path / "file"
        file.write_text("")
        assert not bell.ring({**known, "path": str(file)})
        assert file.read_text() == ""
        os.dup2(theirs, (spare := os.dup(theirs)))
        monkeypatch.setattr(os, "ttyname", lambda _: path)
        assert terminal.here() == known
        os.close(spare)
    finally:
        os.close(ours)
        os.close(theirs)


def ended(world: hooks.HookWorld, **changes) -> Run:
    """The world's run has come to its end, as its supervisor would tell."""
    run = world.runs()[0]
    with Store(world.state / "plandock.db") as store:
        store.change(run.id, commits=2, outcome="All done \x1b[2J now.", attempt=1, **changes)
        for source, target in (
            (State.QUEUED, State.STAGING),
            (State.STAGING, State.RUNNING),
            (State.RUNNING, State.HARVESTING),
            (State.HARVESTING, State.DONE),
        ):
            store.move(run.id, source, target)
    return run


def prompt(world: hooks.HookWorld) -> hooks.Answer:
    """The user speaks to the session that handed its plan off."""
    session = world.runs()[0].session_id
    name = "UserPromptSubmit"
    return world.call(
        {"hook_event_name": name, "session_id": session, "cwd": str(world.repo.root), "prompt": "?"}
    )


def test_the_next_prompt_after_the_end_carries_the_outcome_once(world):
    """The hand-off was told while the run went; its end is told by the prompt after it."""
    world.accept()
    assert "handed off as run" in prompt(world).context
    run = ended(world)
    assert paths.state_dir() == world.state
    telling.tell(run.id)
    telling.tell(run.id)
    told = prompt(world).context
    assert f"run {run.id}" in told
    assert "has ended: done" in told
    assert "2 commit(s) are on the local branch feature/auto" in told
    assert "All done now." in told
    assert "handed off as run" not in told
    assert prompt(world).silent


def test_a_hand_offs_own_unread_note_tells_the_outcome_and_no_second_one_does(world):
    """Nobody spoke meanwhile: one prompt has both, and the next none."""
    world.accept()
    run = ended(world)
    telling.tell(run.id)
    told = prompt(world).context
    assert "handed off as run" in told
    assert told.count("has ended: done") == 1
    assert prompt(world).silent


def test_an_end_that_the_prompt_saw_first_is_not_told_again(world):
    """The prompt came between the run's end and its supervisor's note."""
    world.accept()
    run = ended(world)
    assert "has ended: done" in prompt(world).context
    telling.tell(run.id)
    assert prompt(world).silent


def test_an_unread_outcome_survives_the_next_hand_off(world):
    """A plan that is accepted before the user spoke again does not cover the first one's end."""
    world.accept()
    prompt(world)
    first = ended(world)
    telling.tell(first.id)
    world.accept(tool_use_id="another")
    note = marks.get(paths.note_dir(), first.session_id) or {}
    assert note["outcomes"] == [first.id]
    told = prompt(world).context
    assert f"run {first.id}" in told
    assert "has ended: done" in told
    assert f"handed off as run {note['run']}" in told


def test_two_runs_of_one_conversation_that_end_at_once_are_both_told_of(add, monkeypatch):
    """Each reads the note, adds itself and writes it; neither writes over the other."""
    made = add()
    runs = [replace(made, id=RunId(f"r33{n}"), handoff_key=f"k{n}") for n in range(4)]
    with Store() as store:
        for run in runs:
            store.add(run, name_branch=lambda _: "b")
    real = marks.put

    def slowly(*words):
        time.sleep(0.05)
        real(*words)

    monkeypatch.setattr(marks, "put", slowly)
    monkeypatch.setattr(marks, "_PATIENCE_S", 120.0)

    def leave(run):
        with Store() as store:
            assert news.leave(store, run)

    with ThreadPoolExecutor(len(runs)) as pool:
        list(pool.map(leave, runs))
    note = marks.get(paths.note_dir(), SESSION)
    assert note is not None
    assert sorted(note["outcomes"]) == [run.id for run in runs]
