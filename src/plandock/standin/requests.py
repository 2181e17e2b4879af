"""What the stand-in remembers of a request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any, Literal

AuthKind = Literal["bearer", "x-api-key", "none"]


@dataclass(frozen=True)
class Request:
    """One HTTP request and how it was answered.

    `time` is RFC 3339 UTC. `scene` is "" and `step` -1 where the request has no place in the
    script. `tools` are the names of the tools that the answer calls, `failure` the kind of
    failure met, `status` the HTTP status (0: none was sent). `token` is the secret itself, which
    is why this server is for made-up ones. `betas` is the header `anthropic-beta`. `body` is kept
    only on demand and never logged.
    """

    time: str
    method: str
    path: str
    status: int
    has_tools: bool = False
    auth: AuthKind = "none"
    token: str = ""
    scene: str = ""
    step: int = -1
    tools: tuple[str, ...] = ()
    failure: str = ""
    stream: bool = False
    model: str = ""
    session_id: str = ""
    user_agent: str = ""
    betas: str = ""
    remote_port: int = 0
    body: Mapping[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the log's form: every field but the body."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "body"}


def now() -> str:
    """Return the present moment as RFC 3339 UTC with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def credential(headers: Mapping[str, str]) -> tuple[AuthKind, str]:
    """Return how a request authenticates and with what. A bearer token comes first."""
    authorization = headers.get("Authorization", "")
    if authorization.lower().startswith("bearer "):
        return "bearer", authorization[7:].strip()
    key = headers.get("x-api-key", "")
    return ("x-api-key", key) if key else ("none", "")
