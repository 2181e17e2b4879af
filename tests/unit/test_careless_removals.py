"""What somebody removes under a run by hand costs as little as can be, and never the run's end."""

from __future__ import annotations

import shutil
from types import SimpleNamespace
from typing import Any

import pytest

from plandock import paths
from plandock.box import launch
from plandock.cli import standing
from plandock.engines.protocol import Volume
from plandock.errors import RepositoryError
from plandock.runs.model import Run, RunId, State
from plandock.runs.store import Store
from plandock.supervisor import drive, dropping, freezing, harvesting, recover, resuming, staging
from plandock.supervisor.verdict import stopped
from tests.support.repository import Repository

HEAD = "1" * 40
DONE = {"target": "done", "reason": "", "exit_code": 0}


class Engine:
    """An engine with some volumes, in which nothing may be started."""

    name = "docker"

    def __init__(self, *roles: str) -> None:
        self.there = [f"plandock-r222-{role}" for role in roles]
        self.removed: list[str] = []

    def volume_names(self, label: str) -> list[str]:
        """As they are called."""
        return [volume.name for volume in self.volumes(label)]

    def volumes(self, _: str) -> list[Volume]:
        """What is left of the run's volumes."""
        return [Volume(name, {"plandock.run": "r222"}) for name in self.there]

    def container_names(self, _: str) -> list[str]:
        """No container is left."""
        return []

    def remove(self, name: str) -> None:
        """One that is not there is fine."""

    def remove_volume(self, *names: str) -> None:
        """Keep in mind that they were removed."""
        self.removed += names


@pytest.fixture
def made(repo: Repository, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A recorded run in a state, with its folder, and an engine that has these volumes."""
    opened: list[Store] = []

    def make(state: State, *roles: str, **fields: Any) -> Any:
        paths.run_dir("r222").mkdir(parents=True)
        (paths.run_dir("r222") / "plan.md").write_text("# Plan\n")
        run = Run(
            id=RunId("r222"), state=state, repo=str(repo.root), handoff_key="k", engine="docker",
            snapshot=repo.head(), **{"staged": True, **fields},
        )  # fmt: skip
        opened.append(Store())
        engine = Engine(*roles)
        for module in (harvesting, staging):
            monkeypatch.setattr(module.detect, "choose", lambda _: engine)
        store = opened[0]
        return SimpleNamespace(
            engine=engine, store=store, run=store.add(run, name_branch=lambda _: "feature/auto")[0]
        )

    yield make
    for store in opened:
        store.close()


def test_a_harvest_killed_while_it_cleaned_up_only_cleans_up(made: Any) -> None:
    """The volumes may be gone by then; branch, commits and conversation are recorded already."""
    it = made(
        State.HARVESTING, step="clean-up", ending=DONE, head=HEAD, commits=3, box_session_id="b"
    )
    harvesting.harvest(it.store, it.run)
    run = it.store.get("r222")
    assert (run.state, run.head, run.commits, run.box_session_id) == (State.DONE, HEAD, 3, "b")
    assert "plandock-r222-work" in it.engine.removed


def test_a_harvest_without_its_volume_ends_in_one_sentence(made: Any) -> None:
    """No empty volume is made in its place, and it is not tried again for ever."""
    it = made(State.HARVESTING, "conversation", ending=DONE)
    with pytest.raises(harvesting.WorkGone) as raised:
        harvesting.harvest(it.store, it.run)
    drive._mishap(it.store, it.store.get("r222"), raised.value)
    run = it.store.get("r222")
    assert (run.state, run.reason, run.exit_code) == (State.FAILED, "lost", 10)
    assert "somebody removed the volume plandock-r222-work" in run.message
    assert run.hint == "plandock resume r222 begins again"
    assert not run.staged
    assert "plandock-r222-conversation" in it.engine.removed


def test_work_is_brought_home_before_a_box_without_its_conversation_begins_again(
    made: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is laid out over the volume of work would end it."""
    it = made(State.STAGING, "work", "link")
    taken = SimpleNamespace(head=HEAD, commits=2, branch="feature/auto", flagged=[])
    monkeypatch.setattr(harvesting, "take_work", lambda *_: taken)
    run = staging._with_volumes(it.store, it.engine, it.run)
    assert (run.head, run.tip, run.commits, run.staged) == (HEAD, HEAD, 2, False)


@pytest.mark.parametrize("roles", [("work", "conversation"), ("conversation",), ()])
def test_nothing_is_brought_home_where_all_or_nothing_is_there(
    made: Any, monkeypatch: pytest.MonkeyPatch, roles: tuple[str, ...]
) -> None:
    """The control: whole volumes are gone on with, lost work cannot be had."""
    it = made(State.STAGING, *roles)
    monkeypatch.setattr(harvesting, "take_work", lambda *_: pytest.fail("there is nothing to take"))
    assert staging._with_volumes(it.store, it.engine, it.run).staged is ("work" in roles)


def test_a_run_whose_folder_was_removed_gets_one_again_or_its_end(made: Any) -> None:
    """Also from the cheap part that goes before every command."""
    it = made(State.RUNNING)
    shutil.rmtree(paths.run_dir("r222"))
    it.store.change("r222", staged=False)
    assert recover.go_on(it.store) == []
    run = it.store.get("r222")
    assert (run.state, run.reason) == (State.FAILED, "lost")


@pytest.mark.parametrize("state", [State.QUEUED, State.STAGING, State.HARVESTING])
@pytest.mark.parametrize("left", ["nothing", "an empty folder"])
def test_a_run_whose_repository_was_moved_ends_in_a_sentence_that_names_it(
    made: Any, repo: Repository, state: State, left: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever it stands; what is in the volumes stays, and the hint says what to do."""
    monkeypatch.setattr(launch, "_TAKEN", ())  # temporary files may lie below /dev/shm
    it = made(state, "work", "conversation", staged=state is State.HARVESTING)
    it.store.change("r222", snapshot="")
    repo.root.rename(f"{repo.root}-moved")
    if left != "nothing":
        repo.root.mkdir()
    step = {State.QUEUED: freezing.freeze, State.STAGING: staging.stage}
    with pytest.raises(RepositoryError) as raised:
        step.get(state, harvesting.harvest)(it.store, it.store.get("r222"))
    drive._mishap(it.store, it.store.get("r222"), raised.value)
    run = it.store.get("r222")
    assert (run.state, run.message) == (
        State.FAILED,
        f"the repository {repo.root} is not there any more",
    )
    assert run.hint == "put it back, then: plandock resume r222"
    assert run.staged is (state is State.HARVESTING)


def test_a_resume_without_its_ground_is_refused_and_the_run_stays_as_it_was(
    made: Any, repo: Repository
) -> None:
    """No repository, or one without the commits that it would go on from."""
    it = made(State.STOPPED, staged=False, head=HEAD)
    with pytest.raises(RepositoryError, match="the commits that r222 goes on from are not in"):
        resuming.resume(it.store, it.run)
    repo.root.rename(f"{repo.root}-moved")
    with pytest.raises(RepositoryError, match="is not there any more") as raised:
        resuming.resume(it.store, it.run)
    assert raised.value.hint == "put it back, then: plandock resume r222"
    assert it.store.get("r222").state is State.STOPPED


def test_a_run_whose_repository_is_gone_can_be_dropped_and_its_bundle_is_kept(
    made: Any, repo: Repository
) -> None:
    """The bundle is the last copy of its commits."""
    it = made(State.DONE, staged=False, head=HEAD, commits=2)
    (paths.run_dir("r222") / "work.bundle").write_bytes(b"as it came")
    shutil.rmtree(repo.root)
    repo.root.mkdir()
    assert dropping.losses(it.run) == ["the branch feature/auto is gone"]
    kept = dropping.keep(it.run)
    dropping.remove(it.store, it.run)
    assert (kept / "work.bundle").read_bytes() == b"as it came"
    assert it.store.list() == []


def test_who_waits_for_a_run_sees_to_it_that_somebody_drives_it(
    made: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`wait` may be the only command for hours, and the supervisor be killed during it."""
    it = made(State.RUNNING)
    monkeypatch.setattr(standing, "_NUDGE_S", 0.0)
    monkeypatch.setattr(
        recover,
        "go_on",
        lambda store: (
            store.move("r222", State.RUNNING, State.HARVESTING)
            or store.move("r222", State.HARVESTING, State.STOPPED, **_fields())
        ),
    )
    assert standing.follow(it.store, "r222", timeout_s=120.0).state is State.STOPPED


def _fields() -> dict[str, Any]:
    return {k: v for k, v in stopped("stopped").items() if k != "target"}
