"""A table that nobody measured: the roofline's times of a target that only stands for a board.

The one idea: the whole loop, from probes to a confirmed finalist, must run where there is no board,
in continuous integration and for whoever wants to see it. So ``mock-nano`` has a table like any
other, each row one sample of the roofline, and everything that reads it is told that it is
*predicted*. It says nothing about a Nano beyond its published bandwidth and clock.
"""

import time

from merino_edge import __version__
from merino_edge.core.latency import Roofline
from merino_edge.core.latency_work import call_parts
from merino_edge.core.targets import Target
from merino_edge.formats.architecture import Architecture
from merino_edge.formats.latency_table import (
    DECODE,
    PREDICTED,
    PREFILL,
    LatencyRow,
    LatencyTable,
    Setting,
    Workload,
)
from merino_edge.formats.measurement import Conditions, DeviceInfo
from merino_edge.formats.probes import ProbeSet, prompt_len

MOCK = "mock-nano"


def predicted_table(probes: ProbeSet, target: Target) -> LatencyTable:
    """The roofline's time of every probe at every workload."""
    anchor = probes.architectures[probes.anchor]
    return LatencyTable(
        space=probes.space,
        seed=probes.seed,
        provenance=PREDICTED,
        made_by=f"merino-edge {__version__}",
        begun=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        setting=Setting(
            target=target.name,
            backend="roofline",
            engine=_words(target),
            precision=probes.precision,
            threads=1,
            context_len=probes.context_len,
        ),
        device=_no_device(target),
        conditions=Conditions(warnings=["nothing was measured: every row is a roofline's."]),
        anchor=probes.anchor,
        anchor_ms={load.phase: roofline_ms(anchor, load, target) for load in _loads(probes)},
        architectures=probes.architectures,
        roles=probes.roles,
        rows=[
            _row(probes.architectures[name], load, target)
            for name in sorted(probes.architectures)
            for load in sorted(_loads(probes), key=lambda load: load.label)
        ],
    )


def roofline_ms(a: Architecture, workload: Workload, target: Target) -> float:
    """Milliseconds of a call by the target's roofline."""
    roofline = Roofline(target)
    return sum(times * roofline.part_ms(part) for times, part in call_parts(a, workload))


def _loads(probes: ProbeSet) -> list[Workload]:
    prompts = [Workload(PREFILL, prompt_len(length)) for length in probes.lengths]
    return prompts + [Workload(DECODE, length) for length in probes.lengths]


def _row(a: Architecture, workload: Workload, target: Target) -> LatencyRow:
    ms = roofline_ms(a, workload, target)
    return LatencyRow(a.arch_id, workload.label, [ms], [ms], [0])


def _words(target: Target) -> str:
    bandwidth, flops = target.peak_bandwidth_bytes_per_s, target.peak_flops_per_s
    assert bandwidth is not None
    assert flops is not None
    return f"a roofline of {bandwidth / 1e9:.1f} GB/s and {flops / 1e9:.0f} GFLOP/s; no device"


def _no_device(target: Target) -> DeviceInfo:
    return DeviceInfo(
        model=target.device_model,
        machine="none",
        cpu="none",
        n_cores=0,
        memory_bytes=0,
        last_cache_bytes=None,
        os="none",
        python="none",
        packages={},
    )
