"""`python -m tests.house_picture`: draws docs/architecture.svg, the packages and which of them may import which.

The picture is made of the import contracts in pyproject.toml, of the imports, and of the first sentence of each
package's docstring, so it changes when a folder is added, removed or moved, or imports another one.
`tests/test_architecture.py` compares it with the file.
"""

from __future__ import annotations

import ast
import sys
import textwrap
import tomllib
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs" / "architecture.svg"

WIDTH = 1240
MARGIN = 24
GAP = 10
LINE = 15
TITLE = 20
CHAR = 6.35
"""Pixels: the width of the picture, its margin, the space between boxes, the heights of lines, the width of a
letter."""

STYLE = (
    "text{font-family:system-ui,sans-serif;font-size:12px;fill:#1b1f24}"
    ".n{font-family:ui-monospace,monospace;font-size:13px;font-weight:600}"
    ".h{font-size:14px;font-weight:600}.s{fill:#57606a}"
    ".b{fill:#fff;stroke:#8c959f}.p{fill:#ddf4ff;stroke:#0969da}.c{fill:#dafbe1;stroke:#1a7f37}.v{fill:#fff8c5;stroke:#9a6700}"
    "@media(prefers-color-scheme:dark){text{fill:#e6edf3}.s{fill:#9198a1}.b{fill:#0d1117;stroke:#6e7681}"
    ".p{fill:#0c2d6b;stroke:#58a6ff}.c{fill:#033a16;stroke:#3fb950}.v{fill:#3b2300;stroke:#d29922}}"
)


def first_sentence(package: str) -> str:
    """The first sentence of the docstring of a package or module. Raises AssertionError where there is none."""
    path = ROOT / package.replace(".", "/")
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    text = ast.get_docstring(ast.parse(file.read_text("utf-8"))) or ""
    assert text, f"{file.relative_to(ROOT)} has no docstring"
    return " ".join(text.partition("\n\n")[0].split()).partition(". ")[0].rstrip(".") + "."


def server_imports(folder: str) -> list[str]:
    """Other folders of the server that a folder or module of `ledger/server` imports, by name."""
    path = ROOT / "ledger" / "server" / folder
    files = path.rglob("*.py") if path.is_dir() else [path.with_suffix(".py")]
    names = set()
    for file in files:
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ledger.server"):
                package = (node.module or "").split(".")
                names |= {package[2]} if len(package) > 2 else {alias.name for alias in node.names}
    return sorted(names - {folder})


def layers(name: str) -> list[str]:
    """The layers of an import contract, from the top."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        contracts = tomllib.load(file)["tool"]["importlinter"]["contracts"]
    (found,) = (contract for contract in contracts if contract["name"] == name)
    return [part.strip() for layer in found["layers"] for part in layer.split("|")]


class Drawing:
    """The elements of an SVG document."""

    def __init__(self) -> None:
        self.parts: list[str] = []

    def text(self, x: float, y: float, words: str, kind: str) -> None:
        """Draw one line of text whose baseline is `y`."""
        self.parts.append(f'<text class="{kind}" x="{x:g}" y="{y:g}">{escape(words)}</text>')

    def box(self, x: float, y: float, width: float, kind: str, name: str, *texts: str) -> float:
        """Draw a box with a name and texts below it; return its height."""
        lines = [line for text in texts for line in textwrap.wrap(text, max(20, int((width - 20) / CHAR)))]
        height = TITLE + LINE * len(lines) + 14
        self.parts.append(f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="6"/>')
        self.text(x + 10, y + TITLE, name, "n")
        for number, line in enumerate(lines):
            self.text(x + 10, y + TITLE + LINE * (number + 1), line, "s")
        return height

    def column(self, x: float, y: float, width: float, kind: str, packages: list[tuple[str, str]]) -> float:
        """Draw boxes from top to bottom; return the point below the last one."""
        for name, package in packages:
            texts = [first_sentence(package)]
            if package.startswith("ledger.server."):
                imported = server_imports(package.removeprefix("ledger.server."))
                texts += [f"imports {', '.join(imported)}"] if imported else []
            y += self.box(x, y, width, kind, name, *texts) + GAP
        return y


def drawn() -> str:
    """The picture as SVG."""
    whole = layers("Imports point one way")
    server = layers("Folders of the server import those below them only")
    pure = ["ledger.snapshots", "ledger.rules", "ledger.tlog", "ledger.protocol", "ledger.errors"]
    assert [layer for layer in whole if layer in pure] == pure
    audiences = sorted(path.parent.name for path in (ROOT / "api").glob("*/__init__.py"))
    column = (WIDTH - 2 * MARGIN - 2 * 24) / 3
    left, middle, right = MARGIN, MARGIN + column + 24, MARGIN + 2 * (column + 24)
    picture = Drawing()
    picture.text(left, 34, "What a platform installs", "h")
    picture.text(middle, 34, "What the operator runs; a folder of the server imports only folders below it", "h")
    installed = ("cli.platform", "client", "referral", "evidence", "code_names", "i18n", "catalogue")
    platform = [(f"ledger/{name.replace('.', '/')}", f"ledger.{name}") for name in installed]
    end = picture.column(left, 46, column, "c", platform)
    top = [(f"api/{name}", f"api.{name}") for name in audiences] + [("ledger/cli/operator", "ledger.cli.operator")]
    folders = top + [(f"ledger/server/{name}", f"ledger.server.{name}") for name in server]
    half = (len(folders) + 1) // 2
    end = max(
        end,
        picture.column(middle, 46, column, "b", folders[:half]),
        picture.column(right, 46, column, "b", folders[half:]),
    )
    picture.text(
        left, end + 24, "Pure packages: no input, output, clock or randomness; everything above imports them", "h"
    )
    y = end + 36
    for name in pure:
        y += picture.box(left, y, WIDTH - 2 * MARGIN, "p", name.replace(".", "/"), first_sentence(name)) + GAP
    body = "\n".join(picture.parts)
    title = "Packages of the Refund Credit Ledger"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y + MARGIN - GAP:g}" role="img">\n'
        f"<title>{title}</title>\n<style>{STYLE}</style>\n{body}\n</svg>\n"
    )


if __name__ == "__main__":
    PICTURE.write_text(drawn(), "utf-8")
    sys.stdout.write(f"{PICTURE.relative_to(ROOT)}\n")
