"""Every text that a hook's answer holds, for the user and for the model."""

from __future__ import annotations

from collections.abc import Mapping


def handed_off(run: str, branch: str, *, messages: int) -> str:
    """What the user reads at the prompt when a plan was handed off."""
    along = ""
    if messages:
        what = "message goes" if messages == 1 else f"{messages} messages go"
        along = f"Your queued {what} along with it.\n"
    return (
        f"handed off as {run} → branch {branch}\n"
        f"It runs in a sealed container. Nothing else runs on this machine.\n{along}"
        f"Follow it: plandock logs {run} -f    Wait for it: plandock wait {run}"
    )


def not_handed_off(mark: Mapping[str, object]) -> str:
    """What the user reads at the prompt when a plan could not be handed off."""
    return (
        f"plandock could not hand the plan off: {mark['why']}\nNext: {mark['hint']}\n"
        "Nothing was started, here or in a container."
    )


def refusal(latch: Mapping[str, object]) -> str:
    """Why a tool call is refused, and what the model is to do."""
    if latch.get("run"):
        return (
            f"{_fate(latch)} No tool may run here. Say so to the user in one sentence and stop; "
            f"they can follow it with: plandock logs {latch['run']} -f. Tools run here again once "
            f"they write a message, or with: plandock unlatch {latch['run']}"
        )
    if latch.get("kind") == "refused":
        return (
            f"plandock could not hand this plan off: {latch.get('why')}. Next step for the user: "
            f"{latch.get('hint')}. No tool may run here. Tell the user this and stop."
        )
    if latch.get("kind") in ("cleared", "cleared-away"):
        return (
            "The user cleared this conversation while a plan of it was before them, so this call "
            "did not run. Where that plan follows, they accepted it: go on with it. Your next tool "
            "call hands it off to a sealed container, with what they had queued. Where no plan "
            "follows, say so in one sentence and stop."
        )
    return (
        "This plan is being handed off to a sealed container. No tool may run here. Say so and "
        "stop. (Should plandock have been ended on the way, the user's next message says so.)"
    )


def cannot_remember(why: str) -> str:
    """Why a plan must not be shown to the user for acceptance."""
    return (
        f"plandock cannot write its state folder ({why}), so it could not take an accepted plan "
        "over, and this plan is not shown to the user. Tell the user this and stop. Next for the "
        "user: make room there or set its rights right (plandock doctor), then plan again; or take "
        "plandock's hooks out of the settings: plandock uninit"
    )


def garbled(why: str) -> str:
    """What the user (or the model, for them) reads where nothing is known of a plan."""
    return (
        f"plandock could not take this plan over: {why}. Nothing was started, here or in a "
        "container.\nNext for the user: look for LD_ variables in the env block of the project's "
        "settings, and see: plandock doctor. Then plan again, or: plandock run --session last"
    )


STARTS_FROM_PLAN = (
    "plandock: the user accepted the plan that this conversation starts from. Your first tool call "
    "hands it off to a sealed container, with what the user has written here, and none of it runs "
    "on this machine. To work on it here, the user first leaves auto mode with shift+tab."
)


def not_a_person(latch: Mapping[str, object]) -> str:
    """What the model hears where a task, a schedule or the CLI itself began the turn."""
    return (
        f"plandock: {_fate(latch)} The user has not written since; a background task, a schedule "
        f"or Claude Code itself began this turn. No tool may run here {_UNTIL}. "
        "Say so in one sentence and stop."
    )


def queued_before(latch: Mapping[str, object], *, passed_on: bool) -> str:
    """What the model hears where the user had queued the prompt before the hand-off."""
    if passed_on:
        what = "It goes along to the run."
    elif latch.get("run"):
        what = (
            "The run was at work already and did not get it; once it has ended, the user can pass "
            f"it on with: plandock resume {latch['run']} --say TEXT"
        )
    else:
        what = "It was not carried out."
    return (
        f"plandock: {_fate(latch)} The user had queued this message before that. {what} No tool "
        f"may run here {_UNTIL}. Say so in one sentence and stop."
    )


def standing(mark: Mapping[str, object], state: str) -> str:
    """What the model hears when the user writes after a hand-off; "" where there was none.

    As it seems: what a schedule submits may look the same at this moment.
    """
    if mark.get("run"):
        return (
            f"plandock: the plan that the user accepted in this conversation was handed off as "
            f"run {mark['run']} (state: {state or 'unknown'}). It is carried out in a sealed "
            f"container and arrives on the local branch {mark.get('branch')}. Do not carry it out "
            f"here and do not start it again, unless the user asks for that in so many words. The "
            f"user can follow it with `plandock logs {mark['run']} -f`. In a turn that a "
            f"background task or a schedule began, no tool may run here {_UNTIL}."
        )
    if mark.get("kind") != "refused":
        return ""
    hint = f" Next step for the user: {mark['hint']}" if mark.get("hint") else ""
    return (
        f"plandock: the plan accepted in this conversation was NOT handed off "
        f"({mark.get('why')}), and nothing of it was carried out.{hint}"
    )


_UNTIL = "until the user writes again"


def _fate(latch: Mapping[str, object]) -> str:
    """What became of the plan, in a sentence."""
    if latch.get("run"):
        return (
            f"This plan was handed off as {latch['run']} and is carried out in a sealed container "
            f"(branch {latch.get('branch')})."
        )
    if latch.get("kind") == "refused":
        return f"This plan could not be handed off ({latch.get('why')})."
    return "This plan is being handed off to a sealed container."
