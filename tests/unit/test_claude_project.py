"""Which settings files Claude Code reads; `e2e/test_folders.py` holds it to the real one."""

import os

import pytest

from plandock.settings import claude_project
from plandock.settings.claude_project import files_read, local_root, main_work_tree
from tests.support.repository import Repository, make_repository

OLD, NEW = "2.1.197", "2.1.332"


@pytest.fixture
def repository(tmp_path):
    """A repository with a folder, and a linked work tree elsewhere."""
    made = make_repository(tmp_path / "app")
    made.git("worktree", "add", "-q", str(tmp_path / "linked"))
    return made.root, tmp_path / "linked"


def read(start, version, config):
    """The files that are read, without the user's own."""
    return [f.path for f in files_read(start, config_dir=config, version=version)][1:]


def test_the_project_s_file_is_that_of_the_very_folder(repository, tmp_path):
    """Never one above; a link counts as what it leads to."""
    top, linked = repository
    (tmp_path / "link").symlink_to(top / "src")
    for start, folder in ((top, top), (top / "src", top / "src"), (tmp_path / "link", top / "src")):
        for version in (OLD, NEW, "", "odd"):
            assert read(start, version, tmp_path)[0] == folder / ".claude" / "settings.json"
    assert read(linked, NEW, tmp_path)[0] == linked / ".claude" / "settings.json"


def test_local_settings_are_the_repository_s_since_2_1_211(repository):
    """From a folder, a linked work tree, a folder of that; before it, those of the folder alone."""
    top, linked = repository
    for start in (top, top / "src", linked, linked / "src"):
        assert local_root(start, "2.1.211") == local_root(start, NEW) == top
        for version in ("2.1.210", OLD, "", "odd"):
            assert local_root(start, version) == start


def test_a_git_file_that_the_repository_does_not_point_back_to_counts_for_nothing(repository):
    """Anybody can write one; a submodule's has no common folder, a bare one's has no `.git`."""
    top, linked = repository
    forged = top.parent / "forged"
    forged.mkdir()
    for text in ((linked / ".git").read_text(), "gitdir: \0", "gitdir: " + "x" * 70000, "gitdir:"):
        (forged / ".git").write_text(text)
        assert main_work_tree(forged) == local_root(forged, NEW) == forged
    (forged / ".git").unlink()
    os.mkfifo(forged / ".git")
    assert main_work_tree(forged) == forged
    bare = Repository(top.parent / "bare.git")
    Repository(top).git("clone", "-q", "--bare", str(top), str(bare.root))
    bare.git("worktree", "add", "-q", str(top.parent / "of-bare"), "-b", "other")
    assert local_root(top.parent / "of-bare" / "src", NEW) == top.parent / "of-bare" / "src"


def test_another_s_repository_and_the_home_folder_keep_no_local_settings_for_all(
    repository, monkeypatch
):
    """So the CLI itself: neither counts for folders below."""
    top, _ = repository
    monkeypatch.setattr(claude_project, "_is_ours", lambda root: False)
    assert local_root(top / "src", NEW) == top / "src"
    monkeypatch.undo()
    monkeypatch.setenv("HOME", str(top))
    assert local_root(top / "src", NEW) == top / "src"
    # In the home folder the project's file is the user's.
    named = files_read(top, config_dir=top / ".claude", version=NEW)
    assert [f.tier for f in named] == ["user", "local"]
