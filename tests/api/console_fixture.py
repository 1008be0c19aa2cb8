"""The console in tests: one account of each role, and signed-in clients."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx2

from tests.api.conftest import Api
from tests.staffing import ROLES, Person, enrol, forget_codes


@dataclass
class ConsoleFixture:
    """A server with one member of staff of each role, named after it."""

    api: Api
    staff: dict[str, Person] = field(default_factory=dict)
    clients: list[httpx2.Client] = field(default_factory=list)

    def __post_init__(self) -> None:
        for role in ROLES:
            self.add(role, role)

    def add(self, name: str, role: str, **changes: Any) -> Person:
        """One more account."""
        rt = self.api.rt
        changes = {"service_id": self.api.settings.service, **changes}
        self.staff[name] = enrol(rt.engine, name, role, sealing_key=rt.keys.sealing_key, **changes)
        return self.staff[name]

    def origin(self) -> dict[str, str]:
        """Headers of a form that a page of the server sends."""
        return {"Origin": self.api.url}

    def client(self) -> httpx2.Client:
        """Return a browser without a session. It follows no redirect."""
        self.clients.append(httpx2.Client(verify=False, base_url=self.api.url, timeout=30))
        return self.clients[-1]

    def close_clients(self) -> None:
        """Close all browsers."""
        while self.clients:
            self.clients.pop().close()

    def credentials(self, name: str) -> dict[str, str]:
        """What this person types now. The code works, even if it was used before."""
        person = self.staff[name]
        forget_codes(self.api.rt.engine, person)
        return {"name": person.name, "password": person.password, "code": person.code_at(datetime.now(UTC))}

    def signed_in(self, name: str) -> httpx2.Client:
        """A browser in which `name` is signed in."""
        client = self.client()
        answer = post(client, "/console/login", self.credentials(name), self.origin())
        assert answer.status_code == 303, answer.text
        return client


def post(
    client: httpx2.Client, path: str, data: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None
) -> httpx2.Response:
    """Send a form, by default as the service's own page does."""
    own = {"Sec-Fetch-Site": "same-origin"} if headers is None else dict(headers)
    return client.post(path, data=dict(data or {}) or {"": ""}, headers=own)


def said(answer: httpx2.Response) -> str:
    """The page's text without its markup."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", answer.text))


def assert_shell(answer: httpx2.Response) -> None:
    """The headers that every page carries."""
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert "base-uri 'none'" in policy
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "same-origin"
    assert answer.headers["cross-origin-opener-policy"] == "same-origin"
    assert answer.headers["cache-control"] == "no-store"
    if answer.headers.get("content-type", "").startswith("text/html"):
        assert not re.search(r"<script(?! src=\"/static/)|<style|\sstyle=|\son[a-z]+=|javascript:", answer.text)
        assert re.search(r'<html lang="(en|zh-CN)">', answer.text)
        assert answer.text.count("<h1>") == 1
