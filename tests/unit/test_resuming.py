"""What `plandock resume` reads anew: the user's own word on who pays, and how much."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from plandock import paths
from plandock.runs.model import Run, RunId, State
from plandock.runs.store import Store
from plandock.settings import Settings, load
from plandock.supervisor import queue, resuming
from tests.support.repository import Repository

CREDITS = 'billing = "subscription+credits"\nmax_credits_usd = 2.5\n'


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """The store of this test's home; nothing is started."""
    monkeypatch.setattr(queue, "start", lambda *_: None)
    with Store() as opened:
        yield opened


def users(text: str) -> None:
    """Write the user's own file."""
    paths.config_dir().mkdir(parents=True, exist_ok=True)
    (paths.config_dir() / "config.toml").write_text(text)


def resumed(
    store: Store, repo: Repository, settings: Settings, **more: Any
) -> tuple[dict[str, Any], Run, str]:
    """The settings that a run has which failed (or ``more``), and was resumed now; the run; what
    was said."""
    paths.run_dir("r222").mkdir(parents=True)
    (paths.run_dir("r222") / "plan.md").write_text("# Plan\n")
    fields = {"state": State.FAILED, "reason": "credits", **more}
    run = Run(
        id=RunId("r222"), repo=str(repo.root), handoff_key="k", snapshot=repo.head(),
        settings=settings.to_dict(), **fields,
    )  # fmt: skip
    store.add(run, name_branch=lambda _: "feature/auto")
    run, said = resuming.resume(store, run)
    return run.settings, run, said


def test_what_the_user_allows_now_counts_and_is_told(store: Store, repo: Repository) -> None:
    """As the hint of a run that failed for want of credits says."""
    frozen = load(repo=repo.root, environ={})
    users(CREDITS)
    settings, run, said = resumed(store, repo, frozen)
    assert (settings["billing"], settings["max_credits_usd"]) == ("subscription+credits", 2.5)
    assert settings["origins"]["billing"] == str(paths.config_dir() / "config.toml")
    assert "billing is subscription+credits from now on" in said
    assert [note for note in run.notes if "max_credits_usd is 2.5" in note]
    assert Settings.from_dict(settings).origins["max_budget_usd"] == "default"


def test_what_the_user_took_back_counts_as_well(store: Store, repo: Repository) -> None:
    """The safe side is heeded too."""
    users(CREDITS)
    frozen = load(repo=repo.root, environ={})
    users("")
    settings, _, said = resumed(store, repo, frozen)
    assert (settings["billing"], settings["max_credits_usd"]) == ("subscription", None)
    assert "max_credits_usd is without limit" in said


def test_a_run_that_waits_for_the_allowance_is_paid_for_now(store: Store, repo: Repository) -> None:
    """As the hint of its wait says; what was allowed counts for its next box."""
    frozen = load(repo=repo.root, environ={})
    users(CREDITS)
    settings, run, said = resumed(store, repo, frozen, state=State.WAITING, reason="usage_limit")
    assert (settings["billing"], settings["max_credits_usd"]) == ("subscription+credits", 2.5)
    assert "billing is subscription+credits from now on" in said
    assert [note for note in run.notes if "max_credits_usd is 2.5" in note]
    assert (run.state, run.waiting_until) == (State.WAITING, "")


def test_a_box_under_way_keeps_its_terms(store: Store, repo: Repository) -> None:
    """A run that waits for its engine may have one that was told the old ones."""
    frozen = load(repo=repo.root, environ={})
    users(CREDITS)
    held = {"state": State.WAITING, "reason": "engine", "back_to": "running"}
    settings, _, _ = resumed(store, repo, frozen, **held)
    assert settings == frozen.to_dict()


@pytest.mark.parametrize(
    ("flags", "environ", "text"),
    [
        ({"billing": "subscription"}, {}, 'billing = "subscription+credits"\n'),
        ({}, {"PLANDOCK_BILLING": "subscription+credits"}, ""),
        ({}, {}, 'billing = "api-key"\n'),
        ({}, {}, ""),
    ],
    ids=["flag", "variable", "key", "same"],
)
def test_what_the_run_was_told_itself_stays(
    store: Store, repo: Repository, flags: dict[str, str], environ: dict[str, str], text: str
) -> None:
    """And nobody's key pays for a run that began with a subscription."""
    frozen = load(repo=repo.root, flags=flags, environ=environ)
    users(text)
    settings, run, _ = resumed(store, repo, frozen)
    assert settings == frozen.to_dict()
    assert run.notes == []


def test_the_repository_has_no_word_in_it(
    store: Store, repo: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither by its own file, nor by a variable that its settings lay over the environment."""
    frozen = load(repo=repo.root, environ={})
    repo.write(
        {
            ".plandock.toml": CREDITS,
            ".claude/settings.json": '{"env": {"PLANDOCK_BILLING": "subscription+credits"}}',
        }
    )
    monkeypatch.setenv("CLAUDECODE", "1")
    monkeypatch.setenv("PLANDOCK_BILLING", "subscription+credits")
    settings, _, _ = resumed(store, repo, frozen)
    assert settings == frozen.to_dict()
