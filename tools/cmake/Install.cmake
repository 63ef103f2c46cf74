# `cmake --install`: a tree that can lie anywhere.
#   bin/              the programs
#   libexec/          the engine itself and its CUDA kernels: bin/storyfarm-engine finds libtorch in this machine's Python
#                     first
#   share/storyfarm/  examples, documents, units of systemd and launchd, manifests
# `cmake --install --component libraries` adds lib/storyfarm/ and a Redis: what another machine may lack. tools/bundle
# does both.
get_property(PROGRAMS GLOBAL PROPERTY STORYFARM_PROGRAMS)
if(APPLE)
  foreach(PROGRAM ${PROGRAMS})
    set_target_properties(${PROGRAM} PROPERTIES INSTALL_RPATH "@loader_path/../lib")
    if(PROGRAM STREQUAL "storyfarm-engine")
      set_property(TARGET ${PROGRAM} APPEND PROPERTY INSTALL_RPATH "${STORYFARM_TORCH_DIR}/lib")
    endif()
    install(TARGETS ${PROGRAM} RUNTIME DESTINATION bin COMPONENT programs)
  endforeach()
else()
  foreach(PROGRAM ${PROGRAMS})
    if(PROGRAM STREQUAL "storyfarm-engine")
      set_target_properties(${PROGRAM} PROPERTIES INSTALL_RPATH "$ORIGIN/../../lib/storyfarm")
      install(TARGETS ${PROGRAM} RUNTIME DESTINATION libexec/storyfarm COMPONENT programs)
      if(TARGET storyfarm_cuda)
        install(TARGETS storyfarm_cuda LIBRARY DESTINATION libexec/storyfarm COMPONENT programs)
      endif()
      configure_file(deploy/bundle/storyfarm-engine.in ${CMAKE_BINARY_DIR}/storyfarm-engine @ONLY)
      install(PROGRAMS ${CMAKE_BINARY_DIR}/storyfarm-engine DESTINATION bin COMPONENT programs)
    else()
      set_target_properties(${PROGRAM} PROPERTIES INSTALL_RPATH "$ORIGIN/../lib/storyfarm")
      install(TARGETS ${PROGRAM} RUNTIME DESTINATION bin COMPONENT programs)
    endif()
  endforeach()
endif()

install(PROGRAMS deploy/demo DESTINATION bin RENAME storyfarm-demo COMPONENT programs)
install(DIRECTORY deploy/examples deploy/docs deploy/grafana DESTINATION share/storyfarm COMPONENT programs)
install(DIRECTORY deploy/systemd deploy/launchd deploy/k8s DESTINATION share/storyfarm COMPONENT programs OPTIONAL)
install(FILES LICENSE README.md DESTINATION share/storyfarm COMPONENT programs)

if(NOT APPLE)
  find_program(REDIS_SERVER redis-server)
  foreach(PROGRAM ${PROGRAMS})
    list(APPEND PROGRAM_FILES $<TARGET_FILE:${PROGRAM}>)
  endforeach()
  install(CODE "set(PROGRAM_FILES \"${PROGRAM_FILES}\")\nset(REDIS_SERVER \"${REDIS_SERVER}\")"
          COMPONENT libraries EXCLUDE_FROM_ALL)
  install(SCRIPT tools/cmake/InstallLibraries.cmake COMPONENT libraries EXCLUDE_FROM_ALL)
  install(PROGRAMS deploy/bundle/redis-server DESTINATION bin COMPONENT libraries EXCLUDE_FROM_ALL)
endif()
