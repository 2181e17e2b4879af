"""The hook's decision, as a table: the shared facts on acceptance, row by row, and the guard."""

import json

import pytest

from plandock.hook import payload
from plandock.hook.decide import Act, Recorded, decide
from plandock.hook.payload import Event
from plandock.hook.transcript import Began
from tests.support import hooks

ALL = frozenset({"acceptEdits", "auto", "bypassPermissions"})
PROPOSAL = {"session": "s", "plan": "p"}
CLEARED = {"kind": "cleared", "cleared_at": 1.0, "plan": "p"}
HANDED_OFF = {"kind": "handed-off", "run": "r7k2", "branch": "feature/auto"}


def event(name, tool="", mode="", **more):
    """An event of session `s`."""
    return Event(name=name, session_id="s", tool=tool, mode=mode, **more)


def act(e, *, on_accept=ALL, in_box=False, **recorded):
    """What is to be done about an event, given what is on record."""
    return decide(e, Recorded(**recorded), on_accept=on_accept, in_box=in_box).act


ACCEPTANCE = [
    # What the user picks, as the event that follows it; what is on record; what is to be done.
    ("proposed", event("PreToolUse", "ExitPlanMode", "plan"), {}, Act.REMEMBER_PROPOSAL),
    ("asked", event("PermissionRequest", "ExitPlanMode", "plan"), {"proposal": PROPOSAL}, "-"),
    ("auto-accept edits", event("PostToolUse", "ExitPlanMode", "acceptEdits"), {}, Act.HAND_OFF),
    ("auto mode", event("PostToolUse", "ExitPlanMode", "auto"), {}, Act.HAND_OFF),
    ("bypass", event("PostToolUse", "ExitPlanMode", "bypassPermissions"), {}, Act.HAND_OFF),
    ("manual", event("PostToolUse", "ExitPlanMode", "default"), {}, Act.FORGET_PROPOSAL),
    ("mode unknown", event("PostToolUse", "ExitPlanMode", "dontAsk"), {}, Act.HAND_OFF),
    ("mode absent", event("PostToolUse", "ExitPlanMode", ""), {}, Act.HAND_OFF),
    ("still plan", event("PostToolUse", "ExitPlanMode", "plan"), {}, Act.FORGET_PROPOSAL),
    ("subagent", event("PostToolUse", "ExitPlanMode", "auto", is_agent=True), {}, "-"),
    ("rejected, says more", event("UserPromptSubmit"), {"proposal": PROPOSAL}, Act.TELL_ONCE),
    ("reading", event("PreToolUse", "Read", "plan"), {}, "-"),
    ("writing the plan", event("PreToolUse", "Write", "plan"), {"proposal": PROPOSAL}, "-"),
    ("looking for the tool", event("PreToolUse", "ToolSearch", "plan"), {}, "-"),
    ("found the tool", event("PostToolUse", "ToolSearch", "auto"), {}, "-"),
    ("another tool is done", event("PostToolUse", "Write", "auto"), {}, "-"),
    ("no plan mode", event("PreToolUse", "ExitPlanMode", "auto"), {}, "-"),
    ("ordinary work", event("PreToolUse", "Bash", "auto"), {}, "-"),
    ("ordinary work after Esc", event("PreToolUse", "Bash", "auto"), {"proposal": PROPOSAL}, "-"),
    ("a prompt", event("UserPromptSubmit"), {}, "-"),
    ("case matters", event("PostToolUse", "exitplanmode", "auto"), {}, "-"),
    ("unknown event", event("Stop"), {"latch": HANDED_OFF}, "-"),
]

CLEARING = [
    (
        "cleared with a proposal",
        event("SessionEnd", reason="clear"),
        {"proposal": PROPOSAL},
        Act.MARK_CLEARED,
    ),
    ("cleared without", event("SessionEnd", reason="clear"), {}, "-"),
    ("left", event("SessionEnd", reason="prompt_input_exit"), {"proposal": PROPOSAL}, "-"),
    (
        "the session that follows",
        event("SessionStart", source="clear"),
        {"cleared": CLEARED},
        Act.WATCH_CLEARED,
    ),
    ("follows no proposal", event("SessionStart", source="clear"), {}, "-"),
    ("starts", event("SessionStart", source="startup"), {"cleared": CLEARED}, "-"),
    ("resumed", event("SessionStart", source="resume"), {"cleared": CLEARED}, "-"),
    ("first call, auto", event("PreToolUse", "Write", "auto"), {"latch": CLEARED}, Act.HAND_OFF),
    (
        "first call, edits",
        event("PreToolUse", "Read", "acceptEdits"),
        {"latch": CLEARED},
        Act.HAND_OFF,
    ),
    (
        "first call, by hand",
        event("PreToolUse", "Write", "default"),
        {"latch": CLEARED},
        Act.UNLATCH,
    ),
    (
        "first call, mode unknown",
        event("PreToolUse", "Read", "new"),
        {"latch": CLEARED},
        Act.HAND_OFF,
    ),
    ("first call, planning", event("PreToolUse", "Read", "plan"), {"latch": CLEARED}, Act.UNLATCH),
    ("/clear, then a prompt", event("UserPromptSubmit"), {"latch": CLEARED}, Act.TELL_ONCE),
    (
        "a prompt before the first call",
        event("UserPromptSubmit"),
        {"latch": CLEARED, "starts_from_plan": True},
        Act.ANSWER_PROMPT,
    ),
    (
        "first call, after a prompt",
        event("PreToolUse", "Write", "auto"),
        {"latch": CLEARED, "starts_from_plan": True, "began": Began.PERSON},
        Act.HAND_OFF,
    ),
    (
        "killed on the way",
        event("PreToolUse", "Write", "auto"),
        {"latch": CLEARED | {"kind": "handing-off"}},
        Act.HAND_OFF,
    ),
]

GUARD = [
    ("sibling call", event("PreToolUse", "Write", "auto"), {"latch": HANDED_OFF}, Act.REFUSE),
    ("reading", event("PreToolUse", "Read", "plan"), {"latch": HANDED_OFF}, Act.REFUSE),
    ("planning again", event("PreToolUse", "ExitPlanMode", "plan"), {"latch": {}}, Act.REFUSE),
    (
        "still being answered",
        event("PreToolUse", "Bash", "auto"),
        {"latch": {"kind": "handing-off"}},
        Act.REFUSE,
    ),
    ("refused", event("PreToolUse", "Bash"), {"latch": {"kind": "refused"}}, Act.REFUSE),
    ("mark unreadable", event("PreToolUse", "Bash"), {"latch": {}}, Act.REFUSE),
    (
        "delivered again",
        event("PostToolUse", "ExitPlanMode", "auto"),
        {"latch": HANDED_OFF},
        Act.HAND_OFF,
    ),
    ("a prompt", event("UserPromptSubmit"), {"latch": HANDED_OFF}, Act.ANSWER_PROMPT),
    ("a prompt, mark unreadable", event("UserPromptSubmit"), {"latch": {}}, Act.ANSWER_PROMPT),
    *(
        (
            f"call in a turn of {began.name}",
            event("PreToolUse", "Bash", "auto"),
            {"latch": HANDED_OFF, "began": began},
            Act.UNLATCH if began is Began.PERSON else Act.REFUSE,
        )
        for began in Began
    ),
    (
        "planning again, a person's turn",
        event("PreToolUse", "ExitPlanMode", "plan"),
        {"latch": HANDED_OFF, "began": Began.PERSON},
        Act.REMEMBER_PROPOSAL,
    ),
    ("a prompt, note alone", event("UserPromptSubmit"), {"note": HANDED_OFF}, Act.TELL_ONCE),
]

ROWS = [pytest.param(*row[1:], id=row[0]) for row in ACCEPTANCE + CLEARING + GUARD]


@pytest.mark.parametrize(("what", "recorded", "expected"), ROWS)
def test_each_row_is_decided(what, recorded, expected):
    """Every event in every situation leads to the one act of its row."""
    assert act(what, **recorded) is (Act.NOTHING if expected == "-" else expected)


@pytest.mark.parametrize(("what", "recorded", "expected"), ROWS)
def test_a_box_decides_nothing(what, recorded, expected):
    """Inside a box every row is left alone."""
    assert act(what, in_box=True, **recorded) is Act.NOTHING


@pytest.mark.parametrize("mode", sorted(ALL))
def test_a_mode_that_the_user_took_out_is_no_acceptance(mode):
    """`on_accept` narrows what counts, with context kept and with context cleared."""
    fewer = ALL - {mode}
    kept = event("PostToolUse", "ExitPlanMode", mode)
    assert act(kept, on_accept=fewer) is Act.FORGET_PROPOSAL
    assert act(event("PreToolUse", "Write", mode), on_accept=fewer, latch=CLEARED) is Act.UNLATCH


@pytest.mark.parametrize("mode", ["dontAsk", "new", "", "auto"])
def test_who_wants_no_hand_off_has_none(mode):
    """With an empty `on_accept` no mode counts, known or unknown."""
    kept = event("PostToolUse", "ExitPlanMode", mode)
    assert act(kept, on_accept=frozenset()) is Act.FORGET_PROPOSAL
    cleared = event("PreToolUse", "Write", mode)
    assert act(cleared, on_accept=frozenset(), latch=CLEARED) is Act.UNLATCH


@pytest.mark.parametrize(("plan_is_there", "expected"), [(True, Act.HAND_OFF), (False, Act.REFUSE)])
def test_a_turn_from_before_the_clearing_goes_on_in_no_case(plan_is_there, expected):
    """It hands off where the plan is in the new conversation already, and is refused elsewhere."""
    call = event("PreToolUse", "Write", "plan")
    recorded = {"latch": CLEARED, "began": Began.BEFORE, "starts_from_plan": plan_is_there}
    assert act(call, **recorded) is expected
    assert act(call, **recorded, on_accept=frozenset()) is Act.UNLATCH


def test_the_trigger_says_which_way_it_came():
    """A hand-off knows whether the context was kept or cleared."""
    kept = decide(event("PostToolUse", "ExitPlanMode", "auto"), Recorded(), on_accept=ALL)
    cleared = decide(event("PreToolUse", "Read", "auto"), Recorded(latch=CLEARED), on_accept=ALL)
    assert (kept.trigger, cleared.trigger) == ("accepted", "cleared")


@pytest.mark.parametrize("path", sorted(hooks.PAYLOADS.rglob("*.json")), ids=lambda p: p.stem)
def test_real_payloads_hand_off_only_where_a_plan_was_accepted(path):
    """Of all that the real CLIs sent, with nothing on record, only acceptances hand off."""
    found = payload.parse(path.read_bytes())
    assert found is not None
    accepted = path.stem in {f"PostToolUse-ExitPlanMode-{mode}" for mode in ALL}
    assert (act(found) is Act.HAND_OFF) == accepted
    assert json.loads(path.read_bytes())["session_id"] == found.session_id
