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
