"""What breaks inside the box or beside the supervisor, in whole runs: the CLI itself, a second
supervisor."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from plandock.standin import StandIn, ToolCall
from tests.crash import crashing
from tests.crash.crashing import assert_nothing_lost
from tests.support import product
from tests.support.laptop import Laptop

pytestmark = [pytest.mark.timeout(1800), pytest.mark.e2e]

# In the box, as the agent's user: every process whose program is the CLI's.
_KILL_CLI = """
import os, signal
for pid in filter(str.isdigit, os.listdir("/proc")):
    try:
        if os.readlink(f"/proc/{pid}/exe").endswith("claude"):
            os.kill(int(pid), signal.SIGKILL)
            print(pid)
    except OSError:
        pass
"""


@pytest.mark.parametrize("engine", ["docker"], indirect=True)
def test_a_killed_cli_and_a_second_supervisor_cost_nothing(
    make_laptop: Callable[..., Laptop], cli: Path, standin: StandIn, engine: str
) -> None:
    """SIGKILL to the CLI in its box, so that it ends without a result: the same conversation goes
    on.  A second supervisor that somebody starts meanwhile ends with 75 and touches nothing."""
    # For ever in the first box, in the second not at all.
    hold = "test -e held || { touch held; while :; do sleep 0.2; done; }"
    standin.script = crashing.script(
        ToolCall("Bash", {"command": hold, "description": "Hold", "timeout": 600_000})
    )
    laptop = make_laptop(cli, engine)
    refs = laptop.refs()
    run = crashing.hand_off(laptop)
    crashing.until_event(laptop, run, "step working")
    box = [engine, "exec", "--user", "1000:1000", f"plandock-{run}-box"]
    end = time.monotonic() + crashing.PATIENCE_S
    while subprocess.run([*box, "test", "-e", laptop.repo.root / "held"], check=False).returncode:
        assert time.monotonic() < end, crashing.log_of(run, laptop)
        time.sleep(0.1)
    entry = product.package() / "supervisor/__main__.py"
    second = subprocess.run(
        [product.python(), "-I", str(entry), run], env=laptop.env, capture_output=True, check=False
    )
    assert second.returncode == 75
    kill = [*box, "python3", "-I", "-c", _KILL_CLI]
    killed = subprocess.run(kill, capture_output=True, text=True, check=True)
    assert killed.stdout.split()
    crashing.until_over(laptop, run)
    found = assert_nothing_lost(laptop, run, refs)
    assert found.attempt == 2
