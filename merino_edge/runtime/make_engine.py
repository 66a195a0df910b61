"""From a bundle to an engine that counts: found in the cache, or built, and then tried.

The one idea: an engine is taken into the cache when it has given the golden tokens of its bundle on
this device, not before. (One that was built where there is no device is tried at its first use.)
Trying takes a backend, so this stands above the engines and the backends, and knows both.
"""

import contextlib
import os
import time
from typing import Callable

from merino_edge.errors import CudaError, ParityError
from merino_edge.formats.bundle import Bundle
from merino_edge.formats.engine_record import EngineRecord, Verification
from merino_edge.runtime.backends.tensorrt import TensorRtBackend
from merino_edge.runtime.cuda.open import open_cuda
from merino_edge.runtime.device_info import meminfo_bytes
from merino_edge.runtime.engine.cache import Found
from merino_edge.runtime.engine.messages import PlanReport
from merino_edge.runtime.engine.preflight import (
    build_memory,
    check_disk,
    check_memory,
    forecast_memory,
)
from merino_edge.runtime.engine.process import OnBeat, build_in_child
from merino_edge.runtime.engine.workshop import (
    MakeOptions,
    Workshop,
    close_workshop,
    find_engine,
    open_workshop,
)
from merino_edge.runtime.verify import check_golden_tokens, compare_logits, reference_logits

Note = Callable[[str], None]


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
            found = build_engine(shop, MakeOptions(), on_note, lambda beat: on_line(str(beat)))
        return open_verified(shop, found, on_note)
    except BaseException:
        close_workshop(shop)
        raise


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
