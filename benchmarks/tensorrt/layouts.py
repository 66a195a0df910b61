"""How shall the cache lie? Five layouts of the same graph, in ONNX Runtime and in TensorRT-RTX.

The one idea: the layouts differ in two Transpose nodes a layer and in the length of the past, and
in nothing else (variants.py); that all give the same logits is checked before anything is timed.

*ONNX Runtime* times a token at several positions, on the CPU and in float32: on x86 it computes
half precision through casts, and would time these. *TensorRT-RTX* parses and builds each in half
precision, which needs no GPU; running needs one, so what it adds are bytes, not milliseconds. What
a step reads on a Nano follows from counts, and its milliseconds are predicted.

Times want a quiet machine: the file says how busy others were. The README takes its tables from
the file: run benchmarks/pages.py afterwards.

Example:
  python benchmarks/tensorrt/layouts.py
"""

import argparse
import tempfile
from collections.abc import Sequence

import onnx
from decode_times import LayoutDecoder, check_agreement, measure
from decoders import CONTEXT_LEN, MERINO, NAMES, SEED, SMOLLM2, architecture_of, export, save
from engines import build, made_with
from layouts_report import SCHEMA, Engine, Model, Report, Setting, StepTime, markdown
from reports import new_parser, results_folder, run_script
from variants import LAYOUTS

from merino_edge.cli.options import positive_int
from merino_edge.cli.output import Progress
from merino_edge.core import counting, targets
from merino_edge.export.recipe import NANO
from merino_edge.formats.architecture import Architecture
from merino_edge.formats.engine_spec import shape_profiles
from merino_edge.formats.measurement import Conditions, summarize
from merino_edge.runtime.conditions import conditions_between, snapshot
from merino_edge.runtime.device_info import device_info

POSITIONS = [16, 100, 200, 400]
BUCKETS = NANO.buckets(CONTEXT_LEN)


def main() -> None:
    """Measure, save, print."""
    parser = new_parser(__doc__, results_folder(__file__) / "layouts.json")
    parser.add_argument("--decoders", nargs="+", default=[MERINO, SMOLLM2], choices=NAMES)
    parser.add_argument("--rounds", type=positive_int, default=21, help="(21)")
    parser.add_argument("--steps", type=positive_int, default=5, help="tokens of a round (5)")
    run_script(parser, SCHEMA, make_report, markdown)


def make_report(options: argparse.Namespace) -> Report:
    """Time all decoders first, while the machine is quiet, then build their engines.

    Raises:
        ParityError: A layout computes something else.
        MissingDependencyError: TensorRT-RTX is not installed.
    """
    found = made_with(("numpy", "onnx", "onnxruntime", "torch"))
    progress = Progress("layouts")
    setting = _setting(options)
    timed = {name: _time(name, setting, progress) for name in options.decoders}
    models = [_model(name, *timed[name], _engines(name, progress)) for name in options.decoders]
    return Report(found, setting, models)


def _setting(options: argparse.Namespace) -> Setting:
    bandwidth = targets.get("nano").peak_bandwidth_bytes_per_s
    assert bandwidth is not None  # it is the target whose bandwidth somebody measured
    settings = (options.rounds, options.steps, SEED, bandwidth)
    return Setting(CONTEXT_LEN, BUCKETS, POSITIONS, *settings)


def _time(
    name: str, setting: Setting, progress: Progress
) -> tuple[float, Conditions, list[StepTime]]:
    """The largest difference of logits, whether the machine was quiet, and the times."""
    with tempfile.TemporaryDirectory(prefix="layouts-") as folder:
        progress.update(f"{name}: writing the graph in float32")
        model = export(folder, architecture_of(name), precision="fp32")
        decoders = _open(folder, model)
        difference, times, before = 0.0, [], snapshot()
        for position in setting.positions:
            progress.update(f"{name}: position {position}")
            for decoder in decoders:
                decoder.prepare(position)
            difference = max(difference, check_agreement(decoders, position))
            times += _at(decoders, position, setting)
        return difference, conditions_between(before, snapshot(), device_info().n_cores), times


def _open(folder: str, model: onnx.ModelProto) -> list[LayoutDecoder]:
    decoders = []
    for i, layout in enumerate(LAYOUTS):
        path = save(folder, f"layout-{i}", layout.apply(model, CONTEXT_LEN))
        decoders.append(LayoutDecoder(path, layout, BUCKETS))
    return decoders


def _at(decoders: Sequence[LayoutDecoder], position: int, setting: Setting) -> list[StepTime]:
    samples = measure(decoders, position, setting.rounds, setting.steps)
    times = []
    for decoder, ms in zip(decoders, samples, strict=True):
        past_len = decoder.layout.past_len(position, setting.buckets)
        rounded = [round(sample, 4) for sample in ms]
        summary = summarize(rounded, "ms")
        times.append(StepTime(decoder.layout.name, position, past_len, rounded, summary))
    return times


def _engines(name: str, progress: Progress) -> list[Engine]:
    shipped, engines = shape_profiles(NANO.engine(), BUCKETS), []
    with tempfile.TemporaryDirectory(prefix="layouts-") as folder:
        model = export(folder, architecture_of(name))
        for layout in LAYOUTS:
            progress.update(f"{name}: building {layout.name}")
            path = save(folder, "layout", layout.apply(model, CONTEXT_LEN))
            engines.append(Engine(layout.name, build(path, layout.profiles(shipped))[0]))
    return engines


def _model(
    name: str,
    difference: float,
    conditions: Conditions,
    times: list[StepTime],
    engines: list[Engine],
) -> Model:
    a = architecture_of(name)
    counts = counting.n_params(a), step_weight_bytes(a), counting.kv_bytes_per_token(a, 2)
    return Model(name, *counts, difference, conditions, times, engines)


def step_weight_bytes(a: Architecture) -> int:
    """Half-precision matrices that one token reads, each application anew."""
    return 2 * (counting.linear_macs_per_token(a) + counting.head_macs(a))


if __name__ == "__main__":
    main()
