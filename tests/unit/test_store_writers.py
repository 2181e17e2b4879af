"""Many processes write the store at once, an old one opens, and names of branches are known."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys

from plandock import paths
from plandock.runs.model import Run, RunId, State
from plandock.runs.store import MIGRATIONS, Store

_WRITE = """\
import sys
from plandock.runs import database
from plandock.runs.store import Store
database._PATIENCE_S = 600.0
with Store() as store:
    for n in range(50):
        store.note_event("r222", "wrote", {"by": sys.argv[1], "n": n})
"""


def test_twenty_processes_with_fifty_writes_each_lose_none():
    """Who comes while another writes waits; nobody is sent away."""
    children = [
        subprocess.Popen([sys.executable, "-c", _WRITE, str(n)], stderr=subprocess.PIPE)
        for n in range(20)
    ]
    said = [child.communicate(timeout=800)[1].decode() for child in children]
    assert [child.returncode for child in children] == [0] * 20, said
    with Store() as store:
        events = [(e["by"], e["n"]) for e in store.events("r222")]
        assert sorted(events) == sorted((str(by), n) for by in range(20) for n in range(50))
        assert store.faults() == []


def test_a_store_of_the_first_version_opens_with_its_runs():
    """Records without the fields of today, and with one that nobody knows any more."""
    paths.make_private(paths.state_dir())
    name, script = MIGRATIONS[0]
    record = {
        "id": "r222", "state": "running", "repo": "/repo", "branch": "feature/auto",
        "billing": {"source": "subscription", "plan": "gone"}, "usage": {"input_tokens": 3},
        "handoff_key": "key", "created_at": "2026-01-02T03:04:05.000Z", "long_gone": [1],
        "settings": {"max_parallel": 2},
    }  # fmt: skip
    with sqlite3.connect(paths.store_file()) as db:
        db.execute("CREATE TABLE migration (name TEXT PRIMARY KEY)")
        db.executescript(script)
        db.execute("INSERT INTO migration VALUES (?)", (name,))
        row = ("r222", "running", "/repo", "feature/auto", "", "key", record["created_at"])
        db.execute("INSERT INTO run VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (*row, json.dumps(record)))
    db.close()
    with Store() as store:
        run = store.get("r222")
        assert (run.state, run.usage.input_tokens, run.attempt) == (State.RUNNING, 3, 0)
        assert run.billing.source == "subscription"
        assert store.move("r222", State.RUNNING, State.HARVESTING, ending={"target": "done"})
        assert store.get("r222").ending == {"target": "done"}
        made, new = store.add(Run(id=RunId("r333"), handoff_key="2"), name_branch=lambda _: "b")
        assert new
        assert made.branch == "b"


def test_the_branches_of_other_runs_are_those_of_their_repository_ended_or_not():
    """A new branch must not take a name that another run of the repository has or was promised."""
    with Store() as store:
        for run_id, repo, branch in (("r222", "/a", "1"), ("r223", "/a", "2"), ("r224", "/b", "3")):
            _add(store, Run(id=RunId(run_id), repo=repo, handoff_key=run_id), branch)
        ended = store.move("r223", State.QUEUED, State.STOPPED)
        assert ended is not None
        assert store.other_branches(store.get("r222")) == {"2"}
        assert store.other_branches(store.get("r224")) == set()


def _add(store: Store, run: Run, branch: str) -> None:
    store.add(run, name_branch=lambda _: branch)
