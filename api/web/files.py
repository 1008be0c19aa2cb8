"""Sending a stranger's file to a browser."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.responses import Response

from api.middleware import FRAME_HEADERS
from api.web.security import page_headers

_FRAME = {name.decode().lower() for name, _ in FRAME_HEADERS}


def file_response(data: bytes, serving: Mapping[str, str]) -> Response:
    """`data` under its serving headers (`service.attachments.serving_headers`), which win over those of pages. What the
    request's frame adds to every answer is not said twice."""
    headers = {name: value for name, value in {**page_headers(), **serving}.items() if name.lower() not in _FRAME}
    return Response(data, headers=headers)
