#!/usr/bin/env bash
# The paper's Table 3 on the sample corpus: every system × modality on one view by whole dialogues.
#
#   launch/table3.sh        (make table3)
#
# The paper's own systems are the demo's runs; bc-LSTM and ICON read what its text and audio branches
# say of each turn; BiLSTM and DNN-ELM read low-level descriptors. Everything goes to data/sample and
# runs/sample; finished parts are not done again.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PATH=$PWD/.venv/bin:$PATH

data=data/sample runs=runs/sample
strategy=cpu
if command -v nvidia-smi >/dev/null && nvidia-smi -L >/dev/null 2>&1; then strategy=gpu; fi

started=$SECONDS
stage() { printf '\n== %s (%d s so far)\n' "$1" $((SECONDS - started)); }

train() { # CONFIG NAME [key=value ...]: trains, goes on with, or finds finished the run of that name
  local config=$1 name=$2
  shift 2
  if [[ -f $runs/$name/metrics.json ]]; then
    echo "$runs/$name is trained already"
    return
  fi
  launch/train.sh "$strategy" "configs/sample/$config.yaml" "name=sample-$name" "run=$runs/$name" \
    resume=auto "$@"
}

# A few dialogues a step through some thousand weights: more than one process would only wait.
context() { # icon or bclstm: both modalities, then each alone
  local -x EMO_PROCESSES=1
  train "$1" "$1"
  for modality in text audio; do
    train "$1" "$1-$modality" "model.context.modalities=[$modality]"
  done
}

stage "1/6 the demo's text, audio and fusion"
if [[ -f $runs/text/metrics.json && -f $runs/audio/metrics.json && -f $runs/fusion/metrics.json ]]; then
  echo "$runs has them already"
else
  bash launch/demo.sh
fi
stage "2/6 what the branches say of every turn: $data/vectors"
[[ -d $data/vectors ]] || emo features "$runs/text" "$runs/audio" "$data/vectors"
stage "3/6 bc-LSTM"
context bclstm
stage "4/6 ICON"
context icon
stage "5/6 low-level descriptors, BiLSTM and DNN-ELM: $data/shards-lld"
emo-shards build configs/shards/sample-lld.yaml
train bilstm bilstm
train dnn-elm dnn-elm
stage "6/6 comparison on the test part"
emo compare "$runs"/{text,audio,fusion,bclstm-text,bclstm-audio,bclstm,icon-text,icon-audio,icon,bilstm,dnn-elm} \
  --markdown "$runs/table3.md" --csv "$runs/table3.csv"
printf '\n%d s\n' $((SECONDS - started))
