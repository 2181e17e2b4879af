"""Which version of Claude Code goes into a run's box: the one that wrote the conversation.

The program on the host may be another by now, or gone: it updates itself, also in the middle of a
conversation.  A later version reads what an earlier one wrote, not the other way round.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from plandock.claude import binary
from plandock.errors import EngineError, PlandockError, SettingsError
from plandock.printable import one_line
from plandock.runs.model import Run


def candidates(run: Run) -> list[str]:
    """The versions to try, best first: what wrote the conversation, then the nearest later ones.

    Raises :class:`PlandockError` where neither the conversation nor the host's program tells.
    """
    wrote = run.cli_version
    if not wrote:
        return [binary.version_of(Path(run.claude))]
    try:
        here = binary.version_of(Path(run.claude))
    except PlandockError:
        here = ""
    if wrote == here:
        return [wrote]
    supported = {x for x in (here, *binary.TESTED) if x and not binary.older(x)}
    later = sorted((x for x in supported if binary.comes_after(x, wrote)), key=binary.order)
    return later if binary.older(wrote) else [wrote, *later]


def choose(run: Run, image_of: Callable[[str], str]) -> tuple[str, str, list[str]]:
    """The version for the run's box, its image, and notes on why it is not the nearest one.

    ``image_of`` makes sure of a version's image.  A run whose volumes are laid out keeps its
    version.  Raises what ``image_of`` says of the first, where none can be had.
    """
    if run.staged:
        return run.cli_version, image_of(run.cli_version), []
    first, *later = candidates(run)
    try:
        return first, image_of(first), []
    except (EngineError, SettingsError):
        raise
    except PlandockError as error:
        missing = error
    for version in later:
        try:
            image = image_of(version)
        except (EngineError, SettingsError):
            raise
        except PlandockError:
            continue
        why = one_line(missing.message, limit=200)
        note = f"the conversation was written by Claude Code {first}, the box has {version}: {why}"
        return version, image, [note]
    raise missing
