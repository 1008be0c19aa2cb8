"""What a holder refuses in a ceremony, and that the error names the participant and the file."""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from ledger.cli import app, output
from ledger.holder.folder import read_folder
from ledger.protocol.ceremony.envelope import ROUND_DEAL, seal, unverified_body
from ledger.protocol.encoding import b64url, unb64url
from ledger.tlog.ceremony_files import file_text, make_certificate, make_deal, parse_certificate, parse_deal
from ledger.tlog.ledger_card import ledger_card_text
from tests.holder.ceremony_kit import CARD, Exchange, altered, confirmed, init_words, refusal, run, shown

THREE = ("north", "ops", "south")
T2 = ("--threshold", 2)

Fault = Callable[[Exchange], object]


def refused(*words: object) -> dict[str, Any]:
    """Run a command that is refused with whatever exit code, and return its error."""
    output.reset()
    done = CliRunner().invoke(app, ["holder", *map(str, words), "--json"])
    assert done.exit_code in (1, 2), done.output
    error: dict[str, Any] = json.loads(done.stdout)["error"]
    return error


def change_json(name: str, change: Callable[[dict[str, Any]], None]) -> Fault:
    return lambda exchange: altered(exchange.files / name, change)


def replaced(name: str, other: str) -> Fault:
    return lambda exchange: (exchange.files / name).write_bytes((exchange.files / other).read_bytes())


# --- participants -----------------------------------------------------------------------------------------------


def other_ledger(exchange: Exchange) -> None:
    (exchange.files / "ledger.json").write_text(ledger_card_text(CARD).replace("https://ledger.example", "https://l2"))
    shutil.rmtree(exchange.folder("south"))
    exchange.join("south")


def same_organisation(exchange: Exchange) -> None:
    shutil.rmtree(exchange.folder("south"))
    run(*init_words(exchange.files, exchange.folder("south"), "south", "NORTH  bank"))


def copied_key(exchange: Exchange) -> None:
    north, copy = exchange.folder("north"), exchange.folder("copy")
    copy.mkdir(mode=0o700)
    shutil.copy(north / "static.key", copy)
    run(*init_words(exchange.files, copy, "south"))


def renewed(exchange: Exchange) -> None:
    shutil.rmtree(exchange.folder("north"))
    kept = (exchange.files / "north.participant.json").read_bytes()
    exchange.join("north")
    (exchange.files / "north.participant.json").write_bytes(kept)


@pytest.mark.parametrize(
    ("fault", "words", "code"),
    [
        (change_json("south.participant.json", lambda m: m.update(organisation="Other")), "south.participant.json", 1),
        (change_json("south.participant.json", lambda m: m.pop("nonce")), "south.participant.json", 2),
        (change_json("south.participant.json", lambda m: m.update(format=2)), "south.participant.json", 1),
        (change_json("south.participant.json", lambda m: m.update(kind="deal")), "a deal file", 2),
        (lambda e: (e.files / "south.participant.json").write_bytes(b"\xff"), "south.participant.json", 2),
        (lambda e: (e.files / "south.participant.json").write_bytes(b" " * 2**23), "too large", 2),
        (lambda e: (e.files / "south.participant.json").write_bytes(b" " * 2**21), "too large", 2),
        (lambda e: (e.files / "south.participant.json").unlink(), "south.participant.json", 2),
        (replaced("south.participant.json", "ops.participant.json"), "are both of ops", 1),
        (replaced("north.participant.json", "ledger.json"), "north.participant.json", 2),
        (other_ledger, "south has another ledger.json than north", 1),
        (same_organisation, "North Bank would hold as many shares as the threshold", 1),
        (copied_key, "north and south have the same key", 1),
        (renewed, "The participant file of north is not the one of this folder", 1),
    ],
)
def test_participants(after: Callable[[str], Exchange], fault: Fault, words: str, code: int) -> None:
    exchange = after("init")
    fault(exchange)
    error = refusal(*exchange.begin_words("deal", "north", THREE, *T2), code=code)
    assert words in error["message"]
    assert not (exchange.folder("north") / "ceremony.json").exists()


def test_the_own_file_is_needed(after: Callable[[str], Exchange]) -> None:
    error = refusal(*after("init").begin_words("deal", "north", THREE[1:], *T2))
    assert error["message"] == "The participant file of this holder, north, is missing."
    assert error["details"]["holder"] == "north"


def test_a_threshold_above_the_number_of_holders(after: Callable[[str], Exchange]) -> None:
    assert "at most" in refusal(*after("init").begin_words("deal", "north", THREE, "--threshold", 4), code=2)["message"]


def test_a_holder_alone_is_no_ceremony(after: Callable[[str], Exchange]) -> None:
    assert "2 to 50" in refusal(*after("init").begin_words("deal", "north", THREE[:1], *T2), code=2)["message"]


def test_a_folder_belongs_to_one_holder(after: Callable[[str], Exchange]) -> None:
    exchange = after("init")
    error = refusal(*init_words(exchange.files, exchange.folder("north"), "south"), code=2)
    assert "belongs to the holder north" in error["message"]


@pytest.mark.parametrize(
    ("name", "value"), [("--id", "North"), ("--url", "http://north.example"), ("--organisation", "")]
)
def test_unfit_words_leave_no_profile(after: Callable[[str], Exchange], tmp_path: Path, name: str, value: str) -> None:
    words = init_words(after("init").files, tmp_path / "new", "east")
    words[words.index(name) + 1] = value
    refusal(*words, code=2)
    assert not (tmp_path / "new" / "holder.json").exists()


# --- deals ------------------------------------------------------------------------------------------------------


def signed_deal(exchange: Exchange, name: str, payload: bytes) -> None:
    """Write a deal file as a dishonest holder can: with its own signature."""
    path = exchange.files / f"{name}.deal.json"
    folder, deal = read_folder(exchange.folder(name)), parse_deal(path.read_bytes())
    path.write_text(file_text(make_deal(deal.ceremony, name, payload, folder.signing_key()).members))


def false_shares(exchange: Exchange) -> None:
    deal = parse_deal((exchange.files / "south.deal.json").read_bytes())
    session, number = deal.ceremony.session(), deal.ceremony.number("south")
    body = bytearray(unverified_body(deal.payload))
    body[-1] ^= 1
    body[-57] ^= 1
    body[-113] ^= 1
    secret = read_folder(exchange.folder("south")).static_secret()
    signed_deal(exchange, "south", seal(session, ROUND_DEAL, number, secret, bytes(body)))


def copied_message(exchange: Exchange) -> None:
    signed_deal(exchange, "south", parse_deal((exchange.files / "ops.deal.json").read_bytes()).payload)


def cut_message(exchange: Exchange) -> None:
    signed_deal(exchange, "south", parse_deal((exchange.files / "south.deal.json").read_bytes()).payload[:-1])


def other_attempt(exchange: Exchange) -> None:
    run("abandon", "--yes", "--folder", exchange.folder("south"))
    confirmed(exchange.begin_words("deal", "south", THREE, *T2, "--attempt", 2))


def other_threshold(exchange: Exchange) -> None:
    run("abandon", "--yes", "--folder", exchange.folder("south"))
    confirmed(exchange.begin_words("deal", "south", THREE, "--threshold", 3))


def other_own_deal(exchange: Exchange) -> None:
    (exchange.folder("north") / "ceremony.json").rename(exchange.root / "kept")
    confirmed(exchange.begin_words("deal", "north", THREE, *T2))
    (exchange.root / "kept").rename(exchange.folder("north") / "ceremony.json")


@pytest.mark.parametrize(
    ("fault", "words", "file"),
    [
        (change_json("south.deal.json", lambda m: m.update(payload=m["payload"][:-4] + "AAAA")), "not signed by", 1),
        (change_json("south.deal.json", lambda m: m["ceremony"].update(threshold=3)), "not signed by", 1),
        (change_json("south.deal.json", lambda m: m.update(holder="ops")), "not signed by ops", 1),
        (change_json("south.deal.json", lambda m: m.update(holder="east")), "east does not take part", 1),
        (replaced("south.deal.json", "ops.deal.json"), "are both of ops", 1),
        (false_shares, "encrypted share does not open", 1),
        (copied_message, "another version, ceremony, step or participant", 1),
        (cut_message, "wrong length", 1),
        (other_attempt, "of another attempt (2)", 1),
        (other_threshold, "with another threshold (3)", 1),
        (other_own_deal, "own message", 0),
    ],
)
def test_deals(after: Callable[[str], Exchange], fault: Fault, words: str, file: int) -> None:
    exchange = after("deal")
    fault(exchange)
    command = exchange.certify_words("north", THREE)
    error = refused(*command)
    if "fingerprint" in error["details"]:
        error = refused(*command, "--fingerprint", error["details"]["fingerprint"])
    assert words in error["message"]
    assert error["details"]["file"] == ("south.deal.json" if file else "north.deal.json")
    assert error["details"]["holder"] in (("south", "ops", "east") if file else ("north",))
    assert json.loads((exchange.folder("north") / "ceremony.json").read_text())["step"] == "dealt"


def test_a_missing_deal(after: Callable[[str], Exchange]) -> None:
    error = refusal(*after("deal").certify_words("north", THREE[:2]))
    assert error["message"] == "The deal file of south is missing."
    assert error["details"]["holder"] == "south"


def test_a_deal_of_a_foreign_participant(after: Callable[[str], Exchange]) -> None:
    exchange = after("deal")
    exchange.join("east")
    exchange.join("west")
    strangers = ("east", "west")
    confirmed(exchange.begin_words("deal", "east", strangers, *T2))
    error = refusal(*exchange.certify_words("north", (*THREE, "east")))
    assert error["details"] == {"holder": "east", "file": "east.deal.json"}
    assert "with another participant" in error["message"] or "with other participants" in error["message"]


def test_deals_are_certified_once(after: Callable[[str], Exchange]) -> None:
    exchange = after("certify")
    (exchange.folder("south") / "ceremony.json").unlink()
    confirmed(exchange.begin_words("deal", "south", THREE, *T2))
    words = exchange.certify_words("north", THREE)
    error = refusal(*words, "--fingerprint", shown(words))
    assert "has certified other deal files" in error["message"]


# --- certificates -----------------------------------------------------------------------------------------------


def signed_certificate(exchange: Exchange, payload: bytes) -> None:
    path = exchange.files / "south.certificate.json"
    folder = read_folder(exchange.folder("south"))
    ceremony = parse_deal((exchange.files / "south.deal.json").read_bytes()).ceremony
    path.write_text(file_text(make_certificate(ceremony, "south", payload, folder.signing_key()).members))


def false_certificate(exchange: Exchange) -> None:
    payload = parse_certificate((exchange.files / "south.certificate.json").read_bytes()).payload
    signed_certificate(exchange, payload[:-1] + bytes([payload[-1] ^ 1]))


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (
            change_json("south.certificate.json", lambda m: m.update(payload=m["payload"][:-4] + "AAAA")),
            "not signed by",
        ),
        (change_json("south.certificate.json", lambda m: m.update(ceremony=b64url(bytes(32)))), "another ceremony"),
        (change_json("south.certificate.json", lambda m: m.update(holder="ops")), "are both of ops"),
        (replaced("south.certificate.json", "south.deal.json"), "a deal file, not a certificate"),
        (false_certificate, "was altered"),
    ],
)
def test_certificates(after: Callable[[str], Exchange], fault: Fault, words: str) -> None:
    exchange = after("certify")
    fault(exchange)
    error = refused(*exchange.finish_words("north", THREE))
    assert words in error["message"]
    assert "south.certificate.json" in error["message"]
    assert not (exchange.folder("north") / "share-1-1.json").exists()


def test_a_missing_certificate(after: Callable[[str], Exchange]) -> None:
    exchange = after("certify")
    assert "certificate file of ops" in refusal(*exchange.finish_words("north", ("north", "south")))["message"]
    assert not (exchange.folder("north") / "share-1-1.json").exists()


def test_views_that_differ_are_named(after: Callable[[str], Exchange]) -> None:
    exchange = after("deal")
    kept = (exchange.files / "ops.deal.json").read_bytes()
    run(*exchange.certify_words("north", THREE), "--fingerprint", shown(exchange.certify_words("north", THREE)))
    (exchange.folder("ops") / "ceremony.json").unlink()
    confirmed(exchange.begin_words("deal", "ops", THREE, *T2))  # ops deals twice, and shows south another deal
    assert (exchange.files / "ops.deal.json").read_bytes() != kept
    for name in ("ops", "south"):
        confirmed(exchange.certify_words(name, THREE))
    error = refusal(*exchange.finish_words("north", THREE))
    assert error["code"] == "ceremony_mismatch"
    assert error["details"]["holder"] == "ops"
    assert error["details"]["file"] == "ops.certificate.json"


# --- order ------------------------------------------------------------------------------------------------------


def test_steps_out_of_order(after: Callable[[str], Exchange], exchanges: dict[str, Exchange]) -> None:
    exchange = after("init")
    words = [*exchanges["deal"].of("deal", THREE), "--folder", exchange.folder("north")]
    assert "No ceremony runs" in refusal("certify", *words, code=2)["message"]
    dealt = after("deal")
    certificates = exchanges["certify"].of("certificate", THREE)
    error = refusal("finish", *certificates, "--folder", dealt.folder("north"), code=2)
    assert "has not certified" in error["message"]
    for kind in ("refresh", "rotate", "card", "backup"):
        extra = ["file"] if kind == "backup" else []
        assert "has no share yet" in refusal(kind, *extra, "--folder", dealt.folder("north"), code=2)["message"]


def test_one_ceremony_at_a_time(after: Callable[[str], Exchange]) -> None:
    exchange = after("deal")
    words = exchange.begin_words("deal", "north", THREE, "--threshold", 3)
    error = refusal(*words, "--fingerprint", shown(words), code=2)
    assert (
        "Another ceremony runs in this folder: generate, epoch 1, generation 1, 2 of 3, attempt 1" in error["message"]
    )
    assert "with another threshold (3)" in error["message"]


def test_an_attempt_that_was_given_up_is_not_dealt_again(after: Callable[[str], Exchange]) -> None:
    exchange = after("deal")
    assert "--yes" in refusal("abandon", "--folder", exchange.folder("north"), code=2)["message"]
    for _ in range(2):
        run("abandon", "--yes", "--folder", exchange.folder("north"))
    words = exchange.begin_words("deal", "north", THREE, *T2)
    error = refusal(*words, "--fingerprint", shown(words), code=2)
    assert "--attempt 2" in error["message"]
    for name in THREE[1:]:
        run("abandon", "--yes", "--folder", exchange.folder(name))
    exchange.all_rounds("deal", THREE, *T2, "--attempt", 2)
    exchange.cards(THREE)


def test_a_finished_ceremony_is_given_up_only_if_it_was_not_logged(after: Callable[[str], Exchange]) -> None:
    exchange = after("finish")
    words = ["abandon", "--yes", "--folder", exchange.folder("north")]
    assert "--unlogged" in refusal(*words, code=2)["message"]
    run(*words, "--unlogged")
    assert not (exchange.folder("north") / "share-1-1.json").exists()
    words = exchange.begin_words("deal", "north", THREE, *T2, "--attempt", 2)
    run(*words, "--fingerprint", shown(words))


def test_a_second_key_is_not_made_over_the_first(after: Callable[[str], Exchange]) -> None:
    exchange = after("finish")
    words = exchange.begin_words("deal", "north", THREE, *T2, "--attempt", 2)
    assert "has a share already" in refusal(*words, "--fingerprint", shown(words), code=2)["message"]


def test_another_fingerprint_stops_the_step(after: Callable[[str], Exchange]) -> None:
    exchange = after("init")
    words = exchange.begin_words("deal", "north", THREE, *T2)
    digits = shown(words)
    other = ("1" if digits[0] != "1" else "2") + digits[1:]
    error = refusal(*words, "--fingerprint", other)
    assert error["details"]["fingerprint"] == digits
    assert not (exchange.folder("north") / "ceremony.json").exists()
    run(*words, "--fingerprint", digits.replace(" ", ""))


@pytest.mark.parametrize("answer", ["n\n", ""])
def test_a_person_who_does_not_confirm_stops_the_step(after: Callable[[str], Exchange], answer: str) -> None:
    exchange = after("init")
    output.reset()
    words = ["holder", *map(str, exchange.begin_words("deal", "north", THREE, *T2))]
    done = CliRunner().invoke(app, words, input=answer)
    assert done.exit_code == 1
    assert "ops: LEDGER operations ltd, operator of the ledger" in done.stdout.replace("  ltd", " ltd")
    assert not (exchange.folder("north") / "ceremony.json").exists()


def test_a_folder_in_use_is_refused(after: Callable[[str], Exchange]) -> None:
    exchange = after("deal")
    with (exchange.folder("north") / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "Another command" in refusal(*exchange.certify_words("north", THREE), code=2)["message"]


def test_no_folder(tmp_path: Path) -> None:
    assert "holder init" in refusal("card", "--folder", tmp_path, code=2)["message"]


def test_a_new_holder_names_the_present_sharing(after: Callable[[str], Exchange]) -> None:
    exchange = after("finish")
    exchange.join("east")
    everyone = ("east", *THREE)
    words = exchange.begin_words("reshare", "east", everyone, *T2)
    assert "--card" in refusal(*words, code=2)["message"]
    altered(exchange.files / "north.card.json", lambda members: members.update(url="https://other.example"))
    error = refusal(*words, "--card", exchange.files / "north.card.json")
    assert error["code"] == "invalid_signature"
    assert error["message"].startswith("north.card.json")


def test_a_holder_with_new_keys_takes_a_new_id(after: Callable[[str], Exchange]) -> None:
    exchange = after("finish")
    shutil.rmtree(exchange.folder("south"))
    exchange.join("south")
    error = refusal(*exchange.begin_words("reshare", "north", THREE, *T2))
    assert "takes part under a new id" in error["message"]
    assert error["details"]["holder"] == "south"


def test_too_few_dealers_and_leaving_strangers(after: Callable[[str], Exchange]) -> None:
    exchange = after("finish")
    for name in ("east", "west"):
        exchange.join(name)
    few = ("north", "east", "west")
    assert "At least 2 holders" in refusal(*exchange.begin_words("reshare", "north", few, *T2))["message"]
    words = exchange.begin_words("reshare", "north", (*THREE, "east"), *T2, "--leaving", "east")
    assert "east has no share yet" in refusal(*words)["message"]
    words = exchange.begin_words("reshare", "north", THREE, *T2, "--leaving", "west")
    assert "west does not take part" in refusal(*words)["message"]
    words = ["refresh", "--without", "west", "--folder", exchange.folder("north")]
    assert "west is no holder" in refusal(*words)["message"]


def test_a_damaged_state_is_named(after: Callable[[str], Exchange]) -> None:
    exchange = after("deal")
    state = exchange.folder("north") / "ceremony.json"
    altered(state, lambda members: members.update(private="?"))
    assert "ceremony.json is damaged" in refusal(*exchange.certify_words("north", THREE), code=2)["message"]


def test_a_damaged_profile_is_named(after: Callable[[str], Exchange]) -> None:
    exchange = after("deal")
    folder = exchange.folder("north")
    shutil.copy(exchange.folder("south") / "static.key", folder)
    assert "not those of holder.json" in refusal(*exchange.certify_words("north", THREE), code=2)["message"]
    (folder / "holder.json").write_text("[]")
    assert "damaged" in refusal(*exchange.certify_words("north", THREE), code=2)["message"]


def test_payloads_are_the_documented_messages(exchanges: dict[str, Exchange]) -> None:
    members = json.loads((exchanges["deal"].files / "north.deal.json").read_text())
    assert unb64url(members["payload"])[:4] == b"RLC\x01"
