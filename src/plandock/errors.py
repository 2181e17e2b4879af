"""Every failure a user can meet, each with the exit code that scripts rely on.

The codes are part of the outside contract (shared/design.md, section 4): a class carries its
code, so that no caller ever has to choose one.
"""

from __future__ import annotations


class PlandockError(Exception):
    """An expected failure: one line that says what, one hint that says what to do next."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(PlandockError):
    """The call's words are off."""

    exit_code = 2


class RunUnsuccessful(PlandockError):
    """A run that was waited for ended as failed or stopped."""

    exit_code = 10


class EngineError(PlandockError):
    """The container engine is missing, down, or refused something."""

    exit_code = 20


class CredentialsError(PlandockError):
    """No usable login, or one that would be billed per token."""

    exit_code = 21


class BillingError(CredentialsError):
    """The run would have been billed per token; the message names the culprit."""


class IsolationError(PlandockError):
    """A probe found the box less sealed than it must be."""

    exit_code = 22


class HarvestRefused(PlandockError):
    """What came out of the box failed a check; the bundle and the volume are kept.

    ``message`` names the first reasons, ``reasons`` holds them all.
    """

    exit_code = 23

    def __init__(self, message: str, *, hint: str = "", reasons: tuple[str, ...] = ()) -> None:
        super().__init__(message, hint=hint)
        self.reasons = reasons or (message,)


class Busy(PlandockError):
    """Somebody else holds it, or the run is still going."""

    exit_code = 75


class RepositoryError(PlandockError):
    """The user's repository cannot be used as it stands."""


class SettingsError(PlandockError):
    """A settings file or value is wrong; nothing was changed."""

    exit_code = 2


class StoreError(PlandockError):
    """The store of runs cannot be read or written."""
