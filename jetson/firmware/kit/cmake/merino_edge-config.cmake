# find_package(merino_edge): the native decoder and the client of its server, for CMake from 3.10 on.
#
#   target_link_libraries(app merino_edge::static)   the decoder, in the program itself
#   target_link_libraries(app merino_edge::shared)   the decoder, as libmerino_edge.so.@ABI@
#   target_link_libraries(app merino_edge::client)   a client of `merino-edge serve --socket`, as source
#
# The kit holds libraries for several machines; CMAKE_SYSTEM_PROCESSOR, which a toolchain file sets,
# says which. Paths are found from this file, so the kit may lie anywhere.
if(TARGET merino_edge::static)
  return()
endif()
get_filename_component(_merino_edge_root "${CMAKE_CURRENT_LIST_DIR}/../../.." ABSOLUTE)
set(_merino_edge_machine "${CMAKE_SYSTEM_PROCESSOR}")
if(_merino_edge_machine MATCHES "^(aarch64|arm64|ARM64)$")
  set(_merino_edge_machine aarch64)
elseif(_merino_edge_machine MATCHES "^(x86_64|AMD64|amd64)$")
  set(_merino_edge_machine x86_64)
endif()
set(_merino_edge_lib "${_merino_edge_root}/lib/${_merino_edge_machine}")
if(NOT EXISTS "${_merino_edge_lib}/libmerino_edge.a")
  set(merino_edge_FOUND FALSE)
  set(merino_edge_NOT_FOUND_MESSAGE
      "this kit holds no library for '${CMAKE_SYSTEM_PROCESSOR}' (looked for ${_merino_edge_lib}/libmerino_edge.a)")
  return()
endif()

include(CMakeFindDependencyMacro)
set(THREADS_PREFER_PTHREAD_FLAG ON)
find_dependency(Threads)

add_library(merino_edge::static STATIC IMPORTED)
set_target_properties(merino_edge::static PROPERTIES
  IMPORTED_LOCATION "${_merino_edge_lib}/libmerino_edge.a"
  INTERFACE_INCLUDE_DIRECTORIES "${_merino_edge_root}/include"
  INTERFACE_LINK_LIBRARIES "Threads::Threads;m")

add_library(merino_edge::shared SHARED IMPORTED)
set_target_properties(merino_edge::shared PROPERTIES
  IMPORTED_LOCATION "${_merino_edge_lib}/libmerino_edge.so.@ABI@"
  IMPORTED_SONAME "libmerino_edge.so.@ABI@"
  INTERFACE_INCLUDE_DIRECTORIES "${_merino_edge_root}/include")

add_library(merino_edge::client INTERFACE IMPORTED)
set_target_properties(merino_edge::client PROPERTIES
  INTERFACE_SOURCES "${_merino_edge_root}/src/merino_edge_client.c"
  INTERFACE_INCLUDE_DIRECTORIES "${_merino_edge_root}/include")

unset(_merino_edge_root)
unset(_merino_edge_machine)
unset(_merino_edge_lib)
