"""The manifest of a bundle: what crosses from the workstation to the board, and how to check it.

The one idea: everything the runtime must know stands here, in JSON, before any model file is
opened: the architecture, the cache it needs, the generation defaults, how a chat is written, the
golden prompts with the tokens they must give, and the SHA-256 of every other file.
"""

from typing import Dict, List, NamedTuple, Optional, Tuple

from merino_edge.formats.architecture import Architecture
from merino_edge.formats.engine_spec import EngineSpec

SCHEMA = "merino-edge.bundle/1"
# What a mask adds to a score that must not count. exp() of it is 0, and it is finite in FP16.
HIDDEN_SCORE = -1e4


class FileEntry(NamedTuple):
    """One file of a bundle."""

    sha256: str
    size_bytes: int
    role: str


class KVCacheSpec(NamedTuple):
    """The cache a bundle needs.

    Rows are sequence-major: one buffer per layer and per key/value, shape
    (n_rows, n_kv_head, head_dim). The past of a call is a prefix of it and is never empty, since
    TensorRT 8.2 and some ONNX Runtime kernels mistreat zero-length dimensions. Without buckets the
    past has exactly the rows that hold tokens, behind a sentinel in row 0 that the mask hides. With
    buckets it has the length of the smallest bucket that is long enough, and the mask hides the
    rows that hold no token yet: shapes and addresses then stay the same from step to step.

    Attributes:
        layers: (n_kv_head, head_dim) of each layer application, in order.
        context_len: Tokens that fit.
        dtype: "float32" or "float16".
        buckets: Lengths that a past may have, ascending, the last is ``context_len``; empty for
            any length.
    """

    layers: List[Tuple[int, ...]]
    context_len: int
    dtype: str = "float32"
    buckets: List[int] = []

    @property
    def first_row(self) -> int:
        """The row of the first token: behind the sentinel, if there is one."""
        return 0 if self.buckets else 1

    @property
    def n_rows(self) -> int:
        """Rows of each buffer: the context, and the sentinel if there is one."""
        return self.context_len + self.first_row

    def past_len(self, position: int) -> int:
        """Rows of the past, hidden ones included, when ``position`` tokens are in the cache."""
        if not self.buckets:
            return position + self.first_row
        return next(length for length in self.buckets if length >= position)

    @property
    def bytes_per_token(self) -> int:
        """Keys and values of one token over all layers, in bytes."""
        value_bytes = {"float32": 4, "float16": 2}[self.dtype]
        return 2 * value_bytes * sum(heads * dim for heads, dim in self.layers)

    @property
    def total_bytes(self) -> int:
        """What is allocated, once."""
        return self.n_rows * self.bytes_per_token


class RoleFormat(NamedTuple):
    """What stands before and after a message of one role."""

    prefix: str
    suffix: str


class ChatFormat(NamedTuple):
    """How a conversation becomes one prompt, as plain strings (no template engine on a board).

    Attributes:
        roles: Role -> prefix and suffix.
        generation_prefix: What opens the answer.
        default_system: System message used when the conversation has none.
    """

    roles: Dict[str, RoleFormat]
    generation_prefix: str
    default_system: Optional[str] = None

    def render(self, messages: List[Dict[str, str]]) -> str:
        """The prompt for a list of {"role", "content"} messages, ready for the answer.

        Raises:
            ValueError: A role that this format does not have.
        """
        if self.default_system is not None and (not messages or messages[0]["role"] != "system"):
            messages = [{"role": "system", "content": self.default_system}] + list(messages)
        parts = []
        for message in messages:
            role = self.roles.get(message["role"])
            if role is None:
                known = ", ".join(sorted(self.roles))
                raise ValueError("role {!r} is not one of {}".format(message["role"], known))
            parts.append(role.prefix + message["content"] + role.suffix)
        return "".join(parts) + self.generation_prefix


class GenerationDefaults(NamedTuple):
    """What a model's maker recommends; the caller's options win.

    Attributes:
        eos_token_ids: Any of them ends a text.
        bos_token_id: Put before a prompt that has none; None for models without one.
        do_sample, temperature, top_k, top_p, repetition_penalty: As in Hugging Face's
            generation_config.json; top_k 0 means no limit.
    """

    eos_token_ids: List[int] = []
    bos_token_id: Optional[int] = None
    do_sample: bool = False
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    repetition_penalty: float = 1.0


class GoldenPrompt(NamedTuple):
    """A prompt and the greedy tokens that the reference gave for it.

    Attributes:
        prompt: The text.
        input_ids: Its tokens.
        output_ids: What follows, token by token.
        unclear: Places in ``output_ids`` where another token was nearly as probable: a correct
            implementation may choose otherwise there, so they are fed but not compared.
    """

    prompt: str
    input_ids: List[int]
    output_ids: List[int]
    unclear: List[int] = []


class BundleManifest(NamedTuple):
    """Everything the runtime must know about a bundle.

    Attributes:
        name: For people.
        target: The preset it was built for, such as "host" or "nano".
        precision: Of the stored weights, such as "fp32".
        architecture: The decoder.
        n_params: Stored parameters, shared ones once.
        kv_cache: The cache of the graph; ``session_cache`` is what will be allocated.
        files: Name inside the bundle -> checksum, size and role ("onnx", "weights",
            "native", "tokenizer", "pieces").
        generation: Defaults.
        chat: How to write a conversation, or None for a plain language model.
        golden: Prompts that verify the bundle on any machine.
        made_by: Tool name and version.
        provenance: Where the weights come from, as "key: value" strings.
        engine: How TensorRT builds and runs the graph; None for a bundle that is not for it.
    """

    name: str
    target: str
    precision: str
    architecture: Architecture
    n_params: int
    kv_cache: KVCacheSpec
    files: Dict[str, FileEntry]
    generation: GenerationDefaults
    golden: List[GoldenPrompt]
    made_by: str
    chat: Optional[ChatFormat] = None
    provenance: Dict[str, str] = {}
    engine: Optional[EngineSpec] = None

    @property
    def native_cache(self) -> KVCacheSpec:
        """The cache as the native decoder keeps it: no sentinel, float16 beside whole numbers."""
        dtype = "float32" if self.precision == "fp32" else "float16"
        return self.kv_cache._replace(dtype=dtype, buckets=[self.kv_cache.context_len])

    @property
    def session_cache(self) -> KVCacheSpec:
        """What a session takes: the native decoder's cache where its file is, or the graph's."""
        has_native = any(entry.role == "native" for entry in self.files.values())
        return self.native_cache if has_native else self.kv_cache
