"""`init`, `uninit`, `doctor` and `run --session` in a folder, by where Claude Code looks."""

import json
import os
import shlex

import pytest

from plandock import paths
from plandock.claude.binary import TESTED
from plandock.cli.sessions import find_session
from plandock.errors import PlandockError
from tests.support.repository import make_repository


@pytest.fixture
def plandock(repo, tmp_path, commands):
    """Run the command line with a CLI of this version that only says which it is."""

    def run(*words, cwd=None, version=TESTED[1], **env):
        program = tmp_path / f"claude-{version}"
        program.write_text(f"#!/bin/sh\necho '{version} (Claude Code)'\n")
        program.chmod(0o755)
        env = {**os.environ, "PLANDOCK_CLAUDE": str(program), "PLANDOCK_ENGINE": "docker", **env}
        env |= {"DOCKER_HOST": f"unix://{tmp_path}/absent"}
        return commands.run_text(*words, cwd=cwd or repo.root, env=env, stdin="")

    return run


@pytest.fixture
def hooks_in(plandock):
    """A function: the lines of `doctor` on hooks, in a folder."""

    def look(cwd, **rest):
        found = json.loads(plandock("doctor", "--json", cwd=cwd, **rest).stdout)
        return [x for x in found if x["check"] == "hooks"]

    return look


@pytest.fixture
def linked(repo, tmp_path):
    """A linked work tree of the repository."""
    repo.git("worktree", "add", "-q", str(tmp_path / "linked"))
    return tmp_path / "linked"


def test_doctor_says_where_a_wiring_at_the_top_is_not_in_effect(plandock, hooks_in, repo, linked):
    """Not "wired": nothing is called there.  The remedies are commands that make it right."""
    plandock("init", "--scope", "project", "--no-image")
    assert [x["ok"] for x in hooks_in(repo.root)] == [True]
    for folder in (repo.root / "src", linked):
        for version in TESTED:
            (line,) = hooks_in(folder, version=version)
            assert line["ok"] is False
            where = f"when it is started in {folder}: it does not read {repo.root}/.claude/settings"
            assert where in line["detail"]
            assert line["remedy"].startswith("plandock init (for every folder)")
    plandock("init", "--no-image", cwd=repo.root / "src")
    for folder in (repo.root / "src", linked):
        assert [x["ok"] for x in hooks_in(folder)] == [True]


def test_local_hooks_count_as_each_version_reads_them(plandock, hooks_in, repo, linked):
    """In folders and linked work trees the newest reads the main work tree's, the oldest does not.

    Before, `doctor` said "wired" of the folder with both, and "not wired" of the work tree.
    """
    plandock("init", "--scope", "local", "--no-image", cwd=linked)
    assert (repo.root / ".claude" / "settings.local.json").is_file()
    assert not (linked / ".claude").exists()
    for folder in (repo.root / "src", linked, linked / "src"):
        assert [x["ok"] for x in hooks_in(folder)] == [True]
        assert [x["ok"] for x in hooks_in(folder, version=TESTED[0])] == [False]
    plandock("init", "--scope", "local", "--no-image", cwd=linked, version=TESTED[0])
    assert [x["ok"] for x in hooks_in(linked, version=TESTED[0])] == [True]


@pytest.mark.parametrize("scope", ["project", "local"])
@pytest.mark.parametrize("version", TESTED)
def test_init_in_a_folder_is_in_effect_there_and_undone_from_there(
    plandock, hooks_in, repo, linked, scope, version
):
    """Whatever folder it is; nothing is left but what was there."""
    for folder in (repo.root / "src", linked, linked / "src", repo.root):
        words = ("--scope", scope)
        plandock("init", *words, "--no-image", cwd=folder, version=version)
        assert [x["ok"] for x in hooks_in(folder, version=version)] == [True]
        plandock("uninit", *words, cwd=folder, version=version)
        assert [x["ok"] for x in hooks_in(folder, version=version)] == [False]
        assert not list(repo.root.rglob(".claude")) + list(linked.rglob(".claude"))


def test_uninit_in_a_folder_takes_out_what_stands_at_the_top(plandock, hooks_in, repo):
    """As it did before there was a rule for folders; and the launcher goes with it."""
    plandock("init", "--scope", "project", "--no-image")
    done = json.loads(
        plandock("uninit", "--scope", "project", "--json", cwd=repo.root / "src").stdout
    )
    assert done["path"] == str(repo.root / ".claude" / "settings.json")
    assert (done["changed"], done["launcher_removed"]) == (True, True)


def test_init_of_a_project_says_whom_it_serves(plandock, repo):
    """And in the home folder, where the file is the user's own, it says which scope is meant."""
    said = plandock("init", "--scope", "project", "--no-image").stdout
    assert f"reads this file when it is started in {repo.root}, not in a folder below" in said
    assert "for every folder: plandock init" in said
    refused = plandock("init", "--scope", "project", "--no-image", HOME=str(repo.root))
    assert refused.returncode == 2
    assert "is your user settings file" in refused.stderr


def test_doctor_warns_of_a_config_folder_that_depends_on_the_folder(hooks_in, repo):
    """Claude Code takes a relative one from where it is started, and so does plandock."""
    lines = hooks_in(repo.root, CLAUDE_CONFIG_DIR="conf")
    assert (lines[0]["ok"], "no absolute path" in lines[0]["detail"]) == (None, True)
    assert str(repo.root / "conf") in lines[0]["detail"]
    assert all("absolute" not in x["detail"] for x in hooks_in(repo.root, CLAUDE_CONFIG_DIR="/c"))


def test_a_session_is_found_from_every_folder_of_its_repository_and_no_other(tmp_path, home):
    """`last` and an id; one of another repository is refused with the way to it."""
    app, lib = make_repository(tmp_path / "a b").root, make_repository(tmp_path / "lib").root
    twin = make_repository(tmp_path / "a" / "b").root  # its conversations lie in the same folder
    session = "0b6d6d3c-6a51-4f0a-9c39-000000000001"
    folder = home / ".claude" / "projects" / paths.project_key(str(app))
    folder.mkdir(parents=True)
    records = [{"type": "user", "cwd": str(x)} for x in (app, lib)]
    (folder / f"{session}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    for here in (app, app / "src"):
        for name in ("last", session):
            assert find_session(here, name) == (folder / f"{session}.jsonl", app)
    for here in (lib, twin):
        with pytest.raises(PlandockError) as refused:
            find_session(here, session)
        assert str(app) in refused.value.message
        assert refused.value.hint.startswith(f"cd {shlex.quote(str(app))}; then: plandock run")
        with pytest.raises(PlandockError, match="no conversation 'last'"):
            find_session(here, "last")
