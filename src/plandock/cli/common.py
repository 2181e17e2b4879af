"""What several commands share: the run argument, the JSON switch, and how text is shown."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from plandock.errors import PlandockError
from plandock.runs.store import Store

F = TypeVar("F", bound=Callable[..., Any])


def _complete_run(_: click.Context, __: click.Parameter, typed: str) -> list[CompletionItem]:
    try:
        with Store() as store:
            runs = store.list()
    except PlandockError:
        return []
    known = [CompletionItem(r.id, help=f"{r.state} {r.plan_title}") for r in runs]
    return [c for c in [CompletionItem("last"), *known] if c.value.startswith(typed)]


def run_argument(command: F) -> F:
    """The RUN argument, completed from the store."""
    return click.argument("run_name", metavar="RUN", shell_complete=_complete_run)(command)


def json_option(command: F) -> F:
    """The --json switch."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def confirm(question: str, *, otherwise: str, hint: str) -> None:
    """Ask; where the answer is no, or nobody is there to answer, raise with ``otherwise``."""
    try:
        if click.confirm(question, err=True):
            return
    except click.Abort:
        if sys.stdin.isatty():
            raise  # Ctrl-C
    raise PlandockError(otherwise, hint=hint)


def print_json(data: object) -> None:
    """Print one JSON document."""
    click.echo(json.dumps(data, indent=2))
