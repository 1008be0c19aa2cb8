"""The pinned suite: the public facts of the service, as `platform add` wrote them, and the check that the service still
has them.

With other holders' keys an attacker could learn which buyers a platform looks up; with another log key, show each
platform another history. So both come from a file that the operator delivers, never from the network.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from ledger.client.models.decoding import Count, Label, Model, decode
from ledger.errors import ConfigurationError, HolderMismatch, InvalidEncoding, LedgerError, UnexpectedAnswer
from ledger.protocol.encoding import unb64url
from ledger.protocol.signing_keys import check_public_key
from ledger.protocol.threshold import HolderKey, KeySet
from ledger.protocol.voprf import ELEMENT_BYTES, SUITE, check_element
from ledger.tlog.checkpoint import parse_verifier_key

MAX_SUITE_BYTES = 1 << 20
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{1,31}\Z")
_PROFILE = re.compile(r"[A-Z]{2}\Z")


@dataclass(frozen=True, slots=True)
class ListedHolder:
    """The facts that the operator lists about a holder of a shared key beside its public key: the address of its
    service, its organisation, whether that is the operator, its Ed25519 signing key (32 bytes). None: not listed."""

    url: str | None = None
    organisation: str | None = None
    operator: bool | None = None
    signing_key: bytes | None = None


@dataclass(frozen=True, slots=True)
class Epoch:
    """A key epoch and the newest sharing of its key. `state` is next, current, previous or retired; `entry_index` is
    the entry of the log that announced this sharing, where the suite names it. `listed` has what else the operator
    lists about each holder, by id."""

    epoch: int
    state: str
    keys: KeySet
    entry_index: int | None = None
    listed: Mapping[str, ListedHolder] = field(default_factory=dict)

    @property
    def holders(self) -> tuple[HolderKey, ...]:
        """The holders of the key, in the order of their indexes."""
        return self.keys.holders


@dataclass(frozen=True, slots=True)
class NamedPolicy:
    """A policy that a service names: its version, the SHA-256 of its text (None: an earlier version of the service,
    which did not say), and from when on it is in effect (None: it is)."""

    version: str
    sha256: bytes | None
    in_effect_at: datetime | None


@dataclass(frozen=True, slots=True)
class Service:
    """The public facts of a service: what `GET /v1/suite` answers."""

    service: str
    environment: str
    suite: str
    epochs: tuple[Epoch, ...]
    log_origin: str
    log_key: str
    """The log's verifier key as C2SP signed-note writes it."""
    policy: str
    """Version of the policy in effect."""
    policy_sha256: bytes | None = None
    """SHA-256 of its text; None of an earlier version of the service."""
    next_policies: tuple[NamedPolicy, ...] = ()
    """Announced policies, in the order in which they come into effect."""


@dataclass(frozen=True, slots=True)
class PlatformKey:
    """A public key (Ed25519, 32 bytes) of the platform, in use or revoked; reports stay under the key of their day."""

    kid: str
    public_key: bytes


@dataclass(frozen=True, slots=True)
class Suite:
    """A platform's suite file: the platform's names at a service, and the pinned keys."""

    url: str
    platform: str
    control_group: str
    profile: str
    kid: str
    pinned: Service
    keys: tuple[PlatformKey, ...] = ()
    """Every key that the platform ever had here, by the operator's account; none in files of before this member."""

    @property
    def current(self) -> Epoch:
        """The epoch that was current when the file was written. `RefundLedger.current_epoch` follows rotations."""
        return next(epoch for epoch in self.pinned.epochs if epoch.state == "current")

    @property
    def log_public(self) -> bytes:
        """The log's Ed25519 public key, 32 bytes."""
        return parse_verifier_key(self.pinned.log_key)[1]


# --- the JSON of the file and of the service's answer -------------------------------------------------------------


class HolderMember(Model, frozen=True):
    """A holder of a key epoch; `public_key` is base64url. A holder that has the whole key needs no `index`."""

    id: str
    public_key: str
    index: Count | None = None
    url: str | None = None
    organisation: str | None = None
    operator: bool | None = None
    signing_key: str | None = None


class LogMember(Model, frozen=True):
    """The log's name and verifier key."""

    origin: str
    key: str


class EpochMember(Model, frozen=True):
    """The number of a key epoch and its sharing, in a suite or in an entry of the log. The members about t of n holders
    are missing where one holder has the whole key."""

    epoch: Count
    holders: tuple[HolderMember, ...]
    generation: Count | None = None
    threshold: Count | None = None
    public_key: str | None = None


class _ServedEpoch(EpochMember, frozen=True, kw_only=True):
    state: str
    entry_index: Count | None = None


class _PolicyMember(Model, frozen=True):
    version: Label
    sha256: str
    in_effect_at: datetime


class _ServiceAnswer(Model, frozen=True, kw_only=True):
    service: str
    environment: str
    suite: str
    epochs: tuple[_ServedEpoch, ...]
    log: LogMember
    policy: Label
    policy_sha256: str | None = None
    next_policies: tuple[_PolicyMember, ...] | None = None


class _KeyMember(Model, frozen=True):
    kid: str
    public_key: str


class _SuiteFile(Model, frozen=True, kw_only=True):
    url: str
    platform: str
    control_group: str
    profile: str
    kid: str
    keys: tuple[_KeyMember, ...] | None = None


def load_suite(path: str | Path) -> Suite:
    """Read a suite file. Raises ConfigurationError."""
    path = Path(path)
    try:
        with path.open("rb") as file:
            text = file.read(MAX_SUITE_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(f"The suite file {path.name} cannot be read.") from error
    return parse_suite_text(text, f"The suite file {path.name}")


def parse_suite_text(text: bytes, name: str) -> Suite:
    """Return a Suite from the text of a suite file. `name` says in errors where it comes from. Raises
    ConfigurationError."""
    if len(text) > MAX_SUITE_BYTES:
        raise ConfigurationError(f"{name} is too large.")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{name} is not JSON.") from error
    return parse_suite(value)


def parse_suite(value: object) -> Suite:
    """Return a Suite from the JSON of a suite file. Raises ConfigurationError."""
    try:
        file = decode(value, _SuiteFile)
        suite = Suite(
            url=file.url.rstrip("/"),
            platform=file.platform,
            control_group=file.control_group,
            profile=file.profile,
            kid=file.kid,
            pinned=parse_service(value),
            keys=tuple([_platform_key(key) for key in file.keys or ()]),
        )
    except LedgerError as error:
        raise ConfigurationError("The suite file lacks something or is damaged. Ask the operator for it.") from error
    if not _NAME.match(suite.platform):  # files are called by it
        raise ConfigurationError("The suite file's `platform` must be 2 to 32 of a-z, 0-9 and -.")
    parts = urlsplit(suite.url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigurationError("The suite file's `url` must be an http or https address.")
    if not _PROFILE.match(suite.profile):  # which ones there are is the ledger's to say: a later one may know more
        raise ConfigurationError("The suite file's `profile` must be a code such as CN or UK.")
    if [epoch.state for epoch in suite.pinned.epochs].count("current") != 1:
        raise ConfigurationError("The suite file must name exactly one current key epoch.")
    return suite


def _platform_key(key: _KeyMember) -> PlatformKey:
    public_key = unb64url(key.public_key, 32)
    check_public_key(public_key)
    return PlatformKey(key.kid, public_key)


def parse_service(value: object) -> Service:
    """Return a Service from the answer of `GET /v1/suite`. Raises UnexpectedAnswer, HolderMismatch, InvalidPoint."""
    answer = decode(value, _ServiceAnswer)
    digest = answer.policy_sha256
    service = Service(
        service=answer.service,
        environment=answer.environment,
        suite=answer.suite,
        epochs=tuple(
            [
                Epoch(epoch.epoch, epoch.state, parse_keys(epoch), epoch.entry_index, _listed(epoch))
                for epoch in answer.epochs
            ]
        ),
        log_origin=answer.log.origin,
        log_key=answer.log.key,
        policy=str(answer.policy),
        policy_sha256=None if digest is None else _digest("policy_sha256", digest),
        next_policies=tuple(
            [
                NamedPolicy(str(policy.version), _digest("sha256", policy.sha256), policy.in_effect_at)
                for policy in answer.next_policies or ()
            ]
        ),
    )
    if service.suite != SUITE:
        raise UnexpectedAnswer("The service uses a cipher suite that this version does not know.")
    if parse_verifier_key(service.log_key)[0] != service.log_origin:
        raise UnexpectedAnswer("The service's log key belongs to another log.")
    return service


def _digest(name: str, text: str) -> bytes:
    try:
        return unb64url(text, 32)
    except InvalidEncoding as error:
        raise UnexpectedAnswer(f"`{name}` of the ledger's answer is no SHA-256.") from error


def parse_holders(members: Sequence[HolderMember]) -> tuple[HolderKey, ...]:
    """Return the holders of an epoch in a suite or in the log. Raises HolderMismatch (none, or one named twice),
    InvalidPoint, IdentityPoint, InvalidEncoding."""
    holders = []
    for member in members:
        key = unb64url(member.public_key, ELEMENT_BYTES)
        check_element(key)
        holders.append(HolderKey(1 if member.index is None else member.index, member.id, key))
    if not holders or len({holder.holder for holder in holders}) != len(holders):
        raise HolderMismatch("A key epoch needs at least one holder, each named once.")
    return tuple(holders)


def parse_keys(member: EpochMember) -> KeySet:
    """Return the sharing of an epoch in a suite or in the log. Raises HolderMismatch (no holder, or keys that are not
    of one sharing), InvalidPoint, IdentityPoint, InvalidEncoding."""
    holders = parse_holders(member.holders)
    if len(holders) == 1 and member.public_key is None:
        return KeySet.single(holders[0].holder, holders[0].public_key)
    if member.public_key is None or member.threshold is None or member.generation is None:
        raise HolderMismatch("A key epoch with several holders states threshold, generation and public key.")
    return KeySet(member.generation, member.threshold, unb64url(member.public_key, ELEMENT_BYTES), holders)


def _listed(member: EpochMember) -> dict[str, ListedHolder]:
    return {
        holder.id: ListedHolder(
            holder.url or None,
            holder.organisation,
            holder.operator,
            None if holder.signing_key is None else unb64url(holder.signing_key, 32),
        )
        for holder in member.holders
    }


def check_served(pinned: Service, served: Service) -> None:
    """Check that the served suite does not contradict the pinned one. New epochs are no contradiction, and neither is a
    pinned one that is missing: `ledger.client.identity.epochs` follows the log.

    A refresh or resharing keeps an epoch's key, and gives its holders other shares: which ones is proven by the log.

    Raises HolderMismatch (another key of a known epoch, or another holder of a known sharing), ConfigurationError
    (another service, environment or log).
    """
    if (served.service, served.environment) != (pinned.service, pinned.environment):
        raise ConfigurationError("The server at this address is another service or environment than the pinned one.")
    if (served.log_origin, served.log_key) != (pinned.log_origin, pinned.log_key):
        raise ConfigurationError("The server's log key is not the pinned one. Do not go on; ask the operator why.")
    known = {epoch.epoch: epoch for epoch in pinned.epochs}
    for epoch in served.epochs:
        if epoch.epoch in known:
            check_same_key(known[epoch.epoch].keys, epoch.keys)


def check_same_key(known: KeySet, named: KeySet) -> None:
    """Check that two sharings are of one key and, if they are of one generation, are the same. Raises
    HolderMismatch."""
    if named == known:
        return
    if named.generation == known.generation or known.is_single or named.is_single:
        raise HolderMismatch("The server names other key holders than the pinned ones.")
    if named.public_key != known.public_key:
        raise HolderMismatch("The server names another key of this epoch than the pinned one.")


def is_loopback(url: str) -> bool:
    """True if `url` leads to this machine."""
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
