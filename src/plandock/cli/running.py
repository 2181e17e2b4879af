"""Commands that start runs and await them: run, wait."""

from __future__ import annotations

import sys
import uuid
from pathlib import Path

import click

from plandock.cli import standing
from plandock.cli.common import json_option, print_json, run_argument
from plandock.cli.sessions import find_session, last_plan
from plandock.errors import Busy, UsageError
from plandock.hook import added_folders, handoff, session_setup
from plandock.hook.payload import LARGEST_PLAN
from plandock.hook.transcript import written_by
from plandock.printable import one_line
from plandock.runs.model import State
from plandock.runs.store import Store

_UNTOLD = "Carry out what was agreed on in this conversation."


@click.command()
@click.option("--plan", "plan_file", type=click.Path(path_type=Path), help="The plan; - is stdin.")
@click.option("--session", metavar="ID", help="A conversation of this repository, or `last`.")
@click.option("--wait", "waits", is_flag=True, help="Wait for the end; exit code as of `wait`.")
@click.option("--branch", help="The branch that the work arrives on.")
@json_option
def run(
    plan_file: Path | None, session: str | None, waits: bool, branch: str | None, as_json: bool
) -> int:
    """Hand a plan off by hand: from a file, or from a conversation of this repository."""
    if (plan_file is None) == (session is None):
        raise UsageError("give either --plan FILE or --session ID")
    cwd = Path.cwd()
    transcript = ""
    if plan_file is not None:
        plan = _read_plan(plan_file)
    else:
        found, cwd = find_session(cwd, session or "")
        transcript, plan = str(found), last_plan(found) or _UNTOLD
    session_id = Path(transcript).stem if transcript else ""
    made, _ = handoff.hand_off(
        plan=plan,
        cwd=str(cwd),
        session_id=session_id,
        tool_use_id=f"manual-{uuid.uuid4()}",
        trigger="manual",
        transcript=transcript,
        folders_left_out=added_folders.known(transcript, str(cwd)) if transcript else (),
        session_setup=session_setup.by_hand(session_id, transcript, str(cwd)),
        cli_version=written_by(transcript) if transcript else "",
        flags={"branch": branch} if branch else {},
    )
    if not waits:
        if as_json:
            print_json(made.to_json())
        else:
            click.echo(one_line(f"handed off as {made.id} → branch {made.branch}"))
        return 0
    if not as_json:
        click.echo(one_line(f"handed off as {made.id} → branch {made.branch}"), err=True)
    return _await(made.id, None, as_json)


def _read_plan(path: Path) -> str:
    try:
        raw = sys.stdin.buffer.read(LARGEST_PLAN + 1) if str(path) == "-" else path.read_bytes()
    except OSError as error:
        raise UsageError(f"the plan cannot be read: {error.strerror}: {path}") from error
    plan = raw.decode("utf-8", "replace").strip()
    if not plan or len(raw) > LARGEST_PLAN:
        raise UsageError("the plan is empty" if not plan else "the plan is larger than 1 MiB")
    return plan


@click.command()
@run_argument
@click.option("--timeout", "timeout_s", type=float, metavar="S", help="Give up after S seconds.")
@json_option
def wait(run_name: str, timeout_s: float | None, as_json: bool) -> int:
    """Wait for a run's end: exit code 0 when done, 10 (or the cause's own) otherwise."""
    with Store() as store:
        found = store.find(run_name)
    return _await(found.id, timeout_s, as_json)


def _await(run_id: str, timeout_s: float | None, as_json: bool) -> int:
    with Store() as store:
        now = standing.follow(store, run_id, timeout_s=timeout_s)
    if not now.state.final:
        raise Busy(f"{run_id} is still {now.state}", hint=f"plandock logs {run_id} -f")
    if as_json:
        print_json(now.to_json())
    else:
        click.echo(standing.ending(now))
    if now.state is State.DONE:
        return 0
    return now.exit_code or 10


COMMANDS = (run, wait)
