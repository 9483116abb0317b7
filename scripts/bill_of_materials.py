"""What a release is made of: exact versions to install, and a bill of materials (CycloneDX 1.5).

``python scripts/bill_of_materials.py`` writes ``requirements.lock`` and ``sbom.json`` from what is
installed in the environment that runs it: the packages that hyq_tvm needs, and all that they need.
``--check`` writes nothing and fails where the lock file names other versions.
"""

from __future__ import annotations

import argparse
import json
import sys
import tomllib
from collections.abc import Iterable, Mapping
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent


def closure(wanted: Iterable[str]) -> dict[str, Distribution]:
    """Installed packages that the requirements ask for, directly or through others, by name.

    Raises ``SystemExit`` naming a package that is not installed.
    """
    found: dict[str, Distribution] = {}
    waiting = [(Requirement(text), frozenset[str]()) for text in wanted]
    while waiting:
        requirement, extras = waiting.pop()
        if requirement.marker and not _applies(requirement, extras):
            continue
        name = canonicalize_name(requirement.name)
        seen = name in found
        try:
            found[name] = distribution(requirement.name)
        except PackageNotFoundError:
            sys.exit(f"{requirement} is not installed: install hyq_tvm first")
        if not seen or requirement.extras:
            inner = found[name].requires or []
            waiting += [(Requirement(text), frozenset(requirement.extras)) for text in inner]
    return dict(sorted(found.items()))


def _applies(requirement: Requirement, extras: frozenset[str]) -> bool:
    marker = requirement.marker
    return marker is None or any(marker.evaluate({"extra": extra}) for extra in extras or {""})


def lock(packages: Mapping[str, Distribution]) -> str:
    """Lines ``name==version``; a build's local suffix, such as +cpu, is anybody's own."""
    lines = (f"{name}=={Version(found.version).public}\n" for name, found in packages.items())
    return "".join(lines)


def bill(version: str, packages: Mapping[str, Distribution]) -> dict[str, Any]:
    """The bill of materials as plain data."""
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "component": {"type": "library", "name": "hyq-tvm", "version": version},
        },
        "components": [_component(name, found) for name, found in packages.items()],
    }


def _component(name: str, found: Distribution) -> dict[str, Any]:
    version = Version(found.version).public
    metadata = found.metadata
    licence = metadata.get("License-Expression") or _short(metadata.get("License"))
    classifiers = metadata.get_all("Classifier") or []
    named = [c.split(" :: ")[-1] for c in classifiers if c.startswith("License ::")]
    return {
        "type": "library",
        "name": name,
        "version": version,
        "purl": f"pkg:pypi/{name}@{version}",
        "licenses": [{"license": {"name": licence or ", ".join(named) or "unknown"}}],
    }


def _short(text: str | None) -> str:
    """Some packages put the whole text of their licence where its name belongs."""
    return text if text and "\n" not in text and len(text) < 80 else ""


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--extra", action="append", default=[], help="include this extra")
    parser.add_argument("--lock", type=Path, default=ROOT / "requirements.lock")
    parser.add_argument("--bom", type=Path, default=ROOT / "sbom.json")
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = list(project["dependencies"])
    for extra in options.extra:
        wanted += project["optional-dependencies"][extra]
    packages = closure(wanted)
    if options.check:
        sys.exit(options.lock.read_text(encoding="utf-8") != lock(packages))
    options.lock.write_text(lock(packages), encoding="utf-8")
    text = json.dumps(bill(_version(), packages), indent=1)
    options.bom.write_text(text + "\n", encoding="utf-8")
    print(f"{options.lock}, {options.bom}: {len(packages)} packages")


def _version() -> str:
    for line in (ROOT / "hyq_tvm" / "__init__.py").read_text(encoding="utf-8").splitlines():
        if line.startswith("__version__"):
            return line.split('"')[1]
    raise ValueError("hyq_tvm/__init__.py names no version")


if __name__ == "__main__":
    main()
