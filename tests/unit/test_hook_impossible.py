"""A hand-off that cannot be: the turn stops all the same, with the reason and the next step."""

import json
import shutil

import pytest

from plandock import proc
from plandock.hook import handoff
from tests.support import hooks

ACCEPTED = "PostToolUse-ExitPlanMode-auto"
PROPOSED = "PreToolUse-ExitPlanMode-plan"
NEW = hooks.VERSIONS[-1]


def no_engine(world):
    """Docker is there, and not running."""
    world.env["DOCKER_HOST"] = f"unix://{world.home}/no-such-socket"


def no_engine_at_all(world):
    """Neither docker nor podman is there."""
    (world.tools / "docker").unlink()


def no_login(world):
    """Nobody is logged in."""
    (world.home / ".claude" / ".credentials.json").unlink()


def no_repository(world):
    """The folder is no repository."""
    shutil.rmtree(world.repo.root / ".git")


def no_commit(world):
    """The repository has no commit yet."""
    shutil.rmtree(world.repo.root / ".git")
    world.repo.git("init", "--quiet")


def no_folder(world):
    """The folder is gone."""
    shutil.rmtree(world.repo.root)


def no_cli(world):
    """The CLI is not to be found."""
    (world.tools / "claude").unlink()


def no_identity(world):
    """git knows no name for its commits."""
    (world.home / ".gitconfig").unlink()


def no_git(world):
    """git is not installed."""
    (world.tools / "git").unlink()


def broken_settings(world):
    """The repository's settings are no TOML."""
    world.repo.write({".plandock.toml": "branch = ["})


def unknown_setting(world):
    """The repository's settings have a key that there is not."""
    world.repo.write({".plandock.toml": "brunch = 1\n"})


def impossible_branch(world):
    """The branch that is asked for cannot be one."""
    world.repo.write({".plandock.toml": 'branch = "a..b"\n'})


def full_of_odd_bytes(world):
    """The repository's settings are not text."""
    world.repo.write({".plandock.toml": b"\xff\xfe\x00"})


def no_store(world):
    """The store cannot be opened."""
    world.state.mkdir(parents=True)
    (world.state / "plandock.db.lock").mkdir()


IMPOSSIBLE = [
    (no_engine, "docker is not running"),
    (no_engine_at_all, "docker is not installed"),
    (no_login, "no Claude login"),
    (no_repository, "not in a git repository"),
    (no_commit, "no commit yet"),
    (no_folder, "not a folder"),
    (no_cli, "claude command was not found"),
    (no_identity, "git does not know who you are"),
    (no_git, "git was not found"),
    (broken_settings, ".plandock.toml"),
    (unknown_setting, "brunch"),
    (impossible_branch, "a..b"),
    (full_of_odd_bytes, ".plandock.toml"),
    (no_store, "the store of runs cannot be opened"),
]


@pytest.mark.parametrize(("breaks", "why"), IMPOSSIBLE, ids=[x[0].__name__ for x in IMPOSSIBLE])
def test_an_impossible_hand_off_stops_the_turn_all_the_same(world, breaks, why):
    """The reason and the next step are shown, no tool runs, and nothing is recorded."""
    breaks(world)
    payload = world.payload(NEW, "auto", ACCEPTED)
    session = payload["session_id"]
    stop = world.call(payload).stop
    assert why in stop
    assert "\nNext: " in stop
    assert f"plandock run --session {session}" in stop
    call = world.payload(NEW, "auto", "PreToolUse-Write-auto", session_id=session)
    answer = world.call(call)
    assert answer.code == 2
    assert why in answer.err
    assert world.runs() == []
    assert list((world.state / "runs").glob("*")) == []
    prompt = world.payload(NEW, "auto", "UserPromptSubmit", session_id=session)
    assert "NOT handed off" in world.call(prompt).context
    assert world.call(call).code == 2
    assert world.call(world.speak(call)).silent


def test_an_acceptance_stops_even_where_nothing_can_be_written(world):
    """The state folder cannot be: the turn stops, and no plan can be proposed; other calls and
    prompts are left alone."""
    blocked = world.home / "file"
    blocked.write_text("")
    world.env["XDG_STATE_HOME"] = str(blocked)
    stop = world.accept().stop
    assert "could not hand the plan off" in stop
    for name in ("PreToolUse-Write-auto", "UserPromptSubmit"):
        assert world.call(world.payload(NEW, "auto", name)).silent
    proposed = world.call(world.payload(NEW, "auto", PROPOSED))
    assert proposed.code == 2
    assert "cannot write its state folder" in proposed.err


def test_a_supervisor_that_cannot_start_leaves_no_run(world, monkeypatch):
    """A run that was recorded in vain is taken back: later, nobody would expect it to start."""

    def fail(*_args, **_more):
        raise OSError(11, "Resource temporarily unavailable")

    for name in ("PATH", "DOCKER_HOST"):
        monkeypatch.setenv(name, world.env[name])
    monkeypatch.setattr(proc, "start_detached", fail)
    with pytest.raises(OSError):
        handoff.hand_off(
            plan="# P",
            cwd=str(world.repo.root),
            session_id="s",
            tool_use_id="t",
            trigger="accepted",
        )
    assert world.runs() == []
    assert list((world.state / "runs").iterdir()) == []


def test_a_repository_cannot_name_the_program_to_run(world):
    """`env` in a project's settings reaches hooks; PLANDOCK_CLAUDE out of it does not count."""
    world.repo.write({".claude/settings.json": json.dumps({"env": {"PLANDOCK_CLAUDE": "/bin/x"}})})
    world.env["PLANDOCK_CLAUDE"] = "/bin/x"
    world.accept()
    assert world.runs()[0].claude == str(world.tools / "claude")
