"""IBuilderConfig: memory, flags, tactics, timing cache, profiles.

The one idea: defaults are the version's. Up to 8.2 the workspace is 0 until someone sets it, later
it is the device's memory; a mask or a flag of another version does not exist.
"""

from .surface import address, integer, want
from .timing_cache import create_timing_cache

DEVICE_BYTES = 4 << 30
SIMPLE = {
    "avg_timing_iterations": 1,
    "min_timing_iterations": 2,
    "builder_optimization_level": 3,
    "max_aux_streams": -1,
    "profile_stream": 0,
}


class IBuilderConfig:
    """What the builder is told beside the network."""

    @property
    def max_workspace_size(self):
        return self._pools["WORKSPACE"]

    @max_workspace_size.setter
    def max_workspace_size(self, value):
        self._pools["WORKSPACE"] = address(value, "max_workspace_size")

    def set_memory_pool_limit(self, pool, pool_size):
        want(pool, self._trt.enums["MemoryPoolType"], "set_memory_pool_limit()")
        self._pools[pool.name] = address(pool_size, "set_memory_pool_limit()")

    def get_memory_pool_limit(self, pool):
        want(pool, self._trt.enums["MemoryPoolType"], "get_memory_pool_limit()")
        return self._pools.get(pool.name, 0)

    @property
    def flags(self):
        return self._flags

    @flags.setter
    def flags(self, value):
        self._flags = address(value, "flags")

    def set_flag(self, flag):
        self._flags |= 1 << int(want(flag, self._trt.enums["BuilderFlag"], "set_flag()"))

    def clear_flag(self, flag):
        self._flags &= ~(1 << int(want(flag, self._trt.enums["BuilderFlag"], "clear_flag()")))

    def get_flag(self, flag):
        want(flag, self._trt.enums["BuilderFlag"], "get_flag()")
        return bool(self._flags >> int(flag) & 1)

    def _is_set(self, name):
        return self._trt.has("BuilderFlag", name) and self.get_flag(
            self._trt.enum("BuilderFlag", name)
        )

    def set_tactic_sources(self, tactic_sources):
        mask = address(tactic_sources, "set_tactic_sources()")
        if mask & ~_every_source(self._trt):
            return self._trt.fail(self._logger, f"unknown tactic source in mask {mask}", False)
        self._tactic_sources = mask
        return True

    def get_tactic_sources(self):
        return self._tactic_sources

    def create_timing_cache(self, serialized_timing_cache):
        return create_timing_cache(self._trt, self._logger, serialized_timing_cache)

    def set_timing_cache(self, cache, ignore_mismatch):
        want(cache, self._trt.classes["ITimingCache"], "set_timing_cache()")
        foreign = cache._capability != self._trt.compute_capability
        if foreign and not want(ignore_mismatch, bool, "set_timing_cache()"):
            text = "The timing cache was made on a device with another compute capability."
            return self._trt.fail(self._logger, text, False)
        self._timing_cache = cache
        return True

    def get_timing_cache(self):
        return self._timing_cache

    def add_optimization_profile(self, profile):
        want(profile, self._trt.classes["IOptimizationProfile"], "add_optimization_profile()")
        if not profile:
            text = "IBuilderConfig::addOptimizationProfile: Error Code 3: API Usage Error "
            text += "(Parameter check failed, condition: profile->isValid().)"
            return self._trt.fail(self._logger, text, -1)
        self._profiles.append(profile)
        return len(self._profiles) - 1

    @property
    def num_optimization_profiles(self):
        return len(self._profiles)

    @property
    def profiling_verbosity(self):
        return self._verbosity

    @profiling_verbosity.setter
    def profiling_verbosity(self, value):
        self._verbosity = want(value, self._trt.enums["ProfilingVerbosity"], "profiling_verbosity")

    @property
    def hardware_compatibility_level(self):
        return self._compatibility

    @hardware_compatibility_level.setter
    def hardware_compatibility_level(self, value):
        kind = self._trt.enums["HardwareCompatibilityLevel"]
        self._compatibility = want(value, kind, "hardware_compatibility_level")

    def set_preview_feature(self, feature, enable):
        want(feature, self._trt.enums["PreviewFeature"], "set_preview_feature()")
        self._previews[feature.name] = want(enable, bool, "set_preview_feature()")

    def get_preview_feature(self, feature):
        want(feature, self._trt.enums["PreviewFeature"], "get_preview_feature()")
        return self._previews.get(feature.name, False)

    def reset(self):
        self.__dict__.update(_defaults(self._trt))


def _number(name):
    def read(self):
        return self._numbers[name]

    def write(self, value):
        self._numbers[name] = integer(value, name)

    return property(read, write)


for _name in SIMPLE:
    setattr(IBuilderConfig, _name, _number(_name))


def create_config(library, logger):
    """A config with the version's defaults."""
    kind = library.classes["IBuilderConfig"]
    return kind._new(_logger=logger, **_defaults(library))


def _every_source(library):
    return sum(1 << int(each) for each in library.enums["TacticSource"].__members__.values())


def _defaults(library):
    starts_at_zero = not library.has("IBuilderConfig", "set_memory_pool_limit")
    level = "HardwareCompatibilityLevel"
    flags = library.enums["BuilderFlag"].__members__
    return {
        "_pools": {"WORKSPACE": 0 if starts_at_zero else DEVICE_BYTES},
        "_flags": 1 << int(flags["TF32"]),
        "_tactic_sources": _every_source(library),
        "_timing_cache": None,
        "_profiles": [],
        "_verbosity": library.enum("ProfilingVerbosity", "LAYER_NAMES_ONLY")
        if library.has("ProfilingVerbosity", "LAYER_NAMES_ONLY")
        else library.enum("ProfilingVerbosity", "DEFAULT"),
        "_compatibility": library.enum(level, "NONE") if level in library.enums else None,
        "_previews": {},
        "_numbers": dict(SIMPLE),
    }
