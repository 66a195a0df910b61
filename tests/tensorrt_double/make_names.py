"""Writes names.json: which names the Python module ``tensorrt`` has, by version.

The names come from NVIDIA's own binding sources (github NVIDIA/TensorRT, python/src/**.cpp) at the
tags 8.0.1, 8.2.1, v8.6.1, v10.3.0 and v11.0, collected in one JSON file: version -> class -> names.
This script keeps the classes that the doubles need. In that collection the logger is right at
8.0.1 only (later tags spell ``class_<ILogger>`` another way); it has not changed since.

Usage: python make_names.py PATH/tensorrt_python_names.json > names.json
"""

import json
import sys

TAGS = {"8.0.1": "8.0.1", "8.2.1": "8.2.1", "8.6.1": "v8.6.1", "10.3": "v10.3.0", "11.0": "v11.0"}
CLASSES = (
    "Builder",
    "Dims",
    "IBuilderConfig",
    "ICudaEngine",
    "IExecutionContext",
    "IHostMemory",
    "ILayer",
    "INetworkDefinition",
    "IOptimizationProfile",
    "ITensor",
    "ITimingCache",
    "OnnxParser",
    "ParserError",
    "Runtime",
)
ENUMS = (
    "BuilderFlag",
    "DataType",
    "EngineCapability",
    "ErrorCode",
    "ExecutionContextAllocationStrategy",
    "HardwareCompatibilityLevel",
    "LayerType",
    "MemoryPoolType",
    "NetworkDefinitionCreationFlag",
    "PreviewFeature",
    "ProfilingVerbosity",
    "TacticSource",
    "TensorFormat",
    "TensorIOMode",
    "TensorLocation",
)
SEVERITIES = ["INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE"]


def chosen(all_names):
    """The needed classes of the needed versions; a class that a version lacks stays away."""
    result = {}
    for version, tag in TAGS.items():
        names = {name: all_names[tag][name] for name in CLASSES + ENUMS if name in all_names[tag]}
        names["Severity"] = SEVERITIES
        names["ILogger"] = ["log"]
        names["Logger"] = ["log", "min_severity"]
        result[version] = names
    return result


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as file:
        json.dump(chosen(json.load(file)), sys.stdout, indent=1, sort_keys=True)
        sys.stdout.write("\n")
