"""The C core for tests: compiled here, called over ctypes, fed by a packer of its own.

The packer is a second writing of the file's description, on purpose: a mistake in the package's
own packer and the same mistake in the C reader would otherwise agree with each other.
"""

import ctypes as c
import pathlib
import shutil
import struct
import subprocess

import numpy as np
import pytest

from merino_edge.formats.weights import weight_shapes

NATIVE = pathlib.Path(__file__).parents[2] / "merino_edge" / "native"
STRICT = ["-std=c99", "-O3", "-Wall", "-Wextra", "-Werror", "-pthread", f"-I{NATIVE / 'include'}"]
F32, Q8, Q4 = 0, 1, 2


def sources():
    return sorted(str(path) for path in (NATIVE / "src").glob("*.c"))


def compile_c(*arguments):
    """Run cc over the core and the arguments; skips the test where there is no compiler."""
    if shutil.which("cc") is None:
        pytest.skip("no C compiler here (cc)")
    command = ["cc", *STRICT, *map(str, arguments), "-lm"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def program(folder, name, *flags):
    """Compile a C program of these tests with the core; its path."""
    path = folder / name
    main = pathlib.Path(__file__).with_name(name + ".c")
    compile_c(*flags, main, *sources(), "-o", path)
    return path


def run(*arguments):
    """What a program prints; it must end well."""
    done = subprocess.run(
        [str(each) for each in arguments], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def load(path):
    library = c.CDLL(str(path))
    library.me_session_bytes.restype = c.c_size_t
    library.me_close.argtypes = library.me_session_close.argtypes = [c.c_void_p]
    library.me_position.argtypes = library.me_reset.argtypes = [c.c_void_p]
    library.me_rewind.argtypes = [c.c_void_p, c.c_uint32]
    library.me_session_bytes.argtypes = [c.c_void_p, c.c_uint32, c.c_uint32]
    library.me_prefill.argtypes = [c.c_void_p, c.c_void_p, c.c_uint32, c.c_uint32, c.c_void_p]
    library.me_step.argtypes = [c.c_void_p, c.c_int32, c.c_void_p]
    library.me_best.argtypes = [c.c_void_p, c.c_uint32, c.c_void_p, c.c_void_p]
    return library


def quantised(matrix, kind):
    """Round to nearest in blocks of 32, padded to whole panels: integers, scales and minimums."""
    n_out, n_in = matrix.shape
    padded = np.pad(matrix, ((0, -n_out % 16), (0, -n_in % 32)))
    blocks = padded.reshape(len(padded), -1, 32)
    least, most = (-127, 127) if kind == Q8 else (0, 15)
    minimums = (blocks.min(axis=2) * (kind == Q4)).astype(np.float16)
    shifted = blocks - minimums.astype(np.float32)[..., None]
    scales = (np.abs(shifted).max(axis=2) / most).astype(np.float16)
    divisor = np.where(scales == 0, 1, scales).astype(np.float32)[..., None]
    return np.clip(np.rint(shifted / divisor), least, most).astype(np.int8), scales, minimums


def dequantised(matrix, kind):
    """What the packed matrix stands for."""
    if kind == F32:
        return matrix
    q, scales, minimums = quantised(matrix, kind)
    values = q * scales.astype(np.float32)[..., None] + minimums.astype(np.float32)[..., None]
    return values.reshape(len(q), -1)[: matrix.shape[0], : matrix.shape[1]]


def pack_matrix(matrix, kind):
    if kind == F32:
        return matrix.tobytes()
    q, scales, minimums = quantised(matrix, kind)
    n_panels, n_blocks = len(q) // 16, q.shape[1]
    groups = q.reshape(n_panels, 16, n_blocks, 8, 4).transpose(0, 2, 3, 1, 4)
    if kind == Q4:
        groups = groups[:, :, :4] | groups[:, :, 4:] << 4
    parts = [scales, minimums] if kind == Q4 else [scales]
    by_panel = [p.reshape(n_panels, 16, n_blocks).transpose(0, 2, 1).tobytes() for p in parts]
    return groups.tobytes() + b"".join(by_panel)


def kind_of(name, shape, kind):
    if len(shape) == 1 or name == "pos_embed.weight":
        return F32
    return Q8 if kind == Q4 and name in ("embed.weight", "head.weight") else kind


def pack(a, tensors, kind):
    """The bytes of a model file."""
    joints = a.joints()
    later = (a.norm_place == "post", not a.final_norm, a.parallel_residual)
    rotated = [0 if a.rope_fraction == 1.0 else a.rotary_dim(b) for b in a.blocks]
    blocks = b"".join(
        struct.pack(
            "<8I", b.d_model, b.n_head, b.n_kv_head, b.head_dim, b.d_ff, b.depth,
            joints[i][0] if i in joints else 0, rotated[i],
        )
        for i, b in enumerate(a.blocks)
    )  # fmt: skip
    config = struct.pack(
        "<4IfIf5I3I4x", a.vocab_size, a.max_seq_len, a.embed_dim,
        ("layernorm", "rmsnorm").index(a.norm), a.norm_eps,
        ("learned", "rope").index(a.position), a.rope_base,
        ("gelu", "gelu_tanh", "relu", "silu").index(a.activation),
        a.gated_ffn, a.attention_bias, a.ffn_bias, a.tie_embeddings, *later,
    )  # fmt: skip
    shapes = weight_shapes(a)
    table_offset = 128 + len(blocks)
    data_offset = -(-(table_offset + 32 * len(shapes)) // 4096) * 4096
    table, data = b"", b""
    for name, shape in shapes.items():
        each = kind_of(name, shape, kind)
        raw = pack_matrix(tensors[name], each)
        n_out, n_in = shape if len(shape) == 2 else (1, shape[0])
        table += struct.pack("<4I2Q", each, n_out, n_in, 0, data_offset + len(data), len(raw))
        data += raw + bytes(-len(raw) % 64)
    version = 3 if any(later) or any(rotated) else 2
    header = b"MERINO\0" + struct.pack(
        "<BQ4IQ24x", version, data_offset + len(data), 64, len(a.blocks), len(shapes), table_offset,
        data_offset,
    )  # fmt: skip
    return (header + config + blocks + table).ljust(data_offset, b"\0") + data


class Session:
    """A model and one session of it."""

    def __init__(self, library, path, context_len, n_threads=1):
        self.library, self.model, self.session = library, c.c_void_p(), c.c_void_p()
        message = c.create_string_buffer(200)
        status = library.me_open(str(path).encode(), c.byref(self.model), message, 200)
        assert status == 0, message.value
        status = library.me_session_open(
            self.model, context_len, n_threads, c.byref(self.session), message, 200
        )
        assert status == 0, message.value

    def prefill(self, ids, n_logits, vocab_size):
        ids = np.array(ids, np.int32)
        logits = np.full((n_logits, vocab_size), np.nan, np.float32)
        status = self.library.me_prefill(
            self.session, ids.ctypes.data, ids.size, n_logits, logits.ctypes.data
        )
        assert status == 0
        return logits

    def step(self, token, vocab_size):
        logits = np.full(vocab_size, np.nan, np.float32)
        assert self.library.me_step(self.session, int(token), logits.ctypes.data) == 0
        return logits

    def close(self):
        self.library.me_session_close(self.session)
        self.library.me_close(self.model)
