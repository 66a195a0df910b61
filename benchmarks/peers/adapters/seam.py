"""What is asked of every runtime, so that all do the same work.

The one idea: a decoder reads tokens that it is given and says which token it finds best; that is
greedy generation less the tokenizer. The choice of the best belongs to the time of a step, made
in the way that is fastest with that runtime. Constructing a ``Runtime`` loads the model.
"""

import time
from collections.abc import Sequence


class Runtime:
    """Base of all adapters.

    Attributes:
        follows_itself: It goes on with its own best token and cannot be given another. The work is
            the same.
    """

    follows_itself = False

    def prefill(self, ids: Sequence[int]) -> int:
        """Append tokens; the best next one."""
        raise NotImplementedError

    def decode(self, token_id: int) -> int:
        """Append one token; the best next one."""
        raise NotImplementedError

    def reset(self) -> None:
        """Forget all tokens."""
        raise NotImplementedError

    def timed_decode(self, ids: Sequence[int]) -> list[float]:
        """Append tokens one by one; milliseconds of each."""
        found = []
        for token_id in ids:
            start = time.perf_counter()
            self.decode(token_id)
            found.append(1e3 * (time.perf_counter() - start))
        return found

    def follow(self, ids: Sequence[int]) -> list[int]:
        """Append tokens one by one; the best next one after each."""
        return [self.decode(token_id) for token_id in ids]

    def describe(self) -> str:
        """What runs, in a few words."""
        return type(self).__module__
