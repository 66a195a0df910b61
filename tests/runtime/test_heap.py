"""The heap's switch: turned where glibc is, and harmless elsewhere."""

import platform

from merino_edge.runtime.heap import keep_one_heap


def test_glibc_takes_it_as_often_as_it_is_asked():
    expected = platform.libc_ver()[0] == "glibc"
    assert [keep_one_heap(), keep_one_heap()] == [expected, expected]
