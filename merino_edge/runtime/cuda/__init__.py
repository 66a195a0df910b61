"""CUDA on a machine that may have no compiler: one small interface, a door per library.

``api.Cuda`` is the interface; ``cudart`` reaches NVIDIA's runtime library with ctypes and has CUDA
graphs, ``pycuda_door`` uses the package pycuda; ``open.open_cuda`` chooses. Only these modules know
that CUDA exists; everyone else holds addresses and handles, which are plain integers.
"""
