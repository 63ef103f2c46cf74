// What a job was submitted as, in little memory: its panels with their prompts and captions, which are nearly all of it,
// lie deflated in blocks, and are parsed when work is made of them. Never changes, so the folds of one log share it
// (spec_shelf.h), from any thread.
#ifndef STORYFARM_COORDINATOR_CORE_PACKED_SPEC_H_
#define STORYFARM_COORDINATOR_CORE_PACKED_SPEC_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "coordinator/core/bytes.h"
#include "farm/v1/job.pb.h"
#include "farm/v1/story.pb.h"
#include "pipeline/plan/job_view.h"

namespace storyfarm::coordinator {

class PackedSpec {
 public:
  // Twice as many as a group has frames at most: about 20 KB, unpacked in 0.1 ms. Blocks of twice that would be 7 %
  // smaller.
  static constexpr uint32_t kPanelsABlock = 128;

  explicit PackedSpec(const farm::v1::JobSpec& spec);

  // All of it but the panels of the story's chapters.
  const farm::v1::JobSpec& head() const { return head_; }
  uint32_t panels() const { return panels_; }
  uint32_t panels_in(int chapter) const { return panels_in_[static_cast<size_t>(chapter)]; }
  plan::PanelSize SizeOf(uint32_t panel) const;

  // Panels number * kPanelsABlock and following, as those of one chapter.
  farm::v1::Chapter Block(uint32_t number) const;
  // What was packed; serializes to the same bytes.
  farm::v1::JobSpec Unpack() const;

  // Whether they have the same bytes.
  bool operator==(const PackedSpec& other) const;
  void Write(ByteWriter& out) const;
  // Unpacks all of it once: nothing where it is damaged.
  static std::optional<PackedSpec> Read(ByteReader& in);

 private:
  struct Extent {
    uint32_t end = 0;  // in blocks_
    uint32_t inflated_bytes = 0;
  };
  struct OwnSize {
    uint32_t panel = 0;
    plan::PanelSize size;
  };

  PackedSpec() = default;
  uint32_t PanelsInBlock(uint32_t number) const;
  std::optional<farm::v1::Chapter> ReadBlock(uint32_t number) const;
  void Append(const farm::v1::Chapter& block);
  void NoteSizes(const farm::v1::Chapter& block, uint32_t first);

  farm::v1::JobSpec head_;
  std::vector<uint32_t> panels_in_;  // by chapter
  uint32_t panels_ = 0;
  std::string blocks_;
  std::vector<Extent> extents_;
  std::vector<OwnSize> sizes_;  // ascending; follows from the panels
};

}  // namespace storyfarm::coordinator

#endif  // STORYFARM_COORDINATOR_CORE_PACKED_SPEC_H_
