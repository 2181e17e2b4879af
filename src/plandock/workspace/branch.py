"""The name of the branch that a run's work arrives on.

Pure and small, standard library only (``re``): the hook calls this on its way to an answer, so
no git is asked; the rules of ``git check-ref-format`` stand here instead.
"""

from __future__ import annotations

import re

from plandock.errors import SettingsError

# A loose ref is a file and its lock has five characters more; file systems stop at 255 bytes.
_LONGEST_PART = 240
_LONGEST_NAME = 400
_HOLDER = re.compile(r"\{([^{}]*)\}")
_FORBIDDEN = re.compile(r"[\x00-\x20\x7f~^:?*\[\\\ud800-\udfff]")
# Joined to the letter before it in decomposed text; left in, it would become a dash.
_COMBINING = re.compile("[\u0300-\u036f]")


def invalid_because(name: str) -> str:
    """Why git would refuse ``name`` as a branch (git-check-ref-format(1)); "" when it is valid."""
    if not name or name == "@":
        return "it is empty" if not name else "'@' alone stands for HEAD"
    if name.startswith("-") or name.upper() == "HEAD":
        return "it would read as an option" if name.startswith("-") else "HEAD is taken by git"
    if found := _FORBIDDEN.search(name):
        return f"{found.group()!r} may not stand in it"
    if ".." in name or "@{" in name:
        return "'..' and '@{' have a meaning of their own"
    if name.endswith("."):
        return "it ends with a dot"
    if len(name.encode()) > _LONGEST_NAME:
        return "it is too long"
    for part in name.split("/"):
        if not part:
            return "it has an empty part"
        if part.startswith("."):
            return "a part begins with a dot"
        if part.lower().endswith(".lock"):
            return "a part ends with '.lock'"
        if len(part.encode()) > _LONGEST_PART:
            return "a part is too long"
    return ""


def slug(title: str) -> str:
    """A title as a part of a branch name: lower case, words joined by dashes, 40 characters."""
    plain = _COMBINING.sub("", title.lower())
    words = re.sub(r"[\W_]+", "-", plain).strip("-")
    if len(words) > 40:
        # Cut at a word where that leaves something to read.
        cut = words[:41].rpartition("-")[0]
        words = cut if len(cut) >= 15 else words[:40]
    return words.strip("-") or "plan"


def name_branch(template: str, *, run_id: str, slug: str, taken: set[str]) -> str:
    """The branch for a run: ``template`` with ``{slug}`` and ``{run}`` filled in, made free.

    ``taken`` holds the existing branches.  Names are compared without case, since refs are files
    and macOS folds them; a name under which or above which a branch exists counts as taken, as
    git stores refs like folders.  Raises :class:`SettingsError` when the template gives no valid
    branch name.
    """
    values = {"slug": slug, "run": run_id}

    def fill(match: re.Match[str]) -> str:
        if match.group(1) not in values:
            raise SettingsError(
                f"branch = {template!r}: {match.group()} is unknown",
                hint="only {slug} and {run} are filled in",
            )
        return values[match.group(1)]

    name = _HOLDER.sub(fill, template)
    if why := invalid_because(name):
        raise SettingsError(
            f"branch = {template!r} gives no valid branch name: {why}",
            hint="see `git help check-ref-format`",
        )
    return free_name(name, taken)


def free_name(name: str, taken: set[str]) -> str:
    """``name``, or the first of ``name-2``, ``name-3`` … that ``taken`` leaves free.

    Where a branch stands in the way as a folder would (``feature`` for ``feature/auto``), no
    ending helps, so the slashes become dashes: ``feature-auto``.
    """
    folded = {x.casefold() for x in taken}
    above = {x[:i] for x in folded for i, c in enumerate(x) if c == "/"}
    parts = name.casefold().split("/")
    if any("/".join(parts[:i]) in folded for i in range(1, len(parts))):
        name = name.replace("/", "-")
    candidate, n = name, 1
    while candidate.casefold() in folded or candidate.casefold() in above:
        n += 1
        candidate = f"{name}-{n}"
    return candidate
