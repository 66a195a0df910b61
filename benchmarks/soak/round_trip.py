"""What the socket adds to a token: the same text in one process, and from a server, in turns.

The one idea: a pair is one answer of a session in this process and the same answer of a server on a
socket, one right after the other, so that what slows the machine slows both. A token's time is the
time from the first token to the last over the tokens between; for the socket as a client sees it,
who reads each line and its JSON. The difference of a pair is what the socket, the scheduler, the
JSON and the client add. ``added_ms`` is its median over the pairs.

Example:
  python benchmarks/soak/round_trip.py tiny/ larger/ --threads 1
"""

import argparse
import json
import os
import socket
import statistics
import sys
import time
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
sys.path += [str(HERE.parent / "common"), str(HERE)]

from reports import Provenance, new_parser, provenance, results_folder, run_script  # noqa: E402
from soak import served  # noqa: E402

from merino_edge.cli.options import positive_int  # noqa: E402
from merino_edge.cli.output import Progress, table  # noqa: E402
from merino_edge.runtime import GenerationConfig, GenerationSession, load  # noqa: E402

SCHEMA = "merino-edge.socket-round-trip/1"
PROMPT = "The sheep"
LIMIT_MS = 0.3


class Compared(NamedTuple):
    """One bundle. Times of a token in ms; lists hold one number a pair.

    Attributes:
        model: Its name.
        file_bytes: Of its native file.
        threads: Of the decoder, on both sides.
        n_tokens: Of each answer.
        inside_ms: In one process.
        socket_ms: Over the socket.
        added_ms: Median of the differences.
        added_low_ms: Their first quartile.
        added_high_ms: Their third.
    """

    model: str
    file_bytes: int
    threads: int
    n_tokens: int
    inside_ms: list[float]
    socket_ms: list[float]
    added_ms: float
    added_low_ms: float
    added_high_ms: float


class Report(NamedTuple):
    """All bundles, and where."""

    provenance: Provenance
    command: str
    limit_ms: float
    bundles: list[Compared]


def inside(session: GenerationSession, n_tokens: int) -> float:
    """A token's time in this process, text included."""
    config = GenerationConfig(max_new_tokens=n_tokens, eos_token_ids=())
    generation = session.generate(PROMPT, config)
    next(generation)
    begun = time.perf_counter()
    n = sum(1 for _ in generation)
    return 1e3 * (time.perf_counter() - begun) / n


def over_socket(path: str, n_tokens: int) -> float:
    """The same over a connection of its own."""
    asked = {"op": "generate", "id": 1, "prompt": PROMPT, "max_new_tokens": n_tokens}
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(path)
        with sock.makefile("rb") as lines:
            lines.readline()
            sock.sendall(json.dumps({**asked, "eos_token_ids": []}).encode() + b"\n")
            n, begun, ended = 0, 0.0, 0.0
            for line in lines:
                event = json.loads(line)
                if event["event"] == "done":
                    break
                if event.get("ids"):
                    ended = time.perf_counter()
                    begun, n = begun or ended, n + 1
    return 1e3 * (ended - begun) / (n - 1)


def compare(path: str, threads: int, n_tokens: int, n_pairs: int) -> Compared:
    """Pairs of one bundle; the first is thrown away."""
    options = ("--sessions", "1", "--threads", str(threads))
    with load(path, "native", threads) as session, served(path, *options) as (_, socket_path):
        n_tokens = min(n_tokens, session.context_len - 8)
        pairs = [
            (inside(session, n_tokens), over_socket(socket_path, n_tokens))
            for _ in range(n_pairs + 1)
        ][1:]
        name = session.manifest.name
    added = [over - alone for alone, over in pairs]
    low, middle, high = statistics.quantiles(added, n=4)
    return Compared(
        model=name,
        file_bytes=os.path.getsize(os.path.join(path, "model.merino")),
        threads=threads,
        n_tokens=n_tokens,
        inside_ms=[round(alone, 4) for alone, _ in pairs],
        socket_ms=[round(over, 4) for _, over in pairs],
        added_ms=round(middle, 4),
        added_low_ms=round(low, 4),
        added_high_ms=round(high, 4),
    )


def make(options: argparse.Namespace) -> Report:
    """Every bundle, with every number of threads."""
    progress, here = Progress("round trip", quiet=False), provenance(("numpy", "tokenizers"))
    found = []
    for path in options.bundles:
        for threads in options.threads:
            found.append(compare(path, threads, options.tokens, options.pairs))
            progress.done(f"{found[-1].model}: {found[-1].added_ms} ms added")
    words = f"--threads {' '.join(map(str, options.threads))}"
    command = f"round_trip.py BUNDLE... {words} --tokens {options.tokens} --pairs {options.pairs}"
    return Report(here, command, LIMIT_MS, found)


def markdown(report: Report) -> str:
    """The table."""
    header = [
        "",
        "threads",
        "tokens",
        "in one process, ms",
        "over the socket, ms",
        "added, ms",
        "quartiles",
    ]
    rows = [
        [
            f"{each.model}, {each.file_bytes / 1e6:.2f} MB",
            str(each.threads),
            str(each.n_tokens),
            f"{statistics.median(each.inside_ms):.3f}",
            f"{statistics.median(each.socket_ms):.3f}",
            f"{each.added_ms:.3f}",
            f"{each.added_low_ms:.3f} to {each.added_high_ms:.3f}",
        ]
        for each in report.bundles
    ]
    return table(header, rows)


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = new_parser(__doc__, results_folder(__file__) / "round_trip.json")
    made.add_argument("bundles", nargs="+", help="for the native decoder, with a tokenizer")
    made.add_argument("--tokens", type=positive_int, default=200, help="of an answer (200)")
    made.add_argument("--pairs", type=positive_int, default=20, help="(20)")
    made.add_argument("--threads", type=positive_int, nargs="+", default=[1, 2], help="(1 2)")
    return made


if __name__ == "__main__":
    run_script(parser(), SCHEMA, make, markdown)
