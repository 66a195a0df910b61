"""How long a token of each contestant takes, by the native decoder, and of what size its file is.

The one idea: times follow from shapes, so fresh weights do; and since a machine drifts, all
contestants are timed in turns, several rounds of ``merino-edge bench``, and each keeps the median
of its rounds. Beside a table of scores it tells what a score costs where the model will run.

Example:
  python benchmarks/quality/entrant_times.py --work work/
"""

import argparse
import statistics
import sys
from pathlib import Path
from typing import Any, NamedTuple

sys.path.append(str(Path(__file__).resolve().parents[1] / "common"))  # where ``reports`` lies

from contest import command
from entrants import SCHEMA as CONTESTANTS_SCHEMA
from entrants import Contestant, Contestants
from reports import Provenance, headline, new_parser, provenance, results_folder, run_script

from merino_edge.cli.options import positive_int
from merino_edge.cli.output import Progress, human_bytes, table
from merino_edge.formats import jsonio
from merino_edge.formats.architecture import write_architecture

SCHEMA = "merino-edge.contestant-times/1"


class Times(NamedTuple):
    """One contestant.

    Attributes:
        contestant: Its name.
        model_bytes: Of the model's file.
        itl_ms: Median time of a token, of each round.
        prefill_ms: Of the whole prompt, likewise.
    """

    contestant: str
    model_bytes: int
    itl_ms: list[float]
    prefill_ms: list[float]


class Report(NamedTuple):
    """All of them.

    Attributes:
        provenance: Date, machine, versions.
        precision: Of the weights.
        threads: Of the decoder.
        n_tokens: Of a prompt, and of what is generated.
        times: In the order of the contestants.
    """

    provenance: Provenance
    precision: str
    threads: int
    n_tokens: int
    times: list[Times]


def main() -> None:
    """Build, time in turns, save, print."""
    parser = new_parser(__doc__, results_folder(__file__) / "entrant_times.json")
    who = str(results_folder(__file__) / "contestants.json")
    parser.add_argument("--contestants", default=who, metavar="FILE")
    parser.add_argument("--work", required=True, metavar="DIR", help="where bundles are made")
    parser.add_argument("--precision", default="int8", help="(int8)")
    parser.add_argument("--threads", type=positive_int, default=1, metavar="N", help="(1)")
    parser.add_argument("--tokens", type=positive_int, default=128, metavar="N", help="(128)")
    parser.add_argument("--rounds", type=positive_int, default=5, metavar="N", help="(5)")
    run_script(parser, SCHEMA, make, markdown)


def make(options: argparse.Namespace) -> Report:
    """The report for the options of the command line."""
    begun = provenance(("numpy",))
    who: Contestants = jsonio.read_record(options.contestants, CONTESTANTS_SCHEMA, Contestants)
    progress = Progress("contestants")
    bundles = [bundle_of(c, options) for c in who.contestants]
    rounds = []
    for number in range(1, options.rounds + 1):
        progress.update(f"round {number} of {options.rounds}")
        rounds.append([bench(bundle, options) for bundle in bundles])
    times = []
    for place, c in enumerate(who.contestants):
        prompts, tokens = zip(*(each[place] for each in rounds), strict=True)
        itl_ms = [record["itl_ms"]["p50"] for record in tokens]
        prefill_ms = [record["ttft_ms"]["p50"] for record in prompts]
        times.append(Times(c.name, tokens[0]["model_size"], itl_ms, prefill_ms))
    return Report(begun, options.precision, options.threads, options.tokens, times)


def bundle_of(contestant: Contestant, options: argparse.Namespace) -> str:
    """A bundle of its shape, made anew."""
    folder = Path(options.work)
    folder.mkdir(parents=True, exist_ok=True)
    name = contestant.name.replace(" ", "-").replace(",", "")
    architecture, bundle = folder / f"{name}.json", str(folder / f"{name}-{options.precision}")
    write_architecture(str(architecture), contestant.architecture)
    words = ["build", "--target", "host", str(architecture), "--random-weights", "--force"]
    command(*words, "--precision", options.precision, "-o", bundle)
    return bundle


def bench(bundle: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """The records of a prompt and of what is generated."""
    n, threads = str(options.tokens), str(options.threads)
    sizes = ("-p", n, "-n", n, "-r", "3", "--threads", threads)
    found: list[dict[str, Any]] = command("bench", bundle, "--backend", "native", *sizes)
    return found


def markdown(report: Report) -> str:
    """One row a contestant."""
    first = report.times[0]
    fastest = statistics.median(first.itl_ms)
    threads = f"{report.threads} thread{'' if report.threads == 1 else 's'}"
    rows = [
        (
            each.contestant,
            human_bytes(each.model_bytes),
            _spread(each.itl_ms),
            f"{statistics.median(each.itl_ms) / fastest:.2f}",
            _spread(each.prefill_ms),
        )
        for each in report.times
    ]
    head = ("", "file", "a token, ms", f"x {first.contestant}", f"prompt of {report.n_tokens}, ms")
    title = f"native decoder, {report.precision}, {threads}; {headline(report.provenance)}\n\n"
    return title + table(head, rows)


def _spread(values: list[float]) -> str:
    return f"{statistics.median(values):.3f} ({min(values):.3f} to {max(values):.3f})"


if __name__ == "__main__":
    main()
