"""What several commands share: the run argument, the JSON switch, and how text is shown."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from plandock.errors import PlandockError
from plandock.printable import one_line
from plandock.runs.store import Store

F = TypeVar("F", bound=Callable[..., Any])


def _complete_run(_: click.Context, __: click.Parameter, typed: str) -> list[CompletionItem]:
    try:
        with Store() as store:
            runs = store.list()
    except PlandockError:
        return []
    known = [CompletionItem(r.id, help=one_line(f"{r.state} {r.plan_title}")) for r in runs]
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
    except click.Abort as error:
        # The end of the input, Ctrl-D too, is no answer; Ctrl-C ends the command.
        if sys.stdin.isatty() and not isinstance(error.__context__, EOFError):
            raise
    raise PlandockError(otherwise, hint=hint)


def print_json(data: object) -> None:
    """Print one JSON document, in plain ASCII: nothing in it acts on a terminal."""
    click.echo(as_ascii(json.dumps(data, indent=2)))


def as_ascii(text: str) -> str:
    """JSON of :func:`json.dumps` with DEL escaped, too, the one control that it leaves."""
    return text.replace("\x7f", "\\u007f")
