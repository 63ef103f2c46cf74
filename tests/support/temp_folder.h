// A folder of its own for a test, removed with all that is in it at the end.
#ifndef STORYFARM_TESTS_SUPPORT_TEMP_FOLDER_H_
#define STORYFARM_TESTS_SUPPORT_TEMP_FOLDER_H_

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <string>

namespace storyfarm::testing_support {

// Under /tmp whatever TMPDIR says, so that unix sockets in it keep within 104 bytes.
class TempFolder {
 public:
  TempFolder() {
    char name[] = "/tmp/storyfarm-test-XXXXXX";
    if (mkdtemp(name) == nullptr) ADD_FAILURE() << "cannot make a temporary folder";
    path_ = name;
  }
  ~TempFolder() {
    std::error_code ignored;  // a test may have removed or locked parts of it on purpose
    std::filesystem::remove_all(path_, ignored);
  }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;

  const std::string& path() const { return path_; }
  std::string File(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

}  // namespace storyfarm::testing_support

#endif  // STORYFARM_TESTS_SUPPORT_TEMP_FOLDER_H_
