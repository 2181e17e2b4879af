"""Who pays and who is asked, judged from what the CLI itself says in the box; if unsure, not as
wished."""

from __future__ import annotations

from typing import Any


def pays_as_wished(status: Any, billing: str) -> bool:
    """Whether `auth status` speaks of the login that the user wants to pay with."""
    if billing == "api-key":
        return True
    return (
        isinstance(status, dict)
        and status.get("loggedIn") is True
        and status.get("authMethod") in ("claude.ai", "oauth_token")
        and status.get("apiProvider", "firstParty") == "firstParty"
        and not status.get("apiKeySource")
    )


def says_as_wished(message: dict[str, Any], billing: str) -> bool:
    """Whether the CLI's `init` message names the payer that the user wants."""
    return billing == "api-key" or message.get("apiKeySource") == "none"


def asks_nobody(message: dict[str, Any]) -> bool:
    """Whether the CLI's `init` message says that it works without a person's permission."""
    return message.get("permissionMode") == "bypassPermissions"


def means(billing: str, left_usd: float | None, capped: bool) -> str:
    """What follows from a sign that usage credits pay: ``stop``, ``restart`` or ``go-on``.

    ``restart``: only a new process of the CLI can be told how much credits are left for it, and
    counts from there; with nothing left for it, not even that.
    """
    if billing == "api-key":
        return "go-on"
    if billing != "subscription+credits":
        return "stop"
    if left_usd is None or capped:
        return "go-on"
    return "restart" if left_usd > 0 else "stop"
