"""A body as the JSON object that it must be: numbers are bounded, and no text is half a character.

The one idea: JSON as Python reads it is wider than JSON. What is let in here can be written again,
by any reader.
"""

import json
from typing import Any, Dict, Optional

from merino_edge.runtime.serving.web.problem import Problem

LONGEST_NUMBER = 32  # digits; Python's own limit is in the thousands, and slow before it


def json_of(body: bytes) -> Dict[str, Any]:
    """The object that a body holds.

    Raises:
        Problem: 400: not UTF-8, not JSON, no object, or with numbers that are none.
    """
    try:
        document = json.loads(
            body.decode("utf-8"), parse_int=_whole, parse_float=_real, parse_constant=_no_constant
        )
        json.dumps(document, ensure_ascii=False).encode("utf-8")  # finds half a surrogate pair
    except (ValueError, RecursionError) as error:
        raise Problem(400, "the body is not JSON: {}.".format(error), "invalid_json")
    if not isinstance(document, dict):
        raise Problem(400, "the body must be a JSON object.", "invalid_json")
    return {name: value for name, value in document.items() if value is not None}


def _whole(digits: str) -> int:
    if len(digits) > LONGEST_NUMBER:
        raise ValueError("a number has {} digits".format(len(digits)))
    return int(digits)


def _real(digits: str) -> float:
    value = float(digits[:400])
    if value in (float("inf"), float("-inf")):
        raise ValueError("a number is too large")
    return value


def _no_constant(name: str) -> Optional[float]:
    raise ValueError("{} is not JSON".format(name))
