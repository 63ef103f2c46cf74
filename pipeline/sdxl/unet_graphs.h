// Forward passes that are recorded once and replayed (device/graph.h). Internal to this folder.
#ifndef STORYFARM_PIPELINE_SDXL_UNET_GRAPHS_H_
#define STORYFARM_PIPELINE_SDXL_UNET_GRAPHS_H_

#include <ATen/ATen.h>

#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "pipeline/device/graph.h"
#include "pipeline/sdxl/unet.h"
#include "pipeline/sdxl/unet_network.h"

namespace storyfarm::sdxl {

// A pass without a hook is one graph. With one, it is cut at the sites of the hook, which computes between two replays:
// gates open and close from step to step, and what lies between the sites stays the same.
//
// What the text's keys are depends on the prompts alone: a graph of their own, replayed where another context comes.
//
//   context --copy--> [text] --keys-----+
//                                       v
//   start --copy--> [graph 0] --x--> hook --y, copied--> [graph 1] --x--> ... --> [graph n] --> prediction
//
// One recording is kept, of the last shape; its memory stays on the device as long as it does. A shape is recorded when
// it comes the second time in a row: libraries choose their kernels in the first. The first recording with and without
// a hook is replayed once with plain attention and compared with the same call without graphs; where they differ, no
// graphs are used any more.
class UNetGraphs {
 public:
  // Null where the device has no graphs, or where weights stream (a graph holds their addresses).
  static std::unique_ptr<UNetGraphs> Create(UNet::Network& net);

  // The prediction; absent where this pass is to be run without graphs.
  // `hook` must not keep its x. Nobody writes into start.context while it is used again.
  std::optional<at::Tensor> Forward(const ForwardStart& start, SelfAttentionHook* hook);
  // Something changed that a recording has in it.
  void Forget();
  ~UNetGraphs() { Forget(); }

 private:
  struct Site {
    SelfAttentionSite site;
    at::Tensor x;  // not its owner: the next part, which runs after the hook, may use the memory again
    at::Tensor y;  // of all sites of its shape
  };
  struct Recording {
    ForwardStart start;
    at::Tensor context;  // that `text` was computed from; kept, so that no other lies where it lay
    std::unique_ptr<device::Graph> text_part;
    std::vector<KeysValues> text;
    std::vector<std::unique_ptr<device::Graph>> parts;  // one more than sites
    std::vector<Site> sites;
    at::Tensor prediction;
    bool hooked = false;
  };

  UNetGraphs(UNet::Network& net, std::unique_ptr<device::GraphRecorder> recorder)
      : net_(net), recorder_(std::move(recorder)) {}
  static bool Fits(const Recording& recording, const ForwardStart& start, bool hooked);
  void Record(const ForwardStart& start, bool hooked);
  // `attend(site, x)` -> y.
  template <typename Attend>
  at::Tensor Replay(const ForwardStart& start, const Attend& attend);
  bool ReplaysWhatItShould(const ForwardStart& start);

  UNet::Network& net_;
  const std::unique_ptr<device::GraphRecorder> recorder_;
  std::optional<Recording> recording_;  // without parts: its shape came once
  bool checked_[2] = {};                // that recordings replay the same: without and with a hook
  bool broken_ = false;                 // one replayed something else
};

}  // namespace storyfarm::sdxl

#endif  // STORYFARM_PIPELINE_SDXL_UNET_GRAPHS_H_
