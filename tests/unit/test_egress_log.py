"""What is kept of the gateway's decisions: each with its reason, and those that went unwritten."""

from __future__ import annotations

import json
from typing import Any

import pytest

from plandock import paths
from plandock.cli import egress_log
from plandock.runs.model import Run, RunId, State
from plandock.runs.store import Store
from plandock.supervisor import egress, receipt
from plandock.supervisor.egress import counted, decision_of, merged


def said(**facts: object) -> dict[str, object]:
    """A line of the gateway's log, as it is read."""
    found = decision_of(json.dumps({"at": "2026-01-02T03:04:05Z", **facts}))
    assert found is not None
    return found


def test_one_host_refused_for_two_reasons_is_two_entries() -> None:
    """Neither reason hides the other; the receipt's line still names the host once."""
    lines = [
        said(decision="refused", target="a.example.com", why="the name does not resolve"),
        said(decision="refused", target="a.example.com", why="the Host header names another host"),
        said(decision="refused", target="a.example.com", why="the name does not resolve"),
    ]
    entries = counted(lines)
    assert [(e["why"], e["count"]) for e in entries] == [
        ("the name does not resolve", 2),
        ("the Host header names another host", 1),
    ]
    assert "a.example.com ×3" in receipt.as_text(Run(id=RunId("r7k2"), egress=entries))


def test_decisions_that_were_not_written_are_counted_in_log_and_receipt() -> None:
    """A flood is not to look like a few refusals, in whatever box of the run it came."""
    flood = said(decision="suppressed", refused=59, others=3)
    assert (flood["decision"], flood["count"]) == ("suppressed", 59)
    entries = merged(counted([flood]), [said(decision="suppressed", refused=2, others=0)])
    assert [(e["decision"], e["count"]) for e in entries] == [("suppressed", 61)]
    assert "and 61 more" in receipt.as_text(Run(id=RunId("r7k2"), egress=entries))


def test_many_refused_hosts_do_not_crowd_the_count_out_of_the_receipt() -> None:
    """The line is cut somewhere; what it says at its end is the point of it."""
    many = [said(decision="refused", target=f"{n:03}{'x' * 290}", why="x") for n in range(50)]
    entries = counted([*many, said(decision="suppressed", refused=7, others=0)])
    shown = receipt.as_text(Run(id=RunId("r7k2"), egress=entries))
    assert "and 42 more (plandock logs r7k2 --egress)" in shown
    assert "and 7 more, too many at once" in shown


def test_more_hosts_than_are_kept_are_counted_too() -> None:
    """The list is bounded, the number is not."""
    many = [said(decision="refused", target=f"h{n}.example.com", why="x") for n in range(600)]
    entries = counted(many)
    assert sum(e["count"] for e in entries) == 600
    assert entries[-1]["decision"] == "suppressed"
    assert entries[-1]["count"] == 100


class Gateways:
    """An engine that has at most one gateway, with this log."""

    def __init__(self, *lines: bytes) -> None:
        self.lines = lines

    def inspect(self, _: str) -> object:
        return object() if self.lines else None


def test_each_decision_is_kept_and_printed_as_a_line_of_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of every attempt, also when the next supervisor finds the gateway gone: none twice."""
    paths.make_private(paths.run_dir("r7k2"))
    first = [said(decision="allowed", target="a.example.com", why=None)]
    second = [said(decision="refused", target=f"{n}.example.com", why="x") for n in (1, 1, 2)]
    there, gone = Gateways(b"something"), Gateways()
    for attempt, lines in ((1, first), (2, second)):
        run = Run(id=RunId("r7k2"), attempt=attempt, state=State.DONE)
        monkeypatch.setattr(egress, "decisions", lambda *_, lines=lines: iter(lines))
        engines: list[Any] = [there, there, gone]
        for engine in engines:
            assert list(egress.keep(engine, run)) == lines
    with Store() as store:
        run, _ = store.add(run, name_branch=lambda _: "feature/auto")
        egress_log.show(store, run, follow=False, as_json=False)
        shown = capsys.readouterr().out
        egress_log.show(store, run, follow=False, as_json=True)
    assert [json.loads(line) for line in shown.splitlines()] == [*first, *second]
    assert json.loads(capsys.readouterr().out) == [*first, *second]


def test_other_lines_of_the_log_are_no_decisions() -> None:
    """Nothing that is not one, however it looks."""
    for line in ("", "{", "[]", '{"decision": "closed"}', '{"decision": ["refused"]}', "[" * 9999):
        assert decision_of(line) is None
