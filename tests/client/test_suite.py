"""The pinned suite: what is accepted, and what a contradicting server is refused with."""

from __future__ import annotations

import copy
import json
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.client.identity.suite import (
    PlatformKey,
    check_served,
    is_loopback,
    load_suite,
    parse_service,
    parse_suite,
)
from ledger.client.transport.http import Transport
from ledger.errors import ConfigurationError, HolderMismatch, LedgerError
from ledger.protocol import voprf
from ledger.protocol.encoding import b64url
from ledger.tlog.checkpoint import verifier_key
from tests.oracles import shamir_share


def public_key() -> str:
    return b64url(voprf.public_key(voprf.derive_secret(secrets.token_bytes(32), b"test")))


def log_key(origin: str = "l.test/log") -> str:
    return verifier_key(origin, Ed25519PrivateKey.generate().public_key().public_bytes_raw())


def shared_epoch() -> dict[str, Any]:
    """Epoch 2, whose key two holders share."""
    secret, slope = (voprf.derive_secret(secrets.token_bytes(32), b"test") for _ in range(2))
    shares = [("a", 1, shamir_share(secret, [slope], 1)), ("b", 2, shamir_share(secret, [slope], 2))]
    return {
        "epoch": 2,
        "state": "current",
        "generation": 1,
        "threshold": 2,
        "public_key": b64url(voprf.public_key(secret)),
        "holders": [
            {"id": name, "index": index, "url": f"https://{name}.test", "public_key": b64url(voprf.public_key(share))}
            for name, index, share in shares
        ],
    }


def suite_json() -> dict[str, Any]:
    return {
        "url": "https://ledger.test/",
        "platform": "acme",
        "control_group": "east",
        "profile": "CN",
        "kid": "acme-1",
        "service": "l.test",
        "environment": "live",
        "suite": "ristretto255-SHA512",
        "epochs": [
            {"epoch": 1, "state": "previous", "holders": [{"id": "a", "url": None, "public_key": public_key()}]},
            shared_epoch(),
        ],
        "log": {"origin": "l.test/log", "key": log_key()},
        "policy": "1",
    }


def test_suite_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "acme.suite.json"
    path.write_text(json.dumps({**suite_json(), "something_new": 1}))
    suite = load_suite(path)
    assert (suite.url, suite.current.epoch, len(suite.current.holders)) == ("https://ledger.test", 2, 2)
    assert (suite.current.keys.threshold, suite.current.keys.generation) == (2, 1)
    assert suite.pinned.epochs[0].keys.is_single, "a holder without an index has the whole key"
    assert len(suite.log_public) == 32
    assert suite.keys == (), "a file of before this member"
    own = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
    known = [{"kid": "acme-1", "public_key": b64url(own), "later": 1}]
    assert parse_suite({**suite_json(), "keys": known}).keys == (PlatformKey("acme-1", own),)


def _set(path: list[Any], value: Any) -> Callable[[dict[str, Any]], None]:
    def change(suite: dict[str, Any]) -> None:
        place: Any = suite
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = value

    return change


BROKEN = {
    "no platform": lambda suite: suite.pop("platform"),
    "a platform that leads elsewhere": _set(["platform"], "../acme"),
    "short platform key": _set(["keys"], [{"kid": "acme-1", "public_key": b64url(bytes(31))}]),
    "platform keys that are no list": _set(["keys"], "acme-1"),
    "ftp": _set(["url"], "ftp://ledger.test"),
    "no host": _set(["url"], "https://"),
    "other suite": _set(["suite"], "P256-SHA256"),
    "malformed profile": _set(["profile"], "uk"),
    "no current epoch": _set(["epochs", 1, "state"], "retired"),
    "two current epochs": _set(["epochs", 0, "state"], "current"),
    "no holder": _set(["epochs", 1, "holders"], []),
    "several holders without index": lambda suite: suite["epochs"][1]["holders"][1].pop("index"),
    "several holders without threshold": lambda suite: suite["epochs"][1].pop("threshold"),
    "several holders without generation": lambda suite: suite["epochs"][1].pop("generation"),
    "several holders without their key": lambda suite: suite["epochs"][1].pop("public_key"),
    "holders of another key": _set(["epochs", 1, "public_key"], public_key()),
    "two keys for one holder": lambda suite: suite["epochs"][0].update(
        public_key=public_key(), threshold=1, generation=1
    ),
    "doubled holder": lambda suite: suite["epochs"][1]["holders"].append(suite["epochs"][1]["holders"][0]),
    "identity key": _set(["epochs", 1, "holders", 0, "public_key"], b64url(bytes(32))),
    "not a point": _set(["epochs", 1, "holders", 0, "public_key"], b64url(b"\xff" * 32)),
    "short key": _set(["epochs", 1, "holders", 0, "public_key"], b64url(b"\x01" * 31)),
    "log key of another log": _set(["log", "key"], log_key("other.test/log")),
    "log key malformed": _set(["log", "key"], "l.test/log+00000000+AAAA"),
    "epoch as text": _set(["epochs", 0, "epoch"], "1"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_suite_files_are_refused(name: str) -> None:
    value = suite_json()
    BROKEN[name](value)
    with pytest.raises(ConfigurationError):
        parse_suite(value)


@pytest.mark.parametrize("text", ["", "[]", "{", "null", "\x00"])
def test_files_that_are_no_suite_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(ConfigurationError):
        load_suite(path)
    with pytest.raises(ConfigurationError):
        load_suite(tmp_path / "missing.json")


CONTRADICTIONS: dict[str, tuple[Callable[[dict[str, Any]], Any], type[LedgerError]]] = {
    "service": (_set(["service"], "other.test"), ConfigurationError),
    "environment": (_set(["environment"], "test"), ConfigurationError),
    "log key": (_set(["log", "key"], log_key()), ConfigurationError),
    "another sharing": (lambda suite: suite["epochs"].__setitem__(1, shared_epoch()), HolderMismatch),
    "holder key": (_set(["epochs", 1, "holders", 1, "public_key"], public_key()), HolderMismatch),
    "holder name": (_set(["epochs", 1, "holders", 1, "id"], "c"), HolderMismatch),
    "holder missing": (lambda suite: suite["epochs"][1]["holders"].pop(), HolderMismatch),
    "key of the previous epoch": (_set(["epochs", 0, "holders", 0, "public_key"], public_key()), HolderMismatch),
}


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_a_server_that_contradicts_the_pinned_suite_is_refused(name: str) -> None:
    value = suite_json()
    served = copy.deepcopy(value)
    change, error = CONTRADICTIONS[name]
    change(served)
    with pytest.raises(error):
        check_served(parse_suite(value).pinned, parse_service(served))


def test_a_new_epoch_and_an_old_one_gone_are_no_contradiction() -> None:
    value = suite_json()
    served = copy.deepcopy(value)
    served["epochs"].pop(0)
    served["epochs"][0]["state"] = "previous"
    served["epochs"].append({"epoch": 3, "state": "current", "holders": [{"id": "z", "public_key": public_key()}]})
    served["policy"] = "7"
    check_served(parse_suite(value).pinned, parse_service(served))


def test_tags_do_not_travel_in_clear() -> None:
    with pytest.raises(ConfigurationError):
        Transport("http://ledger.test")
    for url in ("http://127.0.0.1:8000", "http://localhost", "http://[::1]:1", "https://ledger.test"):
        Transport(url).close()
    Transport("http://ledger.test", insecure_http=True).close()
    assert not is_loopback("http://127.0.0.1.ledger.test")
