// Machines that joined by code share what they have over TLS on loopback, each with a data folder of its own, with the
// real renderer. What came from where the workers' logs say, and what the coordinator gave its own.
#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <regex>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "farm/v1/blob.grpc.pb.h"
#include "pipeline/base/certificates.h"
#include "pipeline/base/digest.h"
#include "pipeline/base/env.h"
#include "pipeline/base/farm_channel.h"
#include "pipeline/base/membership.h"
#include "tests/e2e/farm.h"

namespace storyfarm::e2e {
namespace {

using testing::HasSubstr;

const std::string kModel = std::string(STORYFARM_SOURCE_DIR) + "/deploy/examples/demo-model";
const std::string kUNet = kModel + "/unet/diffusion_pytorch_model.safetensors";

// A character whose one identity frame is no panel, so that every panel is a frame that reads it.
std::string Story() {
  std::string story =
      "title: Shared\n"
      "characters:\n"
      "  Mia:\n"
      "    description: a girl with red hair\n"
      "    identity_prompts: [\"a girl with red hair, standing in the forest\"]\n"
      "settings: {steps: 4, reproducible: true, seed: 3}\n"
      "panels:\n";
  for (int panel = 0; panel < 6; ++panel) absl::StrAppend(&story, "  - \"[Mia] on the beach, picture ", panel, "\"\n");
  return story;
}

class FarmPeersTest : public testing::Test {
 protected:
  static std::unique_ptr<Farm> Start() {
    FarmOptions options;
    options.coordinator_arguments = {"--network", "127.0.0.1:0"};
    auto farm = std::make_unique<Farm>(options);
    farm->StartCoordinator();
    farm->MustStoryctl({"models", "add", "demo", kModel});
    std::ofstream(farm->File("story.yaml")) << Story();
    return farm;
  }
  static std::string Code(Farm& farm, std::vector<std::string> words) {
    words.push_back("--json");
    const nlohmann::json answer = nlohmann::json::parse(farm.MustStoryctl(words), nullptr, false);
    return answer.is_object() ? answer.value("code", "") : "";
  }
  static void Join(Farm& farm, const std::string& name, const std::vector<std::string>& arguments = {}) {
    farm.StartJoiningWorker(name, Code(farm, {"worker", "add", "--name", name}), arguments);
    farm.WaitUntil("the worker " + name, [&] {
      const nlohmann::json list = nlohmann::json::parse(farm.MustStoryctl({"worker", "list", "--json"}));
      for (const nlohmann::json& each : list["workers"]) {
        if (each["name"] == name && each["state"] == "connected") return true;
      }
      return false;
    });
  }
  static std::string Draw(Farm& farm) {
    const std::string job = farm.MustStoryctl({"submit", farm.File("story.yaml"), "--model", "demo"});
    farm.WaitForEnd(job);
    return job;
  }
  // The sum of a number in a process's log.
  static uint64_t Count(const Farm& farm, const std::string& process, const std::string& name) {
    uint64_t sum = 0;
    const std::string log = farm.Log(process);
    const std::regex pattern(name + "=([0-9]+)");
    for (std::sregex_iterator at(log.begin(), log.end(), pattern), end; at != end; ++at) {
      uint64_t number = 0;
      EXPECT_TRUE(absl::SimpleAtoi((*at)[1].str(), &number));
      sum += number;
    }
    return sum;
  }
  // What a member gets from the worker's port who asks for the UNet, which that worker has.
  static grpc::Status Ask(Farm& farm, const std::string& worker, const std::string& trust_folder) {
    const std::string log = farm.Log(worker);
    std::smatch port;
    EXPECT_TRUE(std::regex_search(log, port, std::regex("may read this one's cache.* port=([0-9]+)"))) << log;
    const auto own = base::LoadMembership(base::Env::Real(), farm.File(worker + "/trust"));
    EXPECT_TRUE(own.ok()) << own.status();
    const auto channel =
        base::PeerChannel("tls:127.0.0.1:" + port[1].str(), base::ReadCertificate(own->certificate_pem)->host,
                          trust_folder, grpc::ChannelArguments());
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
    farm::v1::ReadRequest request;
    request.set_digest(base::Digest::Of(*base::Env::Real().ReadFile(kUNet)).Bytes());
    const auto stream = farm::v1::BlobService::NewStub(channel)->Read(&context, request);
    farm::v1::ReadResponse response;
    while (stream->Read(&response)) {
    }
    return stream->Finish();
  }
};

TEST_F(FarmPeersTest, APackThatOneMachineHasGoesToTheNextOverTlsAndNotThroughTheCoordinator) {
  const auto farm = Start();
  Join(*farm, "one");
  const std::string first = Draw(*farm);
  EXPECT_EQ(Count(*farm, "one", "from_peers_bytes"), 0u);
  // Another one draws the same: its model, the character's pack and the prompts come from the first one. Where that one
  // stalls the coordinator gives them, as it should, and another worker is asked to show it.
  std::string name = "one", second;
  uint64_t from_peers = 0, from_coordinator = 0;
  for (const char* next : {"two", "three", "four"}) {
    farm->MustStoryctl({"worker", "pause", name});  // it serves on
    name = next;
    Join(*farm, name);
    second = Draw(*farm);
    EXPECT_EQ(farm->Status(second)["identity_seconds"], 0) << "the identity came as a pack";
    from_peers = Count(*farm, name, "from_peers_bytes");
    from_coordinator += Count(*farm, name, "from_coordinator_bytes");
    if (from_peers > std::filesystem::file_size(kUNet)) break;
  }
  EXPECT_GT(from_peers, std::filesystem::file_size(kUNet)) << farm->Logs();
  EXPECT_LT(Count(*farm, name, "from_coordinator_bytes"), from_peers / 4) << "pictures, for pages";
  farm->Stop("one");
  EXPECT_GE(Count(*farm, "one", "to_peers_bytes"), from_peers);
  // All that the coordinator gave to anyone is what the workers say that they had from it.
  from_coordinator += Count(*farm, "one", "from_coordinator_bytes");
  farm->Stop("farm");
  EXPECT_EQ(Count(*farm, "farm", "blob_bytes_given"), from_coordinator);
  farm->StartCoordinator();
  const Files once = farm->Fetch(first);
  ExpectSame(farm->Fetch(second), once);
}

TEST_F(FarmPeersTest, AMachineThatWasRemovedAndPeopleReadNothingFromThoseThatStay) {
  const auto farm = Start();
  Join(*farm, "one");
  Draw(*farm);
  Join(*farm, "two");
  const Result joined = farm->StoryctlOf("ann", {"join"}, Code(*farm, {"user", "add", "ann", "--role", "admin"}));
  ASSERT_EQ(joined.exit_code, 0) << joined.err;
  std::string anns;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(farm->File("home-ann"))) {
    if (entry.path().filename() == "own.crt") anns = entry.path().parent_path().string();
  }
  ASSERT_FALSE(anns.empty());
  const grpc::Status person = Ask(*farm, "one", anns);
  EXPECT_EQ(person.error_code(), grpc::StatusCode::PERMISSION_DENIED) << person.error_message();

  // Its key and certificate, as somebody keeps them who takes the machine along.
  const std::string kept = farm->File("kept");
  std::filesystem::copy(farm->File("two/trust"), kept);
  const grpc::Status before = Ask(*farm, "one", kept);
  EXPECT_TRUE(before.ok()) << before.error_message();
  farm->MustStoryctl({"worker", "remove", "two"});
  // The word is on its way to one while storyctl is answered.
  farm->WaitUntil("the refusal",
                  [&] { return Ask(*farm, "one", kept).error_code() == grpc::StatusCode::PERMISSION_DENIED; });
  // What is left draws on.
  Join(*farm, "three");
  Draw(*farm);
}

TEST_F(FarmPeersTest, APeerThatNobodyCanReachFailsNoTask) {
  const auto farm = Start();
  // Nobody answers where it says that it can be reached.
  Join(*farm, "one", {"--advertise", "127.0.0.2"});
  Draw(*farm);
  farm->MustStoryctl({"worker", "pause", "one"});
  // Peers are named to the first of two grants that come at once; where the second one's files are asked for sooner,
  // the coordinator gives them, and another worker is asked to show it.
  std::string before = "one";
  bool left_alone = false;
  for (const char* next : {"two", "three", "four", "five"}) {
    if (before != "one") farm->MustStoryctl({"worker", "remove", before});
    before = next;
    Join(*farm, next);
    const std::string job = Draw(*farm);
    EXPECT_EQ(farm->Status(job)["frames_attempted"], farm->Status(job)["frames_total"]);
    EXPECT_EQ(Count(*farm, next, "from_peers_bytes"), 0u);
    EXPECT_GT(Count(*farm, next, "from_coordinator_bytes"), std::filesystem::file_size(kUNet));
    left_alone = farm->Log(next).find("a peer is left alone for a while") != std::string::npos;
    if (left_alone) break;
  }
  EXPECT_TRUE(left_alone) << farm->Logs();
}

}  // namespace
}  // namespace storyfarm::e2e
