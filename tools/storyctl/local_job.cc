#include "tools/storyctl/local_job.h"

#include <algorithm>
#include <deque>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "pipeline/base/digest.h"
#include "pipeline/plan/names.h"

namespace storyfarm::storyctl {
namespace {

// Plans for one group before its shortage of memory counts as final.
constexpr int kMemoryTries = 4;
// Added to a plan that ran out of memory where the engine could not say what it needed.
constexpr uint64_t kLearnedStepDivisor = 4;
// An engine that has not answered a probe by then hangs: the first import of CUDA takes seconds.
constexpr int64_t kProbeTimeoutMs = 120'000;
constexpr int64_t kStopGraceMs = 5'000;

bool EngineDied(const farm::v1::Failure& failure) {
  return failure.kind() == farm::v1::ENGINE_ABORTED || failure.kind() == farm::v1::HUNG;
}

}  // namespace

LocalJob::LocalJob(base::Env& env, const farm::v1::JobSpec& job, LocalOptions options, LocalProgress progress)
    : env_(env), job_(job), options_(std::move(options)), progress_(std::move(progress)) {}

LocalJob::~LocalJob() {
  if (engine_ != nullptr) engine_->Stop(kStopGraceMs);
}

absl::StatusOr<LocalResult> LocalJob::Run() {
  if (absl::Status chosen = ChooseDevice(); !chosen.ok()) return chosen;
  result_.panels.resize(plan::PanelCount(job_.story()));
  for (int i = 0; i < job_.identities_size(); ++i) RunIdentity(static_cast<uint32_t>(i));
  for (const farm::v1::FrameSet& set : job_.frame_sets()) RunFrameSet(set);
  RunPages();
  return std::move(result_);
}

absl::Status LocalJob::StartEngine(const std::string& device) {
  if (engine_ != nullptr) engine_->Stop(kStopGraceMs);
  engine::EngineOptions options;
  options.program = options_.engine;
  options.device = device;
  options.threads = options_.threads;
  options.memory_limit_bytes = options_.memory_limit_bytes;
  auto engine = engine::EngineProcess::Start(options);
  if (!engine.ok()) return engine.status();
  engine_ = *std::move(engine);
  device_name_ = device;
  return absl::OkStatus();
}

absl::StatusOr<std::vector<farm::v1::DeviceReport>> LocalJob::Probe(bool measure_speed) {
  farm::v1::EngineRequest request;
  request.set_request_id(next_request_++);
  request.mutable_probe()->set_measure_speed(measure_speed);
  if (engine_->Send(request).ok()) {
    while (true) {
      const auto event = engine_->NextEvent(kProbeTimeoutMs);
      if (absl::IsDeadlineExceeded(event.status())) {
        return absl::InternalError("storyfarm-engine did not answer; is its libtorch complete?");
      }
      if (!event.ok()) break;
      if (event->request_id() != request.request_id()) continue;
      if (event->has_failed()) return absl::InvalidArgumentError(event->failed().failure().message());
      if (event->has_probed() && !event->probed().devices().empty()) {
        return std::vector<farm::v1::DeviceReport>(event->probed().devices().begin(), event->probed().devices().end());
      }
    }
  }
  return absl::InvalidArgumentError(engine_->Ending().message());
}

absl::Status LocalJob::ChooseDevice() {
  const std::string first = options_.device.empty() ? "cpu" : options_.device;
  if (absl::Status started = StartEngine(first); !started.ok()) return started;
  // Speeds decide between plans on a GPU; on a CPU there is little to choose.
  auto devices = Probe(/*measure_speed=*/first != "cpu");
  if (!devices.ok()) return devices.status();
  result_.device = devices->front();
  plan::LimitMemory(options_.memory_limit_bytes, &result_.device);
  if (!options_.device.empty()) return absl::OkStatus();
  const auto gpu = std::find_if(devices->begin(), devices->end(),
                                [](const farm::v1::DeviceReport& report) { return report.backend() != farm::v1::CPU; });
  if (gpu == devices->end()) return absl::OkStatus();
  if (absl::Status started = StartEngine(plan::DeviceName(*gpu)); !started.ok()) return started;
  devices = Probe(/*measure_speed=*/true);
  if (!devices.ok()) return devices.status();
  result_.device = devices->front();
  plan::LimitMemory(options_.memory_limit_bytes, &result_.device);
  return absl::OkStatus();
}

farm::v1::BlobRef LocalJob::Register(const std::string& path) {
  // Nothing travels here, so a file is named by the digest of its path: hashing a bank of gigabytes would buy nothing.
  farm::v1::BlobRef ref;
  ref.set_digest(base::Digest::Of(path).Bytes());
  ref.set_size_bytes(1);
  files_[ref.digest()] = path;
  return ref;
}

bool LocalJob::Plan(farm::v1::TaskKind kind, const std::vector<uint32_t>& numbers, farm::v1::MemoryPlan* plan,
                    RunEnd* end) {
  const auto shape = plan::ShapeOf(job_, kind, numbers);
  if (!shape.ok()) {
    end->failure.set_kind(farm::v1::INTERNAL);
    end->failure.set_message(std::string(shape.status().message()));
    return false;
  }
  plan::PlanOrRefusal planned = plan::PlanGroup(job_.model().profile(), result_.device, *shape, learned_);
  if (const auto* refusal = std::get_if<farm::v1::Refusal>(&planned)) {
    end->failure.set_kind(farm::v1::OUT_OF_MEMORY);
    end->failure.set_message(refusal->reason());
    end->failure.set_needed_bytes(refusal->needed_bytes());
    return false;
  }
  *plan = std::get<farm::v1::MemoryPlan>(std::move(planned));
  result_.runs.push_back({*plan, {}});
  return true;
}

LocalJob::RunEnd LocalJob::RunWork(const farm::v1::Work& work,
                                   const std::function<absl::Status(const farm::v1::EngineEvent&)>& on_event) {
  RunEnd end;
  const auto fail = [&](const absl::Status& status) {
    end.ok = false;
    end.failure.set_kind(farm::v1::INTERNAL);
    end.failure.set_message(std::string(status.message()));
    return end;
  };
  farm::v1::EngineRequest request;
  request.set_request_id(next_request_++);
  farm::v1::RunRequest& run = *request.mutable_run();
  *run.mutable_work() = work;
  for (const auto& [digest, path] : files_) {
    farm::v1::LocalFile* file = run.add_files();
    file->set_digest(digest);
    file->set_path(path);
  }
  run.set_model_folder(options_.model_folder);
  run.set_output_folder(base::JoinPath(options_.work_folder, absl::StrCat("run-", request.request_id())));
  run.set_draws_file(options_.draws);
  run.set_lift_cap(options_.lift_cap);
  run.set_scratch(true);  // a render that the power ends begins again
  run.set_save_draws_file(options_.save_draws);
  for (const auto& character : job_.story().characters()) run.add_character_names(character.name());
  run.set_panel_count(plan::PanelCount(job_.story()));
  if (absl::Status made = env_.CreateFolders(run.output_folder()); !made.ok()) return fail(made);

  const bool sent = engine_->Send(request).ok();
  const absl::Status heard =
      sent ? HearEvents(request.request_id(), &end, on_event) : absl::UnavailableError("the engine has gone");
  if (heard.ok()) return end;
  if (!absl::IsUnavailable(heard)) {
    // Ours, not the engine's: whatever it is still doing is of no use.
    engine_->Kill();
    const absl::Status restarted = StartEngine(device_name_);
    return fail(restarted.ok() ? heard : restarted);
  }
  end.ok = false;
  end.failure = engine_->Ending();
  if (absl::Status restarted = StartEngine(device_name_); !restarted.ok()) return fail(restarted);
  return end;
}

absl::Status LocalJob::HearEvents(uint64_t request_id, RunEnd* end,
                                  const std::function<absl::Status(const farm::v1::EngineEvent&)>& on_event) {
  while (true) {
    const auto event = engine_->NextEvent(-1);
    if (!event.ok()) return event.status();
    if (event->request_id() != request_id) continue;
    if (event->has_failed()) {
      end->failure = event->failed().failure();
      return absl::OkStatus();
    }
    if (event->has_run()) {
      end->ok = true;
      end->done = event->run();
      result_.peak_bytes = std::max(result_.peak_bytes, event->run().peak_bytes());
      result_.load_ms += event->run().load_ms();
      result_.render_ms += event->run().render_ms();
      return absl::OkStatus();
    }
    if (absl::Status taken = on_event(*event); !taken.ok()) return taken;
  }
}

void LocalJob::Learn(const farm::v1::Failure& failure, const farm::v1::MemoryPlan& plan) {
  const uint64_t planned = plan.predicted_peak_bytes();
  const uint64_t least = planned + planned / kLearnedStepDivisor;
  learned_ = {planned, std::max(least, failure.needed_bytes())};
}

absl::Status LocalJob::TakeFrame(const farm::v1::FrameDone& done) {
  if (done.hidden()) return absl::OkStatus();
  if (done.panel() >= result_.panels.size()) {
    return absl::InternalError(absl::StrCat("the engine finished panel ", done.panel(), ", which is not in the story"));
  }
  PanelResult& panel = result_.panels[done.panel()];
  const std::string path = base::JoinPath(options_.out, absl::StrFormat("panels/%03d.png", done.panel()));
  if (absl::Status moved = env_.Rename(done.image_path(), path); !moved.ok()) return moved;
  panel.image_path = path;
  panel.latents_path = done.latents_path();
  panel.failure.clear();
  panel.render_ms = done.render_ms();
  panel.warnings.assign(done.warnings().begin(), done.warnings().end());
  results_.images[done.panel()] = Register(path);
  progress_.panel(done.panel(), panel);
  return absl::OkStatus();
}

void LocalJob::FailPanel(uint32_t number, const RunEnd& end) {
  PanelResult& panel = result_.panels[number];
  panel.failure = end.failure.message();
  panel.refused = end.failure.kind() == farm::v1::OUT_OF_MEMORY;
  results_.failures[number] = panel.failure;
  progress_.panel(number, panel);
}

void LocalJob::RunIdentity(uint32_t number) {
  const farm::v1::IdentityTask& task = job_.identities(static_cast<int>(number));
  const farm::v1::Character& character = job_.story().characters(static_cast<int>(task.character()));
  RunEnd end;
  for (int attempt = 0; attempt < kMemoryTries; ++attempt) {
    farm::v1::MemoryPlan plan;
    end = RunEnd();
    if (!Plan(farm::v1::TASK_IDENTITY, {number}, &plan, &end)) break;
    const auto work = plan::WorkFor(job_, farm::v1::TASK_IDENTITY, {number}, plan, results_);
    if (!work.ok()) {
      end.failure.set_message(std::string(work.status().message()));
      break;
    }
    farm::v1::Bank bank;
    bank.set_character(task.character());
    bank.set_character_key(character.key());
    bank.set_identity_frames(static_cast<uint32_t>(work->identity().frames_size()));
    for (uint32_t s = 0; s < job_.story().settings().steps(); ++s) bank.add_steps();
    end = RunWork(*work, [&](const farm::v1::EngineEvent& event) {
      if (event.has_step()) progress_.step(character.name(), event.step().step(), event.step().steps());
      if (event.has_bank_step() && !event.bank_step().path().empty() &&
          event.bank_step().step() < job_.story().settings().steps()) {
        *bank.mutable_steps(static_cast<int>(event.bank_step().step())) = Register(event.bank_step().path());
      }
      return event.has_frame() ? TakeFrame(event.frame()) : absl::OkStatus();
    });
    result_.runs.back().done = end.done;
    if (end.ok) {
      results_.banks.push_back(std::move(bank));
      return;
    }
    if (end.failure.kind() == farm::v1::OUT_OF_MEMORY) {
      Learn(end.failure, plan);
      progress_.note(absl::StrCat("out of memory on ", character.name(), "; trying with less"));
      continue;
    }
    if (!EngineDied(end.failure) || attempt > 0) break;
    progress_.note(absl::StrCat("the engine died on ", character.name(), ": ", end.failure.message(), "; once more"));
  }
  identity_failures_[number] = absl::StrCat("the identity of '", character.name(), "' failed: ", end.failure.message());
  for (const uint32_t panel : task.panels()) FailPanel(panel, end);
}

std::vector<uint32_t> LocalJob::RunGroup(const std::vector<uint32_t>& panels, RunEnd* end) {
  std::vector<uint32_t> left = panels;
  for (int attempt = 0; attempt < kMemoryTries && !left.empty(); ++attempt) {
    farm::v1::MemoryPlan plan;
    *end = RunEnd();
    if (!Plan(farm::v1::TASK_FRAME, left, &plan, end)) return left;
    const auto work = plan::WorkFor(job_, farm::v1::TASK_FRAME, left, plan, results_);
    if (!work.ok()) {
      end->failure.set_message(std::string(work.status().message()));
      return left;
    }
    *end = RunWork(*work, [&](const farm::v1::EngineEvent& event) {
      if (event.has_step() && !event.step().panels().empty()) {
        progress_.step(absl::StrCat("panel ", event.step().panels(0)), event.step().step(), event.step().steps());
      }
      return event.has_frame() ? TakeFrame(event.frame()) : absl::OkStatus();
    });
    result_.runs.back().done = end->done;
    left.erase(std::remove_if(left.begin(), left.end(),
                              [&](uint32_t panel) { return !result_.panels[panel].image_path.empty(); }),
               left.end());
    if (end->ok || end->failure.kind() != farm::v1::OUT_OF_MEMORY) return left;
    Learn(end->failure, plan);
    progress_.note("out of memory; trying with less");
  }
  return left;
}

void LocalJob::RunFrameSet(const farm::v1::FrameSet& set) {
  for (const uint32_t identity : set.identities()) {
    const auto failed = identity_failures_.find(identity);
    if (failed == identity_failures_.end()) continue;
    RunEnd end;
    end.failure.set_message(failed->second);
    for (const uint32_t panel : set.panels()) FailPanel(panel, end);
    return;
  }
  struct Group {
    std::vector<uint32_t> panels;
    bool again;  // after the engine died on it
  };
  std::deque<Group> groups;
  for (const uint32_t panel : set.panels()) {
    if (groups.empty() || groups.back().panels.size() == kFramesARequest) groups.push_back({{}, false});
    groups.back().panels.push_back(panel);
  }
  while (!groups.empty()) {
    const Group group = std::move(groups.front());
    groups.pop_front();
    RunEnd end;
    const std::vector<uint32_t> left = RunGroup(group.panels, &end);
    if (left.empty()) continue;
    if (left.size() > 1) {
      // One of them is at fault: each alone, so that the others are drawn.
      for (auto panel = left.rbegin(); panel != left.rend(); ++panel) groups.push_front({{*panel}, false});
    } else if (EngineDied(end.failure) && !group.again) {
      groups.push_front({left, true});
    } else {
      if (end.ok) end.failure.set_message("the engine ended the run without this panel");
      FailPanel(left.front(), end);
    }
  }
}

void LocalJob::RunPages() {
  if (options_.fonts.empty()) {
    result_.pages_failure = "no font was found, so no page could be set: install one, such as fonts-dejavu-core";
    return;
  }
  for (const std::string& path : options_.fonts) {
    farm::v1::FontFile* font = job_.add_fonts();
    font->set_file_name(base::FileNameOf(path));
    *font->mutable_blob() = Register(path);
  }
  for (int i = 0; i < job_.pages_size(); ++i) {
    progress_.step("pages", static_cast<uint32_t>(i + 1), static_cast<uint32_t>(job_.pages_size()));
    if (absl::Status page = RunPage(static_cast<uint32_t>(i)); !page.ok()) {
      result_.pages_failure = std::string(page.message());
      return;
    }
  }
}

absl::Status LocalJob::RunPage(uint32_t number) {
  const auto work = plan::WorkFor(job_, farm::v1::TASK_PAGE, {number}, farm::v1::MemoryPlan(), results_);
  if (!work.ok()) return work.status();
  const auto take = [&](const std::string& from, const std::string& name) -> absl::Status {
    if (from.empty()) return absl::OkStatus();
    const std::string to = base::JoinPath(options_.out, name);
    if (absl::Status moved = env_.Rename(from, to); !moved.ok()) return moved;
    result_.pages.push_back(to);
    return absl::OkStatus();
  };
  const RunEnd end = RunWork(*work, [&](const farm::v1::EngineEvent& event) -> absl::Status {
    if (!event.has_pages()) return absl::OkStatus();
    if (absl::Status png = take(event.pages().png_path(), absl::StrFormat("pages/%02d.png", number)); !png.ok()) {
      return png;
    }
    if (absl::Status pdf = take(event.pages().pdf_path(), "story.pdf"); !pdf.ok()) return pdf;
    return take(event.pages().cbz_path(), "story.cbz");
  });
  return end.ok ? absl::OkStatus() : absl::InternalError(end.failure.message());
}

}  // namespace storyfarm::storyctl
