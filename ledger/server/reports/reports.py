"""Use cases on reports: check, hand to the appender, read back."""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ledger.errors import (
    CommitmentMismatch,
    InvalidRequest,
    InvalidSignature,
    LedgerError,
    NotFound,
    StaleEpoch,
    SubjectsInvalid,
)
from ledger.protocol.encoding import parse_time, unb64url
from ledger.protocol.identifiers import Kind
from ledger.protocol.public_ids import decode_id
from ledger.protocol.tags import subject_commitment, tag
from ledger.protocol.voprf import check_element
from ledger.rules.conduct import Conduct
from ledger.rules.policy.values import Profile
from ledger.rules.reports import ReportBody, check_intake, parse_body, verify_signature
from ledger.server.db.engine import reading
from ledger.server.keys.files import USED_STATES
from ledger.server.platforms.members import Member
from ledger.server.records import former_label_queries as former_labels
from ledger.server.records import queries as store
from ledger.server.records.case_queries import cases_of_reports
from ledger.server.records.commands import PreparedSubject, RestituteReport, Stored, SubmitReport, WithdrawReport
from ledger.server.records.idempotency import asked
from ledger.server.records.order_line_queries import held_reports
from ledger.server.records.rows import Answering, convert
from ledger.server.records.views import report_view
from ledger.tlog.entries import LEDGER_REASONS, WithdrawalReason

if TYPE_CHECKING:
    from ledger.server.runtime import Runtime


def submit_report(rt: Runtime, member: Member, payload: Mapping[str, Any], idempotency_key: str) -> Future[Stored]:
    """Record one report: {body, signature, subjects}. Raises at once what is wrong with it by itself; the Future
    raises what is wrong with it in this ledger."""
    return rt.appender.submit(check_report(rt, member, payload, idempotency_key))


def submit_reports(
    rt: Runtime, member: Member, items: Sequence[Mapping[str, Any]]
) -> list[Future[Stored] | LedgerError]:
    """Record many reports, each {idempotency_key, body, signature, subjects}; one outcome each, in order."""
    checked: list[SubmitReport | LedgerError] = []
    for item in items:
        try:
            checked.append(check_report(rt, member, item, item.get("idempotency_key", "")))
        except LedgerError as error:
            checked.append(error)
    futures = iter(rt.appender.submit_many([one for one in checked if isinstance(one, SubmitReport)]))
    return [next(futures) if isinstance(one, SubmitReport) else one for one in checked]


def check_report(rt: Runtime, member: Member, payload: Mapping[str, Any], idempotency_key: str) -> SubmitReport:
    """Every check of docs/reports.md that needs no other report. Raises a LedgerError that says what is wrong."""
    signed, signature_text, given = payload.get("body"), payload.get("signature"), payload.get("subjects")
    if not isinstance(signed, dict) or not isinstance(given, list):
        raise InvalidRequest("A report is {body, signature, subjects}.")
    body = parse_body(signed)
    _check_addressee(rt, member, body)
    signature = unb64url(signature_text if isinstance(signature_text, str) else "", 64)
    key = rt.members.key(body.kid)
    if key is None or key.platform != member.platform or key.revoked:
        raise InvalidSignature("The report's `kid` names no active key of your platform.")
    verify_signature(signed, signature, Ed25519PublicKey.from_public_bytes(key.public_key))
    subjects = _check_subjects(body, given)
    profile, now = Profile(member.profile), rt.now()
    policy = rt.policies.at(now)
    intake = check_intake(body, profile, policy, now)
    service = rt.settings.service
    return SubmitReport(
        asked=asked(
            rt, member, idempotency_key, {"body": signed, "signature": signature_text, "subjects": given}, "report"
        ),
        body=body,
        signed=signed,
        signature=signature,
        intake=intake,
        profile=profile,
        policy=policy.version,
        subjects=subjects,
        replaces=None if body.replaces is None else decode_id("rp", body.replaces, service),
        links=_links(body, service),
        converted=_convert(rt, body.epoch, subjects),
    )


def _convert(rt: Runtime, epoch: int, subjects: Sequence[PreparedSubject]) -> dict[int, list[bytes]]:
    """The elements under other epochs that answer as well, multiplied here because the appender holds the head."""
    return convert(rt.keys, Answering.of(rt.keys.rows), epoch, [subject.element for subject in subjects])


def _check_addressee(rt: Runtime, member: Member, body: ReportBody) -> None:
    if body.service != rt.settings.service:
        raise InvalidRequest("The report is addressed to another service.")
    if body.platform != member.platform:
        raise InvalidRequest("The report names another platform than the one that sends it.")
    # A switch may have happened that this process has not noticed yet, so `next` passes here: the appender decides,
    # with the epochs of its own transaction.
    if body.epoch not in [key.row.epoch for key in rt.keys.in_state(*USED_STATES)]:
        raise StaleEpoch("The report was blinded under another key epoch.", epoch=rt.keys.epoch)


def _check_subjects(body: ReportBody, given: Sequence[Any]) -> tuple[PreparedSubject, ...]:
    if len(given) != len(body.subjects):
        raise SubjectsInvalid("`subjects` must match `body.subjects` one to one, in order.")
    prepared: list[PreparedSubject] = []
    for signed, item in zip(body.subjects, given, strict=True):
        if not isinstance(item, dict) or item.keys() != {"kind", "element", "salt"}:
            raise SubjectsInvalid("A subject is {kind, element, salt}.")
        if item["kind"] != signed.kind:
            raise SubjectsInvalid("`subjects` must match `body.subjects` one to one, in order.")
        element, salt = unb64url(item["element"], 32), unb64url(item["salt"], 32)
        check_element(element)
        kind = Kind(signed.kind)
        if not hmac.compare_digest(subject_commitment(salt, body.epoch, kind, element), signed.commitment):
            raise CommitmentMismatch("A subject's element and salt do not open the commitment in the signed body.")
        prepared.append(PreparedSubject(kind.value, element, salt, tag(kind, element)))
    if len({subject.tag for subject in prepared}) != len(prepared):
        raise SubjectsInvalid("The same identifier stands twice in one report.")
    return tuple(prepared)


def _links(body: ReportBody, service: str) -> tuple[int, ...]:
    if body.conduct is not Conduct.ACCOUNT_FARM:
        return ()
    named = {item.report_id for item in body.evidence if item.report_id is not None}
    return tuple(sorted(decode_id("rp", public, service) for public in named))


def withdraw_report(rt: Runtime, member: Member, report_id: str, reason: str, idempotency_key: str) -> Future[Stored]:
    """Take a report back for `reason`: wrong_person, wrong_facts, duplicate or other."""
    try:
        why = WithdrawalReason(reason)
    except ValueError:
        why = None
    if why is None or why in LEDGER_REASONS:
        raise InvalidRequest("`reason` must be wrong_person, wrong_facts, duplicate or other.")
    wanted = asked(rt, member, idempotency_key, {"report": report_id, "reason": reason}, "withdraw")
    return rt.appender.submit(WithdrawReport(wanted, _decode(rt, report_id), why))


def restitute_report(
    rt: Runtime,
    member: Member,
    report_id: str,
    received_at: str,
    amount_minor: int,
    currency: str,
    idempotency_key: str,
) -> Future[Stored]:
    """Record that the buyer paid the full amount back at `received_at`."""
    request = {
        "report": report_id,
        "received_at": received_at,
        "amount_minor": amount_minor,
        "currency": currency,
    }
    wanted = asked(rt, member, idempotency_key, request, "restitution")
    return rt.appender.submit(
        RestituteReport(wanted, _decode(rt, report_id), parse_time(received_at), amount_minor, currency)
    )


def get_report(rt: Runtime, member: Member, report_id: str) -> dict[str, Any]:
    """A report of this platform. Raises NotFound for all others."""
    number = _decode(rt, report_id)
    with reading(rt.engine) as connection:
        row = store.reports_by_id(connection, [number]).get(number)
        if row is None or row.platform != member.platform:
            raise NotFound("You have no report of this id.")
        return _views(rt, connection, [row])[0]


def list_reports(
    rt: Runtime,
    member: Member,
    limit: int,
    starting_after: str | None,
    order_ref: str | None,
    former_label: bool = False,
) -> dict[str, Any]:
    """{data, has_more}: this platform's reports, newest first; with `former_label` those that stand and have a label
    that identified its file by the rules of its time only, of whatever order."""
    before_id = None if starting_after is None else decode_id("rp", starting_after, rt.settings.service)
    order = None if order_ref is None else unb64url(order_ref, 32)
    with reading(rt.engine) as connection:
        if former_label:
            ids = former_labels.page(connection, member.platform, limit=limit + 1, before_id=before_id)
            found = store.reports_by_id(connection, ids)
            rows = [found[one] for one in ids if one in found]
        else:
            rows = store.page(connection, member.platform, limit=limit + 1, before_id=before_id, order_ref=order)
        return {"data": _views(rt, connection, rows[:limit]), "has_more": len(rows) > limit}


def _views(rt: Runtime, connection: Any, rows: Sequence[store.ReportRow]) -> list[dict[str, Any]]:
    ids = [row.id for row in rows]
    reversals = store.reversals(connection, ids)
    restitutions = store.restitutions(connection, ids)
    replaced_by = store.replacements(connection, ids)
    flags = store.listing_flags(connection, ids)
    cases = cases_of_reports(connection, ids)
    held = held_reports(connection, ids)
    former = former_labels.among(connection, ids)
    now = rt.now()
    views = []
    for row in rows:
        disputed, unconfirmed = flags.get(row.id, (False, False))
        views.append(
            report_view(
                row,
                reversal=reversals.get(row.id),
                restitution=restitutions.get(row.id),
                replaced_by=replaced_by.get(row.id),
                service=rt.settings.service,
                policy=rt.policy,
                now=now,
                disputed=disputed,
                unconfirmed=unconfirmed,
                case=cases.get(row.id),
                held=held.get(row.id),
                former_label=row.id in former,
            )
        )
    return views


def _decode(rt: Runtime, report_id: str) -> int:
    try:
        return decode_id("rp", report_id, rt.settings.service)
    except InvalidRequest as error:
        raise NotFound("You have no report of this id.") from error
