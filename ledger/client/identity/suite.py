"""The pinned suite: what `platform add` wrote down about the service, and the check that the service still is that.

Whoever could swap the holders' keys could find out whom a platform asks about, and whoever could swap the log key
could show each platform another history. So both come from a file that the operator hands over, never from the
network.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import datetime
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from ledger.client.models.results import Fields
from ledger.errors import ConfigurationError, HolderMismatch, InvalidEncoding, LedgerError, UnexpectedAnswer
from ledger.protocol.encoding import unb64url
from ledger.protocol.signing_keys import check_public_key
from ledger.protocol.voprf import ELEMENT_BYTES, SUITE, HolderKey, check_element
from ledger.tlog.checkpoint import parse_verifier_key

MAX_SUITE_BYTES = 1 << 20
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{1,31}\Z")
_PROFILE = re.compile(r"[A-Z]{2}\Z")


@dataclass(frozen=True, slots=True)
class Epoch:
    """A key epoch and all its holders. `state` is next, current, previous or retired; `entry_index` is the entry of
    the log that announced it, where the suite says so."""

    epoch: int
    state: str
    holders: tuple[HolderKey, ...]
    entry_index: int | None = None


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
    """What is announced, in the order in which it comes into effect."""


@dataclass(frozen=True, slots=True)
class PlatformKey:
    """A public key (Ed25519, 32 bytes) of the platform, in use or revoked; reports stay under the key of their day."""

    kid: str
    public_key: bytes


@dataclass(frozen=True, slots=True)
class Suite:
    """A platform's suite file: who it is at which service, and the keys it pins."""

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
    """A Suite from the text of a suite file. `name` says in errors where it comes from. Raises ConfigurationError."""
    if len(text) > MAX_SUITE_BYTES:
        raise ConfigurationError(f"{name} is too large.")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{name} is not JSON.") from error
    return parse_suite(value)


def parse_suite(value: object) -> Suite:
    """A Suite from the JSON of a suite file. Raises ConfigurationError."""
    try:
        fields = Fields(value)
        suite = Suite(
            url=fields.text("url").rstrip("/"),
            platform=fields.text("platform"),
            control_group=fields.text("control_group"),
            profile=fields.text("profile"),
            kid=fields.text("kid"),
            pinned=parse_service(value),
            keys=tuple([_platform_key(item) for item in fields.items("keys")] if fields.optional("keys") else ()),
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


def _platform_key(value: object) -> PlatformKey:
    fields = Fields(value)
    public_key = unb64url(fields.text("public_key"), 32)
    check_public_key(public_key)
    return PlatformKey(fields.text("kid"), public_key)


def parse_service(value: object) -> Service:
    """A Service from the answer of `GET /v1/suite`. Raises UnexpectedAnswer, HolderMismatch, InvalidPoint."""
    fields = Fields(value)
    log = fields.member("log")
    service = Service(
        service=fields.text("service"),
        environment=fields.text("environment"),
        suite=fields.text("suite"),
        epochs=tuple([_epoch(item) for item in fields.items("epochs")]),
        log_origin=log.text("origin"),
        log_key=log.text("key"),
        policy=fields.label("policy"),
        policy_sha256=_digest(fields, "policy_sha256") if fields.optional("policy_sha256") is not None else None,
        next_policies=tuple(
            [_named_policy(item) for item in fields.items("next_policies")] if fields.optional("next_policies") else ()
        ),
    )
    if service.suite != SUITE:
        raise UnexpectedAnswer("The service uses a cipher suite that this version does not know.")
    if parse_verifier_key(service.log_key)[0] != service.log_origin:
        raise UnexpectedAnswer("The service's log key belongs to another log.")
    return service


def _named_policy(value: object) -> NamedPolicy:
    fields = Fields(value)
    return NamedPolicy(fields.label("version"), _digest(fields, "sha256"), fields.time("in_effect_at"))


def _digest(fields: Fields, name: str) -> bytes:
    try:
        return unb64url(fields.text(name), 32)
    except InvalidEncoding as error:
        raise UnexpectedAnswer(f"`{name}` of the ledger's answer is no SHA-256.") from error


def _epoch(value: object) -> Epoch:
    fields = Fields(value)
    index = None if fields.optional("entry_index") is None else fields.integer("entry_index")
    return Epoch(fields.integer("epoch"), fields.text("state"), parse_holders(fields), index)


def parse_holders(fields: Fields) -> tuple[HolderKey, ...]:
    """The member `holders` of an epoch in a suite or in the log. Raises UnexpectedAnswer, HolderMismatch,
    InvalidPoint, InvalidEncoding."""
    holders = []
    for item in fields.items("holders"):
        holder = Fields(item)
        key = unb64url(holder.text("public_key"), ELEMENT_BYTES)
        check_element(key)
        holders.append(HolderKey(holder.text("id"), key))
    if not holders or len({holder.holder for holder in holders}) != len(holders):
        raise HolderMismatch("A key epoch needs at least one holder, each named once.")
    return tuple(holders)


def check_served(pinned: Service, served: Service) -> None:
    """That what the service says of itself does not contradict what was pinned. New epochs are no contradiction, and
    neither is a pinned one that is gone: `ledger.client.identity.epochs` follows the log.

    Raises HolderMismatch (another holder or key for a known epoch), ConfigurationError (another service, environment
    or log).
    """
    if (served.service, served.environment) != (pinned.service, pinned.environment):
        raise ConfigurationError("The server at this address is another service or environment than the pinned one.")
    if (served.log_origin, served.log_key) != (pinned.log_origin, pinned.log_key):
        raise ConfigurationError("The server's log key is not the pinned one. Do not go on; ask the operator why.")
    known = {epoch.epoch: epoch for epoch in pinned.epochs}
    for epoch in served.epochs:
        if epoch.epoch in known and set(known[epoch.epoch].holders) != set(epoch.holders):
            raise HolderMismatch("The server names other key holders than the pinned ones.")


def is_loopback(url: str) -> bool:
    """Whether `url` leads to this machine."""
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
