"""The rule for references to consent, and what a policy says of lookups that need one."""

from __future__ import annotations

import pytest

from ledger.errors import ConsentMissing, InvalidRequest, PolicyInvalid
from ledger.rules.consent import check_consent, fault_of_reference, shows_nothing
from ledger.rules.jurisdictions import Profile
from ledger.rules.policy.shipped import shipped_version
from ledger.rules.policy.values import parse_policy, read_policy

TEXT = shipped_version(2)[0]
LINE = 'lookups = ["CN"]'


@pytest.mark.parametrize("ref", ["同意-2026", "terms 2026", "a", "a" * 128, "\U0001f600" * 128, "Zoë/№ 7", "\u3164 1"])
def test_fit_references(ref: str) -> None:
    assert fault_of_reference(ref) is None
    check_consent(ref, profile="CN", required=True, of="lookup", unfit=InvalidRequest)


@pytest.mark.parametrize("ref", ["", "a" * 129, "a\nb", "\t", "a\u2028", "\u00a0", "e\u0301", "\ud800", "\u202e", None])
def test_unfit_references(ref: object) -> None:
    assert fault_of_reference(ref) is not None


@pytest.mark.parametrize("blank", [" ", "   ", "\u3164", "\u2800", "\u115f \u1160"])
def test_a_blank_names_nothing(blank: str) -> None:
    assert fault_of_reference(blank) is None
    assert shows_nothing(blank)
    with pytest.raises(ConsentMissing, match="CN profile a lookup needs") as refused:
        check_consent(blank, profile="CN", required=True, of="lookup", unfit=InvalidRequest)
    assert refused.value.details == {"field": "consent_ref", "profile": "CN"}
    with pytest.raises(InvalidRequest, match="shows nothing"):
        check_consent(blank, profile="EU", required=False, of="lookup", unfit=InvalidRequest)


def test_none_is_refused_only_where_one_is_required() -> None:
    check_consent(None, profile="EU", required=False, of="lookup", unfit=InvalidRequest)
    with pytest.raises(ConsentMissing):
        check_consent(None, profile="CN", required=True, of="lookup", unfit=InvalidRequest)


def test_lookups_need_consent_from_the_second_policy_on() -> None:
    assert shipped_version(1)[1].consent_for_lookups == frozenset()
    asked = {profile.value for profile in Profile if profile.spec.consent_for_lookups}
    assert shipped_version(2)[1].consent_for_lookups == asked == {"CN"}


@pytest.mark.parametrize("named", ["", '"CN"', '"CN", "CN"'])
def test_a_policy_may_name_fewer_profiles_or_none(named: str) -> None:
    text = TEXT.replace(LINE, f"lookups = [{named}]")
    assert parse_policy(text) == read_policy(text)
    assert parse_policy(text).consent_for_lookups == ({"CN"} if named else set())
    without = TEXT.replace("[consent]", "", 1).replace(LINE, "", 1)
    assert parse_policy(without).consent_for_lookups == frozenset()


@pytest.mark.parametrize("named", ['"EU"', '"CN", "US"', '"ZZ"', '"cn"'])
def test_what_is_published_names_only_profiles_whose_law_asks_for_consent(named: str) -> None:
    text = TEXT.replace(LINE, f"lookups = [{named}]")
    with pytest.raises(PolicyInvalid, match="whose law asks for it: CN"):
        parse_policy(text)
    assert read_policy(text).consent_for_lookups >= {"ZZ"} & set(named.split('"'))


@pytest.mark.parametrize("line", ['lookups = "CN"', "lookups = [1]", "lookups = true", "", "reports = ['CN']"])
def test_a_malformed_table_is_no_policy(line: str) -> None:
    for read in (parse_policy, read_policy):
        with pytest.raises(PolicyInvalid):
            read(TEXT.replace(LINE, line))


def test_a_reader_passes_over_what_a_later_policy_says_of_consent() -> None:
    text = TEXT.replace(LINE, f'{LINE}\nfor_pictures = ["CN"]')
    with pytest.raises(PolicyInvalid):
        parse_policy(text)
    assert read_policy(text) == parse_policy(TEXT)
