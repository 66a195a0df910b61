"""Tables of latency made by a known law, for the tests of what is fitted to them."""

import numpy as np

from merino_edge.core import probe_design
from merino_edge.core import space as spaces
from merino_edge.core.latency_work import total_read_mb, total_work
from merino_edge.formats.latency_table import (
    MEASURED,
    LatencyRow,
    LatencyTable,
    Setting,
    Workload,
)
from merino_edge.formats.measurement import Conditions
from merino_edge.runtime.device_info import device_info

SPACE = spaces.get("tiny").replace(max_seq_len=128)
PRICES_MS = np.array([0.01, 0.002, 0.02, 0.005, 0.03, 0.01, 0.008, 0.02, 0.05, 0.02, 0.01])
LABELS = ("decode@32", "decode@120", "prefill@24", "prefill@112")


def law_ms(a, workload, stored, cached=0, capacity_mb=1e9, spill=0.0, prices=PRICES_MS):
    """What a call takes by the law: prices of its work, and of what spills."""
    spilled = max(0.0, total_read_mb(a, workload, stored) - capacity_mb)
    return float(total_work(a, workload, cached) @ prices) + spill * spilled


def table_by(law, noise=0.0, n_fit=24, n_held_out=8, seed=3, **changes):
    """A table in which every row is ``law(architecture, workload)``, times some noise."""
    rng = np.random.default_rng(seed)
    architectures, roles = probe_design.choose(SPACE, n_fit, n_held_out, seed)
    rows = []
    for name in sorted(architectures):
        for label in sorted(LABELS):
            ms = law(architectures[name], Workload.of_label(label))
            samples = (ms * np.exp(noise * rng.standard_normal(5))).tolist()
            rows.append(LatencyRow(name, label, samples, samples, list(range(5))))
    fields = {
        "space": SPACE.name,
        "seed": seed,
        "provenance": MEASURED,
        "made_by": "a test",
        "begun": "2026-11-28T00:00:00Z",
        "setting": Setting("host", "native", "a law", "int4", 1, 128),
        "device": device_info(),
        "conditions": Conditions(),
        "anchor": sorted(architectures)[0],
        "anchor_ms": {"decode": 1.0, "prefill": 10.0},
        "architectures": architectures,
        "roles": roles,
        "rows": rows,
    }
    fields.update(changes)
    return LatencyTable(**fields)
