"""The strict outside: a class or enum has the names of its version, and not one more.

The one idea: the double's classes are written once, with the methods of every version; ``cut``
makes from each the class of one version, keeping only what that version has. As with pybind11,
an object takes no unknown attribute, and a function no argument of another type. A name that the
version has and the double does not do raises NotImplementedError when used, never quietly.
"""

import operator

PYTHON_HOOKS = ("__init__", "__len__", "__getitem__", "__setitem__", "__eq__", "__bool__")


class Native:
    """Base of all classes: no public constructor, no dynamic attributes."""

    _trt = None  # the Library; set by cut
    _is_ours = True

    def __init__(self, *args, **kwargs):
        raise TypeError(f"tensorrt.tensorrt.{type(self).__name__}: No constructor defined!")

    @classmethod
    def _new(cls, **state):
        made = cls.__new__(cls)
        made.__dict__.update(state)
        return made

    def __setattr__(self, name, value):
        known = getattr(type(self), name, None)
        if name.startswith("_") or hasattr(known, "__set__") or "_is_ours" not in vars(type(self)):
            object.__setattr__(self, name, value)
            return
        text = f"'tensorrt.tensorrt.{type(self).__name__}' object has no attribute '{name}'"
        raise AttributeError(text if known is None else f"attribute '{name}' is read-only")


class NotDone:
    """A name that this version has and the double does not do."""

    def __init__(self, owner, name):
        self.text = f"the double of tensorrt does not do {owner}.{name}"

    def __get__(self, instance, owner):
        return self if instance is None else self._refuse

    def __set__(self, instance, value):
        raise NotImplementedError(self.text)

    def _refuse(self, *args, **kwargs):
        raise NotImplementedError(self.text)


def cut(library, name, implementation, base=Native):
    """The class of one version.

    Args:
        library: Whose names count.
        name: As the version calls it.
        implementation: A class with the members of every version.
        base: Native, or a class that was cut before.
    """
    allowed = library.names[name]
    space = {key: NotDone(name, key) for key in allowed if not key.startswith("__")}
    for key, member in vars(implementation).items():
        private = key.startswith("_") and not key.startswith("__")
        if private or key in PYTHON_HOOKS or key in allowed:
            space[key] = member
    for key in ("__len__", "__getitem__"):
        if key in space and key not in allowed:
            del space[key]
    space.update(_trt=library, _is_ours=True, __module__="tensorrt.tensorrt", __qualname__=name)
    if "__eq__" in space:
        space["__hash__"] = None
    return type(name, (base,), space)


class EnumMember:
    """A value of an enum: an object with a name and a value, no int (pybind11's way)."""

    def __init__(self, *args):
        raise TypeError("an enum value is not made, it is named")

    def __int__(self):
        return self.value

    __index__ = __int__

    def __eq__(self, other):
        if type(other) is type(self):
            return self.value == other.value
        return isinstance(other, int) and self._is_arithmetic and self.value == other

    def __hash__(self):
        return hash(self.value)

    def __repr__(self):
        return f"<{type(self).__name__}.{self.name}: {self.value}>"

    def __str__(self):
        return f"{type(self).__name__}.{self.name}"

    def __setattr__(self, name, value):
        raise AttributeError(f"an enum value has no settable attribute '{name}'")


def _ordered(compare):
    def method(self, other):
        if not self._is_arithmetic or isinstance(other, (str, float, type(None))):
            return NotImplemented
        return compare(self.value, int(other))

    return method


for _name in ("lt", "le", "gt", "ge"):
    setattr(EnumMember, f"__{_name}__", _ordered(getattr(operator, _name)))


def cut_enum(name, values, is_arithmetic):
    """An enum of one version, from its member's values."""
    kind = type(name, (EnumMember,), {"_is_arithmetic": is_arithmetic, "__module__": "tensorrt"})
    members = {}
    for key, value in values.items():
        member = object.__new__(kind)
        member.__dict__.update(name=key, value=value)
        members[key] = member
        setattr(kind, key, member)
    kind.__members__ = members
    return kind


def want(value, kind, what):
    """The value, if it is of this class or enum.

    Raises:
        TypeError: It is of another; pybind11 converts nothing here.
    """
    if not isinstance(value, kind):
        raise TypeError(f"{what}: incompatible function arguments: {value!r}")
    return value


def integer(value, what):
    """An int; a float or None is a TypeError."""
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{what}: incompatible function arguments: {value!r}") from None


def address(value, what):
    """A size_t: an int that is not negative."""
    number = integer(value, what)
    if number < 0:
        raise TypeError(f"{what}: incompatible function arguments: {value!r}")
    return number


def dims(value, what):
    """A shape as a tuple of ints, from Dims or a sequence of ints."""
    if isinstance(value, (str, bytes)) or not hasattr(value, "__len__"):
        raise TypeError(f"{what}: incompatible function arguments: {value!r}")
    return tuple(integer(dim, what) for dim in value)
