"""Commands that start, await and end runs: run, wait, stop, drop."""

from __future__ import annotations

import sys
import time
import uuid
from pathlib import Path

import click

from plandock import git, paths
from plandock.box import launch
from plandock.claude import conversation
from plandock.cli.common import confirm, json_option, print_json, run_argument
from plandock.engines import detect
from plandock.errors import Busy, PlandockError, UsageError
from plandock.hook import handoff
from plandock.hook.payload import LARGEST_PLAN
from plandock.printable import one_line, printable
from plandock.runs.model import Run, State, utc_now
from plandock.runs.store import Store

_POLL_S = 0.1


@click.command()
@click.option("--plan", "plan_file", type=click.Path(path_type=Path), help="The plan; - is stdin.")
@click.option("--session", metavar="ID", help="A conversation of this folder, or `last`.")
@click.option("--wait", "waits", is_flag=True, help="Wait for the end; exit code as of `wait`.")
@click.option("--branch", help="The branch that the work arrives on.")
@json_option
def run(
    plan_file: Path | None, session: str | None, waits: bool, branch: str | None, as_json: bool
) -> int:
    """Hand a plan off by hand: from a file, or from a conversation of this folder."""
    if (plan_file is None) == (session is None):
        raise UsageError("give either --plan FILE or --session ID")
    cwd = Path.cwd()
    transcript = ""
    if plan_file is not None:
        plan = _read_plan(plan_file)
    else:
        found = _find_session(cwd, session or "")
        transcript, plan = str(found), _last_plan(found)
    made, _ = handoff.hand_off(
        plan=plan,
        cwd=str(cwd),
        session_id=Path(transcript).stem if transcript else "",
        tool_use_id=f"manual-{uuid.uuid4()}",
        trigger="manual",
        transcript=transcript,
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


def _find_session(cwd: Path, session: str) -> Path:
    folder = paths.claude_config_dir() / "projects" / paths.project_key(str(cwd))
    if session == "last":
        known = sorted(folder.glob("*.jsonl"), key=lambda p: p.stat().st_mtime)
        if known:
            return known[-1]
    elif conversation.is_session_id(session) and (folder / f"{session}.jsonl").is_file():
        return folder / f"{session}.jsonl"
    raise PlandockError(
        f"no conversation {session!r} of {cwd}", hint="run it in the folder of that conversation"
    )


def _last_plan(transcript: Path) -> str:
    plan = ""
    for record in conversation.read_records(transcript):
        message = record.get("message")
        content = message.get("content") if isinstance(message, dict) else None
        for block in content if isinstance(content, list) else []:
            if isinstance(block, dict) and block.get("name") == "ExitPlanMode":
                given = block.get("input")
                if isinstance(given, dict) and isinstance(given.get("plan"), str):
                    plan = given["plan"]
    return plan or "Carry out what was agreed on in this conversation."


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
    end = None if timeout_s is None else time.monotonic() + timeout_s
    state = ""
    with Store() as store:
        while not (now := store.get(run_id)).state.final:
            if str(now.state) != state and sys.stderr.isatty():
                state = str(now.state)
                click.echo(f"{run_id} {state}", err=True)
            if end is not None and time.monotonic() > end:
                raise Busy(f"{run_id} is still {now.state}", hint=f"plandock logs {run_id} -f")
            time.sleep(_POLL_S)
    if as_json:
        print_json(now.to_json())
    else:
        click.echo(_ending(now))
    if now.state is State.DONE:
        return 0
    return now.exit_code or 10


def _ending(now: Run) -> str:
    words = f"{now.id} {now.state}"
    if now.reason:
        words += f" ({now.reason})"
    words += f": {now.commits} commit(s) on {now.branch}" if now.commits else ": no commits"
    if now.message:
        words += f"\n  {one_line(now.message)}"
    if now.hint:
        words += f"\n  next: {one_line(now.hint)}"
    return printable(words)


@click.command()
@run_argument
@json_option
def stop(run_name: str, as_json: bool) -> int:
    """End a run; what its agent has done so far arrives on the branch."""
    with Store() as store:
        found = store.find(run_name)
        if found.state.final:
            if as_json:
                print_json(found.to_json())
            click.echo(f"{found.id} has ended already ({found.state})", err=True)
            return 0
        found = store.change(found.id, stop_requested=True)
        if found.state is State.RUNNING:
            detect.choose(found.engine).stop(launch.names_of(found).box)
        end = time.monotonic() + 60.0
        while not (found := store.get(found.id)).state.final and time.monotonic() < end:
            time.sleep(_POLL_S)
    if as_json:
        print_json(found.to_json())
    else:
        click.echo(_ending(found))
    return 0 if found.state.final else 75


@click.command()
@run_argument
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
def drop(run_name: str, yes: bool) -> None:
    """Forget a run: its containers, volumes, folder and hidden refs.  Its branch stays."""
    with Store() as store:
        found = store.find(run_name)
        if not found.state.final:
            raise Busy(f"{found.id} is {found.state}", hint=f"plandock stop {found.id}")
        in_repo = Path(found.repo).is_dir()
        kept = in_repo and found.branch in git.branches(found.repo)
        if found.commits and not kept and not yes:
            confirm(
                printable(f"The branch {found.branch} is gone; drop its last copy?"),
                otherwise=f"{found.id} was not dropped",
                hint=f"plandock drop {found.id} --yes",
            )
        if found.engine:
            engine = detect.choose(found.engine)
            launch.remove_containers(engine, found)
            launch.remove_volumes(engine, found)
        if in_repo:
            spec = f"refs/plandock/runs/{found.id}/"
            refs = git.git(found.repo, "for-each-ref", "--format=%(refname)", spec).text.split("\n")
            for ref in filter(None, refs):
                git.git(found.repo, "update-ref", "-d", ref)
        folder = paths.run_dir(found.id)
        for path in sorted(folder.rglob("*"), reverse=True) if folder.is_dir() else []:
            path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
        if folder.is_dir():
            folder.rmdir()
        store.delete(found.id)
    stays = f"; {one_line(found.branch)} stays" if kept else ""
    click.echo(f"dropped {found.id} at {utc_now()}{stays}")


COMMANDS = (run, wait, stop, drop)
