"""The answer that sends an uploaded file."""

from __future__ import annotations

from starlette.responses import Response

from api.middleware import FRAME_HEADERS
from api.web.security import page_headers
from ledger.server.appeals.attachments import serving_headers

_FRAME = {name.decode().lower() for name, _ in FRAME_HEADERS}


def file_response(data: bytes, media_type: str, name: str) -> Response:
    """Return `data` under headers that keep it harmless in a browser: those of pages, overridden by those of files,
    without those that the request's frame adds to every answer."""
    headers = {**page_headers(), **serving_headers(media_type, name)}
    return Response(data, headers={key: value for key, value in headers.items() if key.lower() not in _FRAME})
