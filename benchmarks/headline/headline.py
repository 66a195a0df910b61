"""MeRino beside the models that people know: size, work, memory and time, through one runtime.

The one idea: a ratio is worth something only if both sides were got in the same way, so every
decoder has fresh weights of its shape, is built by ``merino-edge build``, and is timed by
``merino-edge bench``; all take turns, round by round, since a machine drifts, and the medians of
the rounds are compared. Sizes and FLOPs are counted, times on this machine are measured, times on
a Jetson Nano are a roofline's lower bound and say so, and the size of an engine is what NVIDIA's
own builder makes of the graph.

Bundles and finished rounds stay in WORK: stop it at any time, and call it again. What it does not
know is quality: the weights say nothing.

Example:
  python benchmarks/headline/headline.py --work work/
  python benchmarks/headline/headline.py --work work/ --models merino-64m,gpt2 --forms ort:fp32
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.extend(str(HERE.parent / name) for name in ("common", "quality", "tensorrt"))

from contest import command  # noqa: E402
from decoders_compared import chosen  # noqa: E402
from headline_report import SCHEMA, Report, Size, Times, markdown  # noqa: E402
from reports import new_parser, provenance, results_folder, run_script  # noqa: E402

from merino_edge.cli.options import positive_int  # noqa: E402
from merino_edge.cli.output import Progress  # noqa: E402
from merino_edge.core import counting, targets  # noqa: E402
from merino_edge.core.cost import WorkPoint, price  # noqa: E402
from merino_edge.errors import MissingDependencyError, UsageError  # noqa: E402
from merino_edge.formats.architecture import Architecture, write_architecture  # noqa: E402
from merino_edge.formats.jsonio import write_bytes_atomic  # noqa: E402

FORMS = "native:fp32,native:int8,native:int4,native:int4-all,ort:fp32,ort:int8,ort:int4"
ALONE = ("fp32", "int4-all")  # precisions whose native file does not share its bundle with a graph
CONTEXT_LEN = 512


def main() -> None:
    """Count, build, time in turns, save, print."""
    parser = new_parser(__doc__, results_folder(__file__) / "headline.json")
    add = parser.add_argument
    add("--work", required=True, metavar="DIR", help="bundles and finished rounds")
    add("--models", default="", metavar="NAME,NAME", help="(all)")
    add("--forms", default=FORMS, metavar="BACKEND:PRECISION,...", help=f"({FORMS})")
    add("--threads", type=positive_int, default=2, metavar="N", help="(2)")
    add("--rounds", type=positive_int, default=3, metavar="N", help="(3)")
    add("--prompt", type=positive_int, default=128, metavar="N", help="tokens (128)")
    add("--tokens", type=positive_int, default=64, metavar="N", help="generated (64)")
    add("--no-engines", action="store_true", help="do not build engines")
    run_script(parser, SCHEMA, make, markdown)


def make(options: argparse.Namespace) -> Report:
    """The report for the options of the command line.

    Raises:
        UsageError: There is no such decoder or form.
    """
    models, forms = chosen(options.models), forms_of(options.forms)
    begun = provenance(("numpy", "onnxruntime", "tensorrt-rtx-cu12-bindings"))
    work = Workshop(options)
    sizes = [work.size(name, a) for name, a in models.items()]
    for name, a in models.items():
        for form in forms:
            work.build(name, a, form)
    for number in range(options.rounds):
        for name in models:
            for form in forms:
                work.bench(name, form, number)
    times = [work.times(name, form) for name in models for form in forms]
    return Report(begun, options.threads, options.prompt, options.tokens, sizes, times)


def forms_of(words: str) -> list[tuple[str, str]]:
    """(backend, precision) of each form.

    Raises:
        UsageError: It is not of that kind.
    """
    known = [tuple(form.split(":")) for form in FORMS.split(",")]
    found = [tuple(form.split(":")) for form in words.split(",")]
    for form in found:
        if form not in known:
            raise UsageError(f"there is no form '{':'.join(form)}'.", hint=f"some of {FORMS}.")
    return [(form[0], form[1]) for form in found]


def target_of(form: tuple[str, str]) -> str:
    """Where a bundle for this machine has no native file, or a graph that no form asks for."""
    return "nano-cpu" if form[0] == "native" and form[1] in ALONE else "host"


class Workshop:
    """A folder with bundles and with what was measured of them."""

    def __init__(self, options: argparse.Namespace):
        self._options = options
        self._folder = Path(options.work)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._progress = Progress("headline", plain_every_s=30)

    def size(self, name: str, a: Architecture) -> Size:
        """Counted, predicted and, as to the engine, built."""
        cost = price(a, targets.get("nano"), WorkPoint(self._options.prompt, CONTEXT_LEN))
        assert cost.latency_ms is not None
        assert cost.prefill_ms is not None
        return Size(
            name,
            counting.n_params(a),
            counting.n_params_executed(a),
            counting.prefill_flops(a),
            counting.prefill_flops(a, n_logits=counting.PAPER_SEQ_LEN),
            cost.latency_ms,
            cost.prefill_ms,
            None if self._options.no_engines else self._engine_bytes(name, a),
        )

    def build(self, name: str, a: Architecture, form: tuple[str, str]) -> None:
        """The bundle of a form, unless it is there: two forms of whole numbers share one."""
        bundle = self._bundle(name, form)
        if bundle.exists():
            return
        self._progress.update(f"building {bundle.name}")
        source = self._folder / f"{name}.json"
        write_architecture(str(source), a)
        words = ["build", "--target", target_of(form), str(source), "--random-weights"]
        context = str(min(CONTEXT_LEN, a.max_seq_len))
        command(*words, "--precision", form[1], "--context", context, "-o", str(bundle))

    def bench(self, name: str, form: tuple[str, str], number: int) -> list[dict[str, Any]]:
        """The two records of a round: of a prompt, and of what is generated."""
        backend, precision = form
        file = self._folder / "rounds" / f"{name}-{backend}-{precision}-{number}.json"
        if not file.exists():
            self._progress.update(f"round {number + 1}: {name}, {backend} {precision}")
            options = self._options
            words = ["-p", str(options.prompt), "-n", str(options.tokens), "-r", "3"]
            words += ["--threads", str(options.threads), "--backend", backend]
            found = command("bench", str(self._bundle(name, form)), *words)
            file.parent.mkdir(exist_ok=True)
            write_bytes_atomic(str(file), json.dumps(found).encode())
        records: list[dict[str, Any]] = json.loads(file.read_text())
        return records

    def times(self, name: str, form: tuple[str, str]) -> Times:
        """All rounds of one decoder in one form."""
        rounds = [self.bench(name, form, number) for number in range(self._options.rounds)]
        return Times(
            name,
            *form,
            sum(path.stat().st_size for path in self._files(name, form)),
            max(record["peak_rss_bytes"] for records in rounds for record in records),
            [tokens["itl_ms"]["p50"] for _, tokens in rounds],
            [prompt["ttft_ms"]["p50"] for prompt, _ in rounds],
        )

    def _files(self, name: str, form: tuple[str, str]) -> Iterator[Path]:
        """What a form's backend reads; a bundle of whole numbers holds a second graph as well."""
        native = form[0] == "native"
        for path in self._bundle(name, form).rglob("*"):
            if path.is_file() and (path.suffix in (".onnx", ".safetensors")) != native:
                yield path

    def _bundle(self, name: str, form: tuple[str, str]) -> Path:
        return self._folder / f"{name}-{form[1]}-{target_of(form)}"

    def _engine_bytes(self, name: str, a: Architecture) -> int | None:
        """By TensorRT-RTX, kept in the folder; None where it is not installed."""
        file = self._folder / f"{name}-engine.json"
        if not file.exists():
            self._progress.update(f"building the engine of {name}")
            try:
                found = engine_bytes(a)
            except MissingDependencyError as error:
                self._progress.done(f"no engines: {error}")
                return None
            write_bytes_atomic(str(file), json.dumps(found).encode())
        built: int | None = json.loads(file.read_text())
        return built


def engine_bytes(a: Architecture) -> int | None:
    """Of the graph that a Nano gets, by TensorRT-RTX's builder; None if that refuses it.

    Raises:
        MissingDependencyError: TensorRT-RTX is not installed.
    """
    from decoders import CONTEXT_LEN, export, save
    from engines import build

    from merino_edge.export.recipe import NANO
    from merino_edge.formats.engine_spec import shape_profiles

    with tempfile.TemporaryDirectory(prefix="merino-edge-") as folder:
        path = save(folder, "decoder", export(folder, a))
        built, _ = build(path, shape_profiles(NANO.engine(), NANO.buckets(CONTEXT_LEN)))
    return built.plan_bytes


if __name__ == "__main__":
    main()
