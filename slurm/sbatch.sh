#!/usr/bin/env bash
# sbatch for one script, with what site.sh says: partition, GPUs, times, log folder.
# usage: slurm/sbatch.sh [--dry-run] [sbatch options] SCRIPT [arguments]
#   SCRIPT: preprocess, merge, train, crossval, sweep, evaluate or tensorboard
#           (slurm/SCRIPT.sbatch)
# For instance: slurm/sbatch.sh --nodes=2 train gpu configs/paper/text.yaml run=runs/paper/text
set -euo pipefail
CALLER=$PWD
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=slurm/options.sh
source slurm/options.sh

dry=0 own=()
while (($# > 0)) && [[ $1 == -* ]]; do
    case $1 in
        -h | --help) sed -n '2,6s/^# //p' "slurm/sbatch.sh"; exit 0 ;;
        --dry-run) dry=1 ;;
        *) own+=("$1") ;;
    esac
    shift
done
script=${1:-}
script=${script#slurm/} script=${script%.sbatch}
if [[ ! $script =~ ^[a-z]+$ || ! -f slurm/$script.sbatch ]]; then
    refuse "'${1:-}' is no script in slurm/ (sbatch options are given as --name=value); \
slurm/sbatch.sh --help shows an example"
fi
shift
if ((!dry)); then need_scheduler; fi
arguments=()
for word in "$@"; do
    case $word in *=*) ;; *) word=$(from_here "$word") ;; esac
    arguments+=("$word")
done

# What a training is told; what crossval itself reads (fold=K, --seeds K) is no setting.
if [[ $script =~ ^(train|crossval|sweep)$ ]] && ((${#arguments[@]} > 1)); then
    check_strategy "${arguments[0]}" "${own[@]}"
    settings=()
    for word in "${arguments[@]:2}"; do
        case $word in fold=* | -*) ;; *=*) settings+=("$word") ;; esac
    done
    refuse_bad_configs "${arguments[1]}" "${settings[@]}"
fi

log=%x-%j
case $script in preprocess | crossval | sweep) log=%x-%A_%a ;; esac
site_options "$script"
command=(sbatch "${words[@]}" "--output=$SITE_RUNS/logs/$log.log" "${own[@]}" "slurm/$script.sbatch"
    "${arguments[@]}")
if ((dry)); then
    printf '%q ' "${command[@]}"
    echo
else
    mkdir -p "$SITE_RUNS/logs"
    "${command[@]}"
    echo "its log: in $SITE_RUNS/logs" >&2 # not among what --parsable prints
fi
