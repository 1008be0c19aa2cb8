"""What a party can have evaluated: exactly what the holders' status said, whatever it tries."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import pytest

from ledger.protocol import voprf
from ledger.protocol.encoding import b64url
from tests.claim.attacker import Candidate, Possession, attack
from tests.claim.buyer import EVALUATE, Buyer, post, reach
from tests.claim.consortium import HOLDERS, OWN, Consortium, HolderProcess, in_time
from tests.holder.kit import Caller, evaluation_body
from tests.support import mint

DAILY = 60
BUDGETS = {"hull": DAILY, "keel": DAILY, "mast": DAILY, "oars": 20, "rope": 20, "sail": 10}
"""The daily budgets of platforms; each has a control group of its own, except keel, which is hull's."""
OTHERS = tuple([holder for holder in HOLDERS if holder != OWN])


@pytest.fixture(autouse=True)
def _one_day() -> None:
    """Do not begin a test just before midnight (UTC), when daily budgets renew."""
    now = datetime.now(UTC)
    midnight = (now + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    if (midnight - now).total_seconds() < 30:
        in_time(lambda: datetime.now(UTC) > midnight, "midnight does not come", seconds=60)


def buyer(consortium: Consortium, platforms: Sequence[Caller], *, own: bool = False) -> Buyer:
    """A party with these platforms; with `own` it runs the operator's holder."""
    urls = {holder: consortium.services[holder].url for holder in HOLDERS}
    shares = {generation: consortium.share(OWN, generation) for generation in (1, 2)}
    return Buyer(platforms, urls, [consortium.keys(1), consortium.keys(2)], (OWN, shares) if own else None)


def wishes(consortium: Consortium) -> list[Candidate]:
    """The candidates in the order in which an attacker asks: every third one is listed."""
    listed, others = sorted(consortium.listed), [each for each in consortium.some if each not in consortium.listed]
    return [each for place, first in enumerate(listed) for each in (first, *others[2 * place : 2 * place + 2])]


def said(consortium: Consortium, group: str) -> dict[str, int]:
    """What the status of each holder says that a control group can have evaluated now."""
    return {holder: consortium.status(holder, group) for holder in HOLDERS}


@pytest.fixture(scope="module")
def platforms(consortium: Consortium) -> Mapping[str, Caller]:
    """Platforms that all holders have admitted while their services ran, by name."""
    callers = {name: consortium.enrol(name, f"{'hull' if name == 'keel' else name}-group") for name in BUDGETS}
    for name, caller in callers.items():
        consortium.admit(caller, BUDGETS[name])
    in_time(
        # The last one first: with it a service has read all others.
        lambda: all(_known(consortium, holder, caller) for holder in HOLDERS for caller in reversed(callers.values())),
        "a holder does not follow its admissions",
    )
    return callers


def _known(consortium: Consortium, holder: str, platform: Caller) -> bool:
    """Whether a holder's process has the platform: an empty batch is refused, but not for the token."""
    body = evaluation_body([])
    token = platform.token(holder, body, datetime.now(UTC))
    return post(consortium.services[holder].url, EVALUATE, token, body).code == "batch_size_invalid"


def check_named(consortium: Consortium, party: Buyer) -> None:
    """Check that the party names the listed ones among the candidates that it had evaluated, and no other."""
    possession = Possession(consortium.log(), consortium.ledger_database(), evaluated=party.elements)
    outcome = attack(possession, consortium.some)
    assert outcome.named == consortium.listed & party.elements.keys()
    assert outcome.named


def test_a_party_without_a_share_gets_n_over_t_times_its_budget(
    consortium: Consortium, platforms: Mapping[str, Caller]
) -> None:
    budgets = said(consortium, "hull-group")
    assert budgets == dict.fromkeys(HOLDERS, DAILY)  # two platforms of an owner share one budget
    party = buyer(consortium, [platforms["hull"], platforms["keel"]])
    party.buy(wishes(consortium), budgets)
    assert len(party.elements) == reach(budgets, 2) == DAILY * 3 // 2
    assert said(consortium, "hull-group") == dict.fromkeys(HOLDERS, 0)
    assert {code for _, code in party.refusals} == {"quota_exceeded"}
    check_named(consortium, party)


def test_the_operator_with_a_share_gets_the_budgets_of_the_other_holders(
    consortium: Consortium, platforms: Mapping[str, Caller]
) -> None:
    budgets = said(consortium, "mast-group")
    party = buyer(consortium, [platforms["mast"]], own=True)
    party.buy(wishes(consortium), budgets)
    assert len(party.elements) == reach({holder: budgets[holder] for holder in OTHERS}, 1) == DAILY * 2
    assert [consortium.status(holder, "mast-group") for holder in OTHERS] == [0, 0]
    check_named(consortium, party)


def test_grants_count_as_the_status_says(consortium: Consortium, platforms: Mapping[str, Caller]) -> None:
    consortium.holder_command(
        "north", "grant", "--control-group", "oars-group", "--elements", 30, "--reason", "first tagging"
    )
    budgets = said(consortium, "oars-group")
    assert budgets == {"north": 50, "south": 20, OWN: 20}
    party = buyer(consortium, [platforms["oars"]])
    party.buy(wishes(consortium), budgets)
    assert len(party.elements) == reach(budgets, 2) == 40  # north's last ten find no second holder
    assert [consortium.status(holder, "oars-group") for holder in ("south", OWN)] == [0, 0]


def test_ghost_platforms_get_no_element(consortium: Consortium) -> None:
    """Platforms that the operator enrols in its own ledger, and a key of its own for a member, are admitted nowhere."""
    ghosts = [consortium.enrol(f"ghost-{number}", f"ghost-group-{number}") for number in range(2)]
    party = buyer(consortium, ghosts, own=True)
    blinded = voprf.blind([b"phone:+8613800130000"], [voprf.derive_secret(bytes(32), b"claim")])
    for holder in OTHERS:
        for _ in ghosts:
            assert party.ask(holder, blinded).status == 403
    assert {code for _, code in party.refusals} == {"not_admitted"}
    # Nor can a ghost present a key.
    new_key = json.dumps({"kid": "ghost-2", "public_key": b64url(ghosts[1].public_key)}).encode()
    token = ghosts[0].token("north", new_key, datetime.now(UTC))
    assert post(consortium.services["north"].url, "/v1/keys", token, new_key).code == "not_admitted"
    forged = Caller("acme", "acme-group", "acme-2")
    assert consortium.server is not None
    key = consortium.public_key_file(forged)
    consortium.ledger_command("platform", "add-key", "acme", "--key", key, "--kid", forged.kid)
    impostor = buyer(consortium, [forged])
    assert [impostor.ask(holder, blinded).code for holder in OTHERS] == ["unknown_key"] * 2
    # The ledger itself has no share, and evaluates for no platform.
    url, body = consortium.server.url, evaluation_body(blinded)
    token = mint(ghosts[0].key, ghosts[0].kid, ghosts[0].name, consortium.settings.service)
    in_time(lambda: post(url, EVALUATE, token, body).code == "evaluated_by_holders", "the ledger says something else")
    for holder in HOLDERS:
        status = consortium.holder_command(holder, "status")
        assert not [row for row in status["control_groups"] if row["control_group"].startswith("ghost")]
        assert "acme-2" not in [key["kid"] for row in status["platforms"] for key in row["keys"]]


def test_a_suspension_at_one_holder_takes_effect_at_once(
    consortium: Consortium, platforms: Mapping[str, Caller]
) -> None:
    party = buyer(consortium, [platforms["rope"]])
    consortium.holder_command("north", "suspend", "rope")
    blinded = [voprf.hash_to_group(b"an element")]
    # With the docs' setting it takes effect within five seconds; these services read their admissions more often.
    in_time(lambda: not _known(consortium, "north", platforms["rope"]), "north does not follow", seconds=5)
    assert party.ask("north", blinded).status == 403
    assert set(party.refusals) == {("north", "platform_suspended")}
    budgets = said(consortium, "rope-group")
    assert budgets["north"] == 0
    party.buy(wishes(consortium), budgets)
    assert len(party.elements) == reach(budgets, 2) == 20
    assert consortium.holder_command("north", "status")["control_groups"]  # the group stays listed, and reaches nothing
    assert consortium.status("north", "rope-group") == 0


def test_used_tokens_second_processes_and_second_generations_give_nothing_more(
    consortium: Consortium, platforms: Mapping[str, Caller]
) -> None:
    sail = platforms["sail"]
    party = buyer(consortium, [sail])
    north = consortium.services["north"].url
    body = evaluation_body([voprf.hash_to_group(b"an element")], 1, 1)
    token = sail.token("north", body, datetime.now(UTC))
    assert post(north, EVALUATE, token, body).status == 200
    assert consortium.status("north", "sail-group") == 9
    second = HolderProcess(consortium.folder("north"), consortium.recorders["ledger"].url)
    try:
        for url in (north, second.url):
            answer = post(url, EVALUATE, token, body)
            assert (answer.status, answer.code) == (401, "token_used")
        # A token is good for its body, and for its holder.
        other = evaluation_body([voprf.hash_to_group(b"another element")], 1, 1)
        token = sail.token("north", body, datetime.now(UTC))
        assert post(north, EVALUATE, token, other).code == "invalid_token"
        assert post(consortium.services["south"].url, EVALUATE, token, body).code == "invalid_token"
        assert consortium.status("north", "sail-group") == 9
        budgets = said(consortium, "sail-group")
        party.buy(wishes(consortium), budgets)
        assert len(party.elements) == reach(budgets, 2) == 14
        again = buyer(consortium, [sail])
        again.urls = {**again.urls, "north": second.url}
        blinded = [voprf.hash_to_group(b"an element")]
        for generation in (1, 2):
            answer = again.ask("north", blinded, generation)
            assert (answer.status, answer.code) == (429, "quota_exceeded"), generation
        consortium.holder_command("north", "grant", "--control-group", "sail-group", "--daily", 11)
        in_time(lambda: again.ask("north", blinded, 1).status == 200, "the new budget is not followed")
        assert [again.ask("north", blinded, generation).code for generation in (1, 2)] == ["quota_exceeded"] * 2
    finally:
        second.kill()
