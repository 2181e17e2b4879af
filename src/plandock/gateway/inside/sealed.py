"""The sealed mode's one route: HTTP from the box to the API, the real token put on here.

Both sides are parsed by h11 and written anew, so nothing of the box's own framing reaches the
API.  Bodies are passed on as they come, piece by piece, both ways.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
import time
from dataclasses import dataclass
from socket import SOCK_STREAM, socket
from urllib.parse import unquote_to_bytes

import addresses
import dial
import h11
from allowance import REFUSED_STATUS, Allowance
from control import Token
from head import LIMIT, Refused
from report import Report

HEADER_TIME_S = 10.0
IDLE_S = 900.0
# A kept connection is not used when the API may be about to close it.
KEPT_S = 20.0
_PIECE = 64 * 1024
_ANSWER_HEAD = 64 * 1024

_METHODS = frozenset({b"GET", b"HEAD", b"POST"})
_TARGET = re.compile(rb"/[A-Za-z0-9._~!$&'()*+,;=:@%/-]*(?:\?[!-~]*)?")
# RFC 9110, 7.6.1, and what is older and still sent.
_HOP = frozenset(
    {
        b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization",
        b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade",
    }
)  # fmt: skip
# Who asks, and in whose name, is said here and not by the box.
_NOT_OUT = _HOP | {
    b"authorization", b"x-api-key", b"cookie", b"host", b"content-length", b"expect",
    b"forwarded", b"via", b"x-real-ip", b"x-original-url", b"x-rewrite-url",
    b"x-http-method-override", b"http2-settings",
}  # fmt: skip
_NOT_BACK = _HOP | {b"set-cookie", b"set-cookie2", b"alt-svc"}


@dataclass(frozen=True)
class Api:
    """Where the API is; without TLS it is a stand-in, which may be anywhere."""

    host: str
    port: int
    tls: bool
    credits_allowed: bool = False

    @classmethod
    def of(cls, wish: dict[str, object]) -> Api:
        """From the settings; TLS unless it is switched off in so many words, and usage credits
        only where they are allowed so."""
        tls, credits = wish.get("tls") is not False, wish.get("credits") is True
        return cls(str(wish["host"]), int(str(wish["port"])), tls, credits)

    @property
    def authority(self) -> str:
        """The Host header's value."""
        usual = 443 if self.tls else 80
        return self.host if self.port == usual else f"{self.host}:{self.port}"


class Side:
    """One connection and its parser."""

    def __init__(
        self,
        role: type[h11.CLIENT] | type[h11.SERVER],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        most = LIMIT if role is h11.SERVER else _ANSWER_HEAD
        self.http = h11.Connection(role, max_incomplete_event_size=most)
        self.reader = reader
        self.writer = writer
        self.moved = time.monotonic()
        self.count = 0
        self.address = ""

    async def event(self, patience_s: float = IDLE_S) -> object:
        """The next event; raises :class:`h11.RemoteProtocolError` and timeouts."""
        while True:
            event = self.http.next_event()
            if event is not h11.NEED_DATA:
                return event
            data = await asyncio.wait_for(self.reader.read(_PIECE), patience_s)
            self.moved = time.monotonic()
            self.count += len(data)
            self.http.receive_data(data)

    async def send(self, event: h11.Event) -> None:
        """Send, and wait until the other end has taken most of it."""
        data = self.http.send(event)
        if data:
            self.writer.write(data)
            await asyncio.wait_for(self.writer.drain(), IDLE_S)
            self.moved = time.monotonic()

    def next_cycle(self) -> bool:
        """Get ready for another request on this connection, if there can be one."""
        if self.http.our_state is h11.DONE and self.http.their_state is h11.DONE:
            self.http.start_next_cycle()
            return True
        return False

    async def end(self) -> None:
        """Close when the other end has taken the rest, or has had the time to."""
        self.writer.close()
        with contextlib.suppress(OSError, asyncio.TimeoutError):
            await asyncio.wait_for(self.writer.wait_closed(), HEADER_TIME_S)
        self.writer.transport.abort()

    def close(self) -> None:
        """Close without waiting."""
        self.writer.close()


def check(request: h11.Request) -> None:
    """Raise :class:`Refused` for a request that does not go to the API."""
    if request.http_version not in (b"1.0", b"1.1"):
        raise Refused(400, "not HTTP/1")
    if request.method not in _METHODS:
        raise Refused(405, "only GET, HEAD and POST are passed on")
    if not _TARGET.fullmatch(request.target):
        raise Refused(400, "the target is no plain path")
    path = request.target.partition(b"?")[0]
    segments = [unquote_to_bytes(part) for part in path[1:].split(b"/")]
    for segment in segments:
        if segment in (b".", b"..") or re.search(rb"[\x00-\x20/\\%\x7f-\xff]", segment):
            raise Refused(400, "the target is no plain path")
    if b"" in segments[:-1]:
        raise Refused(400, "the target is no plain path")
    probe = request.method == b"HEAD" and path == b"/"
    if not probe and not (path.startswith((b"/v1/", b"/api/")) and len(segments) > 1):
        raise Refused(403, "only /v1/ and /api/ are passed on")
    names = [name for name, _ in request.headers]
    if b"upgrade" in names:
        raise Refused(400, "no upgrade")
    if b"transfer-encoding" in names and b"content-length" in names:
        raise Refused(400, "two lengths")


def outgoing(request: h11.Request, authority: str, token: str) -> h11.Request:
    """The request as the API gets it."""
    named = {
        word.strip().lower()
        for name, value in request.headers
        if name == b"connection"
        for word in value.split(b",")
    }
    headers: list[tuple[bytes, bytes]] = [(b"host", authority.encode("ascii"))]
    for name, value in request.headers:
        if name in _NOT_OUT or name in named or name.startswith(b"x-forwarded-"):
            continue
        headers.append((name, value))
    for name, value in request.headers:
        if name == b"content-length" or (name == b"transfer-encoding" and value == b"chunked"):
            headers.append((name, value))
    headers.append((b"authorization", b"Bearer " + token.encode("ascii")))
    return h11.Request(method=request.method, target=request.target, headers=headers)


def returning(answer: h11.Response) -> h11.Response:
    """The answer as the box gets it."""
    headers = [(name, value) for name, value in answer.headers if name not in _NOT_BACK]
    return h11.Response(status_code=answer.status_code, headers=headers, reason=answer.reason)


class Sealed:
    """Answers the clients of the API's socket."""

    def __init__(
        self, api: Api, token: Token, pinned: frozenset[addresses.Address], report: Report
    ) -> None:
        self._api = api
        self._token = token
        self._pinned = pinned
        self._report = report
        self._allowance = Allowance(report, credits_allowed=api.credits_allowed)
        self._tls = ssl.create_default_context() if api.tls else None
        self._target = f"{api.host}:{api.port}"

    async def answer(self, client: socket) -> None:
        """Serve one client to its end, request by request."""
        reader, writer = await asyncio.open_unix_connection(sock=client.dup(), limit=_PIECE)
        box = Side(h11.SERVER, reader, writer)
        api: Side | None = None
        try:
            while True:
                request = await self._next(box)
                if request is None:
                    return
                check(request)
                api = await self._serve(box, api, request)
                if api is None or not box.next_cycle():
                    return
        except Refused as error:
            self._report.say("refused", target=self._target, why=str(error))
            await _refuse(box, error.status, str(error))
        except h11.RemoteProtocolError as error:
            self._report.say("refused", target=self._target, why="not HTTP")
            await _refuse(box, error.error_status_hint, "not HTTP")
        except (OSError, asyncio.TimeoutError, h11.LocalProtocolError) as error:  # noqa: UP041
            self._report.say("failed", target=self._target, why=type(error).__name__)
        finally:
            if api is not None:
                api.close()
            await box.end()

    async def _next(self, box: Side) -> h11.Request | None:
        """The next request of a client; None when it has gone."""
        if box.http.trailing_data == (b"", False):
            try:
                first = await asyncio.wait_for(box.reader.read(_PIECE), IDLE_S)
            except asyncio.TimeoutError:  # noqa: UP041 - older Pythons in images
                return None
            box.count += len(first)
            box.http.receive_data(first)
        try:
            event = await asyncio.wait_for(box.event(), HEADER_TIME_S)
        except asyncio.TimeoutError:  # noqa: UP041 - older Pythons in images
            raise Refused(408, "the head took too long") from None
        if isinstance(event, h11.ConnectionClosed):
            return None
        if not isinstance(event, h11.Request):
            raise Refused(400, "not a request")
        return event

    async def _serve(self, box: Side, kept: Side | None, request: h11.Request) -> Side | None:
        """Pass one request on; the API's side if it can take another, None if not."""
        try:
            token = await self._token.get()
        except asyncio.TimeoutError:  # noqa: UP041 - older Pythons in images
            raise Refused(503, "there is no token yet") from None
        path = request.target.partition(b"?")[0].decode("ascii")
        facts = {"target": self._target, "method": request.method.decode("ascii"), "path": path}
        api = await self._api_side(kept)
        began, before_in, before_out = time.monotonic(), api.count, box.count
        # Here, for up to now it may have waited; from here to the first byte out it does not.
        try:
            self._allowance.check()
        except Refused:
            api.close()
            raise
        self._report.say("allowed", address=api.address, **facts)
        status = 0
        try:
            status = await self._exchange(box, api, request, token)
        except BaseException:
            api.close()
            raise
        finally:
            self._report.say(
                "closed",
                address=api.address,
                status=status,
                bytes_in=api.count - before_in,
                bytes_out=box.count - before_out,
                seconds=round(time.monotonic() - began, 1),
                **facts,
            )
        if api.next_cycle():
            return api
        api.close()
        # The box's connection lives on where its own request has been read to the end.
        return api if box.http.their_state is h11.DONE else None

    async def _api_side(self, kept: Side | None) -> Side:
        """A connection to the API: the kept one if it is fresh; raises :class:`Refused`."""
        if kept is not None:
            idle = kept.http.our_state is h11.IDLE and not kept.reader.at_eof()
            if idle and time.monotonic() - kept.moved < KEPT_S:
                return kept
            kept.close()
        api = self._api
        try:
            if self._tls is None:
                loop = asyncio.get_running_loop()
                found = await loop.getaddrinfo(api.host, api.port, type=SOCK_STREAM)
                places = list(dict.fromkeys(str(entry[4][0]) for entry in found))
                outward, address = await dial.connect(places, api.port)
            else:
                outward, address = await dial.reach(api.host, api.port, self._pinned)
        except (OSError, asyncio.TimeoutError) as error:  # noqa: UP041 - older Pythons in images
            raise Refused(502, f"the API is not reached: {type(error).__name__}") from error
        try:
            secure = {"ssl": self._tls, "server_hostname": api.host} if self._tls else {}
            reader, writer = await asyncio.wait_for(
                asyncio.open_connection(sock=outward, limit=_PIECE, **secure),  # type: ignore[arg-type]
                dial.CONNECT_TIME_S,
            )
        except (OSError, asyncio.TimeoutError) as error:  # noqa: UP041 - older Pythons in images
            outward.close()
            raise Refused(502, f"no TLS with the API: {type(error).__name__}") from error
        side = Side(h11.CLIENT, reader, writer)
        side.address = address
        return side

    async def _exchange(self, box: Side, api: Side, request: h11.Request, token: str) -> int:
        """One request out, one answer back, bodies at the same time; the answer's status."""
        try:
            await api.send(outgoing(request, self._api.authority, token))
        except OSError as error:
            raise Refused(502, "the API has closed the connection") from error
        sending = asyncio.ensure_future(_body(box, api, self._allowance))
        answering = asyncio.ensure_future(_answer(box, api, self._allowance))
        try:
            await asyncio.wait({sending, answering}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done() and not sending.cancelled():
                sending.result()  # the box broke its body off
            return await answering
        finally:
            for task in (sending, answering):
                task.cancel()
            await asyncio.gather(sending, answering, return_exceptions=True)


async def _body(box: Side, api: Side, allowance: Allowance) -> None:
    """Pass the request's body on; an API that stops reading has its answer on the way.

    A request that is not whole yet when usage credits begin to pay never becomes so.
    """
    if box.http.they_are_waiting_for_100_continue:
        await box.send(h11.InformationalResponse(status_code=100, headers=[]))
    while True:
        event = await box.event()
        allowance.check()
        try:
            if isinstance(event, h11.Data):
                await api.send(h11.Data(data=bytes(event.data)))
            elif isinstance(event, h11.EndOfMessage):
                await api.send(h11.EndOfMessage())
                return
            else:
                raise ConnectionError("the box has gone")
        except h11.LocalProtocolError:
            return
        except OSError:
            if isinstance(event, (h11.Data, h11.EndOfMessage)):
                return
            raise


async def _answer(box: Side, api: Side, allowance: Allowance) -> int:
    """Pass the answer on; its status.  Raises :class:`Refused` where there is none."""
    try:
        event = await api.event()
        while isinstance(event, h11.InformationalResponse):
            event = await api.event()
    except (OSError, h11.RemoteProtocolError) as error:
        raise Refused(502, "the API gave no answer") from error
    if not isinstance(event, h11.Response):
        raise Refused(502, "the API gave no answer")
    allowance.take(event.status_code, event.headers)
    await box.send(returning(event))
    while True:
        try:
            part = await api.event()
        except h11.RemoteProtocolError as error:  # cut short: so is the box's
            raise ConnectionError("the answer was cut short") from error
        if isinstance(part, h11.Data):
            await box.send(h11.Data(data=bytes(part.data)))
        elif isinstance(part, h11.EndOfMessage):
            await box.send(h11.EndOfMessage())
            return event.status_code
        else:
            raise ConnectionError("the answer was cut short")


async def _refuse(box: Side, status: int, why: str) -> None:
    """Tell the box, if its answer has not begun."""
    if box.http.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
        return
    body = f"plandock gateway: {why}\n".encode()
    headers = [("content-type", "text/plain"), ("content-length", str(len(body)))]
    headers.append(("connection", "close"))
    if status == REFUSED_STATUS:
        headers.append(("x-should-retry", "false"))
    with contextlib.suppress(OSError, asyncio.TimeoutError, h11.LocalProtocolError):
        await box.send(h11.Response(status_code=status, headers=headers, reason=b"Refused"))
        await box.send(h11.Data(data=body))
        await box.send(h11.EndOfMessage())
        if box.writer.can_write_eof():
            box.writer.write_eof()
        for _ in range(16):
            if not await asyncio.wait_for(box.reader.read(_PIECE), 1.0):
                break
