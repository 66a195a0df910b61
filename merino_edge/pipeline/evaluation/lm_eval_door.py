"""The one door to lm-evaluation-harness: quiet, offline, and a clear word where it is missing.

It is told so by environment variables that its libraries read when they are first imported, so
whoever needs it asks here first.
"""

import logging
import os
import warnings
from typing import Any

from merino_edge.errors import MissingDependencyError

_QUIET = {
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "TQDM_DISABLE": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


def lm_eval() -> Any:
    """The package.

    Raises:
        MissingDependencyError: It is not installed.
    """
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import lm_eval.api.metrics
            import lm_eval.api.model
            import lm_eval.tasks
    except ImportError as error:
        raise MissingDependencyError(
            "lm-eval", "scoring tasks", "pip install 'merino-edge[eval]'"
        ) from error
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    return lm_eval
