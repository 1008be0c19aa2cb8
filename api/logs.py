"""Structured logs: one JSON object a line on standard error.

The rule is that no line holds an identifier, element, tag, token or key. So the content of a request is never logged:
an access line has the route's template, never the path or the query; a failure is logged as the exception's class and
its places in the code, never its message, because a driver's message quotes the written values.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from datetime import UTC, datetime
from time import perf_counter
from typing import Any, BinaryIO

import orjson
import structlog

from ledger.server.process.json_logs import CHATTY, MAX_MESSAGE_CHARS, extras
from ledger.server.process.json_logs import failure as failure

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"})
"""Characters of a method that an access line shows; it is the client's text."""


def make_logger(stream: BinaryIO | None = None) -> Any:
    """Return a logger that writes to `stream`, by default standard error."""
    return structlog.wrap_logger(
        structlog.BytesLogger(sys.stderr.buffer if stream is None else stream),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(serializer=orjson.dumps),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        cache_logger_on_first_use=True,
    )


class AccessLog:
    """Access lines, one for each request, equal to those of `make_logger(stream).info("request", ...)` but many times
    as fast. Lines of one iteration of the event loop are formatted and written together, at its end."""

    def __init__(self, stream: BinaryIO | None = None) -> None:
        self._logger = structlog.BytesLogger(sys.stderr.buffer if stream is None else stream)
        self._requests: list[tuple[Any, ...]] = []

    def request(
        self,
        method: str,
        route: str | None,
        status: int,
        started: float,
        request_id: str,
        platform: str | None,
        code: str | None,
    ) -> None:
        """Log a request at its answer. `route` is the template of its path, `started` its start by `perf_counter`. Call
        it in the event loop."""
        if not self._requests:
            asyncio.get_running_loop().call_soon(self._write)
        seconds = perf_counter() - started
        self._requests.append((method, route, status, seconds, request_id, platform, code))

    def _write(self) -> None:
        requests, self._requests = self._requests, []
        now = datetime.now(UTC)
        lines = [
            orjson.dumps(
                {
                    "method": method if method in METHODS else "other",
                    "route": route,
                    "status": status,
                    "duration_ms": round(seconds * 1000, 2),
                    "request_id": request_id,
                    "platform": platform,
                    "code": code,
                    "event": "request",
                    "level": "info",
                    "timestamp": now,
                },
                option=orjson.OPT_UTC_Z,
            )
            for method, route, status, seconds, request_id, platform, code in requests
        ]
        self._logger.msg(b"\n".join(lines))


class _Bridge(logging.Handler):
    """Passes the records that libraries log through `logging` to the structured logger, under the module's rule."""

    def __init__(self, logger: Any) -> None:
        super().__init__(logging.INFO)
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        """Log the first line of the message, and an exception without its message."""
        if record.levelno < logging.WARNING and record.name.partition(".")[0] not in CHATTY:
            return
        try:
            # asyncio and other libraries write a repr of values on further lines.
            message = record.getMessage().partition("\n")[0][:MAX_MESSAGE_CHARS]
            fields: dict[str, Any] = {**extras(record), "logger": record.name}
            if record.exc_info and record.exc_info[1] is not None:
                fields.update(failure(record.exc_info[1]))
            level = "error" if record.levelno >= logging.ERROR else record.levelname.lower()
            getattr(self._logger, level, self._logger.info)(message, **fields)
        except Exception:
            self.handleError(record)


def bridge_logging(logger: Any) -> None:
    """Send the logs of libraries (uvicorn, SQLAlchemy, asyncio) to `logger`; a further call replaces the logger.

    uvicorn's access log is disabled: it would write paths with their queries.
    """
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, _Bridge)]:
        root.removeHandler(handler)
    root.addHandler(_Bridge(logger))
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.INFO)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.asgi"):
        library = logging.getLogger(name)
        library.handlers.clear()
        library.propagate = True
    access = logging.getLogger("uvicorn.access")
    access.handlers.clear()
    access.propagate = False
    access.disabled = True
