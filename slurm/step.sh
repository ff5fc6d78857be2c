#!/usr/bin/env bash
# One node's part of a job: `srun` runs this once on each node, so that SLURM_NODEID is the node's.
# usage (inside srun): slurm/step.sh COMMAND...
set -euo pipefail

{ # bash reads a script while it runs it: in braces it is read whole first, and may be edited then
# shellcheck source=slurm/site.sh
source "${EMO_SITE:-slurm/site.sh}"
set +u                              # activation scripts of conda and modules use unset variables
site_activate
set -u
if [[ -n $SITE_SCRATCH ]]; then
    mkdir -p "$SITE_SCRATCH"
    export TMPDIR="$SITE_SCRATCH"
fi
# launch/train.sh allows as much time for saving as the scheduler does.
if [[ $SITE_SIGNAL == *@* ]]; then export EMO_GRACE="${SITE_SIGNAL#*@}"; fi

export EMO_NODE_RANK=$SLURM_NODEID
processes=$SITE_PROCESSES_PER_NODE
if [[ -z $processes ]]; then processes=$((SITE_GPUS_PER_NODE > 0 ? SITE_GPUS_PER_NODE : 1)); fi
export EMO_PROCESSES=$processes
# A rank's share of the requested cores: not every cluster binds a task to its own.
threads=$((${SLURM_CPUS_PER_TASK:-1} / processes))
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-$((threads > 0 ? threads : 1))}"

# SLURM signals every process of a step. USR1 would kill launcher and ranks, so only this shell
# handles it, and sends a SIGTERM to the command, which means "save and stop". A SIGTERM from SLURM
# has reached the command directly, and is not sent again.
told=0
# shellcheck disable=SC2329 # called by the trap
tell() {
    interrupted=1
    if ((!told)); then kill -TERM "$child" 2>/dev/null || true; fi
    told=1
}
trap tell USR1
trap 'told=1 interrupted=1' TERM
( # a signal that is ignored here stays ignored in all processes that are started below
    trap '' USR1
    trap - TERM
    exec "${SITE_RUN_IN[@]}" "$@"
) &
child=$!
while :; do
    interrupted=0 code=0
    wait "$child" || code=$?
    if ((!interrupted)); then break; fi
done
# Stopped before it could save (while it started, for instance): report the signal, not an error.
if ((told && code != 0 && code != 75)); then code=143; fi
echo "$code" >"$EMO_JOB/exit.$SLURM_NODEID"
# srun kills the other nodes' steps as soon as this one has failed. If this failure only follows from
# another node's, that node needs a moment to write its own code.
if ((code > 0 && code < 128 && code != 75)); then sleep 1; fi
exit "$code"
}
