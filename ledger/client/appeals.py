"""Appeals: file for a customer, answer as the reporter, files, letters, links to a person's record.

Appeals are not queued in the outbox: an unsent appeal is not filed, and an answer after the 7-day deadline overturns
the report. An outage raises Unavailable; a second call with the same `idempotency_key` repeats nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, get_args

from ledger.client.choices import AppealGrounds, AppealParty, AppealRole, AppealState, LetterKind
from ledger.client.inputs import check_digest, check_id, check_text
from ledger.client.models.appeals import (
    Appeal,
    AppealLetter,
    AppealPage,
    Attachment,
    EarlierLetter,
    FiledAppeal,
    RecordLink,
    parse_appeal,
    parse_appeals,
    parse_attachment,
    parse_earlier_letters,
    parse_filed,
    parse_letter,
    parse_letter_kinds,
    parse_link,
)
from ledger.client.models.decoding import about
from ledger.client.session import Session
from ledger.client.subjects import Buyer
from ledger.errors import ConfigurationError, InvalidRequest
from ledger.protocol.encoding import b64url
from ledger.rules.languages import DEFAULT_LOCALE

T = TypeVar("T")

UPLOAD_SECONDS = 120.0
"""Time for all attempts to upload a file; each attempt may take half of it."""

_KINDS = frozenset(get_args(LetterKind))

FiledAppeals = list[FiledAppeal]
"""One case for each report."""


class Appeals:
    """`ledger.appeals`: appeals, and links for persons to their own record. An `idempotency_key` that you do not give
    is made here.

    Each method raises InvalidRequest for an unfit argument, Unauthenticated or Forbidden (and their leaves) where the
    platform has no access, UnexpectedAnswer or AnswerMismatch for a wrong answer, Unavailable in an outage, and what
    `RefundLedger.connect` raises; its docstring names the other errors.
    """

    def __init__(self, session: Session) -> None:
        self._session = session

    def open_record(self, buyer: Buyer, locale: str = DEFAULT_LOCALE) -> RecordLink:
        """Return a single-use link to the record of a customer who is logged in with you; send their browser to its
        `url` within ten minutes. The person sees that you opened it. `locale` is one of
        `ledger.rules.languages.LOCALES`.

        Raises StaleEpoch, QuotaExceeded and the other named refusals, Unavailable.
        """
        # Two calls make two links. The key is here to be repeated: a link to another person's record must not be taken.
        return self._session.send_once(
            "/v1/subject-sessions", {**_about(buyer), "locale": locale}, self._session.new_key(), parse_link
        )

    def open(
        self,
        reports: Sequence[str],
        grounds: AppealGrounds,
        statement: str,
        locale: str = DEFAULT_LOCALE,
        buyer: Buyer | None = None,
        *,
        idempotency_key: str | None = None,
    ) -> FiledAppeals:
        """Contest 1 to 20 reports for a customer, all or none. `grounds`: not_me, wrong_facts, evidence_wrong,
        paid_back, not_told or other. `buyer` shows that the reports are about them: without one, all are unknown.

        Raises NotFound (gone, not about this person, or other groups filed already), CaseExists with
        `details["case"]`, ConflictOfInterest (your own control group made a report), QuotaExceeded, AppealInvalid,
        StaleEpoch, Unavailable.
        """
        body = {
            "reports": [check_id("rp", report) for report in reports],
            "grounds": check_text("grounds", grounds),
            "statement": check_text("statement", statement),
            "locale": check_text("locale", locale),
        }
        parse = partial(parse_filed, reports=list(reports))
        return self._session.send_once(
            "/v1/appeals", {**body, **_about(buyer)}, self._session.key_or_new(idempotency_key), parse
        )

    def get(self, appeal: str, party: AppealParty | None = None) -> Appeal:
        """Return a case of yours; where you both filed it and made the report, for `party` (subject or reporter).
        Raises NotFound."""
        return self._session.get(
            _path(appeal), about(parse_appeal, id=appeal), {} if party is None else {"party": party}
        )

    def list(
        self,
        *,
        role: AppealRole | None = None,
        state: AppealState | None = None,
        limit: int = 50,
        starting_after: str | None = None,
    ) -> AppealPage:
        """Return your cases, newest first: those `filed` through you, those about what you `reported`, or both."""
        query = {"role": role, "state": state, "limit": str(limit), "starting_after": starting_after}
        return self._session.get(
            "/v1/appeals",
            parse_appeals,
            {name: check_text(name, value) for name, value in query.items() if value is not None},
        )

    def answer(self, appeal: str, party: AppealParty, text: str, *, idempotency_key: str | None = None) -> Appeal:
        """Answer the question that waits for `party` (subject: your customer; reporter: yourself), or add something.
        The other party reads it. Raises NotFound, ActionRefused, AppealInvalid, Unavailable."""
        return self._act(
            appeal, "messages", {"party": check_text("party", party), "text": check_text("text", text)}, idempotency_key
        )

    def attach(
        self,
        appeal: str,
        party: AppealParty,
        file: str | Path,
        evidence_index: int | None = None,
        *,
        name: str | None = None,
        idempotency_key: str | None = None,
    ) -> Attachment:
        """Upload a file: JPEG, PNG, WebP, PDF, MP4 or plain text. The other party can read it and its `name` (default:
        the file's own). A reporter's file must be an item of evidence of its report, by SHA-256: the one at
        `evidence_index`, or any.

        Raises AttachmentRefused with `details["reason"]`, BodyTooLarge, NotFound, ActionRefused, Unavailable, and
        ConfigurationError when the file cannot be read.
        """
        path = Path(file)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise ConfigurationError(f"{path.name} cannot be read.") from error
        except ValueError:  # a name with NUL, or that is no Unicode
            raise ConfigurationError("The file to hand in has no name that can be opened.") from None
        called = path.name if name is None else check_text("name", name)
        query = {"party": check_text("party", party), "name": check_text("name", called)}
        if evidence_index is not None:
            query["evidence_index"] = str(evidence_index)
        headers = {
            "Content-Type": "application/octet-stream",
            "Idempotency-Key": self._session.key_or_new(idempotency_key),
        }
        target = f"{_path(appeal)}/attachments"
        self._session.ready()
        answer = self._session.transport.retrying(
            UPLOAD_SECONDS,
            lambda limit: self._session.transport.send(
                "POST", target, limit, content=data, query=query, headers=headers
            ),
            UPLOAD_SECONDS / 2,
        )
        return answer.read(about(parse_attachment, sha256=b64url(hashlib.sha256(data).digest()), size_bytes=len(data)))

    def read_attachment(self, appeal: str, attachment: str) -> bytes:
        """Return the bytes of a file of the case. They may come from an unknown person: handle them as untrusted input.
        Raises NotFound."""
        target = f"{_path(appeal)}/attachments/{check_id('at', attachment)}"
        self._session.ready()
        answer = self._session.transport.retrying(
            UPLOAD_SECONDS, lambda limit: self._session.transport.send("GET", target, limit), UPLOAD_SECONDS / 2
        )
        return answer.body

    def withdraw(self, appeal: str, *, idempotency_key: str | None = None) -> Appeal:
        """Withdraw an appeal on behalf of your customer; the report counts as before. Raises NotFound, ActionRefused,
        ConflictOfInterest (your own control group made the report), Unavailable."""
        return self._act(appeal, "withdraw", {}, idempotency_key)

    def reopen(self, appeal: str, text: str, *, idempotency_key: str | None = None) -> Appeal:
        """Contest a decision again, within 60 days and while the record is kept. Raises NotFound, ActionRefused,
        AppealInvalid, ConflictOfInterest, Unavailable."""
        return self._act(appeal, "reopen", {"text": check_text("text", text)}, idempotency_key)

    def concede(self, appeal: str, conduct: str, *, idempotency_key: str | None = None) -> Appeal:
        """Concede, as the reporter, that a contested report should name another conduct, of no higher severity; once in
        a round. The person sees it and may agree; a reviewer decides, and not worse than this. It does not reduce the
        weight of your reports.

        Raises NotFound, ActionRefused, AppealInvalid (the conduct), Unavailable.
        """
        return self._act(appeal, "concede", {"conduct": check_text("conduct", conduct)}, idempotency_key)

    def agree(self, appeal: str, *, idempotency_key: str | None = None) -> Appeal:
        """Agree, on behalf of your customer, to the reporter's concession. Raises NotFound, ActionRefused,
        ConflictOfInterest (your own control group made the report), Unavailable."""
        return self._act(appeal, "agree", {}, idempotency_key)

    def request_reopening(
        self, appeal: str, evidence_sha256: bytes, text: str, *, idempotency_key: str | None = None
    ) -> Appeal:
        """Request, as the reporter, that a case decided `unconfirmed` is reopened: once, within 60 days, for evidence
        (its SHA-256, 32 bytes) that the report did not name. A reviewer grants or refuses it.

        Raises NotFound, ActionRefused, AppealInvalid, Unavailable.
        """
        digest = check_digest("evidence_sha256", evidence_sha256, InvalidRequest)
        body = {"evidence_sha256": b64url(digest), "text": check_text("text", text)}
        return self._act(appeal, "reopen-request", body, idempotency_key)

    def list_letters(self, appeal: str) -> tuple[str, ...]:
        """Return the kinds of letters for your customer that can be fetched now: received, question, overdue,
        decided. Raises NotFound."""
        return self._session.get(f"{_path(appeal)}/letters", parse_letter_kinds)

    def list_earlier_letters(self, appeal: str) -> tuple[EarlierLetter, ...]:
        """Return the letters of the rounds before the case was reopened; `get_letter` fetches one by its `round`.
        Raises NotFound."""
        return self._session.get(f"{_path(appeal)}/letters", parse_earlier_letters)

    def get_letter(
        self, appeal: str, kind: LetterKind, locale: str | None = None, *, round: int | None = None
    ) -> AppealLetter:
        """Return a letter, to be sent unchanged: in the language of the appeal unless `locale` names one, of `round` or
        of the newest round that has one. Raises InvalidRequest for an unknown `kind`, and NotFound while there is no
        such letter or where you did not file for the person."""
        if kind not in _KINDS:
            raise InvalidRequest("A letter is received, question, overdue or decided.")
        query = {"locale": locale, "round": None if round is None else str(round)}
        parameters = {name: value for name, value in query.items() if value is not None}
        own = {"kind": kind} if locale is None else {"kind": kind, "locale": locale}
        return self._session.get(f"{_path(appeal)}/letters/{kind}", about(parse_letter, **own), parameters)

    # --- inside ---------------------------------------------------------------------------------------------------

    def _act(self, appeal: str, action: str, body: Mapping[str, Any], key: str | None) -> Appeal:
        return self._session.send_once(
            f"{_path(appeal)}/{action}", body, self._session.key_or_new(key), about(parse_appeal, id=appeal)
        )


def _about(buyer: Buyer | None) -> dict[str, Any]:
    if buyer is None:
        return {}
    subjects = [{"kind": subject.kind.value, "tag": b64url(subject.tag)} for subject in buyer.subjects]
    return {"epoch": buyer.epoch, "subjects": subjects}


def _path(appeal: str) -> str:
    return f"/v1/appeals/{check_id('ap', appeal)}"
