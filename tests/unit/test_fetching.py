"""A harvest that brings no bundle: what the workspace is like, or an engine that failed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from plandock import paths, proc
from plandock.errors import EngineError, HarvestRefused
from plandock.runs.model import Run, RunId
from plandock.supervisor import harvesting
from plandock.workspace.inside.harvest import REFUSED
from tests.support.repository import Repository


class Engine:
    """Runs a line of Python where a container would be."""

    name = "docker"

    def __init__(self, code: str) -> None:
        self.code = code

    def open_run(self, _: object, *, stderr: Any = None) -> subprocess.Popen[bytes]:
        """The harvest's container."""
        return proc.open_pipe([sys.executable, "-c", self.code], stderr=stderr)

    def ping(self) -> None:
        """The engine answers."""


def fetched(repo: Repository, code: str) -> Exception:
    """The error that comes of a container of this code."""
    run = Run(id=RunId("r7k2"), repo=str(repo.root), cwd=str(repo.root), image="i")
    paths.run_dir(run.id).mkdir(parents=True)
    with pytest.MonkeyPatch.context() as patch:
        # A slow machine's container is not ended by a signal.
        patch.setattr(proc, "end", lambda child, **_: child.wait())
        with pytest.raises((EngineError, HarvestRefused)) as caught:
            harvesting.fetch_bundle(Engine(code), run)  # type: ignore[arg-type]
    assert not (Path(paths.run_dir(run.id)) / "work.bundle").exists()
    return caught.value


def says(error: str, code: int) -> str:
    """Code that ends with an error line and an exit code."""
    line = json.dumps({"error": error}) + "\n"
    return f"import sys; sys.stdin.read(); sys.stdout.write({line!r}); sys.exit({code})"


def test_a_workspace_that_cannot_be_harvested_is_refused_with_its_reason(repo: Repository) -> None:
    """Exit code 23, as for what is refused by the quarantine: no other try would do better."""
    error = fetched(repo, says("the workspace has no repository any more", REFUSED))
    assert isinstance(error, HarvestRefused)
    assert "no repository any more" in str(error)


@pytest.mark.parametrize(
    "code", [says("OSError: x", 1), "import sys; sys.stdin.read(); sys.exit(125)"]
)
def test_a_container_that_failed_is_the_engines_and_says_where_the_work_is(
    repo: Repository, code: str
) -> None:
    """It may be tried again, and its own words are not lost."""
    error = fetched(repo, code)
    assert isinstance(error, EngineError)
    assert "plandock-r7k2-work" in error.hint
    assert "OSError: x" in str(error) or "exit code 125" in str(error) or "cut off" in str(error)
