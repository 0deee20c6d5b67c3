#!/usr/bin/env bash
# A quarter of an hour of one GPU: tests, benchmarks and training, each within a time of its own.
#
#   bash recipes/gpu/run.sh                                  # all of it, 13 minutes
#   STEPS="tests sampling updates probes" bash recipes/gpu/run.sh
#   STEPS=training TRAINING_MINUTES=7 bash recipes/gpu/run.sh
#   DEVICE=cpu PRESET=tiny SECONDS_OF_SONG=1 PROBE_MINUTES=0.2 TRAINING_MINUTES=0.3 \
#     UPDATES=2 BATCH=4 bash recipes/gpu/run.sh               # does it work? on any machine
#
# RECORDINGS holds a folder of audio files a domain. Results and log.txt are left in OUT as they
# come, models in half precision, so that a run that is cut short has not been for nothing.
set -uo pipefail
cd "$(dirname "$0")/../.."

: "${STEPS:=tests sampling updates probes training}"
: "${OUT:=gpu-results}" "${RECORDINGS:=.gpu}" "${WORK:=/tmp/umt-gpu}" "${PYTHON:=python3}"
: "${DEVICE:=cuda}" "${PRESET:=small}" "${BENCHMARK_PRESETS:=small paper}"
: "${LIMIT:=75}" "${SECONDS_OF_SONG:=60}" "${UPDATES:=20}" "${BATCH:=32}"
: "${PROBES:=plain noise both}" "${PROBE_MINUTES:=1.5}" "${PROBE_STEPS:=100000}"
: "${TRAINING_MINUTES:=5}" "${TRAINING_STEPS:=20000}" "${TRAINING_CONFIG:=recipes/wavenet/listening.toml}"
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
export TORCHINDUCTOR_CACHE_DIR="$WORK/compiled"
if [ "$DEVICE" = cuda ]; then export ACCELERATE_MIXED_PRECISION=bf16; fi
mkdir -p "$OUT" "$WORK"

# limited SECONDS NAME COMMAND…: what it prints is kept; a failure stops nothing else.
limited() {
  local seconds=$1 name=$2 began=$SECONDS
  shift 2
  echo "== $name"
  timeout --signal=INT --kill-after=15 "$seconds" "$@" 2>&1
  echo "== $name: $((SECONDS - began)) s, exit code $?"
}

# keep RUN NAME: the run's model in half precision, and its log.
keep() {
  "$PYTHON" - "$1" "$OUT/$2" <<'PYTHON'
import shutil
import sys
from pathlib import Path

import torch

from core.translator import Translator

run, out = sys.argv[1:]
Translator.load(f"{run}/model.safetensors").save(f"{out}.safetensors", dtype=torch.float16)
if Path(f"{run}/log.jsonl").exists():
    shutil.copy(f"{run}/log.jsonl", f"{out}.jsonl")
PYTHON
}

prepare() {
  if [ ! -d "$WORK/data" ]; then
    limited 60 "recordings" "$PYTHON" -m umtcli prep "$RECORDINGS"/* --out "$WORK/data" --rate 16000
  fi
}

# train NAME CONFIG MINUTES STEPS
train() {
  local device=auto
  [ "$DEVICE" = cpu ] && device=cpu
  limited "$("$PYTHON" -c "print(round(60 * $3) + 75)")" "training $1" \
    "$PYTHON" -m umtcli train --preset "$PRESET" --config "$2" --data "$WORK/data" \
    --batch-size "$BATCH" --steps "$4" --max-minutes "$3" --run "$WORK/$1" --device "$device"
  keep "$WORK/$1" "$1"
}

# Side by side they share the GPU alike, so that what they have learnt can be compared.
probes() {
  prepare
  local name
  for name in $PROBES; do
    train "probe-$name" "recipes/gpu/$name.toml" "$PROBE_MINUTES" "$PROBE_STEPS" \
      > "$WORK/$name.log" &
  done
  wait
  for name in $PROBES; do cat "$WORK/$name.log"; done
}

main() {
  local step preset
  for step in $STEPS; do
    case $step in
      tests) limited "$LIMIT" "tests" "$PYTHON" -m pytest -q -p no:cacheprovider -m gpu tests/core ;;
      sampling)
        for preset in $BENCHMARK_PRESETS; do
          local cases=cuda,cuda-album
          [ "$DEVICE" = cpu ] && cases=chunks
          limited "$LIMIT" "sampling $preset" "$PYTHON" -m benchmarks.sampling --presets "$preset" \
            --cases "$cases" --seconds "$SECONDS_OF_SONG"
        done ;;
      updates)
        for preset in $BENCHMARK_PRESETS; do
          limited "$LIMIT" "updates $preset" "$PYTHON" -m benchmarks.training --preset "$preset" \
            --device "$DEVICE" --batch-size "$BATCH" --steps "$UPDATES" ${PROFILE:+--profile}
        done ;;
      probes) probes ;;
      training)
        prepare
        train trained "$TRAINING_CONFIG" "$TRAINING_MINUTES" "$TRAINING_STEPS" ;;
      *) echo "unknown step $step" ;;
    esac
  done
}

if [ "$DEVICE" = cuda ]; then nvidia-smi --query-gpu=name,memory.total --format=csv,noheader; fi
main 2>&1 | tee -a "$OUT/log.txt"
