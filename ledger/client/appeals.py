"""The part of the SDK for appeals: a person's record, filing for them, answering as reporter, files, letters.

Unlike reports these do not wait in the outbox: somebody is at the screen, and learns at once whether it worked. Each
POST carries one idempotency key for all its attempts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ledger.client.results import Fields
from ledger.client.session import Session
from ledger.client.subjects import Buyer
from ledger.client.transport import Deadline
from ledger.core.encoding import b64url, parse_time


@dataclass(frozen=True, slots=True)
class RecordLink:
    """A single-use link to a person's own record: hand `url` over at once, log it nowhere."""

    url: str
    expires_at: datetime

    def __repr__(self) -> str:
        return f"RecordLink(expires_at={self.expires_at!r})"


@dataclass(frozen=True, slots=True)
class FiledAppeal:
    """A case that was opened; `due_at` is the first moment that is too late for its decision."""

    id: str
    report: str
    state: str
    due_at: datetime


class Appealing(Session):
    """Appeals, for the person and as the reporter. `party` is "subject" or "reporter"."""

    def open_record(self, buyer: Buyer, locale: str = "en") -> RecordLink:
        """A link for the person who is logged in with you. Raises QuotaExceeded, StaleEpoch, ScopeMissing."""
        answer = Fields(self._sent("/v1/subject-sessions", {**_tagged(buyer), "locale": locale}, keyed=False))
        return RecordLink(answer.text("url"), parse_time(answer.text("expires_at")))

    def appeal(
        self, reports: Sequence[str], *, grounds: str, statement: str, locale: str = "en", buyer: Buyer | None = None
    ) -> list[FiledAppeal]:
        """Contest `reports` for a customer; `buyer` is needed for those of other members.

        Raises AppealInvalid, NotFound, CaseExists, StaleEpoch and the other named refusals.
        """
        body: dict[str, Any] = {
            "reports": list(reports),
            "grounds": grounds,
            "statement": statement,
            "locale": locale,
            **({} if buyer is None else _tagged(buyer)),
        }
        found = Fields(self._sent("/v1/appeals", body)).items("appeals")
        return [_filed(Fields(one)) for one in found]

    def get_appeal(self, appeal_id: str, *, party: str | None = None) -> Mapping[str, Any]:
        """The case as your party sees it (docs/api.md). Raises NotFound."""
        answer: Mapping[str, Any] = self._get(_path(appeal_id), None if party is None else {"party": party})
        return answer

    def list_appeals(
        self, *, role: str | None = None, state: str | None = None, limit: int = 50, starting_after: str | None = None
    ) -> Mapping[str, Any]:
        """{data, has_more}, newest first; role "filed" or "reported"."""
        query = {"role": role, "state": state, "limit": str(limit), "starting_after": starting_after}
        answer: Mapping[str, Any] = self._get("/v1/appeals", {k: v for k, v in query.items() if v is not None})
        return answer

    def answer_appeal(self, appeal_id: str, party: str, text: str) -> Mapping[str, Any]:
        """Answer the question that waits for `party`, or add something. Raises NotFound, ActionRefused."""
        answer: Mapping[str, Any] = self._sent(f"{_path(appeal_id)}/messages", {"party": party, "text": text})
        return answer

    def attach(
        self, appeal_id: str, party: str, file: Path | str, *, evidence_index: int | None = None
    ) -> Mapping[str, Any]:
        """Hand in a file. The reporter's must be the very bytes whose SHA-256 it reported. Raises AttachmentRefused."""
        path = Path(file)
        query = {"party": party, "name": path.name}
        if evidence_index is not None:
            query["evidence_index"] = str(evidence_index)
        content, key = path.read_bytes(), self._new_key()

        def send(limit: Deadline) -> Any:
            headers = {"Idempotency-Key": key}
            where = f"{_path(appeal_id)}/attachments"
            return self._transport.send("POST", where, limit, content=content, query=query, headers=headers).json()

        self.connect()
        answer: Mapping[str, Any] = self._retrying(send)
        return answer

    def withdraw_appeal(self, appeal_id: str) -> Mapping[str, Any]:
        """Take the appeal back, as the person wishes. Raises ConflictOfInterest, ActionRefused."""
        answer: Mapping[str, Any] = self._sent(f"{_path(appeal_id)}/withdraw", {})
        return answer

    def reopen_appeal(self, appeal_id: str, text: str) -> Mapping[str, Any]:
        """Contest the decision once more, as the person wishes. Raises ActionRefused."""
        answer: Mapping[str, Any] = self._sent(f"{_path(appeal_id)}/reopen", {"text": text})
        return answer

    def letter(self, appeal_id: str, kind: str, locale: str | None = None) -> Mapping[str, Any]:
        """{subject, paragraphs, text, ...} of a letter to the person: received, question, overdue or decided."""
        where = f"{_path(appeal_id)}/letters/{quote(kind, safe='')}"
        answer: Mapping[str, Any] = self._get(where, None if locale is None else {"locale": locale})
        return answer

    def statements(self, lookup_id: str) -> Sequence[Mapping[str, Any]]:
        """What the person says of what this lookup of yours disclosed, within 24 hours of it. Raises NotFound."""
        answer = Fields(self._get(f"/v1/lookups/{quote(lookup_id, safe='')}/statement"))
        return [dict(one) for one in answer.items("statements")]

    def _sent(self, path: str, body: Mapping[str, Any], *, keyed: bool = True) -> Any:
        content = json.dumps(body, separators=(",", ":")).encode()
        headers = {"Idempotency-Key": self._new_key()} if keyed else {}
        self.connect()
        return self._retrying(
            lambda limit: self._transport.send("POST", path, limit, content=content, headers=headers).json()
        )


def _tagged(buyer: Buyer) -> dict[str, Any]:
    subjects = [{"kind": one.kind.value, "tag": b64url(one.tag)} for one in buyer.subjects]
    return {"epoch": buyer.epoch, "subjects": subjects}


def _filed(fields: Fields) -> FiledAppeal:
    return FiledAppeal(
        fields.text("id"), fields.text("report"), fields.text("state"), parse_time(fields.text("due_at"))
    )


def _path(appeal_id: str) -> str:
    return f"/v1/appeals/{quote(appeal_id, safe='')}"
