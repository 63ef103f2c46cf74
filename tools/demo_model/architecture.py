"""The model's parts: SDXL's architecture and configuration keys, with small numbers.

At most 20 MB in fp16: UNet 12.9, VAE 3.4, text encoders 1.6. See README.md for how the sizes came about.
"""
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDIMScheduler, EulerDiscreteScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

SIDE = 128            # pixels
FACTOR = 4            # of the VAE
LATENT_SIDE = SIDE // FACTOR
SCALING = 0.13025     # SDXL's; the VAE's latents are scaled so that it holds
TEXT_WIDTH, POOLED, TIME_WIDTH, HEAD = 96, 128, 32, 32
UNET_CHANNELS = (64, 96, 96)
CONSISTENT_GRIDS = (LATENT_SIDE // 4, LATENT_SIDE // 2)  # sides of the token grids of the up blocks' self-attention, in execution order
BETAS = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1)


def text_encoders(tokenizer):
    end, start = tokenizer.eos_token_id, tokenizer.bos_token_id
    common = dict(vocab_size=len(tokenizer), hidden_size=TEXT_WIDTH, intermediate_size=4 * TEXT_WIDTH, num_attention_heads=TEXT_WIDTH // HEAD,
                  max_position_embeddings=77, projection_dim=POOLED, bos_token_id=start, eos_token_id=end)
    first = CLIPTextModel(CLIPTextConfig(num_hidden_layers=2, hidden_act="quick_gelu", pad_token_id=end, **common))
    second = CLIPTextModelWithProjection(CLIPTextConfig(num_hidden_layers=3, hidden_act="gelu", pad_token_id=0, **common))
    return first, second


def unet(latent_channels):
    return UNet2DConditionModel(
        sample_size=LATENT_SIDE, in_channels=latent_channels, out_channels=latent_channels, flip_sin_to_cos=True, freq_shift=0,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), block_out_channels=UNET_CHANNELS, layers_per_block=2,
        transformer_layers_per_block=(1, 1, 1), attention_head_dim=tuple(channels // HEAD for channels in UNET_CHANNELS),
        cross_attention_dim=2 * TEXT_WIDTH, use_linear_projection=True, addition_embed_type="text_time",
        addition_time_embed_dim=TIME_WIDTH, projection_class_embeddings_input_dim=POOLED + 6 * TIME_WIDTH)


def vae(latent_channels):
    return AutoencoderKL(
        in_channels=3, out_channels=3, down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(32, 64, 96), layers_per_block=1, latent_channels=latent_channels, norm_num_groups=32, sample_size=SIDE,
        scaling_factor=SCALING, force_upcast=False)


def scheduler():
    """What the packaged model names: SDXL's Euler."""
    return EulerDiscreteScheduler(**BETAS, timestep_spacing="leading", prediction_type="epsilon", interpolation_type="linear", use_karras_sigmas=False)


def ddim():
    """StoryDiffusion's sampler, which training's noise levels and the monitoring pictures come from."""
    return DDIMScheduler(**BETAS, clip_sample=False, set_alpha_to_one=False, timestep_spacing="leading")


def time_ids(batch, device):
    return torch.tensor([[SIDE, SIDE, 0, 0, SIDE, SIDE]], device=device, dtype=torch.float32).expand(batch, 6)


def _heads(x):
    return x.view(x.shape[0], x.shape[1], -1, HEAD).transpose(1, 2)


def _text_layer(layer, hidden):
    attention, x = layer.self_attn, layer.layer_norm1(hidden)
    mixed = F.scaled_dot_product_attention(_heads(attention.q_proj(x)), _heads(attention.k_proj(x)), _heads(attention.v_proj(x)), is_causal=True)
    hidden = hidden + attention.out_proj(mixed.transpose(1, 2).reshape(x.shape))
    return hidden + layer.mlp(layer.layer_norm2(hidden))


def encode_text(encoders, ids, end):
    """prompt_embeds [B, 77, 192] and pooled [B, 128] of token ids: transformers' own forward, plain enough to be compiled."""
    penultimate, last = [], None
    for encoder, tokens in zip(encoders, ids):
        core = getattr(encoder, "text_model", encoder)
        hidden = core.embeddings.token_embedding(tokens.long()) + core.embeddings.position_embedding.weight[None]
        layers = list(core.encoder.layers)
        for layer in layers[:-1]:
            hidden = _text_layer(layer, hidden)
        penultimate.append(hidden)
        last = (core, layers[-1], hidden, tokens)
    core, layer, hidden, tokens = last
    hidden = core.final_layer_norm(_text_layer(layer, hidden))
    at_end = hidden[torch.arange(len(tokens), device=tokens.device), (tokens == end).int().argmax(-1)]
    return torch.cat(penultimate, -1), encoders[1].text_projection(at_end)
