"""Why a build fails: what the builder checks before it looks for tactics.

The one idea: each rule gives TensorRT's kind of words, or None. The words of named dimensions are
those that 8.2.1.8 is seen to print (NVIDIA/TensorRT issue 1808).
"""

MIN_WORKSPACE_BYTES = 1 << 20  # what a matrix product of the double's asks for


def first_refusal(library, network, config):
    """The first reason not to build, or None."""
    for rule in (_outputs, _precision, _profiles, _named_dims, _workspace):
        words = rule(library, network, config)
        if words:
            return words
    return None


def _outputs(library, network, config):
    if not network._outputs:
        return "Error Code 4: API Usage Error (Network must have at least one output.)"
    return None


def _precision(library, network, config):
    half = config._is_set("FP16")
    if network._is_strong:
        text = "Error Code 3: API Usage Error (Parameter check failed, condition: "
        text += "!config.getFlag(BuilderFlag::kFP16). Strongly typed networks take no such flag.)"
        return text if half else None
    if half or not any(out._dtype == "HALF" for each in network._layers for out in each._outputs):
        return None
    text = "Error Code 4: Internal Error (fp16 precision has been set for a layer or layer output, "
    return text + "but fp16 is not configured in the builder)"


def _profiles(library, network, config):
    dynamic = [each for each in network._inputs if -1 in each._shape]
    if dynamic and not config._profiles:
        text = "Error Code 4: Internal Error (Network has dynamic or shape inputs, but no "
        return text + "optimization profile has been defined.)"
    names = {each._name for each in network._inputs}
    for index, profile in enumerate(config._profiles):
        for name in set(profile._shapes) - names:
            return f"Error Code 4: Internal Error (profile {index} names {name}, which is no input)"
        for tensor in network._inputs:
            words = _input_refusal(tensor, profile._shapes.get(tensor._name), index)
            if words:
                return words
    return None


def _input_refusal(tensor, ends, index):
    if ends is None:
        if -1 not in tensor._shape:
            return None
        text = f"Error Code 4: Internal Error ({tensor._name}: dynamic input is missing dimensions"
        return text + f" in profile {index}.)"
    for shape in ends:
        pairs = list(zip(tensor._shape, shape))
        if len(shape) != len(tensor._shape) or any(a not in (-1, b) for a, b in pairs):
            text = f"Error Code 4: Internal Error ({tensor._name}: for dimension number of profile "
            text += f"{index} the profile has {list(shape)} but the network's input has "
            return text + f"{list(tensor._shape)}.)"
    return None


def _named_dims(library, network, config):
    names = {each._name: each._dim_names for each in network._inputs}
    for index, profile in enumerate(config._profiles):
        for end, word in enumerate(("kMIN", "kOPT", "kMAX")):
            shapes = {name: ends[end] for name, ends in profile._shapes.items()}
            words = named_dims_refusal(names, shapes)
            if words:
                return (
                    f"Error Code 4: Internal Error ({word} values for profile {index} violate "
                    f"shape constraints: {words})"
                )
    return None


def named_dims_refusal(dim_names, shapes):
    """Words, if inputs that share a dimension's name do not share its value; else None.

    Args:
        dim_names: Name of an input -> names of its dimensions (None for one without).
        shapes: Name of an input -> its shape.
    """
    seen = {}
    for tensor, shape in shapes.items():
        for axis, (name, value) in enumerate(zip(dim_names[tensor], shape)):
            if name is None:
                continue
            first, first_axis, wanted = seen.setdefault(name, (tensor, axis, value))
            if value != wanted:
                return (
                    f"condition '==' violated. {wanted} != {value}. IAssertionLayer: (EQUAL "
                    f"(# {first_axis} (SHAPE {first})) (# {axis} (SHAPE {tensor}))). For input: "
                    f"'{first}' all named dimensions that share the same name must be equal. "
                    f"Note: Named dimensions were present on the following axes: "
                    f"{first_axis} (name: '{name}'), {axis} (name: '{name}')"
                )
    return None


def _workspace(library, network, config):
    products = [each for each in network._layers if each._type == "MATRIX_MULTIPLY"]
    if not products or config._pools["WORKSPACE"] >= MIN_WORKSPACE_BYTES:
        return None
    return (
        f"Error Code 10: Internal Error (Could not find any implementation for node "
        f"{products[0]._name} due to insufficient workspace. Try increasing the workspace size "
        f"with IBuilderConfig::setMaxWorkspaceSize().)"
    )
