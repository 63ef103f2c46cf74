# The three kinds of target. Every path in an #include starts at the repository's root.

# Before all that links gRPC: the thread sanitizer does not see its locks.
if(STORYFARM_SANITIZER STREQUAL "thread" AND CMAKE_SYSTEM_NAME STREQUAL "Linux")
  add_library(storyfarm_tsan_grpc SHARED ${CMAKE_SOURCE_DIR}/tests/support/tsan_grpc.cc)
  target_link_libraries(storyfarm_tsan_grpc PRIVATE storyfarm_warnings absl::status ${CMAKE_DL_LIBS})
  link_libraries(storyfarm_tsan_grpc)
endif()

# storyfarm_library(NAME [TORCH] SOURCES ... [DEPS ...])
#   TORCH: its sources include libtorch; built only with STORYFARM_TORCH.
function(storyfarm_library NAME)
  cmake_parse_arguments(ARG "TORCH" "" "SOURCES;DEPS" ${ARGN})
  if(ARG_TORCH AND NOT STORYFARM_TORCH)
    return()
  endif()
  add_library(${NAME} STATIC ${ARG_SOURCES})
  storyfarm_common(${NAME} "${ARG_TORCH}" "${ARG_DEPS}")
endfunction()

# storyfarm_program(NAME [TORCH] SOURCES ... [DEPS ...])
function(storyfarm_program NAME)
  cmake_parse_arguments(ARG "TORCH" "" "SOURCES;DEPS" ${ARGN})
  if(ARG_TORCH AND NOT STORYFARM_TORCH)
    return()
  endif()
  add_executable(${NAME} ${ARG_SOURCES})
  storyfarm_common(${NAME} "${ARG_TORCH}" "${ARG_DEPS}")
  if(NOT APPLE)
    # An old-style run path: a RUNPATH is not followed for the libraries of libraries, and an installed tree has these.
    target_link_options(${NAME} PRIVATE -Wl,--disable-new-dtags)
  endif()
  set_property(GLOBAL APPEND PROPERTY STORYFARM_PROGRAMS ${NAME})
endfunction()

# storyfarm_test(NAME [TORCH] SOURCES ... [DEPS ...] [PROGRAMS ...]): GoogleTest, one ctest entry a program.
#   PROGRAMS: programs that it starts; they are built before it runs.
function(storyfarm_test NAME)
  cmake_parse_arguments(ARG "TORCH" "" "SOURCES;DEPS;PROGRAMS" ${ARGN})
  if(ARG_TORCH AND NOT STORYFARM_TORCH)
    return()
  endif()
  foreach(PROGRAM ${ARG_PROGRAMS})
    if(NOT TARGET ${PROGRAM})
      return()
    endif()
  endforeach()
  add_executable(${NAME} ${ARG_SOURCES})
  storyfarm_common(${NAME} "${ARG_TORCH}" "${ARG_DEPS};GTest::gmock;GTest::gtest_main")
  target_compile_definitions(${NAME} PRIVATE
    STORYFARM_SOURCE_DIR="${CMAKE_SOURCE_DIR}" STORYFARM_BIN_DIR="${CMAKE_RUNTIME_OUTPUT_DIRECTORY}")
  if(ARG_PROGRAMS)
    add_dependencies(${NAME} ${ARG_PROGRAMS})
  endif()
  add_test(NAME ${NAME} COMMAND ${NAME})
endfunction()

function(storyfarm_common NAME TORCH DEPS)
  target_include_directories(${NAME} PUBLIC ${CMAKE_SOURCE_DIR})
  target_link_libraries(${NAME} PUBLIC ${DEPS} PRIVATE storyfarm_warnings)
  if(TORCH)
    # PRIVATE: the wheel carries a protobuf of its own among its headers, which must not reach other targets.
    target_link_libraries(${NAME} PRIVATE storyfarm_torch)
    target_precompile_headers(${NAME} REUSE_FROM storyfarm_torch_pch)
  endif()
endfunction()
