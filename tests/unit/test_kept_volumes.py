"""Volumes that hold the only copy of something are removed by neither harvest nor recover."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from plandock import paths
from plandock.engines import detect
from plandock.engines.protocol import Volume
from plandock.runs.model import Run, RunId, State
from plandock.runs.store import Store
from plandock.supervisor import harvesting, recover
from tests.support.repository import Repository

DONE = {"target": "done", "reason": "", "exit_code": 0}


class Engine:
    """An engine that has the volume with the run's work, and nothing else."""

    name = "docker"

    def __init__(self) -> None:
        self.removed: list[str] = []

    def volume_names(self, label: str) -> list[str]:
        """As they are called."""
        return [volume.name for volume in self.volumes(label)]

    def volumes(self, _: str) -> list[Volume]:
        """The one with the work."""
        return [Volume("plandock-r222-work", {"plandock.run": "r222"})]

    def container_names(self, _: str) -> list[str]:
        """No container is left."""
        return []

    def remove(self, name: str) -> None:
        """One that is not there is fine."""

    def remove_volume(self, *names: str) -> None:
        """Keep in mind that they were removed."""
        self.removed += names


@pytest.mark.parametrize(
    ("notes", "kept"), [(["files over 100 MiB were left behind: core"], True), ([], False)]
)
def test_harvest_keeps_the_volume_when_something_is_left_behind(
    repo: Repository, monkeypatch: pytest.MonkeyPatch, notes: list[str], kept: bool
) -> None:
    """It is the only copy; the control: with all of it home, the volume goes."""
    engine = Engine()
    ended = _harvested(engine, repo, monkeypatch, commits=2, branch="feature/auto", notes=notes)
    assert (ended.state, ended.staged) == (State.DONE, kept)
    assert ("plandock-r222-work" in engine.removed) is not kept
    assert any("in the volume plandock-r222-work" in note for note in ended.notes) is kept


def _harvested(
    engine: Engine, repo: Repository, monkeypatch: pytest.MonkeyPatch, **came: Any
) -> Run:
    """A run that is done, after a harvest in which this came out of its volume."""
    monkeypatch.setattr(detect, "choose", lambda _: engine)
    taken = {"head": repo.head(), "branch": "", "commits": 0, "others": {}, "flagged": []}
    taken |= {"notes": []} | came
    monkeypatch.setattr(harvesting, "take_work", lambda *_: SimpleNamespace(**taken))
    monkeypatch.setattr(harvesting, "_bring_conversation_home", lambda *_: None)
    paths.run_dir("r222").mkdir(parents=True)
    with Store() as store:
        run = Run(
            id=RunId("r222"), state=State.HARVESTING, repo=str(repo.root), handoff_key="k",
            engine="docker", staged=True, ending=DONE,
        )  # fmt: skip
        run, _ = store.add(run, name_branch=lambda _: "feature/auto")
        harvesting.harvest(store, run)
        return store.get("r222")


SIDE = "refs/plandock/runs/r222/others/side"


@pytest.mark.parametrize(
    ("came", "words"),
    [
        ({}, harvesting.NOTHING_DONE),
        ({"others": {"side": "1" * 40}}, SIDE),
        ({"notes": ["files over 100 MiB were left behind: core"]}, "left behind: core"),
    ],
    ids=["nothing", "on another branch", "left behind"],
)
def test_a_run_without_a_branch_says_where_its_work_is(
    repo: Repository, monkeypatch: pytest.MonkeyPatch, came: dict[str, Any], words: str
) -> None:
    """That nothing was carried out is said only where nothing was made."""
    ended = _harvested(Engine(), repo, monkeypatch, **came)
    assert (ended.state, ended.commits, ended.branch) == (State.DONE, 0, "")
    assert words in ended.message
    assert (ended.message == harvesting.NOTHING_DONE) is (not came)
    assert ended.hint == (f"git log {SIDE}" if "others" in came else "plandock logs r222")


def test_what_is_beside_the_branch_is_named(
    repo: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some of it came on the run's branch; the rest can be found, too."""
    others = {f"side-{n:02}": "1" * 40 for n in range(12)}
    ended = _harvested(Engine(), repo, monkeypatch, commits=1, branch="feature/auto", others=others)
    (note,) = (x for x in ended.notes if "others/side-00" in x)
    assert note.endswith("others/side-09 and 2 more")
    assert ended.message == ""


@pytest.mark.parametrize(
    ("fields", "kept"),
    [
        ({"staged": True}, True),
        ({"exit_code": 23}, True),
        ({"commits": 1, "head": "1" * 40}, True),
        ({}, False),
    ],
    ids=["not-home-whole", "refused", "branch-without-its-head", "nothing-of-worth"],
)
def test_recover_removes_no_volume_that_holds_work(
    repo: Repository, monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any], kept: bool
) -> None:
    """A run has ended, and the engine still has its volume."""
    engine = Engine()
    paths.run_dir("r222").mkdir(parents=True)
    ended = Run(
        id=RunId("r222"), state=State.FAILED, repo=str(repo.root), handoff_key="k",
        engine="docker", branch="feature/auto", **fields,
    )  # fmt: skip
    parts = recover._Parts(volumes=engine.volumes(""))
    found = list(recover._clear(engine, ended, parts, dry_run=False))  # type: ignore[arg-type]
    assert engine.removed == ([] if kept else ["plandock-r222-work"])
    assert bool(found) is not kept
