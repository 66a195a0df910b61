"""Where a model trains and in which precision: torch's own devices, autocast and GradScaler.

The one idea: the weights, their moments and the loss are float32 everywhere; half precision is for
the matrix products alone, chosen op by op by torch's autocast. So a saved state has one format,
and a run may go on where another device is. It knows nothing of steps or processes.
"""

import contextlib
import os
import warnings
from collections.abc import Iterator

import torch
from torch import nn

from merino_edge.errors import MerinoError, UnsupportedError
from merino_edge.training.config import TrainConfig

HALVES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


class Machine:
    """A device, and the precision of its matrix products.

    Attributes:
        device: Where the model is.
        scaler: Multiplies the loss so that float16 gradients do not vanish; does nothing for the
            other precisions.

    Raises:
        UnsupportedError: "cuda" is asked for and there is none.
    """

    def __init__(self, config: TrainConfig):
        self.device = device_for(config.device)
        self._half = HALVES.get(config.precision)
        self.scaler = torch.amp.GradScaler(  # type: ignore[attr-defined]
            self.device.type, enabled=config.precision == "float16"
        )

    def autocast(self) -> torch.autocast:
        """Half precision for matrix products while the block runs, if that was chosen."""
        half = self._half
        return torch.autocast(
            self.device.type, dtype=half or torch.bfloat16, enabled=half is not None
        )


@contextlib.contextmanager
def expected_remarks() -> Iterator[None]:
    """Leave out what torch remarks on and we know of."""
    with warnings.catch_warnings():
        # Under autocast an RMSNorm meets half precision rows and float32 weights.
        warnings.filterwarnings("ignore", message="Mismatch dtype between input and weight")
        # Of changing a sharded layer's output in place, which the model never does.
        warnings.filterwarnings("ignore", message="FSDP2-wrapped module")
        yield


def device_for(name: str) -> torch.device:
    """The device behind "auto", "cpu" or "cuda"; of several GPUs the one of this local process.

    Raises:
        UnsupportedError: There is no GPU that this torch can use.
    """
    found = torch.cuda.is_available()
    if name == "cuda" and not found:
        raise UnsupportedError(
            "device is 'cuda', and torch sees no GPU.",
            note=f"torch {torch.__version__}, built for CUDA {torch.version.cuda}.",
            hint="train with --device cpu, or install a torch that is built for CUDA.",
        )
    if name == "cpu" or not found:
        return torch.device("cpu")
    index = int(os.environ.get("LOCAL_RANK", "0"))
    if index >= torch.cuda.device_count():
        raise UnsupportedError(
            f"process {index} of this machine has no GPU; there are {torch.cuda.device_count()}.",
            hint="start as many processes as there are GPUs: torchrun --nproc-per-node.",
        )
    torch.cuda.set_device(index)
    return torch.device("cuda", index)


def compiled(model: nn.Module) -> nn.Module:
    """The model through torch.compile, or an error that says what it needs.

    Raises:
        MerinoError: The first call failed, for want of a C++ compiler, say.
    """
    found = torch.compile(model)
    assert isinstance(found, nn.Module), "compiling a module gives a module"
    return found


@contextlib.contextmanager
def compile_errors_named() -> Iterator[None]:
    """What torch.compile says about a missing compiler, as one of our errors."""
    try:
        yield
    except Exception as error:
        if not type(error).__module__.startswith("torch._"):
            raise
        raise MerinoError(
            f"torch.compile failed: {type(error).__name__}.",
            note=str(error).strip().splitlines()[0],
            hint="train without --compile; the results are the same.",
        ) from error


@contextlib.contextmanager
def torch_threads(n_threads: int | None) -> Iterator[None]:
    """Set the number of CPU threads while the block runs; None leaves it."""
    earlier = torch.get_num_threads()
    torch.set_num_threads(n_threads or earlier)
    try:
        yield
    finally:
        torch.set_num_threads(earlier)
