"""A race in which one of the peers was crippled: shown apart, so that nobody is misled by it.

The one idea: on a processor with AMX llama.cpp dies, and compiled without AMX it is slow at single
tokens. What the others did there is still a figure of that machine.
"""

import peers_report
import peers_tables
from reports import RESULTS

from merino_edge.formats import jsonio

FILE = RESULTS / "peers" / "without-amx.json"


def tables() -> dict[str, str]:
    """Name of a mark -> what stands there."""
    report = jsonio.read_record(str(FILE), peers_report.SCHEMA, peers_report.Report)
    found = {"without_amx_conditions": peers_tables.conditions(report)}
    for model in report.models:
        found[f"without_amx_{model.name}"] = peers_tables.decode_table(model, report.setting.pasts)
    return found
