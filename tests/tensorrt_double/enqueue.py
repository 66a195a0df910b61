"""One enqueue: what is checked before it is taken, and what runs when the stream comes to it.

The one idea: addresses and shapes are those of the moment of the call, also in a captured graph.
They are checked when the call is made (False, and an error in the log) and again when the work
runs, for memory may have been freed by then; that is the device's own error, as an illegal
address is.
"""

from .execution import n_bytes

ALIGNMENT = 256  # said for 8.5 and later; before that NVIDIA says nothing, and we ask for it too


def enqueue(context, addresses, stream):
    """Run now, or record into the graph that captures this stream.

    Args:
        context: An IExecutionContext.
        addresses: Name of a tensor -> where it lies.
        stream: Handle.

    Returns:
        Whether it was taken.
    """
    library = context._trt
    words = library.faults.due("enqueue") or _state_refusal(context)
    if not words:
        shapes = {each["name"]: context._resolved(each) for each in context._engine._io}
        words = _address_refusal(context, addresses, shapes) or _update_refusal(context, stream)
    if words:
        return library.fail(context._logger, f"IExecutionContext::enqueue: {words}", False)
    context._must_update = False
    return _launch(context, addresses, shapes, stream)


def _state_refusal(context):
    if context._profile < 0:
        return "Error Code 3: API Usage Error (no optimization profile has been set)"
    missing = context._unknown_inputs()
    if missing:
        return f"Error Code 3: API Usage Error (not all shapes are specified: {missing})"
    if context._lacks_memory:
        return "Error Code 3: API Usage Error (no device memory has been set)"
    return context._named_dims_refusal()


def _address_refusal(context, addresses, shapes):
    spans = []
    for tensor in context._engine._io:
        name = tensor["name"]
        where, shape = addresses.get(name, 0), shapes[name]
        if not where or where % ALIGNMENT:
            return f"Error Code 3: API Usage Error ({name}: address {where:#x})"
        if -1 in shape:
            return f"{name}: the double cannot tell its shape beforehand; name its dimensions"
        size = n_bytes(shape, tensor["dtype"])
        words = _too_short(context._trt.cuda, name, where, size)
        if words:
            return words
        spans.append((where, where + size, name, tensor in context._engine._facts["inputs"]))
    return _overlap(spans)


def _too_short(cuda, name, where, size):
    left = size if cuda is None else cuda.bytes_left(where)
    if left >= size:
        return None
    return f"{name}: {size} bytes are needed at {where:#x}, the allocation has {left} there"


def _overlap(spans):
    """Aliasing is undefined before 10.15: an output may touch nothing else."""
    spans = sorted(spans)
    end, owner, owner_reads = 0, "", True
    for start, stop, name, reads in spans:
        if start < end and not (reads and owner_reads):
            return f"{name} and {owner} overlap; what an output does then is undefined"
        if stop > end:
            end, owner, owner_reads = stop, name, reads
    return None


def _update_refusal(context, stream):
    cuda = context._trt.cuda
    if context._must_update and cuda is not None and cuda.is_capturing(stream):
        return "Error Code 1: Cuda Runtime (operation not permitted when stream is capturing)"
    return None


def _launch(context, addresses, shapes, stream):
    engine, library = context._engine, context._trt

    def kernel():
        for tensor in engine._io:
            name = tensor["name"]
            size = n_bytes(shapes[name], tensor["dtype"])
            words = _too_short(library.cuda, name, addresses[name], size)
            if words:
                raise RuntimeError(words)
        engine._program.run(addresses, shapes, library.faults.spoils_outputs)

    try:
        code = library.cuda.launch(stream, kernel) if library.cuda else kernel()
    except Exception as error:
        return library.fail(context._logger, f"Error Code 1: Cuda Runtime ({error})", False)
    if code:
        return library.fail(context._logger, f"Error Code 1: Cuda Runtime (code {code})", False)
    return True
