#!/usr/bin/env python3
"""An independent reference of consistent self-attention: whole stories on the tiny models, driven by draws files.

  build/golden-venv/bin/python tools/golden/consistent_attention.py             writes tests/data/golden/csa
  build/golden-venv/bin/python tools/golden/consistent_attention.py --mistakes  how far deliberate mistakes move latents

Each case is a folder: story.txt or story.yaml, settings.json, draws.safetensors ("story-draws", version 1: every random
draw of the run), expected.safetensors (`latents/{panel}`, float32, final latents). cases.json names them and their
models. `storyctl render STORY --model MODEL --settings settings.json --draws draws.safetensors --latents OUT` must give
the same latents within 1e-3.

The network is diffusers' own; only the attention processor of attn1 in the up blocks is ours. Written from the
method's description, not from the C++ of pipeline/identity.

The method, as it stands in the code below:
  - Every character has one write pass: its identity frames are denoised together. Every other panel is a read pass of
    its own. Step s counts UNet calls of the pass from 0.
  - attend(q, kv) = to_out(softmax(to_q(q) to_k(kv)^T / sqrt(d)) to_v(kv)); x = norm1(h) is what a layer is given.
  - Write: bank[c][s][l][i] = x_i[S_i], for each guidance half, whether the gate is open or not. Gate open:
    y_i = attend(x_i, [x_j[S_j] for j != i ascending, then all of x_i]). Closed: attend(x_i, x_i).
  - Read: gate open: y = attend(x, [bank[c][s][l][i] for c of the panel in order of definition, i ascending, then x]).
  - Guidance halves never mix; both use the same indices and gates. The batch is [uncond of all, cond of all].
"""

import argparse
import dataclasses
import json
import math
import re
import shutil

import diffusers
import torch
import torch.nn.functional as F
from diffusers.schedulers import scheduling_euler_ancestral_discrete as ancestral

from reference import GOLDEN, normal, tiny_options, tiny_sdxl, write

FREEU = {"s1": 0.6, "s2": 0.4, "b1": 1.1, "b2": 1.2}
SCHEDULERS = {
    "ddim": lambda config: diffusers.DDIMScheduler.from_config(config, clip_sample=False, set_alpha_to_one=False),
    "euler": diffusers.EulerDiscreteScheduler.from_config,
    "euler_a": diffusers.EulerAncestralDiscreteScheduler.from_config,
    "dpmpp_2m_karras": lambda config: diffusers.DPMSolverMultistepScheduler.from_config(
        config, use_karras_sigmas=True),
}


@dataclasses.dataclass
class Panel:
    text: str
    width: int = 0  # 0: the story's
    height: int = 0


@dataclasses.dataclass
class Character:
    name: str
    description: str
    identity_prompts: tuple = ()


@dataclasses.dataclass
class Case:
    name: str
    model: str
    characters: list
    panels: list
    settings: dict
    seed: int
    tokens: str = "bernoulli"     # or "fixed" (exactly half), "all", "none_sometimes"
    gates: str = "per_pass"       # or "rule" (one uniform draw for all passes, by the gate settings), "masked"
    yaml: bool = False


BO = Character("Bo", "a boy with red hair, striped shirt")
MIA = Character("Mia", "a girl with blue hat")
REX = Character("Rex", "a dog with brown fur")

CASES = [
    Case("ddim_freeu", "tiny_sdxl", [BO, MIA],
         [Panel("[Bo] standing in the forest"), Panel("[Bo] reading a book at night"),
          Panel("[Mia] walking on the beach"), Panel("[Mia] sitting in a room"),
          Panel("[Bo] running in the snow"), Panel("[Bo] and [Mia] waving in the city"),
          Panel("[NC] the mountains at night"), Panel("[Mia] dancing")],
         dict(width=80, height=48, steps=8, guidance_scale=5.0, scheduler="ddim", id_length=2, freeu=FREEU,
              negative_prompt="dots, night"), seed=11),
    Case("euler_single_identity", "tiny_sdxl", [MIA, REX],
         [Panel("[Mia] jumping in the desert"), Panel("[Rex] sleeping in a room"), Panel("[Rex] in the snow"),
          Panel("[Rex] and [Mia] on the beach"), Panel("a city")],
         dict(width=64, height=64, steps=6, guidance_scale=4.0, scheduler="euler", id_length=1, freeu="off",
              negative_prompt=""), seed=12, tokens="none_sometimes"),
    # Three identity frames; Rex has hidden ones from his description; Mia's are hidden by her own prompts.
    Case("three_identity_frames", "tiny_sdxl",
         [BO, Character("Mia", MIA.description, ("a girl with blue hat, close-up", "a girl with blue hat, standing, far away")), REX],
         [Panel("[Bo] one"), Panel("[Bo] two"), Panel("[Bo] three"), Panel("[Bo] four"),
          Panel("[Mia] reading a book"), Panel("[Rex] with [Bo] and [Mia]"),
          Panel("[Bo] in a picture of another size", width=48, height=64)],
         dict(width=64, height=48, steps=5, guidance_scale=3.0, scheduler="ddim", id_length=3, freeu=FREEU,
              negative_prompt="snow", style={"prompt": "{prompt}, in the mountains", "negative": "hat"}),
         seed=13, yaml=True),
    Case("fraction_gates", "tiny_sdxl", [BO],
         [Panel("[Bo] standing"), Panel("[Bo] walking"), Panel("[Bo] sleeping"), Panel("[Bo] at night")],
         dict(width=48, height=48, steps=5, guidance_scale=5.0, scheduler="ddim", id_length=2, freeu=FREEU,
              negative_prompt="city", gate={"before": 0.3, "after": 0.1, "switch": 0.4}),
         seed=14, tokens="fixed", gates="rule"),
    Case("ancestral", "tiny_sdxl", [BO, MIA],
         [Panel("[Bo] waving"), Panel("[Mia] holding a balloon"), Panel("[Mia] holding an umbrella and [Bo]")],
         dict(width=64, height=48, steps=5, guidance_scale=5.0, scheduler="euler_a", id_length=1, freeu="off",
              negative_prompt="beach"), seed=15),
    Case("dpmpp_no_guidance", "tiny_sdxl", [BO],
         [Panel("[Bo] in the snow"), Panel("[Bo] in the desert"), Panel("[Bo] in the forest")],
         dict(width=48, height=64, steps=6, guidance_scale=1.0, scheduler="dpmpp_2m_karras", id_length=2,
              freeu="off", negative_prompt="beach"), seed=16),
    # v prediction, zero terminal SNR, trailing spacing, consistent layers in one up block only, no negative prompt.
    Case("options_v_prediction", "tiny_options", [BO, REX],
         [Panel("[Bo] playing with a ball"), Panel("[Rex] playing with a ball"), Panel("[Rex] and [Bo]")],
         dict(width=28, height=20, steps=6, guidance_scale=3.0, scheduler="ddim", id_length=1, freeu=FREEU), seed=17),
    # The masked flavour: the first steps write plain and are read whole.
    Case("masked", "tiny_sdxl", [MIA],
         [Panel("[Mia] sitting"), Panel("[Mia] walking"), Panel("[Mia] running")],
         dict(width=48, height=48, steps=7, guidance_scale=5.0, scheduler="ddim", id_length=2, freeu=FREEU,
              negative_prompt="night"), seed=18, gates="masked"),
]


def layer_names(unet):
    """attn1 of every transformer block of the up blocks, in execution order, and its grid's downsampling."""
    layers = []
    for b, block in enumerate(unet.up_blocks):
        for a, transformer in enumerate(getattr(block, "attentions", [])):
            for t in range(len(transformer.transformer_blocks)):
                layers.append((f"up_blocks.{b}.attentions.{a}.transformer_blocks.{t}.attn1",
                               2 ** (len(unet.up_blocks) - 1 - b)))
    return layers


def attend(attn, q_input, kv_input):
    def heads(x):
        return x.view(x.shape[0], x.shape[1], attn.heads, -1).transpose(1, 2)

    y = F.scaled_dot_product_attention(heads(attn.to_q(q_input)), heads(attn.to_k(kv_input)),
                                       heads(attn.to_v(kv_input)))
    return attn.to_out[0](y.transpose(1, 2).reshape(q_input.shape))


class Pass:
    """What the layers of one UNet call must know: whose pass it is, at which step, with which draws."""

    def __init__(self, story, gates, write=None, read=()):
        self.story, self.gates, self.write, self.read, self.step = story, gates, write, read, 0


class ConsistentProcessor:
    def __init__(self, owner, layer, downsampling):
        self.owner, self.layer, self.downsampling = owner, layer, downsampling

    def __call__(self, attn, x, encoder_hidden_states=None, attention_mask=None, **kwargs):
        now = self.owner.current
        halves = x.chunk(self.owner.halves)
        gate = bool(now.gates[now.step, self.layer])
        out = []
        for half, xs in enumerate(halves):
            images = list(xs.split(1))
            if now.write is not None:
                kept = [image[:, self.owner.kept(now.write, now.step, self.downsampling, i)]
                        for i, image in enumerate(images)]
                self.owner.bank[now.write, now.step, self.layer, half] = kept
                contexts = [
                    torch.cat([kept[j] for j in range(len(images)) if j != i] + [image], 1) if gate else image
                    for i, image in enumerate(images)
                ]
            else:
                known = [entry for c in now.read for entry in self.owner.bank[c, now.step, self.layer, half]]
                contexts = [torch.cat(known + [image], 1) if gate else image for image in images]
            out += [attend(attn, image, context) for image, context in zip(images, contexts)]
        return torch.cat(out)


class Story:
    """One case: works out passes and draws, renders."""

    def __init__(self, case, model):
        self.case, self.model = case, model
        self.settings = case.settings
        self.steps = case.settings["steps"]
        self.halves = 2 if case.settings["guidance_scale"] != 1 else 1
        self.layers = layer_names(model.unet)
        self.generator = torch.Generator().manual_seed(case.seed)
        self.plan()
        self.draw()

    # --- the story -------------------------------------------------------------------------------------------------

    def plan(self):
        case = self.case
        self.members = [[c for c, character in enumerate(case.characters) if f"[{character.name}]" in panel.text]
                        for panel in case.panels]
        own_size = [panel.width == 0 for panel in case.panels]
        self.id_panels, self.hidden = {}, {}
        for c, character in enumerate(case.characters):
            limit = self.settings["id_length"]
            panels = [p for p, members in enumerate(self.members) if members == [c] and own_size[p]][:limit]
            self.id_panels[c] = [] if character.identity_prompts else panels
            self.hidden[c] = list(character.identity_prompts[:limit])
            if not self.id_panels[c] and not self.hidden[c]:
                self.hidden[c] = [character.description]
        self.read_panels = [p for p in range(len(case.panels)) if not any(p in ps for ps in self.id_panels.values())]

    def prompt(self, text):
        for character in self.case.characters:
            text = text.replace(f"[{character.name}]", character.description + " ")
        text = re.sub(r"\s+", " ", text.replace("[NC]", "")).strip()
        return self.settings.get("style", {}).get("prompt", "{prompt}").replace("{prompt}", text)

    def negative(self):
        negative = self.settings.get("negative_prompt")
        prefix = self.settings.get("style", {}).get("negative", "")
        return negative if not prefix else f"{prefix} {negative}"

    def size(self, panel):
        return (panel.height or self.settings["height"], panel.width or self.settings["width"])

    def latent_shape(self, size):
        factor = self.model.vae_factor
        return (self.model.unet.config.in_channels, size[0] // factor, size[1] // factor)

    def grid(self, size, downsampling):
        _, height, width = self.latent_shape(size)
        return math.ceil(height / downsampling), math.ceil(width / downsampling)

    # --- draws -----------------------------------------------------------------------------------------------------

    def draw(self):
        case, draws = self.case, {}
        story_size = (self.settings["height"], self.settings["width"])
        for p, panel in enumerate(case.panels):
            draws[f"noise/{p}"] = normal(self.generator, *self.latent_shape(self.size(panel)))
        for c, prompts in self.hidden.items():
            for i in range(len(prompts)):
                draws[f"noise/id/{c}/{i}"] = normal(self.generator, *self.latent_shape(story_size))
        if self.settings["scheduler"] == "euler_a":
            for p, panel in enumerate(case.panels):
                for s in range(self.steps):
                    draws[f"step_noise/{p}/{s}"] = normal(self.generator, *self.latent_shape(self.size(panel)))
        self.draw_gates(draws)
        for c in self.id_panels:
            for i in range(len(self.id_panels[c]) + len(self.hidden[c])):
                for s in range(self.steps):
                    for downsampling in sorted({d for _, d in self.layers}):
                        height, width = self.grid(story_size, downsampling)
                        draws[f"tokens/{c}/{s}/{height}x{width}/{i}"] = self.draw_tokens(height * width, s, i)
        self.draws = draws

    def draw_gates(self, draws):
        passes = [f"id/{c}" for c in self.id_panels] + [f"frame/{p}" for p in self.read_panels]
        shape = (self.steps, len(self.layers))
        rule = self.settings.get("gate", {"before": 0.3, "after": 0.1, "switch": 0.4})
        threshold = torch.full(shape, rule["after"], dtype=torch.float64)
        threshold[: round(rule["switch"] * self.steps)] = rule["before"]
        shared = torch.rand(shape, generator=self.generator, dtype=torch.float64)
        for name in passes:
            if self.case.gates == "masked":
                open_gates = torch.ones(shape, dtype=torch.uint8)
                open_gates[0] = 0
                if name.startswith("id/"):
                    open_gates[:5] = 0
            else:
                # Under "per_pass" a reader's gate may be open where the writer's is closed.
                u = shared if self.case.gates == "rule" else torch.rand(
                    shape, generator=self.generator, dtype=torch.float64)
                open_gates = (u > threshold).to(torch.uint8)
                open_gates[0] = 0
                if self.case.gates == "rule":
                    draws[f"gate_u/{name}"] = torch.where(torch.arange(self.steps)[:, None] == 0, math.nan, u)
            draws[f"gate/{name}"] = open_gates

    def draw_tokens(self, count, step, image):
        if self.case.gates == "masked" and step < 5:
            return torch.arange(count, dtype=torch.int32)
        if self.case.tokens == "fixed":
            kept = torch.randperm(count, generator=self.generator)[: round(0.5 * count)].sort().values
        else:
            kept = (torch.rand(count, generator=self.generator) < 0.5).nonzero().flatten()
        if self.case.tokens == "none_sometimes" and (step + image) % 3 == 1:
            kept = kept[:0]
        return kept.to(torch.int32)

    def kept(self, character, step, downsampling, image):
        height, width = self.grid((self.settings["height"], self.settings["width"]), downsampling)
        return self.draws[f"tokens/{character}/{step}/{height}x{width}/{image}"].long()

    # --- rendering -------------------------------------------------------------------------------------------------

    def render(self):
        unet = self.model.unet
        self.bank, self.latents = {}, {}
        own = {name + ".processor": ConsistentProcessor(self, layer, downsampling)
               for layer, (name, downsampling) in enumerate(self.layers)}
        assert set(own) <= set(unet.attn_processors)
        plain = dict(unet.attn_processors)
        unet.set_attn_processor({**plain, **own})
        if self.settings.get("freeu", "off") != "off":
            unet.enable_freeu(**self.settings["freeu"])
        story_size = (self.settings["height"], self.settings["width"])
        for c in self.id_panels:
            texts = [self.prompt(self.case.panels[p].text) for p in self.id_panels[c]]
            texts += [self.prompt(text) for text in self.hidden[c]]
            names = [str(p) for p in self.id_panels[c]] + [f"id/{c}/{i}" for i in range(len(self.hidden[c]))]
            self.run_pass(Pass(self, self.draws[f"gate/id/{c}"], write=c), texts, names, story_size)
        for p in self.read_panels:
            panel, members = self.case.panels[p], self.members[p]
            self.run_pass(Pass(self, self.draws[f"gate/frame/{p}"], read=members), [self.prompt(panel.text)], [str(p)],
                          self.size(panel))
        unet.disable_freeu()
        unet.set_attn_processor(plain)
        return {f"latents/{p}": self.latents[str(p)] for p in range(len(self.case.panels))}

    def run_pass(self, this, texts, names, size):
        """Denoises the pass's images together."""
        unet, scheduler = self.model.unet, SCHEDULERS[self.settings["scheduler"]](self.scheduler_config())
        scheduler.set_timesteps(self.steps)
        self.current = this
        embeds, pooled = self.model.encode(texts)
        if self.halves == 2:
            if self.negative() is None:  # force_zeros_for_empty_prompt
                negative_embeds, negative_pooled = torch.zeros_like(embeds), torch.zeros_like(pooled)
            else:
                negative_embeds, negative_pooled = self.model.encode([self.negative()] * len(texts))
            embeds, pooled = torch.cat([negative_embeds, embeds]), torch.cat([negative_pooled, pooled])
        added = {"text_embeds": pooled, "time_ids": self.model.time_ids(*size, len(pooled))}
        latents = torch.stack([self.draws[f"noise/{name}"] for name in names]) * scheduler.init_noise_sigma
        guidance = self.settings["guidance_scale"]
        for step, timestep in enumerate(scheduler.timesteps):
            this.step = step
            inputs = scheduler.scale_model_input(torch.cat([latents] * self.halves), timestep)
            prediction = unet(inputs, timestep, embeds, added_cond_kwargs=added).sample
            if self.halves == 2:
                uncond, cond = prediction.chunk(2)
                prediction = uncond + guidance * (cond - uncond)
            if self.settings["scheduler"] == "euler_a":
                noise = torch.stack([self.draws[f"step_noise/{name}/{step}"] for name in names])
                ancestral.randn_tensor = lambda *args, **kwargs: noise
            latents = scheduler.step(prediction, timestep, latents).prev_sample
        for name, image in zip(names, latents):
            self.latents[name] = image

    def scheduler_config(self):
        return json.loads((self.model.folder / "scheduler" / "scheduler_config.json").read_text())

    # --- files -----------------------------------------------------------------------------------------------------

    def write(self):
        folder = GOLDEN / "csa" / self.case.name
        folder.mkdir(parents=True)
        (folder / self.story_file()).write_text(self.story_text())
        (folder / "settings.json").write_text(json.dumps(self.settings, indent=2) + "\n")
        write(folder / "draws.safetensors", self.draws, {
            "format": "story-draws", "version": "1", "panels": str(len(self.case.panels)), "steps": str(self.steps),
            "height": str(self.settings["height"]), "width": str(self.settings["width"]),
            "characters": [character.name for character in self.case.characters],
            "id_panels": {str(c): panels for c, panels in self.id_panels.items()},
            "layers": [name for name, _ in self.layers],
        })
        write(folder / "expected.safetensors", self.render())

    def story_file(self):
        return "story.yaml" if self.case.yaml else "story.txt"

    def story_text(self):
        if not self.case.yaml:
            lines = [f"[{character.name}] {character.description}" for character in self.case.characters]
            return "\n".join(lines + [""] + [panel.text for panel in self.case.panels]) + "\n"
        quote = json.dumps
        lines = ["characters:"]
        for character in self.case.characters:
            lines += [f"  {character.name}:", f"    description: {quote(character.description)}"]
            if character.identity_prompts:
                lines.append(f"    identity_prompts: {quote(list(character.identity_prompts))}")
        lines.append("panels:")
        for panel in self.case.panels:
            lines.append(f"  - text: {quote(panel.text)}")
            if panel.width:
                lines += [f"    width: {panel.width}", f"    height: {panel.height}"]
        return "\n".join(lines) + "\n"


def largest_difference(a, b):
    return max((a[key] - b[key]).abs().max().item() for key in a)


def show_mistakes(models):
    """What a test at 1e-3 can tell apart, on every case."""
    def wrong_tokens(story):
        for key in list(story.draws):
            if key.startswith("tokens/"):
                kept = story.draws[key]
                story.draws[key] = kept[1:]

    def late_gates(story):
        for key in list(story.draws):
            if key.startswith("gate/"):
                story.draws[key] = story.draws[key].roll(1, 0)

    def no_consistency(story):
        for key in list(story.draws):
            if key.startswith("gate/"):
                story.draws[key] = torch.zeros_like(story.draws[key])

    def no_freeu(story):
        story.settings = {**story.settings, "freeu": "off"}

    def small_noise(story):
        for key in list(story.draws):
            if key.startswith("noise/"):
                story.draws[key] = story.draws[key] + 1e-6 * torch.randn(story.draws[key].shape)

    for case in CASES:
        right = Story(case, models[case.model]).render()
        print(f"{case.name}: largest latent {max(x.abs().max().item() for x in right.values()):.1f}")
        for mistake in (wrong_tokens, late_gates, no_consistency, no_freeu, small_noise):
            story = Story(case, models[case.model])
            mistake(story)
            print(f"  {mistake.__name__:16} moves latents by {largest_difference(story.render(), right):.1e}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--mistakes", action="store_true")
    arguments = parser.parse_args()
    loaded = {"tiny_sdxl": tiny_sdxl(), "tiny_options": tiny_options()}
    if arguments.mistakes:
        show_mistakes(loaded)
    else:
        shutil.rmtree(GOLDEN / "csa", ignore_errors=True)
        for case in CASES:
            Story(case, loaded[case.model]).write()
        cases = [{"name": case.name, "model": case.model, "story": "story.yaml" if case.yaml else "story.txt"}
                 for case in CASES]
        (GOLDEN / "csa" / "cases.json").write_text(json.dumps(cases, indent=2) + "\n")
