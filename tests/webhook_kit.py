"""What tests of webhooks need: a ledger whose own sender rests, its platforms, and a clock that tests turn."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

from ledger.rules.webhooks import MessageSource, Recipient, WebhookType
from ledger.server.db.engine import writing
from ledger.server.runtime import Runtime, utc_now
from ledger.server.webhooks import endpoints
from ledger.server.webhooks.emit import emit
from ledger.server.webhooks.sender import Sender
from tests.receiver import Receiver, receiving
from tests.support import Platform, new_ledger, opened

DATA = {"appeal": "ap_abcdefgh", "report": "rp_abcdefgh", "state": "submitted"}
EVENTS = ["appeal.opened", "report.voided", "snapshot.published", "key.rotated"]


@dataclass
class Post:
    """A ledger with the platforms acme and bolt, and a sender that tests move."""

    acme: Platform
    bolt: Platform
    moment: datetime = field(default_factory=lambda: utc_now().replace(microsecond=0))
    rt: Runtime = field(init=False)
    sender: Sender = field(init=False)

    def now(self) -> datetime:
        """The clock of this ledger and its senders."""
        return self.moment

    def endpoint(self, receiver: Receiver, path: str = "", platform: Platform | None = None) -> dict[str, Any]:
        """Register `receiver`."""
        return endpoints.create(self.rt.webhooks, (platform or self.acme).member(), receiver.url + path, EVENTS)

    def emit(self, count: int = 1, platform: str = "acme") -> None:
        """Messages about an appeal."""
        with writing(self.rt.engine) as connection:
            for _ in range(count):
                self.write(connection, platform)

    def write(self, connection: Connection, platform: str = "acme") -> None:
        """One message in the transaction of `connection`."""
        opened = WebhookType.APPEAL_OPENED
        emit(connection, self.now(), self.source, platform, opened, Recipient.REPORTER, DATA)

    @property
    def source(self) -> MessageSource:
        """What messages say of their ledger."""
        return MessageSource(self.rt.settings.service, self.rt.settings.environment)

    def deliveries(self, endpoint: dict[str, Any], platform: Platform | None = None) -> list[dict[str, Any]]:
        """Newest first."""
        member = (platform or self.acme).member()
        result: list[dict[str, Any]] = endpoints.deliveries(self.rt.webhooks, member, endpoint["id"], 100, None)["data"]
        return result

    def last(self, endpoint: dict[str, Any]) -> tuple[Any, ...]:
        """State, attempts, last status and error of the newest delivery."""
        first = self.deliveries(endpoint)[0]
        return first["state"], first["attempts"], first["last_status"], first["last_error"]

    def another(self, **arguments: Any) -> Sender:
        """One more sender, as another process has one."""
        rt = self.rt
        values: dict[str, Any] = {"jitter": lambda: 0.0, "look_seconds": 0.02, **arguments}
        return Sender(rt.settings, rt.engine, rt.keys.sealing_key, self.now, **values)


@pytest.fixture
def post(migrated_url: str, tmp_path: Path) -> Iterator[Post]:
    settings = new_ledger(migrated_url, tmp_path, webhook_allow_private=True)
    acme = Platform("acme", "acme-group", "acme-1").enrol(settings)
    created = Post(acme, Platform("bolt", "bolt-group", "bolt-1").enrol(settings))
    with opened(settings, created.now) as rt:
        rt.sender.close()
        created.rt = rt
        created.sender = created.another()
        yield created
        created.sender.close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as first:
        yield first
