"""Limits, an API in trouble, lost logins: whole runs through each of them, side by side.

`make limits` runs every case with both versions of the CLI and prints what each cost.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Set
from pathlib import Path

import pytest

from plandock.runs.model import State
from tests.support import machine
from tests.support.laptop import ACCESS, Laptop
from tests.support.limit_cases import (
    AGAIN,
    CASES,
    LAPTOPS,
    LIMIT_IN_S,
    LOGIN,
    LONG_S,
    ORPHAN_IN_S,
    RENEWED,
    ROOMY,
    STORED,
    leave_notes,
    notes,
)
from tests.support.limits import LATER, TROUBLE, Storm, Story, seconds, standin, storms
from tests.support.pairs import FULL

# A machine with two cores and other work to do gets its time.
pytestmark = [pytest.mark.timeout(1800), pytest.mark.e2e, pytest.mark.split_by("pair")]

ALL = os.environ.get("PLANDOCK_TEST_LIMITS") == "all" or FULL
# Which CLI goes with which engine; what an engine does here is the same with either.
PAIRS = {
    "docker": "newest",
    "podman": "2.1.197",
    **({"docker-older": "2.1.197"} if ALL else {}),
}


def through(*names: str) -> pytest.MarkDecorator:
    """Let a test look at these cases, wherever they are run."""
    pairs = [p for p in PAIRS if p.partition("-")[0] in machine.wanted_engines()]
    found = [
        (pair, name)
        for pair in pairs
        for name in names
        if pair.startswith(pairs[0]) or CASES[name].everywhere
    ]
    return pytest.mark.parametrize(("pair", "name"), found)


Tell = Callable[[str], dict[str, Story]]


@pytest.fixture(scope="module")
def tell(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Tell]:
    """What became of every case that is asked for, by engine and CLI; each is run once."""
    told: dict[str, dict[str, Story]] = {}
    params = [getattr(item, "callspec", None) for item in request.session.items]

    with contextlib.ExitStack() as stack:

        def of(pair: str) -> dict[str, Story]:
            if pair not in told:
                asked = {p.params.get("name") for p in params if p and p.params.get("pair") == pair}
                with pytest.MonkeyPatch.context() as patch:
                    machine.move_in(tmp_path_factory.mktemp("home"), patch)
                    made = laptops(pair, asked, lambda: tmp_path_factory.mktemp("limits"))
                    told[pair] = stack.enter_context(storms(*made))
            return told[pair]

        yield of


def laptops(pair: str, asked: Set[object], make_folder: Callable[[], Path]) -> list[Storm]:
    """The laptops that the cases need, each with a stand-in of its own."""
    engine = pair.partition("-")[0]
    cli = Path(os.environ.get(machine.CLI_VERSIONS[PAIRS[pair]]) or "/absent")
    assert os.access(cli, os.X_OK), "the CLI is missing. Next step: `make setup`"
    if reason := machine.why_engine_is_absent(engine):
        pytest.fail(reason, pytrace=False)
    made = []
    for cases in LAPTOPS:
        if wanted := [case for case in cases if case.name in asked]:
            laptop = Laptop(make_folder(), cli=cli, engine=engine, standin=standin(), env=ROOMY)
            leave_notes(laptop)
            if cases is LOGIN:
                laptop.log_in(expires_in_s=540.0)
            made.append(Storm(laptop, wanted))
    return made


@pytest.fixture
def story(tell: Tell, pair: str, name: str) -> Story:
    """What became of one case."""
    found = tell(pair)[name]
    if found.error:
        raise found.error
    return found


# -- what is claimed

# For each case: what is waited for, and how many requests may bring nothing.  The CLI tries six
# times more where an API is busy, once more after a 401 (2.1.331; 2.1.197 twice) or nonsense.
WAITS: dict[str, tuple[list[str], int]] = {
    "busy": (["overloaded", "usage_limit"], 9),
    "limit": (["usage_limit", "overloaded"], 4),
    "orphan": (["usage_limit", "usage_limit"], 2),
    "silence": (["overloaded"], 2),  # 2.1.197 leaves out the call that was cut off, and asks again
    "for-a-moment": ([], 9),
    "closed": (["overloaded"], 0),
    "login": (["login", "login"], 3),
    "handed-in": ([], 3),
}


@through(*WAITS)
def test_a_run_in_trouble_waits_without_a_box_and_ends_whole(story: Story, name: str) -> None:
    """For what it should; then the same conversation goes on, no step is done twice, each commit
    is on the branch once, and the requests that brought nothing are bounded."""
    reasons, most = WAITS[name]
    run, waited = story.run, [wait["reason"] for wait in story.waits]
    assert run["state"] == "done"
    if name == "silence":  # on a slow machine the CLI itself may be silent for so long
        assert waited.count("overloaded") == len(waited) >= 1
    elif name == "for-a-moment":  # where it is throttled, 2.1.197 does not try again by itself
        assert waited in (reasons, ["overloaded"] * 2)
    else:
        assert waited == reasons
    assert all(wait["message"] for wait in story.waits)
    assert story.boxes == [[]] * len(story.boxes)
    # The login is waited for once before there is a box; the box of `silence` is killed, too.
    assert run["attempt"] >= len(waited) + {"login": 0, "silence": 2}.get(name, 1)
    assert {r.session_id for r in story.requests} == {run["box_session_id"]}
    answered = {r.step for r in story.requests if not r.failure}
    assert answered == set(range(len(story.case.work) + 1))
    story.assert_whole()
    assert story.wasted <= most
    assert run["reason"] is run["waiting_until"] is None


@through("busy", "limit", "orphan", "silence", "closed")
def test_nothing_is_asked_before_the_wait_is_over(story: Story, name: str) -> None:
    """The next request comes after `waiting_until`, by itself."""
    # The user of the orphan does not want to wait for so long a second time.
    waits = story.waits[:1] if name == "orphan" else story.waits
    assert waits
    for wait in waits:
        after = [r.time for r in story.requests if seconds(r.time) > seconds(wait["at"])]
        assert seconds(after[0]) >= seconds(wait["waiting_until"])


# At least and at most, in seconds: until the reset and at most five more; without a usable one a
# quarter of an hour, or what a backoff begins with, also after another trouble.
# A slow machine may be at a short one only when it is over.
NOW = float("-inf")
BACKOFF, AFTER_PAST = (NOW, 12.0), (NOW, 15.0)
LENGTHS = {
    "busy": [BACKOFF, AFTER_PAST],
    "limit": [(NOW, LIMIT_IN_S + 5), BACKOFF],
    "orphan": [(NOW, ORPHAN_IN_S + 5), (600.0, 905.0)],
    "stopped": [(LONG_S - 600, LONG_S + 5)],
}


@through(*LENGTHS)
def test_a_wait_is_as_long_as_what_it_is_for(story: Story, name: str) -> None:
    """As `LENGTHS` has it, each wait of a run."""
    assert len(story.waits_s) == len(LENGTHS[name])
    for waited_s, (least, longest) in zip(story.waits_s, LENGTHS[name], strict=True):
        assert least < waited_s <= longest


@through("orphan")
def test_resume_looks_at_once_at_a_run_that_waits(story: Story, name: str) -> None:
    """Without a second run, and long before its time."""
    assert "looked at again now" in story.seen["said"]
    after = [r for r in story.requests if r.step == LATER and not r.failure]
    assert seconds(after[0].time) < seconds(story.waits[-1]["waiting_until"])


@through("orphan", "stopped")
def test_a_supervisor_that_is_killed_while_the_run_waits_costs_nothing(
    story: Story, name: str
) -> None:
    """The next command starts another, and the run waits for the same time."""
    first, second = story.seen["pids"]
    assert first != second
    before, after = story.seen["before the kill"], story.seen["after the kill"]
    assert story.waits[0]["waiting_until"] == before.waiting_until
    if name == "stopped":  # the other's wait is short: a slow machine may be past it
        assert (after.state, after.reason) == (State.WAITING, "usage_limit")
        assert after.waiting_until == before.waiting_until


@through("stopped")
def test_a_waiting_run_says_until_when_and_is_stopped_with_its_work(
    story: Story, name: str
) -> None:
    """`ps`, `show`, `wait`; then `stop` twice at the same time."""
    seen, until = story.seen, story.waits[0]["waiting_until"]
    for shown in (seen["ps --json"], seen["show --json"]):
        assert (shown["state"], shown["reason"]) == ("waiting", "usage_limit")
        assert shown["waiting_until"] == until
    for text in (seen["ps"], seen["show"]):
        assert "usage_limit" in text
        assert until[:16].replace("T", " ") in text.replace("T", " ")
    assert seen["wait"] == 75
    assert seen["stops"] == [0, 0]
    assert (story.run["state"], story.run["reason"]) == ("stopped", "stopped")
    assert seen["wait after"] == 10
    assert story.laptop.repo.git("show", f"{name}:one.txt") == "1"
    assert story.laptop.repo.git("log", "--format=%s", f"main..{name}").splitlines() == ["One"]
    assert story.wasted <= 1
    assert story.left == []


@through("deadline", "budget")
def test_a_run_at_a_limit_of_the_users_is_stopped_and_resumed_to_its_end(
    story: Story, name: str
) -> None:
    """`stopped` with its reason, exit code 10, the work on the branch; then the same
    conversation ends done on the same branch."""
    reason = {"deadline": "timeout", "budget": "budget"}[name]
    stops = story.seen["stops"]
    assert [(run.reason, code) for run, code, _ in stops] == [(reason, 10)] * len(stops)
    assert any("one.txt" in files for _, _, files in stops)
    assert story.run["state"] == "done"
    assert {r.session_id for r in story.requests} == {story.run["box_session_id"]}
    story.assert_whole()
    assert story.waits == []
    assert story.wasted <= len(stops)


@through("login")
def test_a_lost_login_is_told_once_and_waited_for(story: Story, name: str) -> None:
    """The user's command is told of each of the two waits once, however often it is looked at,
    and of the end."""
    waiting = story.seen["waiting"]
    assert "401" in waiting.message
    assert "/login" in waiting.hint
    assert waiting.waiting_until == ""
    assert notes(story) == ["login", "login", "done"]
    assert story.requests[-1].token == RENEWED


@through("stored")
def test_a_token_that_the_user_stores_ends_the_wait_for_a_login(story: Story, name: str) -> None:
    """Also where the login of the host was renewed meanwhile, and refused again."""
    assert story.run["state"] == "done"
    assert {wait["reason"] for wait in story.waits} == {"login"}
    assert story.requests[-1].token == STORED
    assert story.wasted <= 3 * len(story.waits)
    assert notes(story) == ["login"] * len(story.waits) + ["done"]
    story.assert_whole()


@through("handed-in")
def test_a_login_renewed_on_the_host_is_handed_into_the_running_box(
    story: Story, name: str
) -> None:
    """The host's own Claude Code renews its token while the agent works: one box, no wait, and
    nothing is asked with the old token once it has ended."""
    assert {r.token for r in story.requests if TROUBLE < r.step <= LATER} == {RENEWED}
    assert not any(r.token == ACCESS for r in story.requests if r.step > TROUBLE)
    assert story.seen["attempt"] == 1


@through("handed-in", "sealed")
def test_a_login_that_is_renewed_at_the_last_moment_is_used(story: Story, name: str) -> None:
    """In the same box where the CLI still tries, else at once in a new one."""
    assert story.run["state"] == "done"
    assert story.run["attempt"] <= 2
    assert 1 <= story.wasted <= 3
    assert story.requests[-1].token == {"handed-in": AGAIN, "sealed": RENEWED}[name]
    story.assert_whole()


@through("login")
def test_a_login_that_is_about_to_end_begins_nothing(story: Story, name: str) -> None:
    """No container, no volume and no request until there is one with enough life in it."""
    before = story.seen["before the start"]
    assert (before.state, before.reason, before.staged) == (State.WAITING, "login", False)
    assert "10 min are asked for" in before.message
    assert story.seen["asked"] == 0


@through(*CASES)
def test_what_a_trouble_cost_is_counted(story: Story, name: str) -> None:
    """From the stand-in's record, for the table in docs/reliability.md."""
    version, engine = story.run["cli_version"], story.laptop.engine
    print(f"{engine}, CLI {version}, {name}: {story.wasted} of {len(story.requests)} wasted")
    failed = sum(bool(r.failure) for r in story.requests)
    assert failed <= story.wasted <= failed + story.run["attempt"]
