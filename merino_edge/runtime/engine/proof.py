"""A build for the proof alone: NVIDIA's parser and builder take the graph, or say why not."""

import os
import tempfile

from merino_edge.formats.bundle import Bundle
from merino_edge.runtime.engine.door import TENSORRT_RTX
from merino_edge.runtime.engine.messages import PlanReport
from merino_edge.runtime.engine.process import OnBeat, build_in_child
from merino_edge.runtime.engine.workshop import MakeOptions, build_request


def proof_build(bundle: Bundle, on_beat: OnBeat) -> PlanReport:
    """Let NVIDIA's TensorRT-RTX parse and build the graph, whatever TensorRT it is meant for.

    It needs no GPU. What it takes is taken by the same parser's later versions, and mostly by
    earlier ones; the plan is thrown away.

    Raises:
        EngineError: It refuses; the parser's own words are kept.
    """
    request = build_request(bundle, TENSORRT_RTX, MakeOptions())
    with tempfile.TemporaryDirectory(prefix="merino-edge-") as folder:
        return build_in_child(request, os.path.join(folder, "proof.plan"), on_beat)
