"""Answers one connection's HTTP requests for the stand-in."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any, cast

from plandock.standin import conversation, sse
from plandock.standin.failures import Meeting, answer_headers, http_failure
from plandock.standin.requests import Request, credential, now
from plandock.standin.script import Turn, failure_from_json, script_from_json, to_json

if TYPE_CHECKING:
    from plandock.standin.server import StandIn

_MESSAGES = "/v1/messages"
_COUNT = "/v1/messages/count_tokens"
_CONTROL_FAILURES = "/_standin/failures"
_CONTROL_SCRIPT = "/_standin/script"
_CONTROL_REQUESTS = "/_standin/requests"


class Handler(BaseHTTPRequestHandler):
    """HTTP/1.1 with keep-alive, as the CLI uses it; events go out in chunks."""

    protocol_version = "HTTP/1.1"
    server_version = "plandock-standin"
    sys_version = ""
    # Small writes go out at once: a test of slow tokens would otherwise measure Nagle's algorithm.
    disable_nagle_algorithm = True

    @property
    def standin(self) -> StandIn:
        """The stand-in that this connection belongs to."""
        return cast("StandIn", self.server.standin)  # type: ignore[attr-defined]

    def log_message(self, format: str, *args: object) -> None:
        """Write nothing to stderr: `requests` and the log are the record."""

    def do_HEAD(self) -> None:
        """Answer the CLI's check that something is there."""
        self._note(200)
        self._send(200, b"")

    def do_GET(self) -> None:
        """Answer the control address that lists requests; everything else does not exist."""
        if self._route() == _CONTROL_REQUESTS:
            self._send_json(200, [request.to_json() for request in self.standin.requests])
        elif self._route() == _CONTROL_FAILURES:
            self._send_json(200, to_json(self.standin.failures.left()))
        else:
            self._not_found()

    def do_PUT(self) -> None:
        """Replace the script (`PUT /_standin/script`)."""
        self._control({_CONTROL_SCRIPT: self._replace_script})

    def do_DELETE(self) -> None:
        """Take back injected failures (`DELETE /_standin/failures`)."""
        self._control({_CONTROL_FAILURES: lambda _: self.standin.clear_failures()})

    def do_POST(self) -> None:
        """Answer the model API's calls, or inject failures (`POST /_standin/failures`)."""
        route = self._route()
        if route.startswith("/_standin/"):
            self._control({_CONTROL_FAILURES: self._inject})
            return
        raw = self._read_body()
        if route not in (_MESSAGES, _COUNT):
            self._not_found()
            return
        try:
            body = dict(json.loads(raw))
        except (TypeError, ValueError) as error:
            self._note(400)
            self._send_json(400, sse.error_body("invalid_request_error", str(error)))
            return
        if route == _COUNT:
            self._note(200, body)
            self._send_json(200, {"input_tokens": max(1, len(raw) // 4)})
            return
        try:
            self._answer(body, len(raw))
        except ConnectionError:
            self.close_connection = True  # the client went away: often the very test
        except Exception as error:
            self.standin.errors.append(f"{type(error).__name__}: {error}")
            self._send_json(400, sse.error_body("invalid_request_error", f"stand-in: {error}"))

    # -- the model's answer

    def _answer(self, body: Mapping[str, Any], size: int) -> None:
        script = self.standin.script
        side = not body.get("tools")
        if side:
            scene, step, turn = "", -1, Turn(_side_text(body, script.side))
        else:
            place = conversation.locate(script, body)
            scene, step = place.scene.name, place.step
            turn = place.turn or Turn(script.closing)
        auth, token = credential(cast(Mapping[str, str], self.headers))
        meeting = self.standin.failures.meet(token, scene, step, turn.failure, side=side)
        content = _content(turn, body)
        whole = sse.message(
            str(body.get("model", "")), content, sse.usage(size, content, first=step <= 0)
        )
        answer = http_failure(meeting) if meeting else None
        # Neither is answered at all.
        silent = meeting is not None and meeting.failure.kind in ("silence", "reset")
        self._note(
            0 if silent else answer[0] if answer else 200,
            body,
            scene=scene,
            step=step,
            tools=() if answer or silent else tuple(call.name for call in turn.calls),
            failure=meeting.failure.kind if meeting else "",
        )
        if answer:
            status, headers, error = answer
            self._send_json(status, error, headers)
        elif silent and meeting:
            if meeting.failure.kind == "reset":
                # Closed with this option, a connection ends with RST instead of FIN.
                linger = struct.pack("ii", 1, 0)
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                self.connection.close()
            else:
                self.standin.stopping.wait(meeting.failure.silent_s)
            self.close_connection = True
        else:
            # A key is billed per token and has no window of use.
            end = self.standin.window_end
            headers = answer_headers(meeting, end) if auth == "bearer" else {}
            send = self._stream if body.get("stream") else self._send_whole
            send(whole, meeting, headers)

    def _stream(
        self, whole: dict[str, Any], meeting: Meeting | None, headers: Mapping[str, str]
    ) -> None:
        kind = meeting.failure.kind if meeting else ""
        pause_s = meeting.failure.delay_s if meeting and kind == "slow" else 0.0
        events = list(sse.events(whole))
        frames = [
            sse.frame(event) for event in (sse.cut(events) if kind == "cut_stream" else events)
        ]
        if kind == "malformed":
            frames = [*frames[:2], b"event: content_block_start\ndata: {not JSON\n\n"]
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Cache-Control", "no-cache")
        self.send_header("Transfer-Encoding", "chunked")
        self._send_headers(headers)
        for data in frames if pause_s else _bunched(frames):
            if pause_s and self.standin.stopping.wait(pause_s):
                self.close_connection = True
                return
            self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
            self.wfile.flush()
        if kind == "cut_stream":
            self.close_connection = True  # without the last chunk: the client sees a broken body
        else:
            self.wfile.write(b"0\r\n\r\n")

    def _send_whole(
        self, whole: dict[str, Any], meeting: Meeting | None, headers: Mapping[str, str]
    ) -> None:
        kind = meeting.failure.kind if meeting else ""
        data = json.dumps(whole).encode()
        if kind == "slow" and meeting:
            self.standin.stopping.wait(meeting.failure.delay_s)
        if kind == "malformed":
            data = b"{not JSON"
        self._send(200, data, headers, cut_to=len(data) // 2 if kind == "cut_stream" else None)
        if kind == "cut_stream":
            self.close_connection = True

    # -- control

    def _control(self, routes: Mapping[str, Any]) -> None:
        raw = self._read_body()
        act = routes.get(self._route())
        if act is None:
            self._not_found()
            return
        try:
            act(json.loads(raw) if raw else None)
        except ValueError as error:
            self._send_json(400, sse.error_body("invalid_request_error", str(error)))
        else:
            self._send_json(200, {"ok": True})

    def _inject(self, data: object) -> None:
        items = data if isinstance(data, list) else [data]
        self.standin.inject(*[failure_from_json(item) for item in items])

    def _replace_script(self, data: object) -> None:
        self.standin.script = script_from_json(data)

    # -- plain HTTP

    def _route(self) -> str:
        return self.path.partition("?")[0]

    def _read_body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _note(self, status: int, body: Mapping[str, Any] | None = None, **more: Any) -> None:
        auth, token = credential(cast(Mapping[str, str], self.headers))
        request = Request(
            time=now(),
            method=self.command,
            path=self.path,
            status=status,
            auth=auth,
            token=token,
            user_agent=self.headers.get("User-Agent", ""),
            betas=self.headers.get("anthropic-beta", ""),
            remote_port=int(self.client_address[1]),
        )
        if body is not None:
            request = replace(
                request,
                has_tools=bool(body.get("tools")),
                stream=bool(body.get("stream")),
                model=str(body.get("model", "")),
                session_id=conversation.session_id(body),
                body=body if self.standin.keep_bodies else None,
            )
        self.standin.record(replace(request, **more))

    def _not_found(self) -> None:
        self._note(404)
        self._send_json(404, sse.error_body("not_found_error", f"no such path: {self._route()}"))

    def _send_json(
        self, status: int, data: object, headers: Mapping[str, str] | None = None
    ) -> None:
        self._send(status, json.dumps(data).encode(), headers)

    def _send(
        self,
        status: int,
        data: bytes,
        headers: Mapping[str, str] | None = None,
        cut_to: int | None = None,
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self._send_headers(headers or {})
        self.wfile.write(data[:cut_to])

    def _send_headers(self, headers: Mapping[str, str]) -> None:
        self.send_header("request-id", sse.new_id("req"))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()


def _content(turn: Turn, body: Mapping[str, Any]) -> list[dict[str, Any]]:
    content: list[dict[str, Any]] = []
    if turn.text or not turn.calls:
        content.append({"type": "text", "text": turn.text or " "})
    for call in turn.calls:
        given = conversation.filled(call, body)
        content.append(
            {"type": "tool_use", "id": sse.new_id("toolu"), "name": call.name, "input": given}
        )
    return content


def _side_text(body: Mapping[str, Any], text: str) -> str:
    """Answer a side request in the shape it asks for: a title may be wanted as JSON."""
    config = body.get("output_config")
    wanted = config.get("format") if isinstance(config, dict) else None
    schema = wanted.get("schema") if isinstance(wanted, dict) else None
    if not isinstance(schema, dict):
        return text
    return json.dumps(_example(schema, text))


def _example(schema: Mapping[str, Any], text: str) -> Any:
    """Return a value that fits a simple JSON schema."""
    if schema.get("enum"):
        return schema["enum"][0]
    kind = schema.get("type")
    if kind == "object":
        return {name: _example(part, text) for name, part in schema.get("properties", {}).items()}
    values: dict[Any, Any] = {"array": [], "boolean": False, "integer": 0, "number": 0}
    return values.get(kind, text)


def _bunched(frames: Sequence[bytes]) -> Iterable[bytes]:
    """Join frames into a few writes: one system call each would slow a thousand-step test down."""
    return (b"".join(frames[n : n + 8]) for n in range(0, len(frames), 8))
