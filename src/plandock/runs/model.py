"""What a run is: its states, the moves between them, and its JSON form.

The JSON keys, the states and their names are the outside contract (shared/design.md, section 4).
Standard library only: the hook imports this.
"""

from __future__ import annotations

import enum
import os
import secrets
import time
from dataclasses import asdict, dataclass, field, fields
from typing import Any, NewType

RunId = NewType("RunId", str)

# No vowels (no accidental words) and nothing that reads like something else (0/o, 1/i/l).
_SPEAKABLE = "23456789bcdfghjkmnpqrstvwxz"
_LETTERS = 4


class State(enum.StrEnum):
    """Where a run stands."""

    QUEUED = "queued"
    STAGING = "staging"
    RUNNING = "running"
    HARVESTING = "harvesting"
    WAITING = "waiting"
    DONE = "done"
    FAILED = "failed"
    STOPPED = "stopped"

    @property
    def final(self) -> bool:
        """Whether the run goes no further by itself."""
        return self in FINAL


FINAL = frozenset({State.DONE, State.FAILED, State.STOPPED})

# Every move that the store will make; anything else is a bug and is refused.  `resume` is the
# only way out of a final state, and never out of `done`.
MOVES: dict[State, frozenset[State]] = {
    State.QUEUED: frozenset(
        {State.STAGING, State.HARVESTING, State.WAITING, State.FAILED, State.STOPPED}
    ),
    State.STAGING: frozenset(
        {
            State.RUNNING,
            State.HARVESTING,
            State.QUEUED,
            State.WAITING,
            State.FAILED,
            State.STOPPED,
        }
    ),
    State.RUNNING: frozenset(
        {State.HARVESTING, State.QUEUED, State.WAITING, State.FAILED, State.STOPPED}
    ),
    State.HARVESTING: frozenset({State.DONE, State.WAITING, State.FAILED, State.STOPPED}),
    State.WAITING: frozenset(
        {
            State.QUEUED,
            State.STAGING,
            State.RUNNING,
            State.HARVESTING,
            State.FAILED,
            State.STOPPED,
        }
    ),
    State.DONE: frozenset(),
    State.FAILED: frozenset({State.QUEUED}),
    State.STOPPED: frozenset({State.QUEUED}),
}


def new_run_id() -> RunId:
    """A short id that can be said aloud, such as ``r7k2m``; the store refuses a taken one.

    It names containers in an engine that several users, each with a store, may share: of half a
    million ids, two runs that go at the same time hardly ever get the same.
    """
    return RunId("r" + "".join(secrets.choice(_SPEAKABLE) for _ in range(_LETTERS)))


def utc_now() -> str:
    """The time now, RFC 3339 in UTC, to the millisecond."""
    return utc_time(time.time())


def utc_time(seconds: float) -> str:
    """Unix time in seconds as RFC 3339 in UTC, to the millisecond."""
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{whole}.{int(seconds * 1000) % 1000:03d}Z"


@dataclass
class Billing:
    """Who pays for a run, in the CLI's own words."""

    source: str = ""  # subscription | api-key | "" while it is not known yet
    api_key_source: str = ""  # `apiKeySource` of the CLI's init message
    subscription: str = ""  # `subscriptionType`: max, pro, team …
    rate_limit_type: str = ""  # the allowance that the CLI named last: five_hour, overage …
    overage_status: str = ""  # `overageStatus`, as the CLI told it last
    credits_used: bool | None = None  # usage credits paid, or may have; None: nothing was told
    credits_why: str = ""  # what said so
    credits_usd: float | None = None  # as far as known, by the CLI's own count, in USD
    credits_uncounted: bool = False  # some of the use is not in credits_usd


@dataclass
class Usage:
    """Tokens as the CLI counted them; the cost is what an API key would have paid, in USD."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cost_usd_equivalent: float = 0.0


@dataclass
class Run:
    """One plan being carried out."""

    id: RunId
    state: State = State.QUEUED
    reason: str = ""
    repo: str = ""
    cwd: str = ""
    branch: str = ""
    base: str = ""
    snapshot: str = ""
    head: str = ""
    commits: int = 0
    plan_title: str = ""
    session_id: str = ""
    box_session_id: str = ""
    engine: str = ""
    image: str = ""
    cli_version: str = ""
    billing: Billing = field(default_factory=Billing)
    created_at: str = ""
    started_at: str = ""
    ended_at: str = ""
    waiting_until: str = ""
    turns: int = 0
    usage: Usage = field(default_factory=Usage)
    denied: list[dict[str, Any]] = field(default_factory=list)
    flagged_files: list[str] = field(default_factory=list)
    # Additions to the contract, free to grow.
    trigger: str = ""  # accepted | cleared | manual
    permission_mode: str = ""
    transcript: str = ""
    git_home: str = ""  # of a linked work tree: the repository that it belongs to
    config_dir: str = ""  # Claude Code's folder at acceptance
    claude: str = ""  # the host's CLI binary
    model: str = ""  # what the plan was accepted with; empty: the CLI's own default
    model_origin: str = ""  # how that is known, in words
    effort: str = ""  # low, medium …; empty: the CLI's own default
    models_asked: list[str] = field(default_factory=list)  # whose answers the agent got
    fresh: bool = False  # a new conversation from the plan, no transcript to fork
    upstream: str = ""  # the stand-in's address where one was used, else ""
    login_volume: str = ""  # the volume with a login in a box; empty: the ordinary one
    message: str = ""  # why it failed or waits, for people
    hint: str = ""
    exit_code: int = 0  # what `wait` answers for a final state
    stop_requested: bool = False
    outcome: str = ""  # the agent's closing words
    notes: list[str] = field(default_factory=list)
    egress: list[dict[str, Any]] = field(default_factory=list)
    # What the gateway was told to let through beside Anthropic's API: hosts by preset, and under
    # `egress` those that the user named.
    reach: dict[str, list[str]] = field(default_factory=dict)
    isolation: str = ""  # what the probe in the box found, in a sentence
    settings: dict[str, Any] = field(default_factory=dict)  # frozen at hand-off
    # What only the hook could see of the session (:mod:`plandock.hook.session_setup`).
    session_setup: dict[str, Any] = field(default_factory=dict)
    handoff_key: str = ""
    supervisor_pid: int = 0
    supervisor_started: str = ""  # that process's own start, as `alive.started` tells it
    step: str = ""  # the last step the supervisor began
    # What a supervisor leaves for the next one.
    staged: bool = False  # the volumes hold the workspace and the conversation
    attempt: int = 0  # boxes in which the agent was let go, up to now
    events_offset: int = 0  # where the present attempt begins in events.jsonl, in bytes
    strikes: int = 0  # attempts in a row that got nowhere
    active_s: float = 0.0  # time that the agent has worked, waiting not counted
    tip: str = ""  # where a resumed run's workspace begins; empty: at the snapshot
    back_to: str = ""  # the state that a wait for the engine or for room interrupted
    login_mark: str = ""  # digest of the token that the box has
    # Whose login the run began with, or the user's `resume` chose; and who has paid since when.
    account: dict[str, Any] = field(default_factory=dict)
    payers: list[dict[str, Any]] = field(default_factory=list)
    spent_login: str = ""  # digest of the token that the API refused; another one is waited for
    ending: dict[str, Any] = field(default_factory=dict)  # the end that was decided upon
    say: str = ""  # what the user wants said to the agent when it goes on
    # What the user wrote beside the plan: queued while it was made, or typed with the approval.
    user_messages: list[str] = field(default_factory=list)
    # Folders outside the repository that the conversation could reach; they are not in the box.
    folders_left_out: list[str] = field(default_factory=list)
    stop_forced: bool = False
    revision: int = 0  # how often the record was written: of two copies the later one counts
    told: list[str] = field(default_factory=list)  # what the user was notified of
    terminal: dict[str, Any] = field(default_factory=dict)  # where it was handed off

    @property
    def git_place(self) -> str:
        """Where git finds the run's commits and branch: also when its linked work tree is gone."""
        gone = self.git_home and not os.path.lexists(os.path.join(self.repo, ".git"))
        return self.git_home if gone else self.repo

    def to_json(self) -> dict[str, Any]:
        """The contract's JSON object; empty times and names are ``null``."""
        data = asdict(self)
        data["state"] = str(self.state)
        data["billing"]["account"] = self.account.get("shown")
        data["billing"]["accounts"] = [
            {k: payer.get(k) for k in ("account", "login", "since")} for payer in self.payers
        ]
        for name in _INTERNAL:
            del data[name]
        for name in _NULLABLE:
            if data[name] == "":
                data[name] = None
        return data

    def to_record(self) -> dict[str, Any]:
        """Everything, for the store."""
        data = asdict(self)
        data["state"] = str(self.state)
        return data

    @classmethod
    def from_record(cls, data: dict[str, Any]) -> Run:
        """The run of a stored record; keys that this version does not know are passed over."""
        known = {f.name for f in fields(cls)}
        kept = {k: v for k, v in data.items() if k in known}
        kept["state"] = State(kept["state"])
        kept["billing"] = Billing(**_known(Billing, kept.get("billing", {})))
        kept["usage"] = Usage(**_known(Usage, kept.get("usage", {})))
        return cls(**kept)


def _known(kind: type[Billing] | type[Usage], data: dict[str, Any]) -> dict[str, Any]:
    names = {f.name for f in fields(kind)}
    return {k: v for k, v in data.items() if k in names}


_INTERNAL = (
    "handoff_key",
    "git_home",
    "login_volume",
    "supervisor_pid",
    "supervisor_started",
    "settings",
    "session_setup",
    "stop_requested",
    "stop_forced",
    "staged",
    "events_offset",
    "strikes",
    "tip",
    "back_to",
    "login_mark",
    "account",
    "payers",
    "spent_login",
    "ending",
    "told",
    "revision",
    "terminal",
    "say",
    "user_messages",
)
_NULLABLE = (
    "reason",
    "branch",
    "base",
    "snapshot",
    "head",
    "session_id",
    "box_session_id",
    "engine",
    "image",
    "cli_version",
    "started_at",
    "ended_at",
    "waiting_until",
)
