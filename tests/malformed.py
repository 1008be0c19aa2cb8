"""Reports with malformed subjects, as earlier versions recorded them: they passed every check of theirs."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ledger.protocol.encoding import unb64url
from ledger.protocol.identifiers import Kind
from ledger.protocol.tags import tag
from ledger.rules.reports import parse_body
from ledger.server.records.commands import PreparedSubject
from ledger.server.records.rows import Answering, convert
from ledger.server.reports.reports import check_report
from ledger.server.runtime import Runtime
from tests.spellings import element, with_bit_255
from tests.support import Platform, report_payload

IDENTITY_AGAIN = with_bit_255(bytes(32))
"""The identity as earlier versions took it."""


def record(
    rt: Runtime, platform: Platform, subjects: Sequence[tuple[Kind, bytes]], epoch: int | None = None, **changes: Any
) -> dict[str, Any]:
    """Record a report about `subjects` whatever their elements are: signed, with the commitments that belong to them.

    The checks run on a report about other elements, whose subjects are exchanged before the appender gets it.
    """
    epoch = epoch or rt.keys.epoch
    payload = report_payload(rt, platform, list(subjects), epoch=epoch, **changes)
    kinds = [(kind, element(1_000_000 + n)) for n, (kind, _) in enumerate(subjects)]
    checked = check_report(
        rt.reports, platform.member(), report_payload(rt, platform, kinds, epoch=epoch, **changes), secrets.token_hex(8)
    )
    prepared = tuple(
        PreparedSubject(kind.value, point, unb64url(given["salt"], 32), tag(kind, point))
        for (kind, point), given in zip(subjects, payload["subjects"], strict=True)
    )
    # libsodium 1.0.18 multiplied what it read without bit 255.
    canonical = [point[:31] + bytes([point[31] & 0x7F]) for _, point in subjects]
    command = replace(
        checked,
        body=parse_body(payload["body"]),
        signed=payload["body"],
        signature=unb64url(payload["signature"], 64),
        subjects=prepared,
        converted=convert(rt.keys, Answering.of(rt.keys.rows), epoch, canonical),
    )
    stored = rt.sequencer.submit(command).result(10)
    return dict(json.loads(stored.body))
