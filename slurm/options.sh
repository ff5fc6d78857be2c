# shellcheck shell=bash
# From site.sh to options of sbatch; for scripts that a user calls, from any folder (`CALLER`). They
# then change to the repository's root, where jobs run too.

# from_here PATH: PATH, which is relative to the caller's folder, seen from the repository's root.
from_here() {
    if [[ $1 != /* && $CALLER != "$PWD" && -e $CALLER/$1 ]]; then realpath -s "$CALLER/$1"; else echo "$1"; fi
}

if [[ -n ${EMO_SITE:-} ]]; then
    EMO_SITE=$(from_here "$EMO_SITE")
    export EMO_SITE
    if [[ ! -f $EMO_SITE ]]; then
        echo "EMO_SITE=$EMO_SITE: no such file" >&2
        exit 2
    fi
fi
# shellcheck source=slurm/site.sh
source "${EMO_SITE:-slurm/site.sh}"

# site_options KIND: fills the array `words` with sbatch's options for a script of this kind:
# preprocess, merge, train, crossval, sweep, evaluate or tensorboard.
site_options() {
    local time=$SITE_TIME_EVALUATE cpus=${SITE_CPUS_TRAIN:-4} gpus=$SITE_GPUS_PER_NODE
    words=(--ntasks-per-node=1)
    case $1 in
        preprocess) time=$SITE_TIME_PREPROCESS cpus=$SITE_CPUS_PREPROCESS gpus=0 ;;
        merge) gpus=0 ;;
        train | crossval | sweep) time=$SITE_TIME_TRAIN cpus=$(train_cpus) ;;
        tensorboard) time="" cpus=1 gpus=0 ;;
    esac
    if [[ $1 != tensorboard ]]; then
        words+=(--requeue --open-mode=append)
        if [[ -n $SITE_SIGNAL ]]; then words+=("--signal=B:$SITE_SIGNAL"); fi
        if [[ -n $SITE_MEMORY ]]; then words+=("--mem=$SITE_MEMORY"); fi
    fi
    if [[ -n $SITE_PARTITION ]]; then words+=("--partition=$SITE_PARTITION"); fi
    if [[ -n $SITE_ACCOUNT ]]; then words+=("--account=$SITE_ACCOUNT"); fi
    if [[ -n $time ]]; then words+=("--time=$time"); fi
    if ((gpus > 0)); then words+=("${SITE_GPU_OPTION:---gpus-per-node=$gpus}"); fi
    words+=("--cpus-per-task=$cpus" "${SITE_SBATCH[@]}")
}

# train_cpus: cores a node of a training job gets.
train_cpus() {
    local by_gpu=$((SITE_GPUS_PER_NODE > 0 ? 8 * SITE_GPUS_PER_NODE : 4))
    echo "${SITE_CPUS_TRAIN:-$by_gpu}"
}

# check_cores WORKERS: refuse fewer cores than processes on a node with GPUs. A rank that starts
# hundreds of kernels a millisecond needs a core for itself, and so does each process that reads.
check_cores() {
    local ranks=${SITE_PROCESSES_PER_NODE:-$SITE_GPUS_PER_NODE} cpus needed
    if ((SITE_GPUS_PER_NODE == 0)) || [[ " ${SITE_SBATCH[*]}" == *" --cpus-per-"* ]]; then return; fi
    cpus=$(train_cpus) needed=$((ranks * (1 + $1)))
    if ((cpus >= needed)); then return; fi
    refuse "SITE_CPUS_TRAIN=$cpus in ${EMO_SITE:-slurm/site.sh}: $ranks ranks with data.workers=$1 are \
$needed processes a node: ask for as many cores, or set data.workers=$((cpus / ranks > 1 ? cpus / ranks - 1 : 0))"
}

# Inside a job (an interactive one, for instance), SLURM_* describe that job. sbatch would pass them to
# our jobs, where srun reads SLURM_MEM_PER_CPU, SLURM_CPU_BIND and the like as its own options.
for variable in "${!SLURM_@}"; do
    case $variable in SLURM_CONF* | SLURM_CLUSTERS) ;; *) unset "$variable" ;; esac
done

refuse() {                          # refuse TEXT: end with a message, nothing submitted
    echo "slurm/${0##*/}: $1" >&2
    exit 2
}

need_scheduler() {
    command -v sbatch >/dev/null || refuse "sbatch is not on this machine; submit from a login node \
of the cluster, or see the commands with --dry-run"
}

# check_strategy STRATEGY [sbatch options]: refuse strategy gpu if no GPUs are requested.
check_strategy() {
    local strategy=$1 option
    shift
    [[ $strategy =~ ^(cpu|gpu|zero[123]|fsdp)$ ]] ||
        refuse "strategy $strategy: not one of cpu gpu zero1 zero2 zero3 fsdp"
    if [[ $strategy != gpu ]] || ((SITE_GPUS_PER_NODE > 0)); then return; fi
    for option in "$@" "${SITE_SBATCH[@]}"; do
        case $option in --gpus* | --gres=gpu* | -G*) return ;; esac
    done
    refuse "strategy gpu needs GPUs: set SITE_GPUS_PER_NODE in ${EMO_SITE:-slurm/site.sh}, or take cpu"
}

# refuse_bad_configs CONFIG [key=value ...] [-- CONFIG [key=value ...]]...: refuse what `emo config`
# refuses, so that a typo shows now, and not after the job has waited in the queue. If the programs are
# not on this machine, the job itself will report it.
refuse_bad_configs() {
    local problems most
    problems=$(
        set +eu # see slurm/step.sh
        site_activate >/dev/null 2>&1
        command -v "${SITE_RUN_IN[0]:-emo}" >/dev/null || exit 0
        one=()
        for word in "$@" --; do
            if [[ $word != -- ]]; then one+=("$word"); continue; fi
            { # all at once: they start slowly
                if said=$("${SITE_RUN_IN[@]}" emo config "${one[@]}" 2>&1); then
                    sed -n 's/^  workers: /workers: /p' <<<"$said"
                else
                    echo "$said"
                fi
            } &
            one=()
        done
        wait
    )
    if grep -q '^error: ' <<<"$problems"; then refuse "nothing is submitted:"$'\n'"$problems"; fi
    most=$(sed -n 's/^workers: //p' <<<"$problems" | sort -n | tail -1)
    if [[ -n $most ]]; then check_cores "$most"; fi
}

# The strategy of trainings for which none is named.
site_strategy() { if ((SITE_GPUS_PER_NODE > 0)); then echo gpu; else echo cpu; fi; }
