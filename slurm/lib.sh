# shellcheck shell=bash
# Shared by the job scripts: run a command on every node of the job, and decide what to do at its end.
#
#   0: done
#   75 on any node: saved before a preemption or time limit                -> requeue
#   a signal: a node's step was killed, the others' errors only follow     -> requeue
#   76 on every node that failed: a rank was killed, lost or late          -> requeue
#   any other, and a node is dead: the survivors' errors only follow       -> requeue
#   any other, all nodes alive: a real error                               -> fail, no requeue
#
# A requeue is refused after SITE_MAX_RESTARTS starts, or SITE_MAX_STALLS starts in a row that
# brought no new checkpoint, unless it was the scheduler that requeued.
#
# Sourced in the repository's root. The caller may define `progress`, which prints a number or name
# that changes as the job gets on.

SAVED=75                            # launch/train.sh: stopped by a signal, everything is saved
TRANSIENT=76                        # launch/train.sh: a rank was killed, lost or late

# shellcheck source=slurm/site.sh
source "${EMO_SITE:-slurm/site.sh}"

usage() {                           # usage TEXT: refuse the script's arguments
    echo "usage: $1" >&2
    exit 2
}

# begin STAGE: open the job's record, and refuse to start if the limits are reached.
begin() {
    local job=$SLURM_JOB_ID
    if [[ -n ${SLURM_ARRAY_JOB_ID:-} ]]; then job=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID; fi
    RESTARTS=${SLURM_RESTART_COUNT:-0}
    export EMO_JOB="${EMO_CHAIN:-$SITE_RUNS}/jobs/${EMO_STAGE:-$1}-$job"
    mkdir -p "$EMO_JOB"
    record running "on $SLURM_JOB_NODELIST"
    if ! may_start "$RESTARTS"; then exit 1; fi
    progress >>"$EMO_JOB/progress"
    trap 'pass_on USR1' USR1
    trap 'pass_on TERM' TERM
}

progress() { echo "start $RESTARTS"; } # the default: every start counts as progress

# record STATE DETAIL: one line of the job's history, for slurm/status.sh and for the log.
record() {
    local line
    line="$(date +%Y-%m-%dT%H:%M:%S) $1 $2"
    echo "$line" >>"$EMO_JOB/history"
    echo "== $line (start $((RESTARTS + 1)))"
}

# may_start COUNT: whether a start with COUNT restarts before it is within the limits.
may_start() {
    if (($1 > SITE_MAX_RESTARTS)); then
        record failed "gave up after $SITE_MAX_RESTARTS restarts (SITE_MAX_RESTARTS)"
        return 1
    fi
    local now stalls=0 line
    now=$(progress)
    if [[ -f $EMO_JOB/progress ]]; then
        while read -r line; do      # count the last starts in a row that began where we are now
            if [[ $line == "$now" ]]; then stalls=$((stalls + 1)); else stalls=0; fi
        done <"$EMO_JOB/progress"
    fi
    if ((stalls >= SITE_MAX_STALLS)); then
        record failed "$stalls starts in a row made no progress ($now; SITE_MAX_STALLS)"
        return 1
    fi
}

# The scheduler's warning (USR1) goes to this script only. It is passed on to slurm/step.sh, which
# makes a SIGTERM of it for launch/train.sh on every node. A SIGTERM is not passed on: SLURM has sent
# it to the steps as well.
pass_on() {
    INTERRUPTED=1
    echo "== $(date +%Y-%m-%dT%H:%M:%S) $1 received: the steps save and stop"
    # In the background, because scancel retries for a minute if the step has already ended.
    if [[ $1 == USR1 ]]; then timeout 20 scancel --signal=USR1 "$SLURM_JOB_ID" & fi
}

# on_every_node COMMAND...: run it once a node. Returns if it succeeds; else ends the job as above.
on_every_node() {
    local code step nodes label=()
    rm -f "$EMO_JOB"/exit.*
    mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
    EMO_MAIN_ADDRESS=$(node_address "${nodes[0]}")
    # Another port for each job and each start: two jobs may share a node, and processes of an earlier
    # start may still hold theirs.
    EMO_MAIN_PORT=$((20000 + (SLURM_JOB_ID * 41 + RESTARTS) % 10000))
    export EMO_MAIN_ADDRESS EMO_MAIN_PORT EMO_NODES=$SLURM_JOB_NUM_NODES
    if ((SLURM_JOB_NUM_NODES > 1)); then label=(--label); fi # each line begins with its node
    srun --mpi=none --kill-on-bad-exit=1 --nodes="$SLURM_JOB_NUM_NODES" --ntasks-per-node=1 \
        --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" "${label[@]}" "${SITE_SRUN[@]}" bash slurm/step.sh "$@" &
    step=$!
    while :; do                     # a trapped signal interrupts `wait`: then wait again
        INTERRUPTED=0 code=0
        wait "$step" || code=$?
        if ((!INTERRUPTED)); then break; fi
    done
    if ((code != 0)); then decide "$code"; fi
}

# node_address NODE: the address that SLURM itself uses; the node's name may not resolve.
node_address() {
    local address
    address=$(scontrol --oneliner show node "$1" | grep -o ' NodeAddr=[^ ]*' | cut -d= -f2) || true
    echo "${address:-$1}"
}

# decide CODE: the step ended with CODE, not 0. srun reports only the largest of the nodes' exit codes,
# and kills the other nodes after the first failure, so that CODE may hide the cause. slurm/step.sh
# therefore writes each node's code to a file, unless it was killed itself. A command that was ended by
# a signal is the cause, whenever its code was written; not so 143 (SIGTERM), which srun itself may have
# sent. Otherwise the code that was written first counts.
decide() {
    local code=$1 first file end transient=0 others=0
    if ((code == SAVED)) || grep -qsx "$SAVED" "$EMO_JOB"/exit.*; then requeue "saved"; fi
    for file in "$EMO_JOB"/exit.*; do
        if [[ -s $file ]]; then end=$(<"$file"); else end=0; fi # no file: the pattern itself
        if ((end > 128 && end != 143)); then requeue "a step was killed (exit $end)"; fi
        if ((end == TRANSIENT)); then transient=1; elif ((end > 0 && end < 128)); then others=1; fi
    done
    # Ranks that lose another one end with TRANSIENT, even if that one had a real error. Then the code
    # of the real error counts, although it may have been written later.
    if ((transient && !others)); then requeue "a rank was killed, lost or late (exit $TRANSIENT)"; fi
    while IFS= read -r file; do
        first=$(<"$file")
        if [[ -n $first && $first != "$TRANSIENT" ]]; then code=$first; break; fi
    done < <(find "$EMO_JOB" -name 'exit.*' -printf '%T@ %p\n' | sort -n | cut -d' ' -f2-)
    if ((code >= 128)); then requeue "a step was killed (exit $code)"; fi
    if ! nodes_answer; then requeue "a node stopped answering (exit $code)"; fi
    record failed "exit $code"
    exit "$code"
}

# nodes_answer: whether a step can still be started on every node of the job.
nodes_answer() {
    timeout 60 srun --mpi=none --overlap --nodes="$SLURM_JOB_NUM_NODES" --ntasks-per-node=1 true
}

# requeue WHY: start this job again, if it may be; never returns.
requeue() {
    local job
    job=$(scontrol --oneliner show job "$SLURM_JOB_ID") || true
    if [[ $job == *" Restarts=$((RESTARTS + 1)) "* ]]; then
        record requeued "$1, at $(progress)" # by the scheduler: preemption, or `scontrol requeue`
        echo "not its fault" >>"$EMO_JOB/progress"
        exit "$SAVED"
    fi
    # A job that was cancelled and has not ended yet must not be requeued. One that reached its time
    # limit before it had saved is not running either, but is not cancelled: it goes on below.
    if [[ $job == *" JobState="* && $job != *" JobState=RUNNING "* && $job != *" Reason=TimeLimit "* ]]; then
        record cancelled "$1, at $(progress)"
        exit "$SAVED"
    fi
    if ! may_start $((RESTARTS + 1)); then exit 1; fi
    record requeued "$1, at $(progress)"
    # The requeue makes SLURM send a SIGTERM, perhaps before scontrol has answered. Unless scontrol
    # ignores it, that would look like a refusal.
    if ! (trap '' TERM && exec scontrol requeue "$SLURM_JOB_ID"); then
        record failed "the scheduler refused to requeue the job ($1)"
        exit 1
    fi
    exit "$SAVED"
}
