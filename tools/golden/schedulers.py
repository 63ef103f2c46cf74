#!/usr/bin/env python3
"""Records what diffusers' schedulers do with given model outputs: tests/data/golden/schedulers.safetensors.

  build/golden-venv/bin/python tools/golden/schedulers.py

Every case is a sampler, a scheduler_config.json, overrides and a number of steps. All cases are fed the same model
outputs (`outputs` [20, 1, 2, 3, 3]), initial noise (`noise`) and, ancestral ones, step noise (`step_noise`). Kept for
case k: `{k}/timesteps`, `{k}/scaled` (inputs of the model) and `{k}/latents` (after each step); the cases themselves
are JSON in the metadata. Needs diffusers 0.42.1 and torch 2.11 (tools/setup --golden). The seed is fixed.
"""

import itertools
import json
import pathlib

import diffusers
import torch
from diffusers.schedulers import scheduling_euler_ancestral_discrete as ancestral
from safetensors.torch import save_file

OUT = pathlib.Path(__file__).resolve().parents[2] / "tests" / "data" / "golden" / "schedulers.safetensors"
CLASSES = {
    "ddim": diffusers.DDIMScheduler,
    "euler": diffusers.EulerDiscreteScheduler,
    "euler_a": diffusers.EulerAncestralDiscreteScheduler,
    "dpmpp_2m_karras": diffusers.DPMSolverMultistepScheduler,
}
SHAPE = (1, 2, 3, 3)
MOST_STEPS = 20

# scheduler_config.json of the published SDXL base model.
SDXL = {
    "_class_name": "EulerDiscreteScheduler", "_diffusers_version": "0.19.0.dev0", "beta_end": 0.012,
    "beta_schedule": "scaled_linear", "beta_start": 0.00085, "clip_sample": False, "interpolation_type": "linear",
    "num_train_timesteps": 1000, "prediction_type": "epsilon", "sample_max_value": 1.0, "set_alpha_to_one": False,
    "skip_prk_steps": True, "steps_offset": 1, "timestep_spacing": "leading", "trained_betas": None,
    "use_karras_sigmas": False,
}


def without(config, *keys):
    return {key: value for key, value in config.items() if key not in keys}


def cases():
    """(sampler, config, overrides, steps)"""
    bare = {"_class_name": "PNDMScheduler"}
    for sampler in CLASSES:
        yield sampler, SDXL, {}, 20
        yield sampler, SDXL, {}, 1
        yield sampler, SDXL, {}, 7
        yield sampler, bare, {}, 6
        yield sampler, bare | {"num_train_timesteps": 50, "trained_betas": [0.001 * (i + 1) for i in range(50)]}, {}, 5
        for spacing, prediction, zero_snr, offset in itertools.product(
                ("leading", "linspace", "trailing"), ("epsilon", "v_prediction", "sample"), (False, True), (0, 1)):
            if sampler == "euler_a" and prediction == "sample":
                continue
            if sampler == "ddim" and prediction == "epsilon" and zero_snr and spacing != "leading":
                continue  # divides by zero
            yield sampler, SDXL, {"timestep_spacing": spacing, "prediction_type": prediction,
                                  "rescale_betas_zero_snr": zero_snr, "steps_offset": offset}, 5
        for schedule in ("linear", "scaled_linear", "squaredcos_cap_v2"):
            yield sampler, SDXL, {"beta_schedule": schedule, "timestep_spacing": "trailing"}, 6
            yield sampler, without(SDXL, "timestep_spacing"), {"beta_schedule": schedule, "beta_end": 0.02}, 6
    yield "ddim", SDXL, {"set_alpha_to_one": True}, 5
    for prediction in ("epsilon", "v_prediction", "sample"):
        yield "ddim", SDXL, {"clip_sample": True, "clip_sample_range": 0.7, "prediction_type": prediction}, 5
    for interpolation, sigmas, final in itertools.product(
            ("linear", "log_linear"), ("", "use_karras_sigmas", "use_exponential_sigmas"), ("zero", "sigma_min")):
        for bounds in ({}, {"sigma_min": 0.03, "sigma_max": 12.0}):
            yield "euler", SDXL, {"interpolation_type": interpolation, "final_sigmas_type": final} | bounds | (
                {sigmas: True} if sigmas else {}), 6
    for order, kind, lower, euler, final in itertools.product(
            (1, 2), ("midpoint", "heun"), (False, True), (False, True), ("zero", "sigma_min")):
        if kind == "heun" and final == "sigma_min" and order == 2:
            continue  # the last step has no length: diffusers divides zero by zero
        for steps in (6, 16):
            yield "dpmpp_2m_karras", SDXL, {"solver_order": order, "solver_type": kind, "lower_order_final": lower,
                                            "euler_at_final": euler, "final_sigmas_type": final}, steps


def scheduler_for(sampler, config, overrides):
    chosen = config | overrides
    if sampler == "ddim":
        chosen = {"clip_sample": False, "set_alpha_to_one": False} | chosen
    if sampler == "dpmpp_2m_karras":
        chosen = chosen | {"use_karras_sigmas": True}
    return CLASSES[sampler].from_config(chosen)


def main():
    generator = torch.Generator().manual_seed(20261122)
    outputs, step_noise = (torch.randn((MOST_STEPS, *SHAPE), generator=generator) for _ in range(2))
    noise = torch.randn(SHAPE, generator=generator)
    tensors = {"outputs": outputs, "step_noise": step_noise, "noise": noise}
    listed = []
    for number, (sampler, config, overrides, steps) in enumerate(cases()):
        scheduler = scheduler_for(sampler, config, overrides)
        scheduler.set_timesteps(steps)
        scheduler.set_begin_index(0) if sampler != "ddim" else None  # rounded timesteps may repeat
        latents = noise * scheduler.init_noise_sigma
        scaled, after = [], []
        for step, timestep in enumerate(scheduler.timesteps):
            scaled.append(scheduler.scale_model_input(latents, timestep))
            ancestral.randn_tensor = lambda *_, step=step, **__: step_noise[step]
            latents = scheduler.step(outputs[step], timestep, latents).prev_sample
            after.append(latents)
        assert len(after) == steps and torch.isfinite(torch.stack(after)).all(), (sampler, overrides)
        tensors[f"{number}/timesteps"] = scheduler.timesteps.to(torch.float64)
        tensors[f"{number}/scaled"] = torch.stack(scaled)
        tensors[f"{number}/latents"] = torch.stack(after)
        listed.append({"sampler": sampler, "config": config, "overrides": overrides, "steps": steps})
    OUT.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, OUT, {"cases": json.dumps(listed), "made_by": f"diffusers {diffusers.__version__}, torch "
                                                                    f"{torch.__version__}, seed 20261122"})
    print(f"{OUT.name}: {len(listed)} cases, {OUT.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
