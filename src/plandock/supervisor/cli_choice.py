"""Which version of Claude Code goes into a run's box: the one that wrote the conversation.

The program on the host may be another by now, or gone: it updates itself, also in the middle of a
conversation.  A later version reads what an earlier one wrote, not the other way round: where only
an earlier one can be had, the run begins from the plan.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from plandock.claude import binary
from plandock.claude.package import NoSuchVersion
from plandock.errors import EngineError, PlandockError, SettingsError
from plandock.printable import one_line
from plandock.runs.model import Run


class Choice(NamedTuple):
    """The version for a run's box and its image, and what follows from it for the run."""

    version: str
    image: str
    notes: list[str]  # why it is not the nearest one
    fresh: bool  # begun from the plan, with no conversation to go on from


def candidates(run: Run) -> list[str]:
    """The versions to try, best first: what wrote the conversation, then the nearest later ones.

    Where neither the conversation nor the host's program tells, the newest that was tested.
    """
    wrote, here = run.cli_version, _on_the_host(run)
    if not wrote:
        return [here or binary.TESTED[1]]
    if wrote == here:
        return [wrote]
    supported = {x for x in (here, *binary.TESTED) if x and not binary.older(x)}
    later = sorted((x for x in supported if binary.comes_after(x, wrote)), key=binary.order)
    return later if binary.older(wrote) else [wrote, *later]


def choose(run: Run, image_of: Callable[[str], str]) -> Choice:
    """The version for the run's box.

    ``image_of`` makes sure of a version's image.  A run whose volumes are laid out keeps its
    version.  Raises what ``image_of`` says of the first, where none can be had.
    """
    if run.staged:
        return Choice(run.cli_version, image_of(run.cli_version), [], run.fresh)
    first, *later = candidates(run)
    try:
        return Choice(first, image_of(first), _untold(run, first), run.fresh)
    except (EngineError, SettingsError):
        raise
    except PlandockError as error:
        missing = error
    earlier = []
    if isinstance(missing, NoSuchVersion):
        known = dict.fromkeys(x for x in (_on_the_host(run), binary.TESTED[1]) if x)
        earlier = [x for x in known if binary.comes_after(first, x)]
    for version in (*later, *earlier):
        try:
            image = image_of(version)
        except (EngineError, SettingsError):
            raise
        except PlandockError:
            continue
        why = one_line(missing.message, limit=200)
        note = f"the conversation was written by Claude Code {first}, the box has {version}: {why}"
        if version in earlier:
            note += "; an earlier version may not read it: begun from the plan"
        return Choice(version, image, [note], run.fresh or version in earlier)
    raise missing


def _on_the_host(run: Run) -> str:
    """The version of the host's program, or "" where it is gone or does not say."""
    try:
        return binary.version_of(Path(run.claude))
    except PlandockError:
        return ""


def _untold(run: Run, version: str) -> list[str]:
    if run.cli_version or _on_the_host(run):
        return []
    return [f"nothing tells which Claude Code the plan was made with: the box has {version}"]
