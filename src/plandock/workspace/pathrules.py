"""Which names, links and addresses in a tree could reach beyond the tree when it is checked out.

Pure functions over bytes, as git stores them.  The rules follow git's own protections (HFS+ and
NTFS spellings: ``utf8.c``, ``path.c`` and ``fsck.c`` of git 2.45) and go beyond them where a
user's other tools would be fooled although git is not.
"""

from __future__ import annotations

import re
import unicodedata

# HFS+ leaves these out when it compares names (git's utf8.c, next_hfs_char).
_HFS_IGNORED = re.compile("[\u200c-\u200f\u202a-\u202e\u206a-\u206f\ufeff]")
_DIRECTION = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f]")
# NTFS short names: the first six letters, or four digits of a hash after two letters (the hashes
# are those of git's path.c, is_ntfs_dot_str).
_SPECIAL = {
    ".gitmodules": ("gitmod", "gi7eba"),
    ".gitattributes": ("gitatt", "gi7d29"),
    ".gitignore": ("gitign", "gi250a"),
    ".mailmap": ("mailma", "maba30"),
}
# Windows opens a device instead, with whatever follows the first dot (Microsoft, "Naming Files,
# Paths, and Namespaces").
_DEVICE = re.compile(r"(?:con|prn|aux|nul|conin\$|conout\$|(?:com|lpt)[0-9\u00b9\u00b2\u00b3]) *")
_LONGEST_PART = 255
_LONGEST_PATH = 4096
_LONGEST_TARGET = 4096
_HELPER = re.compile(r"[a-z0-9][a-z0-9+.-]*::", re.I)
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://([^/]*)", re.I)
_ENCODINGS = re.compile(
    rb"utf-?8|us-ascii|ascii|iso-?8859-?\d{1,2}|latin-?\d|(windows-|cp)\d{3,4}|koi8-[ru]"
    rb"|euc-?(jp|kr|cn|tw)|shift[_-]?jis|sjis|gbk|gb2312|gb18030|big5",
    re.I,
)


def fold(name: bytes) -> str:
    """A name as the most forgiving file systems compare it: case, composition, ignored marks."""
    text = _HFS_IGNORED.sub("", name.decode("utf-8", "surrogateescape"))
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", text).casefold())


def _bare(name: bytes) -> str:
    # NTFS drops trailing dots and spaces, and `name:stream` opens the file itself.
    return fold(name).split(":", 1)[0].rstrip(". ")


def is_dot_git(name: bytes) -> bool:
    """Whether some file system takes ``name`` for ``.git``."""
    bare = _bare(name)
    return bare == ".git" or re.fullmatch(r"git~\d+", bare) is not None


def special(name: bytes) -> str:
    """The file of git's own (``.gitmodules`` …) that some file system takes ``name`` for, or ""."""
    bare = _bare(name)
    for whole, starts in _SPECIAL.items():
        if bare == whole or re.fullmatch(f"(?:{'|'.join(starts)})~\\d+", bare):
            return whole
    return ""


def broken_name(name: bytes) -> str:
    """Why a tree entry's name can never be right, at any place; "" when it can."""
    if name in (b"", b".", b".."):
        return f"an entry is named {name.decode()!r}"
    if b"/" in name:
        return "an entry's name holds a slash"
    return "an entry is spelled like .git" if is_dot_git(name) else ""


def bad_path(path: bytes) -> str:
    """Why a new or changed path is refused; "" when it is not.

    Control characters (also the UTF-8 form of C1) and backslashes are; bytes that are no UTF-8
    are allowed, as old file names hold them.
    """
    if len(path) > _LONGEST_PATH:
        return "the path is too long"
    for name in path.split(b"/"):
        if why := broken_name(name):
            return why
        if len(name) > _LONGEST_PART:
            return "a name is longer than file systems take"
        if b"\\" in name:
            return "a name holds a backslash"
        if _CONTROLS.search(name.decode("utf-8", "surrogateescape")):
            return "a name holds a control character"
    root = path.split(b"/", 1)[0]
    if special(root) == ".gitmodules" and root != b".gitmodules":
        return "a name is spelled like .gitmodules"
    return ""


def elsewhere(path: bytes) -> str:
    """Why a path is another one on some system, or none; "" when it is the same everywhere."""
    for name in path.split(b"/"):
        text = fold(name)
        if _DEVICE.fullmatch(re.split(r"[.:]", text, maxsplit=1)[0]):
            return "the name is a device on Windows"
        if text.rstrip(". ") != text or ":" in text:
            return "the name is another one on Windows"
        if re.fullmatch(r"[^/]{1,6}~\d{1,3}(?:\.[^.]{0,3})?", text):
            return "the name may stand for another on Windows"
        if _HFS_IGNORED.search(name.decode("utf-8", "surrogateescape")):
            return "the name is another one on macOS"
    return ""


def forgiving(path: bytes) -> str:
    """The path by the names that the most forgiving file systems would give it."""
    return "/".join(_bare(x) for x in path.split(b"/"))


def misleading(path: bytes) -> bool:
    """Whether a path reads differently from what it is (direction marks)."""
    return bool(_DIRECTION.search(path.decode("utf-8", "surrogateescape")))


def bad_link(path: bytes, target: bytes) -> str:
    """Why a symbolic link at ``path`` is refused; "" when it stays within the tree.

    ``..`` may only stand in front: after a name it could climb from wherever another link leads,
    so the words alone would not tell where it ends.
    """
    name = path.rsplit(b"/", 1)[-1]
    if found := special(name):
        return f"{found} is a symbolic link"
    if not target or len(target) > _LONGEST_TARGET or b"\0" in target:
        return "the link's target is empty or too long"
    if target.startswith((b"/", b"\\")) or re.match(rb"[A-Za-z]:", target):
        return "the link's target is absolute"
    parts = [x for x in re.split(rb"[/\\]", target) if x not in (b"", b".")]
    up = next((i for i, x in enumerate(parts) if x != b".."), len(parts))
    if up > path.count(b"/"):
        return "the link leads out of the repository"
    if b".." in parts[up:]:
        return "the link's target climbs after a name"
    if any(is_dot_git(x) for x in parts):
        return "the link leads into .git"
    return ""


def bad_address(url: str) -> str:
    """Why a submodule's address is refused; "" when it is an ordinary one (still flagged)."""
    text = re.sub("%([0-9a-fA-F]{2})", lambda m: chr(int(m.group(1), 16)), url)
    if _CONTROLS.search(text):
        return "the address holds a control character"
    if text.startswith("-"):
        return "the address would read as an option"
    if _HELPER.match(text):
        return "the address starts a transport program"
    if found := _SCHEME.match(text):
        scheme, host = found.group(1).lower(), found.group(2).rpartition("@")[2]
        if host.startswith("-"):
            return "the host would read as an option"
        return (
            ""
            if scheme in ("https", "http", "ssh", "git", "git+ssh")
            else (f"the address has the scheme {scheme}")
        )
    if text.lower().startswith("file:") or text.startswith(("/", "~", "\\")):
        return "the address is a folder of this machine"
    host = text.rpartition("@")[2]
    return "the host would read as an option" if host.startswith("-") else ""


def bad_submodule(key: str, value: str) -> str:
    """Why one setting of a ``.gitmodules`` file is refused; ``key`` as ``git config -l`` says."""
    section, _, variable = key.rpartition(".")
    if not section.startswith("submodule."):
        return ""
    name = section.removeprefix("submodule.")
    if ".." in re.split(r"[/\\]", name) or name.startswith(("-", "/")):
        return "a submodule's name climbs out of its folder"
    if variable == "url":
        return bad_address(value)
    if variable == "update" and value.lstrip().startswith("!"):
        return "a submodule's update is a command"
    if variable == "path" and (
        value.startswith(("-", "/")) or ".." in value.split("/") or bad_path(value.encode())
    ):
        return "a submodule's path is not one of the repository"
    return ""


def escapes(commit: bytes) -> bool:
    """Whether a commit's text could act on a terminal that shows it as it is."""
    text = commit.decode("utf-8", "replace").replace("\r\n", "\n")
    return re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f]", text) is not None


def bad_encoding(value: bytes) -> bool:
    """Whether a commit's ``encoding`` header names none of the plain character sets.

    Stateful ones (UTF-7, ISO-2022 …) let a message hold what no look at its bytes shows.
    """
    return _ENCODINGS.fullmatch(value) is None
