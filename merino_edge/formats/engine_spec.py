"""How TensorRT shall build and run a bundle's graph: tensors, shapes, precision.

The one idea: whatever an engine must be told beyond the ONNX file stands in the manifest, because a
board has no package ``onnx`` to look into the file with. There are two optimisation profiles:
"decode" takes one token, "prefill" up to ``chunk_len``; both read a past of any bucket's length.
Dimensions that share a name must share a value (TensorRT 8.2 asserts it), and here they do.
"""

from typing import Dict, List, NamedTuple, Tuple, Union

Dim = Union[int, str]
Shape = Tuple[int, ...]
Range = Tuple[int, int, int]
DECODE, PREFILL = "decode", "prefill"


class EngineSpec(NamedTuple):
    """What an engine is told.

    Attributes:
        chunk_len: Most new tokens in a call.
        max_logits: Most rows of logits in a call.
        n_best: The graph also gives the so many largest logits and their ids; 0 for none.
        looks_up: Whether the graph looks tokens up by ``input_ids``. False: it takes
            ``inputs_embeds``, rows that the runtime copies out of the weights file, so that the
            engine does not hold a tied table twice.
        fp32_nodes: Patterns (``fnmatch``) of the names of nodes that must compute in float32.
        workspace_bytes: Scratch memory that a layer may use while the engine is built and run.
        tactic_sources_off: Libraries not to take tactics from, such as "CUDNN".
    """

    chunk_len: int
    max_logits: int
    n_best: int = 0
    looks_up: bool = False
    fp32_nodes: List[str] = []
    workspace_bytes: int = 256 << 20
    tactic_sources_off: List[str] = []


class TensorSpec(NamedTuple):
    """An input or output of the graph.

    Attributes:
        name: As in the ONNX file.
        dtype: "float32", "float16" or "int32".
        shape: Numbers, or names of dimensions that vary.
        is_input: Or an output.
    """

    name: str
    dtype: str
    shape: Tuple[Dim, ...]
    is_input: bool

    def resolved(self, dims: Dict[str, int]) -> Shape:
        """The shape with numbers for its names."""
        return tuple(dims[dim] if isinstance(dim, str) else dim for dim in self.shape)


class ShapeProfile(NamedTuple):
    """The lengths that an engine must take, best at ``opt``.

    Attributes:
        name: "decode" or "prefill".
        dims: Name of a dimension -> (min, opt, max).
    """

    name: str
    dims: Dict[str, Range]

    def shapes(self, tensor: TensorSpec) -> Tuple[Shape, Shape, Shape]:
        """Smallest, best and largest shape of a tensor."""
        ends = [{name: ends[i] for name, ends in self.dims.items()} for i in range(3)]
        return tensor.resolved(ends[0]), tensor.resolved(ends[1]), tensor.resolved(ends[2])


def shape_profiles(spec: EngineSpec, buckets: List[int]) -> List[ShapeProfile]:
    """The two profiles, "decode" first: TensorRT gives profile 0 to a context by itself."""
    past = (buckets[0], buckets[len(buckets) // 2], buckets[-1])
    rows = (1, 1, spec.max_logits)
    prefill = {"q_len": (1, spec.chunk_len, spec.chunk_len), "past_len": past, "n_logits": rows}
    # "up to 2" although it is always 1: NVIDIA's builder gives a length that is fixed to 1 kernels
    # of its own, which want some weights in another order (benchmarks/tensorrt/README.md)
    decode = {"q_len": (1, 1, 2), "past_len": past, "n_logits": (1, 1, 1)}
    return [ShapeProfile(DECODE, decode), ShapeProfile(PREFILL, prefill)]
