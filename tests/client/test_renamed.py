"""Method names of the SDK of version 0.2.0 exist, forward to the present ones, and warn."""

from __future__ import annotations

import ast
import inspect
import re
import warnings
import zipfile
from pathlib import Path

import pytest

from ledger.client import RefundLedger
from ledger.client.renamed import Renamed, renamed_methods
from tests.compat.freeze import HERE
from tests.kit import Connect, person, report_arguments

ROOT = Path(__file__).parents[2]
OLD_FILES = ("sdk", "session", "reporting", "appeals", "pictures", "webhooks")
OLD_CLASSES = {"RefundLedger", "Session", "Reporting", "Appeals", "Pictures", "Webhooks"}
RENAMED = renamed_methods(RefundLedger)


def old_methods() -> dict[str, list[str]]:
    """The public methods of `RefundLedger` in version 0.2.0, each with the names of its parameters."""
    methods: dict[str, list[str]] = {}
    with zipfile.ZipFile(HERE / "sdk-0.2.0.zip") as archive:
        for file in OLD_FILES:
            for node in ast.parse(archive.read(f"ledger/client/{file}.py")).body:
                if isinstance(node, ast.ClassDef) and node.name in OLD_CLASSES:
                    for method in node.body:
                        if isinstance(method, ast.FunctionDef) and not method.name.startswith("_"):
                            arguments = method.args
                            names = [*arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
                            methods[method.name] = [name.arg for name in names if name is not None][1:]
    return methods


OLD = old_methods()


@pytest.fixture
def offline(connect: Connect) -> RefundLedger:
    """A client whose ledger cannot be reached."""
    return connect("acme", url="http://127.0.0.1:1")


def test_all_methods_of_the_old_class_are_known() -> None:
    assert len(OLD) == 57
    assert {"report", "lookup", "close", "add_webhook", "open_record", "search_pictures"} <= OLD.keys()


@pytest.mark.parametrize("name", sorted(OLD))
def test_every_old_name_exists_with_the_old_parameters(name: str, offline: RefundLedger) -> None:
    member = getattr(offline, name)
    if name != "public_keys":
        assert list(inspect.signature(member).parameters) == OLD[name]


def test_every_renamed_method_was_one_of_the_old_class() -> None:
    assert RENAMED.keys() <= OLD.keys()
    kept = OLD.keys() - RENAMED.keys()
    assert kept == {
        *("lookup", "lookup_many", "check", "check_tags", "refresh_snapshot", "tagging_epoch", "current_epoch"),
        *("connect", "close", "from_environment", "public_keys", "statements", "outbox"),
    }


@pytest.mark.parametrize(("name", "new_name"), sorted(RENAMED.items()))
def test_an_old_name_forwards_to_the_present_method_and_warns(name: str, new_name: str, offline: RefundLedger) -> None:
    """The present method is entered: it is what refuses an argument that no method has."""
    namespace, _, method = new_name.rpartition(".")
    present = getattr(getattr(offline, namespace) if namespace else offline, method)
    assert getattr(offline, name).__wrapped__ == present
    with (
        pytest.warns(DeprecationWarning, match=rf"RefundLedger\.{name} is deprecated .* use {re.escape(new_name)}\.$"),
        pytest.raises(TypeError, match=rf"\b{method}\(\)"),
    ):
        getattr(offline, name)(1, 2, 3, 4, 5, 6, 7)


def test_the_warning_names_the_line_of_the_caller(offline: RefundLedger) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        offline.outbox_waiting()
        offline.outbox()
    assert [str(warning.message).split()[0] for warning in caught] == [
        "RefundLedger.outbox_waiting",
        "RefundLedger.outbox",
    ]
    assert {warning.filename for warning in caught} == {__file__}


def test_reading_an_old_name_does_not_warn(offline: RefundLedger) -> None:
    assert callable(offline.report)
    assert isinstance(vars(RefundLedger)["report"], Renamed)
    assert inspect.getdoc(RefundLedger.report)


@pytest.mark.filterwarnings("ignore:RefundLedger:DeprecationWarning")
def test_old_names_do_what_they_did(connect: Connect) -> None:
    acme = connect()
    buyer = acme.subject(**person())
    sent = acme.report(buyer, **report_arguments())
    assert sent.report is not None
    assert acme.get_report(sent.report.id) == acme.reports.get(sent.report.id)
    assert acme.receipt(sent.report, wait_seconds=20).report_id == sent.report.id
    assert (acme.outbox("pending"), acme.flush_outbox()) == ([], [])
    assert acme.withdraw(sent.report.id, "other").state == "accepted"
    assert acme.list_webhooks() == []
    assert acme.list_appeals().appeals == acme.appeals.list().appeals


def test_the_page_shows_every_old_name() -> None:
    page = (ROOT / "docs" / "sdk.md").read_text("utf-8")
    rows = re.findall(r"^\| `([a-z_]+)` \| `([a-z_.]+)` \|$", page, re.M)
    assert dict(rows) == {**RENAMED, "outbox": "outbox.list"}
