"""The yardstick for the server's shortest path: bare ASGI, no framework, nothing of the ledger.

It parses the same JSON with the same library and answers as many bytes. `uvicorn` runs it with the same loop and
parser.
"""

from __future__ import annotations

import os
from typing import Any

import orjson

LOOKUP_BYTES = 3072
BUCKET_BYTES_VARIABLE = "BARE_BUCKET_BYTES"


class BareApp:
    """POST: the parsed lookup's epoch and a standing, padded to `LOOKUP_BYTES`. GET: `bucket_bytes` bytes."""

    def __init__(self, bucket_bytes: int) -> None:
        self._bucket = os.urandom(bucket_bytes)
        standing = {"id": "lk_12345678", "tier": "clear", "credit": 100, "points": 0.0, "events": 0, "reporters": 0}
        self._answer = {**standing, "reasons": [], "guidance": ["approve"], "matched_kinds": [], "policy": 1}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """ASGI entry point."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["method"] == "GET":
            await self._send(send, b"application/octet-stream", self._bucket)
        else:
            body, more = b"", True
            while more:
                message = await receive()
                body += message["body"]
                more = message.get("more_body", False)
            asked = orjson.loads(body)
            bare = orjson.dumps({**self._answer, "epoch": asked["epoch"], "padding": ""})
            answer = bare[:-2] + b"." * (LOOKUP_BYTES - len(bare)) + bare[-2:]
            await self._send(send, b"application/json", answer)

    async def _lifespan(self, receive: Any, send: Any) -> None:
        while (await receive())["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})

    async def _send(self, send: Any, media_type: bytes, body: bytes) -> None:
        headers = [(b"content-length", b"%d" % len(body)), (b"content-type", media_type)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def create_app() -> BareApp:
    """The application."""
    return BareApp(int(os.environ.get(BUCKET_BYTES_VARIABLE, "0")))
