"""Check this machine, and say which command mends what is missing.

Example:
  merino-edge doctor
  merino-edge doctor --json

Works on both machines and changes nothing. Exit code 1 if a check fails; warnings are no failure.
"""

import argparse
import importlib.util
import sys
from typing import Any, Dict

from merino_edge import __version__
from merino_edge.cli import options
from merino_edge.cli.output import print_json
from merino_edge.errors import MissingDependencyError
from merino_edge.formats.jsonio import encode
from merino_edge.formats.manifest import SCHEMA

ENGINE_PACKAGES = ("tensorrt", "tensorrt_rtx")
MARKS = {"ok": "ok   ", "warn": "warn ", "fail": "FAIL "}


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    options.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Examine, print, and fail if a check does."""
    try:
        from merino_edge.runtime import doctor
    except MissingDependencyError:
        raise
    except ImportError as error:  # numpy: without it not even the doctor comes
        raise MissingDependencyError(
            error.name or "numpy",
            "the whole device side",
            "pip install numpy (1.19.5 on Python 3.6)",
        )
    facts = doctor.observe()
    checks = doctor.examine(facts)
    failed = any(check.status == "fail" for check in checks)
    if args.json:
        print_json(_document(facts, checks, not failed))
        return int(failed)
    for check in checks:
        sys.stdout.write("{}{:<14}{}\n".format(MARKS[check.status], check.name, check.found))
        if check.status != "ok":
            sys.stdout.write("     {:<14}{}\n".format("", check.why))
        if check.mend:
            sys.stdout.write("     {:<14}-> {}\n".format("", check.mend))
    return int(failed)


def _document(facts: Any, checks: Any, ok: bool) -> Dict[str, Any]:
    """What a script, or a workstation that is about to send a bundle, asks of this machine."""
    return {
        "ok": ok,
        "merino_edge": __version__,
        "bundle_schema": SCHEMA,
        "engines": [name for name in ENGINE_PACKAGES if importlib.util.find_spec(name)],
        "device": encode(facts.device),
        "checks": [encode(check) for check in checks],
    }
