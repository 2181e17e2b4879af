"""What Claude Code calls: one payload in, one answer out, every failure an explicit answer.

Run as a script by the launcher that ``init`` writes (``python -I -S …/hook/entry.py``), and as
``plandock hook``.  Exit 0 lets things be, exit 2 refuses one tool call with the reason on standard
error; an acceptance is answered with ``continue: false`` (shared facts, section 2, measured).
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

if not __package__:  # run as a script without site: plandock lies two folders up
    sys.path[:] = [p for p in sys.path if not p.endswith("/plandock/hook")]
    sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from plandock import paths
from plandock.hook import answers, caller, missed, payload, provisional, transcript
from plandock.hook.decide import BY_HAND, CLEARED_AWAY, Act, Decision, Recorded, decide
from plandock.hook.payload import Event
from plandock.runs import marks

_WAYS = ("acceptEdits", "auto", "bypassPermissions")
# A latch of these kinds may become a hand-off by the next call.
_UNDECIDED = ("cleared", "handing-off")
_CLEARINGS = ("cleared", CLEARED_AWAY)
# A SessionStart belongs to a clearing at most this long before it (seconds).
_CLEARING_S = 120.0
_PERSON = transcript.Began.PERSON
# Only a box's image has it.  Not a variable: a repository's settings could set that on the host.
_BOX_FILE = "/opt/plandock/steward.py"


def main() -> int:
    """Read the payload from standard input, act, answer; returns the exit code."""
    event = None
    try:
        frozen = _frozen_words(sys.argv[1:])
        caller.told(frozen.pop("PPID", ""))
        if "XDG_STATE_HOME" in frozen:
            # Where marks and runs are is told by the launcher, never by a repository's settings.
            os.environ["XDG_STATE_HOME"] = frozen["XDG_STATE_HOME"]
        raw = sys.stdin.buffer.read(payload.LARGEST_PAYLOAD + 1)
        event = payload.parse(raw)
        if event is not None:
            # Claude Code sets it for each hook, whatever the project's settings say (measured).
            started = payload.clean_path(os.environ.get("CLAUDE_PROJECT_DIR"))
            event = replace(event, started=started)
        if in_box():
            return 0
        if event is None:
            return _no_event(sys.argv[1] if len(sys.argv) > 1 else "")
        return _act(event, frozen)
    except Exception as error:
        # An exception is no reason to hold up a tool call that has nothing to do with us; where
        # an acceptance was at stake, `_hand_off` has answered already.
        _log(error)
        return _refuse_where_latched(event, error)


def _no_event(word: str) -> int:
    """The answer to a payload that cannot be understood, where a plan is at stake."""
    why = "Claude Code's words to plandock's hook arrived empty or garbled"
    if word == "proposed":
        sys.stderr.write(answers.garbled(why) + "\n")
        return 2
    return _stop(answers.garbled(why)) if word in ("accepted", "cleared-start") else 0


def _refuse_where_latched(event: Event | None, error: Exception) -> int:
    """The answer where the hook itself failed: a latch that stands refuses a call all the same."""
    if event is None:
        return 0 if in_box() else _no_event(sys.argv[1] if len(sys.argv) > 1 else "")
    if event.name not in ("PreToolUse", "PostToolUse"):
        return 0
    if provisional.is_forgotten(event):
        return _cannot_remember(error)
    latch = marks.get(paths.latch_dir(), event.session_id)
    accepts = event.name == "PostToolUse" and event.tool == "ExitPlanMode" and not event.is_agent
    if accepts and event.mode not in BY_HAND:  # a latch may not have been writable
        return _stop(answers.not_handed_off(_what_is_wrong(error, event.session_id)))
    if latch is None or latch.get("kind") == "copy":
        return 0
    if event.name == "PostToolUse":
        return _stop(answers.not_handed_off(_what_is_wrong(error, event.session_id)))
    sys.stderr.write(answers.refusal(latch) + "\n")
    return 2


def _cannot_remember(error: Exception) -> int:
    """Refuse a proposal of which nothing would be known where the context is cleared."""
    why = str(_what_is_wrong(error, "")["why"])
    sys.stderr.write(answers.cannot_remember(why) + "\n")
    return 2


def in_box() -> bool:
    """Whether this is a plandock box, where the hook must do nothing."""
    return os.path.exists(_BOX_FILE)


def _frozen_words(words: list[str]) -> dict[str, str]:
    """What the launcher says that the user's own environment was: ``NAME=value`` words."""
    return {n: v for n, is_pair, v in (w.partition("=") for w in words) if is_pair and v}


def _act(event: Event, frozen: Mapping[str, str] | None = None) -> int:
    # Claude Code's mark, whatever version this is: here its project's variables were laid over.
    os.environ.setdefault("CLAUDE_PROJECT_DIR", event.cwd)
    if event.name == "Stop":
        return _warn(event)
    if event.name == "SessionStart" and event.source != "clear":
        from plandock.hook import session_setup

        code = _warn(event)
        session_setup.at_start(event, caller.pid())
        return code
    if event.name == "PostToolUse" and event.tool == "ExitPlanMode":
        missed.note_seen(event.tool_use_id)
    recorded = _recorded(event)
    if event.name == "PostToolUse" or (recorded.latch or {}).get("kind") in _UNDECIDED:
        _take_back(event, frozen or {})
    # The user's wish matters only where an acceptance may be at hand; the settings are read then.
    asked = event.name == "PostToolUse" or (recorded.latch or {}).get("kind") in _CLEARINGS
    modes = _on_accept(event) if asked else frozenset(_WAYS)
    decision = decide(event, recorded, on_accept=modes)
    session = event.session_id
    if decision.unlatches:
        marks.take_away(paths.latch_dir(), session)
    if decision.unlatches or decision.trigger == "cleared":
        _forget_cleared_away(recorded.latch or {})
    if decision.trigger == "cleared" or (decision.unlatches and event.name == "PreToolUse"):
        missed.note_cleared(session, event.transcript)
    if decision.act is Act.HAND_OFF:
        return _hand_off(event, decision, recorded)
    if decision.act is Act.REFUSE:
        provisional.settle(event, decision.act)
        sys.stderr.write(answers.refusal(recorded.latch or {}) + "\n")
        return 2
    if decision.act is Act.REMEMBER_PROPOSAL:
        data: dict[str, Any] = {"session": session, "cwd": event.cwd, "plan": event.plan}
        data |= {"at": str(time.time()), "proposed_at": time.time()}
        data |= {"plan_file": event.plan_file, "transcript": event.transcript}
        data |= {"started": event.started, "pid": caller.pid(), "proposed_in": event.prompt_id}
        marks.put(paths.proposal_dir(), session, data)
        provisional.check_latching()
    elif decision.act is Act.FORGET_PROPOSAL:
        marks.take_away(paths.proposal_dir(), session)
    elif decision.act is Act.MARK_CLEARED:
        extra = {"cleared_at": time.time(), "prompt_id": event.prompt_id, "pid": caller.pid()}
        # All that the launcher's own mark of a proposal tells is that there was one.
        where = {"session": session, "cwd": event.cwd}
        before = provisional.plain(recorded.proposal or {})
        marks.put(paths.proposal_dir(), session, {**where, **before, **extra})
        # What was queued before is submitted under the old name still, and calls its first tool
        # before the new conversation is told of (measured, 2.1.197 and 2.1.332).
        marks.put(paths.latch_dir(), session, {"kind": CLEARED_AWAY, "at": time.time()})
    elif decision.act is Act.WATCH_CLEARED:
        cleared = dict(recorded.cleared or {})
        marks.put(paths.latch_dir(), session, {**cleared, "kind": "cleared"})
        marks.take_away(paths.proposal_dir(), str(cleared.get("session", "")) or session)
    elif decision.act is Act.ANSWER_PROMPT:
        _answer_prompt(event, recorded)
    elif decision.act is Act.TELL_ONCE:
        _tell_once(event, recorded)
    provisional.settle(event, decision.act)
    return 0


def _warn(event: Event) -> int:
    """Say to the person what may keep a hand-off from coming, or one that did not come."""
    from plandock.hook import mods

    if event.name == "Stop":
        words = missed.at_stop(event)
    else:
        words = mods.at_start(event.cwd, paths.claude_config_dir())
    if words:
        sys.stdout.write(json.dumps({"systemMessage": words}))
        sys.stdout.flush()
    return 0


def _take_back(event: Event, frozen: Mapping[str, str]) -> None:
    """Before any program is started: no variable stays that the repository's settings name."""
    from plandock.hook import conversation_folder
    from plandock.settings.project import take_back

    try:
        folder = conversation_folder.likely(event)
        take_back(os.environ, folder, frozen)
        if conversation_folder.same_tree(event.cwd, folder):
            take_back(os.environ, event.cwd, frozen)
    except Exception as error:
        # The hand-off goes on; the supervisor's own environment is built from an allowlist.
        _log(error)


def _recorded(event: Event) -> Recorded:
    session = event.session_id
    cleared = None
    if event.name == "SessionStart" and event.source == "clear":
        cleared = _clearing_before(event)
    latch = provisional.taken_over(event, marks.get(paths.latch_dir(), session))
    if event.name in ("UserPromptSubmit", "PreToolUse"):
        latch = _latch_of_a_copy(event, latch)
    began, starts_from_plan = transcript.Began.UNKNOWN, False
    if latch is not None and latch.get("kind") == "cleared":
        starts_from_plan = transcript.accepted_plan(event.transcript) is not None
        queue = _carried_over(latch) if event.name == "PreToolUse" else []
        if queue and event.mode == "plan":
            began = _speaker_beside(event, latch, queue)
        if not starts_from_plan and event.name == "UserPromptSubmit":
            # What was queued is submitted before the plan (measured, 2.1.197 and 2.1.332); only
            # what is typed, with no plan before it, tells of a clearing by the user.
            queued = transcript.first_records(event.transcript, b'"enqueue"')
            texts = [event.prompt, *(str(record.get("content")) for record in queued)]
            starts_from_plan = (
                any(_holds_plan(latch, text) for text in texts)
                or _queue_entry(event, latch) is not None
                or event.prompt.startswith(transcript.NOTIFICATION)
            )
    elif latch is not None and event.name == "PreToolUse":
        if event.prompt_id and event.prompt_id == latch.get("prompt_id"):
            began = transcript.Began.BEFORE  # the very turn in which the plan was accepted
        else:
            began = transcript.began(event.transcript, event.prompt_id, since=_latched_at(latch))
    return Recorded(
        latch=latch,
        proposal=marks.get(paths.proposal_dir(), session),
        note=marks.get(paths.note_dir(), session),
        cleared=cleared,
        began=began,
        starts_from_plan=starts_from_plan,
    )


def _clearing_before(event: Event) -> dict[str, object] | None:
    """The proposal whose session was just cleared by this very Claude Code process.

    2.1.197 repeats the `prompt_id`; 2.1.330 does not (measured), there the process tells, and the
    folder of the transcripts.  Not the shell's: it is back in the conversation's own.
    """
    for data in marks.proposals():
        at = data.get("cleared_at")
        same_place = data.get("pid") == caller.pid() and _same_place(data, event)
        # None: the hook of that SessionEnd was killed; one process has one conversation at a time.
        if at is None and same_place:
            return data
        if not isinstance(at, float) or time.time() - at > _CLEARING_S:
            continue
        same_prompt = bool(event.prompt_id) and event.prompt_id == data.get("prompt_id")
        if same_prompt or same_place:
            return data
    return None


def _same_place(data: Mapping[str, object], event: Event) -> bool:
    """Whether a proposal was made where the conversation of this event lives."""
    kept = os.path.dirname(str(data.get("transcript", "")))
    return (
        bool(kept and kept == os.path.dirname(event.transcript))
        or event.cwd == data.get("cwd")
        or bool(event.started and event.started == data.get("started"))
    )


def _latch_of_a_copy(event: Event, latch: dict[str, Any] | None) -> dict[str, Any] | None:
    """The session's latch, where it has none or one in doubt: that of what it is a copy of.

    `/fork`, `/bg` and `--fork-session` go on under a new session's id.  The copy holds the very
    call of ExitPlanMode by which the plan was accepted, but its file comes only after its first
    prompt (measured, 2.1.197 and 2.1.332).  So the first prompt of any new conversation while
    another one is latched leaves a latch in doubt, which the first tool call settles.
    """
    in_doubt = latch is not None and latch.get("kind") == "copy"
    if not in_doubt and (latch is not None or event.name != "UserPromptSubmit"):
        return latch
    session, folder = event.session_id, paths.latch_dir()
    if in_doubt and event.name == "PreToolUse":
        # Waits for the turn's record, and so for the copy.
        since = _latched_at(latch or {})
        if transcript.began(event.transcript, event.prompt_id, since=since) is _PERSON:
            marks.take_away(folder, session)
            return None
    standing = [d for d in marks.each(folder) if d.get("tool_use_id")]
    calls = {str(data["tool_use_id"]): data for data in standing}
    found = transcript.first_named(event.transcript, list(calls))
    # The original itself holds that call, too, when a copy of it is latched still.
    if found and not transcript.person_wrote(event.transcript, since=_latched_at(calls[found])):
        marks.put(folder, session, calls[found])
        return calls[found]
    if event.name == "UserPromptSubmit" and standing and not os.path.exists(event.transcript):
        marks.put(folder, session, {"kind": "copy", "at": max(map(_latched_at, standing))})
    elif in_doubt:
        marks.take_away(folder, session)
    return None


def _on_accept(event: Event) -> frozenset[str]:
    from plandock import git, settings
    from plandock.errors import PlandockError
    from plandock.hook import conversation_folder

    try:
        try:
            repo = git.top_level(conversation_folder.of_event(event))
        except PlandockError:
            repo = None  # in doubt, too: no other repository's word counts
        return frozenset(settings.load(repo=repo).on_accept)
    except Exception as error:
        # Whatever is wrong, an acceptance must not pass; the hand-off itself will say what it is.
        if not isinstance(error, PlandockError):
            _log(error)
        return frozenset(_WAYS)


def _hand_off(event: Event, decision: Decision, recorded: Recorded) -> int:
    """Hand off, and stop the turn whatever comes of it."""
    from plandock.errors import PlandockError

    session, cleared = event.session_id, decision.trigger == "cleared"
    before = recorded.latch or {}
    try:
        # First of all, and durably: further tool calls of the same message come while this one
        # is still being answered, and `continue: false` does not stop them (facts, section 2).
        if before.get("kind") != "handed-off":
            kept = before if cleared else {}  # should this process be killed, the next goes on
            at = before["at"] if before.get("kind") == "handing-off" and "at" in before else None
            begun = {**kept, "kind": "handing-off", "at": at or time.time()}
            marks.put(paths.latch_dir(), session, begun)
        from plandock.hook import added_folders, conversation_folder, handoff, session_setup

        plan = event.plan or _read_plan(event.plan_file)
        messages: Sequence[str] = transcript.waiting(event.transcript)
        if cleared:
            plan, messages = _cleared_plan(event, before)
        if not plan:
            why = "the accepted plan's text was not found"
            if event.plan_is_too_large:
                why = _TOO_LARGE
            raise PlandockError(why, hint="plan once more")
        folder = conversation_folder.of_event(event)
        if "CLAUDE_CONFIG_DIR" in os.environ:  # a relative one is meant from where it was started
            own = os.path.join(event.started or folder, os.environ["CLAUDE_CONFIG_DIR"])
            os.environ["CLAUDE_CONFIG_DIR"] = own
        run, _ = handoff.hand_off(
            plan=plan,
            cwd=folder,
            folders_left_out=added_folders.known(
                event.transcript, folder, shell=event.cwd, pid=caller.pid()
            ),
            session_id=session,
            tool_use_id="cleared" if cleared else event.tool_use_id,
            trigger=decision.trigger,
            mode=event.mode,
            transcript="" if cleared else event.transcript,
            user_messages=messages,
            session_setup=session_setup.at_acceptance(event, before, caller.pid(), folder=folder),
            cli_version=transcript.written_by(event.transcript),
        )
        told: dict[str, Any] = {"kind": "handed-off", "run": run.id, "branch": run.branch}
        words = answers.handed_off(run.id, run.branch, messages=len(run.user_messages))
    except Exception as error:
        _log(error)
        told = _what_is_wrong(error, session)
        words = answers.not_handed_off(told)
    # What a person writes from here on is written after the hand-off.
    told |= {"at": time.time(), "prompt_id": event.prompt_id, "tool_use_id": event.tool_use_id}
    try:
        marks.put(paths.latch_dir(), session, told)
        # What has not been told yet of an earlier run's end goes along.
        with marks.alone(paths.note_dir()):
            unread = (marks.get(paths.note_dir(), session) or {}).get("outcomes")
            more = {"outcomes": unread} if unread else {}
            marks.put(paths.note_dir(), session, {**told, **more})
        marks.take_away(paths.proposal_dir(), session)
    except OSError as error:
        _log(error)  # the turn stops all the same, and the latch from before stands
    if cleared:
        sys.stderr.write(answers.refusal(told) + "\n")
        return 2
    return _stop(words)


def _stop(words: str) -> int:
    """Answer an acceptance: the turn ends, the user reads the words."""
    sys.stdout.write(json.dumps({"continue": False, "stopReason": words}))
    sys.stdout.flush()
    return 0


def _cleared_plan(event: Event, before: Mapping[str, object]) -> tuple[str, Sequence[str]]:
    """The plan of a cleared conversation as it was accepted, and what the user said beside it.

    Where its own file does not tell, the plan's file does: it holds what was edited in the editor.
    """
    over = transcript.bounded(q.text for q in _carried_over(before) if q.by_person)
    said = list(dict.fromkeys([*over, *_said(before)])) if over else _said(before)
    found = transcript.accepted_plan(event.transcript, patience_s=transcript.PATIENCE_S)
    if found is not None:
        return found.plan, [*found.messages, *(x for x in said if x not in found.messages)]
    return _read_plan(str(before.get("plan_file", ""))) or str(before.get("plan", "")), said


def _speaker_beside(
    event: Event, latch: Mapping[str, object], queue: Sequence[transcript.Queued]
) -> transcript.Began:
    """Who began a turn in plan mode after a clearing that a queue has outlived.

    The turns of the queue come first, and are in plan mode still (measured, 2.1.197); a command's
    record does not tell that it was queued.
    """
    at = latch.get("cleared_at")
    if isinstance(at, float) and not any(q.text.startswith("/") for q in queue):
        found = transcript.began(event.transcript, event.prompt_id, since=at)
        if found is _PERSON:
            return found
    return transcript.Began.BEFORE


def _carried_over(latch: Mapping[str, object]) -> list[transcript.Queued]:
    """What was in the queue when the conversation before this one was cleared."""
    at = latch.get("proposed_at")
    since = at if isinstance(at, float) else float("inf")
    return transcript.carried_over(str(latch.get("transcript") or ""), since)


def _said(latch: Mapping[str, object]) -> list[str]:
    """What the user wrote in a cleared conversation, as its latch has kept it."""
    kept = latch.get("messages")
    return transcript.bounded(str(x) for x in kept) if isinstance(kept, list) else []


def _what_is_wrong(error: Exception, session: str) -> dict[str, Any]:
    """The mark of a hand-off that could not be: why, and what to type next."""
    from plandock.errors import PlandockError
    from plandock.printable import one_line

    if isinstance(error, PlandockError):
        why, hint = one_line(error.message), one_line(error.hint)
    elif isinstance(error, OSError):
        why = one_line(f"{error.strerror or error}: {error.filename or paths.state_dir()}")
        hint = "make room or set the rights right"
    else:
        why = one_line(f"a bug in plandock ({type(error).__name__}: {error})")
        hint = one_line(f"see {paths.state_dir() / 'hook.log'}")
    hint = hint or "plandock doctor"
    hint += f"; then: plandock run --session {session}"
    return {"kind": "refused", "why": why, "hint": hint}


def _read_plan(path: str) -> str:
    if not path:
        return ""
    try:
        # Not to be kept waiting by a FIFO that somebody laid there.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        with os.fdopen(handle, "rb") as file:
            raw = file.read(payload.LARGEST_PLAN + 1) or b""
    except OSError:
        return ""
    if len(raw) > payload.LARGEST_PLAN:
        from plandock.errors import PlandockError

        raise PlandockError(_TOO_LARGE, hint="plan once more, in parts")
    return payload.clean_plan(raw.decode("utf-8", "replace"))


_TOO_LARGE = "the plan is longer than 1 MiB"
_CUT_OFF = {"kind": "refused", "why": "plandock was ended in the middle of the hand-off"}


def _forget_cleared_away(latch: Mapping[str, object]) -> None:
    """Take the latch off the conversation that this one was cleared from: it has gone on."""
    before = str(latch.get("session") or "")
    if before and (marks.get(paths.latch_dir(), before) or {}).get("kind") == CLEARED_AWAY:
        marks.take_away(paths.latch_dir(), before)


def _latched_at(latch: Mapping[str, object]) -> float:
    """When the hand-off was made, Unix seconds; 0 in a mark of an older plandock."""
    at = latch.get("at")
    return at if isinstance(at, float) else 0.0


def _answer_prompt(event: Event, recorded: Recorded) -> None:
    """A prompt while a latch stands: whoever submitted it, the latch goes on standing.

    Who it was is positively known only once the turn has its record (:mod:`.transcript`); until
    then the queue tells what the model is to hear.
    """
    latch = recorded.latch or {}
    entry = _queue_entry(event, latch)
    if latch.get("kind") == "cleared":
        by_program = event.prompt.startswith(transcript.NOTIFICATION) or (
            entry is not None and not entry.by_person
        )
        if not by_program and not _holds_plan(latch, event.prompt):
            # Its record may come only after the call that hands off.
            said = [*_said(latch), event.prompt.strip()]
            marks.put(paths.latch_dir(), event.session_id, {**latch, "messages": said})
        _tell_model(answers.STARTS_FROM_PLAN)
        return
    if entry is None and not event.prompt.startswith(transcript.NOTIFICATION):
        _tell_once(event, recorded)  # typed, as it seems
    elif entry is None or not entry.by_person:
        _tell_model(answers.not_a_person(latch))
    elif entry.at > _latched_at(latch):
        _tell_once(event, recorded)  # typed while a turn went on here, or Claude Code's own words
    else:
        _tell_model(answers.queued_before(latch, passed_on=_pass_on(latch, entry.text)))


def _queue_entry(event: Event, latch: Mapping[str, object]) -> transcript.Queued | None:
    """The entry of the queue that was submitted as this prompt; a queue outlives a clearing."""
    files = [str(latch.get("transcript") or "")] if latch.get("kind") == "cleared" else []
    found = (transcript.queued_as(file, event.prompt) for file in [*files, event.transcript])
    return next((entry for entry in found if entry is not None), None)


def _holds_plan(latch: Mapping[str, object], text: str) -> bool:
    """Whether a prompt holds the plan: Claude Code's own, where others were queued before it."""
    plan = _read_plan(str(latch.get("plan_file", ""))) or str(latch.get("plan", ""))
    return bool(plan.strip()) and plan.strip() in text


def _is_queued(event: Event, proposal: Mapping[str, object]) -> bool:
    """Whether a prompt waits, or waited, while a plan is before its user, who may yet accept it.

    2.1.332 tells of it as it is queued, in the turn of the proposal; 2.1.197 as it is submitted.
    """
    same_turn = bool(event.prompt_id) and event.prompt_id == proposal.get("proposed_in")
    return same_turn or transcript.queued_as(event.transcript, event.prompt) is not None


def _pass_on(latch: Mapping[str, object], text: str) -> bool:
    """Hand a prompt that was queued before the hand-off to its run; whether it gets there."""
    from plandock.runs.store import Store

    if not latch.get("run"):
        return False
    if _holds_plan({"plan_file": str(paths.run_dir(str(latch["run"])) / "plan.md")}, text):
        return True  # it has it
    try:
        with Store() as store:
            return store.add_user_message(str(latch["run"]), text)
    except Exception as error:  # the prompt goes through, whatever the store is like
        _log(error)
        return False


def _tell_model(text: str) -> None:
    """Answer a UserPromptSubmit with words for the model."""
    answer = {"hookEventName": "UserPromptSubmit", "additionalContext": text}
    sys.stdout.write(json.dumps({"hookSpecificOutput": answer}))
    sys.stdout.flush()


def _tell_once(event: Event, recorded: Recorded) -> None:
    """Tell the model, once, what became of the plan, and forget a proposal.

    A latch stays: the turn's first tool call takes it away, where a person began the turn.
    """
    from plandock.errors import PlandockError

    session = event.session_id
    # Taken, then the store is looked at: whoever ends a run after this leaves a note of its own.
    with marks.alone(paths.note_dir()):
        note = marks.take(paths.note_dir(), session) or {}
    ended = note.get("outcomes")
    texts: list[str] = []
    state = outcome = ""
    latch = recorded.latch or {}
    # A hook was killed on its way: a run may be there all the same, without a note.
    cut_off = latch.get("kind") == "handing-off"
    if note.get("run") or ended or cut_off:
        from plandock.runs.model import utc_time
        from plandock.runs.outcome import in_words, news_key
        from plandock.runs.store import Store

        try:
            with Store() as store:
                for name in ended if isinstance(ended, list) else []:
                    with contextlib.suppress(PlandockError):  # dropped meanwhile
                        texts.append(in_words(store.get(str(name))))
                name = note.get("run")
                run = store.get(str(name)) if name else None
                if run is None and cut_off:
                    run = store.latest_of_session(session)
                    if run is None or run.created_at < utc_time(_latched_at(latch)):
                        run, note = None, note | _CUT_OFF
                        note["hint"] = f"plandock run --session {session}"
                if run is not None:
                    note |= {"run": run.id, "branch": run.branch}
                    state = str(run.state)
                    if run.state.final and store.tell_once(run.id, news_key(run)):
                        outcome = in_words(run)
        except Exception as error:  # the user's prompt goes through, whatever the store is like
            _log(error)
    texts.append(answers.standing(note, state))
    with contextlib.suppress(OSError):
        if not _is_queued(event, recorded.proposal or {}):
            marks.take_away(paths.proposal_dir(), session)
        if cut_off and "cleared_at" not in latch:
            kind = "handed-off" if note.get("run") else "refused"
            marks.put(paths.latch_dir(), session, {**note, "kind": kind, "at": latch.get("at")})
    if text := "\n".join([*texts, outcome]).strip():
        _tell_model(text)


def _log(error: BaseException) -> None:
    """One entry in hook.log; a full disk or the like must not make things worse."""
    import traceback

    try:
        paths.make_private(paths.state_dir())
        handle = os.open(
            paths.state_dir() / "hook.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600
        )
        with os.fdopen(handle, "a", errors="backslashreplace") as file:
            stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            file.write(stamp + " " + "".join(traceback.format_exception(error)))
    except OSError:
        pass


if __name__ == "__main__":
    sys.exit(main())
