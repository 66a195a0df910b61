"""From a graph to a plan: what the builder is told, and what its silence means.

The one idea: what a version of TensorRT lacks is left out by looking whether its module has the
name, never by its number; so one builder serves 8.0 to 11 and RTX.

Two choices, with their reasons:

* cuDNN is switched off as a source of tactics and cuBLAS keeps its default. On a Jetson Nano
  loading the two costs some 650 MB of 4 GB (logs in tensorrtx #1145 and #1160); a decoder has no
  convolution, which is what cuDNN is for, while its products may want cuBLAS. TensorRT 10 has both
  off by default, 11 and RTX do not have them.
* Constraints are obeyed, not preferred: a norm that overflows in half precision is worse than a
  build that fails and says so.
"""

import os
import re
import time
from typing import Any, List, NamedTuple

from merino_edge.errors import DeviceMemoryError, EngineError, MerinoError
from merino_edge.formats.engine_spec import ShapeProfile, TensorSpec
from merino_edge.runtime.device_info import meminfo_bytes
from merino_edge.runtime.engine.door import Library
from merino_edge.runtime.engine.network import (
    ParsedNetwork,
    declare_tensors,
    hold_float32,
    parse_network,
)
from merino_edge.runtime.engine.preflight import WHAT_HELPS
from merino_edge.runtime.engine.request import BuildRequest
from merino_edge.runtime.engine.timing_cache import attach_timing_cache, save_timing_cache

_OUT_OF_MEMORY = re.compile(
    r"out of memory|outofmemory|bad_alloc|MemoryError|cudaErrorMemoryAllocation|"
    r"memory \(\d+ bytes\) could not be allocated",
    re.IGNORECASE,
)


class BuiltPlan(NamedTuple):
    """A plan in memory.

    Attributes:
        plan: TensorRT's buffer.
        build_s: Time from parsing to the plan.
        n_fp32_layers: Layers held to float32.
        warnings: Ours and TensorRT's.
    """

    plan: Any
    build_s: float
    n_fp32_layers: int
    warnings: List[str]


def build_plan(library: Library, request: BuildRequest) -> BuiltPlan:
    """Build, in this process.

    Raises:
        EngineError: TensorRT does not take the graph, the lengths or the options.
        DeviceMemoryError: It ran out of memory.
    """
    start = time.monotonic()
    library.log.say("parsing " + os.path.basename(request.onnx_path))
    parsed = parse_network(library, request.onnx_path)
    declare_tensors(library, parsed, request.tensors)
    held = hold_float32(library, parsed, request.fp32_nodes)
    warnings = ["no layer fits the float32 pattern '{}'.".format(p) for p in held.unmatched]
    config = _configure(library, parsed, request)
    _add_profiles(library, parsed, config, request)
    warnings += attach_timing_cache(library, config, request.timing_cache_path)
    library.log.say("building {} layers".format(parsed.definition.num_layers))
    plan = parsed.builder.build_serialized_network(parsed.definition, config)
    if plan is None:
        raise _why_no_plan(library, request)
    warnings += save_timing_cache(library, config, request.timing_cache_path)
    warnings += list(library.log.warnings)
    return BuiltPlan(plan, time.monotonic() - start, held.n_layers, warnings)


def looks_out_of_memory(text: str) -> bool:
    """Whether some lines of TensorRT, CUDA or C++ speak of memory that could not be had."""
    return _OUT_OF_MEMORY.search(text) is not None


def _configure(library: Library, parsed: ParsedNetwork, request: BuildRequest) -> Any:
    trt, config = library.module, parsed.builder.create_builder_config()
    if hasattr(config, "set_memory_pool_limit"):
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, request.workspace_bytes)
    else:
        config.max_workspace_size = request.workspace_bytes
    if not parsed.typed:
        _allow_half(trt, config, request)
    if request.avg_timing_iterations is not None:
        config.avg_timing_iterations = request.avg_timing_iterations
    _switch_off_tactics(library, config, request.tactic_sources_off)
    if request.compute_capabilities:
        _name_gpus(library, config, request.compute_capabilities)
    return config


def _allow_half(trt: Any, config: Any, request: BuildRequest) -> None:
    """Half precision where it is allowed, float32 where it is not, in a weakly typed network."""
    if request.fp16:
        config.set_flag(trt.BuilderFlag.FP16)
    if request.fp32_nodes:
        obey = hasattr(trt.BuilderFlag, "OBEY_PRECISION_CONSTRAINTS")
        name = "OBEY_PRECISION_CONSTRAINTS" if obey else "STRICT_TYPES"  # the latter in 8.0
        config.set_flag(getattr(trt.BuilderFlag, name))


def _switch_off_tactics(library: Library, config: Any, names: List[str]) -> None:
    sources = library.module.TacticSource
    bits = [1 << int(getattr(sources, name)) for name in names if hasattr(sources, name)]
    if not bits:
        return
    kept = config.get_tactic_sources()
    for bit in bits:
        kept &= ~bit
    if not config.set_tactic_sources(kept):
        raise EngineError(
            "TensorRT {} refuses to build without {}: {}".format(
                library.version_text, ", ".join(names), library.log.last_errors()
            )
        )


def _name_gpus(library: Library, config: Any, names: List[str]) -> None:
    known = getattr(library.module, "ComputeCapability", None)
    if known is None:
        raise EngineError(
            "TensorRT {} builds for the GPU that it runs on, and for no other.".format(
                library.version_text
            )
        )
    unknown = [name for name in names if not hasattr(known, name)]
    if unknown:
        raise EngineError(
            "TensorRT-RTX {} does not build for {}.".format(
                library.version_text, ", ".join(unknown)
            ),
            note="it knows " + ", ".join(n for n in dir(known) if re.match(r"SM\d+$", n)) + ".",
        )
    config.num_compute_capabilities = len(names)
    for i, name in enumerate(names):
        config.set_compute_capability(getattr(known, name), i)


def _add_profiles(
    library: Library, parsed: ParsedNetwork, config: Any, request: BuildRequest
) -> None:
    """Say the smallest, best and largest shape of every input, in each profile."""
    for profile in request.profiles:
        shapes = parsed.builder.create_optimization_profile()
        for tensor in request.tensors:
            if tensor.is_input:
                _set_shape(library, shapes, tensor, profile)
        if config.add_optimization_profile(shapes) < 0:
            raise EngineError(
                "TensorRT refuses the lengths of profile '{}' ({}): {}".format(
                    profile.name, profile.dims, library.log.last_errors()
                )
            )


def _set_shape(library: Library, shapes: Any, tensor: TensorSpec, profile: ShapeProfile) -> None:
    smallest, best, largest = profile.shapes(tensor)
    try:
        shapes.set_shape(tensor.name, smallest, best, largest)
    except (ValueError, RuntimeError) as error:  # 8.x the one, RTX the other
        raise EngineError(
            "TensorRT refuses {} <= {} <= {} for '{}' in profile '{}': {}".format(
                smallest, best, largest, tensor.name, profile.name, error
            )
        )


def _why_no_plan(library: Library, request: BuildRequest) -> MerinoError:
    """Make an error of the log; ``None`` is all that the builder itself says."""
    if not any(looks_out_of_memory(line) for line in library.log.errors):
        return EngineError(
            "TensorRT {} built no engine: {}".format(
                library.version_text, library.log.last_errors()
            )
        )
    said = " ".join(list(library.log.errors) + list(library.log.warnings))
    asked = [int(n) for n in re.findall(r"memory \((\d+) bytes\)", said)]
    return DeviceMemoryError(
        "TensorRT ran out of memory while building: {}".format(library.log.last_errors()),
        needed_bytes=max(asked + [request.workspace_bytes]),
        free_bytes=meminfo_bytes("/").get("MemAvailable", 0),
        hint=WHAT_HELPS,
    )
