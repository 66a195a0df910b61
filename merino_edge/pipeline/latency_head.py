"""The head of a latency table's page: what was timed, on what, and under which conditions.

The one idea: a figure without its device and conditions says nothing, so they come first; what the
system did not tell is named too. Whether a device was asked at all is the first sentence.
"""

from merino_edge.formats.latency_table import FIT, HELD_OUT
from merino_edge.formats.measurement import Conditions, DeviceInfo
from merino_edge.pipeline.latency_view import TableView
from merino_edge.pipeline.markup import Markup, items, section, tag
from merino_edge.pipeline.quantities import human, share
from merino_edge.pipeline.report_style import fact_list, head

_NOT_TOLD = "not told by the system"


def summary(view: TableView) -> Markup:
    """What was timed, and on what."""
    table = view.table
    setting, device = table.setting, table.device
    facts = {
        "device": _device_words(device),
        "system": _system_words(device),
        "target": setting.target,
        "backend": f"{setting.backend}: {setting.engine}",
        "precision": f"{setting.precision}, of the matrices",
        "threads": str(setting.threads),
        "power mode": setting.power_mode or "none known",
        "context": f"up to {setting.context_len:,} tokens",
        "space": f"{table.space}, seed {table.seed}",
        "decoders": _decoder_words(view),
        "rows": _row_words(view),
        "begun": table.begun,
        "made by": table.made_by,
    }
    take = "take on this device" if view.is_measured else "would take by a formula"
    sentence = (
        f"How long small decoders {take}, whole, one token or one prompt at a time, and what a "
        "model of latency makes of it, which a search asks about decoders that nobody built."
    )
    title = f"Latency table: {table.name}"
    return head([title], _verdict(view), sentence, fact_list(facts))


def _verdict(view: TableView) -> str:
    rows = f"{len(view.table.rows):,} rows of {len(view.table.architectures)} decoders"
    if view.is_measured:
        return f"Measured on {view.table.device.model}: {rows}, {_rounds_words(view)}."
    return f"Predicted: no device was asked, nothing on this page was measured. {rows}."


def _device_words(device: DeviceInfo) -> str:
    cpu = "" if device.cpu in (device.model, "none") else f", {device.cpu}"
    cores = f", {device.n_cores} cores" if device.n_cores else ""
    memory = f", {human(device.memory_bytes, 'B')} of memory" if device.memory_bytes else ""
    last = device.last_cache_bytes
    cache = f", last cache {human(last, 'B')}" if last else ""
    return f"{device.model}{cpu}{cores}{memory}{cache}"


def _system_words(device: DeviceInfo) -> str:
    if device.os == "none":
        return "none"
    pairs = [("L4T", device.l4t), ("JetPack", device.jetpack), ("TensorRT", device.tensorrt)]
    pairs += [("CUDA", device.cuda), ("Python", device.python), *device.packages.items()]
    return ", ".join([device.os, *(f"{name} {value}" for name, value in pairs if value)])


def _decoder_words(view: TableView) -> str:
    roles = list(view.table.roles.values())
    return (
        f"{len(roles)}: {roles.count(FIT)} to fit the model to, {roles.count(HELD_OUT)} held out "
        "to judge it by"
    )


def _row_words(view: TableView) -> str:
    throttled = sum(row.throttled for row in view.table.rows)
    words = f"{len(view.table.rows):,}, {_rounds_words(view)}"
    return words + (f"; {throttled} taken while the device throttled" if throttled else "")


def _rounds_words(view: TableView) -> str:
    counts = [len(row.rounds) for row in view.table.rows] or [0]
    low, high = min(counts), max(counts)
    if low < high:
        return f"{low} to {high} rounds each"
    return f"{low} round{'' if low == 1 else 's'} each"


def conditions(view: TableView) -> Markup:
    """What may have made the device faster or slower than usual."""
    found = view.table.conditions
    sentence = (
        "Each time was taken beside the same small decoder, the anchor, and is quoted at the speed "
        "that the anchor showed as a rule: "
        + " and ".join(f"{ms:.4g} ms for {phase}" for phase, ms in view.table.anchor_ms.items())
        + ". What else is known of the machine meanwhile:"
    )
    warned = items(found.warnings) if found.warnings else tag("p", "No warnings.", class_="note")
    title = "Conditions"
    if not view.is_measured:
        return section(title, "There are none: no device was asked.", warned)
    facts = fact_list(_condition_facts(found))
    return section(title, sentence, facts, tag("h3", "Warnings"), warned)


def _condition_facts(found: Conditions) -> dict[str, str]:
    others = found.others_cpu_share
    return {
        "load before, after": _pair(found.load_before, found.load_after, ""),
        "other processes": _NOT_TOLD if others is None else f"{share(others)} of the CPU",
        "governor": found.governor or _NOT_TOLD,
        "temperature": _pair(found.temp_c_start, found.temp_c_end, " °C"),
        "clocks locked": _yes(found.clocks_locked),
        "throttled": _yes(found.throttled),
    }


def _pair(before: float | None, after: float | None, unit: str) -> str:
    if before is None and after is None:
        return _NOT_TOLD
    shown = ["unknown" if value is None else f"{value:g}{unit}" for value in (before, after)]
    return ", then ".join(shown)


def _yes(value: bool | None) -> str:
    return _NOT_TOLD if value is None else ("yes" if value else "no")
