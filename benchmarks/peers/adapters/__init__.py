"""One module a runtime, each with a class ``Runtime``, run in a process and a Python of its own.

Nothing here imports merino_edge but ``ours``: the Python of a peer has the peer and numpy.
"""
