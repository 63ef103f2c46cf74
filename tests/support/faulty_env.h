// An Env whose disk breaks on demand: fills up in the middle of a write, fails to sync, to rename, to remove.
#ifndef STORYFARM_TESTS_SUPPORT_FAULTY_ENV_H_
#define STORYFARM_TESTS_SUPPORT_FAULTY_ENV_H_

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "pipeline/base/env.h"

namespace storyfarm::testing_support {

// What is not broken goes to the Env beneath, which outlives this. The switches may be set from any thread.
class FaultyEnv : public base::Env {
 public:
  explicit FaultyEnv(base::Env& real) : real_(real) {}

  static constexpr uint64_t kUnlimited = ~uint64_t{0};
  std::atomic<uint64_t> writable_bytes{kUnlimited};  // then ENOSPC; the write that meets it is cut short
  std::atomic<bool> fail_sync{false};
  std::atomic<bool> fail_folder_sync{false};
  std::atomic<bool> fail_rename{false};
  std::atomic<bool> two_disks{false};  // renames answer as between two disks
  std::atomic<bool> fail_read{false};
  std::atomic<uint64_t> free_bytes{kUnlimited};  // what FreeBytes answers; kUnlimited: the truth
  std::atomic<int64_t> clock_ms{-1};             // what both clocks answer; -1: the truth

  absl::StatusOr<std::unique_ptr<base::WritableFile>> OpenForWriting(const std::string& path,
                                                                     base::WriteMode mode) override {
    auto file = real_.OpenForWriting(path, mode);
    if (!file.ok()) return file.status();
    return std::make_unique<Writable>(*this, *std::move(file), path);
  }
  absl::StatusOr<std::unique_ptr<base::ReadableFile>> OpenForReading(const std::string& path) override {
    if (fail_read) return base::ErrorFromErrno(EIO, "read", path);
    return real_.OpenForReading(path);
  }
  absl::StatusOr<base::FileInfo> Stat(const std::string& path) override { return real_.Stat(path); }
  absl::Status Rename(const std::string& from, const std::string& to) override {
    if (fail_rename) return base::ErrorFromErrno(EIO, "move", from);
    if (two_disks && base::FolderOf(base::FolderOf(from)) != base::FolderOf(base::FolderOf(to))) {
      return absl::UnimplementedError("two disks");
    }
    return real_.Rename(from, to);
  }
  absl::Status Remove(const std::string& path) override { return real_.Remove(path); }
  absl::Status CreateFolders(const std::string& path) override { return real_.CreateFolders(path); }
  absl::StatusOr<std::vector<std::string>> List(const std::string& folder) override { return real_.List(folder); }
  absl::Status SyncFolder(const std::string& folder) override {
    return fail_folder_sync ? base::ErrorFromErrno(EIO, "sync the folder", folder) : real_.SyncFolder(folder);
  }
  absl::Status SetModified(const std::string& path, int64_t unix_ms) override {
    return real_.SetModified(path, unix_ms);
  }
  absl::StatusOr<uint64_t> FreeBytes(const std::string& path) override {
    if (free_bytes != kUnlimited) return free_bytes.load();
    return real_.FreeBytes(path);
  }
  absl::StatusOr<std::unique_ptr<base::FileLock>> LockFile(const std::string& path) override {
    return real_.LockFile(path);
  }
  int64_t NowUnixMs() override { return clock_ms >= 0 ? clock_ms.load() : real_.NowUnixMs(); }
  int64_t MonotonicMs() override { return clock_ms >= 0 ? clock_ms.load() : real_.MonotonicMs(); }
  std::string RandomBytes(size_t count) override { return real_.RandomBytes(count); }

 private:
  class Writable : public base::WritableFile {
   public:
    Writable(FaultyEnv& env, std::unique_ptr<base::WritableFile> file, std::string path)
        : env_(env), file_(std::move(file)), path_(std::move(path)) {}
    absl::Status Append(std::string_view bytes) override {
      const uint64_t taken = env_.Take(bytes.size());
      if (absl::Status s = file_->Append(bytes.substr(0, taken)); !s.ok()) return s;
      return taken == bytes.size() ? absl::OkStatus() : base::ErrorFromErrno(ENOSPC, "write", path_);
    }
    absl::Status WriteAt(uint64_t offset_bytes, std::string_view bytes) override {
      const uint64_t taken = env_.Take(bytes.size());
      if (absl::Status s = file_->WriteAt(offset_bytes, bytes.substr(0, taken)); !s.ok()) return s;
      return taken == bytes.size() ? absl::OkStatus() : base::ErrorFromErrno(ENOSPC, "write", path_);
    }
    absl::Status Sync() override { return env_.fail_sync ? base::ErrorFromErrno(EIO, "sync", path_) : file_->Sync(); }
    absl::Status Close() override { return file_->Close(); }

   private:
    FaultyEnv& env_;
    std::unique_ptr<base::WritableFile> file_;
    const std::string path_;
  };

  // Of the room that is left, what a write of `size` gets.
  uint64_t Take(uint64_t size) {
    uint64_t left = writable_bytes;
    while (left != kUnlimited && !writable_bytes.compare_exchange_weak(left, left - std::min(left, size))) {
    }
    return std::min(left, size);
  }

  base::Env& real_;
};

}  // namespace storyfarm::testing_support

#endif  // STORYFARM_TESTS_SUPPORT_FAULTY_ENV_H_
