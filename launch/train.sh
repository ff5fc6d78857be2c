#!/usr/bin/env bash
# Train one experiment through `accelerate launch`.
#
#   launch/train.sh STRATEGY CONFIG [key=value ...] [--dry-run]
#
# STRATEGY   cpu, gpu (DDP), zero1, zero2, zero3 (DeepSpeed) or fsdp (FSDP2)
# --dry-run  print the command and run nothing
#
# Environment, for machines that differ from the default of one node with all its GPUs (or two CPU
# processes where there is none):
#   EMO_PROCESSES     processes on each node
#   EMO_NODES         number of nodes (1); then also EMO_NODE_RANK, EMO_MAIN_ADDRESS, EMO_MAIN_PORT
#   EMO_GRACE         seconds a preempted run has to save before it is killed (120)
#
# Exit code: 0 trained to the end; 75 stopped early with a checkpoint (run again with resume=auto);
# 143 or 130 (Ctrl-C) stopped before it could save one: an older checkpoint may be there; 76 a process
# was killed, lost or late, or a GPU failed (run again with resume=auto); 2 something the user can
# mend; 1 any other failure.
set -euo pipefail

usage() { sed -n '2,19s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; }
fail() { echo "error: $1" >&2; exit 2; }

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd) # launch/ of a checkout, or emo/launch in a wheel
[[ ${1:-} == -h || ${1:-} == --help ]] && { usage; exit 0; }
[[ $# -ge 2 ]] || { usage >&2; exit 2; }
strategy=$1 config=$2
shift 2
[[ $strategy =~ ^(cpu|gpu|zero1|zero2|zero3|fsdp)$ ]] ||
  fail "unknown strategy '$strategy': use cpu, gpu, zero1, zero2, zero3 or fsdp"
[[ -f $config ]] || fail "there is no configuration $config"

dry_run=false overrides=()
for argument in "$@"; do
  if [[ $argument == --dry-run ]]; then dry_run=true; else overrides+=("$argument"); fi
done

# The programs of the environment that this file belongs to: the checkout's, or the one whose
# lib/pythonX.Y/site-packages the package is installed in.
bin=$here/../.venv/bin
if [[ $here == */site-packages/emo/launch ]]; then bin=$here/../../../../../bin; fi
if [[ -x $bin/accelerate ]]; then PATH=$(cd "$bin" && pwd):$PATH; fi
export PATH
command -v accelerate >/dev/null ||
  fail "accelerate is not installed: run 'make venv' first, or activate the environment that has it"

count_gpus() { # as CUDA does: the list is read up to the first entry that names no device
  local entry count=0
  local -a entries
  if [[ -n ${CUDA_VISIBLE_DEVICES+set} ]]; then
    IFS=, read -ra entries <<<"$CUDA_VISIBLE_DEVICES"
    for entry in "${entries[@]}"; do
      case ${entry// /} in
        MIG-*) # a process sees one slice of a GPU, however many are listed
          count=$((count > 0 ? count : 1))
          break
          ;;
        GPU-?*) ;;
        *[!0-9]* | '') break ;; # -1, NoDevFiles
      esac
      count=$((count + 1))
    done
    echo "$count"
  elif command -v nvidia-smi >/dev/null; then
    # One that fails, "No devices were found", slices of a GPU: none of it counts.
    { nvidia-smi -L 2>/dev/null || true; } | grep -c '^GPU ' || true
  else
    ask_driver || echo 0
  fi
}
ask_driver() { # a container may have GPUs and no nvidia-smi; asking torch would take seconds
  python - 2>/dev/null <<'END'
import ctypes
cuda, count = ctypes.CDLL("libcuda.so.1"), ctypes.c_int()
assert cuda.cuInit(0) == 0 and cuda.cuDeviceGetCount(ctypes.byref(count)) == 0
print(count.value)
END
}
gpus=0
if [[ $strategy != cpu ]]; then gpus=$(count_gpus); fi
if ((gpus == 0)); then
  on_cpu=true processes=${EMO_PROCESSES:-2}
else
  on_cpu=false processes=${EMO_PROCESSES:-$gpus}
fi
nodes=${EMO_NODES:-1}

settings=() # EMO_DEVICE: each rank checks that this is what it has
if $on_cpu; then
  settings+=(EMO_DEVICE=cpu)
  # ZeRO on the CPU must not be told of the CPU by accelerate: it would become plain DDP.
  if [[ $strategy == zero* ]]; then settings+=(DS_ACCELERATOR=cpu); else settings+=(ACCELERATE_USE_CPU=true); fi
else
  settings+=(EMO_DEVICE=gpu)
fi
offload() { # DeepSpeed's Adam for offloaded states works on the CPU, in OpenMP's threads
  [[ " ${overrides[*]} " == *" runtime.offload=true "* ]] || grep -qE '^ +offload: *true' "$config"
}
if $on_cpu || offload; then # otherwise the launcher gives a rank on a GPU one thread
  threads=$(($(nproc) / processes))
  settings+=("OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((threads > 0 ? threads : 1))}")
fi

command=(
  accelerate launch --config_file "$here/accelerate/$strategy.yaml"
  --num_machines "$nodes" --num_processes $((nodes * processes))
)
if [[ $strategy == zero* ]]; then
  command+=(--deepspeed_config_file "$here/deepspeed/$strategy.json")
fi
# Each rank on the cores beside its GPU. Numbers of GPUs are the machine's there, not those of
# CUDA_VISIBLE_DEVICES, and SLURM binds by itself.
if ! $on_cpu && [[ -z ${CUDA_VISIBLE_DEVICES+set}${SLURM_JOB_ID:-} ]] &&
  python -c 'import pynvml' 2>/dev/null; then
  command+=(--enable_cpu_affinity)
fi
if ((nodes > 1)); then
  command+=(
    --machine_rank "${EMO_NODE_RANK:?set EMO_NODE_RANK, 0 to EMO_NODES - 1}"
    --main_process_ip "${EMO_MAIN_ADDRESS:?set EMO_MAIN_ADDRESS to the first node}"
    --main_process_port "${EMO_MAIN_PORT:?set EMO_MAIN_PORT to a free port of the first node}"
  )
else
  command+=(--main_process_port "${EMO_MAIN_PORT:-0}") # 0: any free port
fi
command+=(
  -m emo train "$config" "runtime.strategy=$strategy" "runtime.processes=$((nodes * processes))"
  "${overrides[@]}"
)

if $dry_run; then
  echo "env ${settings[*]} ${command[*]}"
  exit 0
fi

# multiprocessing makes sockets in TMPDIR, and the whole path of a socket may have 107 characters.
temporary=${TMPDIR:-/tmp}
if ((${#temporary} > 70)); then
  echo "TMPDIR is too long for sockets (${#temporary} characters, at most 70): /tmp is used" >&2
  export TMPDIR=/tmp
fi

# The first rank to fail writes its exit code here, because `accelerate launch` turns every code into 1.
word=$(mktemp -d -t emo-exit.XXXXXX)
export EMO_EXIT_FILE=$word/code
trap 'rm -rf "$word"' EXIT

# `set -m` gives the launcher a process group of its own: it can be killed with all of its ranks, and
# a Ctrl-C in the terminal reaches this script only, which then tells the ranks.
set -m
env "${settings[@]}" python "$here/accelerate_launch.py" "${command[@]:2}" </dev/null &
launcher=$!
set +m

end_all() { kill -KILL -- "-$launcher" 2>/dev/null || true; }
# shellcheck disable=SC2329 # called by forward
tell_ranks() { # SIGTERM to the launcher's children, without pkill, which an image may lack
  local stat pid parent
  for stat in /proc/[0-9]*/stat; do
    # "pid (name) state parent ...": cut at the last bracket, since the name may hold spaces and brackets
    { read -r stat <"$stat"; } 2>/dev/null || continue
    pid=${stat%% *}
    read -r _ parent _ <<<"${stat##*) }"
    if [[ $parent == "$launcher" ]]; then kill -TERM "$pid" || true; fi
  done
}
# shellcheck disable=SC2329 # called by the traps
forward() { # pass a signal on to the ranks only: the launcher would kill them after 30 s
  if [[ -n $stopped_by ]]; then # Ctrl-C twice means now; SLURM sends SIGTERM twice and means the same
    [[ $1 != INT ]] || end_all
    return 0 # a bare `return` would pass on the status of the interrupted `wait`; `set -e` then exits
  fi
  stopped_by=$1 # before anything else: the next signal may come while this one is handled
  echo "stopping: the run saves a checkpoint first (Ctrl-C once more to kill it)" >&2
  trap '' TERM # inherited by the guard: SLURM's second SIGTERM goes to every process
  { # once a second, because ranks may not have been started yet
    for ((second = 0; second < ${EMO_GRACE:-120}; second++)); do
      tell_ranks
      sleep 1
    done
    end_all
  } >/dev/null 2>&1 &
  guard=$!
  disown "$guard" # else bash would print a message when it is killed
  trap 'forward TERM' TERM
}
guard='' stopped_by=''
for name in TERM USR1 USR2 INT; do
  # shellcheck disable=SC2064 # to be expanded now, not when the signal comes
  trap "forward $name" "$name"
done

code=0
while :; do
  wait "$launcher" && code=0 || code=$?
  kill -0 "$launcher" 2>/dev/null || break # still there: a trapped signal has interrupted `wait`
done
[[ -z $guard ]] || kill -KILL -- "$guard" 2>/dev/null || true
end_all # a rank that outlived its launcher

if [[ -s $EMO_EXIT_FILE ]]; then
  code=$(<"$EMO_EXIT_FILE")
elif [[ -n $stopped_by && $code -ne 0 ]]; then # nothing was saved: it was starting, or hung
  if [[ $stopped_by == INT ]]; then code=130; else code=143; fi
fi
exit "$code"
