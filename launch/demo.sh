#!/usr/bin/env bash
# The main job on the sample corpus: corpus -> shards -> text, audio, fusion -> one table.
#
#   launch/demo.sh [SEED]        (make demo)
#
# Everything goes to data/sample and runs/sample; finished parts are not done again.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PATH=$PWD/.venv/bin:$PATH

seed=${1:-1}
suffix=
if [[ $seed != 1 ]]; then suffix=-seed$seed; fi
data=data/sample$suffix runs=runs/sample$suffix
strategy=cpu
if command -v nvidia-smi >/dev/null && nvidia-smi -L >/dev/null 2>&1; then strategy=gpu; fi

started=$SECONDS
stage() { printf '\n== %s (%d s so far)\n' "$1" $((SECONDS - started)); }

train() { # NAME [key=value ...]: trains, goes on with, or finds finished the run of that name
  local name=$1
  shift
  if [[ -f $runs/$name/metrics.json ]]; then
    echo "$runs/$name is trained already"
    return
  fi
  launch/train.sh "$strategy" "configs/sample/$name.yaml" "run=$runs/$name" resume=auto \
    "data.shards=$data/shards" "train.seed=$seed" "data.view.seed=$seed" "$@"
}

stage "1/6 the sample corpus, spoken by eSpeak NG: $data/corpus"
emo-shards sample-corpus "$data/corpus" --seed "$seed"
stage "2/6 preprocessing into WebDataset shards: $data/shards"
emo-shards build configs/shards/sample.yaml "corpus.root=$data/corpus" \
  "output.folder=$data/shards" "seed=$seed" "vocabulary_view.seed=$seed"
stage "3/6 the text branch"
train text
stage "4/6 the audio branch"
train audio
stage "5/6 their fusion"
train fusion "init.text=$runs/text" "init.audio=$runs/audio"
stage "6/6 comparison on the test part"
emo compare "$runs/text" "$runs/audio" "$runs/fusion" --markdown "$runs/table.md"
emo report "$runs/text" "$runs/audio" "$runs/fusion" -o "$runs/report.html" --title "The sample corpus"
cat <<END
read it:  $runs/report.html, in any browser: xdg-open $PWD/$runs/report.html
watch it: .venv/bin/tensorboard --logdir $runs, then http://localhost:6006
END
