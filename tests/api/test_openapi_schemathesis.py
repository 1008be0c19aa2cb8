"""Schemathesis over the published description, against a running server: no 5xx but the documented ones, no
undocumented status or media type, no answer of another form, with valid, narrowed and broken tokens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import CHECKS, load_all_checks
from schemathesis.core.result import Ok
from schemathesis.generation import GenerationMode

from tests.api.conftest import ACME, READER, Api
from tests.counts import trials
from tests.personas import Persona

EXAMPLES = trials(2, 30)

NOT_PROMISED = {
    # Well-formed is not enough: a report needs a good signature, a lookup the current epoch, an id must exist.
    "positive_data_acceptance",
}
EACH_BY_ITSELF = {"negative_data_rejection"}
"""A batch answers 200 with a refusal for each bad item."""

DOCUMENTED_503 = "index_not_reached"

TOKENS: dict[str, Callable[[Api], dict[str, str]]] = {
    "valid": lambda api: {"Authorization": f"Bearer {api.token(ACME)}"},
    "another scope": lambda api: {"Authorization": f"Bearer {api.token(READER)}"},
    "none": lambda api: {"Authorization": ""},
    "forged": lambda api: {"Authorization": f"Bearer {api.token(ACME)[:-8]}AAAAAAAA"},
    "nonsense": lambda api: {"Authorization": "Bearer ,;=.."},
}


REFUSED = trials(("another scope", "forged"), tuple(name for name in TOKENS if name != "valid"))


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["positive", "negative"])
def test_the_server_keeps_to_its_description(api: Api, mode: GenerationMode) -> None:
    """Every operation of the description, with a valid token; what fits the description also with broken ones, before
    it is sent with the valid one. (To make up a request takes longer than to answer it.)"""
    load_all_checks()
    schema = schemathesis.openapi.from_url(f"{api.url}/openapi.json")
    covered = 0
    for get_all_operation in schema.get_all_operations():
        assert isinstance(get_all_operation, Ok)
        operation = get_all_operation.ok()
        covered += 1
        if mode is GenerationMode.NEGATIVE and not _can_be_wrong(operation):
            continue
        own = operation.path.startswith("/v1/me/")
        valid = {"Authorization": f"Bearer {Persona(api).open().token}"} if own else TOKENS["valid"](api)
        refused = [TOKENS[name](api) for name in REFUSED] if mode is GenerationMode.POSITIVE else []
        _probe(operation, mode, valid, refused)
    assert covered == 65


def _can_be_wrong(operation: Any) -> bool:
    """Whether the operation takes anything that could be malformed: every text is a possible path."""
    return bool(operation.body) or bool(operation.query)


def _checks(names: set[str]) -> list[Any]:
    return [check for check in CHECKS.get_all() if check.__name__ in names]


def _probe(operation: Any, mode: GenerationMode, valid: dict[str, str], refused: list[dict[str, str]]) -> None:
    excluded = NOT_PROMISED | (EACH_BY_ITSELF if operation.path.endswith("/batch") else set())
    sent = [(headers, _checks(excluded | {"ignored_auth"})) for headers in refused] + [(valid, _checks(excluded))]

    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def run(case: Any) -> None:
        for headers, skipped in sent:
            response = case.call(headers=headers)
            documented = response.status_code == 503 and response.json()["code"] == DOCUMENTED_503
            more = [CHECKS.get_one("not_a_server_error")] if documented else []
            case.validate_response(response, excluded_checks=[*skipped, *more])

    run()
