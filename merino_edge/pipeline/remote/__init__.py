"""Building on a board from the workstation, over OpenSSH.

The one idea: ``ssh`` is the transport, a bundle is what crosses, and everything on the board can
be resumed. Read ``build`` for the whole, ``ssh`` for the connection, ``copying`` for the files,
``job`` for the build that goes on alone. Nothing here needs more than the standard library.
"""

from merino_edge.pipeline.remote.build import RemoteOptions, build_on_board, cancel_on_board
from merino_edge.pipeline.remote.report import RemoteReport, report_paths

__all__ = ["RemoteOptions", "RemoteReport", "build_on_board", "cancel_on_board", "report_paths"]
