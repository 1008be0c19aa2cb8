"""What a log line may contain, and the log lines of the processes beside the API: one JSON object each on standard
error.

No line may contain an identifier, element, tag, token or key. So a failure is logged as the exception's class and its
locations in the code, never its message, because a driver's message quotes the data that was being written. Further
fields are those that the ledger's own code passes (`extra=`), and only figures and short words.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

CHATTY = ("uvicorn", "ledger", "api")
"""Packages whose ordinary messages are logged. Of all others only warnings are logged: an HTTP client, for example,
writes whole URLs into its ordinary messages."""

MAX_MESSAGE_CHARS = 200
MAX_FRAMES = 20
_ROOT = Path(__file__).resolve().parents[3]
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "event", "level", "logger"}


def failure(error: BaseException) -> dict[str, Any]:
    """Return the fields that may be logged about an exception: its class, its causes' classes, and where it
    was raised."""
    causes: list[str] = []
    cause: BaseException | None = error
    while cause is not None and len(causes) < 5:
        causes.append(f"{type(cause).__module__}.{type(cause).__qualname__}")
        cause = cause.__cause__ or cause.__context__
    return {"exception": causes, "frames": _frames(error.__traceback__)}


def _frames(traceback: TracebackType | None) -> list[str]:
    frames: list[str] = []
    while traceback is not None:
        code = traceback.tb_frame.f_code
        path = Path(code.co_filename)
        shown = path.relative_to(_ROOT) if path.is_relative_to(_ROOT) else Path(*path.parts[-2:])
        frames.append(f"{shown}:{traceback.tb_lineno} {code.co_name}")
        traceback = traceback.tb_next
    return frames[-MAX_FRAMES:]


def extras(record: logging.LogRecord) -> dict[str, Any]:
    """Return the fields that the ledger's own code passed to a log call: figures, and texts cut to
    MAX_MESSAGE_CHARS."""
    if record.name.partition(".")[0] not in ("ledger", "api"):
        return {}
    extra = {name: value for name, value in vars(record).items() if name not in _STANDARD}
    return {
        name: value[:MAX_MESSAGE_CHARS] if isinstance(value, str) else value
        for name, value in extra.items()
        if value is None or isinstance(value, str | int | float)
    }


class JsonLines(logging.Handler):
    """Writes one JSON object a line to `stream`, with the name of the process."""

    def __init__(self, process: str, stream: TextIO | None = None) -> None:
        super().__init__(logging.INFO)
        self._process = process
        self._stream = sys.stderr if stream is None else stream

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line: the first line of the message, the fields, and an exception without its message."""
        if record.levelno < logging.WARNING and record.name.partition(".")[0] not in CHATTY:
            return
        try:
            line: dict[str, Any] = extras(record)
            if record.exc_info and record.exc_info[1] is not None:
                line.update(failure(record.exc_info[1]))
            level = "error" if record.levelno >= logging.ERROR else record.levelname.lower()
            line |= {
                "event": record.getMessage().partition("\n")[0][:MAX_MESSAGE_CHARS],
                "level": level,
                "logger": record.name,
                "process": self._process,
                "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat().replace("+00:00", "Z"),
            }
            self._stream.write(json.dumps(line, ensure_ascii=False) + "\n")
            self._stream.flush()
        except Exception:
            self.handleError(record)


def log_as_json(process: str) -> None:
    """Send all log records of this process to standard error, one JSON object a line."""
    root = logging.getLogger()
    root.addHandler(JsonLines(process))
    root.setLevel(logging.INFO)
