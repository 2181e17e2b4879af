"""Whose a login is: the account and organisation that Claude Code names for it on this machine.

Measured with 2.1.197 and 2.1.332: the account stands as `oauthAccount` in Claude Code's state
file, and signing in writes that file before the token.  2.1.332 also writes `accountUuid` and
`organizationUuid` beside the token itself, and keeps them there when it renews it (read in the
CLI); 2.1.197 drops them.  A token that was made by `claude setup-token` names nobody.

Nothing here holds a whole e-mail address or identifier: what is kept is compared by digests and
shown in short.
"""

from __future__ import annotations

import enum
import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from plandock import paths
from plandock.claude import jsonfile
from plandock.claude.login import Login

# A state file with years of prompts in it was reported with tens of megabytes.
_STATE_BYTES = 64 << 20
_SHORT = 8
_ID = re.compile(r"[\x21-\x7e]{1,200}")
_MAIL = re.compile(r"([^\s@])[^\s@]{0,200}@([A-Za-z0-9.-]{1,100})")


_last_read: dict[Path, tuple[bytes, Owner | None]] = {}


class Relation(enum.Enum):
    """What a login is to the account that a run began with."""

    SAME = "same"
    OTHER = "other"
    UNKNOWN = "unknown"  # nothing says that it is the same: not used, either


@dataclass(frozen=True, slots=True)
class Account:
    """Whose one login is, as far as this machine tells; an empty field is not known.

    ``until`` is when the token ends, in Unix seconds, 0 where nothing says so.
    """

    kind: str = ""  # host | token | box | api-key
    id: str = ""  # the first characters of `accountUuid`, for people
    key: str = ""  # digest of the account
    organization: str = ""
    organization_key: str = ""
    email: str = ""  # shortened
    plan: str = ""  # `subscriptionType`
    mark: str = ""  # digest of a token that is known to be of this account
    until: float = 0.0
    certain: bool = True  # False where the files contradict each other or cannot be read

    def to_record(self) -> dict[str, Any]:
        """Everything, for the store; ``shown`` is what the run's JSON shows of it."""
        return {**asdict(self), "shown": self.to_json()}

    @classmethod
    def from_record(cls, data: Mapping[str, Any]) -> Account | None:
        """The account of a stored record; None for an empty one, or one that is none."""
        known = {f.name: data[f.name] for f in fields(cls) if f.name in data}
        kinds: dict[str, type] = {"until": float, "certain": bool}
        if not known.get("kind") or not all(
            isinstance(value, kinds.get(name, str)) for name, value in known.items()
        ):
            return None
        return cls(**known)

    def to_json(self) -> dict[str, Any] | None:
        """What a receipt shows of it; None where nobody is named."""
        if not self.key:
            return None
        return {
            "email": self.email or None,
            "id": self.id or None,
            "organization": self.organization or None,
            "plan": self.plan or None,
        }

    def words(self, beside: Account | None = None) -> str:
        """The account in a few words; with its organisation where ``beside`` differs in that."""
        if self.kind == "api-key":
            return "an API key"
        if not self.key:
            return "a stored token" if self.kind == "token" else "an account that is not known"
        said = f"{self.email} ({self.id})" if self.email and self.id else self.email or self.id
        if beside is not None and beside.key == self.key and self.organization:
            said += f" in organisation {self.organization}"
        return said


@dataclass(frozen=True, slots=True)
class Owner:
    """What a state file says: `oauthAccount`, whole, for this process alone."""

    account: str = ""
    organization: str = ""
    email: str = ""
    certain: bool = True
    written_at: float = field(default=0.0, compare=False)  # the file's, in Unix seconds


def mark_of(login: Login) -> str:
    """A word by which a token is known again; the token cannot be read from it."""
    return _digest(login.token.reveal())


def account_of(login: Login, owner: Owner, *, kind: str = "") -> Account:
    """Whose ``login`` is; ``owner`` is what the state file beside it says.

    ``kind`` is "box" for a login of a volume; the others tell theirs themselves.
    """
    kind = kind or {"setup-token": "token", "api-key": "api-key"}.get(login.kind, "host")
    mark = mark_of(login)
    until = login.expires_at or 0.0
    if kind in ("token", "api-key"):
        return Account(kind, mark=mark, until=until)
    account, organization, email, certain = (
        owner.account,
        owner.organization,
        owner.email,
        owner.certain,
    )
    if login.account and login.account != account:
        # Written in one step with the token, so it goes before what the other file says.
        account, organization, email = login.account, "", ""
    if login.account:
        certain = True
    return Account(
        kind=kind,
        id="" if "@" in account else account[:_SHORT],
        key=_digest(account) if account else "",
        organization=(organization := login.organization or organization)[:_SHORT],
        organization_key=_digest(organization) if organization else "",
        email=email,
        plan=login.subscription,
        mark=mark,
        until=until,
        certain=certain,
    )


def relate(begun: Account, now: Account) -> Relation:
    """Whether a run that began with one account may use a login that is of another.

    Only what is known to be the same is: the very token, or the same account in the same
    organisation.  Where neither has ever named an account, a login of the same kind and plan
    is the same one, renewed: there is nothing else to go by, and every renewal looks so.
    """
    if begun.kind != now.kind:
        return Relation.OTHER
    differs = _differs(begun.key, now.key) or _differs(begun.organization_key, now.organization_key)
    if differs:
        return Relation.OTHER
    if now.mark == begun.mark:
        return Relation.SAME
    if now.kind in ("token", "api-key"):
        return Relation.OTHER
    if not now.certain:
        return Relation.UNKNOWN
    if begun.key != now.key or (now.key and begun.organization_key != now.organization_key):
        return Relation.UNKNOWN
    if not now.key and _differs(begun.plan, now.plan):
        return Relation.OTHER
    return Relation.SAME


def read_owner(config_dir: Path, environ: Mapping[str, str]) -> Owner:
    """What Claude Code's state beside ``config_dir`` says of the account.  Never raises.

    The file is ``$CLAUDE_CONFIG_DIR/.claude.json``, else ``~/.claude.json`` (measured, both
    versions); an old one, ``.config.json`` in the folder, still counts in some cases that differ
    between the versions, so where the two disagree nothing is certain.
    """
    # Named or not makes a difference even where both mean the same folder.
    usual = config_dir == paths.home() / ".claude"
    named = environ.get("CLAUDE_CONFIG_DIR", "")
    state = config_dir / ".claude.json"
    if usual and not (named and Path(named) == config_dir):
        state = paths.home() / ".claude.json"
    found: Owner | None = None
    written_at = 0.0
    for file in (state, config_dir / ".config.json"):
        try:
            opened = jsonfile.read_bytes(file, limit=_STATE_BYTES)
        except jsonfile.Unreadable:
            return Owner(certain=False)
        if opened is None:
            continue
        written_at = max(written_at, opened.written_at)
        owner = _parsed(file, opened.data)
        if owner is not None and found not in (None, owner):
            return Owner(certain=False)
        found = owner or found
    return replace(found or Owner(), written_at=written_at)


def _parsed(file: Path, data: bytes) -> Owner | None:
    """As :func:`parse_owner`; a state file is long, looked at every few seconds, and changes
    less often."""
    digest = hashlib.sha256(data).digest()
    last = _last_read.get(file)
    if last is None or last[0] != digest:
        last = _last_read[file] = (digest, parse_owner(data))
    return last[1]


def parse_owner(data: bytes) -> Owner | None:
    """The account in the text of a state file; None where it names none."""
    try:
        held = jsonfile.parse_object(data).get("oauthAccount")
    except jsonfile.Unreadable:
        return Owner(certain=False)
    if held is None:
        return None
    if not isinstance(held, dict):
        return Owner(certain=False)
    mail = held.get("emailAddress")
    mail = mail if isinstance(mail, str) and _MAIL.fullmatch(mail) else ""
    account = _id(held.get("accountUuid")) or mail.lower()
    if not account:
        return None
    return Owner(account, _id(held.get("organizationUuid")), _shortened(mail))


def _shortened(mail: str) -> str:
    """The first character of an address, and its domain."""
    found = _MAIL.fullmatch(mail)
    return f"{found[1]}…@{found[2]}" if found else ""


def _id(value: object) -> str:
    return value if isinstance(value, str) and _ID.fullmatch(value) else ""


def _differs(one: str, other: str) -> bool:
    return bool(one and other and one != other)


def _digest(text: str) -> str:
    return hashlib.sha256(b"plandock\0" + text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def is_over(account: Account, now: float, slack_s: float) -> bool:
    """Whether its token has ended at Unix time ``now``, or does within ``slack_s`` seconds."""
    return math.isfinite(account.until) and 0 < account.until < now + slack_s
