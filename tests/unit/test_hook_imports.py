"""What the hook loads: Claude Code waits for it, so the standard library, and little of that."""

import subprocess
import sys

import pytest

from plandock.hook import entry
from tests.support import hooks

# Loaded by a hand-off alone, if at all.
HEAVY = {"subprocess", "sqlite3", "asyncio", "http.client", "tomllib", "multiprocessing", "logging"}
NEVER = {"click", "rich", "h11", "platformdirs"}

# Runs the hook as the launcher does, then says on standard error what it has loaded.
PROBE = """\
import runpy, sys
try:
    runpy.run_path(sys.argv[1], run_name="__main__")
except SystemExit as end:
    code = end.code
sys.stderr.write("\\nloaded " + " ".join(sys.modules))
sys.exit(code)
"""


def loaded(world, payload):
    """Names of all modules that one hook call loads."""
    entry_file = str(world.package / "hook" / "entry.py")
    answer = world.call(payload, [sys.executable, "-I", "-S", "-c", PROBE, entry_file])
    assert "Traceback" not in answer.err
    return set(answer.err.rpartition("\nloaded ")[2].split())


ORDINARY = [
    ("auto", "PreToolUse-Write-auto"),
    ("auto", "PreToolUse-ExitPlanMode-plan"),
    ("auto", "UserPromptSubmit"),
    ("clear", "SessionEnd-clear"),
    ("clear", "SessionStart-clear"),
]


@pytest.mark.parametrize("case", ORDINARY, ids=[x[1] for x in ORDINARY])
@pytest.mark.parametrize("version", hooks.VERSIONS)
def test_an_ordinary_event_loads_nothing_heavy(world, version, case):
    """Where no plan is accepted neither processes nor the store are loaded."""
    names = loaded(world, world.payload(version, *case))
    assert names & (HEAVY | NEVER) == set()
    assert "plandock.hook.decide" in names  # the probe sees what it is there to see


def test_refusing_a_call_loads_nothing_heavy(world):
    """The guard of a handed-off session needs no store either."""
    latch = world.state / "latch"
    latch.mkdir(parents=True)
    payload = world.payload("2.1.330", "auto", "PreToolUse-Write-auto")
    (latch / payload["session_id"]).write_text('{"kind": "handed-off", "run": "r7k2"}')
    assert loaded(world, payload) & (HEAVY | NEVER) == set()


def test_a_hand_off_loads_the_standard_library_alone(world):
    """Even an acceptance needs no package beside plandock and what comes with Python."""
    names = loaded(world, world.payload("2.1.330", "auto", "PostToolUse-ExitPlanMode-auto"))
    assert len(world.runs()) == 1
    tops = {name.partition(".")[0] for name in names}
    assert tops - sys.stdlib_module_names - {"__main__"} == {"plandock"}
    assert names & {"asyncio", "multiprocessing", "logging"} == set()


def test_the_command_line_keeps_out_of_the_hooks_way(world):
    """`plandock hook` loads nothing of the command line."""
    probe = PROBE.replace('runpy.run_path(sys.argv[1], run_name="__main__")', "main()")
    probe = "from plandock.__main__ import main\n" + probe.replace("main()", "code = main()")
    answer = subprocess.run(
        [sys.executable, "-c", probe, "hook"],
        input=b"{}",
        capture_output=True,
        env=world.env | {"PYTHONPATH": str(world.package.parent)},
        check=True,
    )
    names = set(answer.stderr.decode().rpartition("\nloaded ")[2].split())
    assert "plandock.hook.entry" in names
    assert names & {"click", "rich", "plandock.cli", "subprocess", "sqlite3"} == set()


def test_the_hook_of_the_clone_is_the_one_tested(world):
    """The copy that the other tests run differs from the clone in its supervisor alone."""
    assert entry.__file__ == str(hooks.ENTRY)
    ours = (world.package / "hook" / "entry.py").read_bytes()
    assert ours == hooks.ENTRY.read_bytes()
