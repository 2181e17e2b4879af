"""Ready scenes: a plan being made, a plan being carried out, and the positive control.

Neither CLI version measured here offers Glob or Grep on Linux, so exploration is Read alone.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

from plandock.standin.script import Scene, ToolCall, Turn

#: What a prompt says when a plan is to be carried out; "Implement the following plan:" is how
#: Claude Code itself begins a cleared conversation (facts, section 1).
EXECUTION_MATCH = r"(?i)\b(carry(ing)? out|implement|execute)\b.{0,40}\bplan\b"

#: The file whose existence on the host says: the model went on there.
LOCAL_EXECUTION_FILE = "LOCAL_EXECUTION.txt"


def read_file(path: str) -> ToolCall:
    """Read a file, relative to the working directory or absolute."""
    return ToolCall("Read", {"file_path": _placed(path)})


def write_file(path: str, content: str) -> ToolCall:
    """Write a file. The CLI refuses this for an existing file that was not read before."""
    return ToolCall("Write", {"file_path": _placed(path), "content": content})


def edit_file(path: str, old: str, new: str) -> ToolCall:
    """Replace `old` by `new`; `execution_scene` reads the file first, as the CLI demands."""
    return ToolCall("Edit", {"file_path": _placed(path), "old_string": old, "new_string": new})


def bash(
    command: str, description: str = "Run a command", *, timeout_s: float | None = None
) -> ToolCall:
    """Run a command line in the CLI's own shell, in the working directory.

    Without ``timeout_s`` (at most 600) the CLI ends it after two minutes of its own (seen).
    """
    given: dict[str, Any] = {"command": command, "description": description}
    if timeout_s is not None:
        given["timeout"] = int(timeout_s * 1000)
    return ToolCall("Bash", given)


def commit(message: str) -> ToolCall:
    """Commit everything in the working directory's repository."""
    quoted = shlex.quote(message)
    return bash(f"git add -A && git commit -q -m {quoted}", "Commit the work")


def local_execution() -> Turn:
    """The positive control: without plandock, an approved plan leads to this call on the host."""
    return Turn(
        text="The plan is approved; I start with it here.",
        calls=(write_file(LOCAL_EXECUTION_FILE, "a tool call ran on the host\n"),),
        needs_ok="ExitPlanMode",
        otherwise="I wait for what to change.",
    )


def local_execution_scene(
    name: str = "local", *, match: str = r"^Implement the following plan"
) -> Scene:
    """The positive control for a cleared conversation, which starts from the plan's text."""
    call = write_file(LOCAL_EXECUTION_FILE, "a tool call ran on the host\n")
    return Scene(name, (Turn("I start.", (call,)), Turn("Done on the host.")), match)


def planning_scene(
    plan_markdown: str,
    reads: Sequence[str | ToolCall] = ("README.md",),
    *,
    name: str = "plan",
    match: str = "",
    siblings: Sequence[ToolCall] = (),
    extra_reads: int = 0,
    continuation: Sequence[Turn] | None = None,
) -> Scene:
    """A planning conversation that ends with ExitPlanMode.

    It reads each of `reads` (a path, or any tool call), then `extra_reads` more times the first
    of them, writes the plan file that the CLI names, loads ExitPlanMode through ToolSearch where
    that is how it is offered, and calls it with `siblings` beside it in the same message.
    `continuation` (default: `local_execution()` and a closing text) is what follows an approval.
    """
    calls = [read_file(item) if isinstance(item, str) else item for item in reads]
    again = calls[0] if calls else read_file("README.md")
    calls += [again] * extra_reads
    turns = [
        Turn("Let me look at the project." if n == 0 else "", (call,))
        for n, call in enumerate(calls)
    ]
    turns += [
        Turn(
            "I write the plan down.",
            (ToolCall("Write", {"file_path": "{plan_file}", "content": plan_markdown}),),
        ),
        Turn(
            calls=(ToolCall("ToolSearch", {"query": "select:ExitPlanMode", "max_results": 1}),),
            unless_offered="ExitPlanMode",
            if_offered="ToolSearch",
        ),
        Turn(calls=(ToolCall("ExitPlanMode", {}, {"plan": plan_markdown}), *siblings)),
    ]
    if continuation is None:
        continuation = (local_execution(), Turn("Done on the host."))
    return Scene(name, (*turns, *continuation), match)


def execution_scene(
    steps: Sequence[ToolCall | Turn | str],
    *,
    name: str = "execute",
    match: str = EXECUTION_MATCH,
    final: str = "The plan is carried out.",
) -> Scene:
    """A plan being carried out: one turn for each step, then `final`.

    A string is a text-only turn, which ends the CLI's turn there. An Edit of a file that the
    scene has neither read nor written yet is preceded by its Read.
    """
    turns: list[Turn] = []
    known: set[object] = set()
    for step in steps:
        turn = (
            step
            if isinstance(step, Turn)
            else (Turn(step) if isinstance(step, str) else Turn(calls=(step,)))
        )
        for call in turn.calls:
            path = call.input.get("file_path")
            if call.name == "Edit" and path not in known:
                turns.append(Turn(calls=(ToolCall("Read", {"file_path": path}),)))
            known.add(path)
        turns.append(turn)
    return Scene(name, (*turns, Turn(final)), match)


def _placed(path: str) -> str:
    """Anchor a relative path: the file tools take absolute paths only."""
    return path if path.startswith(("/", "{")) else "{cwd}/" + path
