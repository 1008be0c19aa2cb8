"""A server for the API's tests: real HTTP on loopback, one for each module and engine."""

from __future__ import annotations

import io
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest
import uvicorn
from fastapi import FastAPI
from sqlalchemy import make_url

from api.app import create_app
from api.serving import server_options
from ledger.protocol import sodium
from ledger.protocol.encoding import b64url
from ledger.protocol.identifiers import Kind
from ledger.protocol.tags import tag
from ledger.server.runtime import Runtime
from ledger.server.settings import Settings
from tests import pg
from tests.conftest import ONE_OF_ENGINES_BY_FILE
from tests.support import CONSENT, Platform, mint, new_ledger, publish, report_payload

SCOPES = ("lookup", "report", "appeal", "log")
ACME = Platform("acme", "acme-group", "acme-1", scopes=SCOPES)
BETA = Platform("beta", "beta-group", "beta-1", scopes=SCOPES)
READER = Platform("reader", "reader-group", "reader-1", scopes=("lookup",))


@dataclass
class Api:
    """A running server with the platforms ACME, BETA and READER."""

    settings: Settings
    app: FastAPI
    url: str
    logs: io.BytesIO
    client: httpx2.Client
    tokens: dict[str, str] = field(default_factory=dict)

    @property
    def rt(self) -> Runtime:
        """What the server holds open."""
        runtime: Runtime = self.app.state.runtime
        return runtime

    def token(self, platform: Platform, **changes: Any) -> str:
        """A token of `platform` for this service."""
        return mint(platform.key, platform.kid, platform.name, self.settings.service, **changes)

    def request(
        self, method: str, path: str, platform: Platform | None = None, *, key: str | None = None, **arguments: Any
    ) -> httpx2.Response:
        """One request, with a token of `platform` and the idempotency key `key` if given."""
        headers = dict(arguments.pop("headers", {}))
        if platform is not None:
            if platform.name not in self.tokens:
                self.tokens[platform.name] = self.token(platform)
            headers.setdefault("Authorization", f"Bearer {self.tokens[platform.name]}")
        if key is not None:
            headers["Idempotency-Key"] = key
        return self.client.request(method, path, headers=headers, **arguments)

    def report(self, platform: Platform, subjects: list[tuple[Kind, bytes]], **changes: Any) -> httpx2.Response:
        """Record a report with a fresh idempotency key."""
        payload = report_payload(self.rt, platform, subjects, **changes)
        return self.request("POST", "/v1/reports", platform, key=secrets.token_hex(8), json=payload)

    def lookup_body(self, *subjects: tuple[Kind, bytes], **changes: Any) -> dict[str, Any]:
        """A lookup of these (kind, element) pairs."""
        return {
            "epoch": self.rt.keys.epoch,
            "subjects": [{"kind": kind.value, "tag": b64url(tag(kind, element))} for kind, element in subjects],
            "purpose": "refund_review",
            "order_ref": b64url(secrets.token_bytes(32)),
            "consent_ref": CONSENT,
            **changes,
        }

    def publish(self) -> None:
        """One round of the publisher."""
        publish(self.settings)


def person() -> bytes:
    """Return the element of a new person."""
    return sodium.point_from_hash(secrets.token_bytes(64))


@contextmanager
def running(settings: Settings) -> Iterator[Api]:
    """A server in this process, in a thread of its own."""
    logs = io.BytesIO()
    app = create_app(settings, log_stream=logs)
    listener = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    server = uvicorn.Server(uvicorn.Config(app, lifespan="on", **server_options(settings)))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    deadline = time.monotonic() + 30
    while not server.started:
        assert thread.is_alive(), logs.getvalue().decode()
        assert time.monotonic() < deadline, logs.getvalue().decode()
        time.sleep(0.01)
    with httpx2.Client(verify=False, base_url=url, timeout=30) as client:
        try:
            yield Api(settings, app, url, logs, client)
        finally:
            server.should_exit = True
            thread.join(timeout=30)
            listener.close()
    assert not thread.is_alive(), "the server stops when it is asked to"


@pytest.fixture
def migrated_url(one_engine_url: str) -> str:
    """URL of a database with the schema and no rows, on one engine: tests of the layers below run on both."""
    return one_engine_url


@pytest.fixture(scope="module", params=ONE_OF_ENGINES_BY_FILE)
def api(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A server on a fresh ledger, shared by the tests of a module: each uses people of its own. The module's name
    chooses the engine; a test with the marker `both_engines` runs on both."""
    folder: Path = tmp_path_factory.mktemp("api")
    if request.param == "sqlite":
        url = f"sqlite:///{folder / 'ledger.db'}"
    else:
        template = make_url(request.getfixturevalue("postgresql_schema")())
        url = pg.create_database(template, template).render_as_string(False)
    settings = new_ledger(
        url,
        folder,
        body_limit_bytes=2 * 1024 * 1024,
        attachment_limit_bytes=3 * 1024 * 1024,
        subject_sessions_daily_quota=60,
        webhook_allow_private=True,
    )
    for platform in (ACME, BETA, READER):
        platform.enrol(settings)
    with running(settings) as server:
        yield server
    if request.param == "postgresql":
        pg.drop_database(url)
