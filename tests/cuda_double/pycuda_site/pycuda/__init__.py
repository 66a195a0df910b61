"""A double of pycuda 2020.1, as far as merino_edge uses it; see ``driver``."""

VERSION = (2020, 1)
VERSION_STATUS = ""
VERSION_TEXT = ".".join(str(x) for x in VERSION) + VERSION_STATUS
