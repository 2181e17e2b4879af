"""A run handed off in a linked work tree, which Claude Code removes when its session ends."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from plandock import git, paths
from plandock.box import launch
from plandock.cli import taking
from plandock.errors import PlandockError, RepositoryError
from plandock.runs.model import Run, RunId, State
from plandock.runs.store import Store
from plandock.supervisor import (
    adopting,
    dropping,
    freezing,
    harvesting,
    queue,
    recover,
    resuming,
    waiting,
)
from tests.git.boxes import BRANCH, Box, get
from tests.git.worlds import World


class Engine:
    """An engine that has the run's volumes, and in which nothing is started."""

    name = "docker"

    def volume_names(self, _: str) -> list[str]:
        """The run's work is there."""
        return ["plandock-r222-work"]


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """The store of this test's home; nothing is started."""
    monkeypatch.setattr(queue, "start", lambda *_: None)
    with Store() as opened:
        yield opened


@pytest.fixture(params=["main", "bare"])
def ground(request: pytest.FixtureRequest, world: World) -> Path:
    """The repository that the work tree belongs to: with a work tree of its own, or bare."""
    if request.param == "main":
        return Path(world.root)
    bare = Path(world.folder) / "only.git"
    world.git("clone", "-q", "--bare", str(world.root), str(bare))
    return bare


def run_in(store: Store, ground: Path, tree: Path, world: World, **fields: Any) -> Run:
    """A run of a new linked work tree."""
    world.git("worktree", "add", "-q", "-b", "worktree-wt1", str(tree), at=ground)
    (tree / "a.txt").write_text("not committed\n")
    paths.run_dir("r222").mkdir(parents=True)
    (paths.run_dir("r222") / "plan.md").write_text("# Plan\n")
    run = Run(
        id=RunId("r222"), repo=str(tree), cwd=str(tree), git_home=str(ground), handoff_key="k",
        engine="docker", fresh=True, config_dir=str(paths.home() / ".claude"), **fields,
    )  # fmt: skip
    return store.add(run, name_branch=lambda _: BRANCH)[0]


def removed(ground: Path, tree: Path, world: World) -> None:
    """As the CLI does it."""
    world.git("worktree", "remove", "--force", str(tree), at=ground)
    world.git("branch", "-D", "worktree-wt1", at=ground)
    assert not tree.exists()


def test_the_work_arrives_in_the_repository_that_the_work_tree_belonged_to(
    store: Store, world: World, ground: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Frozen with what was not committed; brought home, told, resumed and dropped without it."""
    tree = Path(world.folder) / "wt1"
    run = freezing.freeze(store, run_in(store, ground, tree, world))
    assert run.git_place == str(tree)
    removed(ground, tree, world)
    run = store.get("r222")
    assert run.git_place == str(ground)
    git.check_there(run.git_place)
    waiting._check_room(run)
    world.git("fetch", "-q", str(ground), f"{run.snapshot}:refs/tests/snapshot")
    box = Box(world, run.snapshot)
    assert (box.root / "a.txt").read_text() == "not committed\n"
    new = box.commit({"new.txt": "1\n"})
    answer = box.harvest()
    monkeypatch.setattr(harvesting, "fetch_bundle", lambda *_: get(paths.run_dir("r222"), answer))
    taken = harvesting.take_work(store, Engine(), run)  # type: ignore[arg-type]
    assert (taken.branch, taken.head, taken.commits) == (BRANCH, new, 1)
    assert git.line(ground, "rev-parse", f"refs/heads/{BRANCH}") == new
    run = store.change("r222", head=new, commits=1, branch=taken.branch)
    assert recover._is_home(run)
    assert dropping.losses(run) == []
    store.move("r222", State.QUEUED, State.STOPPED)
    assert resuming.resume(store, store.get("r222"))[0].state is State.QUEUED
    label = launch.labels_of(run, "work")[launch.RECORD]
    found = adopting.read_label(label, "r222")
    assert found is not None
    assert found.git_place == str(ground)
    dropping.keep(run)
    assert dropping._hidden_refs(run)


def test_a_work_tree_that_went_before_it_was_frozen_is_told_with_the_next_step(
    store: Store, world: World, ground: Path
) -> None:
    """The plan is kept; nothing else was accepted that could be carried out."""
    tree = Path(world.folder) / "wt1"
    run = run_in(store, ground, tree, world)
    removed(ground, tree, world)
    with pytest.raises(RepositoryError, match="was removed before its files were taken") as raised:
        freezing.freeze(store, run)
    assert f"plandock run --plan {paths.run_dir('r222') / 'plan.md'}" in raised.value.hint
    store.move("r222", State.QUEUED, State.FAILED)
    with pytest.raises(RepositoryError, match="was removed before"):
        resuming.resume(store, store.get("r222"))


def test_what_is_taken_goes_where_the_user_stands_and_nowhere_else(
    store: Store, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The main work tree is nobody's choice until somebody stands in it."""
    tree, main = Path(world.folder) / "wt1", Path(world.root)
    run = run_in(store, main, tree, world)
    monkeypatch.chdir(main)
    assert taking._tree_to_take_into(run) == main
    monkeypatch.chdir(world.folder)
    assert taking._tree_to_take_into(run) == tree
    removed(main, tree, world)
    with pytest.raises(PlandockError):
        taking._tree_to_take_into(run)
    monkeypatch.chdir(main / "dir")
    assert taking._tree_to_take_into(run) == main
