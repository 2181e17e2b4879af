"""An engine that gives less than was asked for: the run ends before anything of the agent's runs.

The wrapper stands for a configuration of the engine's own, or another program of its name.
"""

from __future__ import annotations

import secrets

import pytest

from plandock import proc
from plandock.standin import write_file
from tests.support.engine_wrapper import ADD, DROP_PAIR, NOTHING, SET, wrap
from tests.support.journal import note
from tests.support.pairs import DOCKER
from tests.support.run_batch import CaseResult, cases, looks_at
from tests.support.run_batch import batch as batch
from tests.support.run_batch import case as case

pytestmark = [pytest.mark.timeout(1800), pytest.mark.e2e, pytest.mark.engine]

LESS = {
    "network": (SET.format("--network", "NETWORK"), "network"),
    "capabilities": (DROP_PAIR.format("--cap-drop"), "capabilities"),
    "read-only": ("words.remove('--read-only')", "root-read-only"),
    "no-new-privileges": (DROP_PAIR.format("--security-opt"), "no-new-privileges"),
    "a-host-folder": (ADD.format(["--volume", "FOLDER:/host"]), "mounts"),
    "privileged": (ADD.format(["--privileged"]), "capabilities"),
    "root": (SET.format("--user", "0:0"), "user"),
    "processes-of-the-host": (ADD.format(["--pid", "host"]), "processes"),
    "memory": (DROP_PAIR.format("--memory-swap") + "; " + DROP_PAIR.format("--memory"), "cgroup"),
    "seccomp": (ADD.format(["--security-opt", "seccomp=unconfined"]), "seccomp"),
}
WORK = (write_file("one.txt", "1\n"),)
WHOLE = "with-nothing-taken-away"


def run_on_a_wrapped_engine(result: CaseResult) -> None:
    """Take the case's protection away from the box, and hand a plan off."""
    laptop = result.laptop
    change, _ = LESS.get(result.case.name, (NOTHING, ""))
    if "NETWORK" in change:
        change = change.replace("NETWORK", network_that_leads_nowhere(result))
    folder = result.folder / "folder"
    folder.mkdir()
    wrap(laptop, result.folder / "bin", change.replace("FOLDER", str(folder)))
    done = laptop.plandock("run", "--plan", "-", "--wait", stdin=result.plan, check=False)
    with laptop.store() as store:
        result.run_id = store.find("last").id
    waited = laptop.plandock("wait", result.run_id, check=False)
    result.seen["codes"] = (done.returncode, waited.returncode)


def network_that_leads_nowhere(result: CaseResult) -> str:
    """A network of this case's own, removed at the end."""
    note("name", mark := secrets.token_hex(4))
    name, engine = f"plandock-test-{mark}", result.case.pair.engine
    proc.run([engine, "network", "create", "--internal", name])
    result.at_the_end.callback(proc.run, [engine, "network", "rm", name], check=False)
    return name


CASES = [
    run
    for name in (*LESS, WHOLE)
    for run in cases(name, run_on_a_wrapped_engine, WORK, among=DOCKER)
]


@looks_at(CASES, *LESS)
def test_a_box_with_one_protection_less_is_never_given_to_the_agent(case: CaseResult) -> None:
    """Exit code 22, the check is named, and not one request was made."""
    _, check = LESS[case.case.name]
    run = case.run
    assert case.seen["codes"] == (22, 22), run["message"]
    assert (run["state"], run["reason"], run["commits"]) == ("failed", "isolation", 0)
    assert check in run["isolation"] or check in run["message"]
    assert case.laptop.standin.requests == []


@looks_at(CASES, WHOLE)
def test_with_the_wrapper_and_nothing_taken_away_the_run_goes_well(case: CaseResult) -> None:
    """The positive control: it is the protection, not the wrapper, that makes the difference."""
    assert case.seen["codes"] == (0, 0)
    assert case.shown("one.txt") == "1"
    assert "checks passed" in case.run["isolation"]
    assert "checks passed" in case.laptop.plandock("receipt", case.run_id).stdout
