"""What each party can name with everything that it has, without asking any holder: nothing, and everything with t
shares."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest

from ledger.holder import backup
from ledger.server.db.engine import open_engine, reading
from ledger.server.log.logged_keys import load_server_keys
from tests.claim.attacker import Possession, attack, texts
from tests.claim.consortium import HOLDERS, LISTED, OWN, Consortium
from tests.claim.memory import contained, encodings, memory_image
from tests.oracles import GROUP_ORDER

OTHERS = tuple([holder for holder in HOLDERS if holder != OWN])
BOUGHT = 60
"""Identifiers that the member has evaluated, of which half are listed."""


def image_of(pid: int) -> bytes:
    """The memory of a process; skips the test where the system lets no process read another one's."""
    try:
        return memory_image(pid)
    except PermissionError:
        pytest.skip("the memory of another process of the same user cannot be read here (kernel.yama.ptrace_scope)")


def lines(log: Iterable[str]) -> bytes:
    """What a process wrote to standard error."""
    return "".join(list(log)).encode()


def of_holder(consortium: Consortium, holder: str) -> Possession:
    """Everything of a holder, the exchanged files, the traffic of its service, and the ledger's database too."""
    files = {
        **consortium.files(consortium.folder(holder), consortium.exchange.files),
        **consortium.ledger_database(),
        "traffic": consortium.recorders[holder].transcript,
        "log": lines(consortium.services[holder].log),
    }
    return Possession(consortium.log(), files, (image_of(consortium.services[holder].pid),))


def of_operator(consortium: Consortium) -> Possession:
    """Everything of the operator, with its own holder, and the traffic of all holders in clear."""
    assert consortium.server is not None
    own = of_holder(consortium, OWN)
    files = {
        **own.files,
        **consortium.files(consortium.root / "operator"),
        **{f"traffic of {name}": recorder.transcript for name, recorder in consortium.recorders.items()},
        "log of the server": lines(consortium.server.log),
    }
    return Possession(own.log, files, (*own.memory, image_of(consortium.server._process.pid)))


@pytest.fixture(scope="module")
def operator(consortium: Consortium) -> Possession:
    """Everything of the operator."""
    return of_operator(consortium)


def shares_of(consortium: Consortium, *holders: str) -> frozenset[tuple[int, int, int]]:
    """The places of the shares of these holders: one in each generation."""
    return frozenset(
        [(1, generation, consortium.keys(generation).of(holder).index) for holder in holders for generation in (1, 2)]
    )


def test_the_operator_with_its_own_holder_names_no_listed_person(consortium: Consortium, operator: Possession) -> None:
    outcome = attack(operator, consortium.candidates)
    assert outcome.shares == shares_of(consortium, OWN)
    assert outcome.keys == frozenset()
    assert outcome.named == frozenset()
    # The program had material to work on: it tried thousands of strings, and the listed tags are among the files.
    assert outcome.tried > 1_000
    assert attack(leaking(operator, consortium, "north"), consortium.candidates).named == consortium.listed


@pytest.mark.some_cases(1)
@pytest.mark.parametrize("holder", OTHERS)
def test_another_holder_names_no_listed_person(consortium: Consortium, holder: str) -> None:
    outcome = attack(of_holder(consortium, holder), consortium.some)
    assert (outcome.shares, outcome.keys) == (shares_of(consortium, holder), frozenset())
    assert outcome.named == frozenset()


def test_a_member_names_those_that_its_budget_bought(consortium: Consortium) -> None:
    listed = sorted(consortium.listed)[: BOUGHT // 2]
    others = [candidate for candidate in consortium.some if candidate not in consortium.listed][: BOUGHT // 2]
    bought = [*listed, *others]
    with consortium.connect("bolt") as bolt:
        buyers = bolt.tag_canonical([[candidate] for candidate in bought])
    elements = {
        candidate: subject.element
        for candidate, buyer in zip(bought, buyers, strict=True)
        for subject in buyer.subjects
        if subject.element is not None
    }
    assert len(elements) == BOUGHT
    files = {
        **consortium.files(consortium.root / "members" / "bolt"),
        **consortium.ledger_database(),
        **{f"traffic of {name}": recorder.transcript for name, recorder in consortium.recorders.items()},
    }
    without = attack(Possession(consortium.log(), files), consortium.some)
    assert (without.shares, without.keys, without.named) == (frozenset(), frozenset(), frozenset())
    outcome = attack(Possession(consortium.log(), files, evaluated=elements), consortium.some)
    assert outcome.named == frozenset(listed)


def test_a_thief_of_all_backups_names_no_listed_person(
    consortium: Consortium, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The thief does not know the passphrase; what a guess costs is not the question here.
    monkeypatch.setattr(backup, "MEMORY_KIB", 64)
    monkeypatch.setattr(backup, "PASSES", 1)
    passphrase = tmp_path / "passphrase"
    passphrase.write_text("nine red boats on a slow river")
    passphrase.chmod(0o600)
    files = consortium.ledger_database()
    for holder in HOLDERS:
        path = tmp_path / f"{holder}.backup"
        consortium.holder_command(holder, "backup", path, "--passphrase-file", passphrase)
        files[path.name] = path.read_bytes()
    outcome = attack(Possession(consortium.log(), files), consortium.some)
    assert (outcome.shares, outcome.keys, outcome.named) == (frozenset(), frozenset(), frozenset())


@pytest.mark.parametrize("holders", list(combinations(HOLDERS, 2)))
def test_any_two_holders_name_all_listed_persons(consortium: Consortium, holders: Sequence[str]) -> None:
    files = {**consortium.ledger_database(), **consortium.files(*[consortium.folder(holder) for holder in holders])}
    outcome = attack(Possession(consortium.log(), files), consortium.some)
    assert (outcome.shares, outcome.keys) == (shares_of(consortium, *holders), frozenset({1}))
    assert outcome.named == consortium.listed
    assert len(outcome.named) == LISTED


# --- that a leak is found ---------------------------------------------------------------------------------------------


def leaking(possession: Possession, consortium: Consortium, holder: str) -> Possession:
    """The same with a line in the log that has another holder's share."""
    text = base64.urlsafe_b64encode(consortium.share(holder, 2)).rstrip(b"=").decode()
    line = json.dumps({"event": "evaluated", "key": text, "elements": 2}).encode()
    return replace(possession, files={**possession.files, "log": possession.files["log"] + line})


def in_memory(data: bytes) -> Possession:
    return Possession((), {}, (b"\0" * 64 + data + b"\0" * 64,))


def object_of_python(data: bytes) -> bytes:
    """A `bytes` object as CPython lays it out."""
    return struct.pack("<qqqq", 1, 0x7F0000001000, len(data), -1) + data + b"\0"


def test_each_form_of_a_leak_is_found(consortium: Consortium) -> None:
    log, others = consortium.log(), consortium.files(consortium.folder(OWN))
    share, place = consortium.share("south", 2), (1, 2, consortium.keys(2).of("south").index)
    text = base64.urlsafe_b64encode(share).rstrip(b"=")
    leaks = {
        "bytes in a file": Possession(log, {**others, "core": bytes(range(1, 90)) + share + b"end"}),
        "base64url in a log": Possession(log, {**others, "log": b'{"key": "' + text + b'"}'}),
        "base64 with padding": Possession(log, {**others, "log": base64.b64encode(share)}),
        "beside another text": Possession(log, {**others, "log": b"key_" + text + b"_share"}),
        "hex": Possession(log, {**others, "log": b"share=" + share.hex().encode()}),
        "capital letters": Possession(log, {**others, "log": b"share=" + share.hex().upper().encode()}),
        "inside a longer text": Possession(log, {**others, "log": b"blob=" + base64.b64encode(bytes(100) + share * 2)}),
        "inside longer hex": Possession(log, {**others, "log": (b"a" * 99 + share + b"b" * 9).hex().encode()}),
        "text in memory": Possession(log, others, in_memory(text).memory),
        "bytes in memory": Possession(log, others, in_memory(object_of_python(share)).memory),
    }
    for name, possession in leaks.items():
        outcome = attack(possession, consortium.candidates[:1])
        assert outcome.keys == {1}, name
        assert outcome.shares == {place, *shares_of(consortium, OWN)}, name


def test_the_key_itself_in_a_file_is_found(consortium: Consortium) -> None:
    indexes = [consortium.keys(1).of(holder).index for holder in OTHERS]
    shares = [int.from_bytes(consortium.share(holder, 1), "little") for holder in OTHERS]
    key = combined(indexes, shares)
    files = {**consortium.ledger_database(), "old.key": b"\xff" + key}
    outcome = attack(Possession(consortium.log(), files), consortium.some)
    assert (outcome.shares, outcome.keys, outcome.named) == (frozenset(), frozenset({1}), consortium.listed)


def combined(indexes: Sequence[int], shares: Sequence[int]) -> bytes:
    """The value at 0 of the line through two points, in plain integers."""
    (i, j), (left, right) = indexes, shares
    slope = (right - left) * pow(j - i, -1, GROUP_ORDER)
    return ((left - slope * i) % GROUP_ORDER).to_bytes(32, "little")


def test_memory_images_show_what_a_process_has(consortium: Consortium, operator: Possession) -> None:
    """Its share is in the image of a holder's process, and the attacker recognises it there."""
    image = operator.memory[0]
    outcome = attack(Possession(consortium.log(), {}, (image,)), consortium.candidates[:1])
    assert outcome.shares == shares_of(consortium, OWN)
    assert all(encodings(consortium.share(OWN, generation))["bytes"] in image for generation in (1, 2))
    # So is that of the ledger's server: a key that it derives at its start and keeps is there.
    engine = open_engine(consortium.settings.database_url, pool_size=1)
    with reading(engine) as connection:
        keys = load_server_keys(consortium.settings, connection)
    engine.dispose()
    assert keys.idempotency_key in operator.memory[1]


def test_no_encoding_of_another_share_is_in_what_the_operator_has(consortium: Consortium, operator: Possession) -> None:
    images = {f"memory {place}": image for place, image in enumerate(operator.memory)}
    material = [*operator.files.items(), *images.items()]
    forms = {
        (holder, generation, name): form
        for holder in HOLDERS
        for generation in (1, 2)
        for name, form in encodings(consortium.share(holder, generation)).items()
    }
    present = {where: contained(data, forms.values()) for where, data in material}
    for (holder, generation, name), form in forms.items():
        places = [where for where, there in present.items() if form in there]
        assert holder == OWN or places == [], f"{holder} {generation}: {name}"
    # The search finds its own share, in a file and in a process's memory.
    assert any(forms[OWN, 2, "base64url"] in there for where, there in present.items() if where not in images)
    assert any(forms[OWN, 2, "bytes"] in present[image] for image in images)


def test_each_encoding_is_found_at_each_offset() -> None:
    secret = combined((1, 2), (GROUP_ORDER // 3, GROUP_ORDER // 5))
    forms = encodings(secret)
    for name, form in forms.items():
        for offset in range(17):
            # At the very end too; without its last byte it is not there.
            assert form in contained(bytes(offset) + form, forms.values()), (name, offset)
            assert form not in contained(bytes(offset) + form[:-1], forms.values()), (name, offset)
    for name in ("base64url", "base64", "hex"):
        for offset in range(17):
            for data in (bytes(offset) + forms[name], bytes(offset) + forms[name] + b"."):
                assert secret in texts(data), (name, offset)
                assert secret not in texts(data.replace(forms[name], forms[name][1:])), (name, offset)


# --- generations ------------------------------------------------------------------------------------------------------


def test_a_share_from_before_a_refresh_and_one_from_after_it_name_no_listed_person(consortium: Consortium) -> None:
    log, files = consortium.log(), consortium.ledger_database()
    assert consortium.keys(1).public_key == consortium.keys(2).public_key

    def stolen(*shares: tuple[str, int]) -> Possession:
        return Possession(log, {**files, "stolen": b"\n".join([consortium.share(*share) for share in shares])})

    for first, second in (("north", "south"), ("south", "north"), ("north", "north")):
        mixed = attack(stolen((first, 1), (second, 2)), consortium.some)
        places = frozenset({(1, 1, consortium.keys(1).of(first).index), (1, 2, consortium.keys(2).of(second).index)})
        assert (mixed.shares, mixed.keys, mixed.named) == (places, frozenset(), frozenset())
    for generation in (1, 2):
        both = attack(stolen(("north", generation), ("south", generation)), consortium.some)
        assert (both.keys, both.named) == (frozenset({1}), consortium.listed)
