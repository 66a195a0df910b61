"""The ONNX file behind a network: what the double runs instead of kernels.

The one idea: a plan names the file it was built from, and the double reads it again to execute.
The sha256 says whether it still is that file. A model that was parsed from bytes which lie in no
file is kept in the plan itself.
"""

import base64
import hashlib
import os


class OnnxSource:
    """Where a model's bytes are.

    Args:
        path: Of the ONNX file; its folder holds external weights. None: only bytes.
        data: The bytes, where no file has them.
    """

    def __init__(self, path, data=None):
        self.path = path
        self.data = data
        self.sha256 = hashlib.sha256(self.read()).hexdigest()

    @property
    def folder(self):
        """Where external weights lie."""
        return os.path.dirname(self.path) if self.path else os.getcwd()

    def read(self):
        """The model's bytes.

        Raises:
            OSError: The file is not there any more.
        """
        if self.data is not None:
            return self.data
        with open(self.path, "rb") as file:
            return file.read()

    def to_json(self):
        """For a plan."""
        data = None if self.data is None else base64.b64encode(self.data).decode("ascii")
        return {"path": self.path, "data": data, "sha256": self.sha256}


def source_from_bytes(data, path):
    """The source of a model given as bytes, with the path that its weights lie beside."""
    path = os.path.abspath(path) if path else None
    if path and os.path.isfile(path) and OnnxSource(path).read() == data:
        return OnnxSource(path)
    return OnnxSource(path, data)


def source_from_json(fields):
    """The source that a plan names.

    Raises:
        OSError: The file is gone.
        ValueError: It is another file now.
    """
    data = fields["data"] and base64.b64decode(fields["data"])
    source = OnnxSource(fields["path"], data)
    if source.sha256 != fields["sha256"]:
        raise ValueError(f"{source.path} has changed since the plan was built from it")
    return source
