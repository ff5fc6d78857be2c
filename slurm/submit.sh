#!/usr/bin/env bash
# Submits the whole chain: preprocess (array) -> merge -> text and audio -> fusion -> evaluate.
set -euo pipefail
CALLER=$PWD
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=slurm/options.sh
source slurm/options.sh

STAGES=(preprocess merge text audio fusion evaluate)
declare -A AFTER=([preprocess]="" [merge]="preprocess" [text]="merge" [audio]="merge"
    [fusion]="text audio" [evaluate]="text audio fusion")

help() {
    cat <<'END'
usage: slurm/submit.sh SHARDS TEXT AUDIO FUSION [options] [key=value ...]

SHARDS, TEXT, AUDIO and FUSION are the configurations of the shards and of the three trainings;
key=value is handed to the three trainings. Folders in them count from the repository. For instance:

  slurm/submit.sh configs/shards/sample.yaml configs/sample/{text,audio,fusion}.yaml --nodes 2

  --name NAME      the chain's folder below SITE_RUNS (default: the folder name of FUSION)
  --nodes N        nodes of each training (1)
  --strategy S     cpu, gpu, zero1, zero2, zero3 or fsdp (gpu where site.sh has GPUs, else cpu)
  --tasks N        array tasks of the preprocessing (3)
  --from STAGE     begin with preprocess, merge, text, audio, fusion or evaluate; the stages before
                   it must have succeeded
  --dry-run        print every command, submit nothing

slurm/site.sh says on which partition, with how many GPUs, and so on. slurm/status.sh NAME says
where the chain stands. The same command again, after a failure, goes on: what is there already,
shards or a finished training, is not made twice.
END
}

refuse() {
    echo "slurm/submit.sh: $1" >&2
    exit 2
}

name="" nodes=1 strategy=$(site_strategy) tasks=3 from=preprocess dry=0 configs=() overrides=()
while (($# > 0)); do
    case $1 in
        -h | --help) help; exit 0 ;;
        --dry-run) dry=1; shift ;;
        --name | --nodes | --strategy | --tasks | --from)
            if (($# < 2)); then refuse "$1 needs a value"; fi
            printf -v "${1#--}" %s "$2"; shift 2 ;;
        -*) refuse "unknown option $1; slurm/submit.sh --help lists them" ;;
        *=*) overrides+=("$1"); shift ;;
        *) configs+=("$(from_here "$1")"); shift ;;
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
name=${name:-$(basename "$(dirname "$(realpath -s "${configs[3]}")")")}
[[ $name =~ ^[A-Za-z0-9_-][A-Za-z0-9._-]*$ ]] ||
    refuse "--name $name: letters, digits, '_', '-' and, after the first, '.' only"
[[ $SITE_RUNS != *[,%]* ]] || refuse "SITE_RUNS=$SITE_RUNS: sbatch gives ',' and '%' a meaning"
((dry)) || command -v sbatch >/dev/null || refuse "sbatch is not on this machine; submit from a \
login node of the cluster, or see the commands with --dry-run"

chain=$SITE_RUNS/$name
run() { echo "$chain/$1"; }         # the run folder of a training stage

# options STAGE / script STAGE: what sbatch gets before and after the script, in the array `words`.
options() {
    local kind=$1 log=%j
    case $1 in text | audio | fusion) kind=train ;; esac
    site_options "$kind"
    case $kind in
        preprocess) log=%A_%a; words+=("--array=0-$((tasks - 1))") ;;
        train) words+=("--nodes=$nodes") ;;
    esac
    words+=("--job-name=$name-$1" "--output=$chain/logs/$1-$log.log"
        "--export=ALL,EMO_CHAIN=$chain,EMO_STAGE=$1")
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

# Two chains in one folder would only refuse each other's locks.
refuse_if_live() {
    local jobs live
    if [[ ! -f $chain/chain ]]; then return 0; fi
    jobs=$(cut -d' ' -f2 "$chain/chain" | paste -sd,)
    live=$(squeue --noheader --jobs="$jobs" --format=%F 2>/dev/null | sort -nu | paste -sd' ') || true
    if [[ -n $live ]]; then
        refuse "chain $name waits or runs: end it first (scancel $live), or take another --name"
    fi
}

# A typo in the last training's configuration should not come to light when the others have run.
# Where the programs are not on this machine, the jobs will tell.
refuse_bad_configs() {
    local stage problems
    problems=$(
        set +eu # see slurm/step.sh
        site_activate >/dev/null 2>&1
        command -v "${SITE_RUN_IN[0]:-emo}" >/dev/null || exit 0
        for stage in text audio fusion; do
            script "$stage"
            "${SITE_RUN_IN[@]}" emo config "${words[@]:2}" 2>&1 >/dev/null & # at once: they start slowly
        done
        wait
    )
    if grep -q '^error: ' <<<"$problems"; then refuse "nothing is submitted:"$'\n'"$problems"; fi
}

if ((!dry)); then
    refuse_if_live
    refuse_bad_configs
    mkdir -p "$chain/logs" || refuse "$chain/logs cannot be made: see SITE_RUNS in slurm/site.sh"
fi
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
