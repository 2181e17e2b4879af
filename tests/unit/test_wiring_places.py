"""`init`, `uninit`, `doctor` and `run --session` in a folder, by where Claude Code looks."""

import json
import os
import shlex
import shutil

import pytest

from plandock import paths
from plandock.claude.binary import TESTED
from plandock.cli.sessions import find_session
from plandock.errors import PlandockError
from tests.support.managed import add_mod
from tests.support.repository import Repository, make_repository

# The answer to an accepted plan, as 2.1.332 writes it.
PLAN = {"toolUseResult": {"plan": "Do it.", "isAgent": False}}


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


def test_doctor_says_where_no_plan_can_be_handed_off(plandock, repo, tmp_path):
    """Without a repository, without a commit, in a bare one: it is no fault of the set-up."""
    (tmp_path / "plain").mkdir()
    Repository(tmp_path / "plain").git("init", "-q", str(tmp_path / "unborn"))
    repo.git("clone", "-q", "--bare", str(repo.root), str(tmp_path / "bare"))
    for name in ("plain", "unborn", "bare"):
        found = json.loads(plandock("doctor", "--json", cwd=tmp_path / name).stdout)
        (row,) = [x for x in found if "no plan can be handed off here" in x["detail"]]
        assert (row["check"], row["ok"], "commit" in row["remedy"]) == ("repository", None, True)
    assert "no plan can be" not in plandock("doctor").stdout


def test_init_says_ready_only_where_nothing_is_in_the_way(plandock, repo):
    """What runs inside Claude Code and reaches for no hook is named all the same."""
    folder = add_mod(repo.root / ".claude", "ui.render")
    done = plandock("init", "--no-image")
    assert f"note: the mod {folder} (hooks ui.render)" in done.stdout
    assert "ready: " in done.stdout
    (repo.root / ".claude/settings.json").write_text('{"disableAllHooks": true}')
    done = plandock("init", "--no-image")
    assert "cannot fire" in done.stderr
    assert "ready: " not in done.stdout


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
    records = [{"type": "user", "cwd": str(app)}, {"type": "user", "cwd": str(lib), **PLAN}]
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


@pytest.fixture
def talk(home):
    """A factory of conversations, kept under such a folder's name, each newer than the last."""
    made = []

    def make(folder, *records, number=None):
        made.append(folder)
        place = home / ".claude" / "projects" / paths.project_key(str(folder))
        place.mkdir(parents=True, exist_ok=True)
        file = place / f"{number or len(made)}b6d6d3c-6a51-4f0a-9c39-000000000001.jsonl"
        file.write_text("".join(json.dumps(r) + "\n" for r in records))
        os.utime(file, (1e9 + len(made), 1e9 + len(made)))
        return file

    return make


def said(cwd, **more):
    """A record of a message, with the folder of the shell."""
    return {"type": "user", "cwd": str(cwd)} | more


def test_last_is_the_newest_conversation_of_the_work_tree_that_holds_a_plan(tmp_path, talk):
    """From whichever of its folders.  Before, a newer one of a folder below was not seen at all."""
    app = make_repository(tmp_path / "app").root
    api, web = app / "packages" / "api", app / "packages" / "web"
    for folder in (api, web):
        folder.mkdir(parents=True)
    beside = make_repository(tmp_path / "app-two").root
    talk(app, said(app, **PLAN))
    newer = talk(api, said(api, **PLAN))
    talk(beside, said(beside, **PLAN))
    idle = talk(web, said(web))
    for here in (app, api, web):
        assert find_session(here, "last") == (newer, api)
    assert find_session(web, idle.stem) == (idle, web)
    cleared = talk(web, said(web, planContent="Do it."))
    assert find_session(app, "last") == (cleared, web)


def test_last_without_any_plan_is_refused_with_the_way_to_one_without(tmp_path, talk):
    """A conversation that was only talk is not carried out by chance."""
    app = make_repository(tmp_path / "app").root
    idle = talk(app, said(app))
    with pytest.raises(PlandockError, match="holds a plan") as refused:
        find_session(app, "last")
    assert refused.value.hint.endswith(f"plandock run --session {idle.stem}")


def test_a_session_that_entered_a_work_tree_lands_there(tmp_path, talk):
    """2.1.197 keeps it under the main tree's name, and leaves a stub under the work tree's."""
    app = make_repository(tmp_path / "app").root
    tree = tmp_path / "tree"
    Repository(app).git("worktree", "add", "-q", str(tree))
    held = {"worktreePath": str(tree), "originalCwd": str(app)}
    entered = {"type": "worktree-state", "worktreeSession": held}
    kept = talk(app, said(app), entered, said(tree, **PLAN), number=7)
    talk(tree, {"type": "agent-name", "agentName": "x"}, number=7)
    for here in (app, tree, tree / "src"):
        for name in ("last", kept.stem):
            assert find_session(here, name) == (kept, tree)
    shutil.rmtree(tree)
    assert find_session(app, kept.stem) == (kept, app)


def test_a_folder_that_is_gone_is_not_named_to_go_to(tmp_path, talk):
    """Nor is another taken for it that has the same name there (`a-b`, `a/b`)."""
    app = make_repository(tmp_path / "app").root
    twin = make_repository(tmp_path / "a" / "b").root
    for gone, here in ((app / ".claude" / "worktrees" / "x", app), (tmp_path / "a-b", twin)):
        kept = talk(gone, said(gone, **PLAN))
        with pytest.raises(PlandockError) as refused:
            find_session(here, kept.stem)
        assert f"{gone}, which is gone" in refused.value.message
        assert "cd " not in refused.value.hint
        with pytest.raises(PlandockError, match="no conversation 'last'"):
            find_session(here, "last")
