"""Texts of policies for tests: a policy with other numbers."""

from __future__ import annotations

import re

from ledger.rules.policy.shipped import shipped_policy


def changed_policy(version: int, text: str | None = None, **numbers: int) -> str:
    """`text` (by default the newest shipped policy) as `version`, with other numbers: `severity__wardrobing=3` is the
    key `wardrobing` of the table `severity`."""
    lines, table = [], ""
    expected = {tuple(name.split("__", 1)): number for name, number in numbers.items()}
    for line in (shipped_policy()[0] if text is None else text).splitlines(keepends=True):
        if line.startswith("["):
            table = line.partition("]")[0][1:]
        key = line.partition("=")[0].strip()
        if table == "" and key == "version":
            line = f"version = {version}\n"
        elif (table, key) in expected:
            line = re.sub(r"= *\d+", f"= {expected.pop((table, key))}", line, count=1)
        lines.append(line)
    assert not expected, f"the policy has no {expected}"
    return "".join(lines)
