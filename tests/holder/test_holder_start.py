"""When a holder's service refuses to start."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import text

from ledger.errors import ConfigurationError, Inconsistent, Unavailable
from ledger.holder.database import open_holder_database
from ledger.holder.settings import HolderSettings, load_holder_settings
from ledger.server.db.engine import open_engine
from ledger.server.settings import load_settings
from tests.holder.kit import Consortium, HolderService


def test_a_share_that_does_not_fit_the_logged_key(
    consortium: Consortium, open_service: Callable[..., HolderService]
) -> None:
    for folder in consortium.folders.values():
        (folder.path / "share-1-1.json").unlink()
    consortium.generate(publish=False)
    with pytest.raises(ConfigurationError, match="does not fit the key in the log"):
        open_service("north")


def test_without_a_state_of_the_log_the_ledger_must_answer(
    consortium: Consortium, open_service: Callable[..., HolderService]
) -> None:
    consortium.log.broken = Unavailable("down")
    with pytest.raises(Unavailable, match="log cannot be read"):
        open_service("north")
    consortium.log.broken = None
    open_service("north").close()
    consortium.log.broken = Unavailable("down")
    assert open_service("north").rt.readiness()["log"] == "unreachable", "with a state it starts"


def test_a_log_of_another_key_is_no_beginning(
    consortium: Consortium, open_service: Callable[..., HolderService]
) -> None:
    consortium.log.key = Consortium(consortium.folders["north"].path.parent / "others").log.key
    with pytest.raises(Inconsistent, match="malformed"):
        open_service("north")


def test_a_share_whose_sharing_is_not_logged_yet_waits(
    tmp_path: Path, consortium: Consortium, open_service: Callable[..., HolderService]
) -> None:
    consortium.log.entries.clear()
    consortium.log.fill(1)
    service = open_service("north")
    assert service.rt.readiness()["shares"] == "none_served"
    assert service.request("GET", "/v1/card").code == "not_found"
    sharing = consortium.sharings[0]
    consortium.log.publish(1, sharing.statement, sharing.endorsements)
    service.rt.follower.follow()
    assert service.rt.readiness()["status"] == "ready"


def test_a_folder_without_a_share_or_of_another_ledger(
    consortium: Consortium, open_service: Callable[..., HolderService]
) -> None:
    north = consortium.folders["north"].path
    with pytest.raises(ConfigurationError, match="holder init"):
        open_service("north", dir=north.parent)
    shutil.copy(north / "share-1-1.json", north.parent / "kept")
    (north / "share-1-1.json").unlink()
    with pytest.raises(ConfigurationError, match="no share yet"):
        open_service("north")
    others = Consortium(north.parent / "others")
    others.generate()
    shutil.copy(others.folders["north"].path / "share-1-1.json", north / "share-1-1.json")
    with pytest.raises(ConfigurationError, match="another ledger"):
        open_service("north")


def test_before_the_folder_is_made_there_is_no_database(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="holder init"):
        open_holder_database(HolderSettings(dir=tmp_path / "none"))


def test_a_database_of_another_version_is_refused(tmp_path: Path) -> None:
    settings = HolderSettings(database_url=f"sqlite:///{tmp_path / 'holder.db'}")
    open_holder_database(settings).dispose()
    engine = open_engine(settings.database)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = 'holder_9999'"))
    engine.dispose()
    with pytest.raises(ConfigurationError, match="newer version"):
        open_holder_database(settings, upgrade=True)


def test_settings_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFUND_LEDGER_HOLDER_BURST_ELEMENTS", "5")
    monkeypatch.setenv("REFUND_LEDGER_SERVICE", "not.ours")
    assert load_holder_settings(port=7).burst_elements == 5
    monkeypatch.setenv("REFUND_LEDGER_HOLDER_BURST_ELEMENT", "5")
    monkeypatch.setenv("REFUND_LEDGER_HOLDER_PORT", "x")
    with pytest.raises(ConfigurationError) as caught:
        load_holder_settings()
    assert load_settings({"REFUND_LEDGER_HOLDER_DIR": "x", "REFUND_LEDGER_HOLDER": "y"}).holder == "y", (
        "not the server's"
    )
    assert "BURST_ELEMENT is no setting; do you mean REFUND_LEDGER_HOLDER_BURST_ELEMENTS?" in str(caught.value)
    assert "REFUND_LEDGER_HOLDER_PORT must be a whole number." in str(caught.value)
