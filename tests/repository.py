"""The files of this checkout, for tests that look at the house and not at what it does."""

import pathlib
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent


def source_files() -> list[str]:
    """Files that git tracks or would track, relative to the root; skips where git knows nothing."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if listing.returncode:
        pytest.skip("not a git checkout: " + listing.stderr.strip())
    return sorted(name for name in set(listing.stdout.splitlines()) if (ROOT / name).is_file())


def find_python(version: str) -> str:
    """The interpreter that the Makefile would take for this version; skips where there is none."""
    found = subprocess.run([ROOT / ".ci/find-python", version], capture_output=True, text=True)
    if found.returncode:
        pytest.skip(f"there is no Python {version} on this machine")
    return found.stdout.strip()
