"""The command line: the group of commands, and the one place where errors become exit codes."""

from __future__ import annotations

import errno
import os
import signal
import sys
import time
import traceback

import click

from plandock import __version__, paths
from plandock.claude.redact import redact
from plandock.cli import ending, inspecting, recovering, running, setting_up, taking, unlatch
from plandock.errors import PlandockError
from plandock.printable import one_line, printable

# A full disk, or a place where this user may not write: no bug.
_OUTSIDE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES})
_NO_FOLDER = frozenset({errno.EEXIST, errno.ENOTDIR, errno.ENOENT, errno.ELOOP})


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="RUN is a run's id, an unambiguous beginning of one, or `last`.",
)
@click.version_option(__version__, prog_name="plandock")
@click.pass_context
def cli(context: click.Context) -> None:
    """Accept a plan in Claude Code; a sealed local container carries it out; a branch comes back.

    Start with `plandock init`, then accept a plan with auto-accept edits.
    """
    recovering.before(context.invoked_subcommand)


@cli.command()
def hook() -> None:
    """What Claude Code calls: a hook's JSON on standard input, the answer on standard output."""


for _module in (setting_up, running, ending, inspecting, taking, recovering, unlatch):
    for _command in _module.COMMANDS:
        cli.add_command(_command)


def main() -> int:
    """Run one command; returns the exit code of the contract (shared/design.md, section 4)."""
    _end_tidily()
    try:
        answer = cli.main(standalone_mode=False)
        return answer if isinstance(answer, int) else 0
    except click.exceptions.Abort:
        click.echo("interrupted", err=True)
        return 130
    except click.ClickException as error:
        error.show()
        return 2
    except PlandockError as error:
        click.echo(f"plandock: {one_line(redact(error.message), limit=2000)}", err=True)
        if error.hint:
            click.echo(f"  next: {printable(redact(error.hint))}", err=True)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # `plandock logs … | head`: not an error; keep the interpreter from complaining at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if isinstance(error, OSError) and (error.errno in _OUTSIDE or _in_our_folders(error)):
            what = f"{error.strerror}: {error.filename or paths.state_dir()}"
            hint = "make room, or set right who may write there"
            if error.errno not in _OUTSIDE:
                hint = "move away what lies in the place of that folder"
            click.echo(f"plandock: {one_line(redact(what), limit=2000)}", err=True)
            click.echo(f"  next: {hint}", err=True)
            return 1
        log = _log_bug(error)
        click.echo(f"plandock: this is a bug: {one_line(redact(str(error)))}", err=True)
        click.echo(f"  next: report it with {log}", err=True)
        return 3


def _end_tidily() -> None:
    """Let SIGTERM and a closed terminal end a command as Ctrl-C does: what it has laid out for
    itself is taken away on the way, and the exit code is 128 and the signal's number."""

    def leave(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        # One that is ignored (nohup) stays so.
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, leave)


def _in_our_folders(error: OSError) -> bool:
    """Whether a folder of ours cannot be made or read, because it is something else."""
    name = os.fsdecode(error.filename) if isinstance(error.filename, (str, bytes)) else ""
    ours = [str(paths.state_dir()), str(paths.config_dir())]
    return error.errno in _NO_FOLDER and any(name.startswith(x) for x in ours)


def _log_bug(error: Exception) -> str:
    """Where the traceback was written; where it cannot be, it is shown."""
    words = redact("".join(traceback.format_exception(error)))
    try:
        log = paths.make_private(paths.state_dir()) / "bug.log"
        with open(log, "a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} {words}")
    except OSError:
        click.echo(printable(words), err=True)
        return "what stands above"
    return str(log)
