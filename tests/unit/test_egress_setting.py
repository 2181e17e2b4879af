"""The setting `egress`: which words it takes, and what it says about the others."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plandock.settings import hosts
from plandock.settings.kinds import HOSTS


@pytest.mark.parametrize(
    "entry",
    [*hosts.PRESETS, "api.example.com", "a.b", "*.example.com", "*.a.example.co.uk", "API.Example"],
)
def test_host_names_presets_and_narrow_wildcards_are_taken(entry: str) -> None:
    """The entry counts, in lower case."""
    assert HOSTS.check([entry]) == (entry.lower(),)


def test_an_empty_list_means_anthropic_alone() -> None:
    """Nothing has to be named."""
    assert HOSTS.check([]) == ()


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        ("*", "before a domain"),
        ("*.com", "two names after it"),
        ("*.co.uk", "anybody"),
        ("*.com.au", "anybody"),
        ("*.github.io", "anybody"),
        ("*.amazonaws.com", "anybody"),
        ("*.s3.eu-west-1.amazonaws.com", "anybody"),
        ("*.blob.core.windows.net", "anybody"),
        ("*.trycloudflare.com", "anybody"),
        ("a.*.com", "before a domain"),
        ("*.*.com", "before a domain"),
        ("*example.com", "before a domain"),
        ("10.0.0.1", "an address"),
        ("[::1]", "an address"),
        ("fe80::1", "an address"),
        ("*.0.0.1", "not the name"),
        ("a.0x7f", "not the name"),
        ("a.example.com:22", "without a port"),
        ("https://a.example.com/", "without https://"),
        ("localhost", "this machine"),
        ("x.localhost", "this machine"),
        ("pip", "did you mean pypi?"),
        ("cargo", "did you mean crates?"),
        ("apt", "did you mean debian?"),
        ("golang", "did you mean go?"),
        ("yarn", "did you mean npm?"),
        ("debain", "did you mean debian?"),
        ("frobnicate", "npm, pypi, crates, go, debian)"),
        ("a..example.com", "not the name"),
        ("-a.example.com", "not the name"),
        ("a.example.com\n", ""),
        ("", "npm, pypi"),
    ],
)
def test_everything_else_is_refused_with_the_reason(entry: str, why: str) -> None:
    """No bare or wide wildcard, no literal, no port, no address of this machine, no typo."""
    with pytest.raises(ValueError) as caught:
        HOSTS.check([entry])
    assert why in str(caught.value)


@given(st.text(max_size=300))
def test_whatever_is_taken_is_a_preset_or_a_name_that_a_gateway_can_compare(text: str) -> None:
    """Any text: a verdict without a crash, and nothing odd is let through."""
    if hosts.complaint(text):
        return
    name = text.lower().removeprefix("*.")
    assert name in hosts.PRESETS or (
        "." in name and set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789.-")
    )
    assert not name.replace(".", "").isdigit()
