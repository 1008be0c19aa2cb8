"""Static files of pages: style sheets, scripts, pictures. All are read at start and served from memory.

Pages name a file with the hash of its content, so browsers may cache it for ever.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from api.web.security import static_headers
from ledger.errors import NotFound

FOLDER = Path(__file__).resolve().parent / "static"
TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".woff2": "font/woff2",
}
FOR_EVER = "public, max-age=31536000, immutable"

router = APIRouter(include_in_schema=False)


@dataclass(frozen=True, slots=True)
class StaticFile:
    """A file and the hash of its content."""

    content: bytes
    media_type: str
    version: str


@cache
def files() -> dict[str, StaticFile]:
    """Return all files, by name."""
    by_name = {}
    for path in sorted(FOLDER.iterdir()):
        if path.suffix in TYPES:
            content = path.read_bytes()
            by_name[path.name] = StaticFile(content, TYPES[path.suffix], hashlib.sha256(content).hexdigest()[:16])
    return by_name


def static_url(base: str, name: str) -> str:
    """Return the address of a file below the service's prefix, with its version. Raises KeyError for an unknown
    file."""
    return f"{base}/static/{name}?v={files()[name].version}"


@router.get("/static/{name}")
async def get_static(request: Request, name: str) -> Response:
    """Send one file. Raises NotFound."""
    file = files().get(name)
    if file is None:
        raise NotFound("There is nothing at this path.")
    named = request.query_params.get("v") == file.version
    headers = {**static_headers(FOR_EVER if named else "no-cache"), "ETag": f'"{file.version}"'}
    known = request.headers.get("if-none-match", "")
    if f'"{file.version}"' in [etag.strip().removeprefix("W/") for etag in known.split(",")]:
        return Response(status_code=304, headers=headers)
    return Response(file.content, headers=headers, media_type=file.media_type)
