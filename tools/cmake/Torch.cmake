# libtorch from the PyPI wheel `torch`, behind one target: storyfarm_torch. The wheel's own CMake package wants a CUDA
# toolkit, which a machine that only links libtorch does not need.
file(GLOB STORYFARM_TORCH_CANDIDATES ${CMAKE_SOURCE_DIR}/build/venv/lib/python3*/site-packages/torch)
list(APPEND STORYFARM_TORCH_CANDIDATES "")
list(GET STORYFARM_TORCH_CANDIDATES 0 STORYFARM_TORCH_FOUND)
set(STORYFARM_TORCH_DIR "${STORYFARM_TORCH_FOUND}" CACHE PATH "Folder of the installed Python package torch")
if(NOT EXISTS ${STORYFARM_TORCH_DIR}/include/ATen/ATen.h)
  message(FATAL_ERROR "No libtorch in '${STORYFARM_TORCH_DIR}'. Run tools/setup, or configure with "
                      "-DSTORYFARM_TORCH_DIR=<site-packages>/torch or -DSTORYFARM_TORCH=OFF.")
endif()

file(STRINGS ${STORYFARM_TORCH_DIR}/version.py TORCH_VERSION_LINE REGEX "^__version__ = ")
string(REGEX MATCH "[0-9]+[.][0-9.]+[0-9]" STORYFARM_TORCH_VERSION "${TORCH_VERSION_LINE}")

find_library(STORYFARM_TORCH_CPU torch_cpu PATHS ${STORYFARM_TORCH_DIR}/lib NO_DEFAULT_PATH REQUIRED)
find_library(STORYFARM_C10 c10 PATHS ${STORYFARM_TORCH_DIR}/lib NO_DEFAULT_PATH REQUIRED)

add_library(storyfarm_torch INTERFACE IMPORTED)
set_target_properties(storyfarm_torch PROPERTIES
  INTERFACE_INCLUDE_DIRECTORIES "${STORYFARM_TORCH_DIR}/include"
  INTERFACE_SYSTEM_INCLUDE_DIRECTORIES "${STORYFARM_TORCH_DIR}/include"
  INTERFACE_LINK_LIBRARIES "${STORYFARM_TORCH_CPU};${STORYFARM_C10};Threads::Threads")
if(NOT APPLE)
  # libtorch_cpu names libraries that its own run path finds; the linker need not. An old-style run path, since a
  # RUNPATH is not followed for the libraries of libraries.
  target_link_options(storyfarm_torch INTERFACE -Wl,--allow-shlib-undefined -Wl,--disable-new-dtags)
endif()

# Programs would be compiled with -fPIE, which a precompiled header made with -fPIC refuses; the last of the two counts.
target_compile_options(storyfarm_torch INTERFACE -fPIC)

# One precompiled header for every file that includes libtorch (8 s a file without it).
add_library(storyfarm_torch_pch OBJECT ${CMAKE_SOURCE_DIR}/tools/cmake/torch_pch.cc)
target_link_libraries(storyfarm_torch_pch PRIVATE storyfarm_torch storyfarm_warnings)
target_precompile_headers(storyfarm_torch_pch PRIVATE <ATen/ATen.h>)
