"""Ten thousand changed archives and as many changed manifests: taken or refused, never worse.

The one idea: hypothesis draws the changes (``mutations``), and the first that ends in anything but
"taken" or a MerinoError, takes too long, or writes outside its folder, ends the script with its
traceback and the smallest such change. Of the archives that are taken, some are activated: their
self-test runs in its child process and may fail, but what is active stays.

Example:
  python benchmarks/updates/mutate.py -n 10000
"""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from hypothesis import HealthCheck, Phase, given, seed, settings

HERE = Path(__file__).resolve().parent
sys.path += [str(HERE), str(HERE.parent / "common")]  # where ``reports`` lies
from mutations import Jail, archives, golden_members, joined, manifests  # noqa: E402
from reports import Provenance, new_parser, provenance, results_folder, run_script  # noqa: E402

from merino_edge.cli.options import natural_int, positive_int  # noqa: E402
from merino_edge.cli.output import Progress, table  # noqa: E402
from merino_edge.errors import MerinoError  # noqa: E402
from merino_edge.runtime.updates.selftest import run_self_test  # noqa: E402
from merino_edge.runtime.updates.switch import activate, confirm, rollback  # noqa: E402

SCHEMA = "merino-edge.mutations/1"


class Tried(NamedTuple):
    """How one kind fared.

    Attributes:
        kind: "archives", "manifests" or "self-tests".
        n: How many.
        accepted: How many were taken (self-tests: passed).
        refused: Name of the error -> how many.
    """

    kind: str
    n: int
    accepted: int
    refused: dict[str, int]


class Report(NamedTuple):
    """All kinds; that it was written says that there was no fault."""

    provenance: Provenance
    seed: int
    tried: list[Tried]


def each(strategy: Any, n: int, number: int, act: Any) -> None:
    """Draw ``n`` examples and act on each."""

    @seed(number)
    @settings(
        max_examples=n,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def run(data: bytes) -> None:
        act(data)

    run()


def make(options: argparse.Namespace) -> Report:
    """All three kinds."""
    about, progress = provenance(("hypothesis",)), Progress("mutate")
    taken: list[bytes] = []
    tried = []
    with tempfile.TemporaryDirectory(dir=options.folder) as temporary:
        for kind, strategy in (("archives", archives()), ("manifests", manifests())):
            jail = Jail(Path(temporary) / kind)
            n_done = [0]

            def act(
                data: bytes, jail: Jail = jail, kind: str = kind, n: list[int] = n_done
            ) -> None:
                n[0] += 1
                was_taken = getattr(jail, "try_" + kind[:-1])(data)
                if was_taken and kind == "archives" and len(taken) < 20 * options.self_tests:
                    taken.append(data)
                progress.update(f"{n[0]} {kind}")

            each(strategy, options.n, options.seed, act)
            tried.append(Tried(kind, n_done[0], jail.accepted, jail.refused))
        tried.append(_self_tests(taken[:: max(1, len(taken) // options.self_tests)], temporary))
    return Report(about, options.seed, tried)


def _self_tests(taken: list[bytes], folder: str) -> Tried:
    """Activate archives that were taken, on a device that runs the right one."""
    jail = Jail(Path(folder) / "self-tests")
    store = jail.store
    jail.try_archive(joined(golden_members()), keep=True)
    activate(store, lambda path: None)
    confirm(store)
    passed, refused = 0, {}
    for data in taken:
        if not jail.try_archive(data, keep=True):
            raise AssertionError("it was taken before, and now it is not")
        try:
            activate(store, lambda path: run_self_test(path, "reference", 1, 60.0, True), "b")
            rollback(store)
            passed += 1
        except MerinoError as error:
            name = type(error).__name__
            refused[name] = refused.get(name, 0) + 1
        assert store.read_state().active == "a"
        assert store.problem("a") is None
    return Tried("self-tests", len(taken), passed, refused)


def markdown(report: Report) -> str:
    """A row for each kind."""
    rows = [
        (
            each.kind,
            str(each.n),
            str(each.accepted),
            ", ".join(f"{n} {name}" for name, n in sorted(each.refused.items())),
        )
        for each in report.tried
    ]
    return table(("what", "tried", "accepted", "refused"), rows)


def _main() -> None:
    parser = new_parser(__doc__, results_folder(__file__) / "mutations.json")
    parser.add_argument("-n", type=positive_int, default=10_000, help="of each kind (10000)")
    parser.add_argument("--self-tests", type=positive_int, default=100, help="at most (100)")
    parser.add_argument("--seed", type=natural_int, default=0, help="of the changes (0)")
    parser.add_argument("--folder", help="where to work (the system's temporary folder)")
    run_script(parser, SCHEMA, make, markdown)


if __name__ == "__main__":
    _main()
