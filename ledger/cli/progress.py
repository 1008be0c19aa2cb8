"""Progress bars on standard error for work in stages."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ledger.cli import output


@contextmanager
def stage_bars(names: Mapping[str, str]) -> Iterator[Callable[[str, int, int], None]]:
    """Yield `show(stage, done, total)`, which draws one bar for each stage; a total of 0 means unknown. `names` are the
    display names of stages. Nothing is drawn with `--json` or if standard error is not a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = output.messages()
    with Progress(*columns, console=console, disable=output.json_asked() or not console.is_terminal) as bar:
        tasks: dict[str, Any] = {}

        def finish() -> None:
            for task in tasks.values():
                total = bar.tasks[task].total or 1
                bar.update(task, completed=total, total=total)

        def show(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                finish()
                tasks[stage] = bar.add_task(names.get(stage, stage), total=None)
            bar.update(tasks[stage], completed=done, total=total or None)

        yield show
        finish()
