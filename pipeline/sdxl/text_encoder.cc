#include "pipeline/sdxl/text_encoder.h"

#include <utility>

namespace storyfarm::sdxl {
namespace {

// Configs from before transformers 4.31 say 2, which is no token of theirs.
constexpr int64_t kLegacyEosTokenId = 2;

at::Tensor Activate(model::Activation activation, at::Tensor x) {
  if (activation == model::Activation::kQuickGelu) return x.mul_((1.702 * x).sigmoid_());
  return at::gelu_(x);
}

// transformers 5 writes a plain CLIPTextModel's tensors without this prefix, everything before with it.
WeightScope TextModelScope(Weights* weights) {
  return WeightScope(weights, weights->Has("text_model.embeddings.token_embedding.weight") ? "text_model" : "");
}

at::Tensor IdTensor(const std::vector<std::vector<int32_t>>& rows, at::Device device) {
  const auto length = static_cast<int64_t>(rows.at(0).size());
  at::Tensor ids = at::empty({static_cast<int64_t>(rows.size()), length}, at::kLong);
  auto* out = ids.data_ptr<int64_t>();
  for (const auto& row : rows) {
    TORCH_CHECK(static_cast<int64_t>(row.size()) == length, "prompts of different token counts in one batch");
    out = std::copy(row.begin(), row.end(), out);
  }
  return ids.to(device);
}

}  // namespace

struct ClipTextModel::Layer {
  Layer(const WeightScope& at, const model::ClipTextConfig& config)
      : heads(config.num_attention_heads),
        activation(config.hidden_act),
        norm1(at / "layer_norm1", config.hidden_size, config.layer_norm_eps),
        norm2(at / "layer_norm2", config.hidden_size, config.layer_norm_eps),
        q(at / "self_attn" / "q_proj", config.hidden_size, config.hidden_size),
        k(at / "self_attn" / "k_proj", config.hidden_size, config.hidden_size),
        v(at / "self_attn" / "v_proj", config.hidden_size, config.hidden_size),
        out(at / "self_attn" / "out_proj", config.hidden_size, config.hidden_size),
        fc1(at / "mlp" / "fc1", config.hidden_size, config.intermediate_size),
        fc2(at / "mlp" / "fc2", config.intermediate_size, config.hidden_size) {}

  at::Tensor Forward(const at::Tensor& h) const {
    const at::Tensor x = norm1(h);
    auto by_head = [&](const at::Tensor& y) {
      return y.view({y.size(0), y.size(1), heads, y.size(2) / heads}).transpose(1, 2);
    };
    const at::Tensor attended = at::scaled_dot_product_attention(by_head(q(x)), by_head(k(x)), by_head(v(x)),
                                                                 /*attn_mask=*/{}, /*dropout_p=*/0, /*is_causal=*/true);
    at::Tensor y = h + out(attended.transpose(1, 2).reshape(h.sizes()));
    return y.add_(fc2(Activate(activation, fc1(norm2(y)))));
  }

  int64_t heads;
  model::Activation activation;
  LayerNorm norm1, norm2;
  Linear q, k, v, out, fc1, fc2;
};

ClipTextModel::ClipTextModel(const model::ClipTextConfig& config, Weights* weights)
    : eos_token_id_(config.eos_token_id) {
  const WeightScope at = TextModelScope(weights);
  token_embedding_ = at.Take("embeddings.token_embedding.weight", {config.vocab_size, config.hidden_size});
  position_embedding_ =
      at.Take("embeddings.position_embedding.weight", {config.max_position_embeddings, config.hidden_size});
  for (int64_t i = 0; i < config.num_hidden_layers; ++i) {
    layers_.push_back(std::make_unique<Layer>(at / "encoder" / "layers" / i, config));
  }
  final_norm_ = LayerNorm(at / "final_layer_norm", config.hidden_size, config.layer_norm_eps);
  if (config.projection_dim) {
    projection_ =
        Linear(WeightScope(weights, "text_projection"), config.hidden_size, *config.projection_dim, Bias::kNone);
  }
  // A buffer that transformers before 4.31 saved: 0, 1, 2, ...
  weights->Ignore((at / "embeddings").prefix() + ".position_ids");
}

ClipTextModel::~ClipTextModel() = default;

at::Tensor ClipTextModel::EndOfText(const at::Tensor& ids) const {
  if (eos_token_id_ == kLegacyEosTokenId) return ids.argmax(-1);
  return ids.eq(eos_token_id_).to(at::kInt).argmax(-1);  // the first of several equal ones
}

ClipTextModel::Output ClipTextModel::Forward(const at::Tensor& ids) const {
  const c10::InferenceMode no_gradients;
  at::Tensor h = at::embedding(token_embedding_, ids) + position_embedding_.narrow(0, 0, ids.size(1));
  Output output;
  for (size_t i = 0; i < layers_.size(); ++i) {
    if (i + 1 == layers_.size()) output.penultimate = h;
    h = layers_[i]->Forward(h);
  }
  output.last = final_norm_(h);
  const at::Tensor rows = at::arange(ids.size(0), ids.options());
  output.pooled = output.last.index({rows, EndOfText(ids)});
  if (projection_.present()) output.pooled = projection_(output.pooled);
  return output;
}

PromptEmbeds PromptEmbeds::ZerosLike() const { return {at::zeros_like(embeds), at::zeros_like(pooled)}; }

TextEncoders::TextEncoders(std::unique_ptr<ClipTextModel> first, std::unique_ptr<ClipTextModel> second,
                           Placement placement)
    : first_(std::move(first)), second_(std::move(second)), placement_(placement) {}

PromptEmbeds TextEncoders::Encode(const std::vector<std::vector<int32_t>>& first_ids,
                                  const std::vector<std::vector<int32_t>>& second_ids) const {
  const c10::InferenceMode no_gradients;
  const ClipTextModel::Output first = first_->Forward(IdTensor(first_ids, placement_.device));
  const ClipTextModel::Output second = second_->Forward(IdTensor(second_ids, placement_.device));
  return {at::cat({first.penultimate, second.penultimate}, -1), second.pooled};
}

}  // namespace storyfarm::sdxl
