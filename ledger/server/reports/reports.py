"""Use cases on reports: check one and submit it to the sequencer, change one, read reports and receipts."""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from sqlalchemy import Connection

from ledger.errors import (
    CommitmentMismatch,
    InvalidRequest,
    InvalidSignature,
    LedgerError,
    NotFound,
    ReceiptPending,
    StaleEpoch,
    SubjectsInvalid,
)
from ledger.protocol.encoding import canonical_json, canonical_object, parse_time, unb64url
from ledger.protocol.identifiers import Kind
from ledger.protocol.public_ids import decode_id
from ledger.protocol.tags import subject_commitment, tag
from ledger.protocol.voprf import check_element
from ledger.rules.conduct import Conduct
from ledger.rules.policy.values import Profile
from ledger.rules.reports import ReportBody, check_intake, parse_body, verify_canonical
from ledger.server.context import Context
from ledger.server.db.engine import reading
from ledger.server.keys.files import USED_STATES
from ledger.server.keys.server_keys import ServerKeys
from ledger.server.log import queries as log_store
from ledger.server.log.writer import tile_reader
from ledger.server.platforms.members import Member, Members
from ledger.server.records import former_label_queries as former_labels
from ledger.server.records import queries as store
from ledger.server.records.case_queries import cases_of_reports
from ledger.server.records.commands import PreparedSubject, RestituteReport, Sequencer, SubmitReport, WithdrawReport
from ledger.server.records.idempotency import StoredResponse, idempotent_request, identified
from ledger.server.records.order_line_queries import held_reports
from ledger.server.records.queries import ReportRow, own_number, own_report
from ledger.server.records.rows import Answering, convert
from ledger.server.records.views import report_view
from ledger.tlog.entries import LEDGER_REASONS, WithdrawalReason
from ledger.tlog.merkle import inclusion_proof
from ledger.tlog.proof import format_receipt


@dataclass(frozen=True, slots=True)
class ReportService:
    """The objects that recording and changing reports needs beside the context: the keys, the members, and the
    sequencer."""

    context: Context
    keys: ServerKeys
    members: Members
    sequencer: Sequencer


def submit_report(
    service: ReportService, member: Member, payload: Mapping[str, Any], idempotency_key: str
) -> Future[StoredResponse]:
    """Record one report: {body, signature, subjects}. Raises as `check_report` does, and Overloaded or Unavailable; the
    Future raises what is wrong with the report in this ledger."""
    return service.sequencer.submit(check_report(service, member, payload, idempotency_key))


def submit_reports(
    service: ReportService, member: Member, items: Sequence[Mapping[str, Any]]
) -> list[Future[StoredResponse] | LedgerError]:
    """Record many reports, each {idempotency_key, body, signature, subjects}; return one outcome for each, in order.
    Raises Overloaded or Unavailable: then none is recorded."""
    checked: list[SubmitReport | LedgerError] = []
    for item in items:
        try:
            checked.append(check_report(service, member, item, item["idempotency_key"]))
        except LedgerError as error:
            checked.append(error)
    commands = [command for command in checked if isinstance(command, SubmitReport)]
    futures = iter(service.sequencer.submit_many(commands))
    return [next(futures) if isinstance(outcome, SubmitReport) else outcome for outcome in checked]


def check_report(
    service: ReportService, member: Member, payload: Mapping[str, Any], idempotency_key: str
) -> SubmitReport:
    """Make every check of docs/reports.md that needs no other report, and return the command. `idempotency_key` has
    passed `check_key`. Raises InvalidRequest for the form and the addressee, InvalidSignature for the key or the
    signature, and the LedgerError of the check that failed."""
    signed, signature_text, given = payload.get("body"), payload.get("signature"), payload.get("subjects")
    if not isinstance(signed, dict) or not isinstance(given, list):
        raise InvalidRequest("A report is {body, signature, subjects}.")
    context, keys = service.context, service.keys
    body = parse_body(signed)
    _check_addressee(context, keys, member, body)
    signature = unb64url(signature_text if isinstance(signature_text, str) else "", 64)
    key = service.members.key(body.kid)
    if key is None or key.platform != member.platform or key.revoked:
        raise InvalidSignature("The report's `kid` names no active key of your platform.")
    canonical = canonical_json(signed)
    verify_canonical(canonical, signature, Ed25519PublicKey.from_public_bytes(key.public_key))
    subjects = _check_subjects(body, given)
    profile, now = Profile(member.profile), context.now()
    policy = context.policies.at(now)
    intake = check_intake(body, profile, policy, now)
    content = canonical_object("body", canonical, {"signature": signature_text, "subjects": given})
    # Multiplied here, because the sequencer holds the log's head.
    elements = [subject.element for subject in subjects]
    return SubmitReport(
        request=identified(keys.idempotency_key, member, idempotency_key, content, "report"),
        body=body,
        signed=signed,
        canonical=canonical,
        signature=signature,
        intake=intake,
        profile=profile,
        policy=policy.version,
        subjects=subjects,
        replaces=None if body.replaces is None else decode_id("rp", body.replaces, context.service),
        links=_links(body, context.service),
        converted=convert(keys, Answering.of(keys.rows), body.epoch, elements),
    )


def _check_addressee(context: Context, keys: ServerKeys, member: Member, body: ReportBody) -> None:
    if body.service != context.service:
        raise InvalidRequest("The report is addressed to another service.")
    if body.platform != member.platform:
        raise InvalidRequest("The report names another platform than the one that sends it.")
    # A switch may have happened that this process has not noticed yet, so `next` passes here: the sequencer decides,
    # with the epochs of its own transaction.
    if body.epoch not in [key.row.epoch for key in keys.in_state(*USED_STATES)]:
        raise StaleEpoch("The report was blinded under another key epoch.", epoch=keys.epoch)


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


def withdraw_report(
    service: ReportService, member: Member, report_id: str, reason: str, idempotency_key: str
) -> Future[StoredResponse]:
    """Withdraw a report for `reason`: wrong_person, wrong_facts, duplicate or other. Raises InvalidRequest, NotFound,
    Overloaded, Unavailable; the Future raises what is wrong with it in this ledger."""
    try:
        withdrawal = WithdrawalReason(reason)
    except ValueError:
        withdrawal = None
    if withdrawal is None or withdrawal in LEDGER_REASONS:
        raise InvalidRequest("`reason` must be wrong_person, wrong_facts, duplicate or other.")
    content = {"report": report_id, "reason": reason}
    request = idempotent_request(service.keys.idempotency_key, member, idempotency_key, content, "withdraw")
    return service.sequencer.submit(WithdrawReport(request, own_number(service.context, report_id), withdrawal))


def restitute_report(
    service: ReportService,
    member: Member,
    report_id: str,
    received_at: str,
    amount_minor: int,
    currency: str,
    idempotency_key: str,
) -> Future[StoredResponse]:
    """Record that the buyer paid the full amount back at `received_at`. Raises InvalidTime, NotFound, Overloaded,
    Unavailable; the Future raises what is wrong with it in this ledger."""
    content = {
        "report": report_id,
        "received_at": received_at,
        "amount_minor": amount_minor,
        "currency": currency,
    }
    request = idempotent_request(service.keys.idempotency_key, member, idempotency_key, content, "restitution")
    number = own_number(service.context, report_id)
    return service.sequencer.submit(RestituteReport(request, number, parse_time(received_at), amount_minor, currency))


def get_report(context: Context, member: Member, report_id: str) -> dict[str, Any]:
    """Return a report of this platform. Raises NotFound for all others, DatabaseUnavailable."""
    number = own_number(context, report_id)
    with reading(context.engine) as connection:
        return _views(context, connection, [own_report(connection, member, number)])[0]


def list_reports(
    context: Context,
    member: Member,
    limit: int,
    starting_after: str | None,
    order_ref: str | None,
    former_label: bool = False,
) -> dict[str, Any]:
    """Return {data, has_more}: this platform's reports, newest first; with `former_label` those in effect, of any
    order, that have a label which identified its file by the rules of its time only. Raises InvalidRequest,
    InvalidEncoding, DatabaseUnavailable."""
    before_id = None if starting_after is None else decode_id("rp", starting_after, context.service)
    order = None if order_ref is None else unb64url(order_ref, 32)
    with reading(context.engine) as connection:
        if former_label:
            ids = former_labels.page(connection, member.platform, limit=limit + 1, before_id=before_id)
            by_id = store.reports_by_id(connection, ids)
            rows = [by_id[number] for number in ids if number in by_id]
        else:
            rows = store.page(connection, member.platform, limit=limit + 1, before_id=before_id, order_ref=order)
        return {"data": _views(context, connection, rows[:limit]), "has_more": len(rows) > limit}


def get_receipt(context: Context, member: Member, report_id: str) -> str:
    """Return the receipt of a report of this platform under the newest checkpoint: a C2SP tlog-proof with the opening
    of the commitment as extra data.

    Raises ReceiptPending before a checkpoint covers the report, NotFound for others' reports and after erasure,
    DatabaseUnavailable.
    """
    number = own_number(context, report_id)
    with reading(context.engine) as connection:
        own_report(connection, member, number)
        opening = log_store.read_body(connection, number)
        if opening is None:
            raise NotFound("This report was erased; its entry stays in the log, its content is gone.")
        published = log_store.latest_checkpoint(connection)
        if published is None or published.size <= number:
            raise ReceiptPending("No checkpoint covers this report yet. Ask again.", retry_after_seconds=1)
        hour, salt, body = opening
        hashes = inclusion_proof(number, published.size, tile_reader(connection))
    return format_receipt(
        index=number, hashes=hashes, checkpoint_note=published.note, body=bytes(body), hour=hour, salt=bytes(salt)
    )


def _views(context: Context, connection: Connection, rows: Sequence[ReportRow]) -> list[dict[str, Any]]:
    ids = [row.id for row in rows]
    reversals = store.reversals(connection, ids)
    restitutions = store.restitutions(connection, ids)
    replaced_by = store.replacements(connection, ids)
    flags = store.listing_flags(connection, ids)
    cases = cases_of_reports(connection, ids)
    held = held_reports(connection, ids)
    former = former_labels.among(connection, ids)
    now = context.now()
    views = []
    for row in rows:
        disputed, unconfirmed = flags.get(row.id, (False, False))
        views.append(
            report_view(
                row,
                reversal=reversals.get(row.id),
                restitution=restitutions.get(row.id),
                replaced_by=replaced_by.get(row.id),
                service=context.service,
                policy=context.policy,
                now=now,
                disputed=disputed,
                unconfirmed=unconfirmed,
                case=cases.get(row.id),
                held=held.get(row.id),
                former_label=row.id in former,
            )
        )
    return views
