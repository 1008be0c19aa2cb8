"""Which generation and epoch is evaluated, and when: with a clock that tests turn."""

from __future__ import annotations

from collections.abc import Callable

from ledger.holder.serving import share_states
from tests.holder.kit import Caller, Consortium, HolderService, points, share_of


def read_all(service: HolderService) -> None:
    """Read the log and the folder now."""
    service.rt.follower.follow()
    service.rt.shares.refresh(service.rt.state.current(), service.clock())


def generation_of(service: HolderService, caller: Caller, *, epoch: int = 1, generation: int | None = None) -> object:
    """The generation that was used, or the code of the refusal."""
    answer = service.evaluate(caller, points(1), epoch=epoch, generation=generation)
    return share_of(answer).generation if answer.status == 200 else answer.code


def files(service: HolderService) -> set[str]:
    """The share files in the folder."""
    return {path.name for path in service.settings.dir.glob("share-*.json")}


def test_a_generation_is_served_when_the_log_has_it_and_the_old_one_for_a_day(
    service: HolderService, acme: Caller, consortium: Consortium
) -> None:
    sharing = consortium.refresh(publish=False)
    read_all(service)
    assert generation_of(service, acme) == generation_of(service, acme, generation=1) == 1
    assert generation_of(service, acme, generation=2) == "stale_generation"
    service.clock.turn(hours=100)
    consortium.log.publish(1, sharing.statement, sharing.endorsements)
    read_all(service)
    assert generation_of(service, acme) == generation_of(service, acme, generation=2) == 2
    assert generation_of(service, acme, generation=1) == 1
    service.clock.turn(hours=23, minutes=59)
    read_all(service)
    assert generation_of(service, acme, generation=1) == 1
    assert files(service) == {"share-1-1.json", "share-1-2.json"}
    service.clock.turn(minutes=1)
    assert generation_of(service, acme, generation=1) == "stale_generation"
    assert generation_of(service, acme, generation=3) == "stale_generation"
    read_all(service)
    assert files(service) == {"share-1-2.json"}, "the replaced share is destroyed"
    assert generation_of(service, acme) == 2
    answer = service.evaluate(acme, points(1), generation=1)
    assert (answer.status, answer.json["generation"]) == (409, 2)


def test_the_day_begins_when_the_holder_saw_the_generation_also_after_a_restart(
    service: HolderService, acme: Caller, consortium: Consortium, open_service: Callable[..., HolderService]
) -> None:
    consortium.refresh()
    read_all(service)
    service.clock.turn(hours=23)
    again = open_service("north")
    assert generation_of(again, acme, generation=1) == 1
    again.clock.turn(hours=1)
    assert generation_of(again, acme, generation=1) == "stale_generation"


def test_an_epoch_is_evaluated_while_it_is_next_or_current(
    service: HolderService, acme: Caller, consortium: Consortium
) -> None:
    assert generation_of(service, acme, epoch=2) == "stale_epoch"
    consortium.rotate()
    read_all(service)
    assert generation_of(service, acme, epoch=1) == generation_of(service, acme, epoch=2) == 1
    consortium.log.publish(2)
    read_all(service)
    answer = service.evaluate(acme, points(1), epoch=1)
    assert (answer.status, answer.code, answer.json["epoch"]) == (409, "stale_epoch", 2)
    assert generation_of(service, acme, epoch=2) == 1


def test_an_announcement_that_is_given_up_is_not_evaluated(
    service: HolderService, acme: Caller, consortium: Consortium
) -> None:
    consortium.rotate()
    consortium.log.publish(1)
    read_all(service)
    assert generation_of(service, acme, epoch=2) == "stale_epoch"


def test_a_share_that_contradicts_the_log_is_not_used(
    service: HolderService, acme: Caller, consortium: Consortium
) -> None:
    stray = consortium.refresh(publish=False)
    path = service.settings.dir / "share-1-2.json"
    text = path.read_text()
    for folder in consortium.folders.values():
        (folder.path / "share-1-2.json").unlink()
    consortium.sharings.pop()
    consortium.refresh()
    path.write_text(text)
    assert stray.statement != consortium.sharings[-1].statement
    read_all(service)
    states = share_states(service.rt.state.current(), service.rt.shares.shares, service.clock())
    assert [each.state for each in states] == ["served", "misfit"]
    assert generation_of(service, acme, generation=2) == "stale_generation"
    assert generation_of(service, acme) == 1
