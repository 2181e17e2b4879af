"""Certificates of the user's own clients, for the box: public ones, and nothing else.

A file that is named as a bundle may hold a private key as well, or be something else altogether.
So what goes along is written anew from what parses as a certificate.
"""

from __future__ import annotations

import base64
import binascii
import re
import ssl
from collections.abc import Iterable, Mapping

from plandock.gateway.clients.user import User

MOST_BYTES = 1 << 20
# What programs of the user read, whichever client they belong to.
VARIABLES = (
    "SSL_CERT_FILE",
    "NODE_EXTRA_CA_CERTS",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
)
_BLOCK = re.compile(r"-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]{1,65536})-----END CERTIFICATE-")


def named(environ: Mapping[str, str]) -> list[str]:
    """The bundles that the user's variables name."""
    return [environ[name] for name in VARIABLES if environ.get(name)]


def collect(user: User, files: Iterable[str], texts: Iterable[str]) -> tuple[str, list[str]]:
    """Every certificate of these files and texts, once, as PEM; and what is to be noted.

    Relative paths are passed over: they would be looked up in somebody's working directory.
    """
    sources = list(texts)
    for name in dict.fromkeys(files):
        path = str(user.home / name[2:]) if name.startswith("~/") else name
        if path.startswith("/"):
            sources.append(user.text(path))
    found: dict[bytes, None] = {}
    for text in sources:
        for block in _BLOCK.finditer(text):
            der = _parsed(block[1])
            if der:
                found.setdefault(der)
    pem, notes = "", []
    for der in found:
        one = ssl.DER_cert_to_PEM_cert(der)
        if len(pem) + len(one) > MOST_BYTES:
            notes.append("your certificates are more than fit into the box; the rest stays here")
            break
        pem += one
    return pem, notes


def _parsed(text: str) -> bytes | None:
    """The certificate in DER; ``None`` where the TLS library does not take it for one."""
    try:
        der = base64.b64decode("".join(text.split()), validate=True)
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=der)
    except (binascii.Error, ValueError, ssl.SSLError):
        return None
    return der
