"""What NVIDIA's builder makes of a graph, on a machine without a GPU: bytes, time, copies.

The one idea: TensorRT-RTX parses and builds anywhere, so the size of an engine and what lies in it
twice are facts; only how fast it is needs a card. Copies are found in the plan's bytes: a run of
eight neighbours of a row, and one of a column, tell in which order a matrix lies there.

It is not TensorRT 8.2: a board's builder may store more, or less.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx

sys.path.append(str(Path(__file__).resolve().parents[1] / "common"))  # where ``reports`` lies

from reports import Provenance, provenance

from merino_edge.errors import EngineError
from merino_edge.formats.engine_spec import ShapeProfile, TensorSpec
from merino_edge.runtime.engine.builder import build_plan
from merino_edge.runtime.engine.door import TENSORRT_RTX, open_tensorrt
from merino_edge.runtime.engine.network import parse_network
from merino_edge.runtime.engine.request import BuildRequest

_DTYPES = {1: "float32", 6: "int32", 10: "float16"}
RUN = 8  # values: 16 bytes, more than chance repeats in half a gigabyte


class Built(NamedTuple):
    """An engine, or why there is none.

    Attributes:
        plan_bytes: Of the engine; None if it was refused.
        build_s: Parsing and building; None if it was refused.
        n_layers: Of the network that the parser made; None if it was refused.
        refusal: NVIDIA's words; None for an engine.
    """

    plan_bytes: int | None
    build_s: float | None
    n_layers: int | None
    refusal: str | None = None


def made_with(packages: tuple[str, ...]) -> Provenance:
    """Of a report that begins now, TensorRT-RTX among the versions.

    Raises:
        MissingDependencyError: It is not installed; better asked now than after minutes.
    """
    version = open_tensorrt(TENSORRT_RTX).version_text
    found = provenance(packages)
    return found._replace(versions={**found.versions, "TensorRT-RTX": version})


def heading(found: Provenance) -> str:
    """One line above tables."""
    versions = ", ".join(f"{name} {version}" for name, version in found.versions.items())
    machine = f"{found.machine.cpu}, {found.machine.n_cores} cores"
    return f"{machine}; load before {found.load}; {versions}; {found.date}"


def build(path: str, profiles: Sequence[ShapeProfile]) -> tuple[Built, bytes]:
    """Build a graph that lies beside its weights; the plan is empty if NVIDIA refuses it."""
    library = open_tensorrt(TENSORRT_RTX)
    request = BuildRequest(path, tensors_of(path), list(profiles), backend=TENSORRT_RTX)
    try:
        n_layers = parse_network(library, path).definition.num_layers
        built = build_plan(library, request)
    except EngineError as error:
        return Built(None, None, None, str(error)), b""
    plan = bytes(memoryview(built.plan))
    return Built(len(plan), round(built.build_s, 2), n_layers), plan


def tensors_of(path: str) -> list[TensorSpec]:
    """Inputs, then outputs, as the graph itself declares them."""
    model = onnx.load(path, load_external_data=False)
    sides = ((model.graph.input, True), (model.graph.output, False))
    return [_spec(value, is_input) for values, is_input in sides for value in values]


def copies(plan: bytes, matrix: np.ndarray) -> tuple[int, int] | None:
    """How often a stored matrix lies in a plan: (in rows, in columns).

    Args:
        plan: The engine.
        matrix: [outputs, inputs] float16.

    Returns:
        None where the matrix has too little variety to be found, such as an identity.
    """
    row, column = matrix.shape[0] // 3, matrix.shape[1] // 3
    runs = matrix[row, column : column + RUN], matrix[row : row + RUN, column]
    if any(len(np.unique(run)) < RUN - 1 for run in runs):
        return None
    in_rows, in_columns = (plan.count(run.tobytes()) for run in runs)
    return in_rows, in_columns


def _spec(value: onnx.ValueInfoProto, is_input: bool) -> TensorSpec:
    kind = value.type.tensor_type
    shape = tuple(dim.dim_param or dim.dim_value for dim in kind.shape.dim)
    return TensorSpec(value.name, _DTYPES[kind.elem_type], shape, is_input)
