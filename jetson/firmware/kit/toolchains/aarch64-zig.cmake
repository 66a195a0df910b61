# For 64-bit ARM with zig, which brings its own C library: the program runs from glibc @GLIBC@ on,
# which is older than any Jetson's (JetPack 4.6 has 2.27). Nothing of the system's is needed:
#
#   pip install ziglang     (or any zig, named by -DZIG=/path/to/zig)
#   cmake -S app -B build -DCMAKE_TOOLCHAIN_FILE=KIT/toolchains/aarch64-zig.cmake -DCMAKE_PREFIX_PATH=KIT
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(ZIG "python3;-m;ziglang" CACHE STRING "The command of zig")
list(GET ZIG 0 _zig_program)
set(_zig_arguments "${ZIG}")
list(REMOVE_AT _zig_arguments 0)
string(REPLACE ";" " " _zig_arguments "${_zig_arguments} cc -target aarch64-linux-gnu.@GLIBC@")
# Since CMake takes one word for the compiler, the others come as its first argument.
set(CMAKE_C_COMPILER "${_zig_program}" CACHE STRING "" FORCE)
set(CMAKE_C_COMPILER_ARG1 "${_zig_arguments}" CACHE STRING "" FORCE)
set(CMAKE_TRY_COMPILE_PLATFORM_VARIABLES ZIG)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE BOTH)
