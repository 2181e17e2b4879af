"""Nothing that comes from a box can move the cursor, set a title or turn the direction."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plandock.printable import one_line, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ü 日本 👩‍💻\n\ttab", "plain ü 日本 👩‍💻\n\ttab"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b[2J\x1b[1;1Hcleared", "cleared"),
        ("\x1b]0;title\x07text", "text"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1b]0;without an end\nnext", "0;without an end\nnext"),
        ("\x1bPq#0\x1b\\sixel", "sixel"),
        ("\x9b31mred", "red"),
        ("\x9d0;title\x9ctext", "text"),
        ("\x1bcreset\x1b(0", "reset"),
        ("over\rwritten", "overwritten"),
        ("line\r\nend", "line\nend"),
        ("a\u2028b", "a\nb"),
        ("bell\x07 back\x08 del\x7f nul\x00", "bell back del nul"),
        ("\u202etxt.exe\u202c \u2066x\u2069 \u200f", "txt.exe x "),
        ("zero\u200bwidth\ufeff\U000e0041", "zerowidth"),
        ("bytes \udcff\udc41 \ud800", "bytes \\xff\ufffd \ufffd"),
        ("\x1b\x1b[31mx", "x"),
    ],
)
def test_controls_go_and_words_stay(text, shown):
    """Sequences go as a whole, so that their letters do not stay behind."""
    assert printable(text) == shown


@given(st.text())
def test_nothing_left_acts_on_a_terminal(text):
    """Whatever the text was, the result can be encoded and holds no control."""
    shown = printable(text)
    shown.encode()
    assert not [c for c in shown if unicodedata.category(c) == "Cc" and c not in "\n\t"]
    assert printable(shown) == shown


def test_one_line_is_one_line_of_bounded_length():
    """For tables and messages."""
    assert one_line(" a\n\tb \x1b[1m c ") == "a b c"
    assert one_line("x" * 1000, limit=10) == "x" * 9 + "…"
