"""Copies of any shape equal numpy's, through both doors."""

import numpy as np
import pytest

hypothesis = pytest.importorskip("hypothesis")
from hypothesis import HealthCheck, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

SHAPES = st.tuples(
    st.integers(1, 40),  # width
    st.integers(1, 6),  # height
    st.integers(0, 30),  # what the source's pitch is wider
    st.integers(0, 30),  # and the target's
    st.integers(0, 50),  # where the first row of the target begins
)


@given(shape=SHAPES, seed=st.integers(0, 2**32 - 1))
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_rows_land_where_numpy_puts_them(cuda, shape, seed):
    width, height, src_gap, dst_gap, offset = shape
    src_pitch, dst_pitch = width + src_gap, width + dst_gap
    rng = np.random.RandomState(seed)
    source = rng.randint(0, 256, src_pitch * height).astype(np.uint8)
    expected = rng.randint(0, 256, offset + dst_pitch * height).astype(np.uint8)
    with cuda.activate():
        stream = cuda.create_stream()
        src, src_host = cuda.malloc(source.size), cuda.host_alloc(source.size)
        dst, dst_host = cuda.malloc(expected.size), cuda.host_alloc(expected.size)
        src_host.array[:], dst_host.array[:] = source, expected
        cuda.copy_async(src, src_host.array.ctypes.data, source.size, stream)
        cuda.copy_async(dst, dst_host.array.ctypes.data, expected.size, stream)
        cuda.copy_2d_async(dst + offset, dst_pitch, src, src_pitch, width, height, stream)
        cuda.copy_async(dst_host.array.ctypes.data, dst, expected.size, stream)
        cuda.synchronize(stream)
        rows = expected[offset:].reshape(height, dst_pitch)
        rows[:, :width] = source.reshape(height, src_pitch)[:, :width]
        np.testing.assert_array_equal(dst_host.array, expected)
        for address in (src, dst):
            cuda.free(address)
        for buffer in (src_host, dst_host):
            cuda.free_host(buffer)
        cuda.destroy_stream(stream)
