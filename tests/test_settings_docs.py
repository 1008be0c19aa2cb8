"""The docs name every setting with its default, unit and range, and what they claim of defaults and limits is true."""

from __future__ import annotations

import math
import re
import types
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args, get_origin

import pytest
from pydantic import ValidationError

from api import auth, route_table
from api import json_io as wire
from api.connections import MAX_FIELDS, RESERVE
from api.platform import appeal_schemas, lookup_schemas, report_schemas, webhook_schemas
from api.platform import lookups as lookup_routes
from api.public import service_schemas
from ledger.client.identity.environment import VARIABLES
from ledger.client.transport import connections
from ledger.holder.settings import HolderSettings
from ledger.protocol import voprf
from ledger.rules import appeals, conduct, pictures, reports, rounds, webhook_urls
from ledger.server.settings import CLIENT_NAMES, PREFIX, Settings
from ledger.server.webhooks import attempt, emit, endpoints, sender
from tests.support import ROOT

pytestmark = pytest.mark.checks_code

DOCS = ROOT / "docs"
PAGES = {path.name: path.read_text(encoding="utf-8") for path in sorted(DOCS.glob("*.md"))}

UNITS = {
    "_BYTES_PER_SECOND": "bytes/s",
    "_ELEMENTS_PER_SECOND": "elements/s",
    "_SECONDS": "s",
    "_MS": "ms",
    "_MINUTES": "min",
    "_HOURS": "h",
    "_BYTES": "bytes",
    "_ELEMENTS": "elements",
    "_SHARE": "share",
    "_PIXELS_MAX": "pixels",
}
"""The unit of a setting by the end of its name; the first that fits."""


Values = tuple[list[Any], list[Any]]
"""Values that are allowed, and such that are not."""


class Row(NamedTuple):
    """A row of the page's table."""

    default: str
    unit: str
    allowed: str
    meaning: str


def table(page: str) -> dict[str, Row]:
    """The rows of a page's table of settings, by name."""
    lines = PAGES[page].partition("\n## Settings\n")[2].partition("\n## ")[0].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| `")]
    by_name = {name.strip("`"): Row(*cells) for name, *cells in rows}
    assert len(by_name) == len(rows), "each once"
    return by_name


Model = type[Settings] | type[HolderSettings]
ROWS = table("operations.md")
TABLES: list[tuple[Model, dict[str, Row]]] = [(Settings, ROWS), (HolderSettings, table("holders.md"))]


@pytest.mark.parametrize(("model", "rows"), TABLES)
def test_the_table_has_every_setting_and_no_other(model: Model, rows: dict[str, Row]) -> None:
    assert [name.lower() for name in rows] == list(model.model_fields)
    assert all(row.meaning for row in rows.values())


@pytest.mark.parametrize(
    ("model", "row", "name"),
    [(model, rows.get(name.upper()), name) for model, rows in TABLES for name in model.model_fields],
    ids=str,
)
def test_a_row_has_the_default_unit_and_range_of_its_setting(model: Model, row: Row | None, name: str) -> None:
    field = model.model_fields[name]
    assert row is not None
    default = field.default
    if default is None or isinstance(default, bool):
        assert row.default == str(default).lower()
    else:
        assert row.default.strip("`") == (f"{default:g}" if isinstance(default, float) else str(default))
    unit = next((unit for end, unit in UNITS.items() if name.upper().endswith(end)), None)
    number = is_number(field.annotation)
    assert row.unit == unit if unit else bool(row.unit) == (number is not None and name != "port")
    good, bad = examples(row.allowed, number)
    for value in good:
        assert accepted(model, name, value), f"{value!r} is said to be allowed"
    for value in bad:
        assert not accepted(model, name, value), f"{value!r} is said to be refused"
    assert (row.allowed == "a path") == (field.annotation is Path)


def is_number(annotation: Any) -> type | None:
    """int or float where a setting is a number, with or without none."""
    if isinstance(annotation, types.UnionType):
        (annotation,) = [get_arg for get_arg in get_args(annotation) if get_arg is not type(None)]
    return annotation if annotation in (int, float) else None


def accepted(model: Model, name: str, value: Any) -> bool:
    try:
        model.model_validate({name: value})
    except ValidationError:
        return False
    return True


def examples(allowed: str, number: type | None) -> Values:
    """Values around the bounds that a cell of the table names."""
    if number is None:
        return words(allowed)

    def below(bound: float) -> float:
        return bound - 1 if number is int else math.nextafter(bound, -math.inf)

    def above(bound: float) -> float:
        return bound + 1 if number is int else math.nextafter(bound, math.inf)

    if match := re.fullmatch(r"(\d+) or more", allowed):
        return [int(match[1]), 10**9], [below(int(match[1])), -(10**9)]
    if match := re.fullmatch(r"(\d+) to (\d+)", allowed):
        low, high = int(match[1]), int(match[2])
        return [low, high], [below(low), above(high)]
    match = re.fullmatch(r"more than (\d+)(?:, (\d+) at most|, less than (\d+))?", allowed)
    assert match, allowed
    low, most, less = int(match[1]), match[2], match[3]
    good: list[Any] = [above(low)]
    bad: list[Any] = [low]
    if most:
        good, bad = [*good, int(most)], [*bad, above(int(most))]
    elif less:
        good, bad = [*good, below(int(less))], [*bad, int(less)]
    else:
        good.append(10**9)
    return good, bad


def words(allowed: str) -> Values:
    """As `examples`, for settings that are no numbers."""
    if match := re.fullmatch(r"text: `\[(.*?)\]\{1,(\d+)\}`", allowed):
        longest = int(match[2])
        return ["a", "a" * longest, "a-1"], ["", "a" * (longest + 1), "A", "a b", "a/"]
    if match := re.fullmatch(r"(\d+) characters or more", allowed):
        return ["x" * int(match[1])], ["x" * (int(match[1]) - 1)]
    if re.fullmatch(r"`\w+`(, `\w+`)+", allowed):
        values: list[Any] = list(re.findall(r"`(\w+)`", allowed))
        return values, ["", f"{values[0]}{values[1]}"]
    known: dict[str, Values] = {
        "a path": (["var/x", Path("/srv/x")], []),
        "a host name or address": (["::1", "ledger.example"], []),
        "a URL of SQLite or PostgreSQL": (["sqlite:///x.db", "postgresql+psycopg://ledger@db/ledger"], []),
        "an `https://` or `http://` address": (
            ["https://a.example", "http://a.example:8080/x"],
            ["ftp://a.example", "a.example", "https://", "https://a.example/?x"],
        ),
    }
    return known[allowed]


@pytest.mark.parametrize(("model", "rows"), TABLES)
def test_choices_are_listed_completely(model: Model, rows: dict[str, Row]) -> None:
    for name, field in model.model_fields.items():
        if get_origin(field.annotation) is Literal:
            assert re.findall(r"`(\w+)`", rows[name.upper()].allowed) == list(get_args(field.annotation))


# --- variables of clients -------------------------------------------------------------------------------------------


def test_the_variables_of_clients_are_listed() -> None:
    read = {*VARIABLES, connections.CA_VARIABLE}
    assert {PREFIX + name for name in CLIENT_NAMES} == read
    listed = re.findall(r"^\| `(REFUND_LEDGER_[A-Z_]+)` \| [^|]+ \|", PAGES["sdk.md"], re.MULTILINE)
    assert sorted(listed) == sorted(read)


def test_every_variable_that_a_page_names_exists() -> None:
    known = {name.upper() for name in Settings.model_fields} | CLIENT_NAMES
    known |= {f"HOLDER_{name.upper()}" for name in HolderSettings.model_fields} | {"HOLDER"}
    readmes = [path.read_text(encoding="utf-8") for path in ROOT.glob("README*.md")]
    for page in (*PAGES.values(), *readmes):
        assert set(re.findall(r"REFUND_LEDGER_([A-Z_]*[A-Z])", page)) <= known


# --- claims of other pages ------------------------------------------------------------------------------------------


def mib(count: int) -> str:
    assert count % 2**20 == 0
    return f"{count // 2**20} MiB"


def kib(count: int) -> str:
    assert count % 2**10 == 0
    return f"{count // 2**10} KiB"


def seconds(milliseconds: int) -> str:
    return f"{milliseconds / 1000:g} s"


def default_of(name: str) -> Any:
    return Settings.model_fields[name.lower()].default


def claims() -> list[tuple[str, str]]:
    """(page, what it says), made from the code."""
    body, target, header = (kib_or(default_of(f"{item}_limit_bytes")) for item in ("body", "target", "header"))
    rate = kib(default_of("body_rate_bytes_per_second"))
    attachment = mib(default_of("attachment_limit_bytes"))
    header_time, body_time = (f"{default_of(f'{each}_timeout_seconds'):g} s" for each in ("header", "body"))
    stall = f"{default_of('answer_stall_seconds'):g} s"
    quota, burst = default_of("oprf_daily_quota_elements"), default_of("oprf_burst_elements")
    oprf_rate = default_of("oprf_rate_elements_per_second")
    link, session = default_of("subject_link_minutes"), default_of("subject_session_minutes")
    searched, filed = default_of("pictures_daily_quota_hashes"), default_of("appeals_daily_quota")
    lookups = default_of("alarm_lookups_min")
    misses = 1 - default_of("alarm_miss_share")
    assert math.isclose(misses, 1 / 1000)
    assert default_of("alarm_bucket_share") == 0.5
    assert default_of("snapshots_kept") == 3
    assert default_of("snapshot_interval_seconds") == 3600
    refresh = max(entry.le for entry in Settings.model_fields["auth_refresh_seconds"].metadata if hasattr(entry, "le"))
    pixels = default_of("attachment_pixels_max") // 10**6
    return [
        ("api.md", f"{body} (`REFUND_LEDGER_BODY_LIMIT_BYTES`)"),
        ("api.md", f"| a file | {attachment} (`REFUND_LEDGER_ATTACHMENT_LIMIT_BYTES`) |"),
        ("api.md", f"The body is the file, at most {attachment} (`REFUND_LEDGER_ATTACHMENT_LIMIT_BYTES`)"),
        ("api.md", f"an address with its query; the query alone | {target};"),
        ("api.md", f"| a header; its fields | {header}; {MAX_FIELDS} |"),
        ("api.md", f"| {header_time}; {body_time} and what {rate}/s take |"),
        ("api.md", f"in a UTC day | {quota:,}, or what its operator set"),
        ("api.md", f"| blinded elements at once | {burst:,}, renewing at {oprf_rate} a second |"),
        ("api.md", f"| {searched:,} (`REFUND_LEDGER_PICTURES_DAILY_QUOTA_HASHES`) |"),
        ("api.md", f"| {filed:,} (`REFUND_LEDGER_APPEALS_DAILY_QUOTA`)"),
        ("api.md", f"| commands waiting to be recorded | {default_of('appender_queue_limit'):,} |"),
        ("api.md", f"| webhook endpoints of a platform | {endpoints.MAX_ENDPOINTS} |"),
        ("api.md", f"for {endpoints.OVERLAP_HOURS} hours messages carry signatures by both"),
        ("lookups.md", f"({quota:,} elements a UTC day), a burst limit ({burst:,} at once, renewing at {oprf_rate} a"),
        ("lookups.md", f"It asks the database every {default_of('lookup_refresh_ms')} ms"),
        ("lookups.md", f"`not_after` is at most {default_of('snapshot_lifetime_hours')} hours after the cut"),
        ("consumers.md", f"for {link} minutes (`REFUND_LEDGER_SUBJECT_LINK_MINUTES`)"),
        ("consumers.md", f"for {session} minutes (`REFUND_LEDGER_SUBJECT_SESSION_MINUTES`)"),
        ("cli.md", f"works once, for {link} minutes"),
        ("supervision.md", f"in every process within {refresh} seconds"),
        ("threat-model.md", f"until the key is revoked (effective within {refresh} s)"),
        ("operations.md", f"| `TARGET_LIMIT_BYTES` | {target}; 414 |"),
        ("operations.md", f"(and {MAX_FIELDS} fields) | `HEADER_LIMIT_BYTES` | {header}; 431 |"),
        ("operations.md", f"| `HEADER_TIMEOUT_SECONDS` | {header_time}; 408"),
        ("operations.md", f"`BODY_RATE_BYTES_PER_SECOND` that arrived | {body_time}, {rate}/s; 408 |"),
        ("operations.md", f"| `ANSWER_STALL_SECONDS` | {stall}; closed |"),
        ("operations.md", f"| `READ_DEADLINE_MS` | {seconds(default_of('read_deadline_ms'))} |"),
        ("operations.md", f"| `WRITE_DEADLINE_MS` | {seconds(default_of('write_deadline_ms'))} |"),
        ("operations.md", f"| `CONNECT_DEADLINE_MS` | {seconds(default_of('connect_deadline_ms'))} |"),
        ("operations.md", f"| `STATEMENT_TIMEOUT_MS` and 5 s | {seconds(default_of('statement_timeout_ms') + 5000)} |"),
        ("operations.md", f"`ATTACHMENT_LIMIT_BYTES` ({attachment}), `ATTACHMENTS_PER_CASE`"),
        ("operations.md", f"`ATTACHMENTS_PER_CASE` ({default_of('attachments_per_case')})"),
        ("operations.md", f"`ATTACHMENT_PIXELS_MAX` ({pixels} million)"),
        (
            "operations.md",
            f"made {lookups:,} lookups or more in a UTC day and one in a thousand",
        ),
        ("operations.md", "fetched half of a snapshot's buckets one by one (`ALARM_BUCKET_SHARE`)"),
        ("operations.md", "Three are kept (`SNAPSHOTS_KEPT`)"),
        ("operations.md", f"pictures is `REFUND_LEDGER_PICTURES_DAILY_QUOTA_HASHES` ({searched:,} for each platform)"),
        ("operations.md", f"{filed:,} appeals in a UTC day (`REFUND_LEDGER_APPEALS_DAILY_QUOTA`)"),
        ("operations.md", f"(default `{default_of('attachments_dir')}`)"),
        ("operations.md", f"in its own thread, {sender.AT_ONCE} at a time"),
        ("operations.md", f"eight more are accepted{'' if RESERVE == 8 else '?'}: they are answered once"),
        ("webhooks.md", f"within {attempt.TIMEOUT_SECONDS:g} seconds"),
        ("webhooks.md", f"are deleted after {emit.KEPT_DAYS} days"),
        ("appeals.md", f"{attachment} each, {default_of('attachments_per_case')} files for each party of a case"),
    ]


def limits() -> list[tuple[str, str]]:
    """(page, what it says) of limits that are constants."""
    lifetime = auth.MAX_LIFETIME_SECONDS
    assert report_schemas.MAX_BATCH == lookup_schemas.MAX_BATCH == service_schemas.MAX_BATCH == voprf.MAX_BATCH
    assert report_schemas.MAX_SUBJECTS == lookup_schemas.MAX_SUBJECTS == reports.MAX_SUBJECTS
    pages = {report_schemas.PAGE_LIMIT, appeal_schemas.PAGE_LIMIT, webhook_schemas.PAGE_LIMIT}
    usual = {report_schemas.PAGE_DEFAULT, appeal_schemas.PAGE_DEFAULT, webhook_schemas.PAGE_DEFAULT}
    return [
        ("api.md", f"| values (members and items) of a body of more than 256 KiB | {wire.MAX_VALUES:,};"),
        ("api.md", f"of `POST /v1/lookups/batch` {lookup_routes.MAX_VALUES:,} |"),
        ("api.md", f"| refused lookups of a batch that are told what is wrong where | {wire.MAX_DETAILED} |"),
        ("api.md", f"{kib(route_table.MAX_QUERY_BYTES)}, {route_table.MAX_QUERY_PAIRS} parameters |"),
        ("api.md", f"| reports, lookups or blinded elements in a batch | {report_schemas.MAX_BATCH} |"),
        ("api.md", f"| subjects of a report or lookup | {report_schemas.MAX_SUBJECTS} |"),
        ("api.md", f"| evidence items of a report | {conduct.MAX_EVIDENCE_ITEMS} |"),
        ("api.md", f"| a page | {one(pages)} |"),
        ("api.md", f"`limit` is 1 to {one(pages)} ({one(usual)} if you say nothing)"),
        ("api.md", f"| a token | {auth.MAX_TOKEN_CHARS} characters, {lifetime // 60} minutes |"),
        ("api.md", f"`exp` (at most {lifetime} seconds after `iat`)"),
        ("api.md", f"Clocks may differ by {auth.LEEWAY_SECONDS} seconds."),
        ("api.md", f"| pictures of a search | {pictures.MAX_SEARCHED} |"),
        ("api.md", f"| control groups whose platforms have a round about one report | {rounds.MAX_GROUPS} |"),
        ("api.md", f"| appeals against one report that one side takes back | {appeals.MAX_WITHDRAWALS} |"),
        ("threat-model.md", f"at most {lifetime // 60} minutes after it was issued"),
        ("threat-model.md", f"(plus {auth.LEEWAY_SECONDS} s of clock tolerance)"),
        ("webhooks.md", f"at most {webhook_urls.MAX_URL_CHARS} ASCII characters"),
    ]


def one(values: set[int]) -> int:
    """The value that all have."""
    (value,) = values
    return value


def kib_or(count: int) -> str:
    return mib(count) if count % 2**20 == 0 else kib(count)


@pytest.mark.parametrize(("page", "claim"), [*claims(), *limits()], ids=lambda value: value[:40])
def test_what_a_page_claims_of_a_setting_is_its_default(page: str, claim: str) -> None:
    assert claim in " ".join(PAGES[page].split())
