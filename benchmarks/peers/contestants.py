"""Who takes part, with which file, in which of several ways.

The one idea: a contestant is a row. Its ``variants`` are ways to run it of which nobody knows
beforehand which is faster (flash attention, kinds of cache); a trial decides before the race, so a
peer is never shown in a slower dress than it has. Who cannot take part has a row as well, with the
reason.

Weights of 4 bits come in three kinds: with a minimum a block (llama.cpp's Q4_1, our int4), without
(Q4_0, onnxruntime-genai); all in blocks of 32. Rows are compared within a class of ``bits``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

CONTEXT_LEN = 1024
SMOLLM2, MERINO = "smollm2", "merino64m"
TITLES = {SMOLLM2: "SmolLM2-135M", MERINO: "MeRino-64M"}
_FLASH = ({"flash": False}, {"flash": True})
_CACHES = ({"static": False}, {"static": True})
_STEPS = ({"forced": True}, {"forced": False})


@dataclass(frozen=True, eq=False)  # one is itself: its options make no key
class Contestant:
    """One row.

    Attributes:
        name: For people.
        bits: Of a weight: 4, 8, 16 or 32.
        adapter: A module of ``adapters``.
        package: What its Python must be able to import.
        source: What it opens, by a word that ``workshop`` knows.
        options: Arguments of its ``Runtime`` beside path and threads.
        variants: Further arguments, of which the fastest set is raced.
        roles: The files of a bundle that it needs; empty for peers.
    """

    name: str
    bits: int
    adapter: str
    package: str
    source: str
    options: Mapping[str, Any] = field(default_factory=dict)
    variants: tuple[Mapping[str, Any], ...] = ({},)
    roles: tuple[str, ...] = ()

    @property
    def ours(self) -> bool:
        """Whether it is ours, and no peer."""
        return self.adapter == "ours"


@dataclass(frozen=True)
class Refusal:
    """Who does not take part, and why."""

    name: str
    why: str


def contestants(model: str) -> list[Contestant]:
    """The rows of a model, ours first."""
    peers = _smollm2_peers() if model == SMOLLM2 else _stand_in_peers()
    return _ours() + peers


def known_refusals(model: str) -> list[Refusal]:
    """Who is known beforehand not to be able to."""
    if model == MERINO:
        return [
            Refusal("onnxruntime-genai", "its builder makes no decoder of GPT-2's kind"),
        ]
    return []


def _ours() -> list[Contestant]:
    found = []
    for backend, roles in (("native", ("native",)), ("ort", ("onnx", "weights"))):
        for precision, bits in (("int4", 4), ("int8", 8), ("fp32", 32)):
            # a float32 bundle for this machine holds a graph; the native file has its own target
            target = "nano-cpu" if (backend, precision) == ("native", "fp32") else "host"
            found.append(
                Contestant(
                    f"ours, {backend} {precision}",
                    bits,
                    "ours",
                    "merino_edge",
                    f"bundle-{target}-{precision}",
                    {"backend": backend},
                    roles=roles,
                )
            )
    return found


def _smollm2_peers() -> list[Contestant]:
    genai = _peer("onnxruntime-genai int4", 4, "genai", "onnxruntime_genai", "genai", {}, _STEPS)
    return [
        _llama("Q4_1", 4, "gguf-own"),
        _llama("Q4_0", 4, "gguf-Q4_0-Q8_0"),
        _llama("Q8_0", 8, "gguf-Q8_0-Q8_0"),
        genai,
        *_on_hf_folder(),
    ]


def _stand_in_peers() -> list[Contestant]:
    return [
        _llama("Q4_0", 4, "gguf-Q4_0-Q4_0"),
        _llama("Q8_0", 8, "gguf-Q8_0-Q8_0"),
        *_on_hf_folder(),
    ]


def _on_hf_folder() -> list[Contestant]:
    ct2 = {"compute_type": "int8"}
    return [
        _peer("CTranslate2 int8", 8, "ct2", "ctranslate2", "ct2-int8", ct2),
        _peer("transformers fp32", 32, "hf", "transformers", "hf", {"dtype": "float32"}, _CACHES),
        _peer("transformers bf16", 16, "hf", "transformers", "hf", {"dtype": "bfloat16"}, _CACHES),
    ]


def _llama(kind: str, bits: int, source: str) -> Contestant:
    return _peer(f"llama.cpp {kind}", bits, "llama", "llama_cpp", source, {}, _FLASH)


def _peer(
    name: str,
    bits: int,
    adapter: str,
    package: str,
    source: str,
    options: Mapping[str, Any],
    variants: tuple[Mapping[str, Any], ...] = ({},),
) -> Contestant:
    options = {**options, "context_len": CONTEXT_LEN}
    return Contestant(name, bits, adapter, package, source, options, variants)
