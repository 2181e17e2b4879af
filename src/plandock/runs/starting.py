"""Starting the process that drives a run.  Standard library only: the hook imports this."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from plandock import paths, proc

# All that a supervisor gets of the caller's environment (git and the engine's client through
# it): where things are, the engine, the way to a registry, the language and the desktop.
_PASSED = frozenset(
    {
        "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TZ", "TMPDIR", "TERM",
        "CLAUDE_CONFIG_DIR", "CONTAINER_HOST", "CONTAINER_SSHKEY", "SSH_AUTH_SOCK",
        "SSL_CERT_FILE", "SSL_CERT_DIR", "NODE_EXTRA_CA_CERTS", "REQUESTS_CA_BUNDLE",
        "CURL_CA_BUNDLE", "GIT_SSL_CAINFO",
        "LD_LIBRARY_PATH", "DBUS_SESSION_BUS_ADDRESS", "DISPLAY", "WAYLAND_DISPLAY",
        "GOPROXY", "GOPATH", "GOENV", "GOSUMDB", "GONOSUMDB", "GOPRIVATE", "GOFLAGS", "RUSTUP_HOME",
    }
)  # fmt: skip
_PASSED_PREFIXES = (
    "LC_", "XDG_", "DOCKER_", "CONTAINERS_", "BUILDKIT_", "NPM_CONFIG_", "PIP_", "UV_", "CARGO_",
    "__CF_USER_TEXT_ENCODING", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY",
)  # fmt: skip


def start_supervisor(
    run_id: str, environ: Mapping[str, str] | None = None, *, billing: str = "subscription"
) -> int:
    """Start the run's supervisor, detached; returns its pid.  A second one ends by itself.

    Its environment is built from an allowlist; of the ``PLANDOCK_*`` variables it gets those of
    ``environ`` (default: this process's).
    """
    environ = os.environ if environ is None else environ
    ours = {n: v for n, v in environ.items() if n.startswith("PLANDOCK_")}
    env = proc.clean_environment(keep=_PASSED)
    env = {n: v for n, v in env.items() if n in _PASSED or n.upper().startswith(_PASSED_PREFIXES)}
    env |= ours
    chosen_key = os.environ.get("ANTHROPIC_API_KEY", "")
    if chosen_key and billing == "api-key":
        env["ANTHROPIC_API_KEY"] = chosen_key
    entry = Path(__file__).parent.parent / "supervisor" / "__main__.py"
    return proc.start_detached(
        # With site, unlike the hook: the image takes in h11, which lies there.
        [sys.executable, "-I", str(entry), run_id],
        log=paths.run_dir(run_id) / "supervisor.log",
        env=env,
    )
