// A disk of a few megabytes in a test's folder, to be filled. Needs the right to mount: root, or a user namespace that
// has it; elsewhere there is none, and the test says so and skips.
#ifndef STORYFARM_TESTS_SUPPORT_SMALL_DISK_H_
#define STORYFARM_TESTS_SUPPORT_SMALL_DISK_H_

#include <fcntl.h>
#include <sys/statvfs.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/mount.h>
#endif

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace storyfarm::testing_support {

class SmallDisk {
 public:
  // Mounted at `path`, which is an empty folder. Null where this process may not mount.
  static std::unique_ptr<SmallDisk> Mount(const std::string& path, uint64_t bytes) {
#ifdef __linux__
    const std::string options = "mode=0700,size=" + std::to_string(bytes);
    if (mount("tmpfs", path.c_str(), "tmpfs", MS_NODEV | MS_NOSUID, options.c_str()) != 0) return nullptr;
    return std::unique_ptr<SmallDisk>(new SmallDisk(path));
#else
    static_cast<void>(path);
    static_cast<void>(bytes);
    return nullptr;
#endif
  }
  ~SmallDisk() {
#ifdef __linux__
    umount2(path_.c_str(), MNT_DETACH);
#endif
  }
  SmallDisk(const SmallDisk&) = delete;
  SmallDisk& operator=(const SmallDisk&) = delete;

  // Takes all room but about `leave_bytes`, and gives it back.
  void Fill(uint64_t leave_bytes = 0) {
    const int fd = open(Filler().c_str(), O_CREAT | O_WRONLY | O_APPEND | O_CLOEXEC, 0600);
    const std::vector<char> zeros(size_t{64} << 10);
    // Small writes at the end: the last pages are taken, too.
    while (FreeBytes() > leave_bytes + zeros.size() && write(fd, zeros.data(), zeros.size()) > 0) {
    }
    while (FreeBytes() > leave_bytes && write(fd, zeros.data(), 512) > 0) {
    }
    close(fd);
  }
  void Empty() { unlink(Filler().c_str()); }

 private:
  explicit SmallDisk(std::string path) : path_(std::move(path)) {}
  std::string Filler() const { return path_ + "/filler"; }
  uint64_t FreeBytes() const {
    struct statvfs info {};
    return statvfs(path_.c_str(), &info) == 0 ? static_cast<uint64_t>(info.f_bavail) * info.f_frsize : 0;
  }
  const std::string path_;
};

}  // namespace storyfarm::testing_support

#endif  // STORYFARM_TESTS_SUPPORT_SMALL_DISK_H_
