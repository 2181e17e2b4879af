"""Whole runs in repositories whose settings would undo the box; the settings one by one are in
test_repository_settings.py."""

from __future__ import annotations

import json

import pytest

from plandock.standin import bash, commit, write_file
from tests.support.run_batch import CaseResult, cases, looks_at
from tests.support.run_batch import batch as batch
from tests.support.run_batch import case as case

pytestmark = [pytest.mark.timeout(1800), pytest.mark.e2e, pytest.mark.engine]

FILE = ".claude/settings.json"
SETTINGS = {
    "env": {"PATH": "/nowhere", "ANTHROPIC_MODEL": "haiku", "DATABASE_URL": "sqlite://"},
    "model": "haiku",
    "permissions": {
        "disableBypassPermissionsMode": "disable",
        "ask": ["Bash", "Write"],
        "deny": ["Edit(**)", "Bash(rm:*)"],
    },
    "sandbox": {"enabled": True, "failIfUnavailable": True},
}
# What the agent makes of the file while it works does not count either.
WORK = (
    write_file(".claude/settings.local.json", json.dumps({"permissions": {"deny": ["Bash"]}})),
    bash('sleep 2; echo "$DATABASE_URL" > seen.txt'),
    commit("One"),
)


def run_in_the_repository(result: CaseResult) -> None:
    """A run in a repository whose settings stop, weaken and redirect whatever reads them."""
    result.laptop.repo.commit({FILE: json.dumps(SETTINGS), "CLAUDE.md": "Be brief.\n"})
    result.run_through()


CASES = cases("undone", run_in_the_repository, WORK)


@looks_at(CASES, "undone")
def test_a_run_does_its_work_whatever_the_repositorys_settings_say(case: CaseResult) -> None:
    """One box, one commit of the agent's own, the file as it was, and what was set aside said by
    show and receipt as it is."""
    laptop, run = case.laptop, case.run
    assert (run["state"], run["commits"], run["turns"]) == ("done", 1, len(WORK) + 1)
    branch = run["branch"]
    assert laptop.repo.git("log", "-1", "--format=%s", branch).strip() == "One"
    assert laptop.repo.git("show", f"{branch}:seen.txt").strip() == "sqlite://"
    assert json.loads(laptop.repo.git("show", f"{branch}:{FILE}")) == SETTINGS
    asked = [r for r in laptop.standin.model_requests if r.has_tools]
    assert len({r.session_id for r in asked}) == 1
    assert not [r.model for r in asked if "haiku" in r.model]
    for held in (laptop.json("show", case.run_id)["notes"],
                 laptop.json("receipt", case.run_id)["notes"]):  # fmt: skip
        told = "\n".join(held)
        assert "set aside in the box, of .claude/settings.json: env.PATH" in told
        assert all(x in told for x in ("ANTHROPIC_MODEL", "sandbox", "permissions.ask"))
        assert "denied in the box too, as .claude/settings.json says: Bash(rm:*)" in told
    doctor = laptop.plandock("doctor", "--json", check=False).stdout
    lines = [f["detail"] for f in json.loads(doctor) if f["check"] == "repository"]
    assert any(x.startswith("set aside in the box, of .claude/settings.json") for x in lines)
