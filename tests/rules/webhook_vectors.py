"""What docs/webhooks.md and docs/vectors/webhooks.json say of the events, made by the code from their rows.

`python -m tests.rules.webhook_vectors > docs/vectors/webhooks.json` writes the vectors anew.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from ledger.protocol.encoding import format_time
from ledger.protocol.public_ids import encode_id
from ledger.rules.webhooks import (
    EVENTS,
    ID_HEADER,
    SIGNATURE_HEADER,
    TIMESTAMP_HEADER,
    MessageSource,
    format_secret,
    message_body,
    signature_header,
)

SECRET = bytes(range(32))
SOURCE = MessageSource("ledger.example", "live")
AT = datetime(2026, 1, 31, 12, tzinfo=UTC)
FIRST_MESSAGE = 1209
ABOUT = (
    "One message for each event and recipient. Verify `body` (its UTF-8 bytes) and `headers` with `secret`, with the "
    "clock at `sent_at`. `type` and `recipient` repeat what the body says."
)


def vectors() -> dict[str, Any]:
    """One signed message for each event and recipient, in the order of the rows."""
    pairs = [(type_, payload) for type_, spec in EVENTS.items() for payload in spec.payloads]
    messages = []
    for number, (type_, recipient) in enumerate(pairs, FIRST_MESSAGE):
        data = {member.name: member.example for member in EVENTS[type_].payloads[recipient]}
        body = message_body(type_, recipient, SOURCE, AT, data)
        message_id, sent = encode_id("wm", number, SOURCE.service), int(AT.timestamp())
        headers = {
            ID_HEADER: message_id,
            TIMESTAMP_HEADER: str(sent),
            SIGNATURE_HEADER: signature_header([SECRET], message_id, sent, body.encode()),
        }
        messages.append({"type": type_.value, "recipient": recipient.value, "headers": headers, "body": body})
    return {"about": ABOUT, "secret": format_secret(SECRET), "sent_at": format_time(AT), "messages": messages}


def events_table() -> str:
    """The rows of the page's table of events."""
    return "".join(
        f"| `{type_}` | {recipient} | {spec.when} | {', '.join(f'`{member.name}`' for member in members)} |\n"
        for type_, spec in EVENTS.items()
        for recipient, members in spec.payloads.items()
    )


def members_table() -> str:
    """The rows of the page's table of members. A member that several recipients of an event get has one row with all
    its values, one that several events have alike has one row with all their types."""
    of_event: dict[tuple[str, str, str], list[str]] = {}
    for type_, spec in EVENTS.items():
        for members in spec.payloads.values():
            for member in members:
                forms = of_event.setdefault((type_.value, member.name, member.meaning), [])
                if member.form not in forms:
                    forms.append(member.form)
    alike: dict[tuple[str, str, str], list[str]] = {}
    for (type_name, name, meaning), forms in of_event.items():
        alike.setdefault((name, ", ".join(forms), meaning), []).append(f"`{type_name}`")
    return "".join(
        f"| `{name}` | {', '.join(types)} | {form} | {meaning} |\n" for (name, form, meaning), types in alike.items()
    )


def example() -> str:
    """The HTTP request of the page: the first of the vectors."""
    message = vectors()["messages"][0]
    head = {"Host": "hooks.acme.example", "Content-Type": "application/json", **message["headers"]}
    return (
        "POST /refund-ledger HTTP/1.1\n"
        + "".join(f"{name}: {value}\n" for name, value in head.items())
        + f"\n{message['body']}\n"
    )


if __name__ == "__main__":
    print(json.dumps(vectors(), indent=2))  # noqa: T201
