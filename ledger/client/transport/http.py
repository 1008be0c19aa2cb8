"""HTTP to the service: one pooled client, hard time limits, and problem documents converted to named errors.

A failure counts as the ledger's own word only if it is the ledger's own problem document (RFC 9457): its media type,
its `type` and `code`, and the id of the request. Whatever else comes with a status other than 2xx was said by a proxy,
a load balancer or a sign-on page: an outage (`proxy_answer`), after which nothing is known and nothing is refused.

Every request carries a fresh id in `X-Request-Id`, which the service repeats in its answer. An answer with the id of
another request of this SDK is refused (`AnswerMismatch`), whatever mixed the two up. An answer without an id, or with
one that a gateway put in its place, is left to the checks of what it says. Idempotency keys are compared likewise.
"""

from __future__ import annotations

import contextvars
import json
import random
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any, TypeVar

import httpx2

from ledger.client.identity.suite import is_loopback
from ledger.client.transport.budgets import EARLIER_SECONDS, Deadline
from ledger.client.transport.connections import (
    MAX_CONNECTIONS,
    HttpOptions,
    client_headers,
    host_of,
    new_client,
    tls_context,
    unreached,
    uses_proxy,
)
from ledger.client.transport.direct import AnswerTooLong, DirectConnections
from ledger.client.transport.forks import ForkAware, ForkLock, Sockets, renew_if_forked
from ledger.client.transport.problems import REQUEST_ID, error_from, plain
from ledger.errors import (
    AnswerMismatch,
    ConfigurationError,
    LedgerError,
    LimitExceeded,
    NotFound,
    Unauthenticated,
    Unavailable,
    UnexpectedAnswer,
)
from ledger.protocol.encoding import b64url

T = TypeVar("T")

MAX_ANSWER_BYTES = 32 * 1024 * 1024
"""An answer longer than this is refused: the largest honest one, an entry bundle, stays below 17 MB."""
STALL_SECONDS = 30.0
"""A download in which nothing comes for so long is given up."""
RETRY_FIRST_SECONDS = 0.1
RETRY_LONGEST_SECONDS = 2.0
_SHARED_PATHS = ("/log/", "/v1/snapshots/", "/v1/suite", "/v1/texts/")
"""Paths with the same answer for all members: a cache may return the answer to another request, with its id. It is
verified against signatures and pinned keys instead."""
_TOO_LONG = 413
_FIXED_PATHS = (
    "/v1/lookups",
    "/v1/lookups/batch",
    "/v1/reports",
    "/v1/reports/batch",
    "/v1/oprf/evaluate",
)
"""Paths at which the ledger never answers a POST with 404."""

Refused = Callable[[LedgerError, str, datetime | None, bool], LedgerError | None]
"""(error, token, date of the answer, second attempt) -> None: ask once more; else what to raise."""


class WrongLength(Exception):
    """A download has another length than it must have; the caller decides what that means."""


class _TokenRefused(Exception):
    """The ledger refused the token of a request, in an answer of this date."""

    def __init__(self, error: Unauthenticated, token: str, answered_at: datetime | None) -> None:
        super().__init__("The token was refused.")
        self.error = error
        self.token = token
        self.answered_at = answered_at


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """A successful answer: status 2xx, lower-case header names."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    request_id: str = ""
    """The id under which the ledger's operator finds the request in the logs."""
    drop: Callable[[], object] = field(default=lambda: None, repr=False)
    """Closes the connection that the answer came over, so that no other request is sent over it."""

    def json(self) -> Any:
        """Return the body as JSON. Raises UnexpectedAnswer."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError) as error:
            raise UnexpectedAnswer("The ledger's answer is not JSON.") from error

    def read(self, parse: Callable[[Any], T]) -> T:
        """Return what `parse` makes of the JSON body. If it raises AnswerMismatch, the connection is closed too. Raises
        UnexpectedAnswer and what `parse` raises."""
        try:
            return parse(self.json())
        except AnswerMismatch:
            self.drop()
            raise


@dataclass(frozen=True, slots=True)
class _Pools:
    """Connections and threads of one process."""

    http: httpx2.Client
    threads: ThreadPoolExecutor
    proxied: bool
    direct: DirectConnections | None = None
    own_threads: threading.BoundedSemaphore = field(default_factory=lambda: threading.BoundedSemaphore(MAX_CONNECTIONS))
    """Room for threads of `Transport.in_own_thread`."""

    def close(self) -> None:
        self.threads.shutdown(wait=False, cancel_futures=True)
        self.http.close()
        if self.direct is not None:
            self.direct.close()


class Transport(ForkAware):
    """Sends requests to one service. Thread-safe. `authorization` makes the bearer token of a request with the given
    body; `refused` decides whether to retry when the ledger refuses one. `options` is about connections; `direct` has
    `send` make them as `ledger.client.transport.direct` does, where neither a proxy nor a client of the integrator is
    to be used. A longer body than `max_answer_bytes` is not read.

    `https` is required except on this machine: tags and elements must not travel in clear. Raises ConfigurationError
    for another address, unless `insecure_http`, and for `options` that cannot be used. A child process made by
    `fork()` gets connections and threads of its own at its first request; those of the parent stay as they are.
    """

    def __init__(
        self,
        url: str,
        authorization: Callable[[bytes | None], str] | None = None,
        *,
        refused: Refused | None = None,
        insecure_http: bool = False,
        options: HttpOptions | None = None,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] = random.random,
        direct: bool = False,
        max_answer_bytes: int = MAX_ANSWER_BYTES,
    ) -> None:
        local = is_loopback(url)
        if url.startswith("http://") and not (local or insecure_http):
            raise ConfigurationError("The service's address must be https.")
        self._url = url
        self._local = local
        self._authorization = authorization
        self._refused = refused
        self._options = options or HttpOptions()
        self._options.check()
        self._direct = direct
        self._max_answer_bytes = max_answer_bytes
        self._sleep = sleep
        self._jitter = jitter
        self._sockets = Sockets()
        self._opening = ForkLock()
        self._closed = False
        self._pools: _Pools | None = self._new_pools()
        super().__init__()

    def close(self) -> None:
        """Close all connections of this process."""
        renew_if_forked()
        with self._opening:
            self._closed = True
            pools, self._pools = self._pools, None
        if pools is not None:
            pools.close()

    def open(self) -> None:
        """Prepare connections and threads, which the first request of a process does otherwise. Raises Unavailable when
        the client is closed."""
        self._opened()

    def after_fork_in_child(self) -> None:
        """Forget the parent's connections, whose sockets `Sockets` closes, and its threads, which do not exist here."""
        self._pools = None

    def _opened(self) -> _Pools:
        """Return the pools of this process. Raises Unavailable when this is closed."""
        renew_if_forked()
        pools = self._pools
        if pools is not None:
            return pools
        with self._opening:
            if self._closed:
                raise Unavailable("The connection to the ledger is closed.", reason="closed")
            if self._pools is None:
                self._pools = self._new_pools()
            return self._pools

    def _new_pools(self) -> _Pools:
        http = new_client(self._url, self._local, self._options)
        threads = ThreadPoolExecutor(MAX_CONNECTIONS, thread_name_prefix="refund-ledger")
        proxied = uses_proxy(self._url, self._local, self._options)
        direct = None
        if self._direct and not proxied and self._options.http_client is None:
            context = tls_context(self._options.ca_file) if self._url.startswith("https://") else None
            direct = DirectConnections(self._url, context, self._sockets)
        return _Pools(http, threads, proxied, direct)

    def send(
        self,
        method: str,
        path: str,
        deadline: Deadline,
        *,
        content: bytes | None = None,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> HttpAnswer:
        """Return one attempt, and one more if the ledger refused the token's times and its clock tells why.

        Raises Unavailable (no answer, 5xx, or an answer that is not the ledger's), the named error of the ledger's own
        4xx, UnexpectedAnswer, or AnswerMismatch for the answer to another request."""
        sent = dict(headers or {})
        if content is not None:
            sent.setdefault("Content-Type", "application/json")

        def attempt() -> HttpAnswer:
            direct = self._opened().direct
            if direct is not None and query is None:
                return self._send_directly(direct, method, path, deadline, content, sent)
            with self._answer(method, path, deadline, content=content, query=query, headers=sent) as response:
                drop = partial(_close, response)
                shared = path.startswith(_SHARED_PATHS)
                mismatch = None if shared else _mismatched_header(response.request.headers, response.headers)
                if mismatch is not None:
                    drop()
                    raise AnswerMismatch("The ledger's answer belongs to another request.", compared=mismatch)
                body = _read(response, deadline, self._max_answer_bytes)
            if not 200 <= response.status_code < 300:
                raise _failure(response, body, shared)
            lower = {name.lower(): value for name, value in response.headers.items()}
            return HttpAnswer(response.status_code, lower, body, _request_id(response), drop)

        return self._authorized(attempt)

    def _send_directly(
        self,
        direct: DirectConnections,
        method: str,
        path: str,
        deadline: Deadline,
        content: bytes | None,
        headers: Mapping[str, str],
    ) -> HttpAnswer:
        deadline.check()
        sent = self._headers(headers, content)
        request_id = sent["X-Request-Id"]
        try:
            answer = direct.request(method, path, sent, content, deadline.left, self._max_answer_bytes)
        except AnswerTooLong as error:
            raise UnexpectedAnswer("The ledger's answer is too long.", request_id=request_id) from error
        except OSError as error:
            failed = unreached(error, host_of(self._url), proxied=False)
            failed.details["request_id"] = request_id
            raise failed from error
        asked = {name.lower(): value for name, value in sent.items()}
        mismatch = _mismatched_header(asked, answer.headers)
        if mismatch is not None:
            raise AnswerMismatch("The ledger's answer belongs to another request.", compared=mismatch)
        if not 200 <= answer.status < 300:
            raise _failure_of(method, path, asked, answer.status, answer.headers, answer.body, shared=False)
        return HttpAnswer(answer.status, answer.headers, answer.body, _answered_id(request_id, answer.headers))

    def _headers(self, headers: Mapping[str, str], content: bytes | None) -> dict[str, str]:
        """Return all headers of a request, with an id and a token of its own."""
        sent = {**client_headers(), **headers, "X-Request-Id": f"rcl-{b64url(secrets.token_bytes(16))}"}
        if self._authorization is not None:
            sent["Authorization"] = f"Bearer {self._authorization(content)}"
        return sent

    def download(self, path: str, size: int, write: Callable[[bytes], object], deadline: Deadline) -> None:
        """GET `path` in one attempt and pass its `size` bytes to `write` part by part.

        Raises WrongLength as soon as it is clear that there are more or fewer bytes, and what `send` raises. A part of
        the body may have been written by then.
        """
        headers = {"Accept": "*/*", "Accept-Encoding": "identity"}

        def attempt() -> int:
            with self._answer("GET", path, deadline, headers=headers, stall_seconds=STALL_SECONDS) as response:
                if not 200 <= response.status_code < 300:
                    body = _read(response, deadline, self._max_answer_bytes)
                    raise _failure(response, body, shared=path.startswith(_SHARED_PATHS))
                if response.headers.get("content-length", str(size)) != str(size):
                    raise WrongLength("The download does not have the length that it must have.")
                left = size
                for part in response.iter_bytes():
                    deadline.check()
                    left -= len(part)
                    if left < 0:
                        break
                    write(part)
            return left

        if self._authorized(attempt):
            raise WrongLength("The download does not have the length that it must have.")

    def _authorized(self, attempt: Callable[[], T]) -> T:
        """Return `attempt()`, and once more when the ledger refused the token and `refused` knows a better one."""
        try:
            return attempt()
        except _TokenRefused as refusal:
            error = self._token_error(refusal, again=False)
        if error is not None:
            raise error
        try:
            return attempt()
        except _TokenRefused as refusal:
            error = self._token_error(refusal, again=True) or refusal.error
        raise error

    def _token_error(self, refusal: _TokenRefused, again: bool) -> LedgerError | None:
        if self._refused is None:
            return refusal.error
        return self._refused(refusal.error, refusal.token, refusal.answered_at, again)

    @contextmanager
    def _answer(
        self,
        method: str,
        path: str,
        deadline: Deadline,
        *,
        content: bytes | None = None,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str],
        stall_seconds: float = float("inf"),
    ) -> Iterator[httpx2.Response]:
        """Return the answer's head; its body is read in the block. Raises Unavailable, from within the block too."""
        deadline.check()
        sent = self._headers(headers, content)
        request_id = sent["X-Request-Id"]
        timeout = httpx2.Timeout(max(min(deadline.left(), stall_seconds), 0.001))
        pools = self._opened()
        try:
            with pools.http.stream(
                method,
                self._url + path,
                content=content,
                params=query,
                headers=sent,
                timeout=timeout,
                follow_redirects=False,
                extensions={"trace": self._note_socket},
            ) as response:
                try:
                    yield response
                finally:
                    if self._closed:  # the pool, closed before this connection was made, does not close it any more
                        _close(response)
        except httpx2.RequestError as error:
            failed = unreached(error, host_of(self._url), pools.proxied)
            failed.details["request_id"] = request_id
            raise failed from error
        except RuntimeError as error:  # the client was closed meanwhile
            raise Unavailable("The connection to the ledger is closed.", reason="closed") from error

    def _note_socket(self, event: str, info: Mapping[str, Any]) -> None:
        """Remember each socket as it is connected or wrapped in TLS: a child process has to close its own copy."""
        if event.endswith((".connect_tcp.complete", ".start_tls.complete")):
            self._sockets.add(info["return_value"].get_extra_info("socket"))

    def within(self, seconds: float, work: Callable[[Deadline], T]) -> T:
        """Return `work(deadline)`, given up after `seconds` whatever it hangs in (name resolution knows no timeout).

        `work` sees the caller's context variables, such as the current span of a trace.
        Raises Unavailable when the time is over.
        """
        deadline = Deadline(seconds)
        threads = self._opened().threads
        try:
            future = threads.submit(contextvars.copy_context().run, work, deadline)
        except RuntimeError as error:
            raise Unavailable("The connection to the ledger is closed.", reason="closed") from error
        try:
            return future.result(timeout=deadline.left())
        except CancelledError as error:
            raise Unavailable("The connection to the ledger is closed.", reason="closed") from error
        except FutureTimeout as error:
            future.cancel()
            raise Unavailable("The ledger did not answer in time.", reason="timeout") from error

    def in_own_thread(self, seconds: float, work: Callable[[Deadline], T]) -> T:
        """Run `work` as `within` does, in a thread of its own that ends with the work: for work that may continue long
        after its time is over, and for work before a fork. At most `MAX_CONNECTIONS` run at once; others wait. Raises
        Unavailable when the time is over or no thread can be started, and what `work` raises.

        The deadline that `work` gets is a little earlier than the end of the waiting, so that the error which says what
        was waited for arrives, not only that the time is over."""
        deadline = Deadline(seconds)
        end_of_work = Deadline(seconds - min(EARLIER_SECONDS, seconds / 10))
        room = self._opened().own_threads
        if not room.acquire(timeout=deadline.left()):
            raise Unavailable("Too many calls wait for the ledger.", reason="timeout")
        outcome: Future[T] = Future()
        context = contextvars.copy_context()

        def run() -> None:
            try:
                outcome.set_result(context.run(work, end_of_work))
            except BaseException as error:  # raised again where it is waited for
                outcome.set_exception(error)
            finally:
                room.release()

        # A daemon: a process that ends does not wait for a resolver that hangs.
        thread = threading.Thread(target=run, name="refund-ledger-apart", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            room.release()
            raise Unavailable("No thread can be started.", reason="closed") from error
        thread.join(deadline.left())
        if not outcome.done():
            raise Unavailable("The ledger did not answer in time.", reason="timeout")
        thread.join(deadline.left())
        return outcome.result()

    def pause(self, seconds: float) -> None:
        """Wait for this number of seconds."""
        self._sleep(seconds)

    def background(self, work: Callable[[], T]) -> Future[T] | None:
        """Start `work` in a thread that sees the caller's context variables. Return the future of its result; None
        if the transport is closed."""
        try:
            return self._opened().threads.submit(contextvars.copy_context().run, work)
        except (RuntimeError, Unavailable):
            return None

    def retrying(self, seconds: float, work: Callable[[Deadline], T], attempt_seconds: float | None = None) -> T:
        """Return `work(deadline)`, again after outages and 429 with growing pauses, for at most `seconds` in total.

        Each attempt has `attempt_seconds` at most. Raises the last error.
        """
        total = Deadline(seconds)
        for pause in self._pauses():
            try:
                return work(Deadline(min(total.left(), attempt_seconds or seconds)))
            except (Unavailable, LimitExceeded) as error:
                if not worth_retrying(error) or error.details.get("reason") == "tls_failed":
                    raise
                pause = max(pause, _retry_after(error))
                if pause >= total.left():
                    raise
                self._sleep(pause)
        raise AssertionError("the pauses never end")

    def _pauses(self) -> Iterator[float]:
        """Yield pauses with jitter, between half and the whole of a doubling pause: many clients must not retry at the
        same time."""
        longest = RETRY_FIRST_SECONDS
        while True:
            yield longest * (0.5 + 0.5 * self._jitter())
            longest = min(2 * longest, RETRY_LONGEST_SECONDS)


def worth_retrying(error: LedgerError) -> bool:
    """True if the same request may succeed later as it is. What is too long for a proxy (413) stays too long."""
    if error.details.get("status") == _TOO_LONG:
        return False
    return isinstance(error, Unavailable) or (isinstance(error, LimitExceeded) and error.details.get("status") == 429)


def _retry_after(error: LedgerError) -> float:
    seconds = error.details.get("retry_after_seconds")
    return float(seconds) if isinstance(seconds, int) else 0.0


def _mismatched_header(request: Mapping[str, str], response: Mapping[str, str]) -> str | None:
    """Return `request_id` or `idempotency_key` if that header of the response belongs to another request of an SDK;
    None if both match.

    A gateway may remove either header, replace the id of the request by one of its own, or append its own id.
    """
    ids = [request_id.strip() for request_id in response.get("x-request-id", "").split(",")]
    if request["x-request-id"] not in ids and any(REQUEST_ID.match(request_id) for request_id in ids):
        return "request_id"
    key = response.get("idempotency-key")
    return "idempotency_key" if key is not None and key != request.get("idempotency-key") else None


def _close(response: httpx2.Response) -> None:
    """Close the connection of `response`; the pool sees that it is closed and does not use it again."""
    stream = response.extensions.get("network_stream")
    if stream is not None:
        stream.close()


def _read(response: httpx2.Response, deadline: Deadline, max_bytes: int) -> bytes:
    """Return the body, in bounded time and space: a read timeout alone would let a slow sender go on for ever."""
    parts: list[bytes] = []
    size = 0
    for part in response.iter_bytes():
        deadline.check()
        size += len(part)
        if size > max_bytes:
            raise UnexpectedAnswer("The ledger's answer is too long.")
        parts.append(part)
    return b"".join(parts)


# --- problem documents --------------------------------------------------------------------------------------------


def _failure(response: httpx2.Response, body: bytes, shared: bool) -> Exception:
    """Return the error for an answer with a status other than 2xx: a LedgerError, or _TokenRefused around it."""
    asked = response.request
    return _failure_of(
        asked.method, asked.url.path, asked.headers, response.status_code, response.headers, body, shared
    )


def _failure_of(
    method: str,
    path: str,
    asked: Mapping[str, str],
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    shared: bool,
) -> Exception:
    """As `_failure`; `asked` and `headers` are those of request and answer, with lower-case names."""
    sent = asked["x-request-id"]
    error = error_from(status, headers, body, None if shared else sent)
    if isinstance(error, NotFound) and method == "POST" and path.endswith(_FIXED_PATHS):
        # The ledger has these paths: something in front of it asked for another one.
        error = Unavailable("The ledger was asked for another path.", reason="proxy_answer", status=404)
    error.details.setdefault("request_id", _answered_id(sent, headers))
    if isinstance(error, Unauthenticated):
        token = asked.get("authorization", "").removeprefix("Bearer ")
        return _TokenRefused(error, token, _date(headers))
    return error


def _request_id(response: httpx2.Response) -> str:
    """Return the id that the ledger has logged: ours, or what a gateway made of it."""
    return _answered_id(str(response.request.headers["x-request-id"]), response.headers)


def _answered_id(sent: str, headers: Mapping[str, str]) -> str:
    request_id = headers.get("x-request-id", "")
    return sent if not request_id or sent in request_id else plain(request_id)


def _date(headers: Mapping[str, str]) -> datetime | None:
    """Return the time in the `Date` header (aware); None if there is none that can be read."""
    try:
        answered_at = parsedate_to_datetime(headers.get("date", ""))
        return answered_at.astimezone(UTC) if answered_at.tzinfo is not None else None
    except (ValueError, TypeError, OverflowError):
        return None
