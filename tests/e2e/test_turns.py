"""Every way in which a turn begins after a hand-off, with both real CLIs in a real terminal.

The model of these conversations would write a file on the host in each turn: none is there until a
person has written something after the hand-off.  `test_control_…` show that without plandock, or
with a person's word, the same call does write it.
"""

from __future__ import annotations

import contextlib
import functools
import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from plandock.runs.model import Run
from plandock.standin import (
    LOCAL_EXECUTION_FILE,
    Failure,
    Scene,
    Script,
    StandIn,
    ToolCall,
    Turn,
    planning_scene,
    write_file,
)
from tests.e2e.conftest import PLAN, scenes
from tests.support import claude_screen
from tests.support.laptop import Laptop
from tests.support.tmux import Tmux

pytestmark = [pytest.mark.timeout(1800), pytest.mark.e2e, pytest.mark.tmux]

HANDED_OFF = r"handed off as r\w+ → branch feature/auto"
AUTOMATIC = "auto mode|auto-accept"
BY_TASK, BY_SCHEDULE, BY_QUEUE, BY_PERSON = "TASK.txt", "SCHEDULE.txt", "QUEUED.txt", "PERSON.txt"
TICK = "it is time to go on"
QUEUED = "also add a changelog"
BY_COMMAND, COMMAND = "COMMAND.txt", "/hello"
NOT_UNTIL = "until the user writes again"


def writes(name: str, match: str) -> Scene:
    """A turn of the model that writes a file where it runs."""
    return Scene(f"writes {name}", (Turn("", (write_file(name, "x\n"),)), Turn("Done.")), match)


# In the box the end of the planning's shell comes in one message with the plan.
_on_task = writes(BY_TASK, r"^<task-notification>(?s:(?!sealed).)*$")
_on_schedule = writes(BY_SCHEDULE, f"^{TICK}")
LATER = (
    _on_task,
    # The newest's requests do not show what the end of a task said as a person's words: the model
    # goes on with the scene that it was in.
    Scene(_on_schedule.name, (*_on_schedule.turns, *_on_task.turns), _on_schedule.match),
    writes(BY_QUEUE, f"^{QUEUED}"),
    writes(BY_COMMAND, "do what the command says"),
    writes(BY_PERSON, r"^please look here"),
)


@pytest.fixture
def standin() -> Iterator[StandIn]:
    """The scripted model, with what it was asked."""
    with StandIn(scenes(), keep_bodies=True) as server:
        yield server
        assert server.errors == []


def play(standin: StandIn, *planning: Scene) -> None:
    """What the model does: its later turns, before the scenes of the plan."""
    standin.script = Script(scenes=(*LATER, *scenes(*planning).scenes))


def settle(laptop: Laptop, **more: Any) -> None:
    """The user's settings: the calls of these conversations are allowed while planning."""
    allowed = ["CronCreate", "Agent", "Task", "Bash"]
    settings = {"permissions": {"allow": allowed}, **more}
    (laptop.config / "settings.json").write_text(json.dumps(settings))


def bodies(standin: StandIn, scene: str) -> list[str]:
    """The requests of a scene, as text."""
    return [json.dumps(r.body) for r in standin.model_requests if r.scene == scene]


def written(laptop: Laptop) -> set[str]:
    """Which of the model's files are on the host."""
    names = (BY_TASK, BY_SCHEDULE, BY_QUEUE, BY_COMMAND, BY_PERSON, LOCAL_EXECUTION_FILE)
    return {name for name in names if (laptop.repo.root / name).exists()}


def lines_of(laptop: Laptop, *words: str) -> list[str]:
    """Lines of the conversation on the host, not of the box's, that hold all of these words."""
    session = laptop.standin.model_requests[0].session_id
    (file,) = laptop.config.glob(f"projects/*/{session}.jsonl")
    text = file.read_text(errors="replace")
    return [line for line in text.splitlines() if all(w in line for w in words)]


def until_called(laptop: Laptop, tmux: Tmux, name: str) -> str:
    """The id of the model's call that writes this file, as soon as it was made."""
    calls: list[str] = []

    def made() -> bool:
        for line in lines_of(laptop, '"type":"assistant"', '"tool_use"', name):
            content = json.loads(line)["message"]["content"]
            calls.extend(b["id"] for b in content if name in json.dumps(b.get("input")))
        return bool(calls)

    claude_screen.wait_until(tmux, made)
    return calls[0]


def background_scene(gate: Path) -> Scene:
    """A plan beside which a schedule and a shell are left at work."""
    shell = f"while [ ! -e {gate} ]; do sleep 0.2; done"
    calls: list[str | ToolCall] = [
        "README.md",
        ToolCall("CronCreate", {"cron": "* * * * *", "prompt": TICK, "recurring": False}),
        ToolCall("Bash", {"command": shell, "description": "Wait", "run_in_background": True}),
    ]
    planning = planning_scene(PLAN, calls, match="^Plan it please")
    load = ToolCall("ToolSearch", {"query": "select:CronCreate", "max_results": 1})
    first, *rest = planning.turns
    loading = Turn(calls=(load,), unless_offered="CronCreate", if_offered="ToolSearch")
    return Scene(planning.name, (first, loading, *rest), planning.match)


def test_neither_a_schedule_nor_a_task_that_ends_runs_a_tool_on_the_host(
    make_laptop: Callable[..., Laptop], standin: StandIn, claude_cli: Path, tmux: Tmux
) -> None:
    """Both begin a turn after the hand-off; its calls are refused, the model hears why."""
    laptop = make_laptop(claude_cli)
    gate = laptop.home / "gate"
    play(standin, background_scene(gate))
    settle(laptop)
    laptop.plandock("init", "--scope", "user")
    laptop.plan(tmux)
    claude_screen.choose(tmux, AUTOMATIC)
    tmux.wait_for(HANDED_OFF, claude_screen.PATIENCE_S)
    standin.wait_for(2, scene=f"writes {BY_SCHEDULE}", timeout_s=claude_screen.PATIENCE_S)
    told, refused = bodies(standin, f"writes {BY_SCHEDULE}")[:2]
    assert NOT_UNTIL in told
    assert "No tool may run here" in refused
    gate.touch()
    call = until_called(laptop, tmux, BY_TASK)
    claude_screen.wait_until(tmux, lambda: lines_of(laptop, call, "No tool may run here"))
    assert written(laptop) == set()
    claude_screen.ask(tmux, "please look here")
    standin.wait_for(2, scene=f"writes {BY_PERSON}", timeout_s=claude_screen.PATIENCE_S)
    assert written(laptop) == {BY_PERSON}
    assert "handed off as run" in bodies(standin, f"writes {BY_PERSON}")[0]
    # The box went on with a conversation in which a shell and a schedule were still open.
    assert_carried_out(laptop)


def test_control_without_plandock_a_task_that_ends_runs_its_tool_on_the_host(
    make_laptop: Callable[..., Laptop], standin: StandIn, claude_cli: Path, tmux: Tmux
) -> None:
    """The same conversation, its turn ended by another hook: the task's end writes the file."""
    laptop = make_laptop(claude_cli)
    gate = laptop.home / "gate"
    play(standin, background_scene(gate))
    stop = json.dumps({"continue": False, "stopReason": "stopped by a hook of its own"})
    hook = {"type": "command", "command": f"echo '{stop}'"}
    settle(laptop, hooks={"PostToolUse": [{"matcher": "ExitPlanMode", "hooks": [hook]}]})
    laptop.plan(tmux)
    claude_screen.choose(tmux, AUTOMATIC)
    tmux.wait_for("stopped by a hook", claude_screen.PATIENCE_S)
    gate.touch()
    claude_screen.wait_until(tmux, lambda: written(laptop))


def plan_and_queue(laptop: Laptop, tmux: Tmux, *prompts: str, **settings: Any) -> None:
    """Plan, and queue these prompts before the plan is shown."""
    standin, gate = laptop.standin, laptop.home / "gate"
    (laptop.config / "commands").mkdir()
    (laptop.config / "commands" / "hello.md").write_text("do what the command says\n")
    wait = {"type": "command", "command": f"while [ ! -e {gate} ]; do sleep 0.1; done"}
    hooks = {"PreToolUse": [{"matcher": "ExitPlanMode", "hooks": [wait]}]}
    settle(laptop, hooks=hooks, **settings)
    laptop.plandock("init", "--scope", "user")
    tmux.start([laptop.cli, "--permission-mode", "plan"], cwd=laptop.repo.root, env=laptop.env)
    tmux.wait_for(r"plan mode|for shortcuts", claude_screen.PATIENCE_S)
    claude_screen.ask(tmux, "Plan it please")
    claude_screen.wait_until(
        tmux, lambda: any("ExitPlanMode" in r.tools for r in standin.model_requests)
    )
    for prompt in prompts:
        claude_screen.ask(tmux, prompt)
        queued = functools.partial(lines_of, laptop, '"enqueue"', f'"{prompt}"')
        claude_screen.wait_until(tmux, queued)
    gate.touch()
    claude_screen.wait_for_plan(tmux)


def test_what_was_queued_while_planning_goes_to_the_box_and_runs_nothing_here(
    make_laptop: Callable[..., Laptop], standin: StandIn, claude_cli: Path, tmux: Tmux
) -> None:
    """Words and a command, typed before the dialog came up, submitted after the acceptance: the
    run gets them."""
    laptop = make_laptop(claude_cli)
    play(standin, planning_scene(PLAN, match="^Plan it please"))
    plan_and_queue(laptop, tmux, QUEUED, COMMAND)
    claude_screen.choose(tmux, AUTOMATIC)
    tmux.wait_for(HANDED_OFF, claude_screen.PATIENCE_S)
    laptop.plandock("wait", "last", "--timeout", "1200")
    (run,) = laptop.recorded()
    assert run.user_messages == [QUEUED, COMMAND]
    told = [r for r in standin.model_requests if r.session_id == run.box_session_id]
    for words in run.user_messages:
        assert f"<message>\\n{words}\\n</message>" in json.dumps(told[0].body)
    # They were submitted here, too, and nothing came of it.
    for call in [until_called(laptop, tmux, name) for name in (BY_QUEUE, BY_COMMAND)]:
        refused = functools.partial(lines_of, laptop, call, "No tool may run here")
        claude_screen.wait_until(tmux, refused)
    assert written(laptop) == set()
    claude_screen.ask(tmux, "please look here")
    claude_screen.wait_until(tmux, lambda: written(laptop))
    assert written(laptop) == {BY_PERSON}


def test_what_was_queued_runs_nothing_here_where_the_context_is_cleared(
    make_laptop: Callable[..., Laptop], standin: StandIn, claude_cli: Path, tmux: Tmux
) -> None:
    """Its turn begins before that of the plan, and under the old conversation's name still."""
    laptop = make_laptop(claude_cli)
    local = writes(LOCAL_EXECUTION_FILE, r"^Implement the following plan(?s:(?!sealed).)*$")
    play(standin, local, planning_scene(PLAN, match="^Plan it please"))
    # The newest may put the plan into this turn, which then has to go on.
    again = Turn("", (write_file(BY_QUEUE, "x\n"),))
    stubborn = Scene("stubborn", (again, again, again, Turn("Done.")), f"^{QUEUED}")
    standin.script = Script(scenes=(stubborn, *standin.script.scenes))
    plan_and_queue(laptop, tmux, QUEUED, showClearContextOnPlanAccept=True)
    claude_screen.choose(tmux, "clear context")
    claude_screen.wait_until(tmux, laptop.recorded)
    (run,) = laptop.recorded()
    laptop.plandock("stop", run.id, "--now")
    assert (run.trigger, run.user_messages) == ("cleared", [QUEUED])
    assert bodies(standin, stubborn.name)
    assert written(laptop) == set()


def test_a_copy_of_the_conversation_is_latched_until_a_person_writes_in_it(
    make_laptop: Callable[..., Laptop], standin: StandIn, claude_cli: Path, tmux: Tmux
) -> None:
    """`--fork-session`, as `/bg` and `/fork` do it: a session of its own, of the same plan."""
    laptop = make_laptop(claude_cli)
    play(standin, planning_scene(PLAN, match="^Plan it please"))
    laptop.plandock("init", "--scope", "user")
    laptop.plan(tmux)
    claude_screen.choose(tmux, AUTOMATIC)
    tmux.wait_for(HANDED_OFF, claude_screen.PATIENCE_S)
    session = standin.model_requests[0].session_id
    copy = [str(laptop.cli), "--resume", session, "--fork-session"]
    copy += ["--permission-mode", "acceptEdits"]
    # A program asks first: that is nobody's word.
    words = [*copy, "-p", "please look here"]
    subprocess.run(
        words, cwd=laptop.repo.root, env=laptop.env, stdin=subprocess.DEVNULL, check=True
    )
    assert "No tool may run here" in bodies(standin, f"writes {BY_PERSON}")[-1]
    assert written(laptop) == set()
    with contextlib.closing(Tmux()) as other:
        other.start(copy, cwd=laptop.repo.root, env=laptop.env)
        other.wait_for(r"accept edits|for shortcuts", claude_screen.PATIENCE_S)
        claude_screen.ask(other, "please look here")
        claude_screen.wait_until(other, lambda: written(laptop))
    assert written(laptop) == {BY_PERSON}


def assert_carried_out(laptop: Laptop) -> Run:
    """One run, whose box did what the plan says."""
    laptop.plandock("wait", "last", "--timeout", "1200")
    (run,) = laptop.recorded()
    assert "Goodbye" in laptop.repo.git("show", "feature/auto:src/farewell.py")
    return run


def clearing(laptop: Laptop, standin: StandIn, tmux: Tmux, *first: Turn) -> None:
    """Accept a plan with cleared context; `first` is how the new conversation's model begins."""
    turns = (*first, Turn("", (write_file(LOCAL_EXECUTION_FILE, "x\n"),)), Turn("Done."))
    local = Scene("local", turns, r"^Implement the following plan(?s:(?!sealed).)*$")
    standin.script = Script(scenes=(local, *scenes().scenes))
    settle(laptop, showClearContextOnPlanAccept=True)
    laptop.plandock("init", "--scope", "user")
    laptop.plan(tmux)
    claude_screen.choose(tmux, "clear context")
    standin.wait_for(1, scene="local", timeout_s=claude_screen.PATIENCE_S)


def assert_handed_off_from_a_cleared_conversation(laptop: Laptop, tmux: Tmux) -> None:
    """One run, of the cleared conversation, with what the user wrote; nothing ran here."""
    claude_screen.wait_until(tmux, laptop.recorded)
    run = assert_carried_out(laptop)
    assert (run.trigger, run.user_messages) == ("cleared", ["go on"])
    assert written(laptop) == set()


def test_a_cleared_conversation_whose_first_answer_is_words_hands_off_later(
    make_laptop: Callable[..., Laptop], standin: StandIn, claude_cli: Path, tmux: Tmux
) -> None:
    """The model asks, the user writes "go on": the plan is carried out in the box."""
    laptop = make_laptop(claude_cli)
    clearing(laptop, standin, tmux, Turn("Shall I begin?"))
    tmux.wait_for(r"Shall I begin\?", claude_screen.PATIENCE_S)
    claude_screen.ask(tmux, "go on")
    assert_handed_off_from_a_cleared_conversation(laptop, tmux)


def test_a_cleared_conversation_that_esc_broke_off_hands_off_later(
    make_laptop: Callable[..., Laptop], standin: StandIn, claude_cli: Path, tmux: Tmux
) -> None:
    """Esc before the first answer, then "go on": the plan is carried out in the box."""
    laptop = make_laptop(claude_cli)
    standin.inject(Failure("silence", scene="local", silent_s=1200.0))
    clearing(laptop, standin, tmux)
    claude_screen.press_until(tmux, "Escape", lambda screen: "Interrupted" in screen)
    claude_screen.ask(tmux, "go on")
    assert_handed_off_from_a_cleared_conversation(laptop, tmux)


def test_a_cleared_conversation_that_met_a_limit_first_hands_off_later(
    make_laptop: Callable[..., Laptop], standin: StandIn, claude_cli: Path, tmux: Tmux
) -> None:
    """The first request is refused for a usage limit; then "go on": carried out in the box."""
    laptop = make_laptop(claude_cli)
    standin.inject(Failure("usage_limit", scene="local", times=1, reset_in_s=36000.0))
    clearing(laptop, standin, tmux)
    tmux.wait_for("You've hit your", claude_screen.PATIENCE_S)
    if claude_cli.parent.name == "2.1.197":  # it asks what is to be done
        claude_screen.wait_for_options(tmux)
        claude_screen.dismiss(tmux)
    claude_screen.ask(tmux, "go on")
    assert_handed_off_from_a_cleared_conversation(laptop, tmux)


@pytest.mark.parametrize("claude_cli", ["newest"], indirect=True)
def test_the_clis_own_going_on_after_a_limit_runs_no_tool_on_the_host(
    make_laptop: Callable[..., Laptop], standin: StandIn, claude_cli: Path, tmux: Tmux
) -> None:
    """A task's end meets a limit after the hand-off; 2.1.332 goes on when it is over."""
    laptop = make_laptop(claude_cli)
    gate = laptop.home / "gate"
    play(standin, background_scene(gate))
    settle(laptop)
    laptop.plandock("init", "--scope", "user")
    laptop.plan(tmux)
    claude_screen.choose(tmux, AUTOMATIC)
    tmux.wait_for(HANDED_OFF, claude_screen.PATIENCE_S)
    assert_carried_out(laptop)
    standin.inject(Failure("usage_limit", times=1, reset_in_s=5.0))
    gate.touch()
    tmux.wait_for("You've hit your", claude_screen.PATIENCE_S)
    refused = len(lines_of(laptop, "No tool may run here", '"tool_result"'))
    claude_screen.wait_until(tmux, lambda: lines_of(laptop, '"auto-continuation"'))
    claude_screen.wait_until(
        tmux, lambda: len(lines_of(laptop, "No tool may run here", '"tool_result"')) > refused
    )
    assert written(laptop) == set()
