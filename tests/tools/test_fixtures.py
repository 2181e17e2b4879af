"""What every other test relies on: the throwaway home, and the rule about skips in CI."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import machine
from tests.support.machine import CLONE
from tools.setup import commands


def test_home_is_a_throwaway(home, tmp_path_factory):
    """HOME and the XDG folders lie below pytest's own folder."""
    base = tmp_path_factory.getbasetemp()
    for name in ("HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"):
        assert Path(os.environ[name]).is_relative_to(base)
    assert Path.home() == home


@pytest.mark.parametrize(
    ("name", "dropped"),
    [
        ("ANTHROPIC_BASE_URL", True),
        ("CLAUDE_CODE_OAUTH_TOKEN", True),
        ("CLAUDECODE", True),
        ("OPENAI_API_KEY", True),
        ("NPM_TOKEN", True),
        ("GIT_DIR", True),
        ("PLANDOCK_UPSTREAM", True),
        ("PLANDOCK_TEST_CLI_NEWEST", False),
        ("PATH", False),
        ("DOCKER_HOST", False),
    ],
)
def test_variables_of_keys_and_logins_are_dropped(name, dropped):
    """No test inherits what names a model, a key, a login or a repository."""
    assert (machine.to_drop([name]) == [name]) is dropped


def test_repositories_have_an_identity(repo):
    """A commit needs no configuration of the user's."""
    repo.commit({"a file": "x"}, "Second")
    assert repo.git("log", "--format=%an %s") == "Ada Lovelace Second\nAda Lovelace First"


@pytest.mark.parametrize(("ci", "raised"), [("true", pytest.fail), ("", pytest.skip)])
def test_need_of_root_is_said_with_the_next_step_when_there_is_no_sudo(
    monkeypatch, tmp_path, ci, raised
):
    """One line; in CI a failure, elsewhere a skip."""
    monkeypatch.setenv("CI", ci)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(commands, "SYSTEM_FOLDERS", ())
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(raised.Exception) as failed:
        machine.as_root()
    assert str(failed.value) == (
        "this test needs root. Next step: run as root, or as a user with sudo"
    )


INNER = """
import pytest

@pytest.mark.{marker}
def test_real():
    pytest.skip("nothing here")
"""


@pytest.mark.parametrize(
    ("marker", "ci", "workers", "code", "closing"),
    [
        ("engine", "true", "0", 1, "1 failed"),
        ("e2e", "true", "1", 1, "1 failed"),
        ("engine", "", "0", 0, "1 skipped"),
        ("timeout(9)", "true", "0", 0, "1 skipped"),
    ],
)
def test_a_skip_of_something_real_fails_in_ci(tmp_path, marker, ci, workers, code, closing):
    """CI cannot be green because an engine was absent; elsewhere a skip is a skip."""
    inner = tmp_path / "test_inner.py"
    inner.write_text(INNER.format(marker=marker))
    argv = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-p", "no:cacheprovider"]
    argv += [f"--rootdir={CLONE}", "-c", str(CLONE / "pyproject.toml"), "-n", workers, str(inner)]
    # Without engines to ask what is left behind in them.
    changed = {"PATH": os.path.dirname(sys.executable), "CI": ci}
    done = subprocess.run(
        argv, cwd=CLONE, env={**os.environ, **changed}, capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert closing in done.stdout.splitlines()[-1]


def test_children_are_interruptible_when_the_suite_is_started_in_the_background(tmp_path):
    """A shell's `&` and nohup have SIGINT and SIGHUP ignored, which is inherited; the process that
    runs the tests goes on ignoring them, a child of its ends by them."""
    code = (
        "import os, signal, subprocess\n"
        "from tests.support import machine\n"
        "machine.start_children_interruptible()\n"
        "for name in ('INT', 'HUP'):\n"
        "    os.kill(os.getpid(), getattr(signal, f'SIG{name}'))\n"
        "    child = ['sh', '-c', f'kill -{name} $$; echo survived']\n"
        "    print(subprocess.run(child, stdout=subprocess.PIPE).returncode)\n"
    )
    argv = ["sh", "-c", 'trap "" INT HUP; exec "$@"', "sh", sys.executable, "-c", code]
    done = subprocess.run(argv, cwd=CLONE, capture_output=True, text=True, check=False)
    assert done.stdout == "-2\n-1\n", done.stderr
