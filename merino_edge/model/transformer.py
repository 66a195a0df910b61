"""``MerinoLM(architecture)``: the one torch model, for MeRino and for imported decoders.

The one idea: a ``SharedBlock`` holds one attention and one feed-forward and applies them
``depth`` times, each time between two norms of its own. The names of the parameters are the
names of ``formats.weights.weight_shapes``, so a checkpoint needs no translation.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from merino_edge.errors import SessionError
from merino_edge.formats.architecture import Architecture, BlockSpec
from merino_edge.model.attention import Attention, LayerCache
from merino_edge.model.layers import FeedForward, make_norm, rope_tables
from merino_edge.model.packing import PackedLayer, Packing

Layers = Iterator[LayerCache | PackedLayer | None]  # one a layer application, in order
Where = slice | Tensor  # positions of a row's tokens

EMBED_STD = 0.02  # as GPT-2, for the two embeddings


class Cache:
    """Keys and values of every layer application, allocated once.

    Attributes:
        position: Tokens in the cache.
        layers: One entry per application, in the order they run.
    """

    def __init__(self, a: Architecture, capacity: int, batch: int = 1, device: str = "cpu"):
        self.capacity = capacity
        self.position = 0
        self.layers = [
            LayerCache(*(self._rows(batch, capacity, block, device) for _ in range(2)))
            for _, _, block in a.layers()
        ]

    @staticmethod
    def _rows(batch: int, capacity: int, block, device: str) -> Tensor:
        return torch.zeros(batch, capacity, block.n_kv_head, block.head_dim, device=device)


class LayerNorms(nn.Module):
    """The two norms of one application."""

    def __init__(self, a: Architecture, width: int):
        super().__init__()
        self.attn = make_norm(a, width)
        self.ffn = make_norm(a, width)


class SharedBlock(nn.Module):
    """One set of weights applied ``depth`` times; norms and cache are per application."""

    def __init__(self, a: Architecture, index: int):
        super().__init__()
        block = a.blocks[index]
        joint = a.joints().get(index)
        self.joint = nn.Linear(*joint, bias=False) if joint else None
        self.parallel, self.post = a.parallel_residual, a.norm_place == "post"
        self.attn = Attention(a, block)
        self.ffn = FeedForward(a, block)
        self.norms = nn.ModuleList(LayerNorms(a, block.d_model) for _ in range(block.depth))

    def forward(
        self,
        x: Tensor,
        rope: tuple[Tensor, Tensor] | None,
        caches: Layers,
        position: int,
    ) -> Tensor:
        """x [B, T, d_model] -> the same; takes one cache a layer from the iterator."""
        for norms in cast(Iterable[LayerNorms], self.norms):
            cache = next(caches)
            if self.parallel:
                mixed = self.attn(norms.attn(x), rope, cache, position)
                x = x + mixed + self.ffn(norms.ffn(x))
            elif self.post:
                x = norms.attn(x + self.attn(x, rope, cache, position))
                x = norms.ffn(x + self.ffn(x))
            else:
                x = x + self.attn(norms.attn(x), rope, cache, position)
                x = x + self.ffn(norms.ffn(x))
        return x


class MerinoLM(nn.Module):
    """A decoder-only language model described by an ``Architecture``."""

    def __init__(self, architecture: Architecture):
        super().__init__()
        a = self.architecture = architecture
        self.embed = nn.Embedding(a.vocab_size, a.embed_dim)
        first, last = a.blocks[0], a.blocks[-1]
        learned = a.position == "learned"
        self.pos_embed = nn.Embedding(a.max_seq_len, first.d_model) if learned else None
        self.blocks = nn.ModuleList(SharedBlock(a, b) for b in range(len(a.blocks)))
        self.final_norm = make_norm(a, last.d_model) if a.final_norm else None
        narrow = a.embed_dim != last.d_model
        self.head_joint = nn.Linear(last.d_model, a.embed_dim, bias=False) if narrow else None
        self.head = None if a.tie_embeddings else nn.Linear(a.embed_dim, a.vocab_size, bias=False)
        self._rope = _RopeTables(a)
        self._init_weights()

    def forward(self, input_ids: Tensor, cache: Cache | None = None) -> Tensor:
        """Logits of every position.

        Args:
            input_ids: [B, T] token ids.
            cache: Earlier tokens; the new ones are added to it.

        Returns:
            [B, T, vocab_size].

        Raises:
            SessionError: More positions than the model or the cache has.
        """
        position = cache.position if cache else 0
        x = self._hidden(input_ids, cache, position)
        if cache:
            cache.position = position + input_ids.shape[1]
        return self.logits(x)

    def packed(self, packing: Packing) -> Tensor:
        """What the last layer gives for texts in one row, [N, d_model]; ``logits`` takes any rows.

        Raises:
            SessionError: A position that the model does not have.
        """
        end = int(packing.positions.max()) + 1
        if end > self.architecture.max_seq_len:
            raise SessionError(
                f"{end} positions are asked for, {self.architecture.max_seq_len} are there."
            )
        layers = packing.layers(self.architecture.n_layers)
        return self._run(packing.ids, layers, packing.positions, 0)[0]

    def logits(self, x: Tensor) -> Tensor:
        """What the last layer gave [..., d_model] -> [..., vocab_size]."""
        if self.final_norm is not None:
            x = self.final_norm(x)
        if self.head_joint is not None:
            x = self.head_joint(x)
        weight = self.embed.weight if self.head is None else self.head.weight
        return nn.functional.linear(x, weight)

    def _hidden(self, input_ids: Tensor, cache: Cache | None, position: int) -> Tensor:
        end = position + input_ids.shape[1]
        limit = min(self.architecture.max_seq_len, cache.capacity if cache else end)
        if end > limit:
            raise SessionError(f"{end} positions are asked for, {limit} are there.")
        layers = iter(cache.layers if cache else [None] * self.architecture.n_layers)
        return self._run(input_ids, layers, slice(position, end), position)

    def _run(self, input_ids: Tensor, layers: Layers, where: Where, position: int) -> Tensor:
        """All blocks; ``where`` the rows stand, ``position`` is the first row of the caches."""
        x = self.embed(input_ids)
        for index, block in enumerate(cast(Iterable[SharedBlock], self.blocks)):
            if block.joint is not None:
                x = block.joint(x)
            if index == 0 and self.pos_embed is not None:
                x = x + self.pos_embed.weight[where]
            rope = self._rope(block.attn.block, where, x.device)
            x = block(x, rope, layers, position)
        return x

    def _init_weights(self) -> None:
        """N(0, 0.02) for embeddings, N(0, 1 / inputs) for matrices, zero for biases, 1 for joints.

        A joint passes the residual on as it is, with zeros beside it or without what does not fit.
        Drawn at random, it cuts the path from the embedding to the head that is tied to it: of
        a decoder 96, 128, 128 wide, trained on 1.5 M tokens, the loss was 4.31 nats a token, and
        4.06 with such joints, trained slowly (``training.optim``).

        GPT-2's 0.02 for every matrix suits widths near 2500, where the two rules agree; at width
        128 a signal would shrink by four in each matrix. What enters the residual is scaled by
        1/sqrt(2 x layers), as in GPT-2; the count is of *executed* layers, since a shared matrix
        adds to the residual ``depth`` times.
        """
        for name, parameter in self.named_parameters():
            if is_joint(name):
                nn.init.eye_(parameter)
            elif "embed" in name or name == "head.weight":
                nn.init.normal_(parameter, std=EMBED_STD)
            elif parameter.dim() == 2:
                into_residual = name.endswith(("attn.out.weight", "ffn.down.weight"))
                fan = parameter.shape[1] * (2 * self.architecture.n_layers if into_residual else 1)
                nn.init.normal_(parameter, std=fan**-0.5)
            elif name.endswith(".bias"):
                nn.init.zeros_(parameter)


def new_model(architecture: Architecture, seed: int) -> MerinoLM:
    """A model with fresh weights; same seed, same weights, and torch's own generator untouched."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return MerinoLM(architecture)


def is_joint(name: str) -> bool:
    """A parameter between two widths, by its name."""
    return name.endswith("joint.weight")


def load_model(a: Architecture, tensors: Mapping[str, np.ndarray]) -> MerinoLM:
    """A model with these weights, ready to be asked; the arrays are copied once.

    Args:
        a: The decoder.
        tensors: Name -> float32 array, as in a checkpoint.
    """
    with torch.device("meta"):  # no memory and no random numbers for weights that are replaced
        model = MerinoLM(a)
    state = {name: torch.from_numpy(np.array(array)) for name, array in tensors.items()}
    model.load_state_dict(state, assign=True)
    return model.eval()


def random_tensors(a: Architecture, seed: int) -> dict[str, np.ndarray]:
    """Weights as training would start from; for measuring speed, not for text."""
    return {name: p.detach().numpy() for name, p in new_model(a, seed).named_parameters()}


class _RopeTables:
    """Rotary tables by rotated width, made at first use; not parameters, so not in checkpoints."""

    def __init__(self, a: Architecture):
        self._a = a
        self._tables: dict[tuple[int, str], tuple[Tensor, Tensor]] = {}

    def __call__(
        self, block: BlockSpec, where: Where, device: torch.device
    ) -> tuple[Tensor, Tensor] | None:
        if self._a.position != "rope":
            return None
        n_rotated = self._a.rotary_dim(block)
        key = (n_rotated, str(device))
        if key not in self._tables:
            tables = rope_tables(self._a.max_seq_len, n_rotated, self._a.rope_base)
            self._tables[key] = (tables[0].to(device), tables[1].to(device))
        cos, sin = self._tables[key]
        return cos[where], sin[where]
