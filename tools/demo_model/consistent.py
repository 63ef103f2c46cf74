"""Consistent self-attention over a batch of stories, as the renderer does it, for training and for monitoring.

The renderer denoises a character's identity frames together and lets every other frame read their tokens of the same step and
layer. Nothing reads a reading frame. So all frames of a story can go through one step side by side, and who sees whom is a mask:
a batch is [groups x FRAMES] pictures, and picture i of a group attends to its own tokens and to the kept tokens of each picture
j with visible[group, i, j], wherever the gate of that layer is open for the group.
"""
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from cast import FRAMES


@dataclass
class Sight:
    """Who sees whom in one step. kept: tokens kept of each picture by grid side."""
    visible: torch.Tensor   # [G, FRAMES, FRAMES] bool
    gates: torch.Tensor     # [layers, G] bool
    kept: dict              # tokens of the grid -> [G, FRAMES, tokens] bool

    def mask(self, layer, tokens):
        """[G * FRAMES, 1, 1, FRAMES * tokens]: keys that the queries of each picture may use."""
        others = self.visible[..., None] & self.kept[tokens][:, None] & self.gates[layer][:, None, None, None]
        own = torch.eye(FRAMES, dtype=torch.bool, device=others.device)[None, :, :, None]
        return (others | own).reshape(-1, 1, 1, FRAMES * tokens)


class ConsistentAttention:
    """The attention processor of one of the up blocks' self-attention layers."""

    def __init__(self, layer):
        self.layer, self.sight = layer, None

    def __call__(self, attention, hidden, encoder_hidden_states=None, attention_mask=None, temb=None, **_):
        batch, tokens, width = hidden.shape
        heads = attention.heads

        def split(x):
            return x.view(x.shape[0], -1, heads, width // heads).transpose(1, 2)

        query, key, value = split(attention.to_q(hidden)), attention.to_k(hidden), attention.to_v(hidden)
        mask = None
        if self.sight is not None:
            def shared(x):
                group = x.view(batch // FRAMES, 1, FRAMES * tokens, width)
                return group.expand(-1, FRAMES, -1, -1).reshape(batch, FRAMES * tokens, width)
            key, value = shared(key), shared(value)
            mask = self.sight.mask(self.layer, tokens).expand(batch, heads, tokens, FRAMES * tokens)
        mixed = F.scaled_dot_product_attention(query, split(key), split(value), attn_mask=mask)
        return attention.to_out[0](mixed.transpose(1, 2).reshape(batch, tokens, width).to(query.dtype))


def install(unet):
    """Puts the processors into the up blocks; returns them in execution order."""
    processors, installed = dict(unet.attn_processors), []
    for name in processors:
        if name.startswith("up_blocks") and ".attn1." in name:
            processors[name] = ConsistentAttention(len(installed))
            installed.append(processors[name])
    unet.set_attn_processor(processors)
    return installed
