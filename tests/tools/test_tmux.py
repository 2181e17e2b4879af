"""The terminal that other tests drive programs with."""

import sys
import time

import pytest


def test_keys_reach_the_program_and_its_screen_is_read(tmux, tmp_path):
    """Text and named keys arrive; the environment is the given one and nothing else."""
    code = "import os; print(sorted(os.environ)); print('got', repr(input())); input()"
    env = {"PATH": "/usr/bin:/bin", "SECRET": "a 'quoted' $value"}
    tmux.start([sys.executable, "-I", "-c", code], tmp_path, env)
    tmux.wait_for(r"\['LANG', 'PATH', 'SECRET', 'TERM'\]")
    tmux.send("Yes; it's 50%", "Enter")
    tmux.wait_for(r"got \"Yes; it's 50%\"")
    assert tmux.exit_code() is None


def test_a_program_that_ends_leaves_its_screen(tmux, tmp_path):
    """Values with quotes come through; screen and exit code are there to be read afterwards."""
    env = {"PATH": "/usr/bin:/bin", "SECRET": "a 'quoted' $value"}
    tmux.start(["sh", "-c", 'printenv SECRET; exit "$1"', "sh", "3"], tmp_path, env)
    tmux.wait_for(r"^a 'quoted' \$value$")
    until = time.monotonic() + 240
    while tmux.exit_code() is None and time.monotonic() < until:
        time.sleep(0.02)
    assert tmux.exit_code() == 3
    assert tmux.screen() == "a 'quoted' $value"


def test_waiting_in_vain_shows_the_screen(tmux, tmp_path):
    """The failure says what was on the screen instead."""
    tmux.start(["echo", "something else"], tmp_path, {"PATH": "/usr/bin:/bin"})
    tmux.wait_for("something else")
    with pytest.raises(AssertionError, match="something else"):
        tmux.wait_for("never", timeout=0.2)
