"""`plandock demo`: from a machine with an engine to a finished hand-off, told in the terminal.

The model is scripted and no account is used; Claude Code, git, the engine and plandock are real.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from plandock import git, settings
from plandock.claude import binary
from plandock.claude.redact import redact
from plandock.demo import live as with_login
from plandock.demo import sample
from plandock.demo.narration import Narrator
from plandock.demo.terminal import Terminal
from plandock.demo.world import World, narrate_commands
from plandock.engines import detect
from plandock.errors import PlandockError
from plandock.runs.model import Run, State
from plandock.standin import LOCAL_EXECUTION_FILE, StandIn

_START_S, _PLAN_S, _HAND_OFF_S, _RUN_S = 180.0, 180.0, 180.0, 900.0
# A key pressed as soon as the dialog shows is lost on 2.1.330 (measured).
_READING_S = 1.5
_BEFORE_KEY_S = 0.3
_DIALOG = "Would you like to proceed"


@dataclass(frozen=True)
class Before:
    """The repository as it was before the plan was accepted."""

    head: str
    branch: str
    status: str

    @classmethod
    def of(cls, repo: Path) -> Before:
        """As it is now."""
        return cls(
            git.line(repo, "rev-parse", "HEAD"),
            git.line(repo, "symbolic-ref", "--short", "HEAD"),
            git.git(repo, "status", "--porcelain", "--untracked-files=all", "--ignored").text,
        )


@dataclass(frozen=True)
class _Moment:
    """The acceptance: what was before it, whose requests are the laptop's, and where in the
    stand-in's list of requests the key was pressed and the hand-off was shown."""

    before: Before
    sessions: frozenset[str]
    pressed: int
    shown: int


def tell(*, live: bool = False) -> int:
    """Run the demo; returns the exit code.

    Leaves nothing behind, except the folder after a failure (it says where), and what a live
    demo made, which is the user's own.
    """
    narrator = Narrator()
    with _termination_unwinds():
        try:
            world = _prepare(narrator, live)
        except (PlandockError, OSError, KeyboardInterrupt, SystemExit) as error:
            return _told(narrator, error)
        code = 0
        try:
            if live:
                with_login.tell(narrator, world, _finish)
            else:
                _scripted(narrator, world)
        except (PlandockError, OSError, KeyboardInterrupt, SystemExit) as error:
            code = _told(narrator, error)
        if live:
            # The run and its branch are the user's own, paid for by them.
            if code:
                narrator.say(f"The folder stays: {world.folder}")
            return code
        failed = code not in (0, 130, 128 + signal.SIGTERM, 128 + signal.SIGHUP)
        left = _take_away(narrator, world, keep=failed)
        return code or left


def _told(narrator: Narrator, error: BaseException) -> int:
    """Say why the story ends early; returns the exit code."""
    match error:
        case PlandockError():
            narrator.trouble(redact(error.message), redact(error.hint))
            return error.exit_code
        case OSError():
            narrator.trouble(f"the machine would not: {redact(str(error))}", "")
            return 1
        case SystemExit():
            code = error.code if isinstance(error.code, int) else 1
        case _:
            code = 130
    narrator.say("\ninterrupted; taking everything away …")
    return code


def _take_away(narrator: Narrator, world: World, *, keep: bool) -> int:
    """End what runs and remove what is there; 1 when something stays that should not."""
    with _no_interruption():
        left = world.clear(keep_folder=keep)
    if keep:
        narrator.say(f"The folder is kept, with logs and screens: {world.folder}")
    for what in left:
        narrator.trouble(f"this could not be removed: {what}", "remove it by hand")
    return 1 if left else 0


def _prepare(narrator: Narrator, live: bool) -> World:
    narrator.say("plandock: accept a plan here; it is carried out in a sealed container;")
    narrator.say("a branch comes back, and nothing else.")
    if live:
        with_login.check_terminal()
    else:
        narrator.say("")
        narrator.say("Claude Code, git and the container engine in this demo are real.  The model")
        narrator.say("is not: a script on this machine answers in its place.  No account is used,")
        narrator.say("nothing is billed, and your own home folder is left alone.")
    narrator.step("This machine")
    own = settings.load(repo=None)
    engine = detect.choose(own.engine)
    program = binary.find_claude(os.environ)
    version = binary.version_of(program)
    narrator.fact("engine", f"{engine.name} {engine.ping()}")
    narrator.fact("Claude Code", version)
    # In the user's own environment: it is their package clients that know where the CLI for the
    # image comes from, and an image that is there already is taken.
    from plandock.box import image

    began = time.monotonic()
    narrator.say("   The box's image (the first time it is built, which takes a while):")
    name = image.ensure_image(
        engine, cli_version=version, base=own.image, node=own.node, progress=narrator.line
    )
    narrator.fact("image", f"{name} ({time.monotonic() - began:.1f} s)")
    world = World(engine, live=live)
    world.env["PLANDOCK_CLAUDE"] = str(program)
    try:
        narrator.step("A sample repository")
        sample.make_repository(world.repo)
    except BaseException:
        world.clear(keep_folder=False)
        raise
    narrator.fact("folder", str(world.repo))
    narrator.fact("files", ", ".join(sample.FILES))
    return world


def _scripted(narrator: Narrator, world: World) -> None:
    sample.make_home(world.home, world.repo)
    log = world.folder / "requests.jsonl"
    with StandIn(sample.script(), log=log) as standin:
        world.env["PLANDOCK_UPSTREAM"] = standin.url
        narrator.fact("the scripted model listens on", standin.url)
        narrator.step("Wire plandock into Claude Code")
        narrate_commands(narrator, world, ("init", "--scope", "user"))
        with contextlib.closing(Terminal()) as terminal:
            try:
                run, moment = _accept(narrator, world, standin, terminal)
            finally:
                screen = terminal.screen()
                (world.folder / "screen.txt").write_text(screen + "\n", encoding="utf-8")
            narrator.step("The laptop, now")
            _untouched(narrator, world, moment, standin)
            _finish(narrator, world, run)
            narrator.step("The laptop, after all of it")
            _untouched(narrator, world, moment, standin)
            boxed = [r for r in standin.model_requests if r.session_id not in moment.sessions]
            narrator.fact("model requests from the box", str(len(boxed)))
            if not boxed or standin.errors:
                raise PlandockError(f"the scripted model was not asked well: {standin.errors}")
        narrator.step("Clean up")
        narrate_commands(narrator, world, ("drop", "last", "--yes"))
    narrator.say("")
    narrator.say("That was it.  With your own login: plandock init, then accept a plan; or")
    narrator.say("plandock demo --live.  Nothing of this demo stays on your machine but the image.")


def _accept(
    narrator: Narrator, world: World, standin: StandIn, terminal: Terminal
) -> tuple[Run, _Moment]:
    """Plan and accept in the real CLI; returns the run and the moment of acceptance."""
    narrator.step("Plan with the real Claude Code")
    env = {
        **{k: v for k, v in world.env.items() if k != "PYTHONUSERBASE"},
        "ANTHROPIC_BASE_URL": standin.url,
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_AUTOUPDATER": "1",
    }
    narrator.command("claude --permission-mode plan")
    program = world.env["PLANDOCK_CLAUDE"]
    terminal.start([program, "--permission-mode", "plan"], cwd=world.repo, env=env)
    terminal.wait_for(r"(?i)plan mode", what="Claude Code's prompt", timeout_s=_START_S)
    time.sleep(0.5)
    narrator.say(f"   typed: {sample.PROMPT}")
    terminal.type(sample.PROMPT)
    terminal.wait_for(re.escape(sample.PROMPT), what="the prompt", timeout_s=_START_S)
    _press_until(terminal, "Enter", lambda: bool(standin.model_requests))
    terminal.wait_for(_DIALOG, what="the proposed plan", timeout_s=_PLAN_S)
    time.sleep(_READING_S)
    narrator.screen(terminal.screen())

    narrator.step("Accept it: press 1")
    before = Before.of(world.repo)
    sessions = frozenset(r.session_id for r in standin.requests if r.session_id)
    pressed = len(standin.requests)
    began = time.monotonic() + _BEFORE_KEY_S
    _press_until(terminal, "1", lambda: _DIALOG not in terminal.screen())
    shown = terminal.wait_for(
        r"handed off as r\w+|could not hand the plan off",
        what="the hand-off",
        timeout_s=_HAND_OFF_S,
    )
    took = time.monotonic() - began
    moment = _Moment(before, sessions, pressed, len(standin.requests))
    narrator.screen(shown)
    run = world.find_run()
    if run is None:
        raise PlandockError("the plan was not handed off", hint="the screen above says why")
    narrator.fact("handed off as", f"{run.id}, to arrive on branch {run.branch}")
    narrator.fact("from the key to the message", f"{took:.1f} s")
    return run, moment


def _press_until(terminal: Terminal, key: str, taken: Callable[[], bool]) -> None:
    """Press a key, again where it got lost: a busy machine may take it for a part of a paste."""
    for _ in range(5):
        time.sleep(_BEFORE_KEY_S)
        terminal.press(key)
        until = time.monotonic() + 10.0
        while time.monotonic() < until:
            if taken():
                return
            time.sleep(0.05)


def _untouched(narrator: Narrator, world: World, moment: _Moment, standin: StandIn) -> None:
    """Show that nothing happened here since; raises :class:`PlandockError` where it did."""
    now = Before.of(world.repo)
    ran_here = (world.repo / LOCAL_EXECUTION_FILE).exists()
    since = [r for r in standin.requests[moment.pressed :] if r.session_id in moment.sessions]
    steps = [r for r in since if r.scene]
    late = [r for r in standin.requests[moment.shown :] if r.session_id in moment.sessions]
    same = ", as before" if now == moment.before else ""
    narrator.fact("git status", now.status.strip() or "clean")
    narrator.fact("HEAD", f"{now.branch} at {now.head[:12]}{same}")
    narrator.fact("tool calls run here since acceptance", "1" if ran_here else "0")
    narrator.fact("model requests from here since acceptance", str(len(steps)))
    if titles := len(since) - len(steps):
        # Not a step of the plan: it has no tools, and leaves with the key press, before any hook.
        narrator.fact("… beside them, to name the conversation", str(titles))
    if not same or ran_here or steps or late:
        raise PlandockError("the laptop was not left alone; that is a fault in plandock")


def _finish(narrator: Narrator, world: World, run: Run) -> None:
    """Follow the run to its end and show what came back."""
    narrator.step("Follow the box")
    narrator.command(f"plandock logs {run.id} -f")
    for line in world.stream("logs", run.id, "-f", timeout_s=_RUN_S):
        narrator.line(line)
    narrator.command(f"plandock wait {run.id}")
    ended = world.plandock("wait", run.id, "--timeout", "60", check=False)
    narrator.output(ended.text)
    found = world.find_run()
    if not ended.ok or found is None or found.state is not State.DONE or not found.commits:
        why = found.message if found else ""
        raise PlandockError(
            f"{run.id} did not end well (exit code {ended.returncode}): {why or ended.complaint}",
            hint=found.hint if found else "",
        )
    narrator.step("What came back: a branch")
    log = ("log", "--oneline", "--graph", "--decorate", "--branches")
    narrator.command("git " + " ".join(log))
    narrator.output(git.git(world.repo, *log).text)
    narrate_commands(narrator, world, ("diff", run.id, "--stat"))
    narrator.step("The receipt")
    narrate_commands(narrator, world, ("receipt", run.id))
    if not world.live:
        narrator.say("   (The login here is made up, of the kind of a subscription: nobody paid.)")


@contextlib.contextmanager
def _termination_unwinds() -> Iterator[None]:
    """Let SIGTERM and SIGHUP unwind like Ctrl-C, so that nothing is left behind."""

    def unwind(number: int, _: FrameType | None) -> None:
        sys.exit(128 + number)

    kept = {s: signal.signal(s, unwind) for s in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _no_interruption() -> Iterator[None]:
    """Let an impatient second Ctrl-C not cut the clean-up short; it takes seconds."""
    kept = {
        s: signal.signal(s, signal.SIG_IGN) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
