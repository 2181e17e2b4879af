"""Usage credits: who pays by what the CLI tells, what a run does then, and what is said of it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from plandock.box.inside.overage import Listener, sign_in
from plandock.claude.stream import Progress
from plandock.runs.model import Billing, Run, RunId, State
from plandock.runs.outcome import in_words
from plandock.runs.store import Store
from plandock.settings.keys import WITH_CREDITS, Settings
from plandock.settings.layers import load
from plandock.supervisor import paying, running
from plandock.supervisor.receipt import as_text, receipt_of
from plandock.supervisor.verdict import BoxEnd, Verdict, judge
from tests.unit.test_start_order import order_of
from tests.unit.test_start_order import run as ordered
from tests.unit.test_steward import steward as steward
from tests.unit.test_verdict import FINE, NOW, SEALED, SPOKE, ended, failed_result

_ = ordered
RESET = int(NOW) + 3600
# Recorded from 2.1.332, and from 2.1.197 without `unifiedWindows`.
WINDOW = {"five_hour": {"utilization": 0.25, "resetsAt": RESET, "status": "allowed"}}
SPENT = {"five_hour": {"utilization": 1, "resetsAt": RESET, "status": "rejected"}}
INCLUDED: dict[str, Any] = {
    "status": "allowed", "resetsAt": RESET, "rateLimitType": "five_hour",
    "overageStatus": "rejected", "overageDisabledReason": "org_level_disabled",
    "isUsingOverage": False, "unifiedWindows": WINDOW,
}  # fmt: skip
USING: dict[str, Any] = {
    "status": "rejected", "resetsAt": RESET, "rateLimitType": "five_hour",
    "overageStatus": "allowed", "overageResetsAt": RESET + 1_209_600, "isUsingOverage": True,
    "overageInUse": True, "unifiedWindows": SPENT,
}  # fmt: skip
REFUSED = {**INCLUDED, "status": "rejected", "unifiedWindows": SPENT}
OLD_USING = {name: value for name, value in USING.items() if name != "unifiedWindows"}

# Recorded from 2.1.332: credits that are there and not used run low.
WARNED: dict[str, Any] = {
    "status": "allowed_warning", "resetsAt": RESET + 777_600, "rateLimitType": "overage",
    "utilization": 0.8, "overageStatus": "allowed", "overageResetsAt": RESET + 777_600,
    "isUsingOverage": False, "surpassedThreshold": 0.75, "unifiedWindows": WINDOW,
}  # fmt: skip


def without(info: Mapping[str, Any], *names: str, **changes: Any) -> dict[str, Any]:
    """What the CLI tells, changed."""
    return {**{n: v for n, v in info.items() if n not in names}, **changes}


PAID: dict[str, tuple[object, bool, int, bool]] = {
    # what is told: certain, when the allowance is back, whether it is used up
    "using": (USING, True, RESET, True),
    "using, as 2.1.197 tells it": (OLD_USING, True, RESET, True),
    "one sign of two": (without(USING, "overageInUse"), True, RESET, True),
    "the other": (without(USING, "isUsingOverage"), True, RESET, True),
    "neither": (without(USING, "isUsingOverage", "overageInUse"), True, RESET, True),
    "from the first request": (without(INCLUDED, overageInUse=True), True, 0, False),
    "claim": (without(INCLUDED, rateLimitType="overage"), True, 0, False),
    "claim, the week being used up": (
        without(USING, "resetsAt", rateLimitType="overage", unifiedWindows={
            **SPENT, "seven_day": {"resetsAt": RESET + 9, "status": "rejected"}}),
        True, RESET + 9, True,
    ),
    "the reset of the credits is none": (
        without(OLD_USING, resetsAt=RESET + 1_209_600), True, 0, True),
    "a warning about credits": (
        without(INCLUDED, status="allowed_warning", rateLimitType="overage"), False, 0, False),
    "in use: a word": (without(INCLUDED, overageInUse="yes"), False, 0, False),
    "using: a number": (without(INCLUDED, isUsingOverage=1), False, 0, False),
    "a new status of credits": (without(INCLUDED, overageStatus="granted"), False, 0, False),
    "the same, used up": (
        without(REFUSED, "overageDisabledReason", overageStatus="granted"), False, RESET, True),
    "no word at all": (without(INCLUDED, overageStatus=["allowed"]), False, 0, False),
    "a new status": (without(INCLUDED, status="lent"), False, 0, False),
    "a new claim": (without(INCLUDED, rateLimitType="nine_day"), False, 0, False),
    "allowed beyond the window that is named": (
        without(INCLUDED, overageStatus="allowed", unifiedWindows=SPENT), False, RESET, True),
    "the same of the week, and nothing is named": (
        without(INCLUDED, "status", "rateLimitType", unifiedWindows={
            **WINDOW, "seven_day": {"resetsAt": RESET + 9, "status": "rejected"}}),
        False, RESET + 9, True,
    ),
    "no object": ("allowed", False, 0, False),
    # Recorded, 2.1.197: it tells no windows.
    "a warning, and nothing of the allowance": (
        without(WARNED, "unifiedWindows", "overageStatus"), False, 0, False),
    "a warning, while they pay": (without(WARNED, isUsingOverage=True), True, 0, False),
    "a warning, and they are in use": (without(WARNED, overageInUse=True), True, 0, False),
    "a warning, used up": (without(WARNED, unifiedWindows=SPENT), False, RESET, True),
    "a warning, the week used up": (
        without(WARNED, unifiedWindows={
            **WINDOW, "seven_day": {"resetsAt": RESET + 9, "status": "rejected"}}),
        False, RESET + 9, True,
    ),
    "a warning with a new word": (without(WARNED, overageInUse="no"), False, 0, False),
}  # fmt: skip
NOT_PAID: dict[str, object] = {
    "nothing": None,
    "an empty object": {},
    "the allowance": INCLUDED,
    "as 2.1.197 tells it": without(INCLUDED, "unifiedWindows"),
    "credits are there": without(INCLUDED, "overageDisabledReason", overageStatus="allowed"),
    "credits are nearly gone": without(INCLUDED, overageStatus="allowed_warning"),
    "a warning": without(INCLUDED, status="allowed_warning", utilization=0.9),
    "credits that rest run low": WARNED,
    "a model's own week": without(INCLUDED, rateLimitType="seven_day_overage_included"),
    "a model's own week, everybody's used up": without(
        INCLUDED, rateLimitType="seven_day_opus", unifiedWindows=SPENT
    ),
    "beyond the window, by grace": without(
        INCLUDED, rateLimitGraceActive=True, unifiedWindows=SPENT
    ),
    "a model's own week is used up": without(
        INCLUDED,
        unifiedWindows={
            **WINDOW,
            "seven_day_overage_included": {"resetsAt": RESET, "status": "rejected"},
        },
    ),
    "a limit": REFUSED,
    "a limit with a name that is not known": without(REFUSED, rateLimitType="nine_day"),
    "nothing of credits": {"status": "rejected", "resetsAt": RESET},
    "out of credits": without(REFUSED, rateLimitType="overage"),
}


@pytest.mark.parametrize("name", PAID)
def test_what_the_cli_tells_says_who_pays(name: str) -> None:
    """Every sign, and every value that nobody knows."""
    info, certain, back_at, used_up = PAID[name]
    sign = sign_in(info)
    assert sign is not None
    assert (sign.certain, sign.back_at, sign.used_up) == (certain, back_at, used_up)


@pytest.mark.parametrize("name", NOT_PAID)
def test_what_the_allowance_pays_is_no_sign(name: str) -> None:
    """The control: ordinary answers, warnings, limits, and a CLI that tells nothing."""
    assert sign_in(NOT_PAID[name]) is None


def event(info: object) -> dict[str, Any]:
    """The CLI's message of it."""
    return {"type": "rate_limit_event", "rate_limit_info": info}


def with_error(info: object) -> dict[str, Any]:
    """The CLI's message of an error, with it."""
    said = {"model": "<synthetic>", "content": []}
    return {"type": "assistant", "message": said, "api_error_params": {"rate_limit_info": info}}


def test_an_answer_beyond_the_allowance_is_a_sign() -> None:
    """Measured: the event stands between an answer and what its tools said."""
    tools = {"type": "user", "message": {"content": []}}
    answered, refused = Listener(), Listener()
    assert [answered.take(m) for m in (SPOKE, event(REFUSED))] == [None, None]
    sign = answered.take(tools)
    assert sign is not None
    assert (sign.certain, sign.back_at) == (False, RESET)
    for message in (SPOKE, event(REFUSED), with_error(REFUSED), tools):
        assert refused.take(message) is None


def test_a_last_answer_beyond_the_allowance_is_a_sign() -> None:
    """No tool says anything after it; a result that is an error was not answered."""
    for result, signs in ((FINE, True), (failed_result(429), False)):
        listener = Listener()
        found = [listener.take(m) for m in (SPOKE, event(REFUSED), result)]
        assert (found[-1] is not None) is signs
    limited = Listener()
    for message in (SPOKE, event(REFUSED), with_error(REFUSED), FINE):
        assert limited.take(message) is None


def test_a_sealed_gateway_judges_what_the_cli_does_not_tell_plainly(ordered: Run) -> None:
    """What is certain still counts; where credits may pay it lets all out, and so the CLI's word
    does."""
    unsure = event(PAID["a new status of credits"][0])
    for settings, judges in (
        (Settings(credentials="sealed"), True),
        (Settings(), False),
        (Settings(credentials="sealed", billing=WITH_CREDITS), False),
    ):
        assert order_of(ordered, settings)["gateway_judges"] is judges
        run = Run(id=RunId("r222"), settings=settings.to_dict())
        progress = paying.listening(run)
        progress.take(json.dumps(unsure).encode())
        assert (progress.credits is None) is judges
        progress.take(json.dumps(event(USING)).encode())
        assert progress.credits is not None


# -- the box

_CLI = """#!{python}
import json, sys, time
if sys.argv[1:] == ["auth", "status"]:
    print(json.dumps({{"loggedIn": True, "authMethod": "claude.ai"}}))
    sys.exit()
sys.stdin.readline()
print(json.dumps({{"type": "system", "subtype": "init", "apiKeySource": "none",
                  "permissionMode": "bypassPermissions"}}), flush=True)
print({told!r}, flush=True)
open({started!r}, "a").write(" ".join(sys.argv) + "\\n")
if "--max-budget-usd" not in sys.argv and {lasts}:
    time.sleep(45)  # longer than an end takes
print(json.dumps({{"type": "result", "total_cost_usd": 0.5}}), flush=True)
sys.stdin.read()
"""


def in_the_box(
    steward: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    info: object,
    lasts: bool,
    **wish: Any,
) -> tuple[Any, str, list[str]]:
    """Let a CLI that tells this go; the steward, why it ended, and the processes of the CLI."""
    cli, started = tmp_path / "claude", tmp_path / "started"
    told = json.dumps(event(info))
    text = _CLI.format(python=sys.executable, told=told, started=str(started), lasts=lasts)
    cli.write_text(text)
    cli.chmod(0o755)
    monkeypatch.setattr(steward, "CLI", str(cli))
    monkeypatch.setattr(steward, "ROOM", str(tmp_path))
    monkeypatch.setattr(steward, "LAST_S", 0.1 if lasts else 600.0)
    monkeypatch.setattr(steward, "sealed", lambda checks: True)
    monkeypatch.setattr(steward.probe, "examine", lambda _: iter(()))
    monkeypatch.setattr(steward.Steward, "complaints", lambda self: None)
    monkeypatch.setattr(steward.Steward, "talk", str(tmp_path / "none"))
    (tmp_path / ".claude").mkdir()
    monkeypatch.setattr(steward, "CONFIG", str(tmp_path / ".claude"))
    made = steward.Steward()
    made.wish = {
        "cwd": str(tmp_path), "billing": "subscription", "name": "A", "email": "a@b",
        "settings": {}, "prompt": "Go.", "arguments": [], **wish,
    }  # fmt: skip
    _, why = made.carry_out()
    with made.cli:  # closes its pipes, which end with the steward's process otherwise
        pass
    return made, why, started.read_text().splitlines()


@pytest.mark.parametrize(
    ("name", "wish"),
    [
        ("using", {}),
        ("claim", {"gateway_judges": True}),
        ("a new status of credits", {}),
        ("using", {"billing": WITH_CREDITS, "credits_left_usd": 0.0}),
    ],
)
def test_the_cli_is_ended_at_the_first_sign(
    steward: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    name: str,
    wish: dict[str, Any],
) -> None:
    """The way out is shut, and what the CLI had begun to send is dropped."""
    made, why, started = in_the_box(steward, monkeypatch, tmp_path, PAID[name][0], True, **wish)
    assert (why, len(started)) == ("credits", 1)
    assert not made.relay.gate.is_set()
    said = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    (told,) = [one for one in said if one.get("event") == "credits"]
    assert told["then"] == "stop"


@pytest.mark.parametrize(
    ("wish", "processes"),
    [
        ({"billing": "subscription"}, 1),
        ({"billing": "subscription", "gateway_judges": True}, 1),
        ({"billing": WITH_CREDITS, "credits_left_usd": None}, 1),
        ({"billing": WITH_CREDITS, "credits_left_usd": 2.5}, 2),
    ],
)
def test_the_cli_goes_on_where_it_may(
    steward: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    wish: dict[str, Any],
    processes: int,
) -> None:
    """The allowance pays, or credits may; with a limit a new process is told what is left."""
    info = INCLUDED if wish["billing"] == "subscription" else USING
    if wish.get("gateway_judges"):
        info = without(WARNED, "unifiedWindows")
    made, why, started = in_the_box(steward, monkeypatch, tmp_path, info, processes == 2, **wish)
    assert (why, len(started), made.seen_result) == ("", processes, True)
    assert made.relay.gate.is_set()
    assert started[-1].endswith("--max-budget-usd 2.5") is (processes == 2)


# A subagent is at work when the main turn ends; the CLI takes it along when it is ended.
_AT_WORK = """#!{python}
import json, signal, sys, time
if sys.argv[1:] == ["auth", "status"]:
    print(json.dumps({{"loggedIn": True, "authMethod": "claude.ai", "apiProvider": "firstParty"}}))
    sys.exit()
def tell(**message):
    print(json.dumps(message), flush=True)
def end(*_):
    tell(type="system", subtype="background_tasks_changed", tasks=[])
    time.sleep(1.5)  # long enough for a look at it
    sys.exit(143)
signal.signal(signal.SIGTERM, end)
sys.stdin.readline()
open({started!r}, "a").write(" ".join(sys.argv) + "\\n")
tell(type="system", subtype="init", apiKeySource="none", permissionMode="bypassPermissions")
if "--max-budget-usd" not in sys.argv:
    tell(type="system", subtype="task_started", task_id="a", description="Look")
tell(type="result", subtype="success", is_error=False)
if "--max-budget-usd" not in sys.argv and {lasts}:
    print({told!r}, flush=True)
    time.sleep(45)
sys.stdin.read()
"""


@pytest.mark.parametrize(
    ("wish", "processes", "expected"),
    [
        ({}, 1, ("wait", "usage_limit")),
        ({"billing": WITH_CREDITS, "credits_left_usd": 2.5}, 2, ("end", "done")),
    ],
)
def test_credits_in_the_background_cut_its_work_off_and_are_not_the_end(
    steward: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    wish: dict[str, Any],
    processes: int,
    expected: tuple[str, str],
) -> None:
    """After the main turn's result: the run waits, or a process with the limit goes on."""
    monkeypatch.setattr(sys.modules[__name__], "_CLI", _AT_WORK)
    _, _, started = in_the_box(steward, monkeypatch, tmp_path, USING, True, **wish)
    assert len(started) == processes
    said = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    found = verdict(*said, **({"billing": WITH_CREDITS} if wish else {}))
    assert (found.kind, found.reason or found.ending["target"]) == expected
    assert sum(one.get("event") == "hung-up" for one in said) == processes - 1


LIMIT = ["--max-budget-usd", "1"]
ONCE, ANEW, LOST = ("restart", ""), ("", ""), ("", "not found")
PROCESSES = {
    # The conversation is lost when the CLI is started again with its limit.
    "again, and lost": (
        [ONCE, LOST, LOST, ANEW],
        [["--resume", "b"], ["--resume", "b", *LIMIT], ["--resume", "a", *LIMIT],
         ["--session-id", "b", *LIMIT]],
    ),
    # Credits begin to pay in the conversation that was begun anew.
    "lost, and again": (
        [LOST, LOST, ONCE, ANEW],
        [["--resume", "b"], ["--resume", "a"], ["--session-id", "b"],
         ["--session-id", "b", *LIMIT]],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("ends", "starts"), PROCESSES.values(), ids=PROCESSES.keys())
def test_every_process_keeps_to_the_limit(
    steward: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    ends: list[tuple[str, str]],
    starts: list[list[str]],
) -> None:
    """Whatever else has the CLI started again, none may use more credits than are left."""
    started: list[list[str]] = []
    made = steward.Steward()

    def converse(argv: list[str], env: dict[str, str]) -> tuple[int, str]:
        why, made.lost = ends[len(started)]
        started.append(argv[6:])
        made.cli = subprocess.Popen(["true"])
        made.activity = SimpleNamespace(has_work=why == "restart")
        return made.cli.wait(), why

    monkeypatch.setattr(steward, "VOLUME", str(tmp_path))
    monkeypatch.setattr(steward, "ROOM", str(tmp_path))
    monkeypatch.setattr(steward, "HOME", str(tmp_path))
    monkeypatch.setattr(steward, "CONFIG", str(tmp_path))
    monkeypatch.setattr(steward, "sealed", lambda checks: True)
    monkeypatch.setattr(steward.probe, "examine", lambda _: iter(()))
    monkeypatch.setattr(made, "converse", converse)
    (tmp_path / "box.jsonl").write_text("something\n")
    made.wish = {
        "cwd": str(tmp_path), "billing": WITH_CREDITS, "credits_left_usd": 1.0, "settings": {},
        "conversation": "box.jsonl", "name": "A", "email": "a@b",
        "arguments": ["--resume", "a"], "prompt": "Proceed.",
        "again": ["--resume", "b"], "prompt_again": "Go on.",
        "anew": ["--session-id", "b"], "prompt_anew": "Implement the plan.",
    }  # fmt: skip
    made.carry_out()
    assert started == starts


# -- the host


def told_by(*messages: dict[str, Any]) -> Progress:
    """What a box has told that said this."""
    progress = Progress()
    for message in (SEALED, *messages):
        progress.take(json.dumps(message).encode())
    return progress


def verdict(*messages: dict[str, Any], billing: str = "subscription", **fields: Any) -> Verdict:
    """The verdict on a run whose box said this."""
    progress = told_by(*messages)
    settings = {"billing": billing, **fields.pop("settings", {})}
    run = Run(id=RunId("r222"), settings=settings, **fields)
    return judge(run, progress, BoxEnd(), now=NOW, jitter=lambda low, high: low)


def test_a_run_waits_until_the_allowance_is_back() -> None:
    """As for a usage limit, with what would help."""
    for told in (event(USING), with_error(USING), event(OLD_USING)):
        found = verdict(SPOKE, told, ended("credits", 143))
        assert (found.kind, found.reason, found.until) == ("wait", "usage_limit", RESET + 1)
        assert "used up" in found.message
        assert "subscription+credits" in found.hint
    assert verdict(SPOKE, event(USING), FINE, ended()).ending["target"] == State.DONE


def test_a_wait_for_an_unknown_time_grows() -> None:
    """Each look at it can cost a paid request; where the allowance paid in between, it is new,
    but only with a time that is known: otherwise it would never grow."""
    at_once = without(INCLUDED, overageInUse=True)
    waits = [verdict(event(at_once), ended("credits"), strikes=n).until - NOW for n in range(12)]
    assert waits[:3] == [901.0, 1801.0, 3601.0]
    assert waits[-1] == 86_401.0
    assert "this model" in verdict(event(at_once), ended("credits")).message
    again = verdict(event(INCLUDED), event(at_once), ended("credits"), strikes=5)
    assert again.until - NOW == 28_801.0
    back = verdict(event(INCLUDED), event(USING), ended("credits"), strikes=5)
    assert (back.until, back.strikes) == (RESET + 1, 1)
    over = event(without(OLD_USING, resetsAt=NOW - 1))
    assert [verdict(over, ended("credits"), strikes=n).until - NOW for n in (0, 1)] == [11, 1801]


def test_what_nobody_knows_is_named() -> None:
    """The message says which value it was."""
    found = verdict(event(without(INCLUDED, overageStatus="granted\u001b[31m")), ended("credits"))
    assert "overageStatus: granted[31m" in found.message


def test_the_gateways_sign_counts_as_well() -> None:
    """What the sealed gateway reads from the headers, and the CLI does not tell."""
    line = {"decision": "credits", "why": "w", "certain": True, "back_at": RESET, "used_up": True}
    sign = paying.from_gateway([{"decision": "allowed", "target": "x"}, line])
    assert sign is not None
    assert (sign.back_at, sign.used_up, sign.why) == (RESET, True, "w")
    assert paying.from_gateway([{"decision": "allowed", "target": "x"}]) is None


def test_a_refusal_beside_credits_was_not_paid() -> None:
    """The CLI tells of them before it tells of the 429 (measured, both versions): nobody paid,
    where no answer of the model stood before the event or came after it."""
    asked = {"type": "user", "message": {"content": []}}
    refused = (failed_result(429, "You've hit your limit"), ended("credits"))
    for before in ((), (SPOKE, asked)):
        assert told_by(*before, event(USING), *refused).refused
    assert not told_by(SPOKE, event(USING), *refused).refused
    assert not told_by(asked, event(USING), SPOKE, *refused).refused
    assert not told_by(asked, event(USING), ended("credits")).refused
    assert not told_by(asked, event(INCLUDED), *refused).refused


def test_the_bill_of_a_refused_run_names_no_credits(monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits as at any usage limit; what the sealed gateway has seen paid counts all the same."""
    monkeypatch.setattr("plandock.box.launch.remove_containers", lambda *_: None)
    line = {"decision": "credits", "why": "w", "certain": True, "back_at": RESET, "used_up": True}
    with Store() as store:
        for kept in ([], [line]):
            monkeypatch.setattr("plandock.supervisor.egress.keep", lambda *_, kept=kept: kept)
            run = Run(id=RunId(f"r22{len(kept)}"), handoff_key=f"{len(kept)}", state=State.RUNNING)
            store.add(run, name_branch=lambda _: "feature/auto")
            refused = event({**USING, "resetsAt": time.time() + 3600})
            told = told_by(refused, failed_result(429, "You've hit your limit"), ended("credits"))
            paying.record(store, run, told)
            assert store.get(run.id).billing.credits_used is None
            engine: Any = None
            running.conclude(store, engine, run, told, None)
            found = store.get(run.id)
            assert (found.state, found.reason) == (State.WAITING, "usage_limit")
            assert found.billing.credits_used is bool(kept)


def test_a_model_for_credits_that_are_not_there_ends_the_run() -> None:
    """Measured, both versions: nothing says until when, so no wait would help."""
    info = {"status": "rejected", "rateLimitType": "overage", "overageStatus": "rejected"}
    refused = failed_result(429, "You're out of usage credits")
    old = (event({**info, "errorCode": "credits_required"}), refused, ended())
    new = (old[0], {**with_error(info), "api_error_code": "credits_required"}, *old[1:])
    for messages in (old, new):
        for billing in ("subscription", WITH_CREDITS):
            found = verdict(*messages, billing=billing)
            assert (found.ending["reason"], found.ending["exit_code"]) == ("billing", 21)
            assert "usage credits" in found.ending["message"]
    later = verdict(event({**info, "resetsAt": RESET, "errorCode": "credits_required"}), refused)
    assert later.reason == "usage_limit"


@pytest.mark.parametrize("wish", [{}, {"billing": WITH_CREDITS, "credits_left_usd": 2.5}])
def test_the_last_answer_may_be_the_end_of_the_work(
    steward: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, wish: dict[str, Any]
) -> None:
    """With nothing to ask any more the CLI's result is waited for, and none is started again."""
    made, why, started = in_the_box(steward, monkeypatch, tmp_path, USING, False, **wish)
    assert (why, len(started)) == ("" if wish else "credits", 1)
    assert made.seen_result
    assert made.cli.returncode == 0


def credits_told(then: str) -> dict[str, Any]:
    """The steward's word of it."""
    return {"type": "plandock", "event": "credits", "then": then, "why": "w", "certain": True}


BEGAN = {"type": "plandock", "event": "agent-started"}
BUDGET = {"type": "result", "subtype": "error_max_budget_usd", "total_cost_usd": 0.7}


def test_a_limit_for_credits_ends_the_run() -> None:
    """At the limit, and where it cannot be told how far it is: then it is not gone over."""
    limit: dict[str, Any] = {"billing": WITH_CREDITS, "settings": {"max_credits_usd": 0.5}}
    capped = (BEGAN, SPOKE, event(USING), credits_told("restart"), BEGAN)
    reached = verdict(*capped, event(USING), BUDGET, ended(), **limit)
    assert (reached.ending["target"], reached.ending["reason"]) == ("stopped", "credits")
    assert "0.70 USD" in reached.ending["message"]
    unknown = verdict(*capped, event(USING), ended("", 137), **limit)
    assert unknown.ending["reason"] == "credits"
    assert "not known" in unknown.ending["message"]
    below = {**failed_result(529), "total_cost_usd": 0.1}
    assert verdict(*capped, event(USING), below, ended(), **limit).reason == "overloaded"
    told = (BEGAN, SPOKE, event(USING), credits_told("stop"), ended("credits", 143))
    resumed = judged(Billing(credits_usd=0.5), *told)
    assert (resumed.ending["target"], resumed.ending["reason"]) == ("stopped", "credits")
    over = judged(Billing(credits_usd=0.45), *capped, event(USING), below, ended())
    assert over.ending["reason"] == "credits"


def judged(spent: Billing, *messages: dict[str, Any]) -> Verdict:
    """The verdict on a run that had used credits before."""
    progress = told_by(*messages)
    settings = {"billing": WITH_CREDITS, "max_credits_usd": 0.5}
    run = Run(id=RunId("r222"), settings=settings, billing=spent)
    return judge(run, progress, BoxEnd(), now=NOW, jitter=lambda low, high: low)


def billed(*messages: dict[str, Any], billing: str = WITH_CREDITS) -> Run:
    """A run whose box said this, with its bill."""
    progress = told_by(*messages)
    run = Run(id=RunId("r222"), settings={"billing": billing}, base="0" * 40)
    run.billing = Billing("subscription", "none", "max")
    run.billing = paying.bill(run, progress)
    return run


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ((BEGAN, FINE), "not known: nothing was told of them"),
        ((BEGAN, event(INCLUDED), FINE), "none were used; the allowance paid (five_hour)"),
        (
            (BEGAN, event(USING), credits_told("go-on"), {**FINE, "total_cost_usd": 0.25}),
            "used, 0.25 USD at most, by Claude Code's own count (the API says so",
        ),
        (
            # An earlier turn was the allowance's.
            (BEGAN, {**FINE, "total_cost_usd": 1.0}, event(USING), credits_told("go-on"),
             {**FINE, "total_cost_usd": 1.25}),
            "used, 0.25 USD at most, by Claude Code's own count (the API says so",
        ),
        (
            (BEGAN, event(USING), credits_told("restart"), BEGAN, {**FINE, "total_cost_usd": 0.5}),
            "used, 0.50 USD at most, by Claude Code's own count; not all requests are counted",
        ),
        ((BEGAN, event(USING), credits_told("stop"), ended()), "used, how much is not known"),
    ],
)  # fmt: skip
def test_the_receipt_says_what_is_known(messages: tuple[dict[str, Any], ...], words: str) -> None:
    """Whether credits were used, and how much of them as far as anybody has told."""
    run = billed(*messages)
    assert receipt_of(run)["usage_credits"].startswith(words)
    assert words in as_text(run)
    # The conversation that handed it off hears of it, too.
    assert ("Usage credits" in in_words(run)) is words.startswith("used")
    assert run.to_json()["billing"]["credits_used"] is (
        None if words.startswith("not") else words.startswith("used")
    )


def test_two_processes_of_the_cli_cost_their_sum() -> None:
    """`total_cost_usd` is of one process."""
    progress = Progress()
    for message in (SEALED, BEGAN, {**FINE, "total_cost_usd": 0.5}, BEGAN,
                    {**FINE, "total_cost_usd": 0.25}):  # fmt: skip
        progress.take(json.dumps(message).encode())
    assert progress.usage.cost_usd_equivalent == 0.75


# -- the settings


def test_only_the_users_own_file_lets_credits_pay(tmp_path: Path) -> None:
    """A repository's file can neither allow them nor say how much."""
    (tmp_path / ".plandock.toml").write_text(f'billing = "{WITH_CREDITS}"\nmax_credits_usd = 100\n')
    found = load(repo=tmp_path, environ={})
    assert (found.billing, found.max_credits_usd) == ("subscription", None)
    assert {one.key for one in found.refused} == {"billing", "max_credits_usd"}
    own = load(repo=tmp_path, environ={
        "PLANDOCK_BILLING": WITH_CREDITS, "PLANDOCK_MAX_CREDITS_USD": "2"})  # fmt: skip
    assert (own.billing, own.max_credits_usd) == (WITH_CREDITS, 2.0)


def test_the_box_is_told_what_is_left(ordered: Run) -> None:
    """Of all attempts of the run, and never more than its whole budget."""
    allowed = Settings(billing=WITH_CREDITS, max_credits_usd=2.0)
    assert order_of(ordered, Settings(billing=WITH_CREDITS))["credits_left_usd"] is None
    assert order_of(ordered, allowed)["credits_left_usd"] == 2.0
    ordered.billing.credits_usd = 0.5
    assert order_of(ordered, allowed)["credits_left_usd"] == 1.5
    ordered.billing.credits_usd = 9.0
    assert order_of(ordered, allowed)["credits_left_usd"] == 0.0
    ordered.billing.credits_usd = 0.5
    less = Settings(billing=WITH_CREDITS, max_credits_usd=2.0, max_budget_usd=0.005)
    assert order_of(ordered, less)["credits_left_usd"] == 0.005


def test_headless_use_is_not_passed_off_as_interactive(ordered: Run, steward: ModuleType) -> None:
    """Plain `-p`, and no variable in the box that names another way in."""
    order = order_of(ordered, Settings())
    for words in (order["arguments"], order["again"]):
        assert words[0] == "-p"
    made = steward.Steward()
    made.wish = {"name": "A", "email": "a@b"}
    names = {*order["settings"]["env"], *made.environment()}
    assert not [name for name in names if "ENTRYPOINT" in name or "INTERACTIVE" in name]
