"""`make bench`: every line of the speed tables, as ratios against a baseline measured in the same run.

Prints a table and writes `var/bench.json`: a list of {name, ours, baseline, ratio, unit, target, met}. Missed targets
are shown as missed; the exit code stays 0, because a benchmark reports and does not judge.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests import pg
from tests.bench import (
    bench_buckets,
    bench_filter,
    bench_growth,
    bench_holder,
    bench_hostile,
    bench_ids,
    bench_inspection,
    bench_lookups,
    bench_oprf,
    bench_pictures,
    bench_reports,
    bench_rotation,
    bench_sharing,
    bench_snapshots,
)
from tests.support import ROOT

Rows = list[dict[str, Any]]


def main() -> None:
    """Run the named benchmarks, or all."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument(
        "names",
        nargs="*",
        help="oprf, holder, sharing, reports, growth, lookups, hostile, filter, ids, pictures, buckets, snapshots, "
        "rotation, inspection; default: all",
    )
    names = parser.parse_args().names
    console = Console()
    with tempfile.TemporaryDirectory(prefix="rcl-bench-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        admin = pg.server(folder, durable=True)

        def new_database() -> str:
            return pg.create_database(admin).render_as_string(hide_password=False)

        benchmarks: dict[str, Callable[[], Rows]] = {
            "oprf": bench_oprf.run,
            "holder": lambda: bench_holder.run(folder / "holder"),
            "sharing": lambda: bench_sharing.run(folder / "sharing"),
            "reports": lambda: bench_reports.run(new_database, folder / "reports"),
            "growth": lambda: bench_growth.run(new_database, folder / "growth"),
            "lookups": lambda: bench_lookups.run(new_database, folder / "lookups"),
            "hostile": lambda: bench_hostile.run(new_database, folder / "hostile"),
            "filter": bench_filter.run,
            "ids": bench_ids.run,
            "pictures": bench_pictures.run,
            "buckets": lambda: bench_buckets.run(new_database, folder / "buckets"),
            "snapshots": lambda: bench_snapshots.run(new_database, folder / "snapshots"),
            "rotation": lambda: bench_rotation.run() + bench_rotation.run_service(new_database, folder / "rotation"),
            "inspection": bench_inspection.run,
        }
        rows: Rows = []
        for benchmark in names or benchmarks:
            with console.status(f"measuring {benchmark} ..."):
                rows += benchmarks[benchmark]()
    show(console, rows)
    path = ROOT / "var" / "bench.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(rows, indent=1) + "\n")
    console.print(f"written to {path.relative_to(ROOT)}")


def show(console: Console, rows: Rows) -> None:
    """The table people read."""
    table = Table(title="ours against a baseline of the same run")
    for column in ("what", "ours", "baseline", "unit", "ratio", "target", ""):
        table.add_column(column, justify="left" if column in ("what", "unit", "") else "right")
    for row in rows:
        table.add_row(
            row["name"],
            f"{row['ours']:,}",
            f"{row['baseline']:,}",
            row["unit"],
            f"{row['ratio']:.2f}",
            f"{row['target']:.2f}",
            "[green]met[/]" if row["met"] else "[red]missed[/]",
        )
    console.print(table)


if __name__ == "__main__":
    main()
