# shellcheck shell=bash
# What site.sh means for sbatch; for scripts that a user calls, from anywhere (`CALLER`), and that
# then go to the repository's root, in which jobs run too.

# from_here PATH: PATH as the caller means it.
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
# preprocess, merge, train, crossval, evaluate or tensorboard.
site_options() {
    local time=$SITE_TIME_EVALUATE cpus=$SITE_CPUS_TRAIN gpus=$SITE_GPUS_PER_NODE
    words=(--ntasks-per-node=1)
    case $1 in
        preprocess) time=$SITE_TIME_PREPROCESS cpus=$SITE_CPUS_PREPROCESS gpus=0 ;;
        merge) gpus=0 ;;
        train | crossval) time=$SITE_TIME_TRAIN ;;
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

# The strategy of trainings for which none is named.
site_strategy() { if ((SITE_GPUS_PER_NODE > 0)); then echo gpu; else echo cpu; fi; }
