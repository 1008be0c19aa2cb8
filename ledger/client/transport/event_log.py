"""What the SDK logs, under the logger `refund_ledger`: one line an event, `name key=value ...` or `name: sentence`.

Values are codes, numbers and ids of requests. Nothing here holds an identifier, tag, element, token or order number.
Nothing is printed unless the program configures logging; the record's `event` and `fields` are for structured logs.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from ledger.errors import ProofError

LOGGER = logging.getLogger("refund_ledger")
LOGGER.addHandler(logging.NullHandler())

Value = str | int | float | bool | None


def log_event(event: str, *, level: int = logging.WARNING, **fields: Value) -> None:
    """Log an event. Fields that are None are left out."""
    known = {name: value for name, value in fields.items() if value is not None}
    if LOGGER.isEnabledFor(level):
        words = " ".join([event, *(f"{name}={value}" for name, value in known.items())])
        LOGGER.log(level, "%s", words, extra={"event": event, "fields": known})


def log_advice(event: str, sentence: str, *, level: int = logging.WARNING, **fields: Value) -> None:
    """Log an event that asks for something to be done: `name: sentence`, where `{field}` in `sentence` is a field's
    value."""
    if LOGGER.isEnabledFor(level):
        text = f"{event}: {sentence.format_map(fields)}"
        LOGGER.log(level, "%s", text, extra={"event": event, "fields": fields})


@contextmanager
def proof_errors_logged(call: str) -> Iterator[None]:
    """Log a ProofError of `call` as `proof_error`, and raise it."""
    try:
        yield
    except ProofError as error:
        request_id = error.details.get("request_id")
        known = request_id if isinstance(request_id, str) else None
        log_event("proof_error", level=logging.ERROR, call=call, code=error.code, request_id=known)
        raise
