"""From a bundle to an engine that counts: found in the cache, or built, and then tried.

The one idea: an engine is taken into the cache when it has given the golden tokens of its bundle on
this device, not before. (One that was built where there is no device is tried at its first
use.) An engine of another version or device is not replaced silently: a
build takes minutes on a board, so whoever opens a bundle is told what differs and which command
helps.
"""

import contextlib
import os
import tempfile
import time
from typing import Callable, NamedTuple, Optional

from merino_edge.errors import CudaError, MissingDependencyError, ParityError
from merino_edge.formats.bundle import Bundle
from merino_edge.formats.engine_record import EngineKey, EngineRecord, Verification
from merino_edge.formats.engine_spec import shape_profiles
from merino_edge.formats.graph_tensors import graph_tensors
from merino_edge.runtime.backends.tensorrt import TensorRtBackend, engine_spec
from merino_edge.runtime.cuda.api import Cuda
from merino_edge.runtime.cuda.open import open_cuda
from merino_edge.runtime.device_info import l4t_version, meminfo_bytes
from merino_edge.runtime.engine.cache import EngineCache, Found
from merino_edge.runtime.engine.door import TENSORRT, TENSORRT_RTX, Library, open_tensorrt
from merino_edge.runtime.engine.messages import PlanReport
from merino_edge.runtime.engine.preflight import (
    build_memory,
    check_disk,
    check_memory,
    forecast_memory,
)
from merino_edge.runtime.engine.process import Beat, build_in_child
from merino_edge.runtime.engine.request import BuildRequest
from merino_edge.runtime.verify import check_golden_tokens, compare_logits, reference_logits

Note = Callable[[str], None]
OnBeat = Callable[[Beat], None]
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


def build_engine(shop: Workshop, options: MakeOptions, on_note: Note, on_beat: OnBeat) -> Found:
    """Build in a child process, try the plan, and take it into the cache.

    Without a device it goes in untried, which the record says.

    Raises:
        DeviceMemoryError: Memory or disk will not do, or did not.
        EngineError: TensorRT refuses the graph.
        ParityError: The engine computes something else.
        OSError: The disk is full. Whatever is raised, the engine that was there before is intact.
    """
    incoming = shop.cache.incoming(shop.key)
    _preflight(shop, options, on_note)
    try:
        report = build_in_child(shop.request, incoming, on_beat)
        record = _record(shop, report)
        if shop.cuda is not None:
            backend = TensorRtBackend(shop.bundle, shop.library, open_cuda(), incoming, on_note)
            record = record._replace(verified=_try_out(shop.bundle, backend, on_note))
            backend.close()
        return shop.cache.store(incoming, record)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(incoming)
        raise


def _record(shop: Workshop, report: PlanReport) -> EngineRecord:
    return EngineRecord(
        key=shop.key,
        bundle_id=shop.bundle.bundle_id,
        bundle_name=shop.bundle.manifest.name,
        plan_file="",
        plan_sha256=report.plan_sha256,
        plan_bytes=report.plan_bytes,
        made_at=_now(),
        build_s=report.build_s,
        peak_rss_bytes=report.peak_rss_bytes,
        available_before_bytes=report.available_before_bytes,
        lowest_available_bytes=report.lowest_available_bytes,
        n_skipped_tactics=report.n_skipped_tactics,
        n_fp32_layers=report.n_fp32_layers,
        warnings=report.warnings,
        memory_log=report.memory_log,
    )


def open_verified(shop: Workshop, found: Found, on_note: Note) -> TensorRtBackend:
    """A backend on an engine that has proved itself, now or earlier.

    Raises:
        CudaError: There is no device.
        ParityError: It computes something else; the engine is removed from the cache.
    """
    if shop.cuda is None:
        open_cuda()  # says why there is none
        raise CudaError("there is no GPU here to run the engine on.")
    backend = TensorRtBackend(shop.bundle, shop.library, shop.cuda, found.plan_path, on_note)
    if found.record.verified is None:
        try:
            shop.cache.mark_verified(shop.key, _try_out(shop.bundle, backend, on_note))
        except ParityError:
            shop.cache.remove(shop.key)
            raise
    return backend


def open_backend(bundle: Bundle, on_note: Note, on_line: Note) -> TensorRtBackend:
    """The backend of a bundle: its engine is found, or else built, and tried before it is used.

    Args:
        bundle: An opened bundle, built for an engine.
        on_note: Told what is worth knowing.
        on_line: Told again and again how a build goes.

    Raises:
        EngineError: Engines were built here, but none fits any more.
        MerinoError: As the functions above.
    """
    shop = open_workshop(bundle)
    try:
        found = find_engine(shop, on_note)
        if found is None:
            on_note("no engine was built here yet; this takes minutes on a board.")
            found = build_engine(shop, MakeOptions(), on_note, lambda beat: on_line(told(beat)))
        return open_verified(shop, found, on_note)
    except BaseException:
        close_workshop(shop)
        raise


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


def close_workshop(shop: Workshop) -> None:
    """Give the device back; closing twice is allowed."""
    if shop.cuda is not None:
        shop.cuda.close()


def told(beat: Beat) -> str:
    """How a build goes, on one line."""
    held = "" if beat.rss_bytes is None else ", {} MB held".format(beat.rss_bytes // 10**6)
    return "building the engine: {:.0f} s{}, {} MB free: {}".format(
        beat.elapsed_s, held, beat.available_bytes // 10**6, beat.line
    )


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


def _preflight(shop: Workshop, options: MakeOptions, on_note: Note) -> None:
    stored = shop.bundle.size_bytes
    value_bytes = 2 if shop.request.fp16 else 4
    parts = build_memory(
        stored,
        value_bytes,
        shop.request.workspace_bytes,
        "CUDNN" not in shop.request.tactic_sources_off,
    )
    forecast = forecast_memory(parts)
    on_note(str(forecast))
    warning = check_memory(forecast, options.force)
    if warning:
        on_note(warning)
    check_disk(shop.cache.folder, stored)


def _try_out(bundle: Bundle, backend: TensorRtBackend, on_note: Note) -> Verification:
    """Golden tokens and logits; a backend that fails is closed."""
    try:
        return _tried(bundle, backend, on_note)
    except BaseException:
        backend.close()
        raise


def _tried(bundle: Bundle, backend: TensorRtBackend, on_note: Note) -> Verification:
    golden, precision = bundle.manifest.golden, bundle.manifest.precision
    on_note("decoding the golden prompts")
    check_golden_tokens(backend, golden)
    error = None
    if _has_memory_for_reference(bundle):
        on_note("comparing logits with the numpy reference")
        error = compare_logits(backend, reference_logits(bundle), golden[:1], precision).relative
    else:
        on_note("logits are not compared: the numpy reference would need more memory than is free")
    return Verification(_now(), backend.description, len(golden), len(golden), error)


def _has_memory_for_reference(bundle: Bundle) -> bool:
    """It holds every weight in float32."""
    return meminfo_bytes("/").get("MemAvailable", 0) > 2 * 4 * bundle.manifest.n_params


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
