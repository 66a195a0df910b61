"""Replaying a step as a CUDA graph: hundreds of kernel launches become one.

The one idea: a captured graph is right as long as shapes and addresses are those of its capture. So
the first step after a change runs plainly (TensorRT prepares itself then, which must not be
captured), the second is captured, and the following ones replay it. Where capture does not
work, steps run plainly, and that is said once.
"""

from typing import Any, Callable, Hashable, Optional

from merino_edge.errors import MerinoError
from merino_edge.runtime.cuda.api import Cuda


class Replay:
    """Runs one enqueue again and again.

    Args:
        cuda: The device.
        stream: Where everything goes.
        enqueue: Puts the work on the stream; must not allocate or wait.
        on_note: Told once if capturing fails.
    """

    def __init__(
        self, cuda: Cuda, stream: int, enqueue: Callable[[], None], on_note: Callable[[str], None]
    ):
        self._cuda = cuda
        self._stream = stream
        self._enqueue = enqueue
        self._on_note = on_note
        self._may_capture = cuda.can_capture
        self._key: Hashable = None
        self._graph: Optional[Any] = None
        self.n_launches = 0

    def run(self, key: Hashable) -> None:
        """Put one step on the stream.

        Args:
            key: Equal for steps that have all shapes and addresses in common.
        """
        if key != self._key:
            self.forget()
            self._enqueue()
            self._key = key
            return
        if self._graph is None and self._may_capture:
            self._graph = self._captured()
        if self._graph is None:
            self._enqueue()
        else:
            self._cuda.launch(self._graph, self._stream)
            self.n_launches += 1

    def forget(self) -> None:
        """Drop the graph; the next step runs plainly."""
        if self._graph is not None:
            self._cuda.destroy_graph(self._graph)
        self._graph, self._key = None, None

    def _captured(self) -> Optional[Any]:
        try:
            self._cuda.begin_capture(self._stream)
            try:
                self._enqueue()
            finally:
                graph = self._cuda.end_capture(self._stream)
        except MerinoError as error:
            self._may_capture = False
            self._on_note("CUDA graphs are off: {}".format(error.message))
            return None
        return graph
