"""What a client's settings come down to: hosts, and addresses without anybody's login."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from plandock.settings.hosts import is_host_name

# What may stand in a file that is written in the box: no quote, no space, no control character.
_PATH = re.compile(r"[A-Za-z0-9._~/@+%=:,-]{0,1024}")
_BLANK = re.compile(r"[\x00-\x20\x7f]")
# Some services put a login into the path: a long word of letters and digits mixed.
_TOKEN = re.compile(r"/(?=[A-Za-z]*[0-9])(?=[0-9]*[A-Za-z])[A-Za-z0-9]{20,}(?=/|$)")
LOGIN = "the mirror of {what} needs a login; it isn't taken along"


@dataclass
class Found:
    """What one client is set up for.

    ``box`` is what the box's clients are told (``box/inside/clients.py`` reads it), ``ca_files``
    and ``ca_texts`` are where the client's own certificates are.  ``notes`` name no address.
    """

    what: str
    hosts: list[str] = field(default_factory=list)
    box: dict[str, Any] = field(default_factory=dict)
    ca_files: list[str] = field(default_factory=list)
    ca_texts: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        """Say something once."""
        if text not in self.notes:
            self.notes.append(text)

    def needs_login(self) -> None:
        """Say that a login stays behind."""
        self.note(LOGIN.format(what=self.what))

    def names_nothing(self) -> None:
        """Say that the hosts are not known: none is written down here to fall back on."""
        self.note(f"{self.what} here names no host; write those that it needs into `egress`")

    def host(self, name: str) -> None:
        """Allow one more host of the client's, by its name."""
        self.address(f"https://{name}/")

    def address(self, text: str, *, http_too: bool = False) -> str | None:
        """A client's address as the box may have it, its host being allowed; ``None``: refused.

        Always https on 443 (``http_too``: plain http, the client's default, is rewritten to it)
        and without login, query and fragment.
        """
        text = text.strip()
        try:
            # urlsplit would take tabs and line breaks out and go on.
            parts = urlsplit("" if _BLANK.search(text) else text)
            host, port = (parts.hostname or "").lower().rstrip("."), parts.port
        except ValueError:
            host, port, parts = "", None, urlsplit("")
        plain = http_too and parts.scheme == "http" and port in (None, 80)
        if not plain and (parts.scheme != "https" or port not in (None, 443)):
            self.note(f"an address of {self.what} is not https on port 443; it stays out of reach")
            return None
        if not is_host_name(host) or not _PATH.fullmatch(parts.path):
            self.note(f"an address of {self.what} is not usable in the box; it stays out of reach")
            return None
        if _TOKEN.search(parts.path):
            self.note(f"an address of {self.what} seems to hold a token; it isn't taken along")
            return None
        if parts.username or parts.password or parts.query or parts.fragment:
            self.needs_login()
        if host not in self.hosts:
            self.hosts.append(host)
        return f"https://{host}{parts.path}"
