#!/usr/bin/env bash
# Says where a chain stands, and where its logs and its TensorBoard folder are.
# usage: slurm/status.sh [NAME]      (without a name: every chain below SITE_RUNS)
set -euo pipefail
CALLER=$PWD
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=slurm/options.sh
source slurm/options.sh

# The state of one job, from the first source that has it: the queue, the job's own history, the
# scheduler's memory of ended jobs (which lasts some minutes), the stages that it waited for.
# job_state STAGE JOB WAITED_FOR...; JOB is N, or N_K for task K of an array.
job_state() {
    local stage=$1 job=$2 line history="$chain/jobs/$1-$2/history" last="" before
    shift 2
    if [[ -f $history ]]; then last=$(tail -n 1 "$history" | cut -d' ' -f2-); fi
    line=$(squeue --noheader --array --jobs="$job" --format='%T %r' 2>/dev/null | head -n 1) || true
    case $line in
        RUNNING*) echo "running ${last#* }"; return ;;
        PENDING*)
            if [[ $last == requeued* ]]; then echo "$last; waits to start again (${line#* })"
            else echo "waiting ${line#* }"; fi
            return ;;
        COMPLETING* | "") ;;        # it has ended: its history says how
        *) echo "${line,,}"; return ;;
    esac
    case $last in finished* | failed* | cancelled*) echo "$last"; return ;; esac
    line=$(scontrol --oneliner show job "$job" 2>/dev/null | grep -o 'JobState=[A-Z_]*' | head -n 1) || true
    for before in "$@"; do
        case ${state[$before]} in
            failed* | cancelled*) echo "cancelled $before ${state[$before]%% *}"; return ;;
        esac
    done
    case $line in
        "") echo "lost neither the queue nor the job's history tells how it ended" ;;
        *) line=${line#JobState=}; echo "${line,,} ${last:+last seen: $last}" ;;
    esac
}

# The states of an array's tasks in one line: the worst first, and how many there are of each.
array_state() {
    local stage=$1 job=$2 count=$3 task word one
    shift 3
    local -A seen=()
    for ((task = 0; task < count; task++)); do
        one=$(job_state "$stage" "${job}_$task" "$@")
        word=${one%% *}
        seen[$word]="${seen[$word]:-}${seen[$word]:+,}$task"
    done
    local line="" first=1
    for word in failed cancelled lost requeued waiting running finished "${!seen[@]}"; do
        if [[ -v seen[$word] ]]; then
            if ((first)); then line="$word tasks ${seen[$word]}"; else line+="; $word ${seen[$word]}"; fi
            unset "seen[$word]"
            first=0
        fi
    done
    echo "$line of 0-$((count - 1))"
}

# The last error in the stage's log; with several nodes, srun writes a node's number before it.
why() {
    local error
    error=$(grep -hEs '^([0-9]+: )?error: ' "$chain/logs/$1-$2"*.log | tail -n 1) || true
    if [[ -n $error ]]; then echo "              $error"; fi
}

show() {                            # one chain
    local name=$1 chain=$SITE_RUNS/$1 stage job count waits
    if [[ ! -f $chain/chain ]]; then
        echo "slurm/status.sh: no chain $name in $SITE_RUNS (there is no $chain/chain)" >&2
        exit 2
    fi
    local -A state=()
    echo "chain $name"
    while read -r stage job count waits; do
        # shellcheck disable=SC2086 # a list of stages
        if ((count > 1)); then state[$stage]=$(array_state "$stage" "$job" "$count" $waits)
        elif [[ $stage == preprocess ]]; then state[$stage]=$(job_state "$stage" "${job}_0" $waits)
        else state[$stage]=$(job_state "$stage" "$job" $waits); fi
        printf '  %-10s  job %-8s  %s\n' "$stage" "$job" "${state[$stage]}"
        if [[ ${state[$stage]} == failed* ]]; then why "$stage" "$job"; fi
    done <"$chain/chain"
    echo "  logs         $chain/logs"
    echo "  TensorBoard  tensorboard --logdir $chain --host localhost"
    if [[ -f $chain/table.md ]]; then echo "  table        $chain/table.md"; fi
}

if [[ " $* " == *" -h "* || " $* " == *" --help "* ]]; then
    sed -n '2,3s/^# //p' slurm/status.sh
    exit 0
elif (($# > 1)) || [[ ${1:-} == -* ]]; then
    echo "usage: slurm/status.sh [NAME]" >&2
    exit 2
elif (($# == 1)); then
    show "$1"
else
    shopt -s nullglob
    chains=("$SITE_RUNS"/*/chain)
    if ((${#chains[@]} == 0)); then echo "no chain below $SITE_RUNS"; fi
    for file in "${chains[@]}"; do show "$(basename "$(dirname "$file")")"; done
fi
