"""Log lines of the processes beside the API: one JSON object each, under the same rule as the API's."""

from __future__ import annotations

import io
import json
import logging
from typing import Any

import pytest

from ledger.server.process.json_logs import MAX_MESSAGE_CHARS, JsonLines


def lines(name: str, *calls: tuple[int, str, dict[str, Any]]) -> list[dict[str, Any]]:
    stream = io.StringIO()
    handler = JsonLines("publisher", stream)
    for level, message, extra in calls:
        record = logging.getLogger(name).makeRecord(name, level, "x.py", 1, message, (), None, extra=extra)
        handler.emit(record)
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_one_object_with_the_fields_of_the_call() -> None:
    (line,) = lines("ledger.server.log.publisher", (logging.WARNING, "log_frozen", {"reason": "the guard\nis missing"}))
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "log_frozen",
        "level": "warning",
        "logger": "ledger.server.log.publisher",
        "process": "publisher",
        "reason": "the guard\nis missing",
    }


def test_of_other_libraries_only_warnings_and_no_fields() -> None:
    (line,) = lines("httpx", (logging.INFO, "GET https://x/?secret", {}), (logging.ERROR, "a\nb", {"url": "secret"}))
    assert (line["event"], "secret" in json.dumps(line)) == ("a", False)


@pytest.mark.parametrize("value", [b"tag", ["a"], {"a": 1}, object()])
def test_only_figures_and_short_words(value: object) -> None:
    (line,) = lines("ledger.x", (logging.ERROR, "event", {"thing": value, "text": "x" * 1000, "number": 3}))
    assert "thing" not in line
    assert (len(line["text"]), line["number"]) == (MAX_MESSAGE_CHARS, 3)


def test_an_exception_is_its_class_and_places() -> None:
    stream = io.StringIO()
    handler = JsonLines("publisher", stream)
    try:
        raise ValueError("a tag that a driver quotes")
    except ValueError as error:
        info = (ValueError, error, error.__traceback__)
        handler.emit(logging.getLogger("ledger").makeRecord("ledger", logging.ERROR, "x", 1, "failed", (), info))
    line = json.loads(stream.getvalue())
    assert line["exception"] == ["builtins.ValueError"]
    assert "quotes" not in stream.getvalue()
