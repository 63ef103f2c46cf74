#include "tests/contract/rig.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "coordinator/store/memory_store.h"
#include "coordinator/store/private_redis.h"
#include "coordinator/store/redis_store.h"
#include "tests/support/small_disk.h"
#include "tests/support/temp_folder.h"

namespace storyfarm::coordinator {
namespace {

// A paused server is waited for so long; long enough for an fsync of a busy machine.
constexpr int64_t kCommandMs = 400;

class MemoryRig : public Rig {
 public:
  std::unique_ptr<Store> Open(const std::string& name) override { return std::make_unique<MemoryStore>(disk_, name); }
  std::unique_ptr<Store> OpenThatLosesAnAnswer() override {
    class Losing : public MemoryStore {
     public:
      explicit Losing(std::shared_ptr<MemoryDisk> disk) : MemoryStore(disk), disk_(std::move(disk)) {}
      AppendResult Append(const farm::v1::RecordBatch& batch) override {
        if (!lost_) disk_->Break(MemoryDisk::Accident::kAnswerLost, 1);
        lost_ = true;
        return MemoryStore::Append(batch);
      }

     private:
      std::shared_ptr<MemoryDisk> disk_;
      bool lost_ = false;
    };
    return std::make_unique<Losing>(disk_);
  }
  std::string Inflict(Fault fault) override {
    const bool refuses = fault == Fault::kOutOfMemory || fault == Fault::kDiskFull;
    disk_->Break(refuses                   ? MemoryDisk::Accident::kRefused
                 : fault == Fault::kPaused ? MemoryDisk::Accident::kAnswerLost
                                           : MemoryDisk::Accident::kRequestLost,
                 1000);
    return "";
  }
  void Heal(Fault) override { disk_->Break(MemoryDisk::Accident::kNone, 0); }
  bool CutTail() override { return false; }

 private:
  std::shared_ptr<MemoryDisk> disk_ = std::make_shared<MemoryDisk>();
};

class RedisRig : public Rig {
 public:
  explicit RedisRig(std::optional<Fault> fault) : impatient_(fault == Fault::kPaused) {
    if (fault == Fault::kDiskFull) disk_ = testing_support::SmallDisk::Mount(folder_.path(), uint64_t{16} << 20);
    PrivateRedisOptions options;
    options.data_folder = folder_.path();
    auto redis = PrivateRedis::Start(&base::Env::Real(), options);
    EXPECT_TRUE(redis.ok()) << redis.status().ToString();
    if (redis.ok()) redis_ = *std::move(redis);
  }
  ~RedisRig() override { redis_.reset(); }

  std::unique_ptr<Store> Open(const std::string& name) override {
    return std::make_unique<RedisStore>(impatient_ ? Impatient() : redis_->Options(), "test", name);
  }

  // Redis holds its answer for longer than the client waits: CLIENT PAUSE does not hold scripts' writes back before
  // they are read, so the server itself is stopped and goes on later.
  std::unique_ptr<Store> OpenThatLosesAnAnswer() override {
    class Losing : public RedisStore {
     public:
      Losing(RedisOptions options, PrivateRedis* redis) : RedisStore(std::move(options), "test"), redis_(redis) {}
      AppendResult Append(const farm::v1::RecordBatch& batch) override {
        if (lost_) return RedisStore::Append(batch);
        lost_ = true;
        kill(redis_->pid(), SIGSTOP);
        AppendResult result = RedisStore::Append(batch);
        kill(redis_->pid(), SIGCONT);
        return result;
      }

     private:
      PrivateRedis* redis_;
      bool lost_ = false;
    };
    return std::make_unique<Losing>(Impatient(), redis_.get());
  }

  std::string Inflict(Fault fault) override {
    switch (fault) {
      case Fault::kKilled:
        kill(redis_->pid(), SIGKILL);
        break;
      case Fault::kPaused:
        kill(redis_->pid(), SIGSTOP);
        break;
      case Fault::kOutOfMemory:
        SetMaxMemory("1mb");
        break;
      case Fault::kDiskFull:
        if (disk_ == nullptr) return "this machine does not let the test mount a small disk (it takes root)";
        disk_->Fill();
        break;
      case Fault::kHalfWritten:
        // What a machine leaves that lost its power while Redis wrote: the beginning of a command.
        StopHard();
        std::ofstream(TailFile(), std::ios::app | std::ios::binary) << "*5\r\n$4\r\nXADD\r\n$20\r\nstoryfarm:{te";
        break;
    }
    return "";
  }
  void Heal(Fault fault) override {
    if (fault == Fault::kPaused) kill(redis_->pid(), SIGCONT);
    if (fault == Fault::kOutOfMemory) SetMaxMemory("0");
    if (fault == Fault::kDiskFull) disk_->Empty();
  }
  bool CutTail() override {
    StopHard();
    const std::string file = TailFile();
    std::filesystem::resize_file(file, std::filesystem::file_size(file) - 10);
    return true;
  }

 private:
  RedisOptions Impatient() {
    RedisOptions options = redis_->Options();
    options.command_ms = kCommandMs;
    options.before_connect = nullptr;  // it would wait until the server answers
    return options;
  }
  void SetMaxMemory(const std::string& size) {
    const auto set = RedisConnection(redis_->Options()).Command({"CONFIG", "SET", "maxmemory", size});
    EXPECT_TRUE(set.ok()) << set.status().ToString();
  }
  void StopHard() {
    const int pid = redis_->pid();
    kill(pid, SIGKILL);
    while (kill(pid, 0) == 0) usleep(1000);  // a reaped child is no process any more
  }
  // The append-only file that is written to now.
  std::string TailFile() {
    std::string newest;
    for (const auto& entry : std::filesystem::directory_iterator(folder_.File("redis/appendonlydir"))) {
      const std::string path = entry.path().string();
      if (path.ends_with(".incr.aof") && path > newest) newest = path;
    }
    EXPECT_FALSE(newest.empty());
    return newest;
  }

  const bool impatient_;
  testing_support::TempFolder folder_;
  std::unique_ptr<testing_support::SmallDisk> disk_;  // null: an ordinary one
  std::unique_ptr<PrivateRedis> redis_;
};

}  // namespace

const char* NameOf(Fault fault) {
  switch (fault) {
    case Fault::kKilled:
      return "Killed";
    case Fault::kPaused:
      return "Paused";
    case Fault::kOutOfMemory:
      return "OutOfMemory";
    case Fault::kDiskFull:
      return "DiskFull";
    case Fault::kHalfWritten:
      return "HalfWritten";
  }
  return "";
}

std::unique_ptr<Rig> MakeRig(const std::string& store, std::optional<Fault> fault) {
  if (store == "memory") return std::make_unique<MemoryRig>();
  return std::make_unique<RedisRig>(fault);
}

farm::v1::RecordBatch Batch(uint64_t sequence, const std::string& text) {
  farm::v1::RecordBatch batch;
  batch.set_sequence(sequence);
  batch.add_records()->mutable_job_finished()->set_job_id(absl::StrCat(text, sequence));
  return batch;
}

Loaded LoadAll(Store& store) {
  Loaded loaded;
  const auto end = store.Load(
      [&](const Snapshot& snapshot) {
        loaded.snapshot = snapshot;
        return absl::OkStatus();
      },
      [&](const farm::v1::RecordBatch& batch) {
        loaded.sequences.push_back(batch.sequence());
        loaded.texts.push_back(batch.records(0).job_finished().job_id());
        return absl::OkStatus();
      });
  EXPECT_TRUE(end.ok()) << end.status().ToString();
  if (end.ok()) loaded.end = end->sequence;
  return loaded;
}

}  // namespace storyfarm::coordinator
