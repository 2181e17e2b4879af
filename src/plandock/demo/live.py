"""The demo with the user's own login: their Claude Code on their terminal, a sample repository."""

from __future__ import annotations

import sys
from collections.abc import Callable

from plandock import proc
from plandock.demo import sample
from plandock.demo.narration import Narrator
from plandock.demo.world import World, narrate_commands
from plandock.errors import PlandockError, UsageError
from plandock.runs.model import Run

_EXCLUDED = ".claude/settings.local.json"


def check_terminal() -> None:
    """Raise :class:`UsageError` where there is nobody at a terminal to accept a plan."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError(
            "a live demo needs a terminal: it is you who accepts the plan",
            hint="run it in a terminal, or without --live",
        )


def tell(narrator: Narrator, world: World, finish: Callable[[Narrator, World, Run], None]) -> None:
    """Let the user plan and accept, then narrate the run.

    The run, its branch and the folder are the user's own and stay; how to remove them is said.
    Raises :class:`PlandockError` when no plan was accepted.
    """
    narrator.say("This is live: your own login, your own usage, a sample repository.")
    # Wired in the sample alone, so that the user's settings stay as they are; the file is kept
    # out of git's sight, or it would travel into the snapshot.
    with open(world.repo / ".git/info/exclude", "a", encoding="utf-8") as file:
        file.write(f"/{_EXCLUDED}\n")
    narrator.step("Wire plandock into Claude Code, for the sample alone")
    narrate_commands(narrator, world, ("init", "--scope", "local"))
    narrator.step("Your turn")
    narrator.say("   Claude Code starts in plan mode with a prompt.  It asks whether you trust the")
    narrator.say(
        "   sample folder, whose hooks are plandock's: choose yes.  Read the plan, accept it"
    )
    narrator.say("   with the first choice, see the hand-off message, then leave with /exit.")
    try:
        input("   Press Enter to start. ")
    except EOFError:
        raise UsageError("nobody is at the terminal") from None
    program = world.env["PLANDOCK_CLAUDE"]
    argv = [program, "--permission-mode", "plan", sample.PROMPT]
    proc.attached(argv, env=world.env, cwd=world.repo)
    run = world.find_run()
    if run is None:
        raise PlandockError(
            "no plan was handed off",
            hint="run it again: trust the folder, accept the plan with its first choice",
        )
    narrator.fact("handed off as", f"{run.id}, to arrive on branch {run.branch}")
    finish(narrator, world, run)
    narrator.say("")
    narrator.say(f"It is yours to look at: {world.repo}")
    narrator.say(f"When you are done: plandock drop {run.id}; then remove {world.folder}")
