"""What is forgotten, what is kept of it for a while, and what `gc` never touches."""

from __future__ import annotations

import json
import os
import subprocess
import time
from dataclasses import replace

import pytest

from plandock import paths
from plandock.engines import detect
from plandock.errors import PlandockError
from plandock.runs.model import Run, RunId, State
from plandock.runs.store import Store
from plandock.supervisor import collecting, dropping, harvesting
from tests.support.commands import CommandServer

OLD = time.time() - 31 * 86_400


@pytest.fixture
def plandock(repo, commands: CommandServer):
    """Run the command line in the repository."""

    def run(*words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return commands.run_text(*words, cwd=repo.root, env=os.environ, stdin=stdin)

    return run


@pytest.fixture
def worked(repo):
    """A finished run with a commit on its branch and under its hidden refs."""
    base = repo.head()
    repo.git("switch", "-q", "-c", "feature/auto")
    head = repo.commit({"work.txt": "work\n"}, "The agent's work")
    repo.git("switch", "-q", "main")
    repo.git("update-ref", "refs/plandock/runs/r222/head", head)
    run = Run(
        id=RunId("r222"), state=State.DONE, repo=str(repo.root), cwd=str(repo.root),
        handoff_key="r222", created_at="2026-01-02T03:04:05.000Z", base=base, snapshot=base,
        head=head, commits=1,
    )  # fmt: skip
    with Store() as store:
        stored, _ = store.add(run, name_branch=lambda _: "feature/auto")
    paths.run_dir("r222").mkdir(parents=True)
    return stored


def test_drop_keeps_a_bundle_that_can_be_fetched_from(plandock, repo, worked):
    """The branch is gone, too: the work comes back out of the bundle; receipt and record lie by."""
    repo.git("branch", "-q", "-D", "feature/auto")
    assert plandock("drop", "r222").returncode == 1  # nobody there to say yes
    done = plandock("drop", "r222", "--yes")
    assert done.returncode == 0, done.stderr
    kept = paths.state_dir() / "dropped" / "r222"
    assert str(kept) in done.stdout
    assert "refs/plandock" not in repo.git("for-each-ref")
    assert json.loads((kept / "run.json").read_text())["head"] == worked.head
    assert (kept / "receipt.json").is_file()
    repo.git("fetch", "-q", str(kept / "refs.bundle"), "refs/plandock/runs/r222/head:back")
    assert repo.git("rev-parse", "back") == worked.head


def test_a_drop_that_is_done_again_loses_nothing_that_the_first_one_kept(repo, worked):
    """The first was killed when the refs were gone already: what they held is in its copy alone."""
    first = dropping.keep(worked)
    repo.git("update-ref", "-d", "refs/plandock/runs/r222/head")
    assert dropping.keep(worked) == first
    kept = sorted(first.parent.rglob("refs.bundle"))
    assert len(kept) == 1
    repo.git("fetch", "-q", str(kept[0]), "refs/plandock/runs/r222/head:back")
    assert repo.git("rev-parse", "back") == worked.head


def test_drop_now_keeps_nothing(plandock, repo, worked):
    """The control: `--now` leaves no copy, and the branch stays."""
    assert plandock("drop", "r222", "--now").returncode == 0
    assert not (paths.state_dir() / "dropped").exists()
    assert repo.git("rev-parse", "feature/auto") == worked.head


def test_drop_asks_where_the_harvest_was_refused_and_keeps_its_bundle(plandock, repo, worked):
    """What came out of the box and was not let in is kept as it came."""
    with Store() as store:
        store.change("r222", exit_code=23, commits=0)
    (paths.run_dir("r222") / "work.bundle").write_bytes(b"as it came")
    refused = plandock("drop", "r222")
    assert refused.returncode == 1
    assert "has not arrived" in refused.stderr
    assert plandock("drop", "r222", "--yes").returncode == 0
    kept = paths.state_dir() / "dropped" / "r222" / "work.bundle"
    assert kept.read_bytes() == b"as it came"


def test_gc_removes_old_copies_and_stale_marks_alone(plandock, worked):
    """More than 30 days, more than 7; what is younger stays, and a dry run removes nothing."""
    dropped = paths.state_dir() / "dropped"
    for name in ("r333", "r444"):
        (dropped / name).mkdir(parents=True)
        (dropped / name / "refs.bundle").write_bytes(b"x" * 1000)
    os.utime(dropped / "r333", (OLD, OLD))
    for name in ("stale", "fresh"):
        paths.note_dir().mkdir(parents=True, exist_ok=True)
        (paths.note_dir() / name).write_text("{}")
    os.utime(paths.note_dir() / "stale", (OLD, OLD))
    # It stands until a person writes, for as long as there is a conversation to write in.
    paths.latch_dir().mkdir()
    (paths.latch_dir() / "stale").write_text("{}")
    os.utime(paths.latch_dir() / "stale", (OLD, OLD))
    would = json.loads(plandock("gc", "--dry-run", "--keep-images", "--json").stdout)
    names = {(s["kind"], s["name"]) for s in would["removed"]}
    assert names == {("dropped run", "r333"), ("mark", "note/stale")}
    assert (dropped / "r333").is_dir()
    done = plandock("gc", "--keep-images")
    assert done.returncode == 0, done.stderr
    assert "freed 0.0 MiB" in done.stdout
    assert [p.name for p in dropped.iterdir()] == ["r444"]
    assert [p.name for p in paths.note_dir().iterdir()] == ["fresh"]
    assert [p.name for p in paths.latch_dir().iterdir()] == ["stale"]
    assert paths.run_dir("r222").is_dir()


@pytest.mark.parametrize(
    ("changes", "spare"),
    [({}, True), ({"staged": True}, False), ({"exit_code": 23}, False)],
)
def test_gc_spares_the_volumes_of_what_was_not_harvested(worked, changes, spare, monkeypatch):
    """A kept or refused run's volume is its only copy; the control is one that came home."""
    from plandock.engines.protocol import Volume

    class Engine:
        """An engine that lists one volume of the run."""

        name = "docker"

        def containers(self, label):
            return ()

        def remove_volume(self, name):
            """Nothing is removed while it is only listed."""

        def volumes(self, label):
            return (Volume("plandock-r222-work", {"plandock.run": "r222"}),)

    with Store() as store:
        run = store.change("r222", **changes)
    found = [s.name for s, _ in collecting._of_runs(Engine(), [run])]  # type: ignore[arg-type]
    assert found == (["plandock-r222-work"] if spare else [])


def test_what_a_resumed_run_could_not_bring_home_is_fetched_before_it_is_dropped(
    plandock, worked, monkeypatch
):
    """The bundle of its earlier end lies there, and is not taken for the later work."""
    bundle = paths.run_dir("r222") / "work.bundle"
    bundle.write_bytes(b"of the earlier end")
    with Store() as store:
        store.restore(replace(worked, state=State.FAILED, staged=True, tip=worked.head))
        run = store.get("r222")
    assert "has not arrived" in plandock("drop", "r222").stderr
    monkeypatch.setattr(detect, "choose", lambda name: name)
    monkeypatch.setattr(
        harvesting, "fetch_bundle", lambda *_: bundle.write_bytes(b"of the later end")
    )
    assert (dropping.keep(run) / "work.bundle").read_bytes() == b"of the later end"


def test_a_refused_bundle_is_kept_as_it_came_where_it_cannot_be_had_again(worked, monkeypatch):
    """The volume may be gone, or the engine; where the bundle is, too, nothing is dropped."""

    def fails(*_):
        raise PlandockError("no engine")

    with Store() as store:
        run = store.change("r222", staged=True, exit_code=23)
    (paths.run_dir("r222") / "work.bundle").write_bytes(b"as it came")
    monkeypatch.setattr(detect, "choose", fails)
    assert (dropping.keep(run) / "work.bundle").read_bytes() == b"as it came"
    (paths.run_dir("r222") / "work.bundle").unlink()
    with pytest.raises(PlandockError):
        dropping.keep(run)
