"""Built wheels, and environments that hold them and their requirements alone.

An environment is made without pip and without an index: the wheels are installed into it, and each distribution that
they require, directly or through others, is linked from the environment that runs the tests. Nothing else can be
imported.
"""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from email.message import Message
from email.parser import HeaderParser
from functools import cached_property
from importlib.metadata import Distribution, PackageNotFoundError, distribution, distributions
from pathlib import Path

import pip
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support import ROOT

PLATFORM, SERVER = "refund-credit-ledger", "refund-credit-ledger-server"
PROJECTS = {PLATFORM: ROOT, SERVER: ROOT / "distributions" / "server"}
"""The folder that each distribution is built in."""

SECONDS = 120
RUNNER = Path(pip.__file__).with_name("__pip-runner__.py")
"""The program by which pip works in an environment that has no pip."""


@dataclass(frozen=True)
class Wheel:
    """A built wheel."""

    path: Path

    def names(self) -> set[str]:
        """The files in it."""
        return set(self.contents)

    @cached_property
    def contents(self) -> Mapping[str, bytes]:
        """The bytes of each file by its name."""
        with zipfile.ZipFile(self.path) as archive:
            return {name: archive.read(name) for name in archive.namelist() if not name.endswith("/")}

    def read(self, name: str) -> bytes:
        """The bytes of one file. Raises KeyError for a name that it does not have."""
        return self.contents[name]

    def metadata(self) -> Message:
        """What its METADATA states."""
        (name,) = (name for name in self.names() if name.endswith(".dist-info/METADATA"))
        return HeaderParser().parsestr(self.read(name).decode())

    def requirements(self) -> list[str]:
        """Its Requires-Dist lines."""
        return self.metadata().get_all("Requires-Dist") or []


def build(distribution_name: str, folder: Path) -> Wheel:
    """The wheel of a distribution, built into `folder` without network. Raises CalledProcessError."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=PROJECTS[distribution_name], check=True, capture_output=True, timeout=SECONDS)
    (path,) = folder.glob(f"{distribution_name.replace('-', '_')}-*.whl")
    return Wheel(path)


def required(wheels: Mapping[str, Wheel], requirements: Iterable[str]) -> set[str]:
    """The installed distributions that requirements such as `refund-credit-ledger[cli]` need, through any number of
    steps; the wheels themselves are left out. Raises PackageNotFoundError for one that is not installed."""
    waiting = [Requirement(line) for line in requirements]
    seen: set[tuple[str, str]] = set()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        for extra in {"", *requirement.extras}:
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            lines = wheels[name].requirements() if name in wheels else distribution(name).requires or []
            needs = [Requirement(line) for line in lines]
            waiting += [need for need in needs if need.marker is None or need.marker.evaluate({"extra": extra})]
    return {name for name, _ in seen} - wheels.keys()


def top_level(name: str) -> Iterator[Path]:
    """What a distribution has at the top of its site-packages folder: packages, modules, libraries and metadata."""
    return _top_level(distribution(name))


def _top_level(installed: Distribution) -> Iterator[Path]:
    if installed.files is None:
        raise PackageNotFoundError(installed.name)
    for part in {file.parts[0] for file in installed.files} - {"..", "__pycache__"}:
        yield Path(str(installed.locate_file(part)))


@dataclass(frozen=True)
class Environment:
    """A virtual environment with wheels and what they require."""

    folder: Path

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"

    @property
    def site_packages(self) -> Path:
        """Where its packages are."""
        (folder,) = (self.folder / "lib").glob("python*/site-packages")
        return folder

    def run(
        self, *arguments: str, cwd: Path, code: int = 0, variables: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command of the environment's `bin` and check its exit code. No variable of the tests reaches it."""
        done = subprocess.run(
            [str(self.folder / "bin" / arguments[0]), *arguments[1:]],
            cwd=cwd,
            env=environment_variables(cwd, variables),
            check=False,
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
        assert done.returncode == code, (arguments, done.returncode, done.stdout[-2000:], done.stderr[-2000:])
        return done


def environment_variables(home: Path, variables: Mapping[str, str] | None = None) -> dict[str, str]:
    """The variables of a process in an environment of its own: a home, a language and `variables`."""
    return {"HOME": str(home), "LANG": "C.UTF-8", "PATH": "/usr/bin:/bin", "COLUMNS": "200", **(variables or {})}


def make_environment(folder: Path, wheels: Mapping[str, Wheel], *requirements: str) -> Environment:
    """An environment in `folder` with the wheels that `requirements` name, their extras, and what they need."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True, timeout=SECONDS)
    environment = Environment(folder)
    chosen = _closure_of_wheels(wheels, requirements)
    # What `pip --python` runs in the environment, without the pip that starts it.
    command = [str(environment.python), str(RUNNER), "install", "--quiet", "--no-compile"]
    command += ["--no-deps", "--no-index", "--disable-pip-version-check", *(str(wheels[name].path) for name in chosen)]
    subprocess.run(command, check=True, timeout=SECONDS, capture_output=True)
    _link_required(environment, wheels, requirements)
    return environment


def make_environment_like(
    folder: Path, other: Environment, wheels: Mapping[str, Wheel], *requirements: str
) -> Environment:
    """An environment in `folder` with the wheels of `other`, linked instead of installed again, and with what
    `requirements` need."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True, timeout=SECONDS)
    environment = Environment(folder)
    for name in _closure_of_wheels(wheels, requirements):
        installed = next(iter(distributions(name=name, path=[str(other.site_packages)])))
        for file in installed.files or ():
            source = Path(str(installed.locate_file(file))).resolve()
            if source.parent == other.folder.resolve() / "bin":
                script = environment.folder / "bin" / source.name
                script.write_text(source.read_text("utf-8").replace(str(other.folder), str(folder)), "utf-8")
                script.chmod(0o755)
        for part in _top_level(installed):
            (environment.site_packages / part.name).symlink_to(part)
    _link_required(environment, wheels, requirements)
    return environment


def _link_required(environment: Environment, wheels: Mapping[str, Wheel], requirements: Iterable[str]) -> None:
    for name in required(wheels, requirements):
        for source in top_level(name):
            link = environment.site_packages / source.name
            if source.exists() and not link.exists():
                link.symlink_to(source)


def _closure_of_wheels(wheels: Mapping[str, Wheel], requirements: Iterable[str]) -> list[str]:
    """The wheels that are named, and those that they require."""
    names = {canonicalize_name(Requirement(line).name) for line in requirements}
    for name in [*names]:
        names |= {canonicalize_name(Requirement(line).name) for line in wheels[name].requirements()} & wheels.keys()
    return sorted(names)
