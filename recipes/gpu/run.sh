#!/usr/bin/env bash
# A quarter of an hour of one GPU: tests, benchmarks and training, each within a time of its own.
#
#   bash recipes/gpu/run.sh                                  # all of it, 13 minutes
#   STEPS="tests sampling updates probes" bash recipes/gpu/run.sh
#   STEPS="training tests" TRAINING_SECONDS=440 bash recipes/gpu/run.sh
#   DEVICE=cpu PRESET=tiny SECONDS_OF_SONG=1 PROBE_MINUTES=0.2 TRAINING_SECONDS=120 \
#     UPDATES=2 BATCH=4 bash recipes/gpu/run.sh               # does it work? on any machine
#
# RECORDINGS holds a folder of audio files a domain. Results and log.txt are left in OUT as they
# come, models in half precision, so that a run that is cut short has not been for nothing.
set -uo pipefail
cd "$(dirname "$0")/../.."

: "${STEPS:=tests sampling updates probes training}"
: "${OUT:=gpu-results}" "${RECORDINGS:=.gpu}" "${WORK:=/tmp/umt-gpu}" "${PYTHON:=python3}"
: "${DEVICE:=cuda}" "${PRESET:=small}" "${BENCHMARK_PRESETS:=small paper}"
: "${LIMIT:=60}" "${SECONDS_OF_SONG:=60}" "${UPDATES:=20}" "${BATCH:=32}"
: "${PROBES:=plain noise both}" "${PROBE_MINUTES:=1.5}" "${PROBE_STEPS:=100000}"
: "${TRAINING_SECONDS:=260}" "${PACE_SECONDS:=70}" "${TRAINING_CONFIG:=recipes/wavenet/wavenet.toml}"
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

# train NAME CONFIG SECONDS STEPS [MORE…]
train() {
  local name=$1 config=$2 seconds=$3 steps=$4 device=auto
  shift 4
  [ "$DEVICE" = cpu ] && device=cpu
  limited "$seconds" "training $name" \
    "$PYTHON" -m umtcli train --preset "$PRESET" --config "$config" --data "$WORK/data" \
    --batch-size "$BATCH" --steps "$steps" --run "$WORK/$name" --device "$device" "$@"
}

# The rate has to fall to zero when the time is over: a first part tells how many steps that is.
train_to_the_end() {
  local began=$SECONDS left steps
  train trained "$TRAINING_CONFIG" "$PACE_SECONDS" 1000000
  keep "$WORK/trained" early &
  left=$((TRAINING_SECONDS - (SECONDS - began) - 25))
  steps=$("$PYTHON" - "$WORK/trained/log.jsonl" "$BATCH" "$left" <<'PYTHON'
import json
import sys
from pathlib import Path

log, batch_size, left = sys.argv[1:]
text = Path(log).read_text() if Path(log).exists() else ""
lines = [json.loads(line) for line in text.splitlines()] or [{"step": 0}]
rates = sorted(line["items_per_second"] for line in lines if "items_per_second" in line) or [0]
pace = rates[len(rates) // 2] / int(batch_size)
print(lines[-1]["step"] + max(1, int(0.96 * pace * (int(left) - 15))))
PYTHON
  )
  echo "== $left s left, for $steps steps in all"
  train trained "$TRAINING_CONFIG" $((left + 25)) "$steps" \
    --max-minutes "$("$PYTHON" -c "print($left / 60)")"
  keep "$WORK/trained" trained
  wait
}

# Side by side they share the GPU alike, so that what they have learnt can be compared.
probes() {
  prepare
  local name
  for name in $PROBES; do
    train "probe-$name" "recipes/gpu/$name.toml" \
      "$("$PYTHON" -c "print(round(60 * $PROBE_MINUTES) + 75)")" "$PROBE_STEPS" \
      --max-minutes "$PROBE_MINUTES" > "$WORK/$name.log" &
  done
  wait
  for name in $PROBES; do keep "$WORK/probe-$name" "probe-$name"; done
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
        train_to_the_end ;;
      *) echo "unknown step $step" ;;
    esac
  done
}

if [ "$DEVICE" = cuda ]; then nvidia-smi --query-gpu=name,memory.total --format=csv,noheader; fi
main 2>&1 | tee -a "$OUT/log.txt"
