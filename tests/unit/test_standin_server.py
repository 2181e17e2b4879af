"""The stand-in over HTTP: what it serves, each failure, the log and the control address."""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from plandock.standin import (
    Failure,
    Scene,
    Script,
    StandIn,
    ToolCall,
    Turn,
    execution_scene,
    failures,
    to_json,
    write_file,
)

SCRIPT = Script((execution_scene([write_file("a.txt", "a" * 500)], match=""),))
TOKEN = "made-up-token"


@pytest.fixture
def standin() -> Iterator[StandIn]:
    """A stand-in that has found no error in itself at the end."""
    with StandIn(SCRIPT) as running:
        yield running
    assert running.errors == []


def ask(
    standin: StandIn,
    *,
    stream: bool = True,
    tools: bool = True,
    headers: dict[str, str] | None = None,
    path: str = "/v1/messages?beta=true",
    method: str = "POST",
    data: object = None,
    more: dict[str, Any] | None = None,
) -> tuple[int, http.client.HTTPMessage, bytes]:
    """Send one request; returns status, headers and body."""
    asked: dict[str, Any] = {
        "model": "some-model",
        "stream": stream,
        "messages": [{"role": "user", "content": "do it"}],
        "tools": [{"name": "Write"}] if tools else [],
        "system": "Working directory: /w",
        **(more or {}),
    }
    connection = http.client.HTTPConnection("127.0.0.1", standin.port, timeout=240)
    try:
        sent = json.dumps(asked if data is None else data)
        auth = {"Authorization": f"Bearer {TOKEN}"} if headers is None else headers
        connection.request(method, path, sent, auth)
        response = connection.getresponse()
        return response.status, response.headers, response.read()
    finally:
        connection.close()


def test_stream_holds_the_tool_call(standin: StandIn) -> None:
    """A streamed answer calls the tool with its placeholder filled."""
    status, headers, data = ask(standin)
    assert status == 200
    assert headers["Content-Type"].startswith("text/event-stream")
    assert headers["anthropic-ratelimit-unified-status"] == "allowed"
    assert data.endswith(b'event: message_stop\ndata: {"type": "message_stop"}\n\n')
    assert rb"/w/a.txt" in data


def test_whole_answer_without_stream(standin: StandIn) -> None:
    """A request that asks for no stream gets one JSON message, with the model's name echoed."""
    status, _, data = ask(standin, stream=False)
    answer = json.loads(data)
    assert status == 200
    assert (answer["model"], answer["stop_reason"]) == ("some-model", "tool_use")
    assert answer["content"][0]["input"]["file_path"] == "/w/a.txt"


def test_ids_are_unique(standin: StandIn) -> None:
    """No two answers share an id."""
    answers = [json.loads(ask(standin, stream=False)[2]) for _ in range(20)]
    ids = {a["id"] for a in answers} | {a["content"][0]["id"] for a in answers}
    assert len(ids) == 40


def test_side_request_gets_a_short_text(standin: StandIn) -> None:
    """A request without tools has no place in the script."""
    answer = json.loads(ask(standin, stream=False, tools=False)[2])
    assert answer["content"] == [{"type": "text", "text": "Stand-in conversation"}]
    assert standin.model_requests == []


def test_side_request_follows_a_wanted_schema(standin: StandIn) -> None:
    """A title that is wanted as JSON comes as JSON."""
    schema = {"type": "object", "properties": {"title": {"type": "string"}}}
    config = {"output_config": {"format": {"type": "json_schema", "schema": schema}}}
    answer = json.loads(ask(standin, stream=False, tools=False, more=config)[2])
    assert json.loads(answer["content"][0]["text"]) == {"title": "Stand-in conversation"}


def test_other_addresses(standin: StandIn) -> None:
    """HEAD / says that something is there, tokens are counted, the rest does not exist."""
    assert ask(standin, method="HEAD", path="/")[0] == 200
    assert json.loads(ask(standin, path="/v1/messages/count_tokens")[2])["input_tokens"] > 0
    status, _, data = ask(standin, path="/v1/other")
    assert (status, json.loads(data)["error"]["type"]) == (404, "not_found_error")
    assert ask(standin, method="GET", path="/x")[0] == 404
    assert ask(standin, data=[1, 2])[0] == 400
    assert [request.status for request in standin.requests] == [200, 200, 404, 404, 400]


@pytest.mark.parametrize(
    ("headers", "auth", "token"),
    [
        ({"Authorization": "Bearer t-1"}, "bearer", "t-1"),
        ({"x-api-key": "k-1"}, "x-api-key", "k-1"),
        ({}, "none", ""),
    ],
)
def test_requests_tell_who_asked(
    standin: StandIn, headers: dict[str, str], auth: str, token: str
) -> None:
    """The kind of authentication, the secret and the conversation are recorded."""
    metadata = {"metadata": {"user_id": '{"session_id": "s-1"}'}}
    _, answered, _ = ask(standin, headers={**headers, "User-Agent": "ua"}, more=metadata)
    request = standin.requests[0]
    assert (request.auth, request.token) == (auth, token)
    assert (request.scene, request.step, request.tools) == ("execute", 0, ("Write",))
    assert (request.session_id, request.user_agent, request.model) == ("s-1", "ua", "some-model")
    assert request.remote_port > 0
    assert request.body is None
    limited = "anthropic-ratelimit-unified-status" in answered
    assert limited == (auth == "bearer"), "only a subscription has a window of use"


@pytest.mark.parametrize(
    ("kind", "status", "error"),
    [
        ("overloaded", 529, "overloaded_error"),
        ("server_error", 500, "api_error"),
        ("unauthorized", 401, "authentication_error"),
        ("usage_limit", 429, "rate_limit_error"),
        ("rate_limited", 429, "rate_limit_error"),
    ],
)
def test_http_failures_happen_and_pass(
    standin: StandIn, kind: Any, status: int, error: str
) -> None:
    """A failure meets as many requests as it says, then the right answer comes."""
    standin.inject(Failure(kind, times=2))
    for _ in range(2):
        got, _, data = ask(standin)
        assert (got, json.loads(data)["error"]["type"]) == (status, error)
    assert ask(standin)[0] == 200
    assert [r.failure for r in standin.requests] == [kind, kind, ""]
    assert [r.tools for r in standin.requests] == [(), (), ("Write",)]


def test_usage_limit_says_when_it_ends(standin: StandIn) -> None:
    """The headers name the rejected window and its end in Unix seconds."""
    standin.inject(Failure("usage_limit", reset_in_s=120, limit_type="seven_day"))
    before = time.time()
    _, headers, _ = ask(standin)
    after = time.time()
    assert headers["anthropic-ratelimit-unified-status"] == "rejected"
    assert headers["anthropic-ratelimit-unified-representative-claim"] == "seven_day"
    reset = int(headers["anthropic-ratelimit-unified-reset"])
    assert before + 119 <= reset <= after + 121


def test_a_limit_that_says_nothing_names_no_end(standin: StandIn) -> None:
    """Neither in the subscription's headers nor in `retry-after`."""
    standin.inject(Failure("rate_limited"))
    names = {name.lower() for name in ask(standin)[1]}
    assert not {n for n in names if n == "retry-after" or n.startswith("anthropic-ratelimit")}


def test_usage_limit_lasts_until_its_reset(
    standin: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `until_reset` the limit holds, at one moment, and is gone after it."""
    now = [1_800_000_000.0]
    monkeypatch.setattr(failures, "time", SimpleNamespace(time=lambda: now[0]))
    standin.inject(Failure("usage_limit", reset_in_s=1.2, until_reset=True))
    name = "anthropic-ratelimit-unified-reset"
    resets = {ask(standin)[1][name] for _ in range(3)}
    assert len(resets) == 1
    now[0] = float(resets.pop()) + 0.05
    assert ask(standin)[0] == 200


def test_failure_for_one_token_only(standin: StandIn) -> None:
    """An expired token fails while another one is served."""
    standin.inject(Failure("unauthorized", times=None, if_token="old"))
    assert ask(standin, headers={"Authorization": "Bearer old"})[0] == 401
    assert ask(standin, headers={"Authorization": "Bearer new"})[0] == 200
    assert ask(standin, headers={"Authorization": "Bearer old"})[0] == 401


def test_failure_leaves_side_requests_alone(standin: StandIn) -> None:
    """A title does not use up a failure that is meant for a step, unless it is asked for."""
    standin.inject(Failure("overloaded"))
    assert ask(standin, tools=False)[0] == 200
    assert ask(standin)[0] == 529
    standin.inject(Failure("overloaded", side=True))
    assert ask(standin, tools=False)[0] == 529


def test_failure_at_one_step_only(standin: StandIn) -> None:
    """An injected failure can wait for its place in the script."""
    standin.inject(Failure("overloaded", scene="execute", step=1))
    assert ask(standin)[0] == 200
    call = {"type": "tool_use", "id": "t", "name": "Write", "input": {}}
    messages = [
        {"role": "user", "content": "do it"},
        {"role": "assistant", "content": [call]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t"}]},
    ]
    assert ask(standin, more={"messages": messages})[0] == 529


def test_failure_of_a_turn_is_met_and_passes() -> None:
    """A failure written into the script meets the first request of that turn."""
    turn = Turn("fine", failure=Failure("server_error"))
    with StandIn(Script((Scene("s", (turn,)),))) as standin:
        assert [ask(standin)[0] for _ in range(2)] == [500, 200]


def test_cut_stream_breaks_off(standin: StandIn) -> None:
    """The connection ends in the middle of the tool call, without the last chunk."""
    standin.inject(Failure("cut_stream"))
    with pytest.raises(http.client.IncompleteRead) as caught:
        ask(standin)
    assert b"input_json_delta" in caught.value.partial
    assert b"message_stop" not in caught.value.partial


def test_cut_answer_without_stream_breaks_off(standin: StandIn) -> None:
    """A whole answer is cut too: fewer bytes come than were announced."""
    standin.inject(Failure("cut_stream"))
    with pytest.raises(http.client.IncompleteRead):
        ask(standin, stream=False)


def test_malformed_events_are_no_json(standin: StandIn) -> None:
    """A malformed stream holds an event whose data cannot be read."""
    standin.inject(Failure("malformed", times=2))
    last = ask(standin)[2].decode().strip().split("\n")[-1]
    for text in (last.removeprefix("data: "), ask(standin, stream=False)[2].decode()):
        with pytest.raises(ValueError):
            json.loads(text)


def test_slow_answer_takes_its_time(standin: StandIn) -> None:
    """Every chunk waits, and the answer is whole in the end."""
    standin.inject(Failure("slow", delay_s=0.02))
    began = time.monotonic()
    data = ask(standin)[2]
    assert time.monotonic() - began >= 0.02 * data.count(b"event: ")
    assert b"message_stop" in data


def test_silence_ends_with_the_connection(standin: StandIn) -> None:
    """A silent answer never comes: after its time the connection is closed."""
    standin.inject(Failure("silence", silent_s=0.3))
    began = time.monotonic()
    with pytest.raises(http.client.RemoteDisconnected):
        ask(standin)
    assert time.monotonic() - began >= 0.3
    assert standin.requests[0].status == 0


def test_a_reset_connection_ends_without_an_answer(standin: StandIn) -> None:
    """The client sees RST, the record says that nothing was sent, and the next one is served."""
    standin.inject(Failure("reset"))
    with pytest.raises(ConnectionResetError):
        ask(standin)
    assert standin.requests[0].status == 0
    assert ask(standin)[0] == 200


def test_stop_does_not_wait_for_a_silent_answer() -> None:
    """Stopping closes what is still open, idle connections and silent answers alike."""
    with StandIn(SCRIPT, failures=[Failure("silence", silent_s=3600)]) as standin:
        connection = http.client.HTTPConnection("127.0.0.1", standin.port, timeout=240)
        asked = {"messages": [], "tools": [{"name": "x"}]}
        connection.request("POST", "/v1/messages", json.dumps(asked))
        standin.wait_for(1, timeout_s=60)
        began = time.monotonic()
    assert time.monotonic() - began < 120
    connection.close()


def test_wait_for_gives_up(standin: StandIn) -> None:
    """Waiting for a request that never comes is bounded."""
    with pytest.raises(TimeoutError):
        standin.wait_for(1, timeout_s=0.05)


def test_bodies_are_kept_on_demand_and_never_logged(tmp_path: Path) -> None:
    """A test can look into a request; the log holds its outline alone."""
    log = tmp_path / "log.jsonl"
    with StandIn(SCRIPT, log=log, keep_bodies=True) as standin:
        ask(standin)
        body = standin.requests[0].body
    assert body is not None
    assert body["system"] == "Working directory: /w"
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert len(lines) == 1
    assert "body" not in lines[0]
    assert (lines[0]["scene"], lines[0]["tools"], lines[0]["token"]) == (
        "execute",
        ["Write"],
        TOKEN,
    )


def test_control_address_injects_lists_and_clears(standin: StandIn) -> None:
    """Failures can be set and taken back, and requests read, from another process."""
    path = "/_standin/failures"
    assert ask(standin, path=path, data=["overloaded", {"kind": "slow", "times": 3}])[0] == 200
    listed = json.loads(ask(standin, method="GET", path=path)[2])
    assert [item["kind"] for item in listed] == ["overloaded", "slow"]
    assert ask(standin)[0] == 529
    assert ask(standin, method="DELETE", path=path)[0] == 200
    assert json.loads(ask(standin, method="GET", path=path)[2]) == []
    assert ask(standin, path=path, data=["no such kind"])[0] == 400
    seen = json.loads(ask(standin, method="GET", path="/_standin/requests")[2])
    assert [item["failure"] for item in seen] == ["overloaded"]


def test_control_address_replaces_the_script(standin: StandIn) -> None:
    """A demo can change what is answered while it runs."""
    other = Script((Scene("other", (Turn("x", (ToolCall("Y", {}),)),)),))
    assert ask(standin, method="PUT", path="/_standin/script", data=to_json(other))[0] == 200
    ask(standin)
    assert standin.requests[-1].tools == ("Y",)


def test_command_serves_until_sigterm(tmp_path: Path) -> None:
    """`python -m plandock.standin` prints its address, serves, and ends well on SIGTERM."""
    file, log = tmp_path / "script.json", tmp_path / "log.jsonl"
    file.write_text(json.dumps(to_json(SCRIPT)))
    command = [sys.executable, "-m", "plandock.standin", "--script", str(file)]
    command += ["--log", str(log), "--fail", '{"kind": "overloaded", "times": 1}']
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            url = json.loads(process.stdout.readline())["url"]
            connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=240)
            asked = {"messages": [], "tools": [{"name": "x"}]}
            connection.request("POST", "/v1/messages", json.dumps(asked))
            status = connection.getresponse().status
            connection.close()
        finally:
            process.send_signal(signal.SIGTERM)
    assert (status, process.returncode) == (529, 0)
    assert json.loads(log.read_text())["failure"] == "overloaded"


def test_command_refuses_a_bad_script(tmp_path: Path) -> None:
    """A script that cannot be read is a usage error in one line."""
    command = [sys.executable, "-m", "plandock.standin", "--script", str(tmp_path / "none.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("cannot read the script")
