"""`RefundLedger`: what a platform's service calls. Synchronous and thread-safe; make one and keep it."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ledger.client.appeals import Appeals
from ledger.client.choices import Purpose
from ledger.client.holders.cards import CardSource
from ledger.client.identity.environment import read_credentials
from ledger.client.identity.suite import Suite
from ledger.client.inputs import check_identifiers
from ledger.client.lookups.checks import Checks
from ledger.client.lookups.local_standing import CheckPolicy
from ledger.client.lookups.lookups import Lookups
from ledger.client.lookups.request import Query, Refund
from ledger.client.models.appeals import PersonStatement
from ledger.client.models.key_holders import KeyHolders
from ledger.client.models.lookups import Check, Lookup
from ledger.client.models.pictures import PictureHash
from ledger.client.outbox.queue import OutboxQueue
from ledger.client.pictures import Pictures
from ledger.client.renamed import Renamed
from ledger.client.reports.reports import Reports
from ledger.client.session import READ_BUDGET_SECONDS, REFUSED_RETENTION_DAYS, Session, utc_now
from ledger.client.subjects import Buyer, Canonical, Identifiers, normalise, normalise_each
from ledger.client.transport.budgets import (
    CHECK_BUDGET_SECONDS,
    CONNECT_BUDGET_SECONDS,
    LOOKUP_BUDGET_SECONDS,
    SUBJECT_BUDGET_SECONDS,
)
from ledger.client.transport.connections import ClientFactory
from ledger.client.transport.event_log import proof_errors_logged
from ledger.client.transport.http import Transport
from ledger.client.webhooks import Webhooks
from ledger.errors import LedgerError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class RefundLedger:
    """A platform's connection to the ledger.

    Looking up, checking and tagging are methods of the client itself; the rest is arranged by what it is about:

    | attribute | for |
    |---|---|
    | `reports` | create, correct and read reports of confirmed fraud; receipts |
    | `outbox` | what waits on this machine until the ledger has answered |
    | `appeals` | file for a customer, answer as the reporter, letters |
    | `pictures` | search for reused pictures |
    | `webhooks` | endpoints and deliveries |

    `suite` is the file that `refund-ledger platform add` wrote, `key` that of `refund-ledger make-key`;
    `help(RefundLedger.__init__)` explains all arguments, and `from_environment` takes them from environment variables.
    """

    def __init__(
        self,
        suite: str | Path | Suite,
        key: str | Path | Ed25519PrivateKey,
        *,
        state_dir: str | Path | None = None,
        order_key: bytes | str | Path | None = None,
        scopes: Iterable[str] | None = None,
        lookup_budget_seconds: float = LOOKUP_BUDGET_SECONDS,
        budget_seconds: float = READ_BUDGET_SECONDS,
        refused_retention_days: int = REFUSED_RETENTION_DAYS,
        subject_budget_seconds: float = SUBJECT_BUDGET_SECONDS,
        check_budget_seconds: float = CHECK_BUDGET_SECONDS,
        connect_budget_seconds: float = CONNECT_BUDGET_SECONDS,
        cards: CardSource | None = None,
        ca_file: str | Path | None = None,
        proxy: str | None = None,
        http_client: ClientFactory | None = None,
        insecure_http: bool = False,
        now: Callable[[], datetime] = utc_now,
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
        transport: Transport | None = None,
    ) -> None:
        """Read suite, cards and keys, and compare the cards with the suite; nothing is sent before the first call.

        `suite` is what `refund-ledger platform add` wrote and `key` the signing key of `refund-ledger make-key`, by
        their files or as objects. `state_dir` keeps the outbox, the last checkpoint, proven key epochs and snapshots
        (default: `~/.local/state/refund-ledger/...`); share it among the processes of one host, and keep it. Where it
        cannot be written, all but the outbox is kept in memory, with one warning. `order_key` is 32 bytes or a file; by
        default `acme.order.key` beside the signing key of the platform acme. `scopes` narrows the tokens.
        `refused_retention_days` (0 to 60) is how long the outbox keeps what the ledger refused.
        Time budgets in seconds, each for the whole call with name resolution, connecting, TLS, blinding and retries:
        `lookup_budget_seconds` (0.3), `subject_budget_seconds` (2), `check_budget_seconds` (5),
        `connect_budget_seconds` (8). `budget_seconds` (10) bounds all attempts of each other request.
        `cards` are needed where several holders share the key: card files (`NAME.card.json`), a folder of them, or
        parsed cards, from at least as many holders outside the operator as evaluate together.
        `ca_file`, `proxy` and `http_client` are explained at `ledger.client.transport.connections.HttpOptions`.
        `insecure_http` allows plain http to another machine. `now`, `random_bytes` and `transport` are for tests.

        Raises ConfigurationError (also for missing cards, with whose they are), HolderMismatch (a card contradicts the
        suite or another card; `holder` in the details).
        """
        self._session = Session(
            suite,
            key,
            state_dir=state_dir,
            order_key=order_key,
            scopes=scopes,
            lookup_budget_seconds=lookup_budget_seconds,
            budget_seconds=budget_seconds,
            refused_retention_days=refused_retention_days,
            subject_budget_seconds=subject_budget_seconds,
            check_budget_seconds=check_budget_seconds,
            connect_budget_seconds=connect_budget_seconds,
            cards=cards,
            ca_file=ca_file,
            proxy=proxy,
            http_client=http_client,
            insecure_http=insecure_http,
            now=now,
            random_bytes=random_bytes,
            transport=transport,
        )
        self._lookups = Lookups(self._session)
        self._checks = Checks(self._session)
        self.reports = Reports(self._session)
        self.outbox = OutboxQueue(self._session)
        self.appeals = Appeals(self._session)
        self.pictures = Pictures(self._session)
        self.webhooks = Webhooks(self._session)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None, **options: Any) -> Self:
        """Return a client made of environment variables (`os.environ` unless `environment` is given); `options` are the
        other arguments of the constructor.

        The suite is the file `REFUND_LEDGER_SUITE` or the text `REFUND_LEDGER_SUITE_JSON`, the signing key the file
        `REFUND_LEDGER_KEY` or the PEM text `REFUND_LEDGER_KEY_PEM`, the order key the file `REFUND_LEDGER_ORDER_KEY` or
        its text `REFUND_LEDGER_ORDER_KEY_TEXT`, the state folder `REFUND_LEDGER_STATE`, the holders' cards the files or
        the folder `REFUND_LEDGER_CARDS`. Raises ConfigurationError, which names variables and never repeats what they
        hold, and HolderMismatch.
        """
        given = {name: options.pop(name, None) for name in ("order_key", "state_dir", "cards")}
        credentials = read_credentials(os.environ if environment is None else environment, **given)
        return cls(
            credentials.suite,
            credentials.key,
            order_key=credentials.order_key,
            state_dir=credentials.state_dir,
            cards=credentials.cards,
            **options,
        )

    # --- connection -----------------------------------------------------------------------------------------------

    def connect(self, *, required: bool = True) -> None:
        """Compare the server with the pinned suite, follow a key rotation that its log proves, open the local snapshot
        if there is one, and have the ledger accept the key and this machine's clock: all within
        `connect_budget_seconds`. Call it at start, so that the first lookup does not spend its 300 ms on it. In a
        process made by `fork()`, it prepares connections of its own.

        An outage raises Unavailable, or with `required=False` is logged only, so that a service starts while the ledger
        is down: lookups are `unavailable` then, and the first call that reaches the ledger completes the connection. A
        key that the ledger does not know yet is waited for, a few seconds.

        Raises ConfigurationError, HolderMismatch, UnknownKey, InvalidToken, TokenExpired, Unavailable, and the errors
        of a log that proves something else.
        """
        self._session.connect(required=required)

    def close(self) -> None:
        """Close connections and files. What waits in the outbox stays there, and a warning about it is logged if this
        client has used the outbox."""
        self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def suite(self) -> Suite:
        """The suite file, with the key id of the signing key in use."""
        return self._session.suite

    @property
    def public_keys(self) -> tuple[Ed25519PublicKey, ...]:
        """The platform's public keys under which its reports verify: that of `key` first, then what else the suite file
        names, for reports that were signed under an earlier one."""
        return self._session.public_keys

    # --- key holders ----------------------------------------------------------------------------------------------

    @property
    def key_holders(self) -> KeyHolders:
        """Who holds the key that tags are made with: how many holders there are, how many of them evaluate together,
        and whether one has the whole key (`single`) and so could find out by itself who every person is.

        Makes no request. Raises StaleEpoch while the holders of a new key epoch are not proven yet.
        """
        return self._session.holders.described()

    @property
    def holder_failures(self) -> Mapping[str, Mapping[str, int]]:
        """How often each key holder gave no valid share to this client, by holder and reason (`timeout`, `connect`,
        `invalid_proof`, `malformed`, `wrong_generation`, or the code of a refusal): for monitoring. Each is also logged
        as `holder_failed`."""
        return self._session.holders.failures.counts()

    def endorse_key(self, kid: str, public_key: Ed25519PublicKey) -> Mapping[str, LedgerError | None]:
        """Present a further key of this platform to all key holders, signed with the present one: holders accept a key
        that an admitted key presents. `kid` is the id that the operator registered, or will register, for it.

        Returns for each holder None, or the error of its refusal; call it again for those. Raises what `connect` does.
        """
        return self._session.endorse_key(kid, public_key.public_bytes_raw())

    # --- tags -----------------------------------------------------------------------------------------------------

    def tag(self, /, *, region: str | None = None, **identifiers: str) -> Buyer:
        """Return a buyer from their own identifiers: phone, email, cn_id, payment, device (`region`: of a national
        phone).

        Blinds the identifiers, has them evaluated and verifies every proof, within `subject_budget_seconds` (2 s) in
        total. Give only identifiers of the claimant that you verified.
        Raises InvalidIdentifier and its leaves, QuotaExceeded, InvalidProof, HolderMismatch, Unavailable.
        """
        person = normalise(check_identifiers(identifiers, region), region)
        session = self._session
        with proof_errors_logged("subject"):
            # Not in the threads of lookups: while a key holder is away, attempts here last as long as their budget.
            return session.transport.in_own_thread(session.subject_budget_seconds, partial(session.tag_in_time, person))

    def tag_many(
        self,
        people: Sequence[Identifiers],
        *,
        region: str | None = None,
        epoch: int | Literal["current", "next"] = "current",
    ) -> list[Buyer | LedgerError]:
        """Return a buyer for each of many people; evaluated in batches of 1000 identifiers, each within the time
        budget.

        One outcome each, in order: a person with a malformed identifier gets the error, with their `index` (from 0) in
        its details, and does not touch the others. `reports.create_many` takes such an error in place of a buyer.
        `epoch="next"` tags ahead under the key epoch that has been announced; such buyers are good once it is current.
        Raises what concerns all of them: InvalidRequest when no next epoch is announced, StaleEpoch when a given epoch
        is not evaluated (any longer), QuotaExceeded, InvalidProof, HolderMismatch, Unavailable.
        """
        outcomes = normalise_each(people, region)
        well_formed = [outcome for outcome in outcomes if not isinstance(outcome, LedgerError)]
        tagged = iter(self._session.tag(well_formed, None if epoch == "current" else self.tagging_epoch(epoch)))
        return [outcome if isinstance(outcome, LedgerError) else next(tagged) for outcome in outcomes]

    def tag_canonical(self, people: Sequence[Canonical], epoch: int | None = None) -> list[Buyer]:
        """Return a buyer for each person whose identifiers `ledger.client.subjects.normalise` has normalised, with
        retries: as `tag_many`, under key epoch `epoch` or else the current one.

        Raises StaleEpoch when `epoch` is not evaluated (any longer), QuotaExceeded, InvalidProof, HolderMismatch,
        Unavailable.
        """
        return self._session.tag(people, epoch)

    def start_tagging(self, people: Sequence[Canonical], epoch: int) -> Callable[[], list[Buyer]]:
        """Start what `tag_canonical` does under key epoch `epoch`, and return the function that waits for its result:
        holders of a shared key evaluate meanwhile. Call it once.

        The function raises StaleEpoch when `epoch` is not evaluated (any longer), QuotaExceeded, InvalidProof,
        HolderMismatch, Unavailable.
        """
        return self._session.start_tagging(people, epoch)

    def tagging_epoch(self, epoch: int | Literal["current", "next"] = "current") -> int:
        """Return the number of the key epoch that tags are made under now, or will be next. Asks the service.

        Raises InvalidRequest when no next epoch is announced, Unavailable.
        """
        return self._session.tagging_epoch(epoch)

    def current_epoch(self) -> int:
        """Return the key epoch that new tags are made under. Connects first. Raises what `connect` does."""
        return self._session.current_epoch()

    # --- lookups --------------------------------------------------------------------------------------------------

    def lookup(
        self,
        buyer: Buyer | Identifiers,
        *,
        order: str,
        purpose: Purpose = "refund_review",
        refund: Refund | None = None,
        consent_ref: str | None = None,
        min_index: int | None = None,
        region: str | None = None,
        pictures: Sequence[PictureHash] = (),
    ) -> Lookup:
        """Return the buyer's standing, within 300 ms in total and without retries. `buyer` may be the raw identifiers
        ({"phone": ...}); blinding then counts towards the 300 ms.

        With `pictures` (up to 8 of the claim), a second request at the same time asks how often others used them. Its
        result is in `pictures` of the answer; its failure is named there, and costs neither the standing nor more time.

        `consent_ref` says where you keep the person's separate consent (1 to 128 printable characters in NFC). Where
        the policy asks for it under your profile (CN), ConsentMissing is raised without it, before anything is sent.

        An outage never raises: if a local filter is at hand and the buyer is not in it, the tier is `clear` and
        `source` is `local_filter`, else the tier is `unavailable`. Raises InvalidRequest for a wrong argument,
        InvalidIdentifier and its leaves, ConsentMissing, StaleEpoch (the buyer's key epoch is retired: tag again), the
        named error of another 4xx answer (ScopeMissing, QuotaExceeded, ...), PictureUnfit, InvalidProof,
        HolderMismatch, ConfigurationError, UnexpectedAnswer for a 4xx answer with an unknown code, and AnswerMismatch
        when the answer belongs to another question: then nothing is known of this buyer; ask again.
        """
        return self._lookups.lookup(
            buyer,
            order=order,
            purpose=purpose,
            refund=refund,
            consent_ref=consent_ref,
            min_index=min_index,
            region=region,
            pictures=pictures,
        )

    def lookup_many(self, queries: Sequence[Query]) -> list[Lookup | LedgerError]:
        """Return the outcomes of many lookups, sent in batches of 1000 with retries: for reviews that wait in a queue,
        not for a live refund.

        One outcome each, in order. A refused lookup is its error: StaleEpoch for a buyer whose key epoch is retired, or
        ConsentMissing as in `lookup`. Nothing is sent if all are refused before. Raises what refuses a whole batch:
        ScopeMissing, QuotaExceeded, AnswerMismatch, UnexpectedAnswer, Unavailable, and what `connect` raises.
        """
        return self._lookups.lookup_many(queries)

    def statements(self, lookup: str | Lookup) -> tuple[PersonStatement, ...]:
        """Return what the person says of the reports that a lookup of yours disclosed; ask when it `has_statement`.
        Raises NotFound for other lookups and after 24 hours, InvalidRequest, Unavailable."""
        return self._lookups.statements(lookup)

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
        """Return the buyer's standing as of the newest snapshot, computed on this machine: the ledger does not learn
        who is checked.

        `download` fetches the filter and all buckets once an hour and then makes no request about a buyer. `private`
        fetches one bucket for each identifier, always, so the ledger learns the first bits of each tag and nothing of
        the result. Raw identifiers are blinded first; keep the buyer to spare the request.

        Takes `check_budget_seconds` (5 s) at most. A snapshot that is older than an hour is used if a newer one does
        not come in time. The first download may take longer: it goes on, and Unavailable (`timeout`) is raised. Let
        `refresh_snapshot` make it.

        `consent_ref` is as in `lookup`, and required where it is required there. It is checked here and never sent:
        keep it beside the answer.

        The answer may start a human step; an adverse decision needs a fresh `lookup`. In an outage the last snapshot is
        used until its end. Raises InvalidRequest (no such policy; a buyer from tags who is not plainly clear, or with
        `private`), ConsentMissing, StaleEpoch (tag again), Unavailable or SnapshotUnknown (no snapshot), and the named
        error of a false proof or file: InvalidManifest, InvalidInclusion, Equivocation, SnapshotExpired, SnapshotStale,
        InvalidFilter, InvalidBucket and others.
        """
        return self._checks.check(buyer, policy=policy, refund=refund, consent_ref=consent_ref, region=region)

    def check_tags(self, tags: bytes | NDArray[np.uint8], epoch: int) -> NDArray[np.bool_]:
        """Return for each of n stored tags of key epoch `epoch`, packed or of shape (n, 32), whether it may be listed.

        Uses the local filter alone. Tags with false are clear; of the unlisted ones, one in 256 has true.
        Raises StaleEpoch when the filter is of another epoch, and what `check` raises.
        """
        return self._checks.check_tags(tags, epoch)

    def refresh_snapshot(self, *, buckets: bool = True) -> datetime:
        """Fetch the newest snapshot's filter, and all its buckets unless `buckets` is false; return the snapshot's time
        (`as_of`). Call it every few minutes from a job of your own, on each host: then no check waits for a download,
        and lookups have a fresh filter for an outage. Raises what `check` raises."""
        return self._checks.refresh_snapshot(buckets=buckets)

    # --- names until version 0.2.0, for one version more ----------------------------------------------------------

    subject = Renamed(tag)
    subjects_many = Renamed(tag_many)
    report = Renamed(Reports.create, "reports")
    report_many = Renamed(Reports.create_many, "reports")
    check_report = Renamed(Reports.validate, "reports")
    content_key = Renamed(Reports.content_key, "reports")
    order_reference = Renamed(Reports.order_reference, "reports")
    withdraw = Renamed(Reports.withdraw, "reports")
    restitution = Renamed(Reports.restitute, "reports")
    explain_report = Renamed(Reports.explain, "reports")
    get_report = Renamed(Reports.get, "reports")
    list_reports = Renamed(Reports.list, "reports")
    receipt = Renamed(Reports.receipt, "reports")
    flush_outbox = Renamed(OutboxQueue.flush, "outbox")  # `outbox(state)` is now the namespace: OutboxQueue.__call__
    outbox_waiting = Renamed(OutboxQueue.waiting, "outbox")
    retry_refused = Renamed(OutboxQueue.retry, "outbox")
    discard = Renamed(OutboxQueue.discard, "outbox")
    discard_refused = Renamed(OutboxQueue.discard_refused, "outbox")
    search_pictures = Renamed(Pictures.search, "pictures")
    report_pictures = Renamed(Pictures.for_report, "pictures")
    open_record = Renamed(Appeals.open_record, "appeals")
    appeal = Renamed(Appeals.open, "appeals")
    get_appeal = Renamed(Appeals.get, "appeals")
    list_appeals = Renamed(Appeals.list, "appeals")
    answer = Renamed(Appeals.answer, "appeals")
    attach = Renamed(Appeals.attach, "appeals")
    read_attachment = Renamed(Appeals.read_attachment, "appeals")
    withdraw_appeal = Renamed(Appeals.withdraw, "appeals")
    reopen_appeal = Renamed(Appeals.reopen, "appeals")
    concede = Renamed(Appeals.concede, "appeals")
    agree = Renamed(Appeals.agree, "appeals")
    request_reopening = Renamed(Appeals.request_reopening, "appeals")
    letters = Renamed(Appeals.list_letters, "appeals")
    earlier_letters = Renamed(Appeals.list_earlier_letters, "appeals")
    letter = Renamed(Appeals.get_letter, "appeals")
    add_webhook = Renamed(Webhooks.create, "webhooks")
    list_webhooks = Renamed(Webhooks.list, "webhooks")
    get_webhook = Renamed(Webhooks.get, "webhooks")
    delete_webhook = Renamed(Webhooks.delete, "webhooks")
    rotate_webhook = Renamed(Webhooks.rotate_secret, "webhooks")
    enable_webhook = Renamed(Webhooks.enable, "webhooks")
    test_webhook = Renamed(Webhooks.send_test, "webhooks")
    list_deliveries = Renamed(Webhooks.list_deliveries, "webhooks")
    replay_delivery = Renamed(Webhooks.redeliver, "webhooks")
