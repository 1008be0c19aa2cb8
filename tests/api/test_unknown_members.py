"""Unknown members are refused for little: a body full of them costs no more than reading it, at every level of every
schema, for anonymous callers and for members."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter, ValidationError

from api.consumer.schemas import OwnAppealRequest, SessionOpening, StatementRequest
from api.json_io import MAX_UNKNOWN, MAX_VALUES, parse, parse_briefly, parse_small
from api.platform.appeal_schemas import AppealRequest
from api.platform.lookup_schemas import Lookup, LookupItems
from api.platform.report_schemas import BatchItems, RestitutionRequest, Withdrawal
from api.platform.webhook_schemas import EndpointRequest
from ledger.errors import InvalidRequest, LedgerError
from tests.api.conftest import ACME, Api
from tests.counts import trials

MANY = 100_000
JUNK: dict[str, Any] = {f"u{number}": number for number in range(MANY)}
MODELS: list[type[BaseModel]] = [
    Lookup, LookupItems, BatchItems, SessionOpening, StatementRequest, OwnAppealRequest, AppealRequest,
    RestitutionRequest, Withdrawal, EndpointRequest,
]  # fmt: skip
CPU_SECONDS = 0.05


def cpu(work: Any) -> float:
    """CPU seconds of the quickest of three runs."""
    results = []
    for _ in range(3):
        started = time.thread_time()
        work()
        results.append(time.thread_time() - started)
    return min(results)


def refusal(model: type[BaseModel], value: object) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        parse(model, value)
    return caught.value


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_unknown_members_cost_nothing_at_any_level(model: type[BaseModel]) -> None:
    values: list[Any] = [JUNK]
    for name in model.model_fields:
        values += [{name: JUNK}, {name: [JUNK] * 8}, {name: [{"a": JUNK}]}]
    for value in values:
        assert cpu(lambda value=value: refused(model, value)) < CPU_SECONDS


def refused(model: type[BaseModel], value: object) -> None:
    with suppress(LedgerError):
        parse(model, value)


def test_a_few_unknown_members_are_told_with_everything_else() -> None:
    few = {"epoch": "x", **{f"name_{number}": 1 for number in range(MAX_UNKNOWN)}}
    errors: Any = refusal(Lookup, few).details["errors"]
    assert ["epoch"] in [error["loc"] for error in errors]
    many = {"epoch": "x", **{f"name_{number}": 1 for number in range(MAX_UNKNOWN + 1)}}
    errors = refusal(Lookup, many).details["errors"]
    assert [item["loc"] for item in errors] == [[f"name_{number}"] for number in range(MAX_UNKNOWN + 1)]
    within = {"subjects": [{"kind": "phone"}, {f"13800138{number:03d}": 1 for number in range(20)}]}
    errors = refusal(Lookup, within).details["errors"]
    assert [each["loc"] for each in errors] == [["subjects", 1, "?"]] * (MAX_UNKNOWN + 1)


@settings(max_examples=trials(36, 60))
@given(
    st.recursive(
        st.none() | st.integers() | st.text(max_size=3),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from([*Lookup.model_fields, "kind", "tag", "claim", "other"]), inner, max_size=6
            )
        ),
        max_leaves=12,
    )
)
def test_the_quick_look_refuses_nothing_that_the_schema_takes(value: Any) -> None:
    """And what the schema refuses is refused."""
    try:
        TypeAdapter(Lookup).validate_python(value)
    except ValidationError:
        for parser in (parse, parse_briefly, parse_small):
            with pytest.raises(LedgerError):
                parser(Lookup, value)
    else:
        assert parse(Lookup, value) == parse_small(Lookup, value)


def test_a_batch_of_junk_is_answered_and_others_are_not_kept_waiting(api: Api) -> None:
    item = {f"unknown_{number}": number for number in range(40)}
    body = orjson.dumps({"lookups": [item] * 1000})
    assert len(body) > 400_000
    headers = {"Content-Type": "application/json"}
    answer = api.request("POST", "/v1/lookups/batch", ACME, content=body, headers=headers)
    results = answer.json()["results"]
    assert [result["status"] for result in results] == [422] * 1000
    assert len(results[0]["problem"]["errors"]) == MAX_UNKNOWN + 1


@pytest.mark.parametrize("path", ["/v1/lookups/batch", "/v1/reports/batch"])
@pytest.mark.parametrize("junk", ["members", "lists", "numbers"])
def test_a_body_of_too_many_values_is_not_put_together(api: Api, path: str, junk: str) -> None:
    name = path.split("/")[2]
    values = {
        "members": b'{"%b":[{%b}]}' % (name.encode(), b",".join(b'"%d":1' % item for item in range(MAX_VALUES))),
        "lists": b'{"%b":[%b]}' % (name.encode(), b",".join([b"[[[]]]"] * (MAX_VALUES // 2))),
        "numbers": b'{"%b":[%b]}' % (name.encode(), b",".join([b"1"] * (MAX_VALUES + 9))),
    }
    headers = {"Content-Type": "application/json"}
    answer = api.request("POST", path, ACME, content=values[junk], headers=headers)
    assert answer.status_code in (413, 422)
    assert len(answer.content) < 4000


def test_an_anonymous_body_is_refused_at_four_kibibytes(api: Api) -> None:
    """The session of a person takes 60 bytes."""
    body = orjson.dumps({"code": "x", **{f"u{number}": 1 for number in range(300_000)}})
    answer = api.request("POST", "/v1/me/session", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 413
    assert answer.json()["limit_bytes"] == 4096


def test_the_largest_batch_of_lookups_is_read(api: Api) -> None:
    """With everything that a lookup may have; each is refused for its epoch alone."""
    subjects = [{"kind": "phone", "tag": "A" * 43}] * 8
    refund = {"amount_minor": 1, "currency": "CNY", "claim": "damaged"}
    item = {
        "epoch": 7, "subjects": subjects, "purpose": "refund_review", "order_ref": "A" * 43, "consent_ref": "c",
        "refund": refund, "min_index": 0, "nonce": "A" * 22,
    }  # fmt: skip
    answer = api.request("POST", "/v1/lookups/batch", ACME, json={"lookups": [item] * 1000})
    assert {result["status"] for result in answer.json()["results"]} == {409}
