"""A numpy decoder, slow and obvious: the truth that the fast backends are held to.

The one idea: it has no cache. It keeps the token ids and computes the whole prefix at every call,
so whatever a cache can get wrong (a row too few, a stale row, a position off by one, the border of
a chunk) is a difference between a fast backend and this one. It reads the weights where they lie,
mapped from the bundle, and knows nothing of graphs or engines.

Shapes: T tokens, H query heads, K key/value heads, D head_dim, V vocabulary.
"""

import math

import numpy as np

from merino_edge.formats.architecture import Architecture, BlockSpec
from merino_edge.formats.bundle import Bundle, optional_file
from merino_edge.formats.weights import check_names
from merino_edge.runtime.backend import Backend
from merino_edge.runtime.native_map import native_tensors
from merino_edge.runtime.weights_map import Tensors, map_tensors


class ReferenceBackend(Backend):
    """The numpy decoder of a bundle.

    Args:
        bundle: An opened bundle with a "weights" file, or a "native" one: of that it takes what the
            rounded weights stand for.
        dtype: "float32", or "float64" to bound the rounding of others.

    Raises:
        FormatError: The weights are not those of the architecture.
        UnsupportedError: Weights in a precision that numpy does not read.
    """

    name = "reference"

    def __init__(self, bundle: Bundle, dtype: str = "float32"):
        manifest = bundle.manifest
        self._architecture = manifest.architecture
        description = "numpy {}, no cache, {}".format(np.__version__, dtype)
        super().__init__(
            manifest.kv_cache.context_len, self._architecture.vocab_size, 0, description
        )
        self._tensors = _stored_tensors(bundle, dtype)
        self._ids = np.zeros(self.context_len, dtype=np.int32)

    def _forward(self, input_ids: np.ndarray, all_logits: bool) -> np.ndarray:
        end = self.position + input_ids.size
        self._ids[self.position : end] = input_ids
        n_rows = input_ids.size if all_logits else 1
        return decoder_logits(self._architecture, self._tensors, self._ids[:end], n_rows)

    def _release(self) -> None:
        self._tensors = {}


def _stored_tensors(bundle: Bundle, dtype: str) -> Tensors:
    architecture, native = bundle.manifest.architecture, optional_file(bundle, "native")
    if native is not None:
        return native_tensors(native, architecture, dtype)
    path = bundle.file("weights")
    tensors = map_tensors(path, dtype)
    check_names({n: t.shape for n, t in tensors.items()}, architecture, path)
    return tensors


def decoder_logits(a: Architecture, w: Tensors, ids: np.ndarray, n_rows: int) -> np.ndarray:
    """Logits after the last ``n_rows`` tokens of a text.

    Args:
        a: The decoder.
        w: Its tensors, named as in ``formats.weights.weight_shapes``.
        ids: The whole text so far, int [T].
        n_rows: How many of the last positions to give.

    Returns:
        [n_rows, V], float32.
    """
    x = w["embed.weight"][ids]
    for b, i, block in a.layers():
        prefix = "blocks.{}.".format(b)
        if i == 0:
            x = _enter_block(a, w, x, b, prefix)
        x = _layer(a, w, x, block, prefix, "{}norms.{}.".format(prefix, i))
    x = x[-n_rows:]
    if a.final_norm:
        x = _norm(a, w, "final_norm", x)
    if "head_joint.weight" in w:
        x = x @ w["head_joint.weight"].T
    head = w["embed.weight"] if a.tie_embeddings else w["head.weight"]
    return (x @ head.T).astype(np.float32, copy=False)  # type: ignore[no-any-return]


def _layer(
    a: Architecture, w: Tensors, x: np.ndarray, block: BlockSpec, prefix: str, norm: str
) -> np.ndarray:
    """One application of a block to the stream [T, d]; ``norm`` begins its norms' names."""
    if a.norm_place == "post":
        x = _norm(a, w, norm + "attn", x + _attention(a, w, x, block, prefix))
        return _norm(a, w, norm + "ffn", x + _feed_forward(a, w, x, prefix))
    attended = x + _attention(a, w, _norm(a, w, norm + "attn", x), block, prefix)
    read = x if a.parallel_residual else attended
    fed = _feed_forward(a, w, _norm(a, w, norm + "ffn", read), prefix)
    return attended + fed  # type: ignore[no-any-return]


def _enter_block(a: Architecture, w: Tensors, x: np.ndarray, b: int, prefix: str) -> np.ndarray:
    """Widen or narrow the stream [T, d] at a joint; add learned positions at the start."""
    if b in a.joints():
        x = x @ w[prefix + "joint.weight"].T
    if b == 0 and a.position == "learned":
        x = x + w["pos_embed.weight"][: len(x)]
    return x


def _attention(
    a: Architecture, w: Tensors, x: np.ndarray, block: BlockSpec, prefix: str
) -> np.ndarray:
    n_tokens, head_dim = len(x), block.head_dim
    qkv = _linear(w, prefix + "attn.qkv", x).reshape(n_tokens, -1, head_dim)  # [T, H + 2K, D]
    q, k, v = np.split(qkv, [block.n_head, block.n_head + block.n_kv_head], axis=1)
    if a.position == "rope":
        n_rotated = a.rotary_dim(block)
        q, k = _rotate(q, a.rope_base, n_rotated), _rotate(k, a.rope_base, n_rotated)
    return _linear(w, prefix + "attn.out", _attend(q, k, v).reshape(n_tokens, -1))


def _attend(q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
    """What each query [T, H, D] finds among the keys and values [T, K, D] before it: [T, H, D]."""
    n_tokens, n_head, head_dim = q.shape
    future = np.triu(np.ones((n_tokens, n_tokens), dtype=bool), k=1)
    heads_per_kv = n_head // k.shape[1]
    out = np.empty_like(q)
    for head in range(n_head):
        shared = head // heads_per_kv
        scores = (q[:, head] @ k[:, shared].T) / math.sqrt(head_dim)  # [T, T]
        scores[future] = -np.inf
        out[:, head] = _softmax(scores) @ v[:, shared]
    return out


def _rotate(x: np.ndarray, base: float, n_rotated: int) -> np.ndarray:
    """Rotary positions [T, heads, D]: of the first R channels, j turns with j + R/2.

    Su et al. 2021; that the others pass as they are is GPT-NeoX's.
    """
    half = n_rotated // 2
    frequency = base ** (-np.arange(half) / half)
    angle = np.arange(len(x))[:, None, None] * frequency  # float64 [T, 1, R/2]
    cos, sin = np.cos(angle).astype(x.dtype), np.sin(angle).astype(x.dtype)
    first, second, rest = np.split(x, [half, n_rotated], axis=-1)
    return np.concatenate([first * cos - second * sin, second * cos + first * sin, rest], axis=-1)


def _feed_forward(a: Architecture, w: Tensors, x: np.ndarray, prefix: str) -> np.ndarray:
    act = _ACTIVATIONS[a.activation]
    up = _linear(w, prefix + "ffn.up", x)
    if a.gated_ffn:
        gate, up = np.split(up, 2, axis=-1)
        return _linear(w, prefix + "ffn.down", act(gate) * up)
    return _linear(w, prefix + "ffn.down", act(up))


def _linear(w: Tensors, name: str, x: np.ndarray) -> np.ndarray:
    y = x @ w[name + ".weight"].T
    bias = w.get(name + ".bias")
    return y if bias is None else y + bias  # type: ignore[no-any-return]


def _norm(a: Architecture, w: Tensors, name: str, x: np.ndarray) -> np.ndarray:
    scale = w[name + ".weight"]
    if a.norm == "rmsnorm":
        return (  # type: ignore[no-any-return]
            x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + x.dtype.type(a.norm_eps)) * scale
        )
    x = x - x.mean(axis=-1, keepdims=True)
    variance = np.mean(x * x, axis=-1, keepdims=True)
    return x / np.sqrt(variance + x.dtype.type(a.norm_eps)) * scale + w[name + ".bias"]  # type: ignore[no-any-return]


def _softmax(scores: np.ndarray) -> np.ndarray:
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)  # type: ignore[no-any-return]


_erf = np.vectorize(math.erf, otypes=[np.float64])  # scipy would be faster, and one more package


def _gelu(x: np.ndarray) -> np.ndarray:
    return (0.5 * x * (1.0 + _erf(x / math.sqrt(2.0)))).astype(x.dtype)  # type: ignore[no-any-return]


def _gelu_tanh(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x * x * x)))  # type: ignore[no-any-return]


def _relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0)  # type: ignore[no-any-return]


def _silu(x: np.ndarray) -> np.ndarray:
    # 0.5 (1 + tanh(x/2)) is the sigmoid, without exp's overflow for very negative x
    return x * (0.5 * (1.0 + np.tanh(0.5 * x)))


_ACTIVATIONS = {
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
    "relu": _relu,
    "silu": _silu,
}
