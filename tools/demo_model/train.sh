#!/usr/bin/env bash
# Trains the demo model on every GPU of a machine that is lent for ten minutes at a time: three calls, one after the other.
#   tools/demo_model/train.sh first DIR    the classifier, while the UNet compiles; then the UNet
#   tools/demo_model/train.sh last DIR     the UNet's last run, over which the rate falls to nothing, and a look at it
#   tools/demo_model/train.sh measure DIR  packs DIR/demo-model; the VAE's decoder goes on while the settings are compared; packs again
# MINUTES (9.5) bounds each call. Between the first and the last, train_unet.py --resume may run as often as wanted. STORYCTL names another storyctl.
# SMALL=1 runs the same on a CPU with next to no data, to see that the commands fit each other.
set -euo pipefail
tools=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
[ $# = 2 ] || { sed -n '2,7s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 2; }
stage=$1 run=$2 minutes=${MINUTES:-9.5}
gpus=$(python3 -c 'import torch; print(torch.cuda.device_count())')
last=$((gpus > 0 ? gpus - 1 : 0))
unet=(--batch 176) vae=() classifier=(--pictures 98304) monitor=(--stories 64) settings=(--stories 24 --parallel "$(nproc)" --threads 1)
if [ -n "${SMALL:-}" ]; then
  unet=(--batch 8 --pictures 64 --no-compile) vae=(--batch 4 --pictures 1280 --no-compile) classifier=(--batch 8 --pictures 64)
  monitor=(--stories 2) settings=(--stories 1 --parallel 1 --few)
fi
left() { python3 -c "print(max(0.5, $minutes - $SECONDS / 60 - $1))"; }  # minutes, less what is asked for
share() {  # of the minutes
  python3 -c "print($minutes * $1)"
}
train_unet() {
  # Each process sees its own GPU only, as number 0: kernels are compiled for a number, and so one cache serves all.
  if [ "$gpus" -gt 1 ]; then
    torchrun --nproc-per-node "$gpus" --no-python bash -c 'CUDA_VISIBLE_DEVICES=$LOCAL_RANK exec python3 "$@"' _ "$tools/train_unet.py" "$@"
  else
    python3 "$tools/train_unet.py" "$@"
  fi
}
mkdir -p "$run"
case $stage in
  first)
    cp "$tools/../../deploy/examples/demo-model/vae/diffusion_pytorch_model.safetensors" "$run/vae.safetensors"
    CUDA_VISIBLE_DEVICES=$last python3 "$tools/train_classifier.py" --vae "$run" --out "$run/classifier.safetensors" --minutes "$(share 0.42)" "${classifier[@]}" >"$run/classifier.log" 2>&1 &
    train_unet --out "$run" --minutes "$(left 0)" "${unet[@]}"
    wait $!
    tail -n 2 "$run/classifier.log"
    ;;
  last)
    train_unet --out "$run" --minutes "$(left 0.6)" --resume --finish "${unet[@]}"
    python3 "$tools/monitor.py" --model "$run" --classifier "$run/classifier.safetensors" --sheet "$run/sheet.png" "${monitor[@]}"
    ;;
  measure)
    python3 "$tools/package.py" --from "$run" --to "$run/demo-model"
    python3 "$tools/train_vae.py" --out "$run" --decoder-only --minutes "$(share 0.6)" "${vae[@]}" >"$run/decoder.log" 2>&1 &
    python3 "$tools/evaluate.py" settings --model "$run/demo-model" --classifier "$run/classifier.safetensors" --device cpu --set '{"freeu": "off"}' \
      ${STORYCTL:+--storyctl "$STORYCTL"} --out "$run/settings" "${settings[@]}"
    wait $!
    tail -n 1 "$run/decoder.log"
    python3 "$tools/package.py" --from "$run" --to "$run/demo-model"
    ;;
  *) echo "train.sh: unknown stage '$stage': first, last or measure" >&2; exit 2 ;;
esac
