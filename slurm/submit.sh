#!/usr/bin/env bash
# Submits the whole chain: preprocess (array) -> merge -> trainings -> their fusion -> evaluate.
set -euo pipefail
CALLER=$PWD
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=slurm/options.sh
source slurm/options.sh

help() {
    cat <<'END'
usage: slurm/submit.sh SHARDS TRAINING... [FUSION] [options] [key=value ...]

SHARDS and the others are the configurations of the shards and of the trainings; key=value is handed
to all trainings. Folders in them count from the repository. For instance:

  slurm/submit.sh configs/shards/sample.yaml configs/sample/{text,audio,fusion}.yaml --nodes 2

Each training is a stage, named like its file. FUSION, a configuration with an `init:`, comes last: it
waits for the others, and `init` names those called text and audio. Of exactly three trainings with
a fusion, the first is called text, the second audio, the third fusion, whatever their files' names.

  --name NAME      the chain's folder below SITE_RUNS (default: the last file's folder)
  --nodes N        nodes of each training (1)
  --strategy S     cpu, gpu, zero1, zero2, zero3 or fsdp (gpu where site.sh has GPUs, else cpu)
  --tasks N        array tasks of the preprocessing (3)
  --from STAGE     begin with preprocess, merge, a training or evaluate; the stages before it must
                   have succeeded
  --dry-run        check the configurations, print every command, submit nothing

slurm/site.sh says on which partition, with how many GPUs, and so on. slurm/status.sh NAME says
where the chain stands. The same command again, after a failure, goes on: what is there already,
shards or a finished training, is not made twice.
END
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

((${#configs[@]} >= 2)) || refuse "configurations are needed: of the shards, and of one training or \
more; slurm/submit.sh --help shows an example"
for file in "${configs[@]}"; do
    [[ -f $file ]] || refuse "$file: no such file"
done
[[ $nodes =~ ^[1-9][0-9]*$ ]] || refuse "--nodes $nodes: not a positive number"
[[ $tasks =~ ^[1-9][0-9]*$ ]] || refuse "--tasks $tasks: not a positive number"
check_strategy "$strategy"
name=${name:-$(basename "$(dirname "$(realpath -s "${configs[-1]}")")")}
[[ $name =~ ^[A-Za-z0-9_-][A-Za-z0-9._-]*$ ]] ||
    refuse "--name $name: letters, digits, '_', '-' and, after the first, '.' only"
[[ $SITE_RUNS != *[,%]* ]] || refuse "SITE_RUNS=$SITE_RUNS: sbatch gives ',' and '%' a meaning"
((dry)) || need_scheduler

# The trainings: names in order, the configuration of each; FUSION is the last one's name, or empty.
trainings=() FUSION=""
declare -A config_of=()
if grep -q '^init:' "${configs[-1]}"; then FUSION=last; fi
for file in "${configs[@]:1}"; do
    stage=$(basename "$file")
    stage=${stage%.y*ml}
    if [[ -n $FUSION ]] && ((${#configs[@]} == 4)); then
        stage=text
        case ${#trainings[@]} in 1) stage=audio ;; 2) stage=fusion ;; esac
    elif grep -q '^init:' "$file" && [[ $file != "${configs[-1]}" ]]; then
        refuse "$file starts from other trainings (init): name it last"
    fi
    [[ $stage =~ ^[A-Za-z0-9_-]+$ ]] ||
        refuse "$file: a training is named like its file: letters, digits, '_' and '-' only"
    if [[ -v config_of[$stage] || " preprocess merge evaluate " == *" $stage "* ]]; then
        refuse "$file: another stage is called $stage already: rename or copy the file"
    fi
    trainings+=("$stage")
    config_of[$stage]=$file
done
if [[ -n $FUSION ]]; then FUSION=${trainings[-1]}; fi

STAGES=(preprocess merge "${trainings[@]}" evaluate)
declare -A AFTER=([preprocess]="" [merge]="preprocess" [evaluate]="${trainings[*]}")
for stage in "${trainings[@]}"; do AFTER[$stage]=merge; done
if ((${#trainings[@]} > 1)) && [[ -n $FUSION ]]; then
    AFTER[$FUSION]="${trainings[*]::${#trainings[@]}-1}"
fi
[[ " ${STAGES[*]} " == *" $from "* ]] || refuse "--from $from: not one of ${STAGES[*]}"

chain=$SITE_RUNS/$name
run() { echo "$chain/$1"; }         # the run folder of a training stage

# options STAGE / script STAGE: what sbatch gets before and after the script, in the array `words`.
options() {
    local kind=$1 log=%j
    if [[ -v config_of[$1] ]]; then kind=train; fi
    site_options "$kind"
    case $kind in
        preprocess) log=%A_%a; words+=("--array=0-$((tasks - 1))") ;;
        train) words+=("--nodes=$nodes") ;;
    esac
    words+=("--job-name=$name-$1" "--output=$chain/logs/$1-$log.log"
        "--export=ALL,EMO_CHAIN=$chain,EMO_STAGE=$1")
}

script() {
    local branch before
    case $1 in
        preprocess) words=(slurm/preprocess.sbatch "$tasks" "${configs[0]}") ;;
        merge) words=(slurm/merge.sbatch "${configs[0]}" "tasks=$tasks") ;;
        evaluate)
            words=(slurm/evaluate.sbatch)
            for before in "${trainings[@]}"; do words+=("$(run "$before")"); done ;;
        *)
            words=(slurm/train.sbatch "$strategy" "${config_of[$1]}" "run=$(run "$1")")
            for branch in text audio; do
                if [[ $1 == "$FUSION" && $1 != "$branch" && -v config_of[$branch] ]]; then
                    words+=("init.$branch=$(run "$branch")")
                fi
            done
            words+=("${overrides[@]}") ;;
    esac
}

declare -A id=()
# If one job cannot be submitted, cancel the others: without it the chain would wait for ever.
give_up() {
    if ((${#id[@]} > 0 && !dry)); then scancel "${id[@]}"; fi
    echo "slurm/submit.sh: not submitted; see sbatch's message above" >&2
    exit 1
}

# Two chains in one folder would fail at each other's locks.
refuse_if_live() {
    local jobs live
    if [[ ! -f $chain/chain ]]; then return 0; fi
    jobs=$(cut -d' ' -f2 "$chain/chain" | paste -sd,)
    live=$(squeue --noheader --jobs="$jobs" --format=%F 2>/dev/null | sort -nu | paste -sd' ') || true
    if [[ -n $live ]]; then
        refuse "chain $name waits or runs: end it first (scancel $live), or take another --name"
    fi
}

settings=()
for stage in "${trainings[@]}"; do
    script "$stage"
    settings+=(-- "${words[@]:2}")
done
if ((!dry)); then
    refuse_if_live
fi
refuse_bad_configs "${settings[@]:1}"
if ((!dry)); then
    mkdir -p "$chain/logs" || refuse "$chain/logs cannot be made: see SITE_RUNS in slurm/site.sh"
fi
# The record for status.sh; stages that are not submitted now keep the line of their last submission.
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
    # By a rename: status.sh, which may read it at any moment, sees the old or the new one, whole.
    printf %s "$record" | grep . >"$chain/chain.new"
    mv "$chain/chain.new" "$chain/chain"
    echo "where it stands: slurm/status.sh $name"
fi
