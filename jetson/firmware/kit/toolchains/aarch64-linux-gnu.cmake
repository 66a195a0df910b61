# For 64-bit ARM with the distribution's cross compiler (Debian, Ubuntu: gcc-aarch64-linux-gnu).
#
#   cmake -S app -B build -DCMAKE_TOOLCHAIN_FILE=KIT/toolchains/aarch64-linux-gnu.cmake -DCMAKE_PREFIX_PATH=KIT
#
# The program then asks for the C library of that distribution or a newer one: for a board whose
# system is older than the workstation's, take aarch64-zig.cmake, or link with -static.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_FIND_ROOT_PATH /usr/aarch64-linux-gnu)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE BOTH) # the kit lies outside of the root
