"""Who would pay: what the CLI says of itself, and what on this machine could make it change.

Measured with the real CLI, 2.1.197 and 2.1.330: neither answer of the CLI is enough alone.
``claude auth status`` does not see an ``ANTHROPIC_API_KEY`` in a project's settings, which ``-p``
then uses; the ``init`` message calls ``ANTHROPIC_AUTH_TOKEN`` and the cloud providers
``apiKeySource: none``, as it does a subscription.  So three things have to agree: no culprit in
the files that the box will see (:func:`find_culprits`), the status before the start
(:func:`judge_auth_status`), the first message after it (:func:`judge_init`).  Whatever is not
known to be well is not well.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from plandock.claude import jsonfile
from plandock.claude.redact import redact
from plandock.settings.keys import WITH_CREDITS

Source = Literal["subscription", "api-key", "unknown"]

# Variable → what it does.  The names are those that the two CLI versions read.
_KEYS: Mapping[str, str] = {
    "ANTHROPIC_API_KEY": "an API key, billed per token",
    "ANTHROPIC_AUTH_TOKEN": "a token that goes before the login",
    "ANTHROPIC_CUSTOM_HEADERS": "headers that can carry a key",
    "AWS_BEARER_TOKEN_BEDROCK": "a key for Bedrock",
    "CLAUDE_CODE_API_KEY_FILE_DESCRIPTOR": "an API key, billed per token",
    "CLAUDE_CODE_GATEWAY_TOKEN": "a token for a gateway",
    "CLAUDE_CODE_GATEWAY_TOKEN_FILE_DESCRIPTOR": "a token for a gateway",
    "CLAUDE_CODE_HFI_BEARER_TOKEN": "a token that goes before the login",
    "CLAUDE_CODE_SESSION_ACCESS_TOKEN": "a token that goes before the login",
    "ANTHROPIC_BASE_URL": "requests go elsewhere",
    "ANTHROPIC_API_HOST": "requests go elsewhere",
    "ANTHROPIC_UNIX_SOCKET": "requests go elsewhere",
    "CLAUDE_CODE_CUSTOM_OAUTH_URL": "the login goes elsewhere",
    "ANTHROPIC_PROFILE": "a profile with a login of its own",
    "ANTHROPIC_IDENTITY_TOKEN": "an organisation's identity",
    "ANTHROPIC_IDENTITY_TOKEN_FILE": "an organisation's identity",
    "ANTHROPIC_FEDERATION_RULE_ID": "an organisation's identity",
    "ANTHROPIC_SERVICE_ACCOUNT_ID": "an organisation's identity",
}
# Only where a settings file sets them: in the environment they are a login of the user's.
_OTHER_LOGINS: Mapping[str, str] = {
    "CLAUDE_CODE_OAUTH_TOKEN": "another login than the one chosen",
    "CLAUDE_CODE_OAUTH_TOKEN_FILE_DESCRIPTOR": "another login than the one chosen",
}
_PROVIDERS = (
    "BEDROCK", "VERTEX", "FOUNDRY", "MANTLE", "ANTHROPIC_AWS", "ANTHROPIC_GOOGLE_CLOUD", "GATEWAY",
)  # fmt: skip
# Every CLAUDE_CODE_USE_… is taken for a provider unless it is known to be none: a later version
# may bring one that is not on the list.
_NO_PROVIDERS = frozenset(
    {
        "CLAUDE_CODE_USE_CCR_V2",
        "CLAUDE_CODE_USE_COWORK_PLUGINS",
        "CLAUDE_CODE_USE_NATIVE_FILE_SEARCH",
        "CLAUDE_CODE_USE_POWERSHELL_TOOL",
    }
)
_SWITCH = re.compile(r"CLAUDE_CODE_USE_[A-Z0-9_]{1,60}")
_PROVIDER_DETAIL = re.compile(
    r"ANTHROPIC_(?:BEDROCK|VERTEX|FOUNDRY|AWS|GOOGLE_CLOUD)_[A-Z0-9_]{1,60}"
)
_OFF = frozenset({"", "0", "false", "no", "off", "none", "null"})

_HELPERS: Mapping[str, str] = {
    "apiKeyHelper": "a program that supplies an API key, billed per token",
    "credentialHelper": "a program that supplies a key",
    "inferenceCredentialHelper": "a program that supplies a key",
    "awsAuthRefresh": "a login to AWS, for Bedrock",
    "awsCredentialExport": "a login to AWS, for Bedrock",
    "gcpAuthRefresh": "a login to Google Cloud, for Vertex",
}

# Keys of both versions' settings; the others are reported, and not heard of by the older one.
_BLANKED_HELPERS = ("apiKeyHelper", "awsAuthRefresh", "awsCredentialExport")


# Where the box's own login lies, and that its CLI checks whom it talks to.
_BOX_OWN: Mapping[str, str] = {
    "HOME": "/plandock/home",
    "CLAUDE_CONFIG_DIR": "/plandock/home/.claude",
    "NODE_TLS_REJECT_UNAUTHORIZED": "1",
}


@dataclass(frozen=True)
class Culprit:
    """One thing that can have a run billed per token or answered by someone else.

    ``where`` is a file or "the environment", ``what`` says name and effect (never a value),
    ``remedy`` what to do.  ``decisive``: it diverts requests alone; without it, it matters only
    beside something else.
    """

    where: str
    what: str
    remedy: str
    decisive: bool = True

    def __str__(self) -> str:
        return f"{self.what} ({self.where})"


@dataclass(frozen=True)
class Verdict:
    """Who pays, by one answer of the CLI.

    ``ok``: a subscription, positively.  ``culprit`` is a sentence for people, empty when ok.
    """

    ok: bool
    source: Source
    api_key_source: str
    subscription: str
    culprit: str = ""

    def permits(self, billing: str) -> bool:
        """Whether a run with the setting ``billing`` may start on this answer."""
        if billing == "api-key":
            return self.source == "api-key"
        return billing in ("subscription", WITH_CREDITS) and self.ok


def find_culprits(
    *,
    environ: Mapping[str, str],
    config_dir: Path,
    repo: Path | None,
    managed: Path | None = None,
) -> list[Culprit]:
    """Everything in these places that can change who is billed, the gravest place first.

    ``config_dir`` is Claude Code's folder, ``repo`` the folder that the CLI is started in,
    ``managed`` the folder of managed settings (default: this system's).  A file that cannot be
    read is reported as such, for it may say anything; nothing is raised.
    """
    found = list(_in_environment(environ, "the environment", settings=False))
    folder = managed_dir() if managed is None else managed
    files = [folder / "managed-settings.json", *_dropins(folder / "managed-settings.d")]
    files += [config_dir / "settings.json", config_dir / "settings.local.json"]
    if repo is not None:
        files += [repo / ".claude" / "settings.json", repo / ".claude" / "settings.local.json"]
    for file in dict.fromkeys(files):
        found += _in_settings(file)
    for file in (config_dir / ".claude.json", config_dir.parent / ".claude.json"):
        found += _in_state(file)
    return found


def managed_dir() -> Path:
    """Where an organisation's own settings lie on this system."""
    if sys.platform == "darwin":
        return Path("/Library/Application Support/ClaudeCode")
    return Path("/etc/claude-code")


def neutral_settings(*, base_url: str, kind: str) -> dict[str, Any]:
    """Settings for the box under which no user's or project's file can change who pays.

    To be given as ``--settings`` or as managed settings, both of which go before the others.
    Measured with both versions, against a project with each of these in its ``env`` block or as
    ``apiKeyHelper``: requests carry the login's own token again.  The one exception is
    ``ANTHROPIC_UNIX_SOCKET`` with 2.1.197: it stays, no request arrives anywhere, and the blanks
    beside it are dropped; :func:`find_culprits` names it.  ``base_url`` is where requests
    are to go, ``kind`` the :class:`~plandock.claude.credentials.Login`'s: the variable that
    carries that very login is left alone.
    """
    names = {*_KEYS, *_OTHER_LOGINS, *(f"CLAUDE_CODE_USE_{name}" for name in _PROVIDERS)}
    names -= {{"setup-token": "CLAUDE_CODE_OAUTH_TOKEN", "api-key": "ANTHROPIC_API_KEY"}.get(kind)}
    env = dict.fromkeys(sorted(names), "")
    env["ANTHROPIC_BASE_URL"] = base_url
    env |= _BOX_OWN
    return {"env": env, **dict.fromkeys(_BLANKED_HELPERS, "")}


def judge_auth_status(data: object, *, kind: str = "") -> Verdict:
    """What ``claude auth status`` (its JSON, parsed) says about who pays.

    ``kind`` is the :class:`~plandock.claude.credentials.Login`'s, where known: a login from a
    file that is answered with ``oauth_token`` has been overridden by a token variable.
    """
    if not isinstance(data, Mapping):
        return _unknown("`claude auth status` did not answer with a JSON object")
    provider, method = data.get("apiProvider"), data.get("authMethod")
    key_source, plan = _word(data.get("apiKeySource")), _word(data.get("subscriptionType"))
    if provider != "firstParty":
        return _unknown(f"requests would go to {_word(provider) or 'an unknown provider'}", plan)
    # Before the method: 2.1.197 says "claude.ai" beside ANTHROPIC_API_KEY, and bills the key.
    if key_source not in ("", "none"):
        return _api_key(key_source, plan)
    if "apiKeySource" in data and data["apiKeySource"] not in (None, "none"):
        return _unknown("`claude auth status` names a key's source that is not a word", plan)
    if method in ("api_key", "api_key_helper"):
        return _api_key(str(method), plan)
    if data.get("loggedIn") is not True:
        return _unknown("the CLI is not logged in", plan)
    expected = {"file": ("claude.ai",), "keychain": ("claude.ai",),
                "setup-token": ("oauth_token",)}  # fmt: skip
    if method in expected.get(kind, ("claude.ai", "oauth_token")):
        return Verdict(True, "subscription", "none", plan)
    if method == "oauth_token":
        return _unknown("a token variable (ANTHROPIC_AUTH_TOKEN?) goes before the login", plan)
    return _unknown(f"the CLI logs in by {_word(method) or 'a way not known'}", plan)


def judge_init(message: object, *, official: bool = False) -> Verdict:
    """What the first message of ``stream-json`` (type system, subtype init) says about who pays.

    Needed and not enough: see the module's text.  ``official`` says that the CLI talks to
    Anthropic's own address, so that ``served_by_anthropic: false`` (newer versions; false for
    every other address) is a culprit.
    """
    if not isinstance(message, Mapping) or (message.get("type"), message.get("subtype")) != (
        "system",
        "init",
    ):
        return _unknown("the CLI did not begin with its init message")
    source = message.get("apiKeySource")
    if official and message.get("served_by_anthropic", True) is not True:
        return _unknown("requests would not be answered by Anthropic")
    if source == "none":
        return Verdict(True, "subscription", "none", "")
    word = _word(source)
    if not word:
        return _unknown("the CLI does not say where its key is from (apiKeySource)")
    return _api_key(word, "")


def _api_key(source: str, plan: str) -> Verdict:
    reasons = {
        "ANTHROPIC_API_KEY": "ANTHROPIC_API_KEY is set",
        "apiKeyHelper": "apiKeyHelper is set in a settings file",
        "api_key_helper": "apiKeyHelper is set in a settings file",
        "/login managed key": "the CLI is logged in to the Console (primaryApiKey)",
    }
    why = reasons.get(source, f"the CLI takes a key from {source}")
    return Verdict(False, "api-key", source, plan, f"{why}: that is billed per token")


def _unknown(why: str, plan: str = "") -> Verdict:
    return Verdict(False, "unknown", "", plan, why)


def _word(value: object) -> str:
    """A short name out of the CLI's answer, fit to be shown; empty for anything else."""
    if not isinstance(value, str) or not re.fullmatch(r"[\x20-\x7e]{1,80}", value):
        return ""
    return redact(value)


def _in_environment(values: Mapping[Any, Any], where: str, *, settings: bool) -> Iterator[Culprit]:
    keys = {**_KEYS, **_OTHER_LOGINS} if settings else _KEYS
    remedy = "take it out of the file's env block" if settings else "unset it"
    for name, value in values.items():
        if not isinstance(name, str) or value is None or value == "":
            continue
        if name in keys:
            yield Culprit(where, f"{name}: {keys[name]}", remedy)
        elif _SWITCH.fullmatch(name) and name not in _NO_PROVIDERS:
            # Only a plain word switches it off; a list or an object is not understood.
            if str(value).strip().lower() not in _OFF:
                yield Culprit(where, f"{name}: requests go to another provider", remedy)
        elif _PROVIDER_DETAIL.fullmatch(name):
            yield Culprit(where, f"{name}: a detail of another provider", remedy, decisive=False)


def _in_settings(file: Path) -> Iterator[Culprit]:
    try:
        held = jsonfile.read_object(file)
    except jsonfile.Unreadable as error:
        yield _closed(file, str(error))
        return
    if held is None:
        return
    for name, effect in _HELPERS.items():
        if held.get(name):
            yield Culprit(str(file), f"{name}: {effect}", f"take {name} out of the file")
    if held.get("forceLoginMethod") == "console":
        yield Culprit(
            str(file), "forceLoginMethod: logins are to the Console, billed per token",
            "take forceLoginMethod out of the file", decisive=False,
        )  # fmt: skip
    env = held.get("env")
    if isinstance(env, Mapping):
        yield from _in_environment(env, str(file), settings=True)
    elif env:
        yield _closed(file, "has an env block that is not an object")


def _in_state(file: Path) -> Iterator[Culprit]:
    """``.claude.json``: state of the CLI, of which the box gets one of its own."""
    try:
        held = jsonfile.read_object(file, limit=64 * 1024 * 1024)
    except jsonfile.Unreadable as error:
        yield Culprit(str(file), f"{file.name} {error}", "repair it", decisive=False)
        return
    if held is None:
        return
    if held.get("primaryApiKey"):
        yield Culprit(
            str(file), "primaryApiKey: a login to the Console, billed per token",
            "run `claude`, /logout, and log in with the subscription", decisive=False,
        )  # fmt: skip
    answers = held.get("customApiKeyResponses")
    if isinstance(answers, Mapping) and answers.get("approved"):
        yield Culprit(
            str(file), "customApiKeyResponses: an API key has been approved for use",
            "it counts only while ANTHROPIC_API_KEY is set", decisive=False,
        )  # fmt: skip


def _dropins(folder: Path) -> list[Path]:
    try:
        names = sorted(x for x in folder.iterdir() if x.suffix == ".json")
    except OSError:
        return []
    return names


def _closed(file: Path, why: str) -> Culprit:
    return Culprit(
        str(file), f"{file.name} {why}, so nothing is known of what it sets", "repair or remove it"
    )
