"""`RefundLedger`: what a platform's service calls. Synchronous and thread-safe; make one and keep it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from ledger.client.appeals import Appeals
from ledger.client.inputs import check_consent_ref, check_identifiers, check_lookup, check_refund
from ledger.client.lookups.local_standing import (
    POLICIES,
    CheckPolicy,
    check_answer,
    check_downloaded,
    check_privately,
    claim_of,
    clear_by_filter,
    require_elements,
)
from ledger.client.lookups.questions import Question
from ledger.client.lookups.request import Query, Refund, query_json
from ledger.client.models.pictures import PictureReuse
from ledger.client.models.results import Check, Lookup, unavailable
from ledger.client.outbox.delivery import BATCH_ITEMS
from ledger.client.pictures import PictureHash, Pictures, search_json
from ledger.client.reports.reports import Reporting
from ledger.client.snapshots.reader import Snapshot
from ledger.client.subjects import Buyer, Canonical, Identifiers, normalise, normalise_each
from ledger.client.transport.event_log import note, proofs_noted
from ledger.client.transport.http import Deadline
from ledger.client.webhooks import Webhooks
from ledger.errors import (
    InvalidInput,
    InvalidRequest,
    LedgerError,
    SnapshotUnknown,
    StaleEpoch,
    Unavailable,
    UnexpectedAnswer,
)
from ledger.rules.guidance import Claim
from ledger.rules.reports import order_ref

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class RefundLedger(Reporting, Pictures, Appeals, Webhooks):
    """A platform's connection to the ledger. `suite` is the file that `refund-ledger platform add` wrote, `key` that of
    `refund-ledger make-key`; `help(RefundLedger.__init__)` explains all arguments, and `from_environment` takes them
    from environment variables.
    """

    # --- who ------------------------------------------------------------------------------------------------------

    def subject(self, *, region: str | None = None, **identifiers: str) -> Buyer:
        """A buyer from their own identifiers: phone, email, cn_id, payment, device (`region`: of a national phone).

        Blinds, has them evaluated, verifies every proof, within `subject_budget_seconds` (2 s) in total. Give only
        identifiers of the claimant that you verified.
        Raises InvalidIdentifier and its kin, QuotaExceeded, InvalidProof, HolderMismatch, Unavailable.
        """
        person = normalise(check_identifiers(identifiers, region), region)
        with proofs_noted("subject"):
            # Not in the threads of lookups: while a key holder is away, attempts here last as long as their budget.
            return self._transport.apart(self._subject_budget_seconds, partial(self._tag_in_time, person))

    def subjects_many(
        self,
        people: Sequence[Identifiers],
        *,
        region: str | None = None,
        epoch: int | Literal["current", "next"] = "current",
    ) -> list[Buyer | LedgerError]:
        """As `subject`, for many people; evaluated in batches of 1000 identifiers, each within the time budget.

        One outcome each, in order: a person with a malformed identifier gets the error, with their `index` (from 0) in
        its details, and does not touch the others. `report_many` takes such an error in place of a buyer.
        `epoch="next"` tags ahead under the key epoch that has been announced; such buyers are good once it is current.
        Raises what concerns all of them: InvalidRequest when no next epoch is announced, StaleEpoch when a given epoch
        is not evaluated (any more), QuotaExceeded, InvalidProof, HolderMismatch, Unavailable.
        """
        found = normalise_each(people, region)
        good = [one for one in found if not isinstance(one, LedgerError)]
        buyers = iter(self._tag(good, None if epoch == "current" else self.tagging_epoch(epoch)))
        return [one if isinstance(one, LedgerError) else next(buyers) for one in found]

    def tagging_epoch(self, epoch: int | Literal["current", "next"] = "current") -> int:
        """The number of the key epoch that tags are made under now, or will be next. Asks the service.

        Raises InvalidRequest when no next epoch is announced.
        """
        self._ready()
        if isinstance(epoch, int):
            return epoch
        self._retrying(self._list)
        found = self._epochs.next if epoch == "next" else self._epochs.current
        if found is None:
            raise InvalidRequest("No key rotation is announced: there is no next key epoch to tag under.")
        return found

    # --- lookups --------------------------------------------------------------------------------------------------

    def lookup(
        self,
        buyer: Buyer | Identifiers,
        *,
        order: str,
        purpose: str = "refund_review",
        refund: Refund | None = None,
        consent_ref: str | None = None,
        min_index: int | None = None,
        region: str | None = None,
        pictures: Sequence[PictureHash] = (),
    ) -> Lookup:
        """The buyer's standing, within 300 ms in total and without retries. `buyer` may be the raw identifiers
        ({"phone": ...}); blinding then counts towards the 300 ms.

        With `pictures` (up to 8 of the claim), how often others used them is asked at the same time, in a request of
        its own that shares the 300 ms: what it says is in `pictures` of the answer, and whatever goes wrong with it is
        told there and costs neither the standing nor more time.

        `consent_ref` says where you keep the person's separate consent (1 to 128 printable characters in NFC). Where
        the policy asks for it under your profile (CN), ConsentMissing is raised without it, before anything is sent.

        An outage never raises: if a local filter is at hand and the buyer is not in it, the tier is `clear` and
        `source` is `local_filter`, else the tier is `unavailable`. Raises InvalidIdentifier and its kin, StaleEpoch
        (the buyer's key epoch is retired: blind again), the named error of another 4xx answer (ScopeMissing,
        QuotaExceeded, ...), PictureUnfit, InvalidProof, HolderMismatch, ConfigurationError, and AnswerMismatch when
        the answer belongs to another question: then nothing is known of this buyer; ask again.
        """
        deadline = Deadline(self._lookup_budget_seconds)
        check_lookup(
            order=order,
            purpose=purpose,
            refund=refund,
            consent_ref=consent_ref,
            min_index=min_index,
            pictures=pictures,
        )
        self._check_consent(consent_ref, "lookup")
        person = buyer if isinstance(buyer, Buyer) else normalise(check_identifiers(buyer, region), region)
        reference = order_ref(self._order_key(), order)
        searched = search_json(pictures, reference) if pictures else None
        searching = None if searched is None else self._searching(searched, len(pictures), deadline)
        looking = self._transport.background(self._snapshots.look) if self._snapshots.may_look() else None

        def ask(limit: Deadline) -> Lookup:
            found = self._found(person, limit)
            query = Query(found, order, refund, purpose, consent_ref, min_index)
            question = self._questions.question(query_json(query, reference))
            answer = self._post("/v1/lookups", question.body, limit)
            return replace(answer.read(partial(self._questions.answer, question)), request_id=answer.request_id or None)

        def ask_again(limit: Deadline) -> Lookup:
            self._check_served(limit)
            try:
                return ask(limit)
            except StaleEpoch:
                note("stale_epoch", level=logging.INFO, epoch=self._epochs.current)
                self._list(limit)
                return ask(limit)

        try:
            with proofs_noted("lookup"):
                found = self._explained(self._transport.within(deadline.left(), ask_again), deadline)
        except (Unavailable, UnexpectedAnswer) as error:
            if isinstance(error, UnexpectedAnswer) and 400 <= (_status(error) or 0) < 500:
                raise
            cleared = self._cleared(person, refund, consent_ref, min_index or 0, looking, deadline)
            found = cleared or unavailable(
                str(error.details.get("reason", error.code)), status=_status(error), request_id=_request_id(error)
            )
            note(
                "lookup_unavailable",
                reason=str(error.details.get("reason", error.code)),
                status=_status(error),
                request_id=_request_id(error),
                source=found.source,
            )
        return found if searched is None else _with_pictures(found, searching, deadline)

    def lookup_many(self, queries: Sequence[Query]) -> list[Lookup | LedgerError]:
        """Many lookups in batches of 1000, with retries: for reviews that wait in a queue, not for a live refund.

        One outcome each, in order; a refused one is its error: StaleEpoch for a buyer whose key epoch is retired, for
        example, or ConsentMissing as in `lookup`. Nothing is sent if all are unfit. Raises what refuses a whole batch.
        """
        unfit = [self._unfit(query) for query in queries]
        if queries and all(unfit):
            return [error for error in unfit if error is not None]
        self._ready()
        buyers = [query.buyer for query in queries if isinstance(query, Query) and isinstance(query.buyer, Buyer)]
        if not all(self._epochs.answers(buyer.epoch) for buyer in buyers):
            self._retrying(self._list)
        requests = [self._requested(query) for query in queries]
        fit = [one for one in requests if not isinstance(one, LedgerError)]
        answered: list[Lookup | LedgerError] = []
        for start in range(0, len(fit), BATCH_ITEMS):
            answered += self._retrying(partial(self._ask_batch, fit[start : start + BATCH_ITEMS]))
        answers = iter(answered)
        outcomes = [one if isinstance(one, LedgerError) else next(answers) for one in requests]
        limit = Deadline(self._budget_seconds)
        return [self._explained(one, limit) if isinstance(one, Lookup) else one for one in outcomes]

    # --- checks from a snapshot -----------------------------------------------------------------------------------

    def check(
        self,
        buyer: Buyer | Identifiers,
        *,
        policy: CheckPolicy = "download",
        refund: Refund | None = None,
        consent_ref: str | None = None,
        region: str | None = None,
    ) -> Check:
        """The buyer's standing as of the newest snapshot, folded here: the ledger does not learn who is asked about.

        `download` fetches the filter and all buckets once an hour and then makes no request about anybody. `private`
        fetches one bucket for each identifier, always, so the ledger learns the first bits of each tag and nothing of
        what they led to. Raw identifiers are blinded first; keep the buyer to spare the request.

        Takes `check_budget_seconds` (5 s) at most. A snapshot that is older than an hour is answered from if a newer
        one does not come in time. The first download may take longer: it goes on, and Unavailable (`timeout`) is
        raised. Let `refresh_snapshot` make it.

        `consent_ref` is as in `lookup`, and needed where it is needed there. It is checked here and never sent: keep it
        beside the answer.

        The answer may start a human step; an adverse decision needs a fresh `lookup`. In an outage the last snapshot is
        used until its end. Raises InvalidRequest (no such policy; a buyer from tags who is not plainly clear, or with
        `private`), ConsentMissing, StaleEpoch (blind again), Unavailable or SnapshotUnknown (no snapshot), and the
        named error of whatever is false: InvalidManifest, InvalidInclusion, Equivocation, SnapshotExpired,
        SnapshotStale, InvalidFilter, InvalidBucket and others.
        """
        if policy not in POLICIES:
            raise InvalidRequest(f"A check's policy is one of: {', '.join(POLICIES)}.")
        check_refund(refund)
        check_consent_ref(consent_ref)
        self._check_consent(consent_ref, "check")
        claim = claim_of(refund)
        whole = policy == "download"
        person = buyer if isinstance(buyer, Buyer) else normalise(check_identifiers(buyer, region), region)
        if isinstance(person, Buyer) and not whole:
            require_elements(person.subjects)
        ready = self._snapshots.ready(whole_filter=whole, whole_buckets=whole) if whole else None
        known = None if ready is None else self._known_under(person, ready.manifest.epoch)
        if ready is not None and known is not None and not self._snapshots.is_due(ready):
            return check_answer(check_downloaded(ready, known, self._now()), ready, policy, claim, self._now())
        try:
            with proofs_noted("check"):
                return self._transport.apart(
                    self._check_budget_seconds, partial(self._checked_by, person, policy, claim, consent_ref)
                )
        except (Unavailable, UnexpectedAnswer):
            if ready is None or known is None:
                raise
            return check_answer(check_downloaded(ready, known, self._now()), ready, policy, claim, self._now())

    def _checked_by(
        self, person: Buyer | Canonical, policy: CheckPolicy, claim: Claim, consent_ref: str | None, limit: Deadline
    ) -> Check:
        """The check of somebody who may have to be blinded, from a snapshot that may have to be fetched."""
        whole = policy == "download"

        def current(*, fresh: bool = False) -> Snapshot:
            found = self._snapshots.current(whole_filter=whole, whole_buckets=whole, fresh=fresh, limit=limit)
            self._check_consent(consent_ref, "check", found)  # it may bring a policy that was not known
            return found

        snapshot = current()
        if isinstance(person, Buyer):
            found = person
        else:
            found = self._remembered(person, snapshot.manifest.epoch) or self._tag_in_time(person, limit)
        if found.epoch != snapshot.manifest.epoch:
            snapshot = current(fresh=True)
            _check_same_epoch(found.epoch, snapshot)
        if whole:
            standing = check_downloaded(snapshot, found, self._now())
        else:
            try:
                standing = check_privately(self._snapshots, snapshot, found, self._now())
            except SnapshotUnknown:  # the server has dropped this version: once more with its newest
                snapshot = current(fresh=True)
                _check_same_epoch(found.epoch, snapshot)
                standing = check_privately(self._snapshots, snapshot, found, self._now())
        return check_answer(standing, snapshot, policy, claim, self._now())

    def _known_under(self, person: Buyer | Canonical, epoch: int) -> Buyer | None:
        """The buyer under `epoch`, if that takes no request."""
        if isinstance(person, Buyer):
            return person if person.epoch == epoch else None
        return self._remembered(person, epoch)

    def check_tags(self, tags: bytes | NDArray[np.uint8], epoch: int) -> NDArray[np.bool_]:
        """For n stored tags of key epoch `epoch`, packed or of shape (n, 32), whether each may be listed, by the local
        filter alone: those that are not are clear; of the others one in 256 only seems to be.

        Raises StaleEpoch when the filter is of another epoch, and what `check` raises.
        """
        snapshot = self._snapshots.current(whole_filter=True, whole_buckets=False)
        if epoch != snapshot.manifest.epoch:
            snapshot = self._snapshots.current(whole_filter=True, whole_buckets=False, fresh=True)
            _check_same_epoch(epoch, snapshot)
        assert snapshot.filter is not None
        return snapshot.filter.contains_many(tags)

    def refresh_snapshot(self, *, buckets: bool = True) -> datetime:
        """Fetch the newest snapshot's filter, and all its buckets unless `buckets` is false, and say how old it is
        (`as_of`). Call it every few minutes from a job of your own, on each host: then no check waits for a download,
        and lookups have a fresh filter to fall back on. Raises what `check` raises."""
        return self._snapshots.current(whole_filter=True, whole_buckets=buckets, fresh=True).manifest.as_of

    # --- inside ---------------------------------------------------------------------------------------------------

    def _found(self, person: Buyer | Canonical, limit: Deadline) -> Buyer:
        if isinstance(person, Buyer):
            self._check_epoch(person)
            return person
        epoch = self._epochs.current
        self._hold(epoch, limit)
        return self._blind([person], epoch, limit)[0]

    def _check_query(self, query: Query) -> None:
        """Check what needs no request. Raises InvalidRequest, ConsentMissing."""
        if not isinstance(query, Query) or not isinstance(query.buyer, Buyer):
            raise InvalidRequest("Each item must be a Query with a Buyer, as subjects_many() makes them.")
        check_lookup(
            order=query.order,
            purpose=query.purpose,
            refund=query.refund,
            consent_ref=query.consent_ref,
            min_index=query.min_index,
        )
        self._check_consent(query.consent_ref, "lookup")

    def _unfit(self, query: Query) -> LedgerError | None:
        """What is wrong with one lookup of many as far as it shows without a request."""
        try:
            self._check_query(query)
        except InvalidInput as error:
            return error
        return None

    def _requested(self, query: Query) -> Mapping[str, Any] | LedgerError:
        """The request for one lookup of many, or what is wrong with it."""
        try:
            self._check_query(query)
            self._check_epoch(query.buyer)
            return query_json(query, order_ref(self._order_key(), query.order))
        except (InvalidInput, StaleEpoch) as error:
            return error

    def _ask_batch(self, requests: Sequence[Mapping[str, Any]], limit: Deadline) -> list[Lookup | LedgerError]:
        """One outcome for each request; one that cannot be sent is refused here and does not touch the others."""
        outcomes: list[Question | LedgerError] = []
        for request in requests:
            try:
                outcomes.append(self._questions.question(request))
            except InvalidRequest as error:
                outcomes.append(error)
        questions = [one for one in outcomes if isinstance(one, Question)]
        if not questions:
            return [one for one in outcomes if isinstance(one, LedgerError)]
        answer = self._post("/v1/lookups/batch", {"lookups": [one.body for one in questions]}, limit)
        found = iter(answer.read(partial(self._questions.answers, questions)))
        return [next(found) if isinstance(one, Question) else one for one in outcomes]

    def _explained(self, found: Lookup, limit: Deadline) -> Lookup:
        """With the texts of reasons that this version does not know, if the service tells them by then."""
        codes = [reason.code for reason in found.reasons]
        if self._texts.lacks(codes):
            asking = self._transport.background(lambda: self._texts.fetch(codes, limit))
            if asking is not None:
                with suppress(TimeoutError, CancelledError):
                    asking.result(timeout=limit.left())
        reasons = self._texts.reasons(found.reasons)
        return found if reasons == found.reasons else replace(found, reasons=reasons)

    def _searching(
        self, body: dict[str, Any], pictures: int, deadline: Deadline
    ) -> Future[tuple[PictureReuse, ...]] | None:
        def search() -> tuple[PictureReuse, ...]:
            self._check_served(deadline)
            return self._search(body, pictures, deadline)

        return self._transport.background(search)

    def _check_epoch(self, buyer: Buyer) -> None:
        if not self._epochs.answers(buyer.epoch):
            raise StaleEpoch(
                "This buyer's key epoch is not in use (any more). Blind again.", epoch=self._epochs.current
            )

    def _remembered(self, person: Canonical, epoch: int) -> Buyer | None:
        """The buyer under `epoch` if no request is needed for it."""
        return self._blinder(epoch).remembered(person) if self._epochs.holds(epoch) else None

    def _cleared(
        self,
        person: Buyer | Canonical,
        refund: Refund | None,
        consent_ref: str | None,
        min_index: int,
        looking: Future[None] | None,
        deadline: Deadline,
    ) -> Lookup | None:
        """What the local filter can still say in an outage, within the time that is left. Raises ConsentMissing."""
        if looking is not None:
            with suppress(TimeoutError, LedgerError):
                looking.result(timeout=deadline.left())
        self._check_consent(consent_ref, "lookup")  # the policy may have become known meanwhile
        snapshot = self._snapshots.local()
        if snapshot is None or snapshot.manifest.cut < min_index:
            return None
        known = person if isinstance(person, Buyer) else self._remembered(person, snapshot.manifest.epoch)
        return None if known is None else clear_by_filter(snapshot, known, claim_of(refund), self._now())


def _check_same_epoch(epoch: int, snapshot: Snapshot) -> None:
    theirs = snapshot.manifest.epoch
    if epoch < theirs:
        raise StaleEpoch("The snapshot is of a later key epoch than this buyer. Blind again.", epoch=theirs)
    if epoch > theirs:
        raise Unavailable("There is no snapshot of the new key epoch yet. Try again.", retry_after_seconds=60)


def _with_pictures(found: Lookup, searching: Future[tuple[PictureReuse, ...]] | None, deadline: Deadline) -> Lookup:
    """The lookup with what the search says by the deadline."""
    if searching is None:
        return replace(found, pictures_unavailable_because="closed")
    try:
        return replace(found, pictures=searching.result(timeout=deadline.left()))
    except TimeoutError:
        return replace(found, pictures_unavailable_because="timeout")
    except LedgerError as error:
        return replace(found, pictures_unavailable_because=str(error.details.get("reason", error.code)))


def _status(error: LedgerError) -> int | None:
    status = error.details.get("status")
    return status if isinstance(status, int) else None


def _request_id(error: LedgerError) -> str | None:
    found = error.details.get("request_id")
    return found if isinstance(found, str) else None
