"""The house rules that no linter knows: what files may say, what documentation promises, what is pinned how."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from functools import cache
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ledger import errors
from ledger.cli import app
from ledger.rules.jurisdictions import Profile
from ledger.rules.languages import LANGUAGES
from tests import prose

pytestmark = pytest.mark.checks_code

ROOT = Path(__file__).resolve().parents[1]
READMES = ("README.md", "README.zh-CN.md")
REQUIREMENTS = ("requirements/demo.txt", "requirements/test.txt")
MAX_LINES = 600
FLAT_LISTS = {"ledger/errors.py"}
"""One class after another, easier to read in one piece."""

# In pieces, so that this file may pass its own test.
REGISTRY_HOSTS = ["py" + "pi.org", "python" + "hosted", "registry." + "npmjs", "deb." + "debian", "crates" + ".io"]
HOME_PATH = re.compile(r"(?<![\w.])/(?:root|home/[a-z_][\w-]*|Users/\w+)/")
PLAIN_COMMANDS = {"git", "cd", ".venv/bin/python"}


@cache
def project_files() -> tuple[Path, ...]:
    """Every file that is, or would be, under version control."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git checkout, so what belongs to the project is unknown")
    files = (ROOT / name for name in listed.stdout.decode().split("\0") if name)
    return tuple(sorted({file for file in files if file.is_file()}))


def text_files() -> list[tuple[str, str]]:
    """(path from the root, text) of every project file that is text."""
    results = []
    for file in project_files():
        try:
            results.append((str(file.relative_to(ROOT)), file.read_text(encoding="utf-8")))
        except UnicodeDecodeError:
            continue
    return results


def code_blocks(text: str) -> list[str]:
    """The command lines of a page's shell blocks, without comments."""
    lines = [line for block in re.findall(r"```sh\n(.*?)```", text, re.S) for line in block.splitlines()]
    return [line.split(" #")[0].strip() for line in lines if line.strip() and not line.startswith("#")]


def test_no_python_file_is_too_long() -> None:
    lengths = {name: text.count("\n") for name, text in text_files() if name.endswith(".py") and name not in FLAT_LISTS}
    assert {name: length for name, length in lengths.items() if length > MAX_LINES} == {}


def test_no_file_names_a_registry_or_a_path_of_one_machine() -> None:
    paths = [f"{ROOT}/", f"{ROOT.parent}/"] if len(ROOT.parts) > 2 else [f"{ROOT}/"]
    paths = [path for path in paths if len(path) > 5 and path != "/tmp/"]
    results = [
        (name, line.strip()[:120])
        for name, text in text_files()
        for line in text.splitlines()
        if any(host in line for host in (*REGISTRY_HOSTS, *paths)) or HOME_PATH.search(line)
    ]
    assert results == []


@pytest.mark.parametrize("host", REGISTRY_HOSTS)
def test_the_rule_about_hosts_and_paths_can_fail(host: str) -> None:
    assert host in f"https://{host}/simple"
    assert HOME_PATH.search("see /" + "home/ann/ledger")
    assert not HOME_PATH.search("GET /v1/reports, docs/home/page")


def test_no_file_quotes_a_document_that_is_not_here() -> None:
    name = "DESIGN" + ".md"
    assert [path for path, text in text_files() if name in text] == []


def test_the_pure_packages_never_ask_for_the_time() -> None:
    clocks = {"now", "utcnow", "today"}
    results = []
    pure = [ROOT / "ledger" / name for name in ("protocol", "tlog", "rules", "snapshots")]
    for file in (file for folder in pure for file in folder.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in clocks:
                results.append(f"{file.name}:{node.lineno}")
    assert results == []


PROFILE_NAMES = re.compile(r"(\w+\.)*_?profile(\.value)?\Z")


def compared_with_a_profile(code: str) -> list[int]:
    """Lines of `code` that compare with, match or branch on one member of `Profile`, or on a profile's code as text."""

    def is_member(node: ast.AST) -> bool:
        if isinstance(node, ast.Tuple | ast.List | ast.Set):
            return any(map(is_member, node.elts))
        return (
            isinstance(node, ast.Attribute)
            and node.attr.isupper()
            and isinstance(node.value, ast.Name | ast.Attribute)
            and ast.unparse(node.value).rpartition(".")[2] == "Profile"
        )

    def is_code(node: ast.AST) -> bool:
        return isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in set(Profile)

    values = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            asks = any(PROFILE_NAMES.match(ast.unparse(side)) for side in sides)
            if any(map(is_member, sides)) or (asks and any(map(is_code, sides))):
                values.add(node.lineno)
        elif isinstance(node, ast.MatchValue) and (is_member(node.value) or is_code(node.value)):
            values.add(node.value.lineno)
    return sorted(values)


def test_no_code_asks_which_profile_it_has() -> None:
    """What follows from a law is a field of its row (`rules.jurisdictions`), so an unknown law is no other one."""
    values = {
        f"{name}:{line}"
        for name, text in text_files()
        if name.endswith(".py") and name.startswith(("ledger/", "api/"))
        for line in compared_with_a_profile(text)
    }
    assert values == set()


@pytest.mark.parametrize(
    "code",
    [
        "if profile is Profile.CN: pass",
        "x = 1 if row.profile == Profile.EU else 2",
        "if profile in (Profile.CN, Profile.UK): pass",
        "if policy.Profile.US != profile: pass",
        'if member.profile == "CN": pass',
        "match profile:\n    case Profile.CN:\n        pass",
    ],
)
def test_the_rule_about_profiles_can_fail(code: str) -> None:
    assert compared_with_a_profile(code)
    assert not compared_with_a_profile('days = profile.spec.limits.days\nif one.profile == profile or x == "UK": pass')


LANGUAGE_TABLE = "ledger/rules/languages.py"
NAMES_OF_LANGUAGES = {
    name
    for language in LANGUAGES.values()
    for name in (language.code, language.cldr, language.primary, language.folder, language.member)
}
LANGUAGE_NAMED = re.compile(rf"(?<!\w)(?:{'|'.join(sorted(NAMES_OF_LANGUAGES))})(?!\w)", re.IGNORECASE)


def languages_spelled(name: str, text: str) -> list[int]:
    """Lines of a source that name a language: in a string, a name, an attribute or a parameter of Python; anywhere in
    another file."""
    if not LANGUAGE_NAMED.search(text):
        return []
    if not name.endswith(".py"):
        said = list(enumerate(text.splitlines(), 1))
    else:
        said = []
        for node in ast.walk(ast.parse(text)):
            match node:
                case ast.Constant(value=str(word)) | ast.Attribute(attr=word) | ast.Name(id=word):
                    said.append((node.lineno, word))
                case ast.arg(arg=word) | ast.keyword(arg=str(word)):
                    said.append((node.lineno, word))
    return sorted({line for line, part in said if LANGUAGE_NAMED.search(part)})


def test_the_set_of_languages_comes_from_its_table() -> None:
    """A further language is one row and one catalogue: nothing else says which languages there are."""
    values = {
        f"{name}:{line}"
        for name, text in text_files()
        if name.startswith(("ledger/", "api/")) and name.endswith((".py", ".html", ".txt", ".js", ".css", ".toml"))
        if name != LANGUAGE_TABLE
        for line in languages_spelled(name, text)
    }
    assert values == set()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.py", 'def f(locale: str = "en") -> None: ...'),
        ("a.py", "text = f'The language must be en or zh-CN.'"),
        ("a.py", "reason.zh_cn"),
        ("a.py", "Reason(zh_cn='')"),
        ("a.py", "is_wide = locale.startswith('zh')"),
        ("a.py", 'folder = FOLDER / "zh_CN"'),
        ("a.html", '{% if locale == "zh-CN" %}'),
        ("a.css", ":lang(zh) { font-style: normal }"),
    ],
)
def test_the_rule_about_languages_can_fail(name: str, text: str) -> None:
    assert languages_spelled(name, text) == [1]
    assert not languages_spelled("a.py", 'FONT = "pylopdf_fonts_zh_cn"; when = LANGUAGES[locale].code  # en')


def own_sources() -> list[tuple[str, str]]:
    """Return (path, text) of every source file of the product."""
    return [
        (name, text)
        for name, text in text_files()
        if name.endswith(".py") and name.startswith(("ledger/", "api/", "migrations/"))
    ]


def test_the_prose_in_the_code_is_plain() -> None:
    assert [str(fault) for name, text in own_sources() for fault in prose.prose_faults(name, text)] == []


def test_docstrings_of_functions_that_return_nothing_say_what_they_do() -> None:
    assert [str(fault) for name, text in own_sources() for fault in prose.action_faults(name, text)] == []


def test_variables_say_what_they_hold() -> None:
    assert [str(fault) for name, text in own_sources() for fault in prose.name_faults(name, text)] == []


def test_public_functions_name_the_errors_that_they_raise() -> None:
    assert [str(fault) for name, text in own_sources() for fault in prose.error_faults(name, text)] == []


def test_the_rules_about_prose_and_names_can_fail() -> None:
    bad = """
def f(one: int) -> int:
    'Answer whoever asks.'
    found = one  # the value lies in the table
    if found:
        raise e.NotFound("There is nobody.")
    return found
"""
    assert [fault.text for fault in prose.prose_faults("x.py", bad)] == ["whoever", "lies in", "nobody"]
    assert {fault.text for fault in prose.name_faults("x.py", bad)} == {"one", "found"}
    noun = (
        "def f() -> None:\n    'The row.'\ndef g() -> int:\n    'The row.'\ndef h() -> int:\n    'Return Return it.'\n"
    )
    assert [fault.text for fault in prose.action_faults("x.py", noun)] == ["f: The", "Return Return"]
    assert [fault.text for fault in prose.error_faults("x.py", bad)] == ["f raises NotFound"]
    assert prose.error_faults("x.py", bad.replace("Answer", "Raise NotFound for")) == []
    caught = "def f() -> None:\n    try:\n        raise NotFound('x')\n    except NotFound:\n        pass\n"
    assert prose.error_faults("x.py", caught) == []
    assert prose.prose_faults("x.py", "x = 1  # no more than one; so much that it fails\n") == []


def clashes(kinds: dict[str, list[str]]) -> list[str]:
    """The names of classes that stand for more than one thing. One thing may have one type, one schema of the API and
    one table of the database, all of one name."""
    return sorted(name for name, ofs in kinds.items() if len(ofs) != len(set(ofs)))


def test_a_class_name_stands_for_one_thing() -> None:
    kinds: dict[str, list[str]] = {}
    for path, text in text_files():
        if path.endswith(".py") and path.startswith(("ledger/", "api/")):
            for name, kind in prose.classes(path, text):
                kinds.setdefault(name, []).append(kind)
    assert clashes(kinds) == []


def test_the_rule_about_class_names_can_fail() -> None:
    assert clashes({"Line": ["type", "type"], "Lookup": ["type", "schema", "table"], "A": ["schema", "schema"]}) == [
        "A",
        "Line",
    ]


def test_both_readmes_say_the_same() -> None:
    english, chinese = ((ROOT / name).read_text("utf-8") for name in READMES)
    assert code_blocks(english) == code_blocks(chinese)
    levels = [re.findall(r"^(#+) ", re.sub(r"```.*?```", "", text, flags=re.S), re.M) for text in (english, chinese)]
    assert levels[0] == levels[1]
    links = [re.findall(r"\]\((?!README)([^)]+)\)", text) for text in (english, chinese)]
    assert links[0] == links[1]


def test_every_command_of_the_readme_exists() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, re.M))
    commands = code_blocks((ROOT / "README.md").read_text("utf-8"))
    assert commands
    for command in commands:
        program, *arguments = command.split()
        if program == "make":
            assert arguments[0] in targets, command
        elif program.endswith("refund-ledger"):
            words = [word for word in arguments if re.fullmatch(r"[a-z-]+", word) and not word.startswith("-")]
            assert CliRunner().invoke(app, [words[0], "--help"]).exit_code == 0, command
        else:
            assert program in PLAIN_COMMANDS, command


def test_every_make_target_is_explained_and_phony() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, re.M))
    assert {"demo", "serve", "test", "check", "bench", "soak"} <= targets
    phony = re.search(r"^\.PHONY: (.*)$", makefile, re.M)
    assert phony is not None
    assert set(phony[1].split()) == targets
    assert set(re.findall(r"^([a-z]+):.*## ", makefile, re.M)) == targets


def pins(name: str) -> dict[str, str]:
    """{distribution: "==version ; marker"} of a requirements file."""
    lines = (ROOT / name).read_text("utf-8").splitlines()
    result = (re.fullmatch(r"([a-z0-9.-]+(?:\[[a-z,]+\])?)(==[^\\]*?) ?\\?", line) for line in lines)
    return {match[1].split("[")[0]: match[2].strip() for match in result if match}


@pytest.mark.parametrize("name", REQUIREMENTS)
def test_requirements_are_pinned_by_hash_and_name_no_index(name: str) -> None:
    text = (ROOT / name).read_text("utf-8")
    assert "://" not in text
    entries = [entry for entry in re.split(r"\n(?=[a-z])", text) if entry.strip()]
    # A package may stand there twice, for older and for newer Pythons.
    assert {entry.partition("==")[0].split("[")[0] for entry in entries} == pins(name).keys()
    assert len(entries) > 20
    for entry in entries:
        assert re.match(r"[a-z0-9.\[\],-]+==", entry), entry[:80]
        assert re.search(r"--hash=sha256:[0-9a-f]{64}\b", entry), entry[:80]
        assert set(re.findall(r"(?<!\S)--([a-z-]+)", entry)) == {"hash"}, entry[:80]


def test_the_tests_run_on_what_the_demo_installs() -> None:
    demo, test = (pins(name) for name in REQUIREMENTS)
    assert demo.items() <= test.items()


def test_everything_the_project_asks_for_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    server = tomllib.loads((ROOT / "distributions/server/pyproject.toml").read_text("utf-8"))["dependency-groups"]
    extras = {**project["optional-dependencies"], **server}
    demo, test = (pins(name) for name in REQUIREMENTS)

    def names(requirements: list[str]) -> set[str]:
        return {re.split(r"[\[<>=~! ]", line)[0] for line in requirements}

    assert names(project["dependencies"]) | names(extras["server"]) <= demo.keys()
    expected = [
        line for line in (ROOT / "requirements" / "test.in").read_text("utf-8").splitlines() if line[:1].isalpha()
    ]
    assert names(expected) | names([line for extra in extras.values() for line in extra]) <= test.keys()


def test_the_changelog_has_an_unreleased_section() -> None:
    headings = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.M)
    assert headings[0] == "[Unreleased]"


def anchors(text: str) -> set[str]:
    """The fragments that a page's headings make."""
    titles = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", text, flags=re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def test_links_between_pages_resolve() -> None:
    broken = []
    for name, text in text_files():
        if not name.endswith(".md"):
            continue
        prose = re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.S)
        for link in re.findall(r"\]\(([^)\s]+)\)", prose):
            if re.match(r"[a-z]+:", link):
                continue
            path, _, fragment = link.partition("#")
            target = (ROOT / name).parent / path if path else ROOT / name
            if not target.exists() or (fragment and fragment not in anchors(target.read_text("utf-8"))):
                broken.append((name, link))
    assert broken == []


def test_the_index_of_the_documentation_is_complete() -> None:
    docs = ROOT / "docs"
    index = (docs / "README.md").read_text("utf-8")
    pages = [str(page.relative_to(docs)) for page in docs.rglob("*.md") if page.name != "README.md"]
    assert [page for page in pages if f"({page})" not in index] == []


def test_decisions_are_numbered_without_gaps() -> None:
    names = sorted(page.name for page in (ROOT / "docs" / "decisions").glob("*.md"))
    assert [int(name[:4]) for name in names] == list(range(1, len(names) + 1))


def all_errors(base: type[errors.LedgerError] = errors.LedgerError) -> list[type[errors.LedgerError]]:
    """`base` and every class below it in ledger/errors.py."""
    below = [error for child in base.__subclasses__() for error in all_errors(child)]
    return [error for error in (base, *below) if error.__module__ == errors.__name__]


def test_every_error_code_is_its_own_and_documented() -> None:
    codes = [error.code for error in all_errors()]
    assert len(codes) == len(set(codes))
    page = (ROOT / "docs" / "api.md").read_text("utf-8")
    assert [code for code in codes if f"`{code}`" not in page] == []


def test_the_tree_of_errors_is_drawn_in_full() -> None:
    tree = str(errors.__doc__).split("\n\n")[1]
    drawn = set(re.findall(r"\b[A-Z][a-z]+[A-Z]?\w*\b", tree))
    assert drawn == {error.__name__ for error in all_errors()}


def test_the_tests_that_the_security_page_names_exist() -> None:
    named = 0
    for cells in (
        line.split(" | ") for line in (ROOT / "docs" / "security.md").read_text(encoding="utf-8").splitlines()
    ):
        file = None
        for word in re.findall(r"`([\w/.]+)`", cells[-1]) if len(cells) == 3 else []:
            if word.startswith("test_"):
                assert file is not None, word
                assert re.search(rf"^(async )?def {word}\(", file, re.MULTILINE), word
            elif word.startswith("tests/"):
                file = (ROOT / word).read_text(encoding="utf-8")
            named += 1
    assert named > 40
