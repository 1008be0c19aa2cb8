"""A small ledger whose key is shared t of n: holders with services of their own, which check tokens and evaluate with
real shares, and which can be slow, silent, lying or refusing."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ledger.client import RefundLedger
from ledger.client.identity.suite import parse_suite
from ledger.protocol import voprf
from ledger.protocol.ceremony.kinds import CeremonyKind
from ledger.protocol.ceremony.rotation import prove_multiple
from ledger.protocol.encoding import b64url, unb64url
from ledger.protocol.threshold import HolderKey, KeySet
from ledger.tlog.ceremony_files import MULTIPLE_CONTEXT
from ledger.tlog.checkpoint import verifier_key
from ledger.tlog.entries import GovernanceType
from ledger.tlog.key_history import event_of
from ledger.tlog.key_statement import (
    Card,
    Endorsement,
    KeyStatement,
    PreviousKeys,
    StatedHolder,
    endorse,
    endorsement_json,
    make_card,
    make_statement,
    parse_card,
)
from tests.client.small_ledger import ORIGIN, SERVICE, SmallLedger
from tests.faulty import SLOW_SECONDS, answering
from tests.oracles import GROUP_ORDER, shamir_share

NAMES = ("north", "south", "west", "east", "centre")
PLATFORM_KEY = Ed25519PrivateKey.generate()
Refusal = tuple[int, str, Mapping[str, Any]]
"""(status, code, further members) of a problem document."""


def fresh_scalar() -> bytes:
    return voprf.derive_secret(secrets.token_bytes(32), b"shared ledger")


@dataclass
class SmallHolder:
    """One holder. Its behaviour is set by the attributes."""

    index: int
    id: str
    operator: bool = False
    signing_key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    shares: dict[tuple[int, int], bytes] = field(default_factory=dict)
    admitted: dict[str, bytes] = field(default_factory=dict)
    """The platform's public keys, by id."""
    clock: Callable[[], float] = time.time
    url: str = ""
    delay_seconds: float = 0.0
    before_answer: Callable[[], object] | None = None
    """Called before each answer, which waits until it returns."""
    refusal: Refusal | None = None
    change: Callable[[dict[str, Any]], object] | None = None
    """Changes an answer before it is sent."""
    raw: bytes | None = None
    """Sent in place of every answer."""
    asked: list[int] = field(default_factory=list)
    """The number of elements of each evaluation."""
    taken: set[str] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)
    wake: threading.Event = field(default_factory=threading.Event)

    def stated(self, share: bytes) -> StatedHolder:
        key = HolderKey(self.index, self.id, voprf.public_key(share))
        return StatedHolder(key, f"{self.id} Ltd", self.operator, self.signing_key.public_key().public_bytes_raw())

    def respond(self, path: str, headers: Mapping[str, str], body: bytes) -> tuple[int, Any]:
        """Status and JSON of an answer; a failure is (status, {"code": ...})."""
        if self.delay_seconds:
            self.wake.wait(self.delay_seconds)
        if self.before_answer is not None:
            self.before_answer()
        if self.refusal is not None:
            status, code, members = self.refusal
            return status, {"code": code, "detail": "No.", **members}
        problem = self._check_token(headers.get("Authorization", ""), body)
        if problem is not None:
            return 401, {"code": problem, "detail": "The token is refused."}
        asked = json.loads(body)
        if path == "/v1/keys":
            self.admitted[asked["kid"]] = unb64url(asked["public_key"], 32)
            return 200, {}
        assert path == "/v1/oprf/evaluate"
        return self._evaluate(asked)

    def _evaluate(self, asked: Mapping[str, Any]) -> tuple[int, Any]:
        epoch = asked["epoch"]
        known = [generation for number, generation in self.shares if number == epoch]
        if not known:
            return 409, {
                "code": "stale_epoch",
                "detail": "Another epoch.",
                "epoch": max(self.shares, default=(1, 1))[0],
            }
        if asked["generation"] not in known:
            return 409, {"code": "stale_generation", "detail": "Another generation.", "generation": max(known)}
        blinded = [unb64url(text, 32) for text in asked["blinded"]]
        with self.lock:
            self.asked.append(len(blinded))
        share = self.shares[epoch, asked["generation"]]
        evaluation = voprf.evaluate(share, blinded, secrets.token_bytes(64))
        answer = {
            "epoch": epoch,
            "generation": asked["generation"],
            "index": self.index,
            "evaluated": [b64url(element) for element in evaluation.evaluated],
            "proof": b64url(evaluation.proof),
        }
        if self.change is not None:
            self.change(answer)
        return 200, answer

    def _check_token(self, authorization: str, body: bytes) -> str | None:
        """The code of the refusal, if the token is not good for this body."""
        token = authorization.removeprefix("Bearer ")
        kid = jwt.get_unverified_header(token)["kid"]
        if kid not in self.admitted:
            return "unknown_key"
        key = Ed25519PublicKey.from_public_bytes(self.admitted[kid])
        claims = jwt.decode(
            token,
            key,
            algorithms=["EdDSA"],
            audience=self.id,
            issuer="acme",
            options={"verify_exp": False, "verify_iat": False, "require": ["exp", "iat", "jti"]},
        )
        digest = base64.urlsafe_b64encode(hashlib.sha256(body).digest()).rstrip(b"=").decode()
        if claims["exp"] - claims["iat"] > 60 or claims["body"] != digest or not 16 <= len(claims["jti"]) <= 64:
            return "invalid_token"
        now = self.clock()
        if not claims["iat"] - 60 <= now < claims["exp"]:
            return "token_expired"
        with self.lock:
            if claims["jti"] in self.taken:
                return "token_used"
            self.taken.add(claims["jti"])
        return None

    def lie(self) -> None:
        """From now on evaluate with another share, and prove that."""
        self.shares = {sharing: fresh_scalar() for sharing in self.shares}

    def be_silent(self) -> None:
        self.delay_seconds = SLOW_SECONDS

    def recover(self) -> None:
        """Answer at once and truly again. (A share that a liar replaced stays replaced.)"""
        self.delay_seconds, self.before_answer, self.refusal, self.change, self.raw = 0.0, None, None, None, None
        self.wake.set()
        self.wake = threading.Event()


@contextmanager
def serving(holder: SmallHolder) -> Iterator[None]:
    """The holder's service runs, at its `url`."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, answer = holder.respond(self.path, dict(self.headers), body)
            request_id = self.headers["X-Request-Id"]
            kind = "application/json"
            if status >= 400:
                kind = "application/problem+json"
                answer = {"type": f"urn:refund-ledger:problem:{answer['code']}", "request_id": request_id, **answer}
            text = json.dumps(answer).encode() if holder.raw is None else holder.raw
            with suppress(OSError):
                self.send_response_only(status)
                self.send_header("Date", self.date_time_string(holder.clock()))
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(text)))
                self.send_header("X-Request-Id", request_id)
                if status == 429:
                    self.send_header("Retry-After", str(answer.get("retry_after_seconds", 1)))
                self.end_headers()
                self.wfile.write(text)

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.block_on_close = False
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    holder.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield
    finally:
        holder.recover()
        server.shutdown()
        server.server_close()
        thread.join(5)


@dataclass
class SharedLedger(SmallLedger):
    """A SmallLedger whose key `group` has shares of, `threshold` of them evaluate together."""

    group: list[SmallHolder] = field(default_factory=list)
    threshold: int = 2
    statements: dict[tuple[int, int], KeyStatement] = field(default_factory=dict)
    endorsements: dict[tuple[int, int], list[Endorsement]] = field(default_factory=dict)
    entries: dict[tuple[int, int], int] = field(default_factory=dict)
    """The entry of the log with the statement of a sharing, once it is logged."""

    def __post_init__(self) -> None:
        self.new_key(1)
        self.states[1] = "current"
        self.share(1, 1, CeremonyKind.GENERATE, None)
        self.log_sharing(1, 1)

    # --- sharings -------------------------------------------------------------------------------------------------

    def share(
        self,
        epoch: int,
        generation: int,
        kind: CeremonyKind,
        previous: tuple[int, int] | None,
        group: Sequence[SmallHolder] | None = None,
        threshold: int | None = None,
        multiple_proof: bytes | None = None,
    ) -> KeyStatement:
        """A new sharing of the key of `epoch` among `group`, signed by it and by the holders of the previous one."""
        members, threshold = list(self.group if group is None else group), threshold or self.threshold
        coefficients = [fresh_scalar() for _ in range(threshold - 1)]
        shares = {holder.id: shamir_share(self.oprf[epoch], coefficients, holder.index) for holder in members}
        before = None if previous is None else self.statements[previous]
        statement = make_statement(
            service=SERVICE,
            environment="test",
            log_key=self.log_verifier,
            epoch=epoch,
            kind=kind,
            generation=generation,
            threshold=threshold,
            public_key=voprf.public_key(self.oprf[epoch]),
            holders=[holder.stated(shares[holder.id]) for holder in members],
            previous=previous_of(before),
            multiple_proof=multiple_proof,
        )
        signers = {holder.id: holder for holder in [*(self.group if before else []), *members]}
        self.statements[epoch, generation] = statement
        self.endorsements[epoch, generation] = [endorse(statement, holder.signing_key) for holder in signers.values()]
        for holder in members:
            holder.shares[epoch, generation] = shares[holder.id]
        return statement

    def refresh(self, log: bool = True) -> KeyStatement:
        """The next generation of the current epoch's key, among the same holders."""
        epoch, generation = self.newest(self.current)
        statement = self.share(epoch, generation + 1, CeremonyKind.REFRESH, (epoch, generation))
        if log:
            self.log_sharing(epoch, generation + 1)
        return statement

    def reshare(self, group: Sequence[SmallHolder], threshold: int) -> KeyStatement:
        """The next generation, among other holders."""
        epoch, generation = self.newest(self.current)
        sharing = (epoch, generation + 1)
        statement = self.share(*sharing, CeremonyKind.RESHARE, (epoch, generation), group, threshold)
        self.log_sharing(*sharing)
        self.group, self.threshold = list(group), threshold
        return statement

    def announce(self, epoch: int, **changes: Any) -> None:
        """Rotate to the key of `epoch`, a multiple of the current one, and log that it will follow."""
        before, factor = self.newest(self.current), fresh_scalar()
        self.oprf[epoch] = multiplied(self.oprf[before[0]], factor)
        old, new = self.statements[before].keys.public_key, voprf.public_key(self.oprf[epoch])
        proof = prove_multiple(factor, old, new, MULTIPLE_CONTEXT, secrets.token_bytes(64))
        self.states[epoch] = "next"
        self.share(epoch, 1, CeremonyKind.ROTATE, before, multiple_proof=changes.get("multiple_proof", proof))
        self.log_sharing(epoch, 1)

    def log_sharing(self, epoch: int, generation: int) -> None:
        """Log the statement of a sharing."""
        statement = self.statements[epoch, generation]
        before = statement.previous
        body = {
            **self.rotation_body(epoch if statement.kind is CeremonyKind.GENERATE else self.current),
            "kind": event_of(statement.kind).value,
            "statement": statement.json,
            "endorsements": [endorsement_json(part) for part in self.endorsements[epoch, generation]],
            "previous_entry": None if before is None else self.entries[before.epoch, before.generation],
        }
        self.entries[epoch, generation] = self.append(GovernanceType.KEY_ROTATION, body)
        self.announced[epoch] = self.entries[epoch, generation]

    def destroy(self, generation: int) -> None:
        """Have all holders forget a generation of the current epoch."""
        for holder in self.group:
            holder.shares.pop((self.current, generation), None)

    def newest(self, epoch: int) -> tuple[int, int]:
        return max(sharing for sharing in self.statements if sharing[0] == epoch)

    def keys(self, epoch: int = 1) -> KeySet:
        """The newest logged sharing of an epoch."""
        return self.statements[max(sharing for sharing in self.entries if sharing[0] == epoch)].keys

    def card(self, holder: SmallHolder, sharing: tuple[int, int] | None = None) -> Card:
        """A holder's card, of the newest sharing by default."""
        statement = self.statements[sharing or self.newest(self.current)]
        return parse_card(json.dumps(make_card(statement, holder.index, holder.url, holder.signing_key)).encode())

    def cards(self, sharing: tuple[int, int] | None = None) -> list[Card]:
        return [self.card(holder, sharing) for holder in self.group]

    def pause(self) -> None:
        """Wait for what holders that were not waited for still log."""
        time.sleep(0.05)

    # --- what SmallLedger has for one holder ------------------------------------------------------------------------

    @property
    def log_verifier(self) -> str:
        return verifier_key(ORIGIN, self.log_key.public_key().public_bytes_raw())

    def rotation_body(self, epoch: int) -> dict[str, Any]:
        return {
            "epoch": epoch,
            "holders": self.holders(epoch),
            "log": {"origin": ORIGIN, "key": self.log_verifier},
            "retired": [],
        }

    def holders(self, epoch: int) -> list[dict[str, Any]]:
        logged = [sharing for sharing in self.entries if sharing[0] == epoch]
        statement = self.statements[max(logged) if logged else (epoch, 1)]
        urls = {holder.id: holder.url for holder in self.group}
        return [{**holder, "url": urls.get(holder["id"])} for holder in statement.json["holders"]]

    def suite_json(self) -> dict[str, Any]:
        value = super().suite_json()
        for epoch in value["epochs"]:
            keys = self.keys(epoch["epoch"])
            epoch |= {
                "generation": keys.generation,
                "threshold": keys.threshold,
                "public_key": b64url(keys.public_key),
            }
        return value

    def _evaluate(self, asked: Mapping[str, Any]) -> tuple[int, dict[str, str], bytes]:
        return 409, {}, b'{"code": "evaluated_by_holders", "detail": "Ask the holders."}'

    def connect(self, state: str = "state", suite: dict[str, Any] | None = None, **settings: Any) -> RefundLedger:
        settings.setdefault("subject_budget_seconds", 20)
        settings.setdefault("budget_seconds", 0.5)
        settings.setdefault("cards", self.cards())
        return RefundLedger(
            parse_suite(suite or self.suite_file()),
            settings.pop("key", PLATFORM_KEY),
            state_dir=self.folder / state,
            order_key=b"o" * 32,
            **settings,
        )


def previous_of(statement: KeyStatement | None) -> PreviousKeys | None:
    """What a successor of this statement says of it."""
    if statement is None:
        return None
    return PreviousKeys(statement.epoch, statement.keys.generation, statement.keys.public_key)


def multiplied(secret: bytes, factor: bytes) -> bytes:
    """secret x factor, in plain integers."""
    product = int.from_bytes(secret, "little") * int.from_bytes(factor, "little") % GROUP_ORDER
    return product.to_bytes(32, "little")


@contextmanager
def shared_ledger(folder: Path, threshold: int = 2, count: int = 3) -> Iterator[SharedLedger]:
    """A SharedLedger that is being served, with its holders."""
    with ExitStack() as stack:
        public = PLATFORM_KEY.public_key().public_bytes_raw()
        group = [SmallHolder(n, NAMES[n - 1], admitted={"acme-1": public}) for n in range(1, count + 1)]
        for holder in group:
            stack.enter_context(serving(holder))
        ledger = SharedLedger(folder, group=group, threshold=threshold)
        ledger.url = stack.enter_context(answering(lambda method, path, body: ledger.respond(method, path, body)))
        yield ledger
