"""Parsing of forms that a page sends as application/x-www-form-urlencoded. (/me parses uploads of files itself.)"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated
from urllib.parse import parse_qsl

from fastapi import Depends
from starlette.requests import Request

from ledger.errors import BodyTooLarge, InvalidRequest

FORM_LIMIT_BYTES = 128 * 1024
"""Seven texts of 2,000 characters of at most nine encoded bytes each, and the other fields of a page."""
MAX_FIELDS = 100
MEDIA_TYPE = "application/x-www-form-urlencoded"


async def read_form(request: Request) -> Mapping[str, str]:
    """Return the fields of the form, each once. Raises InvalidRequest, BodyTooLarge."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != MEDIA_TYPE:
        raise InvalidRequest("The form cannot be read.")
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > FORM_LIMIT_BYTES:
            raise BodyTooLarge(f"A form has at most {FORM_LIMIT_BYTES} bytes.", limit_bytes=FORM_LIMIT_BYTES)
    try:
        pairs = parse_qsl(
            bytes(body).decode("ascii"),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=MAX_FIELDS,
        )
    except ValueError as error:
        raise InvalidRequest("The form cannot be read.") from error
    fields = dict(pairs)
    if len(fields) != len(pairs) or any("\x00" in value for value in fields.values()):
        raise InvalidRequest("The form cannot be read.")  # PostgreSQL stores no NUL, and no field may be repeated
    return fields


Form = Annotated[Mapping[str, str], Depends(read_form)]
"""The fields of the form that was sent."""
