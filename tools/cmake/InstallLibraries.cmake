# At the time of `cmake --install --component libraries`: the shared libraries of PROGRAM_FILES and of REDIS_SERVER into
# lib/storyfarm/, and the Redis itself into libexec/storyfarm/.
#
# Not carried: libtorch and what comes with it (the machine's Python has it), and the C and C++ libraries, which must be
# the machine's own, as its driver and its libtorch use them, too. So it runs where these are as new as here.
if(NOT REDIS_SERVER)
  message(FATAL_ERROR "There is no redis-server to carry: run tools/setup, then configure again.")
endif()
file(REAL_PATH "${REDIS_SERVER}" REDIS_FILE)  # Debian's is a link to the one program that Redis's names all start
file(GET_RUNTIME_DEPENDENCIES
  EXECUTABLES ${PROGRAM_FILES} ${REDIS_FILE}
  RESOLVED_DEPENDENCIES_VAR FOUND
  UNRESOLVED_DEPENDENCIES_VAR MISSING
  PRE_EXCLUDE_REGEXES "^libtorch" "^libc10" "^lib(c|m|dl|pthread|rt|resolv|stdc\\+\\+|gcc_s)[.]so" "^ld-linux")
if(MISSING)
  message(FATAL_ERROR "Libraries that the programs need are not on this machine: ${MISSING}")
endif()
file(INSTALL DESTINATION "${CMAKE_INSTALL_PREFIX}/lib/storyfarm" TYPE SHARED_LIBRARY FOLLOW_SYMLINK_CHAIN FILES ${FOUND})
file(INSTALL DESTINATION "${CMAKE_INSTALL_PREFIX}/libexec/storyfarm" TYPE PROGRAM RENAME redis-server FILES ${REDIS_FILE})
