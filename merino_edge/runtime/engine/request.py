"""What a builder is asked for.

The one idea: a request is plain data, so that the same one can be built here, in a child process or
on a board, and stands in the engine's key.
"""

from typing import Dict, List, NamedTuple, Optional

from merino_edge.formats.engine_spec import ShapeProfile, TensorSpec
from merino_edge.runtime.engine.door import TENSORRT

# Enough for the products of a decoder; a larger one is what makes builds on a Nano be killed
# (tensorrt_demos #253 and #293: 256 MB cures most of them). TensorRT 8.2's own default is none.
WORKSPACE_BYTES = 256 << 20


class BuildRequest(NamedTuple):
    """What to build.

    Attributes:
        onnx_path: The graph; its weights lie beside it.
        tensors: Every input and output, as the runtime will bind them.
        profiles: Lengths to build for; the first is profile 0.
        backend: "tensorrt" or "tensorrt-rtx".
        fp16: Allow half precision. A strongly typed network follows its graph instead.
        fp32_nodes: Patterns of nodes that must compute in float32.
        workspace_bytes: Scratch memory that a layer may use.
        tactic_sources_off: Libraries not to take tactics from, such as "CUDNN"; those that a
            version does not know are off already.
        avg_timing_iterations: Runs of a tactic that are averaged; None for TensorRT's own.
        compute_capabilities: TensorRT-RTX only: GPUs to build for, such as "SM89". Empty for any:
            kernels are then made when the engine is first loaded, and no GPU is needed here.
        timing_cache_path: Where measured tactics are kept; None for nowhere.
    """

    onnx_path: str
    tensors: List[TensorSpec]
    profiles: List[ShapeProfile]
    backend: str = TENSORRT
    fp16: bool = True
    fp32_nodes: List[str] = []
    workspace_bytes: int = WORKSPACE_BYTES
    tactic_sources_off: List[str] = ["CUDNN"]
    avg_timing_iterations: Optional[int] = None
    compute_capabilities: List[str] = []
    timing_cache_path: Optional[str] = None

    @property
    def precision(self) -> str:
        """For the engine's key."""
        return "fp16" if self.fp16 else "fp32"

    @property
    def builder_options(self) -> Dict[str, str]:
        """For the engine's key: whatever else may make another plan."""
        options = {
            "workspace_bytes": str(self.workspace_bytes),
            "tactic_sources_off": ",".join(sorted(self.tactic_sources_off)),
            "fp32_nodes": ",".join(sorted(self.fp32_nodes)),
            "avg_timing_iterations": str(self.avg_timing_iterations or ""),
            "compute_capabilities": ",".join(sorted(self.compute_capabilities)),
        }
        return {name: value for name, value in options.items() if value}
