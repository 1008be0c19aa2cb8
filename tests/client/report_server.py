"""A server that takes reports over HTTP as the ledger does, fails on request, and counts what it recorded; an outbox
and a transport whose process can be killed at every step; and generated sequences of outbox operations run with
them."""

from __future__ import annotations

import hashlib
import json
import random
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from ledger.client.models.reports import Delivery
from ledger.client.outbox.sender import OutboxSender, encode
from ledger.client.outbox.store import New, Operation, Outbox
from ledger.client.transport.budgets import Deadline
from ledger.client.transport.http import HttpAnswer, Transport
from ledger.protocol.encoding import b64url, canonical_json, format_time
from tests.faulty import answering

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
Response = tuple[int, dict[str, str], bytes]
OUTAGE: Response = (503, {"Retry-After": "3600"}, b'{"code": "unavailable", "detail": "Down."}')


class Killed(BaseException):
    """The process ends here."""


@dataclass
class ReportServer:
    """The ledger's side. Two reports of one order are both recorded: so a doubled one is seen."""

    now: datetime = START
    reports: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The views by id."""
    changes: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(report, operation) -> how often it was carried out."""
    remembered: dict[str, tuple[bytes, dict[str, Any], datetime]] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    """Order -> the code with which its reports are refused."""
    broken: set[str] = field(default_factory=set)
    """Orders on which the ledger fails (500)."""
    spoiling: set[str] = field(default_factory=set)
    """Orders whose report makes the ledger refuse a whole batch."""
    faults: dict[int, str] = field(default_factory=dict)
    """Number of a request from now -> `before` (nothing happens) or `after` (done, and the answer is lost)."""
    requests: list[str] = field(default_factory=list)

    def respond(self, method: str, path: str, body: bytes, headers: dict[str, str] | None = None) -> Response:
        fault = self.faults.pop(len(self.requests), None)
        self.requests.append(f"{method} {path.partition('?')[0]}")
        if fault == "before":
            return OUTAGE
        status, answer = self._answer(method, urlsplit(path).path, parse_qs(urlsplit(path).query), body)
        if fault == "after":
            return OUTAGE
        return status, OUTAGE[1] if status == 500 else {}, json.dumps(answer).encode()  # not asked again at once

    def _answer(self, method: str, path: str, query: dict[str, list[str]], body: bytes) -> tuple[int, dict[str, Any]]:
        if method == "GET" and path == "/v1/reports":
            reference = query["order_ref"][0]
            views = [view for view in reversed(self.reports.values()) if view["order_ref"] == reference]
            return 200, {"data": views, "has_more": False}
        if path == "/v1/reports/batch":
            items = json.loads(body)["reports"]
            if any(item["body"]["order_ref"] in self.spoiling for item in items):
                return 422, problem(422, "invalid_request")
            return 200, {"results": [self._batched(item) for item in items]}
        if path == "/v1/reports":
            return self.record(json.loads(body), None)
        _, _, _, number, *action = path.split("/")
        if number not in self.reports:
            return 404, problem(404, "not_found")
        if method == "GET":
            return 200, self.reports[number]
        return self._change(number, action[0], json.loads(body))

    def _batched(self, item: dict[str, Any]) -> dict[str, Any]:
        key = item.pop("idempotency_key")
        status, value = self.record(item, key)
        return {"status": status, "idempotency_key": key, "report" if status == 201 else "problem": value}

    def record(self, sent: dict[str, Any], key: str | None) -> tuple[int, dict[str, Any]]:
        """What becomes of a report."""
        body = sent["body"]
        order, mac = body["order_ref"], hashlib.sha256(canonical_json(sent)).digest()
        key = key or sent["signature"]  # one key for each signed body, as the stories have them
        before = self.remembered.get(key)
        if before is not None and before[2] > self.now - timedelta(hours=24):
            return (201, before[1]) if before[0] == mac else (409, problem(409, "idempotency_mismatch"))
        if order in self.broken:
            return 500, problem(500, "internal")
        if order in self.spoiling:
            return 422, problem(422, "invalid_report")
        if order in self.refused:
            return 409, problem(409, self.refused[order], case="ap_1")
        number = f"rp_{len(self.reports) + 1:08d}"
        self.reports[number] = view_of(number, body, self.now)
        answer = {
            name: self.reports[number][name]
            for name in ("id", "entry_index", "status", "effective_from", "expires_at", "receipt_url", "order_ref")
        }
        answer["body_sha256"] = b64url(hashlib.sha256(canonical_json(body)).digest())
        self.remembered[key] = mac, answer, self.now
        return 201, answer

    def _change(self, number: str, action: str, sent: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        view = self.reports[number]
        member = "withdrawal" if action == "withdraw" else "restitution"
        correction = {"reason": sent["reason"]} if action == "withdraw" else {"received_at": sent["received_at"]}
        if view[member] is not None:  # as under a key that is remembered; a later one is asked about first
            return (200, view) if view[member] == correction else (409, problem(409, "already_reversed"))
        self.changes[number, action] += 1
        view[member] = correction
        return 200, view


def problem(status: int, code: str, **details: str) -> dict[str, Any]:
    return {"title": code, "status": status, "code": code, "detail": f"It is {code}.", **details}


def view_of(number: str, body: dict[str, Any], recorded_at: datetime) -> dict[str, Any]:
    same = ("conduct", "order_ref", "amount_minor", "currency", "outcome", "act_ended_at", "notice_sent_at")
    return {
        **{name: body[name] for name in same},
        "id": number, "entry_index": int(number[3:]), "status": "counting", "recorded_at": format_time(recorded_at),
        "effective_from": format_time(recorded_at), "expires_at": format_time(recorded_at + timedelta(days=365)),
        "replaces": None, "replaced_by": None, "restitution": None, "withdrawal": None, "receipt_url": "/r",
    }  # fmt: skip


def order_of(name: str) -> str:
    return b64url(hashlib.sha256(name.encode()).digest())


def report_of(name: str) -> dict[str, Any]:
    """A signed report as the SDK sends it; the order is named after `name`. Nothing here checks the signature."""
    body = {
        "v": 1, "service": "server", "platform": "acme", "kid": "acme-1", "epoch": 1, "subjects": [], "evidence": [],
        "order_ref": order_of(name), "conduct": "fake_return_tracking", "amount_minor": 9900, "currency": "CNY",
        "outcome": "refund_refused", "act_ended_at": "2026-02-01T00:00:00Z", "notice_sent_at": "2026-02-02T00:00:00Z",
        "notice_ref": "n", "decided_by": "a",
    }  # fmt: skip
    return {
        "body": body,
        "signature": f"signed-{name}".replace(" ", "-"),
        "subjects": [{"kind": "phone", "element": name, "salt": ""}],
    }


class Life:
    """Counts the steps of a process, and ends it at one of them."""

    def __init__(self, steps: int | None) -> None:
        self.left = steps

    def step(self) -> None:
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise Killed


class MortalOutbox(Outbox):
    """An outbox of a process that may be killed before and after each transaction."""

    def __init__(self, path: Path, life: Life) -> None:
        self.life = life
        super().__init__(path)

    def _opened(self) -> sqlite3.Connection:
        database = super()._opened()
        database.execute("PRAGMA synchronous = OFF")  # a killed process loses nothing by it; power cuts are not played
        return database

    @contextmanager
    def _writing(self) -> Iterator[Any]:
        self.life.step()
        with super()._writing() as database:
            yield database
        self.life.step()


class MortalTransport(Transport):
    """A transport of a process that may be killed before a request and after its answer."""

    life = Life(None)

    def send(self, method: str, path: str, deadline: Deadline, **more: Any) -> HttpAnswer:
        self.life.step()
        answer = super().send(method, path, deadline, **more)
        self.life.step()
        return answer


KINDS = (
    *("new", "new", "new", "lost answer", "refused", "disputed", "broken", "spoiling", "unfit key", "damaged"),
    *("withdraw", "withdraw unknown", "withdraw done", "restitution", "restitution unknown", "restitution done"),
)
CODES = {
    "refused": "order_already_reported",
    "spoiling": "invalid_report",
    "unfit key": "invalid_request",
    "damaged": "invalid_request",
    "withdraw unknown": "not_found",
    "restitution unknown": "not_found",
}
"""The code with which each kind that is never delivered ends as refused."""


@dataclass
class Story:
    """An outbox of items of these kinds, some of them old, and what happens while it is flushed."""

    items: Sequence[tuple[str, bool]]
    """(kind, whether the ledger has forgotten its idempotency key)."""
    faults: dict[int, str]
    lives: Sequence[int]
    """How many steps each process lives before it is killed; the last one is not killed."""


class Stage:
    """Where stories are played: one server served over HTTP, a new outbox for each story."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.server = ReportServer()
        self.transport = MortalTransport(url, sleep=lambda _: None)
        self.count = 0

    def respond(self, method: str, path: str, body: bytes) -> Response:
        return self.server.respond(method, path, body)

    def play(self, story: Story) -> None:
        """Raises AssertionError where something was lost, doubled, or kept from its turn."""
        self.count += 1
        path = self.folder / f"outbox-{self.count}.db"
        server = self.server = ReportServer()
        expected = self._fill(path, story)
        server.faults = {len(server.requests) + number: fault for number, fault in story.faults.items()}
        for life in story.lives:
            with suppress(Killed):
                self._flush(path, Life(life))
        self._flush(path, Life(None))
        for _ in range(2 * len(server.faults) + len(story.items) + 3):
            if not any(self._waiting(path, expected)):
                break
            self._flush(path, Life(None))
        states = self._states(path)
        for key, kind in expected.items():
            if kind in CODES:
                assert states[key] == ("refused", CODES[kind]), (kind, states.get(key))
            elif kind == "disputed":
                assert states[key] == ("parked", "report_disputed"), states.get(key)
            elif kind == "broken":
                assert states[key] == ("pending", "unavailable"), states.get(key)
            else:
                assert key not in states, (kind, states[key])
        self._check_server(expected)
        server.refused = {order: code for order, code in server.refused.items() if code != "report_disputed"}
        server.now += timedelta(hours=12)
        server.faults.clear()
        self._flush(path, Life(None))
        self._flush(path, Life(None))
        assert "parked" not in {state for state, _ in self._states(path).values()}
        self._check_server({key: "new" if kind == "disputed" else kind for key, kind in expected.items()})

    def _fill(self, path: Path, story: Story) -> dict[str, str]:
        """Put the items into the outbox; key -> kind."""
        server, expected = self.server, {}
        outbox = MortalOutbox(path, Life(None))
        for number, (kind, old) in enumerate(story.items):
            name = f"{number}-{kind}"
            at = START - timedelta(hours=30 if old else 1)
            key = f"signed-{name}".replace(" ", "-")
            operation: Operation = "report"
            where, payload = "/v1/reports", report_of(name)
            if kind.startswith(("withdraw", "restitution")):
                operation = "withdraw" if kind.startswith("withdraw") else "restitution"
                target = f"rp_unknown{number}"
                if not kind.endswith("unknown"):
                    server.now = at
                    target = server.record(report_of(name), key)[1]["id"]
                    server.now = START
                where = f"/v1/reports/{target}/{operation}"
                payload = {"reason": "other"} if operation == "withdraw" else {"received_at": "2026-02-20T00:00:00Z"}
                if kind.endswith("done"):
                    server._change(target, operation, payload)
            elif kind == "lost answer":
                server.now = at
                server.record(payload, key)
                server.now = START
            elif kind in ("refused", "disputed"):
                server.refused[order_of(name)] = "order_already_reported" if kind == "refused" else "report_disputed"
            elif kind in ("broken", "spoiling"):
                getattr(server, kind).add(order_of(name))
            elif kind == "unfit key":
                key = f"订单 {number}"
            content = b"{not json" if kind == "damaged" else encode(payload)
            outbox.add([New(key, operation, where, content)], at)
            expected[key] = kind
        outbox.close()
        return expected

    def _flush(self, path: Path, life: Life) -> list[Delivery[Any]]:
        self.transport.life = life
        outbox = MortalOutbox(path, life)
        try:
            sender = OutboxSender(self.transport, outbox, lambda: self.server.now, 5.0, 5.0, bytes)
            return sender.flush()
        finally:
            outbox.close()

    def _states(self, path: Path) -> dict[str, tuple[str, str | None]]:
        outbox = Outbox(path)
        texts: dict[str, tuple[str, str | None]] = {
            item.idempotency_key: (item.state, None if item.error is None else item.error["code"])
            for item in outbox.items()
        }
        outbox.close()
        return texts

    def _waiting(self, path: Path, expected: dict[str, str]) -> Iterator[str]:
        for key, (state, _) in self._states(path).items():
            if state == "pending" and expected[key] != "broken":
                yield key

    def _check_server(self, expected: dict[str, str]) -> None:
        recorded = Counter(view["order_ref"] for view in self.server.reports.values())
        for number, kind in enumerate(expected.values()):
            name = f"{number}-{kind}"
            if kind in ("new", "lost answer"):
                count = recorded[order_of(name)] + recorded[order_of(f"{number}-disputed")]
                assert count == 1, (name, count)
            elif kind in ("refused", "disputed", "broken", "spoiling", "unfit key", "damaged"):
                assert recorded[order_of(name)] == 0, name
        done = {"withdraw", "restitution", "withdraw done", "restitution done"}
        assert sum(self.server.changes.values()) == sum(kind in done for kind in expected.values())
        assert set(self.server.changes.values()) <= {1}


@contextmanager
def stage(folder: Path) -> Iterator[Stage]:
    """A stage that is being served."""
    stages: list[Stage] = []
    respond: Callable[[str, str, bytes], Response] = lambda *asked: stages[0].respond(*asked)  # noqa: E731
    with answering(respond) as url:
        stages.append(Stage(folder, url))
        yield stages[0]
        stages[0].transport.close()


def random_story(chance: random.Random, items: int) -> Story:
    """A story with up to `items` items."""
    count = chance.randrange(1, items + 1)
    return Story(
        [(chance.choice(KINDS), chance.random() < 0.4) for _ in range(count)],
        {chance.randrange(3 * count): chance.choice(["before", "after"]) for _ in range(chance.randrange(4))},
        [chance.randrange(8 * count) for _ in range(chance.randrange(4))],
    )
