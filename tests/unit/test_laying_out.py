"""The workspace as it is laid out in its volume: what its git knows, and what it does not."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

import plandock
from tests.support.repository import Repository

INSIDE = Path(plandock.__file__).parent / "box" / "inside"


@pytest.fixture
def workspace(tmp_path: Path, repo: Repository, monkeypatch: pytest.MonkeyPatch) -> Repository:
    """A workspace as the image's own program lays it out; the repository has a remote."""
    spec = importlib.util.spec_from_file_location("stage_of_the_box", INSIDE / "stage.py")
    assert spec is not None
    assert spec.loader is not None
    stage = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(stage)
    mirror, work = tmp_path / "mirror", tmp_path / "work"
    mirror.mkdir()
    work.mkdir()
    monkeypatch.setattr(stage, "MIRROR", str(mirror))
    stage.prepare_mirror("sha1")
    repo.git("remote", "add", "origin", "https://git.example.invalid/ada/project.git")
    repo.git("push", "-q", str(mirror), "HEAD:refs/heads/sent")
    wish = {
        "workspace": str(work), "snapshot": repo.head(), "branch": "feature/auto", "run": "r222",
        "name": "Ada", "email": "ada@example.invalid", "object_format": "sha1", "shallow": [],
        "pack": False,
    }  # fmt: skip
    stage.lay_out(wish)
    return Repository(work)


def test_the_workspace_has_no_remote_and_no_setting_beyond_its_own(workspace: Repository) -> None:
    """Nowhere to push to and nothing to push with: what git made, and who commits."""
    assert workspace.git("remote") == ""
    listed = workspace.git("config", "--local", "--list", "--name-only").split()
    assert {name for name in listed if not name.startswith("core.")} == {"user.name", "user.email"}
    assert workspace.git("config", "user.email") == "ada@example.invalid"


def test_the_workspace_stands_on_the_runs_branch_and_runs_no_hook(workspace: Repository) -> None:
    """One branch, at the snapshot; its objects are borrowed."""
    assert workspace.git("symbolic-ref", "HEAD") == "refs/heads/feature/auto"
    assert workspace.git("for-each-ref", "--format=%(refname)") == "refs/heads/feature/auto"
    assert workspace.git("status", "--porcelain") == ""
    hooks = workspace.root / ".git" / "hooks"
    assert [x.name for x in hooks.glob("*") if x.suffix != ".sample"] == []
