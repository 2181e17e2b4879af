"""The user's own `claude` is found, and its version costs nothing the second time."""

from __future__ import annotations

import json
import os
import stat

import pytest

from plandock.claude import binary
from plandock.errors import PlandockError


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A throwaway home and state folder."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path


def program(path, says="2.1.330 (Claude Code)", *, padding=0, log=None, extra=""):
    """A stand-in for the CLI that prints a version, and counts its starts in `log`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    count = f"echo x >> '{log}'\n" if log else ""
    path.write_text(f"#!/bin/sh\n{count}{extra}\necho '{says}'\nexit 0\n" + "#" * padding)
    path.chmod(0o755)
    return path


def test_the_named_program_goes_first(home):
    """PLANDOCK_CLAUDE goes before PATH."""
    named = program(home / "named/claude-x")
    program(home / "bin/claude")
    environ = {"PLANDOCK_CLAUDE": str(named), "PATH": str(home / "bin")}
    assert binary.find_claude(environ) == named


def test_a_wrong_name_is_not_passed_over(home):
    """A PLANDOCK_CLAUDE that names nothing is an error, not a reason to take another."""
    program(home / "bin/claude")
    with pytest.raises(PlandockError, match="PLANDOCK_CLAUDE"):
        binary.find_claude({"PLANDOCK_CLAUDE": "/nonexistent", "PATH": str(home / "bin")})


def test_the_path_is_searched(home):
    """The first `claude` on PATH is taken; the link is kept as it is."""
    real = program(home / "versions/2.1.330")
    (home / "bin").mkdir()
    (home / "bin/claude").symlink_to(real)
    assert binary.find_claude({"PATH": f"/nonexistent:{home}/bin"}) == home / "bin/claude"


def test_a_program_of_the_current_folder_is_not_found(home, monkeypatch):
    """Relative entries of PATH would start what lies in the repository."""
    program(home / "repo/claude")
    monkeypatch.chdir(home / "repo")
    monkeypatch.setattr(binary, "_runs", lambda path: False)
    with pytest.raises(PlandockError, match="not found"):
        binary.find_claude({"PATH": ".:", "HOME": str(home)})


@pytest.mark.parametrize("place", [".claude/local/claude", ".local/bin/claude"])
def test_the_usual_places_are_searched(home, place):
    """What the installers leave in the home folder is found without PATH."""
    expected = program(home / place)
    assert binary.find_claude({"PATH": "/nonexistent", "HOME": str(home)}) == expected


@pytest.mark.parametrize(
    ("says", "version"),
    [
        ("2.1.330 (Claude Code)", "2.1.330"),
        ("2.1.197", "2.1.197"),
        ("v3.0.0-rc.1 (x)", "3.0.0-rc.1"),
    ],
)
def test_the_version_is_read(home, says, version):
    """The number in front is the version."""
    assert binary.version_of(program(home / "claude", says)) == version


@pytest.mark.parametrize("says", ["", "hello", "2.1", "2.1.330garbage", "x 2.1.330"])
def test_another_answer_is_an_error(home, says):
    """A program that is not Claude Code is not guessed at."""
    with pytest.raises(PlandockError, match="does not say which version"):
        binary.version_of(program(home / "claude", says))


def test_a_program_that_fails_or_hangs_is_an_error(home):
    """Neither an exit code nor silence gets through as a version."""
    with pytest.raises(PlandockError, match="failed"):
        binary.version_of(program(home / "a/claude", extra="exit 3"))
    with pytest.raises(PlandockError, match="did not answer"):
        binary.version_of(program(home / "b/claude", extra="exec sleep 600"), timeout_s=0.2)
    with pytest.raises(PlandockError, match="cannot be used"):
        binary.version_of(home / "nothing")


def test_the_child_inherits_no_key(home, monkeypatch):
    """No login or key of the environment reaches the program that is asked."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", "made-up-key")
    monkeypatch.setenv("CLAUDE_CODE_OAUTH_TOKEN", "made-up-token")
    binary.version_of(program(home / "claude", extra=f"env > '{home}/seen'"))
    assert "made-up" not in (home / "seen").read_text()
    assert "DISABLE_AUTOUPDATER=1" in (home / "seen").read_text()


def test_the_version_is_asked_once(home):
    """The same file is not started again; a changed one is."""
    log = home / "log"
    cli = program(home / "claude", padding=1 << 20, log=log)
    assert [binary.version_of(cli) for _ in range(3)] == ["2.1.330"] * 3
    assert log.read_text() == "x\n"
    program(home / "claude", "2.1.331 (Claude Code)", padding=(1 << 20) + 1, log=log)
    assert binary.version_of(cli) == "2.1.331"
    assert log.read_text() == "x\nx\n"
    cache = home / "state/plandock/cli-version.json"
    assert stat.S_IMODE(cache.stat().st_mode) == 0o600


def test_a_link_to_another_version_is_noticed(home):
    """An update that moves the link is seen at once."""
    for number in ("2.1.330", "2.1.331"):
        program(home / number, f"{number} (Claude Code)", padding=1 << 20)
    link = home / "claude"
    link.symlink_to(home / "2.1.330")
    assert binary.version_of(link) == "2.1.330"
    link.unlink()
    link.symlink_to(home / "2.1.331")
    assert binary.version_of(link) == "2.1.331"


def test_a_wrapper_is_asked_every_time(home):
    """A small script may start something else tomorrow and look the same."""
    log = home / "log"
    cli = program(home / "claude", log=log)
    binary.version_of(cli)
    binary.version_of(cli)
    assert log.read_text() == "x\nx\n"


@pytest.mark.parametrize("damage", ["", "[]", "{", '{"%s": 7}', '{"%s": {"stamp": null}}'])
def test_a_damaged_cache_is_only_slow(home, damage):
    """Whatever lies in the cache, the answer is right."""
    cli = program(home / "claude", padding=1 << 20)
    binary.version_of(cli)
    cache = home / "state/plandock/cli-version.json"
    cache.write_text(damage.replace("%s", str(cli)))
    assert binary.version_of(cli) == "2.1.330"


def test_a_forged_version_in_the_cache_is_not_believed(home):
    """Only something of a version's form comes out of the cache."""
    cli = program(home / "claude", padding=1 << 20)
    found = os.stat(cli)
    cache = home / "state/plandock/cli-version.json"
    cache.parent.mkdir(parents=True)
    entry = {"stamp": [found.st_mtime_ns, found.st_size], "version": "2.1.330; rm -rf /"}
    cache.write_text(json.dumps({os.path.realpath(cli): entry}))
    assert binary.version_of(cli) == "2.1.330"


def test_the_cache_stays_small(home):
    """A dozen versions leave eight entries."""
    for number in range(12):
        binary.version_of(program(home / f"{number}", padding=1 << 20))
    assert len(json.loads((home / "state/plandock/cli-version.json").read_text())) == 8


def test_a_state_folder_that_cannot_be_written_costs_only_time(home):
    """The version is found even where nothing can be kept."""
    (home / "state").write_text("a file where the folder should be")
    assert binary.version_of(program(home / "claude", padding=1 << 20)) == "2.1.330"


@pytest.mark.parametrize(
    ("version", "where"),
    [
        (binary.TESTED[0], "tested"),
        (binary.TESTED[1], "tested"),
        ("2.1.200", "tested"),
        ("2.1.196", "older"),
        ("1.9.1000", "older"),
        ("2.1.1000", "newer"),
        ("10.0.0", "newer"),
        ("2.1.1000-rc.1", "newer"),
        ("2.1.200-rc.1", ""),
        ("", ""),
        ("latest", ""),
    ],
)
def test_the_tested_range_is_compared_by_number(version, where):
    """Both ends count; 1000 is more than 330; anything that is no release is outside."""
    told = {name for name in ("tested", "older", "newer") if getattr(binary, name)(version)}
    assert told == ({where} if where else set())
