"""What the gateway of a sealed run is told when it is made; and what it is not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from plandock.box import launch
from plandock.runs.model import Run, RunId
from plandock.settings.keys import Settings


def _wish(mode: str, *, upstream: str = "", egress: tuple[str, ...] = ()) -> dict[str, Any]:
    run = Run(id=RunId("r7k2"), repo="/home/ada/project", upstream=upstream)
    spec = launch.gateway_spec(run, "image", Settings(credentials=mode), {n: [] for n in egress})
    wish: dict[str, Any] = json.loads(spec.env["PLANDOCK_GATEWAY"])
    return wish


def test_sealed_means_a_route_to_the_api_and_no_tunnel_to_it() -> None:
    """In a tunnel an agent could use a key of its own; without `sealed` there is one, of course."""
    wish = _wish("sealed", egress=("example.com",))
    assert (wish["api"]["host"], wish["api"]["port"], wish["api"]["tls"]) == (
        "api.anthropic.com", 443, True,
    )  # fmt: skip
    assert wish["allow"] == {"example.com": []}
    assert wish["upstream"] is None
    open_wish = _wish("host", egress=("example.com",))
    assert "api" not in open_wish
    assert open_wish["allow"] == {"api.anthropic.com": [], "example.com": []}


@pytest.mark.parametrize(
    "name", ["api.anthropic.com", "API.Anthropic.com.", "*.anthropic.com", "*.com"]
)
def test_egress_does_not_open_the_tunnel_again(name: str) -> None:
    """However it is written; a name that only looks alike stays (positive control)."""
    wish = _wish("sealed", egress=(name, "docs.anthropic.com"))
    assert wish["allow"] == {"docs.anthropic.com": []}


def test_a_stand_in_takes_the_apis_place_behind_the_token() -> None:
    """The route that adds the token goes to the stand-in, plainly; there is no second route."""
    wish = _wish("sealed", upstream="http://127.0.0.1:4321")
    assert (wish["api"]["port"], wish["api"]["tls"], wish["upstream"]) == (4321, False, None)
    assert _wish("host", upstream="http://127.0.0.1:4321")["upstream"]["port"] == 4321
