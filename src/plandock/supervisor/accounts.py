"""Whose login a run may use: the account that it began with, and no other unasked.

The account is recorded as soon as a supervisor has the run, before its turn comes.  Another one
pays only after the user's own `plandock resume`.  What changes on this machine changes file by
file, so a login is judged when it has stood for a moment.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from plandock.claude import account as accounts
from plandock.claude import credentials
from plandock.claude.account import Account, Owner, Relation, account_of, relate
from plandock.claude.login import Login, check_life
from plandock.errors import CredentialsError
from plandock.runs.model import Run, State, utc_now
from plandock.runs.store import Store
from plandock.settings.keys import Settings
from plandock.supervisor.steps import say

# A renewed token is believed to be the old account's after this long (seconds).  Claude Code
# itself writes the account first; others may write the token first.  Without haste, while the
# token in use is still good, it is given more time.
SETTLED_S, UNHURRIED_S = 2.0, 10.0
# The CLI renews a token that has less than five minutes left (measured).
_ABOUT_TO_END_S = 600.0

# A login that was not seen for longer than this is seen anew: two looks lie 3 s apart at most.
_GAP_S = 8.0

# Of each login that was seen for a run, when first and when last, on this process's own clock.
_seen: dict[tuple[str, Account], tuple[float, float]] = {}


class AnotherAccount(CredentialsError):
    """The login here is not of the account that the run began with."""

    def __init__(self, run: Run, begun: Account, now: Account) -> None:
        old, new = begun.words(now), _beside(begun, now)
        back = f"sign in as {old} again" if begun.key else "put the old one back"
        back += " (plandock login --box)" if begun.kind == "box" else ""
        super().__init__(
            f"the login on this machine is {new} now; this run began with {old}",
            hint=f"{back} and it goes on by itself, or let {new} pay: plandock resume {run.id}",
        )
        self.now = now


def _beside(begun: Account, now: Account) -> str:
    """The new account in words, told from the old one."""
    said = now.words(begun)
    return f"another {said.partition(' ')[2]}" if said == begun.words(now) else said


class Unsettled(CredentialsError):
    """The login here has just changed: whose it is shows in a moment."""


def note(store: Store, run: Run) -> Run:
    """Record the account that a run begins with, as early as can be; a login in a volume, and
    one that is not there yet, are recorded when they are first used.

    The hook has left a digest of the token: where another one is here by now, it is not known
    whose the accepted one was.
    """
    settings = Settings.from_dict(run.settings)
    if "shown" in run.account or run.attempt or settings.credentials == "box":
        return run
    accepted = Account.from_record(run.account)
    with contextlib.suppress(CredentialsError):
        login = _accepted(run, settings, accepted)
        if login is not None and 0 <= (age := time.time() - (login.written_at or 0.0)) < SETTLED_S:
            time.sleep(SETTLED_S - age)  # somebody signs in, or out, at this very moment
            login = _accepted(run, settings, accepted)
        found = accepted if login is None else whose(run, login)
        if found is not None:
            return store.change(run.id, account=found.to_record())
    return run


def _accepted(run: Run, settings: Settings, accepted: Account | None) -> Login | None:
    """The login that was here at the hand-off, where that is known; else the preferred one."""
    logins = (login for login in _each(run, settings) if isinstance(login, Login))
    if accepted is None:
        return next(logins, None)
    return next((login for login in logins if accounts.mark_of(login) == accepted.mark), None)


def whose(run: Run, login: Login) -> Account:
    """The account of a login of this machine."""
    return account_of(login, _owner(run, login))


def _owner(run: Run, login: Login) -> Owner:
    if login.kind not in ("file", "keychain"):
        return Owner()
    return accounts.read_owner(Path(run.config_dir), os.environ)


def choose(
    run: Run, settings: Settings, *, min_life_s: float, hurry: bool = False, any_of: bool = False
) -> Login:
    """The login of this machine that the run may use.

    ``hurry``: the token in use was refused, so that a new one is worth nothing later.  ``any_of``
    prefers, to saying what is wrong with the account's own login, that there is another's.
    Raises :class:`AnotherAccount`, :class:`Unsettled`, and :class:`CredentialsError` where there
    is none, or less than ``min_life_s`` seconds of life in it.
    """
    begun = Account.from_record(run.account)
    own: CredentialsError | None = None  # what is wrong with the account's own login
    unread: CredentialsError | None = None
    spare: Login | None = None
    others: list[tuple[Account, float]] = []
    for login in _each(run, settings):
        if isinstance(login, CredentialsError):
            unread = unread or login
            continue
        owner = _owner(run, login)
        now = account_of(login, owner)
        relation = Relation.SAME if begun is None else relate(begun, now)
        if begun is not None and relation is not Relation.SAME:
            if _may_stand_in(run, begun, now):
                spare = spare or login
            others.append((now, _unchanged_s(login, owner)))
            continue
        if (spare or any_of) and now.mark == run.spent_login:
            own = own or CredentialsError("the API refused the login that is here")
            continue
        try:
            if begun is not None:
                _check_settled(run, begun, login, owner, hurry=hurry)
            check_life(login, min_life_s, time.time())
            return login
        except Unsettled:
            raise
        except CredentialsError as error:
            own = own or error
    if spare is not None:
        return spare
    raise _why_not(run, begun, own or unread, others, any_of=any_of)


def _each(run: Run, settings: Settings) -> Iterator[Login | CredentialsError]:
    return credentials.each_login(
        mode=settings.credentials,
        billing=settings.billing,
        config_dir=Path(run.config_dir),
        environ=os.environ,
    )


def _why_not(
    run: Run,
    begun: Account | None,
    problem: CredentialsError | None,
    others: list[tuple[Account, float]],
    *,
    any_of: bool,
) -> CredentialsError:
    if begun is None or not others:
        return problem or credentials.absent(os.environ)
    # Of the same kind: it stands in the old one's place.
    now, unchanged_s = next((one for one in others if one[0].kind == begun.kind), others[0])
    if problem is None or now.kind == begun.kind or any_of:
        # What is half written may have been so for long before it was seen.
        stood_s = max(_age(run, now), unchanged_s if now.certain else 0.0)
        if stood_s < (SETTLED_S if now.certain else UNHURRIED_S):
            return Unsettled("the login here has just changed", hint="it is looked at again")
        return AnotherAccount(run, begun, now)
    hint = f"{problem.hint}; or let {now.words()} pay: plandock resume {run.id}"
    return CredentialsError(problem.message, hint=hint)


def _may_stand_in(run: Run, begun: Account, now: Account) -> bool:
    """Whether a token that the user stored may take the place of a login that serves no more:
    where no account was ever named, and not while the agent works with the old one."""
    unnamed = begun.kind == "host" and not begun.key and begun.certain
    return unnamed and now.kind == "token" and run.state is not State.RUNNING


def _check_settled(run: Run, begun: Account, login: Login, owner: Owner, *, hurry: bool) -> None:
    """Raise :class:`Unsettled` for a token that may yet turn out to be another account's: one of
    the two files may be about to change."""
    now = account_of(login, owner)
    if now.mark == begun.mark or (login.account and begun.key == now.key):
        return
    over = accounts.is_over(begun, time.time(), _ABOUT_TO_END_S)
    needed = SETTLED_S if hurry or over or run.spent_login == begun.mark else UNHURRIED_S
    if max(_age(run, now), _unchanged_s(login, owner)) < needed:
        raise Unsettled("the login here has just changed", hint="it is looked at again")


def _unchanged_s(login: Login, owner: Owner) -> float:
    """Seconds since either file was written; 0 where none says so, as with a Keychain."""
    if login.written_at is None:
        return 0.0
    return time.time() - max(login.written_at, owner.written_at)


def _age(run: Run, now: Account) -> float:
    """Seconds for which this login has been seen, one look after the other."""
    at = time.monotonic()
    first, last = _seen.get((run.id, now), (at, at))
    _seen[run.id, now] = (first if at - last <= _GAP_S else at, at)
    return at - _seen[run.id, now][0]


def check(run: Run, now: Account) -> None:
    """Raise :class:`AnotherAccount` where a run may not use a login of this account."""
    begun = Account.from_record(run.account)
    if begun is not None and relate(begun, now) is not Relation.SAME:
        raise AnotherAccount(run, begun, now)


def paying(run: Run, now: Account) -> dict[str, Any]:
    """The fields that change when a run's box is given a token of this account."""
    begun = Account.from_record(run.account)
    if begun is not None:
        same = relate(begun, now) is Relation.SAME
        # A file that changed since this login was chosen does not choose another account.
        if not now.key if same else not _may_stand_in(run, begun, now):
            now = replace(begun, mark=now.mark, until=now.until, plan=begun.plan or now.plan)
    changes: dict[str, Any] = {"account": now.to_record()}
    who = now.key and now.key + now.organization_key
    who = who or (now.mark if now.kind in ("token", "api-key") else now.kind)
    last = run.payers[-1] if run.payers else {}
    paid = {"account": now.to_json(), "login": now.kind, "who": who, "mark": now.mark}
    # The very token that paid last, whose account has been named since then.
    named = bool(last) and last.get("account") is None and last.get("mark") == now.mark
    if last.get("who") == who or named:
        changes["payers"] = [*run.payers[:-1], {**last, **paid}]
    else:
        changes["payers"] = [*run.payers, {**paid, "since": utc_now()}]
    return changes


def adopt(run: Run, now: Account) -> tuple[dict[str, Any], str]:
    """What changes when the user lets this account pay from here on, and a sentence of it."""
    begun = Account.from_record(run.account) or Account()
    told = f"{_beside(begun, now)} pays from now on, in place of {begun.words(now)}"
    say(f"plandock resume: {told}")
    notes = [*run.notes, f"{utc_now()}: plandock resume: {told}"]
    return {"account": now.to_record(), "notes": notes}, told


def in_words(run: Run) -> list[str]:
    """Who has paid and from when on, or whom the run is to bill: lines for a receipt."""
    if not run.payers:
        begun = Account.from_record(run.account)
        return [begun.words()] if begun else []
    lines = []
    for payer in run.payers:
        shown = payer.get("account") or {}
        names = [str(shown[k]) for k in ("email", "id") if shown.get(k)]
        said = f"{names[0]} ({names[1]})" if len(names) == 2 else "".join(names)
        if shown.get("organization"):
            said += f", organisation {shown['organization']}"
        if said and shown.get("plan"):
            said += f", {shown['plan']}"
        if not said:
            said = {"token": "not known: a stored token names none", "api-key": "an API key"}.get(
                str(payer.get("login")), "not known: Claude Code's files here name none"
            )
        lines.append(f"{said}, from {payer.get('since')}")
    return lines
