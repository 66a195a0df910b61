"""What a bundle asks of an engine on this machine, and the engine that fits, if there is one.

The one idea: the bundle's manifest, TensorRT and the device together say what to build and under
which key it is kept. An engine of another version or device is not replaced silently: a build takes
minutes on a board, so whoever opens a bundle is told what differs and which command helps. How an
engine is run is not known here; ``runtime.make_engine`` builds one and tries it.
"""

from typing import Callable, NamedTuple, Optional

from merino_edge.errors import CudaError, MissingDependencyError, UnsupportedError
from merino_edge.formats.bundle import Bundle
from merino_edge.formats.engine_record import EngineKey
from merino_edge.formats.engine_spec import EngineSpec, shape_profiles
from merino_edge.formats.graph_tensors import graph_tensors
from merino_edge.runtime.cuda.api import Cuda
from merino_edge.runtime.cuda.open import open_cuda
from merino_edge.runtime.device_info import l4t_version
from merino_edge.runtime.engine.cache import EngineCache, Found
from merino_edge.runtime.engine.door import TENSORRT, TENSORRT_RTX, Library, open_tensorrt
from merino_edge.runtime.engine.request import BuildRequest

Note = Callable[[str], None]
ANY = "any"  # an engine of TensorRT-RTX makes its kernels when it is loaded, on whatever card


class Workshop(NamedTuple):
    """All that is needed to make and use the engine of one bundle on this machine.

    Attributes:
        bundle: The bundle.
        library: TensorRT.
        cuda: The device; None where there is none, which only TensorRT-RTX can build without.
        cache: Where engines are kept.
        request: What to build.
        key: What the engine must be to fit.
    """

    bundle: Bundle
    library: Library
    cuda: Optional[Cuda]
    cache: EngineCache
    request: BuildRequest
    key: EngineKey


class MakeOptions(NamedTuple):
    """How to build.

    Attributes:
        workspace_bytes: Instead of the bundle's.
        force: Build although there is an engine, and although memory looks too short.
    """

    workspace_bytes: Optional[int] = None
    force: bool = False


def engine_kind(bundle: Bundle) -> str:
    """Which TensorRT a bundle is for."""
    return TENSORRT_RTX if bundle.manifest.target == "rtx" else TENSORRT


def engine_spec(bundle: Bundle) -> EngineSpec:
    """What the bundle's engine is told.

    Raises:
        UnsupportedError: The bundle is not meant for an engine.
    """
    if bundle.manifest.engine is None:
        raise UnsupportedError(
            "'{}' was built for '{}', which has no engine.".format(
                bundle.path, bundle.manifest.target
            ),
            hint="merino-edge build --target nano CHECKPOINT -o bundle/",
        )
    return bundle.manifest.engine


def open_workshop(
    bundle: Bundle, cache: Optional[EngineCache] = None, options: Optional[MakeOptions] = None
) -> Workshop:
    """Open library, device and cache for a bundle; ``close_workshop`` or a backend closes it.

    Raises:
        UnsupportedError: The bundle is not meant for an engine.
        MissingDependencyError: TensorRT or CUDA is not installed.
        CudaError: There is no device, or it does not work.
    """
    engine_spec(bundle)
    cache = cache or EngineCache()
    library = open_tensorrt(engine_kind(bundle))
    cuda = _open_device(library)
    request = build_request(bundle, library.kind, options or MakeOptions())
    key = engine_key(bundle, library, cuda, request)
    request = request._replace(timing_cache_path=cache.timing_cache_path(key))
    return Workshop(bundle, library, cuda, cache, request, key)


def close_workshop(shop: Workshop) -> None:
    """Give the device back; closing twice is allowed."""
    if shop.cuda is not None:
        shop.cuda.close()


def find_engine(shop: Workshop, on_note: Note) -> Optional[Found]:
    """The engine of this bundle for this device; None if none was ever built here.

    Raises:
        EngineError: There are engines of it, but none fits; what differs, and what helps.
        ChecksumError: The plan was cut or changed.
    """
    bundle = shop.bundle
    name = bundle.manifest.name
    if not shop.cache.knows(shop.key) and not shop.cache.mismatches(shop.key, name):
        return None
    found = shop.cache.check(shop.key, bundle.path, name)
    for warning in found.warnings:
        on_note(warning)
    return found


def build_request(bundle: Bundle, kind: str, options: MakeOptions) -> BuildRequest:
    """What the builder is asked for, as the bundle's manifest says."""
    manifest, spec = bundle.manifest, engine_spec(bundle)
    return BuildRequest(
        onnx_path=bundle.file("onnx"),
        tensors=graph_tensors(manifest),
        profiles=shape_profiles(spec, manifest.kv_cache.buckets),
        backend=kind,
        fp16=manifest.precision == "fp16",
        fp32_nodes=spec.fp32_nodes,
        workspace_bytes=options.workspace_bytes or spec.workspace_bytes,
        tactic_sources_off=spec.tactic_sources_off,
    )


def engine_key(
    bundle: Bundle, library: Library, cuda: Optional[Cuda], request: BuildRequest
) -> EngineKey:
    """What an engine must be to fit this bundle on this device."""
    sums = {entry.role: entry.sha256 for entry in bundle.manifest.files.values()}
    cc, gpu, version = ANY, ANY, ANY
    if cuda is not None and library.kind != TENSORRT_RTX:
        cc = "{}.{}".format(*cuda.compute_capability)
        gpu, version = cuda.device_name, cuda.runtime_version
    return EngineKey(
        onnx_sha256=sums["onnx"],
        weights_sha256=sums["weights"],
        backend=library.kind,
        tensorrt=library.version_text,
        cuda=version,
        compute_capability=cc,
        gpu_name=gpu,
        l4t=l4t_version("/"),
        precision=request.precision,
        profiles=request.profiles,
        builder_options=request.builder_options,
    )


def _open_device(library: Library) -> Optional[Cuda]:
    try:
        return open_cuda()
    except (CudaError, MissingDependencyError):
        if library.kind == TENSORRT_RTX:
            return None
        raise
