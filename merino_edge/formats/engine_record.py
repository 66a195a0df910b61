"""What an engine is made of and for: its key, and the record that lies beside its plan.

The one idea: a plan is opaque, and TensorRT only says "no" to one from elsewhere, so all that it
depends on stands in a key beside it, in JSON. Two keys that differ are compared field by field in
words, before a byte of the plan is looked at. The patch level of L4T is told but does not count:
32.7.1 to 32.7.6 carry the same TensorRT and the same CUDA.
"""

import hashlib
import json
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from merino_edge.formats import jsonio
from merino_edge.formats.engine_spec import ShapeProfile

SCHEMA = "merino-edge.engine/1"


class EngineKey(NamedTuple):
    """All that decides whether a plan fits.

    Attributes:
        onnx_sha256, weights_sha256: Of the graph and of the weights beside it.
        backend: "tensorrt" or "tensorrt-rtx".
        tensorrt: Full version, such as "8.2.1.8".
        cuda: Version of the CUDA runtime, such as "10.2".
        compute_capability: Such as "5.3".
        gpu_name: Such as "NVIDIA Tegra X1".
        l4t: Version of NVIDIA's Linux on a Jetson, such as "32.7.1"; None elsewhere or unknown.
        precision: "fp16" or "fp32".
        profiles: Lengths that the engine takes.
        builder_options: What else the builder was told.
    """

    onnx_sha256: str
    weights_sha256: str
    backend: str
    tensorrt: str
    cuda: str
    compute_capability: str
    gpu_name: str
    l4t: Optional[str]
    precision: str
    profiles: List[ShapeProfile]
    builder_options: Dict[str, str]

    @property
    def engine_id(self) -> str:
        """Sixteen hexadecimal digits over everything but L4T: the name of the engine's files."""
        fields = jsonio.encode(self._replace(l4t=None))
        text = json.dumps(fields, sort_keys=True, ensure_ascii=True)
        return hashlib.sha256(text.encode("ascii")).hexdigest()[:16]


class Verification(NamedTuple):
    """What the engine gave when it was tried.

    Attributes:
        made_at: When, as "2026-01-31T12:00:00Z".
        against: What it was compared with, such as "golden tokens".
        n_golden: Golden prompts that were run.
        n_golden_right: Those whose tokens were all right.
        max_logit_error: Largest difference of a logit; None if no logits were compared.
    """

    made_at: str
    against: str
    n_golden: int
    n_golden_right: int
    max_logit_error: Optional[float] = None


class EngineRecord(NamedTuple):
    """What is known about a plan in the cache.

    Attributes:
        key: What it fits.
        bundle_id: Of the bundle that it was built from.
        bundle_name: Of the same, for people.
        plan_file: Name of the plan beside this record.
        plan_sha256, plan_bytes: Of that file.
        made_at: When, as "2026-01-31T12:00:00Z".
        build_s: How long the build took.
        peak_rss_bytes: Most resident memory of the building process.
        available_before_bytes: Memory that was available when the build began.
        lowest_available_bytes: And when there was least.
        n_skipped_tactics: Tactics that were not tried for lack of memory: the more, the slower
            the engine may be.
        n_fp32_layers: Layers held to float32 beyond what the graph's own types say.
        warnings: Of TensorRT and ours.
        memory_log: TensorRT's own lines about memory, which tell what its libraries took.
        verified: Set when the engine gave the right tokens; None before.
    """

    key: EngineKey
    bundle_id: str
    bundle_name: str
    plan_file: str
    plan_sha256: str
    plan_bytes: int
    made_at: str
    build_s: float
    peak_rss_bytes: int
    available_before_bytes: int
    lowest_available_bytes: int
    n_skipped_tactics: int = 0
    n_fp32_layers: int = 0
    warnings: List[str] = []
    memory_log: List[str] = []
    verified: Optional[Verification] = None


_WORDS = {
    "onnx_sha256": "the graph (decoder.onnx)",
    "weights_sha256": "the weights",
    "backend": "backend",
    "tensorrt": "TensorRT",
    "cuda": "CUDA",
    "compute_capability": "compute capability",
    "gpu_name": "GPU",
    "precision": "precision",
    "profiles": "lengths (optimisation profiles)",
}


def differences(built: EngineKey, here: EngineKey) -> List[str]:
    """Why an engine built under one key does not serve another, a sentence part for each reason.

    Args:
        built: The key in the engine's record.
        here: The key of what is wanted on this machine.

    Returns:
        Such as ["TensorRT: built with 8.0.1.6, here is 8.2.1.8"]; empty if it serves.
    """
    found = []
    for field, words in _WORDS.items():
        old, new = getattr(built, field), getattr(here, field)
        if old != new:
            found.append(_told(words, *(_shown(field, value) for value in (old, new))))
    options = sorted(set(built.builder_options) | set(here.builder_options))
    for name in options:
        old, new = built.builder_options.get(name), here.builder_options.get(name)
        if old != new:
            found.append(_told("builder option " + name, str(old or "unset"), str(new or "unset")))
    if not _same_l4t_release(built.l4t, here.l4t):
        found.append(_told("L4T", str(built.l4t), str(here.l4t)))
    return found


def l4t_warning(built: Optional[str], here: Optional[str]) -> Optional[str]:
    """A sentence if only the patch level of L4T differs, or one of the two is not known."""
    if built == here or not _same_l4t_release(built, here):
        return None
    return (
        "the engine was built on L4T {}, here is {}: patch levels of one release carry the same "
        "TensorRT, so it is used.".format(built or "of an unknown version", here or "unknown")
    )


def _same_l4t_release(built: Optional[str], here: Optional[str]) -> bool:
    """Whether two versions differ in their patch level at most; an unknown one may be any."""
    if built is None or here is None:
        return True
    return built.split(".")[:2] == here.split(".")[:2]


def _shown(field: str, value: Any) -> str:
    if field.endswith("_sha256"):
        return str(value)[:12] + "…"
    if field == "profiles":
        return "; ".join(_profile_words(profile) for profile in value)
    return str(value)


def _profile_words(profile: ShapeProfile) -> str:
    ranges: List[Tuple[str, Any]] = sorted(profile.dims.items())
    return profile.name + " " + ", ".join("{} {}..{}".format(n, r[0], r[2]) for n, r in ranges)


def _told(what: str, built: str, here: str) -> str:
    return "{}: built with {}, here is {}".format(what, built, here)
