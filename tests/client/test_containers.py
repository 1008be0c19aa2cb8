"""Containers: read-only and foreign state folders, mounted secrets, keys from the environment, and the order key."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st

from ledger.client import RefundLedger
from ledger.client.identity.environment import read_credentials
from ledger.client.identity.keyfiles import check_mode, load_or_create_signing_key, load_order_key, order_key_path
from ledger.errors import ConfigurationError
from ledger.protocol.encoding import b64url
from tests.client.small_ledger import SmallLedger
from tests.support import ROOT

STRANGER = 54321
"""A user id without an entry among the system's users."""
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user or mount a folder read-only")
ANSWERS = ("connect", "subject", "lookup", "download", "private", "again", "epoch")


def contained(*scenarios: dict[str, Any], prefix: list[str] | None = None) -> list[dict[str, Any]]:
    """What comes of the scenarios (see `tests.client.contained`), after one that only loads everything."""
    done = subprocess.run(
        [*(prefix or []), sys.executable, "-m", "tests.client.contained"],
        cwd=ROOT,
        input=json.dumps(scenarios),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    results: list[dict[str, Any]] = json.loads(done.stdout)
    assert all("failed" not in result for result in results), results
    return results


def written(ledger: SmallLedger, name: str, **changes: Any) -> str:
    """A suite file of now."""
    path = ledger.folder / f"{name}.suite.json"
    path.write_text(json.dumps(ledger.suite_file(**changes)))
    return str(path)


def pem(key: Ed25519PrivateKey | None = None) -> str:
    """A signing key as text."""
    signing_key = key or Ed25519PrivateKey.generate()
    return signing_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


@as_root
def test_a_state_folder_that_cannot_be_written_stops_no_lookup(ledger: SmallLedger) -> None:
    """Also after a key rotation, when what the log proves cannot be kept."""
    old_suite = written(ledger, "old")
    ledger.announce(2)
    ledger.switch(2)
    ledger.publish(epoch=2)
    ledger.folder.chmod(0o755)
    for parent in ledger.folder.parents:
        if parent != Path("/"):
            parent.chmod(parent.stat().st_mode | 0o011)
    foreign, read_only = ledger.folder / "foreign", ledger.folder / "read-only"
    read_only.mkdir(mode=0o755)
    text = ledger.folder.joinpath("old.suite.json").read_text()
    secret = {"REFUND_LEDGER_SUITE_JSON": text, "REFUND_LEDGER_KEY_PEM": pem()}
    secret["REFUND_LEDGER_ORDER_KEY_TEXT"] = b64url(secrets.token_bytes(32))
    key = load_or_create_signing_key(ledger.folder / "acme.pem")
    assert key is not None
    load = {"suite": old_suite, "key": str(ledger.folder / "acme.pem"), "state_dir": str(foreign), "report": True}
    stranger = {"environment": secret, "user": STRANGER, "report": True}
    results = contained(
        load,
        {**stranger, "state_dir": str(foreign)},  # of root alone, and filled by the first
        {**stranger, "state_dir": str(read_only / "below")},
        {**stranger, "environment": {**secret, "HOME": None, "XDG_STATE_HOME": None}},
        {**stranger, "environment": {**secret, "HOME": "/nonexistent", "XDG_STATE_HOME": None}},
    )
    assert [results[0][name] for name in ANSWERS] == ["None", "1", "clear", "clear", "clear", "clear", "2"]
    for result in results[1:]:
        assert result["open"] == "ok"
        assert [result[name] for name in ANSWERS] == ["None", "1", "clear", "clear", "clear", "clear", "2"], result
        assert [line for line in result["warnings"] if "kept in memory" in line] == result["warnings"]
        assert len(result["warnings"]) == 1
        for name in ("outbox", "report"):
            assert result[name].startswith("LedgerError: configuration_error"), result[name]
            assert "state" in result[name]


@as_root
@pytest.mark.skipif(shutil.which("unshare") is None, reason="unshare is not installed")
def test_a_read_only_mount(ledger: SmallLedger, tmp_path: Path) -> None:
    """Root cannot write there either; a secret of any readable mode is accepted, and no order key is made."""
    ledger.publish()
    mount = tmp_path / "secrets"
    mount.mkdir()
    load_or_create_signing_key(mount / "acme.pem")
    (mount / "acme.pem").chmod(0o444)
    suite = written(ledger, "now")
    script = f'mount --bind {mount} {mount} && mount -o remount,ro,bind {mount} && exec "$@"'
    if subprocess.run(["unshare", "-m", "sh", "-c", script, "-", "true"], check=False, capture_output=True).returncode:
        pytest.skip("this system does not let root mount a folder")
    client = {"suite": suite, "key": str(mount / "acme.pem"), "state_dir": str(mount)}
    order_key = ledger.folder / "acme.order.key"
    order_key.write_text(b64url(secrets.token_bytes(32)))
    order_key.chmod(0o600)
    first, without, missing = contained(
        {**client, "order_key": str(order_key)},
        client,
        {**client, "order_key": str(tmp_path / "other.order.key")},
        prefix=["unshare", "-m", "sh", "-c", script, "-"],
    )
    assert [first[name] for name in ANSWERS] == ["None", "1", "clear", "clear", "clear", "clear", "1"]
    assert without["lookup"].startswith(
        "LedgerError: configuration_error: The order key file acme.order.key is missing."
    )
    assert "make-key" in without["lookup"]
    assert without["private"] == "clear", "a check needs no order key"
    assert missing["lookup"].startswith("LedgerError: configuration_error"), "nor is one made at a path that is given"
    assert not (tmp_path / "other.order.key").exists()
    assert sorted(path.name for path in mount.iterdir()) == ["acme.pem"]


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other users can enter: pytest's own are its user's alone."""
    with tempfile.TemporaryDirectory(prefix="rcl-mounted-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@as_root
def test_modes_of_mounted_secrets(open_folder: Path) -> None:
    """As Kubernetes, Docker and libpq have them, read by a user who is not root."""
    cases = [  # owner, group, mode, groups of the process, whether it is accepted
        (STRANGER, STRANGER, 0o600, [], True),
        (STRANGER, STRANGER, 0o400, [], True),
        (STRANGER, STRANGER, 0o640, [], False),
        (STRANGER, STRANGER, 0o444, [], False),
        (STRANGER, 0, 0o604, [], False),
        (0, 777, 0o440, [777], True),
        (0, 777, 0o640, [777], True),
        (0, STRANGER, 0o440, [], True),
        (0, 0, 0o444, [], True),
        (0, 777, 0o660, [777], False),
        (0, 0, 0o666, [], False),
        (0, 0, 0o646, [], False),
        (0, 777, 0o440, [], False),
        (0, 0, 0o600, [], False),
        (1234, 777, 0o440, [777], False),
        (1234, 0, 0o444, [], False),
    ]
    scenarios: list[dict[str, Any]] = []
    for number, (owner, group, mode, groups, _) in enumerate(cases):
        path = open_folder / f"{number}.pem"
        load_or_create_signing_key(path)
        os.chown(path, owner, group)
        path.chmod(mode)
        scenarios.append({"key_file": str(path), "user": STRANGER, "groups": groups})
    root_key = open_folder / "root.pem"
    load_or_create_signing_key(root_key)
    results = contained({"key_file": str(root_key)}, *scenarios)[1:]
    for case, result in zip(cases, results, strict=True):
        if case[-1]:
            assert result["key"] == "ok", case
        else:
            assert result["key"].startswith("LedgerError: configuration_error: The key file"), (case, result)


@given(
    owner=st.sampled_from([0, 1, 1000]),
    user=st.sampled_from([0, 1, 1000]),
    mode=st.integers(0, 0o777),
    read_only=st.booleans(),
)
def test_the_rule_for_modes(owner: int, user: int, mode: int, read_only: bool) -> None:
    """What another can write is never accepted; what this process could protect must be protected."""
    try:
        check_mode("k", owner, mode, user=user, read_only=read_only)
    except ConfigurationError:
        is_accepted = False
    else:
        is_accepted = True
    if mode & 0o022:
        assert not is_accepted
    elif mode & 0o055 == 0 and mode & 0o077 == 0:
        assert is_accepted
    elif owner == user and not read_only:
        assert not is_accepted, "it can chmod its own file"
    else:
        assert is_accepted == (read_only or owner == 0)


def test_own_secrets_that_others_can_read_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "acme.order.key"
    path.write_text(b64url(b"o" * 32))
    for mode in (0o640, 0o604, 0o620, 0o444):
        path.chmod(mode)
        with pytest.raises(ConfigurationError, match="chmod 600"):
            load_order_key(path)
    path.chmod(0o400)
    assert load_order_key(path) == b"o" * 32


# --- the order key ----------------------------------------------------------------------------------------------------


def test_a_new_order_key_is_made_once_and_not_in_silence(
    ledger: SmallLedger, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    load_or_create_signing_key(tmp_path / "acme.pem")
    for expected in (1, 1):
        with RefundLedger(written(ledger, "now"), tmp_path / "acme.pem", state_dir=tmp_path / "state") as acme:
            assert acme.lookup({"phone": "+86 138 0013 8000"}, order="A-1").tier in ("clear", "unavailable")
        warned = [record.getMessage() for record in caplog.records if "order key" in record.getMessage()]
        assert len(warned) == expected
    assert "Copy it to every service of acme" in warned[0]
    assert b64url(load_order_key(tmp_path / "acme.order.key")) not in caplog.text


def test_no_order_key_is_made_for_a_key_without_a_file(ledger: SmallLedger, tmp_path: Path) -> None:
    missing = tmp_path / "acme.order.key"
    suite, key = written(ledger, "now"), Ed25519PrivateKey.generate()
    acme = RefundLedger(suite, key, order_key=missing, state_dir=tmp_path / "state")
    with acme, pytest.raises(ConfigurationError, match=r"acme\.order\.key is missing.*REFUND_LEDGER_ORDER_KEY"):
        acme.lookup({"phone": "+86 138 0013 8000"}, order="A-1")
    assert not missing.exists()


# --- the environment --------------------------------------------------------------------------------------------------


def test_keys_and_suite_from_the_environment(ledger: SmallLedger, tmp_path: Path) -> None:
    key, order_key = Ed25519PrivateKey.generate(), secrets.token_bytes(32)
    suite = written(ledger, "now")
    file = tmp_path / "acme.pem"
    file.write_text(pem(key))
    file.chmod(0o600)
    order_file = order_key_path(file, "acme")
    order_file.write_text(b64url(order_key))
    order_file.chmod(0o600)
    suites = ({"REFUND_LEDGER_SUITE": suite}, {"REFUND_LEDGER_SUITE_JSON": Path(suite).read_text()})
    one_line = pem(key).replace("\n", "\\n")
    keys = (
        {"REFUND_LEDGER_KEY": str(file)},
        {"REFUND_LEDGER_KEY_PEM": pem(key), "REFUND_LEDGER_ORDER_KEY_TEXT": b64url(order_key) + "\n"},
        {"REFUND_LEDGER_KEY_PEM": one_line, "REFUND_LEDGER_ORDER_KEY": str(order_file), "REFUND_LEDGER_SUITE": ""},
    )
    for named in suites:
        for keyed in keys:
            environment = {**keyed, **named, "REFUND_LEDGER_STATE": str(tmp_path / "state")}
            with RefundLedger.from_environment(environment) as acme:
                assert acme.public_keys[0].public_bytes_raw() == key.public_key().public_bytes_raw()
                assert acme._session.order_key() == order_key
                assert acme.outbox.list() == []
    assert (tmp_path / "state" / "outbox.db").exists()
    with pytest.raises(TypeError):
        RefundLedger.from_environment({**suites[0], **keys[0]}, nonsense=1)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"REFUND_LEDGER_SUITE_JSON": ""}, "REFUND_LEDGER_SUITE_JSON"),
        ({"REFUND_LEDGER_KEY_PEM": ""}, "REFUND_LEDGER_KEY_PEM"),
        ({"REFUND_LEDGER_SUITE": "acme.suite.json"}, "not both"),
        ({"REFUND_LEDGER_KEY": "acme.pem"}, "not both"),
        ({"REFUND_LEDGER_ORDER_KEY": "x"}, "not both"),
        ({"REFUND_LEDGER_ORDER_KEY_TEXT": ""}, "order key"),
        ({"REFUND_LEDGER_ORDER_KEY_TEXT": "SECRET-order-key"}, "REFUND_LEDGER_ORDER_KEY_TEXT"),
        ({"REFUND_LEDGER_ORDER_KEY_TEXT": "SECRET-\udcff中"}, "REFUND_LEDGER_ORDER_KEY_TEXT"),
        ({"REFUND_LEDGER_KEY_PEM": "SECRET-signing-key"}, "REFUND_LEDGER_KEY_PEM"),
        ({"REFUND_LEDGER_KEY_PEM": "-----BEGIN PRIVATE KEY-----\nSECRET\n-----END PRIVATE KEY-----"}, "KEY_PEM"),
        ({"REFUND_LEDGER_KEY_PEM": "SECRET-\udcff"}, "REFUND_LEDGER_KEY_PEM"),
        ({"REFUND_LEDGER_SUITE_JSON": "{SECRET"}, "REFUND_LEDGER_SUITE_JSON"),
        ({"REFUND_LEDGER_SUITE_JSON": "[" * 100_000}, "REFUND_LEDGER_SUITE_JSON"),
    ],
)
def test_what_is_wrong_in_the_environment_is_named_and_not_shown(changes: dict[str, str], named: str) -> None:
    good = {
        "REFUND_LEDGER_SUITE_JSON": "{}",
        "REFUND_LEDGER_KEY_PEM": pem(),
        "REFUND_LEDGER_ORDER_KEY_TEXT": b64url(b"o" * 32),
    }
    if "REFUND_LEDGER_SUITE_JSON" not in changes and "REFUND_LEDGER_SUITE" not in changes:
        good |= {"REFUND_LEDGER_SUITE_JSON": "", "REFUND_LEDGER_SUITE": "acme.suite.json"}
    with pytest.raises(ConfigurationError, match=named) as refused:
        read_credentials({**good, **changes})
    error: BaseException | None = refused.value
    while error is not None:  # no cause either, which a traceback would print
        assert "SECRET" not in str(error)
        error = error.__cause__
    assert "SECRET" not in json.dumps(refused.value.details)


def test_credentials_do_not_show_themselves() -> None:
    credentials = read_credentials(
        {
            "REFUND_LEDGER_SUITE": "a.json",
            "REFUND_LEDGER_KEY": "k.pem",
            "REFUND_LEDGER_ORDER_KEY_TEXT": b64url(b"o" * 32),
        }
    )
    assert "ooo" not in repr(credentials)
    assert b64url(b"o" * 32) not in repr(credentials)


def test_the_constructor_explains_itself() -> None:
    text = RefundLedger.__init__.__doc__ or ""
    for argument in ("suite", "key", "state_dir", "order_key", "scopes", "lookup_budget_seconds", "budget_seconds"):
        assert f"`{argument}`" in text, argument
