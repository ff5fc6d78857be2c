#!/usr/bin/env bash
# Samples a second and efficiency of 1, 2, 4 … N processes: a GPU each where there are any, else on
# the CPU with one thread each. Every run goes through launch/train.sh; the rate is its own log's
# median, without the first entry, which warms up.
#
#   benchmarks/scaling.sh [STRATEGY [CONFIG [N [key=value ...]]]]
#
# STRATEGY  gpu where there are GPUs, else cpu
# CONFIG    configs/sample/audio.yaml, on what `make demo` builds
# N         as many as there are GPUs or cores
#
# strong: the configuration's global batch, cut finer and finer. weak: that batch for each process.
# efficiency: the rate, of N times that of one process. The table is Markdown.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PATH=$PWD/.venv/bin:$PATH

gpus=0
if command -v nvidia-smi >/dev/null; then gpus=$(nvidia-smi -L 2>/dev/null | wc -l) || gpus=0; fi
if ((gpus)); then default=gpu device=$(nvidia-smi --query-gpu=name --format=csv,noheader | head -n 1)
else default=cpu device=$(sed -n '/^model name/{s/.*: //p;q}' /proc/cpuinfo); fi
strategy=${1:-$default} config=${2:-configs/sample/audio.yaml} most=${3:-$((gpus ? gpus : $(nproc)))}
shift $(($# < 3 ? $# : 3))
export OMP_NUM_THREADS=1

folder=$(mktemp -d -t scaling.XXXXXX)
trap 'rm -rf "$folder"' EXIT
batch=$(emo config "$config" "$@" | sed -n 's/^ *global_batch: //p')

measure() { # PROCESSES GLOBAL_BATCH [key=value ...]: prints samples a second
  local processes=$1 size=$2 run=$folder/$1-$2
  shift 2
  EMO_PROCESSES=$processes launch/train.sh "$strategy" "$config" "run=$run" train.epochs=1 \
    "$@" "train.global_batch=$size" >"$run.out" 2>&1 || { cat "$run.out" >&2; return 1; }
  sed -n 's/.*"samples_per_second": \([0-9.]*\).*/\1/p' "$run/log.jsonl" | tail -n +2 | sort -g |
    awk '{ rate[NR] = $1 } END { print (rate[int((NR + 1) / 2)] + rate[int(NR / 2) + 1]) / 2 }'
}

echo "**$strategy, $config, global batch $batch · $device**"
echo
echo "| processes | strong: samples/s | efficiency | weak: samples/s | efficiency |"
echo "|---|---|---|---|---|"
for ((n = 1; n <= most; n *= 2)); do
  strong=$(measure "$n" "$batch" "$@")
  if ((n == 1)); then one=$strong weak=$strong; else weak=$(measure "$n" $((n * batch)) "$@"); fi
  awk -v n="$n" -v one="$one" -v strong="$strong" -v weak="$weak" 'BEGIN {
    printf "| %d | %.0f | %.0f %% | %.0f | %.0f %% |\n",
      n, strong, 100 * strong / (n * one), weak, 100 * weak / (n * one) }'
done
