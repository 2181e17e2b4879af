"""Commands that take the result: diff, merge, apply, open."""

from __future__ import annotations

import os
from pathlib import Path

import click

from plandock import git, paths, proc
from plandock.cli.common import confirm, run_argument
from plandock.errors import PlandockError
from plandock.printable import one_line, printable
from plandock.runs.model import Run
from plandock.runs.store import Store
from plandock.workspace import taking as work
from plandock.workspace.bundle import HEAD_REF


def _with_commits(run_name: str) -> Run:
    with Store() as store:
        run = store.find(run_name)
    if not run.commits:
        raise PlandockError(
            f"{run.id} has no commits ({run.state})", hint=f"plandock show {run.id}"
        )
    if not Path(run.git_place).is_dir():
        raise PlandockError(
            f"the repository of {run.id} is not at {one_line(run.git_place)} any more",
            hint=f"move it back; a copy of the work is {_copy_of(run)}",
        )
    words = ("cat-file", "-e", f"{run.head}^{{commit}}")
    if not git.git(run.git_place, *words, check=False).ok:
        raise PlandockError(
            f"the commits of {run.id} are not in {one_line(run.git_place)} any more",
            hint=f"a copy is {_copy_of(run)}; bring it back with: git fetch FILE {HEAD_REF}",
        )
    return run


def _copy_of(run: Run) -> str:
    return one_line(str(paths.run_dir(run.id) / "work.bundle"))


@click.command()
@run_argument
@click.option("--stat", is_flag=True, help="Only how many lines of which files.")
def diff(run_name: str, stat: bool) -> None:
    """Show what the agent changed, since the snapshot of your tree."""
    run = _with_commits(run_name)
    # The user's configuration may name programs, also such as lie in the work tree.
    words = ["diff", "--no-ext-diff", "--no-textconv", "--no-color", "--submodule=short"]
    words += ["--stat"] if stat else []
    found = git.git(run.git_place, *words, run.snapshot, run.head, "--")
    click.echo_via_pager(printable(found.stdout.decode("utf-8", "replace")))


_yes_option = click.option("--yes", "-y", is_flag=True, help="Take it although files are flagged.")


def _ask_about_flagged(run: Run, command: str, yes: bool) -> None:
    """List what is flagged; go on only when told to."""
    if not run.flagged_files or yes:
        return
    for name in run.flagged_files:
        click.echo(f"flagged: {one_line(name, limit=5000)}", err=True)
    confirm(
        f"These change what runs on your machine or in CI. {command.capitalize()}?",
        otherwise=f"flagged files; nothing was changed by {command}",
        hint=f"plandock diff {run.id}; then: plandock {command} {run.id} --yes",
    )


def _tree_to_take_into(run: Run) -> Path:
    """The user's, or the run's own; where that was removed, only one that the user stands in."""
    place = Path(run.git_place)
    tree = work.work_tree(place, Path.cwd())
    if str(place) != run.repo and tree == place and git.top_level(Path.cwd()) != place:
        raise PlandockError(
            f"the work tree of {run.id} was removed: {one_line(run.repo)}",
            hint=f"say it in the work tree that is to have it, such as {one_line(str(place))}",
        )
    return tree


def _report(taken: work.Taken) -> None:
    for note in taken.notes:
        click.echo(f"note: {one_line(note, limit=2000)}", err=True)


@click.command()
@run_argument
@_yes_option
def merge(run_name: str, yes: bool) -> None:
    """Merge a run's branch into the branch that you are on.

    No hook, filter or merge driver is run: they may lie in the files that the branch changes.
    """
    run = _with_commits(run_name)
    _ask_about_flagged(run, "merge", yes)
    tree = _tree_to_take_into(run)
    if git.git(tree, "rev-parse", "--verify", "--quiet", "MERGE_HEAD", check=False).ok:
        raise PlandockError(
            "a merge of your own is under way in the repository",
            hint=f"conclude it (git commit, or git merge --abort), then: plandock merge {run.id}",
        )
    try:
        taken = work.merge(tree, head=run.head, branch=run.branch, run_id=run.id)
    except work.NotTaken as error:
        raise PlandockError(
            f"{run.branch} was not merged: {error.message}",
            hint=f"nothing was changed; by hand: git merge {run.branch}",
        ) from error
    _report(taken)
    click.echo(one_line(f"merged {run.branch} ({run.commits} commit(s)) from {run.id}"))


@click.command()
@run_argument
@_yes_option
def apply(run_name: str, yes: bool) -> None:
    """Put a run's changes into your files, uncommitted; index and branch stay as they are.

    No filter or merge driver is run: they may lie in the files that the branch changes.
    """
    run = _with_commits(run_name)
    _ask_about_flagged(run, "apply", yes)
    tree = _tree_to_take_into(run)
    try:
        taken = work.apply(tree, snapshot=run.snapshot, head=run.head)
    except work.NotTaken as error:
        raise PlandockError(
            f"{run.id} was not applied: {error.message}",
            hint=f"nothing was changed; commit or move these files, or: plandock merge {run.id}",
        ) from error
    _report(taken)
    count = len(taken.paths)
    click.echo(f"applied {run.id}: {count} file(s) changed in your tree, none of it committed")


@click.command(name="open")
@run_argument
def open_(run_name: str) -> int:
    """Open the run's conversation, plan and execution, in Claude Code on this machine."""
    with Store() as store:
        run = store.find(run_name)
    if not run.box_session_id or not run.state.final:
        raise PlandockError(
            f"the conversation of {run.id} is not here (state: {run.state})",
            hint=f"plandock logs {run.id} -f",
        )
    if not Path(run.cwd).is_dir():
        raise PlandockError(f"{run.cwd} is gone; the conversation belongs to that folder")
    # The user's own CLI, in the user's own environment: it is theirs.
    return proc.attached([run.claude, "--resume", run.box_session_id], env=os.environ, cwd=run.cwd)


COMMANDS = (diff, merge, apply, open_)
