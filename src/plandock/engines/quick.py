"""Whether an engine seems to be up, as fast as can be told: the hook asks before it hands off.

No process is started and nothing but a few modules of the standard library is loaded.  A wrong
"seems up" costs a run that waits for its engine; a wrong "is down" would cost the hand-off, so
whatever cannot be told quickly counts as up.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket

_TIMEOUT_S = 1.0
_DEFAULT_SOCKET = "/var/run/docker.sock"


def quick_check(name: str) -> str | None:
    """``None`` where the engine (``docker``, ``podman`` or ``auto``) seems up, else one line."""
    if name == "docker":
        return _docker()
    if name == "podman":
        return _podman()
    docker = _docker()
    if docker is None or _podman() is None:
        return None
    return f"{docker}, and podman is not installed"


def _podman() -> str | None:
    return None if _on_path("podman") else "podman is not installed"


def _docker() -> str | None:
    if not _on_path("docker"):
        return "docker is not installed"
    endpoint = docker_endpoint()
    if not endpoint.startswith("unix://"):
        return None  # tcp and ssh take too long to ask, and may need keys
    path = endpoint.removeprefix("unix://")
    try:
        answer = _ping(path)
    except FileNotFoundError:
        return f"docker is not running (no {path})"
    except PermissionError:
        return f"docker's socket {path} may not be opened by this user"
    except (ConnectionRefusedError, NotADirectoryError):
        return "docker is not running"
    except OSError:
        # It hangs, its queue is full, it broke off, or this machine has no memory to spare just
        # now: none of it says that docker is down, and a run would wait for it.
        return None
    # "HTTP/1.1 200 OK"; a connection that ends before the whole status came tells nothing (seen on
    # a busy machine), and a run would wait for its engine.
    status = answer[9:12]
    whole = len(status) == 3 and status.isdigit()
    return "docker answers, but not well" if whole and status != b"200" else None


def _ping(path: str) -> bytes:
    """The status line of ``GET /_ping`` (Docker Engine API, since 1.13)."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
        link.settimeout(_TIMEOUT_S)
        link.connect(path)
        link.sendall(b"GET /_ping HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\r\n")
        return link.recv(512).split(b"\r\n", 1)[0]


def docker_endpoint() -> str:
    """Where docker's client would look: ``DOCKER_HOST``, the context, or the default socket.

    A context ``NAME`` is described in ``contexts/meta/<sha256(NAME)>/meta.json`` of the
    configuration folder.  An unreadable description gives the empty string.
    """
    host = os.environ.get("DOCKER_HOST", "")
    if host:
        return host
    folder = os.environ.get("DOCKER_CONFIG", "") or os.path.expanduser("~/.docker")
    context = os.environ.get("DOCKER_CONTEXT", "")
    if not context:
        config = _read(os.path.join(folder, "config.json"))
        context = str(config.get("currentContext") or "default")
    if context == "default":
        return f"unix://{_DEFAULT_SOCKET}"
    digest = hashlib.sha256(context.encode("utf-8", "surrogateescape")).hexdigest()
    meta = _read(os.path.join(folder, "contexts", "meta", digest, "meta.json"))
    endpoints = meta.get("Endpoints")
    docker = endpoints.get("docker") if isinstance(endpoints, dict) else None
    return str(docker.get("Host") or "") if isinstance(docker, dict) else ""


def _read(path: str) -> dict[str, object]:
    try:
        with open(path, "rb") as file:
            found = json.load(file)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _on_path(program: str) -> bool:
    return any(
        os.access(os.path.join(folder, program), os.X_OK)
        for folder in os.environ.get("PATH", os.defpath).split(os.pathsep)
    )
