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
from collections.abc import Mapping

if not __package__:  # run as a script without site: plandock lies two folders up
    sys.path[:] = [p for p in sys.path if not p.endswith("/plandock/hook")]
    sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from plandock import paths
from plandock.hook import payload
from plandock.hook.decide import Act, Decision, Recorded, decide
from plandock.hook.payload import Event
from plandock.runs import marks

_WAYS = ("acceptEdits", "auto", "bypassPermissions")
# A latch of these kinds may become a hand-off by the next call.
_UNDECIDED = ("cleared", "handing-off")
# A SessionStart belongs to a clearing at most this long before it (seconds).
_CLEARING_S = 120.0
# Only a box's image has it.  Not a variable: a repository's settings could set that on the host.
_BOX_FILE = "/opt/plandock/steward.py"


def main() -> int:
    """Read the payload from standard input, act, answer; returns the exit code."""
    try:
        frozen = _frozen_words(sys.argv[1:])
        if "XDG_STATE_HOME" in frozen:
            # Where marks and runs are is told by the launcher, never by a repository's settings.
            os.environ["XDG_STATE_HOME"] = frozen["XDG_STATE_HOME"]
        raw = sys.stdin.buffer.read(payload.LARGEST_PAYLOAD + 1)
        event = payload.parse(raw)
        if event is None or in_box():
            return 0
        return _act(event, frozen)
    except Exception as error:
        # An exception is no reason to hold up a tool call that has nothing to do with us; where
        # an acceptance was at stake, `_hand_off` has answered already.
        _log(error)
        return 0


def in_box() -> bool:
    """Whether this is a plandock box, where the hook must do nothing."""
    return os.path.exists(_BOX_FILE)


def _frozen_words(words: list[str]) -> dict[str, str]:
    """What the launcher says that the user's own environment was: ``NAME=value`` words."""
    return {n: v for n, is_pair, v in (w.partition("=") for w in words) if is_pair and v}


def _act(event: Event, frozen: Mapping[str, str] | None = None) -> int:
    # Claude Code's mark, whatever version this is: here its project's variables were laid over.
    os.environ.setdefault("CLAUDE_PROJECT_DIR", event.cwd)
    recorded = _recorded(event)
    if event.name == "PostToolUse" or (recorded.latch or {}).get("kind") in _UNDECIDED:
        _take_back(event, frozen or {})
    # The user's wish matters only where an acceptance may be at hand; the settings are read then.
    asked = event.name == "PostToolUse" or (recorded.latch or {}).get("kind") == "cleared"
    modes = _on_accept(event) if asked else frozenset(_WAYS)
    decision = decide(event, recorded, on_accept=modes)
    session = event.session_id
    if decision.act is Act.HAND_OFF:
        return _hand_off(event, decision, recorded)
    if decision.act is Act.REFUSE:
        sys.stderr.write(_refusal(recorded.latch or {}) + "\n")
        return 2
    if decision.act is Act.REMEMBER_PROPOSAL:
        data = {"session": session, "cwd": event.cwd, "plan": event.plan, "at": str(time.time())}
        data |= {"plan_file": event.plan_file, "transcript": event.transcript}
        marks.put(paths.proposal_dir(), session, data)
    elif decision.act is Act.FORGET_PROPOSAL:
        marks.take_away(paths.proposal_dir(), session)
    elif decision.act is Act.MARK_CLEARED:
        extra = {"cleared_at": time.time(), "prompt_id": event.prompt_id, "pid": _cli_pid()}
        marks.put(paths.proposal_dir(), session, {**(recorded.proposal or {}), **extra})
    elif decision.act is Act.WATCH_CLEARED:
        cleared = dict(recorded.cleared or {})
        marks.put(paths.latch_dir(), session, {**cleared, "kind": "cleared"})
        marks.take_away(paths.proposal_dir(), str(cleared.get("session", "")) or session)
    elif decision.act is Act.UNLATCH:
        marks.take_away(paths.latch_dir(), session)
    elif decision.act is Act.LIFT:
        _lift(event, recorded)
    return 0


def _take_back(event: Event, frozen: Mapping[str, str]) -> None:
    """Before any program is started: no variable stays that the repository's settings name."""
    from plandock.settings.project import take_back

    try:
        take_back(os.environ, event.cwd, frozen)
    except Exception as error:
        # The hand-off goes on; the supervisor's own environment is built from an allowlist.
        _log(error)


def _recorded(event: Event) -> Recorded:
    session = event.session_id
    cleared = None
    if event.name == "SessionStart" and event.source == "clear":
        cleared = _clearing_before(event)
    return Recorded(
        latch=marks.get(paths.latch_dir(), session),
        proposal=marks.get(paths.proposal_dir(), session),
        note=marks.get(paths.note_dir(), session),
        cleared=cleared,
    )


def _clearing_before(event: Event) -> dict[str, object] | None:
    """The proposal whose session was just cleared by this very Claude Code process.

    2.1.197 repeats the `prompt_id`; 2.1.330 does not (measured), there the process tells.
    """
    for data in marks.proposals():
        at = data.get("cleared_at")
        if not isinstance(at, float) or time.time() - at > _CLEARING_S:
            continue
        same_prompt = bool(event.prompt_id) and event.prompt_id == data.get("prompt_id")
        if same_prompt or (data.get("pid") == _cli_pid() and data.get("cwd") == event.cwd):
            return data
    return None


def _cli_pid() -> int:
    named = os.environ.get("CLAUDE_PID", "")
    plain = named.isascii() and named.isdecimal() and len(named) < 12
    return int(named) if plain else os.getppid()


def _on_accept(event: Event) -> frozenset[str]:
    from plandock import git, settings
    from plandock.errors import PlandockError

    try:
        try:
            repo = git.top_level(event.cwd)
        except PlandockError:
            repo = None
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
        from plandock.hook import handoff

        plan = event.plan or _read_plan(event.plan_file)
        if cleared:
            plan = handoff.plan_in_transcript(event.transcript) or str(before.get("plan", ""))
            plan = plan or _read_plan(str(before.get("plan_file", "")))
        if not plan:
            raise PlandockError("the accepted plan's text was not found", hint="plan once more")
        run, _ = handoff.hand_off(
            plan=plan,
            cwd=event.cwd,
            session_id=session,
            tool_use_id="cleared" if cleared else event.tool_use_id,
            trigger=decision.trigger,
            mode=event.mode,
            transcript="" if cleared else event.transcript,
        )
        told = {"kind": "handed-off", "run": run.id, "branch": run.branch}
        words = (
            f"handed off as {run.id} → branch {run.branch}\n"
            f"Carried out in a sealed container; nothing more runs on this machine.\n"
            f"Follow it: plandock logs {run.id} -f    Wait for it: plandock wait {run.id}"
        )
    except Exception as error:
        _log(error)
        told = _what_is_wrong(error, session)
        words = f"plandock could not hand the plan off: {told['why']}\nNext: {told['hint']}"
        words += "\nNothing was started, here or in a container."
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
        sys.stderr.write(_refusal(told) + "\n")
        return 2
    sys.stdout.write(json.dumps({"continue": False, "stopReason": words}))
    sys.stdout.flush()
    return 0


def _what_is_wrong(error: Exception, session: str) -> dict[str, str]:
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


def _refusal(data: Mapping[str, object]) -> str:
    run, branch = data.get("run"), data.get("branch")
    if run:
        return (
            f"This plan was handed off as {run} and is carried out in a sealed container (branch "
            f"{branch}). No tool may run here. Say so to the user in one sentence and stop; they "
            f"can follow it with: plandock logs {run} -f"
        )
    if data.get("kind") == "refused":
        return (
            f"plandock could not hand this plan off: {data.get('why')}. Next step for the user: "
            f"{data.get('hint')}. No tool may run here. Tell the user this and stop."
        )
    return "This plan is being handed off to a sealed container. Say so and stop."


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
        return ""
    return payload.clean_plan(raw.decode("utf-8", "replace"))


_CUT_OFF = {"kind": "refused", "why": "plandock was ended in the middle of the hand-off"}


def _begun_at(latch: Mapping[str, object]) -> float:
    at = latch.get("at")
    return at if isinstance(at, float) else 0.0


def _lift(event: Event, recorded: Recorded) -> None:
    """The user speaks again: tools are allowed, and the model is told once what goes on."""
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
                    if run is None or run.created_at < utc_time(_begun_at(latch)):
                        run, note = None, note | _CUT_OFF
                        note["hint"] = f"plandock run --session {session}"
                if run is not None:
                    note |= {"run": run.id, "branch": run.branch}
                    state = str(run.state)
                    if run.state.final and store.tell_once(run.id, news_key(run)):
                        outcome = in_words(run)
        except Exception as error:  # the user's prompt goes through, whatever the store is like
            _log(error)
    if note.get("run"):
        texts.append(
            f"plandock: the plan that the user accepted in this conversation was handed off as "
            f"run {note['run']} (state: {state or 'unknown'}). It is carried out in a sealed "
            f"container and arrives on the local branch {note.get('branch')}. Do not carry it out "
            f"here and do not start it again, unless the user asks for that in so many words. The "
            f"user can follow it with `plandock logs {note['run']} -f`."
        )
    elif note.get("kind") == "refused":
        texts.append(
            f"plandock: the plan accepted in this conversation was NOT handed off "
            f"({note.get('why')}), and nothing of it was carried out."
        )
        if note.get("hint"):
            texts[-1] += f" Next step for the user: {note['hint']}"
    for folder in (paths.latch_dir(), paths.proposal_dir()):
        with contextlib.suppress(OSError):
            marks.take_away(folder, session)
    text = "\n".join([*texts, outcome]).strip()
    if text:
        answer = {"hookEventName": "UserPromptSubmit", "additionalContext": text}
        sys.stdout.write(json.dumps({"hookSpecificOutput": answer}))
        sys.stdout.flush()


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
