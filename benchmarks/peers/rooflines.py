"""What a step must read: our bundle's matrices, cut as the model is cut.

The one idea: a tensor's bytes times how often a step applies it. *Stored* counts each once, which
is what comes from memory where a cache keeps a block between its applications; *executed* counts
every application, which is what passes through the cores.
"""

from typing import NamedTuple

from merino_edge.formats.bundle import Bundle, optional_file
from merino_edge.formats.native_file import read_tensors
from merino_edge.formats.weights import read_index

LOOKED_UP = {"pos_embed.weight"}  # one row a token


class Reads(NamedTuple):
    """Of one step.

    Attributes:
        parts: (bytes, times), in the order of the model; a table that is only looked up is left
            out.
        kv_bytes_per_token: Of the cache as the decoder keeps it.
    """

    parts: list[tuple[int, int]]
    kv_bytes_per_token: int

    @property
    def stored_bytes(self) -> int:
        """Each part once."""
        return sum(n_bytes for n_bytes, _ in self.parts)

    @property
    def executed_bytes(self) -> int:
        """Each part as often as it is applied."""
        return sum(n_bytes * times for n_bytes, times in self.parts)


def step_reads(bundle: Bundle) -> Reads:
    """What a step of this bundle reads.

    Raises:
        FormatError: Its weights are not what its manifest says.
    """
    a = bundle.manifest.architecture
    skipped = LOOKED_UP if a.tie_embeddings else LOOKED_UP | {"embed.weight"}
    groups: dict[str, tuple[int, int]] = {}
    for name, n_bytes in _stored(bundle).items():
        if name not in skipped:
            group, times = _group(name, [block.depth for block in a.blocks])
            groups[group] = (groups.get(group, (0, times))[0] + n_bytes, times)
    head = groups.pop("embed", None)  # the head comes last, where it is the embedding
    parts = [*groups.values(), *([head] if head else [])]
    return Reads(parts, bundle.manifest.session_cache.bytes_per_token)


def _group(name: str, depths: list[int]) -> tuple[str, int]:
    words = name.split(".")
    if words[0] != "blocks":
        return words[0], 1
    if words[2] in ("attn", "ffn"):
        return f"block {words[1]}", depths[int(words[1])]
    return f"{words[2]} of block {words[1]}", 1


def _stored(bundle: Bundle) -> dict[str, int]:
    native = optional_file(bundle, "native")
    if native is not None:
        places = read_tensors(native, bundle.manifest.architecture)
        return {name: place.n_bytes for name, place in places.items()}
    index = read_index(bundle.file("weights"))
    return {name: entry.n_bytes for name, entry in index.items()}
