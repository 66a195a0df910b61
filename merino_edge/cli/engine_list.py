"""The engines that this machine has built, for people and for scripts."""

import sys
from typing import Any, Dict, List, Optional

from merino_edge.cli.output import human_bytes, print_json, print_table
from merino_edge.formats.bundle import Bundle


def print_engines(as_json: bool) -> int:
    """Every engine in the cache, with what it fits and what may speak against it."""
    from merino_edge.runtime.engine.cache import EngineCache

    cache = EngineCache()
    entries = cache.list()
    if as_json:
        print_json([_facts(entry) for entry in entries])
        return 0
    if not entries:
        sys.stdout.write("no engines in {}\n".format(cache.folder))
        return 0
    header = ("engine", "bundle", "for", "size", "built", "state")
    print_table(header, [_row(entry) for entry in entries])
    sys.stdout.write("in {}\n".format(cache.folder))
    return 0


def engine_lines(bundle: Bundle) -> List[str]:
    """What a bundle's card says of its engine: how it is built, and which were built here."""
    spec, cache = bundle.manifest.engine, bundle.manifest.kv_cache
    if spec is None:
        return []
    from merino_edge.runtime.engine.cache import EngineCache

    lines = [
        "engine        takes {} with 1 or up to {} new tokens, a past of {}".format(
            "ids" if spec.looks_up else "embedding rows",
            spec.chunk_len,
            ", ".join(str(length) for length in cache.buckets),
        ),
        "              gives {} rows of logits at most{}".format(
            spec.max_logits, ", and the {} best".format(spec.n_best) if spec.n_best else ""
        ),
        "              float32 where a node is named {}; workspace {}{}".format(
            " or ".join(spec.fp32_nodes) or "nothing",
            human_bytes(spec.workspace_bytes),
            "".join(", no tactics of " + name for name in spec.tactic_sources_off),
        ),
    ]
    onnx = {entry.sha256 for entry in bundle.manifest.files.values() if entry.role == "onnx"}
    built = [e for e in EngineCache().list() if e.record and e.record.key.onnx_sha256 in onnx]
    for engine_id, _, fits, size, _, state in map(_row, built):
        lines.append("built here    {} for {}: {}, {}".format(engine_id, fits, size, state))
    return lines + ([] if built else ["built here    no engine yet: merino-edge build BUNDLE"])


def _row(entry: Any) -> List[str]:
    record = entry.record
    if record is None:
        return [entry.record_path, "?", "?", "?", "?", entry.problem]
    key = record.key
    fits = "{} {}, {} ({}), CUDA {}".format(
        key.backend, key.tensorrt, key.gpu_name, key.compute_capability, key.cuda
    )
    size = human_bytes(record.plan_bytes)
    built = "{} in {:.0f} s".format(record.made_at, record.build_s)
    return [key.engine_id, record.bundle_name, fits, size, built, entry.problem or _tried(record)]


def _tried(record: Any) -> str:
    error: Optional[float] = record.verified.max_logit_error
    return "verified" if error is None else "verified, logits within {:.1e}".format(error)


def _facts(entry: Any) -> Dict[str, Any]:
    from merino_edge.formats.jsonio import encode

    record = encode(entry.record) if entry.record else None
    return {"path": entry.record_path, "problem": entry.problem, "record": record}
