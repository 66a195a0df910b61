"""Where the work of tokenising stands, for people who wait.

The one idea: figures of this process only, so that the pace is the pace; what an earlier process
left is named apart.
"""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class TokenProgress:
    """Where the work stands.

    Attributes:
        phase: "tokenizer" (reading texts to train one), "merges" (training it), "tokens" or
            "overlap" (looking for passages that stand on both sides).
        n_documents: Read and done with.
        n_bytes: UTF-8 bytes read for the tokenizer, or tokenised by this process.
        n_tokens: Made of them.
        elapsed_s: Of this phase in this process.
        n_kept_shards: Parts of an earlier process that are not made again.
    """

    phase: str
    n_documents: int = 0
    n_bytes: int = 0
    n_tokens: int = 0
    elapsed_s: float = 0.0
    n_kept_shards: int = 0

    @property
    def tokens_per_s(self) -> float:
        """Of this process."""
        return self.n_tokens / max(self.elapsed_s, 1e-9)

    def __str__(self) -> str:
        if self.phase in ("merges", "overlap"):
            return self.phase
        shown = f"{self.phase}: {self.n_documents} documents, {self.n_bytes / 1e6:.1f} MB"
        if self.phase == "tokenizer":
            return shown
        kept = f", {self.n_kept_shards} shards kept" if self.n_kept_shards else ""
        millions = f"{self.n_tokens / 1e6:.2f} M tokens"
        return f"{shown}, {millions}, {self.tokens_per_s:.0f} tokens/s{kept}"


OnTokens = Callable[[TokenProgress], None]
