"""What the SDK logs, under the logger `refund_ledger`: one line an event, `name key=value ...`.

Values are codes, numbers and ids of requests. Nothing here holds an identifier, tag, element, token or order number.
Nothing is printed unless the program configures logging; the record's `event` and `fields` are for structured logs.
"""

from __future__ import annotations

import logging

LOGGER = logging.getLogger("refund_ledger")
LOGGER.addHandler(logging.NullHandler())

Value = str | int | float | bool | None


def note(event: str, *, level: int = logging.WARNING, **fields: Value) -> None:
    """Log an event. Fields that are None are left out."""
    known = {name: value for name, value in fields.items() if value is not None}
    if LOGGER.isEnabledFor(level):
        words = " ".join([event, *(f"{name}={value}" for name, value in known.items())])
        LOGGER.log(level, "%s", words, extra={"event": event, "fields": known})
