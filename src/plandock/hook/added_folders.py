"""Folders outside the repository that a conversation may work in: `--add-dir` and the like.

A box holds the conversation's own repository and nothing else, so these stay out of it, and the
run says so.  They are named by the newest CLI in its transcript, by the words that it was started
with, by the answer to `/add-dir`, and by ``permissions.additionalDirectories`` in its settings
(measured, 2.1.197 and 2.1.332).  A list that is not complete is still true.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from itertools import islice

from plandock import paths
from plandock.hook import transcript as records_of
from plandock.hook.payload import clean_path
from plandock.settings import project
from plandock.settings.claude_project import LOCAL, files_read, main_work_tree, work_tree

_MOST = 20
_LARGEST_ARGUMENTS = 1 << 20
_COLOUR = r"(?:\x1b\[[0-9;]*m)*"
_ADDED = re.compile(rf"Added {_COLOUR}(/[^\x00-\x1f\x7f]{{1,4000}}?){_COLOUR} as a ")
_NEEDLES = (b'"additionalWorkingDirectories"', b" as a working directory")


def known(transcript: str, folder: str, *, shell: str = "", pid: int = 0) -> list[str]:
    """What is known of such folders; never raises, for a plan goes all the same.

    ``folder`` is the conversation's, ``shell`` where its shell stands, ``pid`` its CLI's process.
    """
    try:
        named = [*_in_records(transcript), *_in_arguments(pid), *_in_settings(folder)]
        return outside(folder, shell=shell, named=named)
    except (OSError, ValueError, RecursionError):
        return []


def outside(folder: str, *, shell: str, named: Sequence[str]) -> list[str]:
    """Those of the ``named`` folders, and that in which the ``shell`` stands, that lie outside.

    Outside of the work tree of ``folder``, to which relative names belong; absolute, each once,
    at most twenty.  One that is not there is not named: a relative name may belong elsewhere.
    """
    inside = os.path.realpath(work_tree(folder) or folder)
    stands = str(work_tree(shell) or shell) if shell else ""
    by_place: dict[str, str] = {}
    for name in filter(None, (*named, stands)):
        path = clean_path(os.path.normpath(os.path.join(folder, os.path.expanduser(name))))
        real = os.path.realpath(path) if path else ""
        if real and real != inside and not real.startswith(inside + "/") and os.path.isdir(real):
            by_place.setdefault(real, path)
    return list(islice(by_place.values(), _MOST))


def _in_records(transcript: str) -> Iterator[str]:
    last: list[str] = []
    for read in (records_of.first_records, records_of.last_records):
        for record in read(transcript, *_NEEDLES):
            attached, message = record.get("attachment"), record.get("message")
            shown = attached.get("snapshot") if isinstance(attached, dict) else None
            named = shown.get("additionalWorkingDirectories") if isinstance(shown, dict) else None
            if isinstance(named, list):
                last = [x for x in named if isinstance(x, str)]
            content = message.get("content") if isinstance(message, dict) else None
            if isinstance(content, str) and content.startswith("<local-command-stdout>"):
                yield from _ADDED.findall(content)
    yield from last


def _in_arguments(pid: int) -> Iterator[str]:
    """What stands after `--add-dir` on the CLI's command line; Linux alone tells."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            raw = file.read(_LARGEST_ARGUMENTS)
    except OSError:
        return
    taking = False
    for word in map(os.fsdecode, raw.split(b"\0")[1:]):
        if word.startswith("-"):
            name, given, value = word.partition("=")
            taking = name == "--add-dir"
            if taking and given:
                yield value
                taking = False
        elif taking and word:
            yield word


def _in_settings(folder: str) -> Iterator[str]:
    """What the user's, the project's and the local settings of a conversation there name."""
    files = [f.path for f in files_read(folder, config_dir=paths.claude_config_dir(), version="")]
    if main := main_work_tree(folder):
        files.append(main / ".claude" / LOCAL)
    for _, held in project.read_files(files).parsed:
        rules = held.get("permissions")
        named = rules.get("additionalDirectories") if isinstance(rules, dict) else None
        for name in named if isinstance(named, list) else []:
            if isinstance(name, str) and name:
                yield name
