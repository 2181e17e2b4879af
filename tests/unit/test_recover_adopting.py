"""What is believed of a label when a run is adopted, and what such a label holds."""

from __future__ import annotations

import base64
import json

import pytest

from plandock import paths
from plandock.box import launch
from plandock.runs.model import Run, RunId, State
from plandock.supervisor import adopting

SECRET = "npm-registry-password"


@pytest.fixture
def run(repo) -> Run:
    """A run as it is when its volumes are made."""
    settings = {
        "setup": f"echo {SECRET}", "notify": [SECRET], "carry": [SECRET], "npm_registry": SECRET,
        "max_turns": 7,
    }  # fmt: skip
    return Run(
        id=RunId("r222"), repo=str(repo.root), cwd=str(repo.root), branch="feature/auto",
        base=repo.head(), snapshot=repo.head(), plan_title=f"# {SECRET}", message=SECRET,
        box_session_id="b", image="plandock-box:1", cli_version="2.1.330", created_at="2026",
        handoff_key="k", settings=settings, engine="docker",
    )  # fmt: skip


def label_of(run: Run, role: str = "box", **changes: object) -> str:
    """The label of a run's part, with some of its fields changed."""
    data = json.loads(base64.b64decode(launch.labels_of(run, role)[launch.RECORD]))
    return encoded(json.dumps(data | changes))


def encoded(text: str) -> str:
    """As it stands in a label."""
    return base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize("role", ["box", "work"])
def test_a_label_tells_enough_to_go_on_and_nothing_of_the_plan(run, role):
    """Box and work volume bear it; no words of the plan, no command, nothing that hides a login."""
    label = label_of(run, role)
    assert SECRET not in base64.b64decode(label).decode()
    assert not set(label) & set("\"', ")  # what Podman's CSV would take apart
    found = adopting.read_label(label, "r222")
    assert found is not None
    assert (found.repo, found.branch, found.snapshot) == (run.repo, run.branch, run.snapshot)
    assert found.settings == {"max_turns": 7}
    assert (found.staged, found.attempt) == (True, 1)


def test_a_label_holds_what_the_session_was_set_to_and_what_was_spent(run):
    """Else an adopted run went on with other effort and variables, and its credits began anew."""
    run.effort, run.model_origin, run.login_volume = "high", "the session's", "v"
    run.folders_left_out = ["/lib", "/" + "x" * 2000]
    variables = {"CLAUDE_CODE_SUBAGENT_MODEL": "haiku", "ANTHROPIC_API_KEY": "k"}
    run.session_setup = {"variables": variables, "thinking": False, "transcript": SECRET}
    run.billing.credits_usd, run.billing.credits_uncounted = 1.5, True
    label = label_of(run)
    assert SECRET not in base64.b64decode(label).decode()
    found = adopting.read_label(label, "r222")
    assert found is not None
    assert (found.effort, found.model_origin, found.login_volume) == ("high", "the session's", "v")
    assert found.folders_left_out == ["/lib"]
    assert found.session_setup == {
        "variables": {"CLAUDE_CODE_SUBAGENT_MODEL": "haiku"}, "thinking": False,
    }  # fmt: skip
    assert (found.billing.credits_usd, found.billing.credits_uncounted) == (1.5, True)


def test_a_label_of_an_older_version_is_still_believed(run):
    """And so is one in which what came later is not of its kind."""
    later = ("effort", "model_origin", "login_volume", "folders_left_out", "session_setup")
    for value in (None, 7, [7], {"variables": 7, "credits_usd": "much"}, {"credits_usd": -1}):
        changes = dict.fromkeys((*later, "billing"), value)
        found = adopting.read_label(label_of(run, **changes), "r222")
        assert found is not None
        assert (found.effort, found.folders_left_out, found.billing.credits_usd) == ("", [], None)
    data = json.loads(base64.b64decode(label_of(run)))
    old = {name: value for name, value in data.items() if name not in (*later, "billing")}
    assert adopting.read_label(encoded(json.dumps(old)), "r222") is not None


def test_other_parts_bear_no_record(run):
    """The gateway, which has a network, and the helpers get none."""
    for role in ("gateway", "volume", "stage", "harvest"):
        assert launch.RECORD not in launch.labels_of(run, role)


@pytest.mark.parametrize(
    "changes",
    [
        {"state_dir": "/somebody/elses"},
        {"id": "r333"},
        {"snapshot": ""},
        {"repo": "/absent"},
        {"attempt": "1"},
        {"attempt": True},
        {"branch": None},
        {"settings": []},
    ],
)
def test_a_label_that_is_not_ours_or_not_sound_is_not_believed(run, changes):
    """An engine may be shared, and anyone who may use it can write a label."""
    assert adopting.read_label(label_of(run), "r222") is not None
    assert adopting.read_label(label_of(run, **changes), "r222") is None


@pytest.mark.parametrize("label", ["", "null", "{", "[" * 100_000, '"x"', "ü", "e30"])
def test_a_label_that_is_no_record_is_not_believed(label):
    """Whatever stands there, it is no crash."""
    assert adopting.read_label(label, "r222") is None
    assert adopting.read_label(encoded(label), "r222") is None


def test_the_box_decides_how_an_adopted_run_goes_on(run):
    """With a box it is followed; without one, what is in the volume is brought home."""
    with_box = adopting.as_found(run, "podman", has_box=True)
    assert (with_box.state, with_box.engine) == (State.RUNNING, "podman")
    without = adopting.as_found(run, "podman", has_box=False)
    assert (without.state, without.ending["reason"]) == (State.HARVESTING, "adopted")


def test_a_folder_is_made_again_and_a_plan_that_is_there_stays(run):
    """Only what is missing is made."""
    adopting.make_folder(run)
    plan = paths.run_dir("r222") / "plan.md"
    assert "lost" in plan.read_text()
    plan.write_text("mine")
    adopting.make_folder(run)
    assert plan.read_text() == "mine"
