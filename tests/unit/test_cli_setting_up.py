"""The commands that set plandock up, as a user calls them, in a throwaway home."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from plandock.claude.binary import TESTED
from tests.support.commands import CommandServer
from tests.support.repository import Repository

Plandock = Callable[..., subprocess.CompletedProcess[str]]
SCOPES = ("user", "project", "local")
TOKEN = "sk-ant-oat01-" + "made-up-" * 8


@pytest.fixture
def plandock(repo: Repository, tmp_path: Path, commands: CommandServer) -> Plandock:
    """Run the command line in the repository, with no engine and no CLI on its PATH."""
    bin_dir = tmp_path / "bin"
    bin_dir.mkdir()
    for name in ("git", "sh", "dd", "cat"):
        found = next(p for d in ("/usr/bin", "/bin") if (p := Path(d) / name).exists())
        (bin_dir / name).symlink_to(found)

    def run(
        *words: str, stdin: str = "", cwd: Path | None = None, **env: str
    ) -> subprocess.CompletedProcess[str]:
        changed = {**os.environ, "PATH": str(bin_dir), **env}
        return commands.run_text(*words, cwd=cwd or repo.root, env=changed, stdin=stdin)

    return run


@pytest.fixture
def fake_claude(tmp_path: Path) -> Path:
    """A program that only says which version it is."""
    program = tmp_path / "claude"
    program.write_text(f"#!/bin/sh\necho '{TESTED[1]} (Claude Code)'\n")
    program.chmod(0o755)
    return program


def settings_file(scope: str, home: Path, repo: Repository) -> Path:
    """The settings file of a scope."""
    if scope == "user":
        return home / ".claude" / "settings.json"
    name = "settings.json" if scope == "project" else "settings.local.json"
    return repo.root / ".claude" / name


def launcher_of(home: Path) -> Path:
    """Where init writes the launcher."""
    return home / ".local/state/plandock/hook"


def findings(done: subprocess.CompletedProcess[str]) -> dict[str, list[dict[str, Any]]]:
    """The rows of `doctor --json` by check."""
    found: dict[str, list[dict[str, Any]]] = {}
    for row in json.loads(done.stdout):
        found.setdefault(row["check"], []).append(row)
    return found


@pytest.mark.parametrize("scope", SCOPES)
def test_init_and_uninit_leave_no_trace(scope, plandock, home, repo):
    """Twice wired is wired once, and unwired is as before, byte for byte, in every scope."""
    file = settings_file(scope, home, repo)
    file.parent.mkdir(parents=True)
    before = b'{\n\t"model" : "opus",\n\t"hooks": {"Stop": []}\n}\n\n'
    file.write_bytes(before)

    first = plandock("init", "--scope", scope, "--no-image")
    assert first.returncode == 0, first.stderr
    wired = file.read_bytes()
    assert wired != before
    second = plandock("init", "--scope", scope, "--no-image", "--json")
    assert second.returncode == 0
    assert json.loads(second.stdout)["changed"] is False
    assert file.read_bytes() == wired

    assert plandock("uninit", "--scope", scope).returncode == 0
    assert file.read_bytes() == before
    again = plandock("uninit", "--scope", scope, "--json")
    assert again.returncode == 0
    assert json.loads(again.stdout)["changed"] is False
    assert file.read_bytes() == before


@pytest.mark.parametrize("scope", SCOPES)
def test_init_of_nothing_is_undone_to_nothing(scope, plandock, home, repo):
    """A settings file that init made goes with uninit."""
    file = settings_file(scope, home, repo)
    made = plandock("init", "--scope", scope, "--no-image", "--json")
    assert json.loads(made.stdout)["created"] is True
    assert file.is_file()
    assert plandock("uninit", "--scope", scope).returncode == 0
    assert not file.exists()
    assert repo.git("status", "--porcelain") == ""


def test_init_refuses_broken_settings(plandock, home):
    """Settings that are no JSON are a usage error naming the file, and stay as they are."""
    file = home / ".claude/settings.json"
    file.parent.mkdir()
    file.write_text('{"hooks": ')
    done = plandock("init", "--no-image")
    assert done.returncode == 2
    assert str(file) in done.stderr
    assert "next:" in done.stderr
    assert file.read_text() == '{"hooks": '
    assert not launcher_of(home).exists()


def test_init_scope_project_needs_a_repository(plandock, tmp_path):
    """Outside a repository there is no project's file to write."""
    done = plandock("init", "--scope", "project", "--no-image", cwd=tmp_path)
    assert done.returncode == 2
    assert "repository" in done.stderr


def test_init_without_an_engine_wires_and_says_so(plandock, home):
    """No engine is no failure of init: the image comes on first need."""
    done = plandock("init")
    assert done.returncode == 0
    assert "on first need" in done.stderr
    assert (home / ".claude/settings.json").is_file()
    assert launcher_of(home).is_file()


def test_a_failing_image_leaves_the_wiring(plandock, home):
    """Where the image cannot be built, init fails with the error's code and stays wired."""
    config = home / ".config/plandock"
    config.mkdir(parents=True)
    (config / "config.toml").write_text('engine = "no such"\n')
    done = plandock("init")
    assert done.returncode == 2
    assert "the image was not built" in done.stderr
    assert (home / ".claude/settings.json").is_file()
    assert launcher_of(home).is_file()


def test_launcher_stays_while_another_repository_is_wired(plandock, home, make_repo):
    """Unwiring one repository does not take the guard from another."""
    other = make_repo("other")
    assert plandock("init", "--scope", "local", "--no-image").returncode == 0
    assert plandock("init", "--scope", "local", "--no-image", cwd=other.root).returncode == 0
    left = json.loads(plandock("uninit", "--scope", "local", "--json").stdout)
    assert left["launcher_removed"] is False
    assert left["still_wired"] == [str(other.root / ".claude/settings.local.json")]
    assert launcher_of(home).is_file()
    last = json.loads(plandock("uninit", "--scope", "local", "--json", cwd=other.root).stdout)
    assert last["launcher_removed"] is True
    assert not launcher_of(home).exists()
    assert not (home / ".local/state/plandock/wired.json").exists()


def test_doctor_without_an_engine_answers_20(plandock):
    """The first thing that is false decides the exit code, and each has a remedy."""
    done = plandock("doctor", "--json")
    assert done.returncode == 20
    rows = json.loads(done.stdout)
    assert all(set(row) == {"check", "ok", "detail", "remedy"} for row in rows)
    assert all(row["remedy"] for row in rows if row["ok"] is False)
    found = findings(done)
    assert set(found) == {
        "settings", "engine", "cli", "image", "hooks", "launcher", "login", "billing", "git",
        "store", "repository", "headless use",
    }  # fmt: skip
    assert found["engine"][0]["ok"] is False
    assert found["login"][0]["ok"] is False


def test_doctor_is_content_once_all_is_there(plandock, home, fake_claude):
    """Wired, signed in and with an identity, the engine is all that is left to complain about."""
    assert plandock("init", "--no-image").returncode == 0
    assert plandock("login", "--token", stdin=TOKEN).returncode == 0
    found = findings(plandock("doctor", "--json", PLANDOCK_CLAUDE=str(fake_claude)))
    false = [row for rows in found.values() for row in rows if row["ok"] is False]
    assert [row["check"] for row in false] == ["engine"]
    assert found["cli"][0]["ok"] is True
    assert TESTED[1] in found["cli"][0]["detail"]
    assert "setup token" in found["login"][0]["detail"]


@pytest.mark.parametrize(
    ("version", "side", "remedy"),
    [
        ("2.1.100", "is older than", "claude update"),
        ("2.1.9999", "is newer than", "plandock demo"),
        ("2.1.9999", "an accepted plan stay on this machine", f"claude install {TESTED[1]}"),
        ("2.1.200-rc.1", "is none of those", "plandock demo"),
    ],
)
def test_doctor_warns_of_a_cli_beyond_the_tested_range(
    plandock, fake_claude, version, side, remedy
):
    """It names the version and the range, and says what to do; it is no failure."""
    fake_claude.write_text(f"#!/bin/sh\necho '{version} (Claude Code)'\n")
    (row,) = findings(plandock("doctor", "--json", PLANDOCK_CLAUDE=str(fake_claude)))["cli"]
    assert row["ok"] is None
    assert side in row["detail"]
    assert all(x in row["detail"] for x in (version, *TESTED))
    assert remedy in row["remedy"]


def test_doctor_names_what_would_bill_per_token(plandock, repo):
    """Each culprit is named with its place and a remedy; its value is not shown."""
    key = "sk-ant-api03-" + "made-up" * 6
    repo.write({".claude/settings.json": json.dumps({"apiKeyHelper": "/bin/key"})})
    done = plandock("doctor", "--json", ANTHROPIC_API_KEY=key, CLAUDE_CODE_USE_BEDROCK="1")
    rows = findings(done)["billing"]
    text = json.dumps(rows)
    for name in ("ANTHROPIC_API_KEY", "CLAUDE_CODE_USE_BEDROCK", "apiKeyHelper"):
        assert name in text
    assert all(row["ok"] is None and row["remedy"] for row in rows)
    assert key not in done.stdout + done.stderr


def test_doctor_says_plainly_that_a_key_pays(plandock, home):
    """With billing = "api-key" in the user's own file, that is what doctor says."""
    config = home / ".config/plandock"
    config.mkdir(parents=True)
    (config / "config.toml").write_text('billing = "api-key"\n')
    found = findings(plandock("doctor", "--json"))
    assert 'billing = "api-key"' in found["billing"][0]["detail"]
    assert found["billing"][0]["ok"] is None


def test_doctor_says_what_headless_use_draws_on(plandock, home):
    """A dated sentence; and, where usage credits may pay, that they may and up to what."""
    rows = findings(plandock("doctor", "--json"))
    assert "15 June 2026" in rows["headless use"][0]["detail"]
    assert "usage credits" not in rows
    config = home / ".config" / "plandock" / "config.toml"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text('billing = "subscription+credits"\n')
    assert "without a limit" in findings(plandock("doctor", "--json"))["usage credits"][0]["detail"]
    config.write_text('billing = "subscription+credits"\nmax_credits_usd = 5\n')
    assert "up to 5 USD" in findings(plandock("doctor", "--json"))["usage credits"][0]["detail"]


def test_doctor_warns_of_hooks_wired_twice(plandock):
    """Two scopes mean two hooks for every event."""
    for scope in ("user", "local"):
        assert plandock("init", "--scope", scope, "--no-image").returncode == 0
    rows = findings(plandock("doctor", "--json"))["hooks"]
    twice = [row for row in rows if "more than once" in row["detail"]]
    assert [row["ok"] for row in twice] == [None]
    assert twice[0]["remedy"] == "plandock uninit --scope local"


def test_doctor_sees_an_older_launcher(plandock, home):
    """One that latches only once Python is at work."""
    plandock("init", "--no-image")
    assert findings(plandock("doctor", "--json"))["launcher"][0]["ok"] is True
    file = launcher_of(home)
    file.write_text(file.read_text().replace("# form 4", "# form 3"))
    row = findings(plandock("doctor", "--json"))["launcher"][0]
    assert row["ok"] is False
    assert (row["remedy"], "older" in row["detail"]) == ("plandock init", True)


def test_doctor_sees_a_launcher_that_cannot_run(plandock, home):
    """A launcher whose Python is gone is false, not merely there."""
    assert plandock("init", "--no-image").returncode == 0
    file = launcher_of(home)
    file.write_text(file.read_text().replace(f"python={sys.executable}", "python=/no/such/python"))
    row = findings(plandock("doctor", "--json"))["launcher"][0]
    assert row["ok"] is False
    assert row["remedy"] == "plandock init"


def test_doctor_shows_refused_and_broken_settings(plandock, repo):
    """What a repository may not say is a warning; what nobody can read is false."""
    repo.write({".plandock.toml": 'billing = "api-key"\n'})
    rows = findings(plandock("doctor", "--json"))["settings"]
    assert [row["ok"] for row in rows] == [True, None]
    assert "billing" in rows[1]["detail"]
    repo.write({".plandock.toml": "no_such_key = 1\n"})
    rows = findings(plandock("doctor", "--json"))["settings"]
    assert [row["ok"] for row in rows] == [False]
    assert "no_such_key" in rows[0]["detail"]


def test_doctor_says_of_settings_that_git_ignores_that_they_stay(plandock, repo):
    """What they deny is not denied in a box that does not have them."""
    text = '{"permissions": {"deny": ["Read(.env)"]}}'
    repo.write({".claude/settings.json": text, ".claude/settings.local.json": text})
    repo.write({".git/info/exclude": "settings.local.json\n"})
    rows = findings(plandock("doctor", "--json"))["repository"]
    assert [row["detail"].split(":")[0] for row in rows[:2]] == [
        "denied in the box too, as .claude/settings.json says",
        "not in the box",
    ]


def test_doctor_for_people_has_remedies_and_no_colour_in_a_pipe(plandock):
    """Marks and remedies, and not one escape sequence where nobody looks at colours."""
    done = plandock("doctor")
    assert "✗ engine" in done.stdout
    assert "→ plandock init" in done.stdout
    assert "\x1b" not in done.stdout


def test_login_stores_a_token_for_its_owner_alone(plandock, home):
    """The token comes by stdin, is kept 0600, shown nowhere, and can be forgotten."""
    done = plandock("login", "--token", stdin=TOKEN[:40] + "\n" + TOKEN[40:] + "\n")
    assert done.returncode == 0, done.stderr
    file = home / ".config/plandock/setup-token"
    assert file.read_text().strip() == TOKEN
    assert file.stat().st_mode & 0o777 == 0o600
    assert TOKEN not in done.stdout + done.stderr
    assert plandock("login", "--forget").returncode == 0
    assert not file.exists()
    assert plandock("login", "--forget").stdout.strip() == "no token was stored"


@pytest.mark.parametrize("given", ["", "nonsense", "sk-ant-api03-" + "x" * 40])
def test_login_refuses_what_is_no_setup_token(given, plandock, home):
    """An API key or anything else is refused with 21, not repeated, and not stored."""
    done = plandock("login", "--token", stdin=given)
    assert done.returncode == 21
    assert not given or given not in done.stderr
    assert not (home / ".config/plandock/setup-token").exists()


def test_login_without_a_terminal_is_a_usage_error(plandock):
    """Anthropic's flow needs somebody to follow it."""
    done = plandock("login")
    assert done.returncode == 2
    assert "--token" in done.stderr


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_completion_prints_a_script(shell, plandock):
    """The script asks plandock itself what may come next."""
    done = plandock("completion", shell)
    assert done.returncode == 0
    assert "_PLANDOCK_COMPLETE" in done.stdout


def test_completion_for_bash_is_valid(plandock):
    """Bash can read what it is given."""
    done = plandock("completion", "bash", PATH=os.environ["PATH"])
    assert done.returncode == 0
    read = subprocess.run(["bash", "-n"], input=done.stdout, text=True, check=False)
    assert read.returncode == 0
    assert "_PLANDOCK_COMPLETE" in done.stdout


def test_image_ls_without_an_engine_answers_20(plandock):
    """Images are the engine's to list."""
    done = plandock("image", "ls", "--json")
    assert done.returncode == 20
    assert "next:" in done.stderr
