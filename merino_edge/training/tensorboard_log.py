"""The figures of each step for TensorBoard, through torch's own writer.

A resumed run tells TensorBoard to forget the steps that it will do again (``purge_step``), so the
curves read like one run's. It needs the package tensorboard, which is optional.
"""

from merino_edge.errors import MissingDependencyError


class TensorBoardLog:
    """Event files of one run.

    Args:
        path: A folder for them.
        last_step: The run continues after this one.

    Raises:
        MissingDependencyError: tensorboard is not installed.
    """

    def __init__(self, path: str, last_step: int):
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise MissingDependencyError(
                "tensorboard", "--tensorboard", "pip install 'merino-edge[train]'"
            ) from error
        self._writer = SummaryWriter(path, purge_step=last_step + 1)

    def add(self, **values: float | None) -> None:
        """One point of every curve that has a value; the x-axis is the step."""
        step = int(values["step"] or 0)
        for name, value in values.items():
            if value is not None and name != "step":
                self._writer.add_scalar(f"train/{name}", value, step)

    def flush(self) -> None:
        """Put the points on the disk."""
        self._writer.flush()

    def close(self) -> None:
        """Flush and close."""
        self._writer.close()
