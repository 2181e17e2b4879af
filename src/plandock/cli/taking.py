"""Commands that take the result: diff, merge, open."""

from __future__ import annotations

import os
from pathlib import Path

import click

from plandock import git, proc
from plandock.cli.common import confirm, run_argument
from plandock.errors import PlandockError
from plandock.printable import one_line, printable
from plandock.runs.model import Run
from plandock.runs.store import Store


def _with_commits(run_name: str) -> Run:
    with Store() as store:
        run = store.find(run_name)
    if not run.commits:
        raise PlandockError(
            f"{run.id} has no commits ({run.state})", hint=f"plandock show {run.id}"
        )
    return run


@click.command()
@run_argument
@click.option("--stat", is_flag=True, help="Only how many lines of which files.")
def diff(run_name: str, stat: bool) -> None:
    """Show what the agent changed, since the snapshot of your tree."""
    run = _with_commits(run_name)
    words = ["diff", "--no-ext-diff", "--no-textconv", *(["--stat"] if stat else [])]
    found = git.git(run.repo, *words, run.snapshot, run.head, "--")
    click.echo_via_pager(printable(found.stdout.decode("utf-8", "replace")))


@click.command()
@run_argument
@click.option("--yes", "-y", is_flag=True, help="Merge although files are flagged.")
def merge(run_name: str, yes: bool) -> None:
    """Merge a run's branch into the branch that you are on."""
    run = _with_commits(run_name)
    if run.flagged_files and not yes:
        for name in run.flagged_files:
            click.echo(f"flagged: {one_line(name)}", err=True)
        confirm(
            "These change what runs on your machine or in CI. Merge?",
            otherwise="not merged; nothing was changed",
            hint=f"plandock diff {run.id}; then: plandock merge {run.id} --yes",
        )
    if git.git(run.repo, "rev-parse", "--verify", "--quiet", "MERGE_HEAD", check=False).ok:
        # `merge --abort` below would throw away what the user has resolved in theirs.
        raise PlandockError(
            "a merge of your own is under way in the repository",
            hint=f"conclude it (git commit, or git merge --abort), then: plandock merge {run.id}",
        )
    done = git.git(run.repo, "merge", "--no-edit", run.head, check=False)
    if not done.ok:
        git.git(run.repo, "merge", "--abort", check=False)
        words = (done.text + done.stderr.decode("utf-8", "replace")).strip().splitlines()
        # git's last line is often just "Aborting"; the one that says why begins with "error:".
        why = next((w for w in words if w.startswith(("error:", "CONFLICT"))), "".join(words[-1:]))
        raise PlandockError(
            f"git would not merge {run.branch}: {one_line(why) or 'no reason given'}",
            hint=f"nothing was changed; by hand: git merge {run.branch}",
        )
    click.echo(printable(f"merged {run.branch} ({run.commits} commit(s)) from {run.id}"))


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


COMMANDS = (diff, merge, open_)
