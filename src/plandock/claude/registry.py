"""Which npm registry the user's machine is set up for, and how it is asked.

No address stands in the code: it comes from the setting, from npm's environment variables, from
the user's ``.npmrc``, or from npm itself.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from plandock import paths, proc
from plandock.errors import PlandockError

if TYPE_CHECKING:
    import http.client
    import ssl

_SCOPE = "@anthropic-ai:registry"
_TIMEOUT_S = 60.0
_VARIABLE = re.compile(r"\$\{([^}]+)\}")
_HINT = "check the network and npm's settings, or set npm_registry"


@dataclass(frozen=True)
class Registry:
    """An npm registry.  ``address`` ends without a slash; ``authorization`` is a secret."""

    address: str
    authorization: str = field(default="", repr=False)
    ca_file: str = ""

    @property
    def shown(self) -> str:
        """The host alone: an address may carry a password."""
        return urlsplit(self.address).hostname or "?"


def find(environ: Mapping[str, str], setting: str = "") -> Registry:
    """The registry for packages of Anthropic's scope.

    In order: the setting; the scope's own registry, in the environment or the user's ``.npmrc``;
    ``npm_config_registry``; ``registry`` of ``.npmrc``; what npm says.  Raises
    :class:`PlandockError` with the next step where none of them gives one.
    """
    own = _user_configuration(environ)
    env = from_variables(environ)
    address = setting or env.get(_SCOPE) or own.get(_SCOPE) or env.get("registry")
    address = address or own.get("registry")
    ca_file = env.get("cafile") or own.get("cafile") or ""
    if not address:
        asked = _ask_npm()
        address = asked.get(_SCOPE) or asked.get("registry") or ""
        ca_file = ca_file or asked.get("cafile", "")
    parts = urlsplit(address)
    if parts.scheme not in ("https", "http") or not parts.hostname:
        raise PlandockError(
            "it is not known where npm packages come from on this machine",
            hint="install npm, or set npm_registry to the address of your npm registry",
        )
    return Registry(address.rstrip("/"), _authorization(address, {**own, **env}), ca_file)


def from_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """npm's settings from the environment: ``npm_config_NAME``, in any case of the prefix."""
    found: dict[str, str] = {}
    for name, value in environ.items():
        if name.lower().startswith("npm_config_") and value:
            key = name[len("npm_config_") :]
            # npm lowers the names and reads _ as -, but leaves addresses (//host/:_auth) alone.
            found[key if key.startswith("//") else key.lower()] = value
    return found


def _user_configuration(environ: Mapping[str, str]) -> dict[str, str]:
    """The user's own ``.npmrc``; never a project's, which the repository would choose."""
    named = environ.get("npm_config_userconfig") or environ.get("NPM_CONFIG_USERCONFIG") or ""
    path = Path(named) if named else paths.home() / ".npmrc"
    try:
        text = path.read_text("utf-8", "replace")
    except OSError:
        return {}
    return read_npmrc(text, environ)


def read_npmrc(text: str, environ: Mapping[str, str]) -> dict[str, str]:
    """The settings of an ``.npmrc``, ``${NAME}`` filled in from ``environ`` where it is set."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        key, equals, value = line.strip().partition("=")
        if not equals or key.startswith(("#", ";", "[")):
            continue
        value = value.strip()
        if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
            value = value[1:-1]
        found[key.strip()] = _VARIABLE.sub(lambda m: environ.get(m[1], m[0]), value)
    return found


def _authorization(address: str, settings: Mapping[str, str]) -> str:
    """The header for a registry, by npm's rule: settings are keyed by address without scheme."""
    parts = urlsplit(address)
    path = parts.path.rstrip("/")
    host = parts.hostname or ""
    while True:
        port = f":{parts.port}" if parts.port else ""
        for key in (f"//{host}{port}{path}/", f"//{host}{port}{path}"):
            if token := settings.get(f"{key}:_authToken"):
                return f"Bearer {token}"
            if basic := settings.get(f"{key}:_auth"):
                return f"Basic {basic}"
        if not path:
            return ""
        path = path.rpartition("/")[0]


def _ask_npm() -> dict[str, str]:
    """npm's own settings (global files, defaults); from the root, where no project has a say."""
    try:
        done = proc.run(["npm", "config", "list", "--json"], cwd="/", timeout_s=30.0)
        found = json.loads(done.stdout)
    except (proc.ProcessFailed, ValueError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {str(k): v for k, v in found.items() if isinstance(v, str) and v != "null"}


@contextmanager
def open_address(source: Registry, address: str) -> Iterator[http.client.HTTPResponse | None]:
    """An answer of the registry; ``None`` where it has nothing there (404, 405).

    The login goes to the registry's own host alone, and to no place that it redirects to.
    Proxies of the environment and ``SSL_CERT_FILE`` are honoured.
    """
    # Here and below: an eighth of the time in which every command starts, and hardly one fetches.
    import http.client
    import urllib.error
    import urllib.request

    request = urllib.request.Request(address, headers={"Accept": "application/json, */*"})  # noqa: S310 - http(s) alone, checked by the callers
    if source.authorization and _origin(address) == _origin(source.address):
        request.add_unredirected_header("Authorization", source.authorization)
    try:
        opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=_trust(source)))
        answer = opener.open(request, timeout=_TIMEOUT_S)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code in (404, 405):
            yield None
            return
        login = error.code in (401, 403)
        raise PlandockError(
            f"the npm registry {source.shown} answered {error.code}",
            hint="check its login in ~/.npmrc" if login else _HINT,
        ) from None
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise PlandockError(
            f"the npm registry {source.shown} cannot be reached: {reason}", hint=_HINT
        ) from error
    with answer:
        yield answer


def read_block(source: Registry, answer: http.client.HTTPResponse, size: int) -> bytes:
    """The next bytes of an answer; raises :class:`PlandockError` where the line breaks."""
    import http.client

    try:
        return answer.read(size)
    except (OSError, http.client.HTTPException) as error:
        raise PlandockError(
            f"the npm registry {source.shown} broke off: {error}", hint=_HINT
        ) from error


def _origin(address: str) -> tuple[Any, ...]:
    parts = urlsplit(address)
    return parts.scheme, parts.hostname, parts.port


def _trust(source: Registry) -> ssl.SSLContext:
    """The system's authorities, and those that npm or Node were told of."""
    import ssl

    context = ssl.create_default_context()
    for path in (source.ca_file, os.environ.get("NODE_EXTRA_CA_CERTS", "")):
        if path:
            try:
                context.load_verify_locations(cafile=path)
            except (OSError, ssl.SSLError) as error:
                raise PlandockError(
                    f"the certificates in {path} cannot be read", hint="check npm's cafile"
                ) from error
    return context
