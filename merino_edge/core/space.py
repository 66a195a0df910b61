"""The architectures that a search may choose from, as data.

The one idea: a member is a *genome*, an integer array of shape (n_blocks, 3) that holds, block
by block, which width, which feed-forward ratio and which depth. Everything fast works on arrays
of genomes; ``decode`` turns one into the ``Architecture`` that everything else understands, and
``encode`` is the way back. Choices ascend, so the genome of zeros is the smallest member: it has
the cheapest blocks and no joints, and none is cheaper, whatever is counted.

The vocabulary is not a gene: entropy does not see it, and what it costs depends on the text. A
space that leaves it open is therefore a handful of spaces, its ``alternatives``, each with the
number of its tokens that carry as much text as one token of the reference.

A space knows no costs, no entropy and no device.
"""

import os
from dataclasses import dataclass, replace
from math import comb
from typing import Any, NamedTuple

import numpy as np

from merino_edge.core.choices import check_choices, check_count, check_vocabularies, refuse
from merino_edge.core.toml_file import read_toml
from merino_edge.errors import FormatError, SpecError, UsageError
from merino_edge.formats import jsonio
from merino_edge.formats.architecture import Architecture, BlockSpec

SCHEMA = "merino-edge.space/1"
WIDTH, RATIO, DEPTH = 0, 1, 2  # columns of a genome


class Vocabulary(NamedTuple):
    """One choice of vocabulary.

    Attributes:
        size: Rows of the token embedding.
        bytes_per_token: UTF-8 bytes of text that one token carries on average, as measured with a
            tokenizer of that size on text of the kind that will be generated.
    """

    size: int
    bytes_per_token: float


@dataclass(frozen=True)
class SearchSpace:
    """Choices for every block, and what all members have in common.

    Attributes:
        name: For people and files.
        n_blocks: Blocks in the chain (paper: N).
        d_models: Widths (paper: E), ascending multiples of head_dim.
        ffn_ratios: Feed-forward ratios (paper: R), ascending; d_ff is the nearest integer to R E.
        depths: Applications of a block (paper: L), ascending.
        head_dim: Width of a head; a block of width E has E / head_dim heads.
        vocab_size: Rows of the token embedding. Where ``vocabularies`` are given it is one of
            them, the *reference* in whose tokens limits are quoted.
        max_seq_len: Longest sequence, in tokens.
        monotone: Widths never shrink from a block to the next.
        norm: And the fields to tie_embeddings: as in ``Architecture``.
        vocabularies: Vocabularies to choose from, ascending in size, a larger one with no fewer
            bytes in a token; empty where the vocabulary is settled.
    """

    name: str
    n_blocks: int
    d_models: tuple[int, ...]
    ffn_ratios: tuple[float, ...]
    depths: tuple[int, ...]
    head_dim: int
    vocab_size: int
    max_seq_len: int
    monotone: bool = True
    norm: str = "layernorm"
    position: str = "learned"
    activation: str = "gelu"
    gated_ffn: bool = False
    attention_bias: bool = True
    ffn_bias: bool = True
    tie_embeddings: bool = True
    vocabularies: tuple[Vocabulary, ...] = ()

    def __post_init__(self) -> None:
        for name in ("n_blocks", "head_dim", "vocab_size", "max_seq_len"):
            check_count(name, getattr(self, name))
        for name in ("d_models", "ffn_ratios", "depths"):
            check_choices(name, getattr(self, name))
        for index, width in enumerate(self.d_models):
            if width % self.head_dim:
                refuse(f"d_models[{index}]", width, f"not a multiple of head_dim {self.head_dim}")
        if self.position == "rope" and self.head_dim % 2:
            refuse("head_dim", self.head_dim, "must be even for rope")
        if self.vocabularies:
            sizes, bytes_per_token = zip(*self.vocabularies, strict=True)
            check_vocabularies(sizes, bytes_per_token, self.vocab_size)
        self.decode(self.smallest())  # the architecture checks the words that it shares

    def replace(self, **changes: Any) -> "SearchSpace":
        """A copy with some fields changed, checked again."""
        return replace(self, **changes)

    @property
    def n_choices(self) -> tuple[int, int, int]:
        """How many widths, ratios and depths a block can choose from."""
        return len(self.d_models), len(self.ffn_ratios), len(self.depths)

    @property
    def size(self) -> int:
        """Number of members with one vocabulary."""
        _, ratios, depths = self.n_choices
        return self.n_chains * int((ratios * depths) ** self.n_blocks)

    @property
    def n_chains(self) -> int:
        """Number of chains of widths."""
        widths = len(self.d_models)
        sorted_chains = comb(widths + self.n_blocks - 1, self.n_blocks)
        return sorted_chains if self.monotone else int(widths**self.n_blocks)

    def smallest(self) -> np.ndarray:
        """The genome of the first choices. No member is cheaper."""
        return np.zeros((self.n_blocks, 3), dtype=np.int64)

    def alternatives(self) -> tuple[tuple["SearchSpace", float], ...]:
        """This space with each of its vocabularies settled, and how many tokens each needs.

        Returns:
            For each vocabulary, in order, the space with that ``vocab_size`` and no choice left,
            and how many of its tokens carry as much text as one of the reference: the
            ``tokens_per_reference`` of a work point. Only (itself, 1.0) for a settled space.
        """
        if not self.vocabularies:
            return ((self, 1.0),)
        reference = dict(self.vocabularies)[self.vocab_size]
        return tuple(
            (self.replace(vocab_size=size, vocabularies=()), reference / bytes_per_token)
            for size, bytes_per_token in self.vocabularies
        )

    def sample(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """Random genomes, shape (n, n_blocks, 3).

        Each gene is uniform; where widths must not shrink they are sorted afterwards, so chains
        of equal widths are a little rarer than one in ``size``.
        """
        genomes = rng.integers(0, self.n_choices, size=(n, self.n_blocks, 3))
        if self.monotone:
            genomes[:, :, WIDTH].sort(axis=1)
        return genomes

    def d_ff(self, width: int, ratio: float) -> int:
        """Feed-forward width of a block: the integer nearest to ratio x width, at least 1."""
        return max(1, round(width * ratio))

    def block(self, width: int, ratio: float, depth: int) -> BlockSpec:
        """One block of this space."""
        n_head = width // self.head_dim
        return BlockSpec(width, n_head, n_head, self.d_ff(width, ratio), depth)

    def architecture(self, blocks: tuple[BlockSpec, ...]) -> Architecture:
        """The decoder with these blocks and what all members have in common."""
        return Architecture(
            blocks=blocks,
            vocab_size=self.vocab_size,
            max_seq_len=self.max_seq_len,
            norm=self.norm,
            position=self.position,
            activation=self.activation,
            gated_ffn=self.gated_ffn,
            attention_bias=self.attention_bias,
            ffn_bias=self.ffn_bias,
            tie_embeddings=self.tie_embeddings,
        )

    def decode(self, genome: np.ndarray) -> Architecture:
        """The architecture of one genome, shape (n_blocks, 3)."""
        choices = [
            (self.d_models[width], self.ffn_ratios[ratio], self.depths[depth])
            for width, ratio, depth in genome.tolist()
        ]
        return self.architecture(tuple(self.block(*choice) for choice in choices))

    def encode(self, architecture: Architecture) -> np.ndarray:
        """The genome of a member.

        Raises:
            SpecError: It is not a member; says what differs first.
        """
        blocks = architecture.blocks
        if len(blocks) != self.n_blocks:
            raise SpecError(f"{len(blocks)} blocks, the space '{self.name}' has {self.n_blocks}.")
        genome = np.array([self._genes(i, block) for i, block in enumerate(blocks)])
        if self.monotone and (np.diff(genome[:, WIDTH]) < 0).any():
            raise SpecError(f"the widths shrink; in the space '{self.name}' they must not.")
        if self.decode(genome) != architecture:
            raise SpecError(f"its common fields are not those of the space '{self.name}'.")
        return genome

    def __contains__(self, architecture: Architecture) -> bool:
        try:
            self.encode(architecture)
        except SpecError:
            return False
        return True

    def _genes(self, index: int, block: BlockSpec) -> tuple[int, int, int]:
        d_ffs = [self.d_ff(block.d_model, ratio) for ratio in self.ffn_ratios]
        genes = []
        for name, choices in (("d_model", self.d_models), ("d_ff", d_ffs), ("depth", self.depths)):
            value = getattr(block, name)
            if value not in choices:
                choices_text = ", ".join(map(str, choices))
                raise SpecError(f"blocks[{index}].{name} is {value}, not one of {choices_text}.")
            genes.append(list(choices).index(value))
        return genes[0], genes[1], genes[2]


# The grids are choices of ours: the paper's were not published where we could read them.
_PAPER = SearchSpace(
    name="paper",
    n_blocks=4,
    d_models=tuple(range(128, 1025, 64)),
    ffn_ratios=(1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0),
    depths=tuple(range(1, 17)),
    head_dim=64,
    vocab_size=50257,
    max_seq_len=1024,
)
_NANO = _PAPER.replace(name="nano", vocab_size=8192)
_TINY = SearchSpace(
    name="tiny",
    n_blocks=3,
    d_models=tuple(range(64, 257, 32)),
    ffn_ratios=_PAPER.ffn_ratios,
    depths=tuple(range(1, 9)),
    head_dim=32,
    vocab_size=2048,
    max_seq_len=256,
)
# Measured: byte-level BPEs learned on WikiText-2's training text, and the bytes per token of its
# validation text (benchmarks/results/search/vocabulary.json; benchmarks/search/
# vocabulary.py measures any other text).
_NANO_VOCAB = _NANO.replace(
    name="nano-vocab",
    vocabularies=(
        Vocabulary(2048, 3.0969),
        Vocabulary(4096, 3.5423),
        Vocabulary(8192, 3.9794),
        Vocabulary(16384, 4.313),
        Vocabulary(32768, 4.54),
    ),
)
PRESETS = {space.name: space for space in (_PAPER, _NANO, _TINY, _NANO_VOCAB)}


def get(name: str) -> SearchSpace:
    """A preset by name.

    Raises:
        UsageError: There is none; names those there are.
    """
    if name not in PRESETS:
        known = ", ".join(PRESETS)
        raise UsageError(
            f"there is no space '{name}'.", hint=f"one of {known}, or a .json or .toml file"
        )
    return PRESETS[name]


def from_file(path: str) -> SearchSpace:
    """Read a space that the program or a person wrote: .json or .toml, by the name's end.

    JSON carries the schema line that ``to_json_file`` writes. TOML is written by hand and may
    leave it out.

    Raises:
        FormatError: Another kind of file; unknown, missing or wrong fields, with the field's path.
        SchemaVersionError: Written for a version with another schema.
        MissingDependencyError: There is no TOML reader.
    """
    suffix = os.path.splitext(path)[1].lower()
    if suffix == ".json":
        return _from_json(path)
    if suffix != ".toml":
        raise FormatError("a space is a .json or a .toml file.", path)
    document = {"schema": SCHEMA, **read_toml(path)}
    return jsonio.record_from(document, path, SCHEMA, SearchSpace)


def _from_json(path: str) -> SearchSpace:
    """Read a space from JSON, whatever the file is called; as ``from_file``."""
    return jsonio.read_record(path, SCHEMA, SearchSpace)


def to_json_file(path: str, space: SearchSpace) -> None:
    """Write a space, for ``from_file`` or for a person to edit."""
    jsonio.write_record(path, SCHEMA, space)
