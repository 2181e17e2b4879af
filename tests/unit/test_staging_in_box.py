"""The mirror of a repository, as stagings of several runs make it and leave it.

The script is loaded as it lies in the image, from its file; its git is the real one.
"""

from __future__ import annotations

import importlib.util
import subprocess
import threading
from pathlib import Path
from types import ModuleType

import pytest

import plandock
from tests.support.repository import Repository

INSIDE = Path(plandock.__file__).parent / "box" / "inside"
OF_GIT = subprocess.run(
    ["sh", "-c", "command -v git"], capture_output=True, text=True, check=True
).stdout.strip()


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    """An empty folder, as a volume is at first."""
    (made := tmp_path / "mirror").mkdir()
    return made


@pytest.fixture
def staging(mirror: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The staging's module, with the mirror in the volume's place."""
    spec = importlib.util.spec_from_file_location("stage_of_the_box", INSIDE / "stage.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "MIRROR", str(mirror))
    return module


def test_several_first_stagings_of_a_repository_make_its_mirror_once(
    staging: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs of one repository begin side by side; a `git init` that meets another one fails."""
    programs = tmp_path / "bin"
    programs.mkdir()
    alone = tmp_path / "alone"
    (programs / "git").write_text(
        "#!/bin/sh\n"
        f'case " $* " in *" init "*) mkdir {alone} || exit 1; sleep 0.2; rmdir {alone} ;; esac\n'
        f'exec {OF_GIT} "$@"\n'
    )
    (programs / "git").chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=":")
    said: list[object] = []

    def prepare() -> None:
        try:
            said.append(staging.prepare_mirror("sha1"))
        except Exception as error:
            said.append(error)

    threads = [threading.Thread(target=prepare) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert said == [[]] * 6


@pytest.mark.parametrize(
    "left", [("HEAD",), ("HEAD", "config.lock"), ("config", "HEAD.lock"), ("refs/", "description")]
)
def test_a_mirror_whose_making_was_killed_is_made_whole(
    staging: ModuleType, mirror: Path, left: tuple[str, ...]
) -> None:
    """Whatever of it is there, the next staging has a repository."""
    for name in left:
        (mirror / name).mkdir() if name.endswith("/") else (mirror / name).touch()
    if "HEAD" in left:
        (mirror / "HEAD").write_text("ref: refs/heads/main\n")
    assert staging.prepare_mirror("sha1") == []
    asked = ["git", "-C", str(mirror), "rev-parse", "--is-bare-repository"]
    assert subprocess.run(asked, capture_output=True, text=True, check=True).stdout == "true\n"


def test_a_mirror_that_a_power_cut_emptied_is_mended_and_keeps_what_it_has(
    staging: ModuleType, mirror: Path, repo: Repository
) -> None:
    """The mark outlived what it vouches for; every later run of the repository would fail."""
    staging.prepare_mirror("sha1")
    repo.git("push", "-q", str(mirror), "HEAD:refs/heads/sent")
    (mirror / "HEAD").write_bytes(b"")
    assert staging.prepare_mirror("sha1") == [repo.git("rev-parse", "HEAD")]
    assert (mirror / "HEAD").read_text().startswith("ref: ")


def test_a_lock_that_a_killed_staging_left_on_its_runs_ref_is_no_end(
    staging: ModuleType, mirror: Path, repo: Repository, tmp_path: Path
) -> None:
    """The same run is staged again, over what the first time left."""
    staging.prepare_mirror("sha1")
    (mirror / "refs/plandock").mkdir()
    (mirror / "refs/plandock/r1.lock").touch()
    repo.git("push", "-q", str(mirror), "HEAD:refs/heads/sent")
    (work := tmp_path / "work").mkdir()
    head = repo.git("rev-parse", "HEAD")
    wish = {"workspace": str(work), "snapshot": head, "branch": "feature/auto", "run": "r1"}
    wish |= {"name": "A", "email": "a@b.c", "object_format": "sha1"}
    staging.lay_out({**wish, "shallow": [], "pack": False})
    assert (mirror / "refs/plandock/r1").read_text().strip() == head
    assert Repository(work).git("rev-parse", "HEAD") == head
    assert Repository(work).git("status", "--porcelain") == ""


def test_the_boundaries_of_shallow_clones_add_up_in_the_mirror(
    staging: ModuleType, mirror: Path
) -> None:
    """Each once, in a file that is whole at any moment; an unfinished one is not read."""
    staging.prepare_mirror("sha1")
    first, second = "1" * 40, "2" * 40
    staging.add_boundary([first])
    (mirror / "shallow.new").write_text("half of a l")
    staging.add_boundary([second, first])
    assert (mirror / "shallow").read_text() == f"{first}\n{second}\n"
