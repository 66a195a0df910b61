"""What one double of ``tensorrt`` is: a version, its names and classes, a device, faults.

The one idea: every class that was cut for a version finds this object at ``_trt``, so two
versions can live in one process and share nothing.
"""

from .enums import make_enums
from .faults import Faults
from .names import FULL_VERSIONS, names_of, release


class Library:
    """A version of ``tensorrt`` on a device.

    Args:
        version: One of names.VERSIONS.
        cuda: A CUDA double, or None: then any address will do and nothing is recorded.
        compute_capability: Of the device; None for the board that has this version.
    """

    def __init__(self, version, cuda=None, compute_capability=None):
        self.version = version
        self.names = names_of(version)
        self.full_version = FULL_VERSIONS[version]
        self.release = release(version)
        self.cuda = cuda
        self.compute_capability = compute_capability or self._usual_capability()
        self.faults = Faults()
        self.enums = make_enums(self.names, self.release)
        self.classes = {}

    def _usual_capability(self):
        return {8: (5, 3), 10: (8, 7), 11: (7, 5)}[self.release[0]]

    def has(self, owner, name):
        """Whether this version has a member, such as ("BuilderFlag", "FP16")."""
        return name in self.names.get(owner, ())

    def enum(self, owner, name):
        """A value of an enum by name."""
        return getattr(self.enums[owner], name)

    def log(self, logger, severity, text):
        """Give a message to a logger, as TensorRT does."""
        logger.log(self.enum("Severity", severity), text)

    def fail(self, logger, text, result=None):
        """Log an error; give what the caller shall return (None or False, never an exception)."""
        self.log(logger, "ERROR", text)
        return result

    @property
    def always_strong(self):
        """Whether there is no weakly typed network any more: no half flag, no explicit batch."""
        return not self.has("BuilderFlag", "FP16")

    @property
    def shares_profiles(self):
        """Whether two contexts may hold one profile (TensorRT 10 on)."""
        return self.release >= (10,)

    @property
    def takes_int64(self):
        """Whether int64 tensors stay int64."""
        return self.has("DataType", "INT64")
