#!/usr/bin/env bash
# Submits the whole chain: preprocess (array) -> merge -> text and audio -> fusion -> evaluate.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=slurm/site.sh
source "${EMO_SITE:-slurm/site.sh}"

STAGES=(preprocess merge text audio fusion evaluate)
declare -A AFTER=([preprocess]="" [merge]="preprocess" [text]="merge" [audio]="merge"
    [fusion]="text audio" [evaluate]="text audio fusion")

help() {
    cat <<'END'
usage: slurm/submit.sh SHARDS TEXT AUDIO FUSION [options] [key=value ...]

SHARDS, TEXT, AUDIO and FUSION are the configurations of the shards and of the three trainings;
key=value is handed to the three trainings. For instance:

  slurm/submit.sh configs/shards/sample.yaml configs/sample/{text,audio,fusion}.yaml --nodes 2

  --name NAME      the chain's folder below SITE_RUNS (default: the folder name of FUSION)
  --nodes N        nodes of each training (1)
  --strategy S     cpu, gpu, zero1, zero2, zero3 or fsdp (gpu where site.sh has GPUs, else cpu)
  --tasks N        array tasks of the preprocessing (3)
  --from STAGE     begin with preprocess, merge, text, audio, fusion or evaluate; the stages before
                   it must have succeeded
  --dry-run        print every command, submit nothing

slurm/site.sh says on which partition, with how many GPUs, and so on. slurm/status.sh NAME says
where the chain stands.
END
}

refuse() {
    echo "slurm/submit.sh: $1" >&2
    exit 2
}

name="" nodes=1 strategy="" tasks=3 from=preprocess dry=0 configs=() overrides=()
if ((SITE_GPUS_PER_NODE > 0)); then strategy=gpu; else strategy=cpu; fi
while (($# > 0)); do
    case $1 in
        -h | --help) help; exit 0 ;;
        --dry-run) dry=1; shift ;;
        --name | --nodes | --strategy | --tasks | --from)
            if (($# < 2)); then refuse "$1 needs a value"; fi
            printf -v "${1#--}" %s "$2"; shift 2 ;;
        -*) refuse "unknown option $1; slurm/submit.sh --help lists them" ;;
        *=*) overrides+=("$1"); shift ;;
        *) configs+=("$1"); shift ;;
    esac
done

((${#configs[@]} == 4)) || refuse "four configurations are needed (shards, text, audio, fusion), \
${#configs[@]} given; slurm/submit.sh --help shows an example"
for file in "${configs[@]}"; do
    [[ -f $file ]] || refuse "$file: no such file"
done
[[ $nodes =~ ^[1-9][0-9]*$ ]] || refuse "--nodes $nodes: not a positive number"
[[ $tasks =~ ^[1-9][0-9]*$ ]] || refuse "--tasks $tasks: not a positive number"
[[ $strategy =~ ^(cpu|gpu|zero[123]|fsdp)$ ]] ||
    refuse "--strategy $strategy: not one of cpu gpu zero1 zero2 zero3 fsdp"
[[ " ${STAGES[*]} " == *" $from "* ]] || refuse "--from $from: not one of ${STAGES[*]}"
name=${name:-$(basename "$(dirname "${configs[3]}")")}
[[ $name =~ ^[A-Za-z0-9._-]+$ ]] || refuse "--name $name: letters, digits, '.', '_' and '-' only"
((dry)) || command -v sbatch >/dev/null || refuse "sbatch is not on this machine; submit from a \
login node of the cluster, or see the commands with --dry-run"

chain=$SITE_RUNS/$name
run() { echo "$chain/$1"; }         # the run folder of a training stage

# options STAGE / script STAGE: what sbatch gets before and after the script, in the array `words`.
options() {
    words=(--requeue --open-mode=append --ntasks-per-node=1)
    if [[ -n $SITE_SIGNAL ]]; then words+=("--signal=B:$SITE_SIGNAL"); fi
    if [[ -n $SITE_PARTITION ]]; then words+=("--partition=$SITE_PARTITION"); fi
    if [[ -n $SITE_ACCOUNT ]]; then words+=("--account=$SITE_ACCOUNT"); fi
    if [[ -n $SITE_MEMORY ]]; then words+=("--mem=$SITE_MEMORY"); fi
    local time=$SITE_TIME_EVALUATE cpus=$SITE_CPUS_TRAIN log=%j
    case $1 in
        preprocess)
            time=$SITE_TIME_PREPROCESS cpus=$SITE_CPUS_PREPROCESS log=%A_%a
            words+=("--array=0-$((tasks - 1))") ;;
        text | audio | fusion)
            time=$SITE_TIME_TRAIN
            words+=("--nodes=$nodes") ;;
    esac
    if [[ -n $time ]]; then words+=("--time=$time"); fi
    if [[ $1 != preprocess && $1 != merge ]] && ((SITE_GPUS_PER_NODE > 0)); then
        words+=("--gpus-per-node=$SITE_GPUS_PER_NODE")
    fi
    words+=("--cpus-per-task=$cpus" "${SITE_SBATCH[@]}" "--job-name=$name-$1"
        "--output=$chain/logs/$1-$log.log" "--export=ALL,EMO_CHAIN=$chain,EMO_STAGE=$1")
}

script() {
    case $1 in
        preprocess) words=(slurm/preprocess.sbatch "$tasks" "${configs[0]}") ;;
        merge) words=(slurm/merge.sbatch "${configs[0]}" "tasks=$tasks") ;;
        text) words=(slurm/train.sbatch "$strategy" "${configs[1]}" "run=$(run text)") ;;
        audio) words=(slurm/train.sbatch "$strategy" "${configs[2]}" "run=$(run audio)") ;;
        fusion) words=(slurm/train.sbatch "$strategy" "${configs[3]}" "run=$(run fusion)"
            "init.text=$(run text)" "init.audio=$(run audio)") ;;
        evaluate) words=(slurm/evaluate.sbatch "$(run text)" "$(run audio)" "$(run fusion)") ;;
    esac
    case $1 in text | audio | fusion) words+=("${overrides[@]}") ;; esac
}

declare -A id=()
# A chain of which a part could not be submitted would only be in the way.
give_up() {
    if ((${#id[@]} > 0 && !dry)); then scancel "${id[@]}"; fi
    echo "slurm/submit.sh: not submitted; see sbatch's message above" >&2
    exit 1
}

if ((!dry)); then mkdir -p "$chain/logs"; fi
# The record for status.sh: of stages that are not submitted now, the last submission stays.
record=""
started=0
for stage in "${STAGES[@]}"; do
    if [[ $stage == "$from" ]]; then started=1; fi
    if ((!started)); then
        if [[ -f $chain/chain ]]; then record+=$(grep "^$stage " "$chain/chain" || true)$'\n'; fi
        continue
    fi
    waits="" waits_for=""
    for before in ${AFTER[$stage]}; do
        if [[ -v id[$before] ]]; then
            waits+=":${id[$before]}"
            waits_for+="${waits_for:+ }$before"
        fi
    done
    options "$stage"
    command=(sbatch --parsable "${words[@]}")
    if [[ -n $waits ]]; then
        command+=("--dependency=afterok$waits" --kill-on-invalid-dep=yes)
    fi
    script "$stage"
    command+=("${words[@]}")
    if ((dry)); then
        id[$stage]=${stage^^}_ID
        printf '%q ' "${command[@]}"
        echo
    else
        answer=$("${command[@]}") || give_up
        id[$stage]=${answer%%;*}    # "id;cluster" where there are several clusters
        count=1
        if [[ $stage == preprocess ]]; then count=$tasks; fi
        record+="$stage ${id[$stage]} $count $waits_for"$'\n'
        echo "$stage: job ${id[$stage]}$([[ -z $waits_for ]] || echo ", waits for $waits_for")"
    fi
done
if ((!dry)); then
    printf %s "$record" | grep . >"$chain/chain.new"
    mv "$chain/chain.new" "$chain/chain"
    echo "where it stands: slurm/status.sh $name"
fi
