"""Lookups: one for a refund that is being decided, many for a queue, and persons' statements on what was disclosed."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

from ledger.client.choices import Purpose
from ledger.client.inputs import check_id, check_identifiers, check_lookup
from ledger.client.lookups.local_standing import claim_of, clear_by_filter
from ledger.client.lookups.questions import LookupQuestion
from ledger.client.lookups.request import Query, Refund, query_json
from ledger.client.models.appeals import PersonStatement, parse_statements
from ledger.client.models.lookups import Lookup, unavailable
from ledger.client.models.pictures import PictureHash, PictureReuse
from ledger.client.outbox.sender import BATCH_ITEMS
from ledger.client.pictures import search, search_json
from ledger.client.session import Session
from ledger.client.subjects import Buyer, Canonical, Identifiers, normalise
from ledger.client.transport.budgets import Deadline
from ledger.client.transport.event_log import log_event, proof_errors_logged
from ledger.errors import InvalidInput, InvalidRequest, LedgerError, StaleEpoch, Unavailable, UnexpectedAnswer
from ledger.rules.reports import order_ref


class Lookups:
    """Asks the ledger for standings. `RefundLedger.lookup`, `lookup_many` and `statements` document what each does."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def lookup(
        self,
        buyer: Buyer | Identifiers,
        *,
        order: str,
        purpose: Purpose,
        refund: Refund | None,
        consent_ref: str | None,
        min_index: int | None,
        region: str | None,
        pictures: Sequence[PictureHash],
    ) -> Lookup:
        """Return the buyer's standing: see `RefundLedger.lookup`, also for the errors."""
        deadline = Deadline(self._session.lookup_budget_seconds)
        check_lookup(
            order=order,
            purpose=purpose,
            refund=refund,
            consent_ref=consent_ref,
            min_index=min_index,
            pictures=pictures,
        )
        self._session.check_consent(consent_ref, "lookup")
        person = buyer if isinstance(buyer, Buyer) else normalise(check_identifiers(buyer, region), region)
        reference = order_ref(self._session.order_key(), order)
        searched = search_json(pictures, reference) if pictures else None
        searching = None if searched is None else self._start_search(searched, len(pictures), deadline)
        looking = (
            self._session.transport.background(self._session.snapshots.look)
            if self._session.snapshots.may_look()
            else None
        )

        def ask(limit: Deadline) -> Lookup:
            tagged = self._in_current_epoch(person, limit)
            query = Query(tagged, order, refund, purpose, consent_ref, min_index)
            question = self._session.questions.question(query_json(query, reference))
            answer = self._session.post("/v1/lookups", question.body, limit)
            return replace(
                answer.read(partial(self._session.questions.answer, question)), request_id=answer.request_id or None
            )

        def ask_again(limit: Deadline) -> Lookup:
            self._session.compare_service(limit)
            try:
                return ask(limit)
            except StaleEpoch:
                log_event("stale_epoch", level=logging.INFO, epoch=self._session.epochs.current)
                self._session.read_service(limit)
                return ask(limit)

        try:
            with proof_errors_logged("lookup"):
                lookup = self._with_texts(self._session.transport.within(deadline.left(), ask_again), deadline)
        except (Unavailable, UnexpectedAnswer) as error:
            if isinstance(error, UnexpectedAnswer) and 400 <= (_status(error) or 0) < 500:
                raise
            cleared = self._local_answer(person, refund, consent_ref, min_index or 0, looking, deadline)
            lookup = cleared or unavailable(
                str(error.details.get("reason", error.code)), status=_status(error), request_id=_request_id(error)
            )
            log_event(
                "lookup_unavailable",
                reason=str(error.details.get("reason", error.code)),
                status=_status(error),
                request_id=_request_id(error),
                source=lookup.source,
            )
        return lookup if searched is None else _with_pictures(lookup, searching, deadline)

    def lookup_many(self, queries: Sequence[Query]) -> list[Lookup | LedgerError]:
        """Return one outcome for each query: see `RefundLedger.lookup_many`, also for the errors."""
        unfit = [self._fault(query) for query in queries]
        if queries and all(unfit):
            return [error for error in unfit if error is not None]
        self._session.ready()
        buyers = [query.buyer for query in queries if isinstance(query, Query) and isinstance(query.buyer, Buyer)]
        if not all(self._session.epochs.answers(buyer.epoch) for buyer in buyers):
            self._session.retrying(self._session.read_service)
        requests = [self._request(query) for query in queries]
        fit = [request for request in requests if not isinstance(request, LedgerError)]
        answered: list[Lookup | LedgerError] = []
        for start in range(0, len(fit), BATCH_ITEMS):
            answered += self._session.retrying(partial(self._ask_batch, fit[start : start + BATCH_ITEMS]))
        answers = iter(answered)
        outcomes = [request if isinstance(request, LedgerError) else next(answers) for request in requests]
        limit = Deadline(self._session.budget_seconds)
        return [self._with_texts(outcome, limit) if isinstance(outcome, Lookup) else outcome for outcome in outcomes]

    def statements(self, lookup: str | Lookup) -> tuple[PersonStatement, ...]:
        """Return the person's statements: see `RefundLedger.statements`, also for the errors."""
        number = lookup.id if isinstance(lookup, Lookup) else lookup
        return self._session.get(f"/v1/lookups/{check_id('lk', number or '')}/statement", parse_statements)

    def _in_current_epoch(self, person: Buyer | Canonical, limit: Deadline) -> Buyer:
        if isinstance(person, Buyer):
            self._check_epoch(person)
            return person
        epoch = self._session.epochs.current
        self._session.hold_epoch(epoch, limit)
        return self._session.blind([person], epoch, limit, again=False)[0]

    def _check_query(self, query: Query) -> None:
        """Check a query as far as possible without a request. Raises InvalidRequest, ConsentMissing."""
        if not isinstance(query, Query) or not isinstance(query.buyer, Buyer):
            raise InvalidRequest("Each item must be a Query with a Buyer, as tag_many() makes them.")
        check_lookup(
            order=query.order,
            purpose=query.purpose,
            refund=query.refund,
            consent_ref=query.consent_ref,
            min_index=query.min_index,
        )
        self._session.check_consent(query.consent_ref, "lookup")

    def _fault(self, query: Query) -> LedgerError | None:
        """Return the error of one lookup of many as far as it can be known without a request."""
        try:
            self._check_query(query)
        except InvalidInput as error:
            return error
        return None

    def _request(self, query: Query) -> Mapping[str, Any] | LedgerError:
        """Return the request for one lookup of many, or its error."""
        try:
            self._check_query(query)
            self._check_epoch(query.buyer)
            return query_json(query, order_ref(self._session.order_key(), query.order))
        except (InvalidInput, StaleEpoch) as error:
            return error

    def _ask_batch(self, requests: Sequence[Mapping[str, Any]], limit: Deadline) -> list[Lookup | LedgerError]:
        """Return one outcome for each request; one that cannot be sent is refused here and does not touch the
        others."""
        outcomes: list[LookupQuestion | LedgerError] = []
        for request in requests:
            try:
                outcomes.append(self._session.questions.question(request))
            except InvalidRequest as error:
                outcomes.append(error)
        questions = [outcome for outcome in outcomes if isinstance(outcome, LookupQuestion)]
        if not questions:
            return [outcome for outcome in outcomes if isinstance(outcome, LedgerError)]
        answer = self._session.post("/v1/lookups/batch", {"lookups": [question.body for question in questions]}, limit)
        lookups = iter(answer.read(partial(self._session.questions.answers, questions)))
        return [next(lookups) if isinstance(outcome, LookupQuestion) else outcome for outcome in outcomes]

    def _with_texts(self, lookup: Lookup, limit: Deadline) -> Lookup:
        """Return `lookup` with the texts of reasons that this version does not know, if the service answers by
        `limit`."""
        codes = [reason.code for reason in lookup.reasons]
        if self._session.reason_texts.lacks(codes):
            asking = self._session.transport.background(lambda: self._session.reason_texts.fetch(codes, limit))
            if asking is not None:
                with suppress(TimeoutError, CancelledError):
                    asking.result(timeout=limit.left())
        reasons = self._session.reason_texts.reasons(lookup.reasons)
        return lookup if reasons == lookup.reasons else replace(lookup, reasons=reasons)

    def _start_search(
        self, body: dict[str, Any], pictures: int, deadline: Deadline
    ) -> Future[tuple[PictureReuse, ...]] | None:
        def search_in_time() -> tuple[PictureReuse, ...]:
            self._session.compare_service(deadline)
            return search(self._session, body, pictures, deadline)

        return self._session.transport.background(search_in_time)

    def _check_epoch(self, buyer: Buyer) -> None:
        if not self._session.epochs.answers(buyer.epoch):
            raise StaleEpoch(
                "This buyer's key epoch is not in use (any more). Blind again.", epoch=self._session.epochs.current
            )

    def _local_answer(
        self,
        person: Buyer | Canonical,
        refund: Refund | None,
        consent_ref: str | None,
        min_index: int,
        looking: Future[None] | None,
        deadline: Deadline,
    ) -> Lookup | None:
        """Return the answer of the local filter in an outage, within the time that is left. Raises ConsentMissing."""
        if looking is not None:
            with suppress(TimeoutError, LedgerError):
                looking.result(timeout=deadline.left())
        self._session.check_consent(consent_ref, "lookup")  # the policy may have become known meanwhile
        snapshot = self._session.snapshots.local()
        if snapshot is None or snapshot.manifest.cut < min_index:
            return None
        known = person if isinstance(person, Buyer) else self._session.remembered(person, snapshot.manifest.epoch)
        return None if known is None else clear_by_filter(snapshot, known, claim_of(refund), self._session.now())


def _with_pictures(lookup: Lookup, searching: Future[tuple[PictureReuse, ...]] | None, deadline: Deadline) -> Lookup:
    """Return the lookup with what the search says by the deadline."""
    if searching is None:
        return replace(lookup, pictures_unavailable_because="closed")
    try:
        return replace(lookup, pictures=searching.result(timeout=deadline.left()))
    except TimeoutError:
        return replace(lookup, pictures_unavailable_because="timeout")
    except LedgerError as error:
        return replace(lookup, pictures_unavailable_because=str(error.details.get("reason", error.code)))


def _status(error: LedgerError) -> int | None:
    status = error.details.get("status")
    return status if isinstance(status, int) else None


def _request_id(error: LedgerError) -> str | None:
    request_id = error.details.get("request_id")
    return request_id if isinstance(request_id, str) else None
