"""Memory in a long life: 200,000 generated tokens, of the C library and of the server on a socket.

The one idea: what a process needs it takes at its start, so that resident memory behind the warm-up
is a flat line, whatever comes in. How flat is told by ``slope``; that file descriptors do not grow
is counted. The C program runs the library as firmware links it; the server is ``merino-edge serve
BUNDLE --socket PATH`` as it is installed, asked by several clients at a time, some of them rude.

Example:
  python benchmarks/soak/soak.py bundle/
  python benchmarks/soak/soak.py bundle/ --tokens 2000000 -o long.json
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path += [str(HERE.parent / "common"), str(HERE), str(ROOT)]

from reports import Provenance, new_parser, provenance, results_folder, run_script  # noqa: E402
from slope import Growth, Sample, growth  # noqa: E402
from socket_life import Life, live, look  # noqa: E402

import native_build  # noqa: E402
from merino_edge.cli.options import positive_int  # noqa: E402
from merino_edge.cli.output import Progress, table  # noqa: E402
from merino_edge.formats.bundle import Bundle  # noqa: E402

SCHEMA = "merino-edge.soak/1"
N_CLIENTS, N_SESSIONS, N_SAMPLES, SEED = 3, 2, 1000, 8


class Lived(NamedTuple):
    """One life.

    Attributes:
        what: "library" or "socket".
        n_tokens: Generated.
        seconds: How long it took.
        counts: What happened, by name.
        growth: Of resident memory.
        samples: Every tenth, as [tokens, resident bytes, descriptors].
    """

    what: str
    n_tokens: int
    seconds: float
    counts: dict[str, int]
    growth: Growth
    samples: list[list[int]]


class Report(NamedTuple):
    """All lives, and where they were lived."""

    provenance: Provenance
    command: str
    model: str
    file_bytes: int
    context_len: int
    lives: list[Lived]


def soak_library(bundle: Bundle, n_tokens: int) -> Lived:
    """The C program."""
    with tempfile.TemporaryDirectory() as folder:
        program = compile_soak(folder)
        every = max(1, n_tokens // N_SAMPLES)
        words = [program, bundle.file("native"), n_tokens, every, SEED]
        begun = time.monotonic()
        done = subprocess.run(list(map(str, words)), check=True, stdout=subprocess.PIPE, text=True)
    *lines, last = done.stdout.splitlines()
    samples = [Sample(*map(int, line.split())) for line in lines]
    names, numbers = last.split()[::2], last.split()[1::2]
    counts = dict(zip(names, map(int, numbers), strict=True))
    return lived("library", begun, counts, samples)


def compile_soak(folder: str) -> str:
    """soak_library with the library, as firmware links it."""
    archive, program = os.path.join(folder, "libmerino_edge.a"), os.path.join(folder, "soak")
    native_build.compile_archive(archive)
    include = "-I" + os.path.dirname(native_build.HEADER)
    source = str(HERE / "soak_library.c")
    options = ["-std=c99", "-O2", "-Wall", "-Wextra", "-Werror", "-pthread", include]
    subprocess.run(["cc", *options, source, archive, "-lm", "-o", program], check=True)
    return program


def soak_socket(path: str, n_tokens: int) -> Lived:
    """The server, as a process, and clients of it."""
    with served(path) as (process, socket_path):
        life = Life(socket_path, process.pid, n_tokens, max(1, n_tokens // N_SAMPLES))
        begun, idle = time.monotonic(), look(process.pid, 0)
        live(life, N_CLIENTS, SEED)
        time.sleep(1.0)  # the last connections are let go
        after = look(process.pid, life.samples[-1].n_tokens)
    counts = dict(sorted(life.counts.items()))
    counts["descriptors without a client, before"] = idle.n_descriptors
    counts["descriptors without a client, after"] = after.n_descriptors
    return lived("socket", begun, counts, life.samples)


@contextlib.contextmanager
def served(path: str, *options: str) -> Iterator[tuple[subprocess.Popen, str]]:
    """``merino-edge serve`` while the block runs; it must end well when asked to."""
    with tempfile.TemporaryDirectory() as folder:
        socket_path = os.path.join(folder, "socket")
        words = [sys.executable, "-m", "merino_edge", "serve", path, "--socket", socket_path, "-q"]
        words += options or ["--sessions", str(N_SESSIONS)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(words, env=environment)
        try:
            wait_for(socket_path, process)
            yield process, socket_path
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
        finally:
            process.kill()
            process.wait()


def wait_for(socket_path: str, process: subprocess.Popen) -> None:
    """Until somebody listens."""
    for _ in range(600):
        if os.path.exists(socket_path):
            return
        assert process.poll() is None, "the server ended"
        time.sleep(0.1)
    raise TimeoutError("no server within a minute")


def lived(what: str, begun: float, counts: dict[str, int], samples: list[Sample]) -> Lived:
    """A life that is over."""
    seconds = round(time.monotonic() - begun, 1)
    kept = [list(each) for each in samples[::10]]
    return Lived(what, samples[-1].n_tokens, seconds, counts, growth(samples), kept)


def make(options: argparse.Namespace) -> Report:
    """Live both."""
    progress, bundle = Progress("soak", quiet=False), Bundle.open(options.bundle)
    here = provenance(("numpy", "tokenizers"))
    lives = [soak_library(bundle, options.tokens)]
    progress.done(json.dumps(lives[-1].growth._asdict()))
    lives.append(soak_socket(options.bundle, options.tokens))
    progress.done(json.dumps(lives[-1].growth._asdict()))
    return Report(
        provenance=here,
        command=f"soak.py BUNDLE --tokens {options.tokens}",
        model=bundle.manifest.name,
        file_bytes=os.path.getsize(bundle.file("native")),
        context_len=bundle.manifest.native_cache.context_len,
        lives=lives,
    )


def markdown(report: Report) -> str:
    """The table."""
    header = [
        "",
        "tokens",
        "s",
        "resident, MB",
        "slope, bytes a 1000 tokens",
        "95 %",
        "descriptors",
    ]
    rows = []
    for each in report.lives:
        g = each.growth
        rows.append(
            [
                each.what,
                f"{each.n_tokens:,}",
                f"{each.seconds:.0f}",
                f"{g.first_bytes / 1e6:.2f} to {g.last_bytes / 1e6:.2f}",
                f"{g.bytes_per_1000_tokens:.1f}",
                f"{g.low:.1f} to {g.high:.1f}",
                ", ".join(map(str, g.descriptors)),
            ]
        )
    return table(header, rows)


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = new_parser(__doc__, results_folder(__file__) / "soak.json")
    made.add_argument("bundle", help="for the native decoder, with a tokenizer; a small one")
    made.add_argument("--tokens", type=positive_int, default=200_000, help="of each life (200000)")
    return made


if __name__ == "__main__":
    run_script(parser(), SCHEMA, make, markdown)
