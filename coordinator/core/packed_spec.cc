#include "coordinator/core/packed_spec.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string_view>
#include <utility>

#include "pipeline/base/deflate.h"

namespace storyfarm::coordinator {

using farm::v1::Chapter;
using farm::v1::JobSpec;
using farm::v1::Panel;

namespace {

// What damaged bytes may make Read reserve: more than any story has (limits.h).
constexpr uint64_t kMostPanels = 1 << 20;
constexpr uint64_t kMostBlockBytes = 64 << 20;

}  // namespace

PackedSpec::PackedSpec(const JobSpec& spec) {
  JobSpec rest = spec;
  Chapter block;
  for (Chapter& chapter : *rest.mutable_story()->mutable_chapters()) {
    panels_in_.push_back(static_cast<uint32_t>(chapter.panels_size()));
    panels_ += panels_in_.back();
    google::protobuf::RepeatedPtrField<Panel> panels;
    panels.Swap(chapter.mutable_panels());
    for (Panel& panel : panels) {
      *block.add_panels() = std::move(panel);
      if (block.panels_size() < static_cast<int>(kPanelsABlock)) continue;
      Append(block);
      block.clear_panels();
    }
  }
  if (!block.panels().empty()) Append(block);
  blocks_.shrink_to_fit();
  extents_.shrink_to_fit();
  sizes_.shrink_to_fit();
  head_ = rest;  // a copy, since lists that have grown have room to grow
}

void PackedSpec::Append(const Chapter& block) {
  NoteSizes(block, static_cast<uint32_t>(extents_.size()) * kPanelsABlock);
  const std::string bytes = block.SerializeAsString();
  blocks_ += base::Deflate(bytes);
  extents_.push_back({static_cast<uint32_t>(blocks_.size()), static_cast<uint32_t>(bytes.size())});
}

void PackedSpec::NoteSizes(const Chapter& block, uint32_t first) {
  for (int i = 0; i < block.panels_size(); ++i) {
    const Panel& panel = block.panels(i);
    if (!panel.has_width() && !panel.has_height()) continue;
    sizes_.push_back({first + static_cast<uint32_t>(i), {panel.width(), panel.height()}});
  }
}

plan::PanelSize PackedSpec::SizeOf(uint32_t panel) const {
  const auto found = std::lower_bound(sizes_.begin(), sizes_.end(), panel,
                                      [](const OwnSize& own, uint32_t number) { return own.panel < number; });
  return found == sizes_.end() || found->panel != panel ? plan::PanelSize() : found->size;
}

uint32_t PackedSpec::PanelsInBlock(uint32_t number) const {
  return std::min(kPanelsABlock, panels_ - number * kPanelsABlock);
}

std::optional<Chapter> PackedSpec::ReadBlock(uint32_t number) const {
  const uint32_t begin = number == 0 ? 0 : extents_[number - 1].end;
  const std::string_view deflated(blocks_.data() + begin, extents_[number].end - begin);
  const auto bytes = base::Inflate(deflated, extents_[number].inflated_bytes);
  Chapter block;
  if (!bytes.ok() || !block.ParseFromString(*bytes)) return std::nullopt;
  if (block.panels_size() != static_cast<int>(PanelsInBlock(number))) return std::nullopt;
  return block;
}

Chapter PackedSpec::Block(uint32_t number) const {
  std::optional<Chapter> block = ReadBlock(number);
  if (!block.has_value()) {
    // It was whole when it was packed or read: this process's memory is damaged, and may not be written down.
    std::fprintf(stderr, "storyfarm: the story of job %s is damaged in memory\n", head_.job_id().c_str());
    std::abort();
  }
  return *std::move(block);
}

JobSpec PackedSpec::Unpack() const {
  JobSpec spec = head_;
  Chapter block;
  uint32_t next = 0;
  for (int chapter = 0; chapter < spec.story().chapters_size(); ++chapter) {
    auto& panels = *spec.mutable_story()->mutable_chapters(chapter)->mutable_panels();
    panels.Reserve(static_cast<int>(panels_in(chapter)));
    for (uint32_t i = 0; i < panels_in(chapter); ++i, ++next) {
      if (next % kPanelsABlock == 0) block = Block(next / kPanelsABlock);
      *panels.Add() = std::move(*block.mutable_panels(static_cast<int>(next % kPanelsABlock)));
    }
  }
  return spec;
}

bool PackedSpec::operator==(const PackedSpec& other) const {
  if (panels_in_ != other.panels_in_ || blocks_ != other.blocks_) return false;
  return head_.SerializeAsString() == other.head_.SerializeAsString();
}

void PackedSpec::Write(ByteWriter& out) const {
  out.String(head_.SerializeAsString());
  for (const uint32_t panels : panels_in_) out.Number(panels);
  for (const Extent& extent : extents_) {
    out.Number(extent.end);
    out.Number(extent.inflated_bytes);
  }
  out.String(blocks_);
}

std::optional<PackedSpec> PackedSpec::Read(ByteReader& in) {
  PackedSpec spec;
  if (!spec.head_.ParseFromString(in.String())) return std::nullopt;
  uint64_t panels = 0;
  for (int chapter = 0; chapter < spec.head_.story().chapters_size(); ++chapter) {
    panels += in.Number();
    if (panels > kMostPanels) return std::nullopt;
    spec.panels_in_.push_back(static_cast<uint32_t>(panels - spec.panels_));
    spec.panels_ = static_cast<uint32_t>(panels);
  }
  uint32_t end = 0;
  for (uint32_t first = 0; first < spec.panels_; first += kPanelsABlock) {
    const uint64_t block_end = in.Number();
    const uint64_t inflated_bytes = in.Number();
    if (block_end < end || block_end > UINT32_MAX || inflated_bytes > kMostBlockBytes) return std::nullopt;
    end = static_cast<uint32_t>(block_end);
    spec.extents_.push_back({end, static_cast<uint32_t>(inflated_bytes)});
  }
  spec.blocks_ = in.String();
  if (!in.ok() || spec.blocks_.size() != end) return std::nullopt;
  for (uint32_t number = 0; number < spec.extents_.size(); ++number) {
    const auto block = spec.ReadBlock(number);
    if (!block.has_value()) return std::nullopt;
    spec.NoteSizes(*block, number * kPanelsABlock);
  }
  spec.extents_.shrink_to_fit();
  return spec;
}

}  // namespace storyfarm::coordinator
