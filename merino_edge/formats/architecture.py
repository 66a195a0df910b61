"""One description for every decoder: MeRino, and the models that people already have.

A decoder is a chain of *blocks*. A block owns one set of attention and feed-forward weights and
applies it ``depth`` times; each application ("layer") has its own two norms and its own cache.
Widths may change from block to block: a bias-free projection joins them, and the residual stream
passes through it. With every depth 1 and every width equal this is an ordinary transformer.

The fields are what differs between families; everything else is common: causal attention,
residual additions, a token embedding that may also be the head. This record crosses machines
inside checkpoints and bundles, which is why it lives here. It knows no cost and no weights;
``weights.py`` beside it lists what must be stored.

A field that came later (``LATER_FIELDS``) is written only where it differs from its default, so
the files and the ids of all earlier decoders stay as they are.
"""

from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from merino_edge.errors import FormatError, SpecError
from merino_edge.formats import jsonio

SCHEMA = "merino-edge.architecture/1"
NORMS = ("layernorm", "rmsnorm")
POSITIONS = ("learned", "rope")
ACTIVATIONS = ("gelu", "gelu_tanh", "relu", "silu")
NORM_PLACES = ("pre", "post")


class BlockSpec(NamedTuple):
    """One set of weights, applied ``depth`` times (paper: width E, ratio R, depth L).

    Attributes:
        d_model: Width of the residual stream inside the block (paper: E).
        n_head: Query heads; head_dim is d_model / n_head.
        n_kv_head: Key and value heads; a divisor of n_head (grouped-query attention).
        d_ff: Width of the feed-forward layer (paper: R x E, kept as an integer).
        depth: How often the weights are applied (paper: L).
    """

    d_model: int
    n_head: int
    n_kv_head: int
    d_ff: int
    depth: int

    @property
    def head_dim(self) -> int:
        """Width of one head."""
        return self.d_model // self.n_head

    @property
    def ffn_ratio(self) -> float:
        """d_ff / d_model (paper: R)."""
        return self.d_ff / self.d_model

    @property
    def qkv_dim(self) -> int:
        """Rows of the fused projection: queries, then keys, then values."""
        return (self.n_head + 2 * self.n_kv_head) * self.head_dim


class _Fields(NamedTuple):
    blocks: Tuple[BlockSpec, ...]
    vocab_size: int
    max_seq_len: int
    norm: str = "layernorm"
    norm_eps: float = 1e-5
    position: str = "learned"
    rope_base: float = 10000.0
    activation: str = "gelu"
    gated_ffn: bool = False
    attention_bias: bool = True
    ffn_bias: bool = True
    tie_embeddings: bool = True
    d_embed: Optional[int] = None
    norm_place: str = "pre"
    final_norm: bool = True
    parallel_residual: bool = False
    rope_fraction: float = 1.0


class Architecture(_Fields):
    """A decoder, as plain integers and a few words; checks itself when it is made.

    Attributes:
        blocks: The chain, first to last.
        vocab_size: Rows of the token embedding.
        max_seq_len: Longest sequence it was made for, in tokens.
        norm: "layernorm" (scale and shift) or "rmsnorm" (scale), one for each sublayer.
        norm_eps: Added to the variance.
        position: "learned" (a table of max_seq_len rows) or "rope" (rotates queries and keys).
        rope_base: Base of the rotary frequencies; 10000 where unused.
        activation: Of the feed-forward layer.
        gated_ffn: True for act(x W_gate) * (x W_up), as in Llama.
        attention_bias: Biases on the attention projections.
        ffn_bias: Biases on the feed-forward projections.
        tie_embeddings: The head is the token embedding.
        d_embed: Width of the token embedding; None for that of the first block.
        norm_place: "pre" for x + f(norm(x)), "post" for norm(x + f(x)) (OPT-350M).
        final_norm: A norm between the last layer and the head; OPT-350M has none.
        parallel_residual: Both sublayers read the same x: x + attn(norm(x)) + ffn(norm'(x))
            (GPT-NeoX, Pythia).
        rope_fraction: Share of each head that is rotated, its first dimensions (Pythia: 0.25);
            pairs lie half of the rotated part apart.

    Raises:
        SpecError: A value is out of range, or two of them contradict each other.
    """

    __slots__ = ()
    LATER_FIELDS = ("norm_place", "final_norm", "parallel_residual", "rope_fraction")

    def __new__(cls, *args: Any, **fields: Any) -> "Architecture":
        """Make and check it."""
        self = super().__new__(cls, *args, **fields)
        _check(self)
        return self

    def replace(self, **changes: Any) -> "Architecture":
        """A copy with some fields changed, checked again (unlike ``_replace``)."""
        fields = dict(self._asdict())
        fields.update(changes)
        return Architecture(**fields)

    @property
    def n_layers(self) -> int:
        """Layer applications: the sum of the blocks' depths."""
        return sum(block.depth for block in self.blocks)

    @property
    def embed_dim(self) -> int:
        """Width of the token embedding."""
        return self.d_embed or self.blocks[0].d_model

    def rotary_dim(self, block: BlockSpec) -> int:
        """Dimensions of a block's heads that rope rotates, the first ones; 0 without rope."""
        if self.position != "rope":
            return 0
        return int(block.head_dim * self.rope_fraction)  # cut, not rounded, as GPT-NeoX does

    @property
    def arch_id(self) -> str:
        """Twelve hexadecimal digits: SHA-256 over the canonical JSON."""
        return jsonio.digest(jsonio.encode(self))[:12]

    def layers(self) -> List[Tuple[int, int, BlockSpec]]:
        """(block index, application within the block, block), in the order they run."""
        return [(b, i, block) for b, block in enumerate(self.blocks) for i in range(block.depth)]

    def joints(self) -> Dict[int, Tuple[int, int]]:
        """Block index -> (width before, width after), where the width changes."""
        widths = [self.embed_dim] + [block.d_model for block in self.blocks]
        pairs = enumerate(zip(widths, widths[1:]))
        return {b: (before, after) for b, (before, after) in pairs if before != after}


def describe(architecture: Architecture) -> str:
    """One line for people: ``d128 h4 ff256 x2 | d192 h6 ff384 x3``."""
    return " | ".join(
        "d{b.d_model} h{b.n_head}{kv} ff{b.d_ff} x{b.depth}".format(
            b=block, kv="" if block.n_kv_head == block.n_head else "/{}".format(block.n_kv_head)
        )
        for block in architecture.blocks
    )


def write_architecture(path: str, architecture: Architecture) -> None:
    """Write ``arch.json``."""
    jsonio.write_record(path, SCHEMA, architecture)


def read_architecture(path: str) -> Architecture:
    """Read ``arch.json``, or the architecture inside a search result or a checkpoint.

    Raises:
        FormatError: The file does not describe an architecture.
    """
    document = jsonio.read_json(path)
    if isinstance(document, dict) and isinstance(document.get("architecture"), dict):
        found: Architecture = jsonio.decode(
            Architecture, document["architecture"], path, "architecture"
        )
        return found
    try:
        return jsonio.read_record(path, SCHEMA, Architecture)
    except FormatError as error:
        error.hint = error.hint or "make one with: merino-edge search --target host -o arch.json"
        raise


_WORDS = (
    ("norm", NORMS),
    ("position", POSITIONS),
    ("activation", ACTIVATIONS),
    ("norm_place", NORM_PLACES),
)


def _check(a: Architecture) -> None:
    if not a.blocks:
        raise SpecError("an architecture needs at least one block.")
    _check_rope(a)
    for index, block in enumerate(a.blocks):
        _check_block(index, block, a)
    for name in ("vocab_size", "max_seq_len", "embed_dim"):
        if getattr(a, name) < 1:
            raise SpecError("{} is {}, must be at least 1.".format(name, getattr(a, name)))
    for name, allowed in _WORDS:
        if getattr(a, name) not in allowed:
            raise SpecError(
                "is {!r}, must be one of {}.".format(getattr(a, name), ", ".join(allowed)),
                field=name,
            )
    if not 0.0 < a.norm_eps < 1.0:
        raise SpecError("norm_eps is {}, must be between 0 and 1.".format(a.norm_eps))
    if a.parallel_residual and a.norm_place == "post":
        raise SpecError("parallel_residual and norm_place 'post' contradict each other.")


def _check_rope(a: Architecture) -> None:
    if not a.rope_base > 1.0:
        raise SpecError("rope_base is {}, must be above 1.".format(a.rope_base))
    if not 0.0 < a.rope_fraction <= 1.0:
        message = "is {}, must be above 0 and at most 1.".format(a.rope_fraction)
        raise SpecError(message, field="rope_fraction")
    if a.rope_fraction != 1.0 and a.position != "rope":
        message = "is {}, but the position is {}.".format(a.rope_fraction, a.position)
        raise SpecError(message, field="rope_fraction")


def _check_block(index: int, block: BlockSpec, a: Architecture) -> None:
    where = "blocks[{}]".format(index)
    for name in BlockSpec._fields:
        if getattr(block, name) < 1:
            value = getattr(block, name)
            raise SpecError("{}.{} is {}, must be at least 1.".format(where, name, value))
    if block.d_model % block.n_head:
        raise SpecError(
            "{0}.d_model {1.d_model} is not a multiple of n_head {1.n_head}.".format(where, block)
        )
    if block.n_head % block.n_kv_head:
        raise SpecError(
            "{0}.n_head {1.n_head} is not a multiple of n_kv_head {1.n_kv_head}.".format(
                where, block
            )
        )
    if a.position == "rope" and block.head_dim % 2:
        raise SpecError("{}.head_dim {} must be even for rope.".format(where, block.head_dim))
    n_rotated = a.rotary_dim(block)
    if a.position == "rope" and (n_rotated < 2 or n_rotated % 2):
        raise SpecError(
            "{} of {}'s head_dim {} rotates {} dimensions, must be even and at least 2.".format(
                a.rope_fraction, where, block.head_dim, n_rotated
            ),
            field="rope_fraction",
        )
