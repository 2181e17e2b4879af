"""What a signal leaves of a command: its exit code, and nothing in the file system."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

# A command that stands where `merge` and `apply` do their work: in a temporary folder.
_WORK = """
import sys, tempfile, time
from plandock.cli import app
place = sys.argv.pop()
@app.cli.command()
def linger():
    with tempfile.TemporaryDirectory(dir=place):
        print("ready", flush=True)
        # Not in one: a signal that comes just before Python sleeps does not wake it.
        while True:
            time.sleep(0.05)
sys.argv[1:] = ["linger"]
sys.exit(app.main())
"""


def _start(*argv: str) -> subprocess.Popen[bytes]:
    """Start a command as a terminal does: the tests themselves may run in the background or under
    nohup, where these signals are ignored, and that is inherited."""

    def as_in_a_terminal() -> None:
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)

    return subprocess.Popen(
        argv,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=as_in_a_terminal,
        env={**os.environ, "PYTHONFAULTHANDLER": "1"},
    )


def _exit_code(child: subprocess.Popen[bytes]) -> int:
    """A child's exit code; one that does not end is made to say where it stands."""
    try:
        return child.wait(timeout=120)
    except subprocess.TimeoutExpired:
        child.send_signal(signal.SIGABRT)
        pytest.fail(f"it did not end: {child.communicate()[1].decode()}")


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_ends_a_command_with_its_code_and_leaves_no_folder(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    """Ctrl-C, a kill and a closed terminal alike."""
    child = _start(sys.executable, "-c", _WORK, str(tmp_path))
    assert child.stdout is not None
    assert child.stdout.readline() == b"ready\n", child.stderr
    assert len(os.listdir(tmp_path)) == 1
    child.send_signal(number)
    assert _exit_code(child) == code
    assert os.listdir(tmp_path) == []
    child.communicate()


def test_a_command_under_nohup_goes_on_when_the_terminal_is_closed(tmp_path: Path) -> None:
    """Who ignores SIGHUP on purpose is not ended by it; SIGTERM still ends it."""
    child = _start("nohup", sys.executable, "-c", _WORK, str(tmp_path))
    assert child.stdout is not None
    assert child.stdout.readline() == b"ready\n"
    # Of two signals the lower number is delivered first: without nohup it would end with 129.
    child.send_signal(signal.SIGHUP)
    child.terminate()
    assert _exit_code(child) == 143
    child.communicate()


# Loading the command line takes as long as one likes.
_LOADING = """
import sys, time
from plandock.__main__ import main
class Slow:
    def find_spec(self, name, path, target=None):
        if name == "plandock.cli.app":
            print("ready", flush=True)
            time.sleep(600)
sys.meta_path.insert(0, Slow())
main()
"""


def test_ctrl_c_while_the_program_is_being_loaded_is_no_traceback() -> None:
    """A shell shows 130 for a process that ended by SIGINT; the user sees nothing else."""
    child = _start(sys.executable, "-c", _LOADING)
    assert child.stdout is not None
    assert child.stdout.readline() == b"ready\n"
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=120)
    assert (child.returncode, said) == (-signal.SIGINT, b"")
