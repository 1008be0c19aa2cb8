"""Personas of tests: a person with a link, reports about them, and a reviewer who works on their cases."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import Any

import httpx2

from ledger.protocol.identifiers import Kind
from ledger.protocol.tags import tag
from ledger.rules.case_machine import Staff
from ledger.server.appeals import staff_actions
from ledger.server.appeals.sessions import open_link
from ledger.server.runtime import Runtime
from tests.api.conftest import ACME, BETA, Api, person
from tests.support import Platform

ANNA, BEN = Staff(1, "reviewer"), Staff(2, "reviewer")
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108000000003a7e9b550000000a49444154789c6360000000020001"
    "48afa4710000000049454e44ae426082"
)
"""A picture of one pixel."""


@dataclass
class Persona:
    """A person with a phone number and a means of payment, and the server that has their record."""

    api: Api
    subjects: list[tuple[Kind, bytes]] = field(
        default_factory=lambda: [(Kind.PHONE, person()), (Kind.PAYMENT, person())]
    )
    token: str = ""

    @property
    def rt(self) -> Runtime:
        """What the server holds open."""
        return self.api.rt

    def reported(self, by: Platform = ACME, **changes: Any) -> str:
        """A report about this person; its public id."""
        return str(self.api.report(by, self.subjects, **changes).json()["id"])

    def code(self, through: Platform = BETA, locale: str = "en", **changes: Any) -> str:
        """The code of a fresh link that `through` had made."""
        values: dict[str, Any] = {
            "epoch": self.rt.keys.epoch,
            "subjects": [(kind, tag(kind, element)) for kind, element in self.subjects],
            "locale": locale,
            "now": self.rt.now(),
            "random_bytes": secrets.token_bytes,
            "base_url": self.api.url,
            **changes,
        }
        many = self.rt.settings.model_copy(update={"subject_sessions_daily_quota": 10_000})
        link = open_link(self.rt.engine, many, through.member(), **values)
        return link.url.partition("#")[2]

    def open(self, **changes: Any) -> Persona:
        """Open a session over the API."""
        answer = self.api.request("POST", "/v1/me/session", json={"code": self.code(**changes)})
        assert answer.status_code == 201, answer.text
        self.token = answer.json()["token"]
        return self

    def ask(self, method: str, path: str, **arguments: Any) -> httpx2.Response:
        """One request to `/v1/me` in this session."""
        headers = {"Authorization": f"Bearer {self.token}", **arguments.pop("headers", {})}
        return self.api.request(method, f"/v1/me{path}", headers=headers, **arguments)

    def contest(self, *reports: str, grounds: str = "wrong_facts", statement: str = "I sent it back.") -> str:
        """File an appeal; the id of its first case."""
        body = {"reports": list(reports), "grounds": grounds, "statement": statement, "locale": "en"}
        answer = self.ask("POST", "/appeals", json=body)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["appeals"][0]["id"])

    def asked(self, case: str, question: str = "Which carrier was it?") -> None:
        """A reviewer takes the case and asks the person."""
        staff_actions.take(self.rt.context, case, ANNA)
        staff_actions.ask_subject(self.rt.context, case, ANNA, question)
