"""Numbers for people: rounded, with their unit, and never better than they are.

The one idea: each kind of number has one way to be written, and where rounding could flatter, it
goes the other way: a bound upwards, what is used up downwards. Nothing here knows what is counted.
"""

from math import ceil, floor, log10

EQUAL = 5e-6  # relative; closer totals are the same sum in another order
_PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def human(value: float, unit: str = "", digits: int = 4) -> str:
    """12345678 -> "12.35 M"; with a unit "12.35 MB"; milliseconds and millijoules as they are."""
    size, prefix = 1.0, ""
    if unit in ("", "B"):
        found = (pair for pair in _PREFIXES if abs(value) >= pair[0])
        size, prefix = next(found, (1.0, ""))
    return f"{value / size:.{digits}g} {prefix}{unit}".rstrip()


def exact(value: float) -> str:
    """Every digit of a count, six of anything else."""
    if float(value).is_integer():
        return f"{value:,.0f}"
    return f"{value:,.1f}" if abs(value) >= 100.0 else f"{value:.6g}"


def share(fraction: float) -> str:
    """0.3333 -> "33.3 %"."""
    return f"{100.0 * fraction:.1f} %"


def used(fraction: float) -> str:
    """What is used up of a limit, rounded down: 100 % is all of it and no less."""
    return share(floor(1000.0 * fraction + 1e-9) / 1000.0)


def at_most(fraction: float) -> str:
    """A bound in percent: two digits, rounded up, so that it stays true."""
    if fraction <= 0.0:
        return "0 %"
    step = 10.0 ** (floor(log10(100.0 * fraction)) - 1)
    return f"{ceil(100.0 * fraction / step - 1e-9) * step:.2g} %"


def difference(value: float, reference: float) -> str:
    """How far a value is from a reference: "+1.25 %", "0 %" when they are the same."""
    relative = value / reference - 1.0 if reference else 0.0
    return "0 %" if abs(relative) < EQUAL else f"{100.0 * relative:+.3g} %".replace("-", "−")
