"""The cases of a file side by side: every one is taken, and one that fails fails no other."""

import itertools
import threading

import pytest

from tests.support import machine, pairs, run_batch
from tests.support.run_batch import Case, RunBatch

NEWEST = pairs.Pair("docker", "newest")


@pytest.fixture
def take(monkeypatch, tmp_path):
    """Take cases whose acts need no engine; what became of them."""
    monkeypatch.setattr(run_batch, "why_engine_is_absent", lambda engine: "")
    folders = (tmp_path / str(number) for number in itertools.count())

    def of(*acts, at_once=2):
        cases = [Case(f"case-{number}", act, NEWEST) for number, act in enumerate(acts)]
        made = RunBatch(cases, lambda: next(folders), at_once)
        try:
            made.run()
            return list(made.results.values())
        finally:
            made.close()

    return of


def test_a_batch_takes_every_case_when_one_fails(take):
    """The others have no error, and that of the first names its place."""
    seen = []
    first, second, third = take(
        lambda _: 1 / 0, lambda result: seen.append(result), lambda result: seen.append(result)
    )
    assert "ZeroDivisionError" in first.error
    assert "ZeroDivisionError" in first.story()
    assert (second.error, third.error) == ("", "")
    assert set(seen) == {second, third}


def test_a_batch_takes_cases_side_by_side_and_no_more_than_it_may(take):
    """Two meet where two may go; none ever meets two others."""
    lock, going, most = threading.Lock(), [], []
    meeting = threading.Barrier(2, timeout=600)

    def meet(result):
        with lock:
            going.append(result)
            most.append(len(going))
        meeting.wait()
        with lock:
            going.remove(result)

    assert [result.error for result in take(meet, meet, meet, meet)] == [""] * 4
    assert max(most) == 2


@pytest.mark.parametrize("engines", [("docker", "podman"), ("docker",), ("podman",)])
def test_pairs_name_every_engine_and_every_version_of_the_cli(monkeypatch, engines):
    """With one engine both versions; with two the newest with the first."""
    monkeypatch.setenv("PLANDOCK_TEST_ENGINES", ",".join(engines))
    found = pairs.pairs()
    assert {pair.engine for pair in found} == set(engines)
    assert {pair.version for pair in found} == set(machine.CLI_VERSIONS)
    assert len(found) == 2
    assert found[0] == pairs.Pair(engines[0], "newest")


def test_pairs_are_the_whole_product_when_the_matrix_is_full(monkeypatch):
    """`PLANDOCK_TEST_MATRIX=full`."""
    monkeypatch.setenv("PLANDOCK_TEST_ENGINES", "docker,podman")
    monkeypatch.setattr(pairs, "FULL", True)
    found = {(pair.engine, pair.version) for pair in pairs.pairs()}
    assert found == set(itertools.product(machine.ENGINES, machine.CLI_VERSIONS))
