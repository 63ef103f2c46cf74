#include "pipeline/story/settings.h"

#include <algorithm>
#include <functional>

#include "absl/strings/str_cat.h"
#include "pipeline/story/reader.h"
#include "pipeline/story/settings_reader.h"
#include "pipeline/story/story.h"
#include "pipeline/story/words.h"

namespace storyfarm::story {
namespace {

using farm::v1::RenderSettings;

constexpr size_t kMaxSchedulerConfigBytes = 16'384;  // a diffusers config has about 1,000
constexpr std::string_view kPromptMark = "{prompt}";

class SettingsReader {
 public:
  SettingsReader(const Node& node, const std::string& path, RenderSettings& settings, ProblemList& problems)
      : map_(node, path, "the settings", problems), settings_(settings), problems_(problems) {}

  SettingsTexts Read() {
    ReadWholes();
    ReadNames();
    ReadTruths();
    Key(
        "guidance_scale", [&] { settings_.clear_guidance_scale(); },
        [&](const Node& node, const std::string& field) {
          if (auto value = ReadNumber(node, field, 0, kMaxGuidanceScale, problems_))
            settings_.set_guidance_scale(*value);
        });
    Key(
        "scheduler_config", [&] { settings_.clear_scheduler_config(); },
        [&](const Node& node, const std::string& field) { ReadSchedulerConfig(node, field); });
    Key(
        "token_rate", [&] { settings_.clear_token_rate(); },
        [&](const Node& node, const std::string& field) { ReadTokenRate(node, field); });
    Key(
        "gate", [&] { settings_.clear_gate(); },
        [&](const Node& node, const std::string& field) { ReadGate(node, field); });
    Key(
        "freeu", [&] { settings_.clear_freeu(); },
        [&](const Node& node, const std::string& field) { ReadFreeU(node, field); });
    Key(
        "style",
        [&] {
          settings_.clear_style();
          texts_.style = texts_.style_negative = Text();
        },
        [&](const Node& node, const std::string& field) { ReadStyle(node, field); });
    Key(
        "negative_prompt",
        [&] {
          settings_.clear_negative_prompt();
          texts_.negative_prompt = Text();
        },
        [&](const Node& node, const std::string& field) {
          if (auto text = ReadText(node, field, kMaxLineCharacters, problems_)) {
            settings_.set_negative_prompt(CollapseSpace(text->text));
            texts_.negative_prompt = *std::move(text);
          }
        });
    map_.RefuseUnknown();
    return std::move(texts_);
  }

 private:
  // A key that is given: cleared first, so that null means "the default" and a value replaces the base's as a whole.
  void Key(std::string_view key, const std::function<void()>& clear,
           const std::function<void(const Node&, const std::string&)>& read) {
    const Node* node = map_.GetWithNull(key);
    if (node == nullptr) return;
    clear();
    if (node->kind != Node::Kind::kNull) read(*node, map_.Field(key));
  }

  void ReadWholes() {
    const auto whole = [&](std::string_view key, uint64_t least, uint64_t most, const std::function<void()>& clear,
                           const std::function<void(uint64_t)>& set) {
      Key(key, clear, [&](const Node& node, const std::string& field) {
        if (auto value = ReadWhole(node, field, least, most, problems_)) set(*value);
      });
    };
    whole(
        "width", kMinEdgePixels, kMaxEdgePixels, [&] { settings_.clear_width(); },
        [&](uint64_t value) { settings_.set_width(static_cast<uint32_t>(value)); });
    whole(
        "height", kMinEdgePixels, kMaxEdgePixels, [&] { settings_.clear_height(); },
        [&](uint64_t value) { settings_.set_height(static_cast<uint32_t>(value)); });
    whole(
        "steps", 1, kMaxSteps, [&] { settings_.clear_steps(); },
        [&](uint64_t value) { settings_.set_steps(static_cast<uint32_t>(value)); });
    whole(
        "seed", 0, UINT64_MAX, [&] { settings_.clear_seed(); }, [&](uint64_t value) { settings_.set_seed(value); });
    whole(
        "id_length", 1, kMaxIdLength, [&] { settings_.clear_id_length(); },
        [&](uint64_t value) { settings_.set_id_length(static_cast<uint32_t>(value)); });
  }

  void ReadNames() {
    using namespace farm::v1;
    const auto name = [&](std::string_view key, const std::vector<std::string>& names,
                          const std::function<void()>& clear, const std::function<void(size_t)>& set) {
      Key(key, clear, [&](const Node& node, const std::string& field) {
        if (auto position = ReadName(node, field, names, problems_)) set(*position);
      });
    };
    name(
        "scheduler", {"ddim", "euler", "euler_a", "dpmpp_2m_karras"}, [&] { settings_.clear_scheduler(); },
        [&](size_t i) {
          constexpr Scheduler kValues[] = {DDIM, EULER, EULER_ANCESTRAL, DPMPP_2M_KARRAS};
          settings_.set_scheduler(kValues[i]);
        });
    name(
        "noise", {"shared", "panel"}, [&] { settings_.clear_noise(); },
        [&](size_t i) { settings_.set_noise(i == 0 ? NOISE_SHARED : NOISE_PANEL); });
    name(
        "dtype", {"auto", "fp32", "float32", "fp16", "float16", "bf16", "bfloat16"}, [&] { settings_.clear_dtype(); },
        [&](size_t i) {
          constexpr Dtype kValues[] = {DTYPE_UNSPECIFIED, FP32, FP32, FP16, FP16, BF16, BF16};
          settings_.set_dtype(kValues[i]);
        });
  }

  void ReadTruths() {
    const auto truth = [&](std::string_view key, const std::function<void()>& clear,
                           const std::function<void(bool)>& set) {
      Key(key, clear, [&](const Node& node, const std::string& field) {
        if (auto value = ReadTruth(node, field, problems_)) set(*value);
      });
    };
    truth(
        "consistency", [&] { settings_.clear_consistency(); }, [&](bool on) { settings_.set_consistency(on); });
    truth(
        "reproducible", [&] { settings_.clear_reproducible(); }, [&](bool on) { settings_.set_reproducible(on); });
    truth(
        "int8_weights", [&] { settings_.clear_int8_weights(); }, [&](bool on) { settings_.set_int8_weights(on); });
  }

  void ReadSchedulerConfig(const Node& node, const std::string& field) {
    if (node.kind != Node::Kind::kMap) {
      problems_.Error(
          node.mark, field,
          std::string("must be a map with keys of the model's scheduler_config.json, not ") + Describe(node));
      return;
    }
    std::string json = NodeToJson(node, field, problems_);
    if (json.size() > kMaxSchedulerConfigBytes) {
      problems_.Error(node.mark, field, absl::StrCat("is longer than ", kMaxSchedulerConfigBytes, " bytes of JSON"));
      return;
    }
    settings_.set_scheduler_config(std::move(json));
  }

  void ReadTokenRate(const Node& node, const std::string& field) {
    const auto rate = [&](const Node& item, const std::string& item_field) {
      if (auto value = ReadNumber(item, item_field, 0, 1, problems_, /*above_least=*/true)) {
        settings_.add_token_rate(*value);
      }
    };
    if (node.kind != Node::Kind::kSequence) {
      rate(node, field);
      return;
    }
    if (node.items.empty() || node.items.size() > kMaxTokenRates) {
      problems_.Error(node.mark, field,
                      absl::StrCat("must be one number, or a list of 1 to ", kMaxTokenRates,
                                   " numbers, one for each grid from the smallest up"));
      return;
    }
    for (size_t i = 0; i < node.items.size(); ++i) rate(*node.items[i], absl::StrCat(field, "[", i, "]"));
  }

  // A whole number is a step, a number with a point a share of the steps.
  void ReadSwitch(const Node& node, const std::string& field) {
    if (IsWhole(node)) {
      if (auto step = ReadWhole(node, field, 0, kMaxSteps, problems_)) {
        settings_.mutable_gate()->set_switch_step(static_cast<uint32_t>(*step));
      }
    } else if (IsNumber(node)) {
      if (auto share = ReadNumber(node, field, 0, 1, problems_)) {
        settings_.mutable_gate()->set_switch_fraction(*share);
      }
    } else {
      problems_.Error(node.mark, field,
                      std::string("must be a step (20) or a share of the steps (0.4), not ") + Describe(node));
    }
  }

  void ReadGate(const Node& node, const std::string& field) {
    settings_.mutable_gate();
    if (node.kind != Node::Kind::kMap) {
      ReadSwitch(node, field);
      return;
    }
    MapReader gate(node, field, "the gate", problems_);
    if (const Node* before = gate.Get("before")) {
      if (auto value = ReadNumber(*before, gate.Field("before"), 0, 1, problems_)) {
        settings_.mutable_gate()->set_before(*value);
      }
    }
    if (const Node* after = gate.Get("after")) {
      if (auto value = ReadNumber(*after, gate.Field("after"), 0, 1, problems_)) {
        settings_.mutable_gate()->set_after(*value);
      }
    }
    if (const Node* at = gate.Get("switch")) ReadSwitch(*at, gate.Field("switch"));
    gate.RefuseUnknown();
  }

  void ReadFreeU(const Node& node, const std::string& field) {
    farm::v1::FreeU& freeu = *settings_.mutable_freeu();
    if (node.kind != Node::Kind::kMap) {
      if (auto on = ReadTruth(node, field, problems_)) freeu.set_off(!*on);
      return;
    }
    MapReader map(node, field, "freeu", problems_);
    const auto factor = [&](std::string_view key, const std::function<void(double)>& set) {
      const Node* value = map.Get(key);
      if (value == nullptr) return;
      if (auto number = ReadNumber(*value, map.Field(key), 0, kMaxFreeUFactor, problems_)) set(*number);
    };
    factor("s1", [&](double value) { freeu.set_s1(value); });
    factor("s2", [&](double value) { freeu.set_s2(value); });
    factor("b1", [&](double value) { freeu.set_b1(value); });
    factor("b2", [&](double value) { freeu.set_b2(value); });
    map.RefuseUnknown();
  }

  // A template; a text without {prompt} follows the panel's own text.
  void SetStylePrompt(const Text& text) {
    std::string style = CollapseSpace(text.text);
    if (!style.empty() && style.find(kPromptMark) == std::string::npos) {
      if (style.find('{') != std::string::npos) {
        problems_.Error(text.mark, text.field, "has a '{' but no {prompt}, which stands for the panel's text");
      }
      style = std::string(kPromptMark) + ", " + style;
    }
    settings_.mutable_style()->set_prompt(std::move(style));
    texts_.style = text;
  }

  void ReadStyle(const Node& node, const std::string& field) {
    if (node.kind != Node::Kind::kMap) {
      if (auto text = ReadText(node, field, kMaxLineCharacters, problems_)) SetStylePrompt(*text);
      return;
    }
    MapReader map(node, field, "a style", problems_);
    if (const Node* prompt = map.Get("prompt")) {
      if (auto text = ReadText(*prompt, map.Field("prompt"), kMaxLineCharacters, problems_)) SetStylePrompt(*text);
    }
    if (const Node* negative = map.Get("negative")) {
      if (auto text = ReadText(*negative, map.Field("negative"), kMaxLineCharacters, problems_)) {
        settings_.mutable_style()->set_negative(CollapseSpace(text->text));
        texts_.style_negative = *std::move(text);
      }
    }
    map.RefuseUnknown();
  }

  MapReader map_;
  RenderSettings& settings_;
  ProblemList& problems_;
  SettingsTexts texts_;
};

}  // namespace

SettingsTexts ReadSettings(const Node& node, const std::string& path, RenderSettings& settings, ProblemList& problems) {
  return SettingsReader(node, path, settings, problems).Read();
}

SettingsTexts ReadSettingsFile(std::string_view bytes, Source& source, RenderSettings& settings,
                               ProblemList& problems) {
  Document document;
  if (!Source::Read(bytes, kMaxSettingsBytes, problems, source) ||
      !document.Parse(source, Trim(source.text()).starts_with('{'), problems)) {
    return {};
  }
  return ReadSettings(document.root(), "settings", settings, problems);
}

bool ParsedSettings::ok() const {
  return std::all_of(problems.begin(), problems.end(), [](const auto& problem) { return problem.warning(); });
}

ParsedSettings ParseSettings(std::string_view bytes, const std::string& file_name, const RenderSettings& base) {
  ParsedSettings parsed;
  parsed.settings = base;
  ProblemList problems(file_name);
  Source source;
  ReadSettingsFile(bytes, source, parsed.settings, problems);
  parsed.problems = problems.Take();
  return parsed;
}

}  // namespace storyfarm::story
