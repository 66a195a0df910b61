"""Building and measuring on a board from the workstation, over OpenSSH.

The one idea: ``ssh`` is the transport, a bundle is what crosses, and everything on the board can
be resumed. Read ``walk`` for the whole, ``build`` and ``profile`` for what it is walked for,
``ssh`` for the connection, ``copying`` for the files, ``job`` for the work that goes on alone.
Nothing here but ``profile`` needs more than the standard library.
"""

from merino_edge.pipeline.remote.build import build_on_board, cancel_on_board
from merino_edge.pipeline.remote.report import RemoteReport, report_paths
from merino_edge.pipeline.remote.walk import RemoteOptions

__all__ = ["RemoteOptions", "RemoteReport", "build_on_board", "cancel_on_board", "report_paths"]
