"""The base of every call of the SDK: keys, tokens, HTTP, the state folder, and the key epochs of the service."""

from __future__ import annotations

import hmac
import json
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar
from urllib.parse import quote

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ledger.client.holders.answers import ledger_share
from ledger.client.holders.cards import CardSource, pin_cards, read_cards
from ledger.client.holders.connection import CallingPlatform
from ledger.client.holders.evaluation import EVALUATE_PATH
from ledger.client.holders.group import HolderGroup
from ledger.client.identity.epochs import Epochs
from ledger.client.identity.keyfiles import load_signing_key, order_key_source
from ledger.client.identity.own_key import suite_of_key
from ledger.client.identity.suite import Suite, is_loopback, load_suite, parse_service
from ledger.client.identity.tokens import NEW_KEY_SECONDS, TokenSource
from ledger.client.inputs import check_idempotency_key
from ledger.client.lookups.questions import Questioner
from ledger.client.lookups.reason_texts import ReasonTexts
from ledger.client.models.decoding import Model, decode
from ledger.client.outbox.sender import OutboxSender
from ledger.client.outbox.store import Outbox
from ledger.client.policies import Policies
from ledger.client.snapshots.cache import SnapshotCache
from ledger.client.snapshots.reader import Snapshot, Snapshots
from ledger.client.state import (
    CHECKPOINT_FILE,
    EPOCHS_FILE,
    OUTBOX_FILE,
    SNAPSHOTS_FOLDER,
    SeenCheckpoint,
    default_state_dir,
)
from ledger.client.subjects import Blinder, Buyer, Canonical
from ledger.client.transport.budgets import (
    CHECK_BUDGET_SECONDS,
    CONNECT_BUDGET_SECONDS,
    LOOKUP_BUDGET_SECONDS,
    SUBJECT_BUDGET_SECONDS,
    Deadline,
    checked_budget,
)
from ledger.client.transport.connections import ClientFactory, HttpOptions
from ledger.client.transport.event_log import log_advice, log_event
from ledger.client.transport.forks import ForkLock
from ledger.client.transport.http import HttpAnswer, Transport
from ledger.client.verify.receipts import log_fetcher
from ledger.errors import (
    ConfigurationError,
    Conflict,
    Forbidden,
    InvalidInput,
    InvalidRequest,
    LedgerError,
    LimitExceeded,
    NotFound,
    StaleEpoch,
    Unavailable,
    UnexpectedAnswer,
    UnknownKey,
)
from ledger.protocol.encoding import b64url
from ledger.protocol.threshold import VerifiedShare
from ledger.rules import consent
from ledger.rules.policy.values import Policy

KEYS_PATH = "/v1/keys"
READ_BUDGET_SECONDS = 10.0
ATTEMPT_SECONDS = 5.0
POLICY_SECONDS = 2.0
"""The longest time that a report waits for the policy in effect or its text, where none is known."""
REFUSED_RETENTION_DAYS = 30
"""The time for which the outbox keeps a refused item: enough to look at it, and less than any other item is kept."""

_NEW_KEY_PAUSES = (0.5, 1.0, 1.5, 2.0, 0.0)
"""Between attempts with a key that the ledger does not know: five seconds in all."""

T = TypeVar("T")


def utc_now() -> datetime:
    """Return the clock of the real world."""
    return datetime.now(UTC)


class _PolicyAnswer(Model, frozen=True):
    toml: str


class Session:
    """A platform's connection to the ledger, over which the namespaces of `RefundLedger` send their requests."""

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
        """Read suite, cards and keys. `RefundLedger` explains the arguments.

        Raises ConfigurationError, HolderMismatch (cards that contradict each other or the suite).
        """
        self.suite = suite if isinstance(suite, Suite) else load_suite(suite)
        self.key = key if isinstance(key, Ed25519PrivateKey) else load_signing_key(key)
        self.order_key = order_key_source(order_key, key, self.suite.platform)
        self.state_dir = default_state_dir(self.suite) if state_dir is None else Path(state_dir)
        self.now = now
        self.random_bytes = random_bytes
        self.suite = suite_of_key(self.suite, self.key)
        self.lookup_budget_seconds = checked_budget("lookup_budget_seconds", lookup_budget_seconds)
        self.subject_budget_seconds = checked_budget("subject_budget_seconds", subject_budget_seconds)
        self.check_budget_seconds = checked_budget("check_budget_seconds", check_budget_seconds)
        self.connect_budget_seconds = checked_budget("connect_budget_seconds", connect_budget_seconds)
        self.budget_seconds = checked_budget("budget_seconds", budget_seconds)
        if isinstance(refused_retention_days, bool) or not 0 <= refused_retention_days <= REFUSED_RETENTION_DAYS * 2:
            raise ConfigurationError(f"refused_retention_days is 0 to {REFUSED_RETENTION_DAYS * 2}.")
        self.refused_retention = timedelta(days=refused_retention_days)
        pinned = self.suite.pinned
        self.cards = pin_cards(self.suite, read_cards(cards))
        self.tokens = TokenSource(
            self.key,
            kid=self.suite.kid,
            platform=self.suite.platform,
            service=pinned.service,
            now=now,
            scopes=scopes,
            correctable=self.suite.url.startswith("https://") or is_loopback(self.suite.url),
        )
        options = HttpOptions(ca_file, proxy, http_client)
        self.transport = transport or Transport(
            self.suite.url,
            self.tokens.token,
            refused=self.tokens.refused,
            insecure_http=insecure_http,
            options=options,
        )
        self.seen = SeenCheckpoint(self._in_state(CHECKPOINT_FILE), pinned.log_origin, self.suite.log_public)
        self.epochs = Epochs(self.suite, self._in_state(EPOCHS_FILE), self.seen, self.cards.statement)
        self.holders = HolderGroup(
            self.epochs,
            self.cards,
            CallingPlatform(
                self.key,
                self.suite.kid,
                self.suite.platform,
                pinned.log_key,
                now,
                random_bytes,
                options,
                insecure_http,
            ),
            self._follow_holders,
            budget_seconds=self.budget_seconds,
            attempt_seconds=ATTEMPT_SECONDS,
        )
        self.policies = Policies(pinned)
        self._blinders: dict[int, Blinder] = {}
        self.snapshots = Snapshots(
            SnapshotCache(self._in_state(SNAPSHOTS_FOLDER)),
            self.suite,
            self.transport,
            self.seen,
            self.hold_listed_epoch,
            now,
            budget_seconds,
        )
        self.questions = Questioner(self.suite, random_bytes)
        self.reason_texts = ReasonTexts(self.transport)
        self._lock = ForkLock()
        self._outbox_lock = ForkLock()  # of its own: opening the file may wait for other processes, and no lookup may
        self._checked = False
        self._let_in = False
        self._opened_outbox: Outbox | None = None

    @property
    def public_keys(self) -> tuple[Ed25519PublicKey, ...]:
        """The platform's public keys under which its reports verify: that of `key` first, then what else the suite file
        names, for reports that were signed under an earlier one."""
        own = self.key.public_key().public_bytes_raw()
        earlier = dict.fromkeys(key.public_key for key in self.suite.keys if key.public_key != own)
        return tuple([Ed25519PublicKey.from_public_bytes(raw) for raw in (own, *earlier)])

    def close(self) -> None:
        """Close connections and files. Items of the outbox stay there; a warning about them is logged if this client
        has used the outbox."""
        self.transport.close()
        self.holders.close()
        self.snapshots.close()
        with self._outbox_lock:
            if self._opened_outbox is not None:
                _warn_of_waiting(self._opened_outbox, self.now())
                self._opened_outbox.close()
                self._opened_outbox = None

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
        self.transport.open()
        if self._checked and self._let_in and self.epochs.holds(self.epochs.current):
            return
        try:
            self.transport.in_own_thread(self.connect_budget_seconds, self._connected)
        except (Unavailable, UnexpectedAnswer, LimitExceeded) as error:
            log_event("connect_failed", reason=str(error.details.get("reason", error.code)))
            if required:
                raise

    def _connected(self, limit: Deadline) -> None:
        self._compared(limit)
        if not self._let_in:
            self._prove_key(limit)

    def ready(self) -> None:
        """Connect without proving the key, unless that was done before: for a call that needs it. Takes at most the
        shorter of `connect_budget_seconds` and `budget_seconds`. Raises what `connect` does."""
        self.transport.open()
        if not self._checked or not self.epochs.holds(self.epochs.current):
            self.transport.in_own_thread(min(self.connect_budget_seconds, self.budget_seconds), self._compared)

    def _compared(self, limit: Deadline) -> None:
        if not self._checked:
            self.snapshots.look()
            self.transport.retrying(limit.left(), self.compare_service, ATTEMPT_SECONDS)
        current = self.epochs.current
        if not self.epochs.holds(current) or self.epochs.is_behind(current):
            self.transport.retrying(limit.left(), lambda part: self.hold_epoch(current, part), ATTEMPT_SECONDS)
        self.holders.open()

    def endorse_key(self, kid: str, public_key: bytes) -> dict[str, LedgerError | None]:
        """Present a further key of the platform to all holders, with a token of the present key. Return for each holder
        the error of its refusal, or None. Raises what `connect` does."""
        self.ready()
        body = {"kid": kid, "public_key": b64url(public_key)}
        return self.holders.post_each(KEYS_PATH, json.dumps(body, separators=(",", ":")).encode(), self.retrying)

    def _prove_key(self, limit: Deadline) -> None:
        """Make a request that needs a token, and ignore refusals for other reasons than the token."""

        def ask(part: Deadline) -> None:
            with suppress(Forbidden, NotFound, InvalidInput, Conflict):
                self.transport.send("GET", "/v1/reports", part, query={"limit": "1"})

        waited = Deadline(NEW_KEY_SECONDS + 1)
        for pause in _NEW_KEY_PAUSES:
            try:
                self.transport.retrying(limit.left(), ask, ATTEMPT_SECONDS)
                break
            except UnknownKey:
                if pause == 0 or pause >= min(limit.left(), waited.left()):
                    raise
                self.transport.pause(pause)
        self._let_in = True

    def current_epoch(self) -> int:
        """Return the key epoch that new tags are made under. Connects first. Raises what `connect` does."""
        self.ready()
        return self.epochs.current

    def tagging_epoch(self, epoch: int | Literal["current", "next"]) -> int:
        """Return the number of a key epoch. Raises InvalidRequest for `next` while no rotation is announced, and what
        `RefundLedger.tagging_epoch` names."""
        self.ready()
        if isinstance(epoch, int):
            return epoch
        self.retrying(self.read_service)
        number = self.epochs.next if epoch == "next" else self.epochs.current
        if number is None:
            raise InvalidRequest("No key rotation is announced: there is no next key epoch to tag under.")
        return number

    # --- key epochs -------------------------------------------------------------------------------------------------

    def compare_service(self, limit: Deadline) -> None:
        """Compare the server with the pinned suite, unless that was done before. Raises what `read_service` does."""
        if not self._checked:
            self.read_service(limit)

    def read_service(self, limit: Deadline) -> None:
        """Read the service's key epochs and policies; again after it refused an epoch as stale. Raises HolderMismatch,
        ConfigurationError, UnexpectedAnswer, Unavailable."""
        answer = self.transport.send("GET", "/v1/suite", limit)
        service = parse_service(answer.json())
        self.epochs.take(service)
        self.policies.take(service, self.now())
        self._checked = True

    def _policy_text(self, version: str) -> str:
        """Return the text of a policy that did not come with this package. Raises UnexpectedAnswer and what a request
        does."""
        path = f"/v1/policies/{quote(version, safe='')}"
        return decode(self.transport.send("GET", path, Deadline(POLICY_SECONDS)).json(), _PolicyAnswer).toml

    def policy(self) -> Policy | None:
        """Return the policy in effect, None if it is not known. The service is asked if the last answer is too old."""
        if self.policies.is_due(self.now()):
            with suppress(LedgerError):
                self.read_service(Deadline(POLICY_SECONDS))
        return self.policies.at(self.now(), self._policy_text)

    def check_consent(self, ref: str | None, of: str, snapshot: Snapshot | None = None) -> None:
        """Check that a lookup or check has the reference to the person's consent that the policy in effect asks for
        under this platform's profile. Makes no request: uses the newest policy known from the service and from
        `snapshot`, by default the opened one. Raises ConsentMissing, InvalidRequest (a blank)."""
        opened = snapshot or self.snapshots.ready(whole_filter=False, whole_buckets=False) or self.snapshots.local()
        known = [self.policies.at(self.now(), None), None if opened is None else opened.latest.policy]
        newest = max(
            (policy for policy in known if policy is not None), key=lambda policy: policy.version, default=None
        )
        profile = self.suite.profile
        required = newest is not None and profile in newest.consent_for_lookups
        consent.check_consent(ref, profile=profile, required=required, of=of, unfit=InvalidRequest)

    def hold_epoch(self, epoch: int, limit: Deadline) -> None:
        """Have the holders of a listed epoch proven. Fetching may take longer than `limit`: the waiting lookup is
        answered in time, and the next one uses the proof."""
        self.epochs.hold(epoch, log_fetcher(self.transport, ATTEMPT_SECONDS), limit.left())

    def hold_listed_epoch(self, epoch: int) -> None:
        """Hold an epoch as `hold_epoch` does, also one that is newer than the service's last list of epochs. Raises
        what `read_service` and `hold_epoch` do."""
        if not self.epochs.holds(epoch):
            self.retrying(self.read_service)
            self.retrying(lambda limit: self.hold_epoch(epoch, limit))

    def blinder(self, epoch: int) -> Blinder:
        """Return the blinder of an epoch."""
        with self._lock:
            blinder = self._blinders.get(epoch)
            if blinder is None:
                blinder = self._blinders[epoch] = Blinder(epoch, self.random_bytes)
            return blinder

    def remembered(self, person: Canonical, epoch: int) -> Buyer | None:
        """Return the person as a buyer under `epoch`, or None if that takes a request."""
        return self.blinder(epoch).remembered(person) if self.epochs.holds(epoch) else None

    def blind(
        self, people: Sequence[Canonical], epoch: int, limit: Deadline | None = None, *, again: bool = True
    ) -> list[Buyer]:
        """Return a buyer for each person under `epoch`, whose holders must be held. With `limit` by then, and in one
        attempt of the ledger; key holders that fail for a reason that passes are asked again unless `again` is false.
        """
        return self._start_blinding(people, epoch, limit, again)()

    def _start_blinding(
        self, people: Sequence[Canonical], epoch: int, limit: Deadline | None, again: bool
    ) -> Callable[[], list[Buyer]]:
        def evaluate(blinded: Sequence[bytes]) -> Callable[[], list[VerifiedShare]]:
            if self.epochs.keys(epoch).is_single:
                return partial(self._by_ledger, epoch, blinded, limit)
            return self.holders.start(epoch, blinded, limit, again)

        return self.blinder(epoch).start(people, evaluate)

    def _by_ledger(self, epoch: int, blinded: Sequence[bytes], limit: Deadline | None) -> list[VerifiedShare]:
        """Have the ledger evaluate with the whole key."""
        body = {"epoch": epoch, "blinded": [b64url(element) for element in blinded]}
        if limit is not None:
            answer = self.post(EVALUATE_PATH, body, limit).json()
        else:
            answer = self.retrying(lambda attempt: self.post(EVALUATE_PATH, body, attempt).json())
        return [ledger_share(answer, epoch, self.epochs.keys(epoch), blinded)]

    def _follow_holders(self, epoch: int, limit: Deadline | None) -> None:
        """Read the suite, and have the newest sharing of an epoch's key proven."""
        if limit is None:
            self.retrying(self.read_service)
            self.retrying(lambda part: self.hold_epoch(epoch, part))
        else:
            self.read_service(limit)
            self.hold_epoch(epoch, limit)

    def tag(self, people: Sequence[Canonical], epoch: int | None = None) -> list[Buyer]:
        """Return a buyer for each person, with retries, under `epoch` or else the current one, which may change
        meanwhile.

        Raises StaleEpoch when `epoch` is not evaluated (any longer).
        """
        self.ready()
        try:
            return self._tag_once(people, epoch)
        except StaleEpoch:
            self.retrying(self.read_service)
            return self._tag_once(people, epoch)

    def start_tagging(self, people: Sequence[Canonical], epoch: int) -> Callable[[], list[Buyer]]:
        """Start what `tag` does under `epoch` if its key is shared and known here, and return the function that waits
        for the result, or makes it."""
        if people and self._checked and self.epochs.holds(epoch) and not self.epochs.keys(epoch).is_single:
            return self._start_blinding(people, epoch, None, again=True)
        return partial(self.tag, people, epoch)

    def tag_in_time(self, person: Canonical, limit: Deadline) -> Buyer:
        """Return the person as a buyer under the current epoch by `limit`, connecting first and with retries."""

        def prepared(part: Deadline) -> int:
            self.compare_service(part)
            epoch = self.epochs.current
            self.hold_epoch(epoch, part)
            return epoch

        def once(part: Deadline) -> Buyer:
            return self.blind([person], prepared(part), part)[0]

        def attempt(part: Deadline) -> Buyer:
            try:
                return once(part)
            except StaleEpoch:
                self.read_service(part)
                return once(part)

        epoch = self.transport.retrying(limit.left(), prepared)
        if self.epochs.keys(epoch).is_single:
            return self.transport.retrying(limit.left(), attempt)
        # Each holder is asked again by itself, so the evaluation as a whole is not repeated.
        try:
            return self.blind([person], epoch, limit)[0]
        except StaleEpoch:
            self.transport.retrying(limit.left(), self.read_service)
            return self.blind([person], self.transport.retrying(limit.left(), prepared), limit)[0]

    def _tag_once(self, people: Sequence[Canonical], epoch: int | None) -> list[Buyer]:
        number = self.epochs.current if epoch is None else epoch
        self.retrying(lambda limit: self.hold_epoch(number, limit))
        return self.blind(people, number)

    # --- requests ---------------------------------------------------------------------------------------------------

    def post(self, path: str, body: Mapping[str, Any], limit: Deadline) -> HttpAnswer:
        """POST `body` as JSON in one attempt. Raises the named error of a refusal, Unavailable, UnexpectedAnswer."""
        content = json.dumps(body, separators=(",", ":")).encode()
        return self.transport.send("POST", path, limit, content=content)

    def get(self, path: str, parse: Callable[[Any], T], query: Mapping[str, str] | None = None) -> T:
        """GET with retries, and return what `parse` makes of the answer. Raises the named error of a refusal,
        Unavailable, and what `parse` raises."""
        self.ready()
        return self.retrying(lambda limit: self.transport.send("GET", path, limit, query=query).read(parse))

    def retrying(self, work: Callable[[Deadline], T]) -> T:
        """Return what `work` returns, with retries within `budget_seconds`. Raises the last error of `work`."""
        return self.transport.retrying(self.budget_seconds, work, ATTEMPT_SECONDS)

    def new_key(self) -> str:
        """Return an idempotency key that was never used."""
        return f"{self.suite.platform}-{b64url(self.random_bytes(18))}"

    def key_or_new(self, idempotency_key: str | None) -> str:
        """Return the caller's idempotency key, or a new one. Raises InvalidRequest."""
        return self.new_key() if idempotency_key is None else check_idempotency_key(idempotency_key)

    def send_once(self, path: str, body: Mapping[str, Any], key: str, parse: Callable[[Any], T]) -> T:
        """POST `body` with retries, all with the same bytes and idempotency key, and return what `parse` makes of the
        answer. Raises the named error of a refusal, Unavailable, and what `parse` raises."""
        content = json.dumps(body, separators=(",", ":")).encode()
        headers = {"Idempotency-Key": key}
        self.ready()
        return self.retrying(
            lambda limit: self.transport.send("POST", path, limit, content=content, headers=headers).read(parse)
        )

    def sender(self) -> OutboxSender:
        """Return a sender of what is in the outbox. Raises ConfigurationError."""
        return OutboxSender(
            self.transport, self.outbox(), self.now, self.budget_seconds, ATTEMPT_SECONDS, self.outbox_mac
        )

    def outbox_mac(self, data: bytes) -> bytes:
        """Return a keyed digest (32 bytes) of what the outbox compares with itself."""
        return hmac.digest(self.order_key(), b"refund-ledger outbox v1\n" + data, "sha256")

    def check_service_again(self) -> None:
        """Have the next call compare the server with the suite again, and read its key epochs."""
        self._checked = False

    def outbox(self) -> Outbox:
        """Return the outbox, opened. Raises ConfigurationError where there is no state folder or it cannot be used."""
        with self._outbox_lock:
            if self._opened_outbox is None:
                path = self._in_state(OUTBOX_FILE)
                if path is None:
                    raise ConfigurationError(
                        "Reports need a state folder, and no home folder is known: give state_dir (--state-dir, "
                        "REFUND_LEDGER_STATE)."
                    )
                opened = Outbox(path)
                with suppress(ConfigurationError):  # a read-only folder: writing to it raises the error
                    opened.expire(self.now(), self.refused_retention)
                self._opened_outbox = opened
            return self._opened_outbox

    def _in_state(self, name: str) -> Path | None:
        return self.state_dir and self.state_dir / name


def _warn_of_waiting(outbox: Outbox, now: datetime) -> None:
    """Log a warning with the number and the age of the items that wait, not with their content."""
    with suppress(ConfigurationError):  # the call that used a damaged file has raised
        waiting = outbox.waiting()
        pending, parked = waiting["pending"], waiting["parked"]
        age = pending.oldest_age(now)
        if age is not None:
            log_advice(
                "outbox_pending",
                "{pending} items wait in the outbox, the oldest for {oldest_seconds} s; {parked} are parked. "
                "Call outbox.flush.",
                pending=pending.count,
                oldest_seconds=int(age.total_seconds()),
                parked=parked.count,
            )
