"""From an ended agent to the user's repository: branch, conversation, receipt, and an end."""

from __future__ import annotations

import contextlib
import errno
import json
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from plandock import git, paths, proc
from plandock.box import launch
from plandock.claude import conversation
from plandock.claude.redact import redact_tokens
from plandock.engines import detect
from plandock.engines.protocol import BrokenOff, Engine, EngineDown
from plandock.errors import EngineError, HarvestRefused, PlandockError, RunUnsuccessful
from plandock.printable import one_line
from plandock.runs.model import Run, State, utc_now
from plandock.runs.store import Store
from plandock.supervisor.steps import begin
from plandock.supervisor.verdict import failed
from plandock.workspace import harvest as harvesting

NOTHING_DONE = "nothing was carried out: the agent ended without a change to commit"
NO_BRANCH = "no branch was made, as nothing was committed where the agent ended; but"
_BESIDE = "what is on other branches of the box is kept at"
_MOST_NAMED = 10
MOST_BYTES = 512 << 20
# The container ends itself after the first; the second is for one that has been stopped in its
# tracks, as a program of the agent's could try.
LONGEST_S = 1800
_GRACE_S = 60.0
# Of inside/harvest.py: the workspace is such that no other try would do better.
_REFUSED = 3
# How often a harvest that its engine broke off is tried again.
MOST_TRIES = 3
# The exit code where not the container failed, but what was to start it (Docker and Podman).
_ENGINES_OWN = 125
# As engines, git and the kernel put it.
_FULL = ("no space left on device", "disk quota exceeded", "database or disk is full")


class HarvestBroke(EngineError):
    """The container of the harvest failed; ``full`` says that its disk is full, which the box's
    own words, as they may stand in the message, do not."""

    def __init__(self, message: str, *, hint: str, full: bool) -> None:
        super().__init__(message, hint=hint)
        self.full = full


class WorkGone(RunUnsuccessful):
    """There is nothing to harvest any more."""


def is_full(words: str) -> bool:
    """Whether these words, which nobody in a box has chosen, speak of a full disk."""
    return any(x in words.lower() for x in _FULL)


def harvest(store: Store, run: Run) -> None:
    """Bring everything home; ends with the run in a final state.

    Each part may have been done before, by a supervisor that was killed: done again it is the
    same.  The last thing is the move to the end that was decided upon.
    """
    engine = detect.choose(run.engine)
    launch.remove_helpers(engine, run)
    # The clean-up takes the volumes away: begun once, there is nothing to bring home any more.
    if run.step != "clean-up":
        run = _bring_home(store, engine, run)
    kept = _is_kept(run.notes)
    ending = dict(run.ending) or failed("agent", "the run was ended", 10, "")
    ending["hint"] = str(ending.get("hint", "")).replace("{run}", run.id)
    target = State(ending.pop("target"))
    if target is State.DONE and not run.commits:
        ending |= _of_nothing(run)
    begin(store, run, "clean-up")
    launch.remove_containers(engine, run)
    if not kept:
        launch.remove_volumes(engine, run)
    store.move(
        run.id,
        State.HARVESTING,
        target,
        ended_at=utc_now(),
        staged=kept,
        waiting_until="",
        **ending,
    )


def _bring_home(store: Store, engine: Engine, run: Run) -> Run:
    """Work and conversation, out of the volumes; returns the run with what came recorded."""
    git.check_there(run.git_place)
    begin(store, run, "bundle")
    try:
        taken = take_work(store, engine, run)
    except HarvestRefused as error:
        raise _with_place(store, run, error) from error
    begin(store, run, "conversation")
    home = _bring_conversation_home(engine, run)
    # What an earlier harvest left behind was in the volume that this one has read.
    notes = [*(x for x in run.notes if not _is_kept([x])), *taken.notes]
    notes += [_beside(run, taken.others)] if taken.others else []
    # Something did not come along: the volume is then its only copy, until `drop`.
    if _is_kept(taken.notes):
        notes.append(f"what was left behind is in the volume {launch.names_of(run).work}")
    return store.change(
        run.id,
        head=taken.head,
        branch=taken.branch,  # "" where nothing was committed: then there is none
        commits=taken.commits,
        flagged_files=list(taken.flagged),
        notes=list(dict.fromkeys(notes)),
        box_session_id=run.box_session_id if home else "",
    )


def _beside(run: Run, others: Mapping[str, str]) -> str:
    """The note of what the agent committed where HEAD did not end."""
    names = [f"refs/plandock/runs/{run.id}/others/{x}" for x in sorted(others)]
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return f"{_BESIDE} {' '.join(names[:_MOST_NAMED])}{more}"


def _of_nothing(run: Run) -> dict[str, str]:
    """Message and hint of a run that is over without a commit on its branch."""
    hint = f"plandock logs {run.id}"
    if beside := next((x for x in run.notes if x.startswith(_BESIDE)), ""):
        first = beside.removeprefix(_BESIDE).split()[0]
        return {"message": f"{NO_BRANCH} {beside}", "hint": f"git log {first}"}
    if left := next((x for x in run.notes if _is_kept([x])), ""):
        return {"message": f"{NO_BRANCH} {left}", "hint": hint}
    return {"message": NOTHING_DONE, "hint": hint}


def _is_kept(notes: Sequence[str]) -> bool:
    return any("left behind" in note for note in notes)


def take_work(store: Store, engine: Engine, run: Run) -> harvesting.Harvested:
    """The box's commits, through the quarantine, onto the run's branch.

    Raises :class:`WorkGone` where the volume was removed and nothing had come out of it before.
    """
    bundle = paths.run_dir(run.id) / "work.bundle"
    if launch.names_of(run).work in engine.volume_names(f"plandock.run={run.id}"):
        header = fetch_bundle(engine, run)
    else:
        # Not asked for all the same: the engine would make an empty one.
        run = store.change(run.id, staged=False)
        came = harvesting.received(bundle) if bundle.is_file() else None
        if came is None:
            launch.remove_containers(engine, run)
            launch.remove_volumes(engine, run)
            raise WorkGone(
                f"somebody removed the volume {launch.names_of(run).work}, and the work in it",
                hint=f"plandock resume {run.id} begins again",
            )
        header = came
        header.notes.append("its volume was removed; this is what had come out of it before")
    with tempfile.TemporaryDirectory(dir=paths.run_dir(run.id), prefix="quarantine-") as room:
        return harvesting.import_bundle(
            Path(run.git_place),
            bundle,
            header,
            run_id=run.id,
            snapshot=run.snapshot,
            branch=run.branch,
            quarantine_dir=Path(room),
            # Never the snapshot: a branch of the user's may stand there.
            grown_from=run.tip if run.tip != run.snapshot else "",
            others=store.other_branches(run),
        )


def fetch_bundle(engine: Engine, run: Run) -> harvesting.Header:
    """Bring the box's commits, with what was not committed, into the run's `work.bundle`.

    Raises :class:`HarvestRefused` for what came, :class:`EngineError` where that failed.
    """
    name, mail = git.identity(Path(run.git_place))
    bundle = paths.run_dir(run.id) / "work.bundle"
    order = {
        "workspace": run.repo,
        "snapshot": run.snapshot,
        "branch": run.branch,
        "name": name,
        "email": mail,
        "message": f"plandock: what {run.id} had not committed",
        "max_bytes": MOST_BYTES,
        "seconds": LONGEST_S,
    }
    spec = launch.reader_spec(
        run, run.image, "harvest", ("python3", "-I", "/opt/plandock/harvest.py")
    )
    with tempfile.TemporaryFile() as errors:
        child = engine.open_run(spec, stderr=errors)
        assert child.stdin is not None
        assert child.stdout is not None
        slow = threading.Event()
        watch = threading.Timer(LONGEST_S + _GRACE_S, _break_off, (engine, spec.name, child, slow))
        watch.daemon = True
        watch.start()
        refusal: HarvestRefused | None = None
        try:
            child.stdin.write(json.dumps(order).encode() + b"\n")
            child.stdin.close()
            header = harvesting.receive(child.stdout, bundle, max_bytes=MOST_BYTES)
        except HarvestRefused as error:
            refusal = error
        except BrokenPipeError as error:
            refusal = HarvestRefused(f"the harvest broke off: {error.strerror}")
        finally:
            watch.cancel()
            child.stdout.close()
            code = proc.end(child, grace_s=10.0)
        if code and code != _REFUSED and not slow.is_set():
            # Not what came out, but the container or its engine: that can be tried again.
            engine.ping()
            errors.seek(0)
            said = errors.read(2000).decode("utf-8", "replace").strip()
            full = code == errno.ENOSPC or (code == _ENGINES_OWN and is_full(said))
            said = said or (refusal.reasons[0] if refusal else f"exit code {code}")
            raise HarvestBroke(
                f"the harvest failed in its container: {one_line(said)}",
                hint=f"plandock resume {run.id}; the work is in the volume"
                f" {launch.names_of(run).work}",
                full=full,
            )
        if refusal is not None:
            raise refusal
    return header


def _with_place(store: Store, run: Run, error: HarvestRefused) -> HarvestRefused:
    """The refusal with where the work is kept; its reasons are recorded for `show`."""
    names = launch.names_of(run)
    reasons = [f"refused: {x}" for x in error.reasons[:50]]
    store.change(run.id, notes=list(dict.fromkeys([*run.notes, *reasons])))
    bundle = paths.run_dir(run.id) / "work.bundle"
    kept_at = f"{bundle} and the volume {names.work}" if bundle.exists() else names.work
    return HarvestRefused(
        error.message,
        hint=f"nothing was imported; the work is kept in {kept_at}; look at it in a container:"
        f" {run.engine or 'docker'} run --rm -it --network none"
        f" -v {names.work}:/work -w /work --entrypoint bash {run.image}",
        reasons=error.reasons,
    )


def _break_off(engine: Engine, container: str, child: proc.Child, slow: threading.Event) -> None:
    """End a harvest's container that neither answers nor ends, so that its reader goes on."""
    slow.set()
    with contextlib.suppress(PlandockError):
        engine.kill(container)
    child.kill()


def _bring_conversation_home(engine: Engine, run: Run) -> Path | None:
    """The box's conversation into the user's own folder; its going missing is no failure.

    An engine that is away, and a full disk, are none of the conversation's: they are raised, and
    the harvest is done again when they are over.
    """
    if not run.attempt:
        return None
    try:
        content = redact_tokens(_read_conversation(engine, run))
        if not content:
            return None
        (paths.run_dir(run.id) / "conversation.jsonl").write_bytes(content)
        return conversation.bring_home(
            content,
            session_id=run.box_session_id,
            cwd=run.cwd,
            config_dir=Path(run.config_dir),
        )
    except (EngineDown, BrokenOff):
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
    except PlandockError:
        pass
    return None


def _read_conversation(engine: Engine, run: Run) -> bytes:
    """What the box's conversation holds; b"" where there is none."""
    key = paths.project_key(run.cwd)
    place = f"{launch.CONVERSATION}/projects/{key}/{run.box_session_id}.jsonl"
    spec = launch.reader_spec(run, run.image, "conversation", ("cat", "--", place))
    done = engine.run(spec, check=False)
    if done.ok or done.returncode == 1 or run.strikes >= MOST_TRIES:
        return done.stdout if done.ok else b""
    # Not `cat`, which ends with 1 where there is no such file.
    engine.ping()
    raise BrokenOff(f"the conversation could not be read: {done.complaint}")
