# Writes a C++ source that holds files as bytes: cmake -DFOLDER=... -DFILES="a;b" -DOUTPUT=x.cc -P EmbedFiles.cmake
# It defines EmbeddedFiles (coordinator/web/page_files.h), each file under its name in FOLDER.
set(ARRAYS "")
set(TABLE "")
set(NUMBER 0)
foreach(NAME ${FILES})
  file(READ ${FOLDER}/${NAME} HEX_BYTES HEX)
  string(REGEX REPLACE "(..)" "0x\\1," BYTES "${HEX_BYTES}")
  string(REGEX REPLACE "(0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,)" "\\1\n" BYTES "${BYTES}")
  string(APPEND ARRAYS "const unsigned char kFile${NUMBER}[] = {\n${BYTES}0};\n")
  string(APPEND TABLE "      {\"${NAME}\", {reinterpret_cast<const char*>(kFile${NUMBER}), sizeof(kFile${NUMBER}) - 1}},\n")
  math(EXPR NUMBER "${NUMBER} + 1")
endforeach()
file(WRITE ${OUTPUT} "#include \"coordinator/web/page_files.h\"\n\nnamespace storyfarm::coordinator {\nnamespace {\n\n"
     "${ARRAYS}\n}  // namespace\n\nconst std::vector<EmbeddedFile>& EmbeddedFiles() {\n"
     "  static const std::vector<EmbeddedFile> kFiles = {\n${TABLE}  };\n  return kFiles;\n}\n\n"
     "}  // namespace storyfarm::coordinator\n")
