#!/usr/bin/env bash
# Every test but the long sweeps, in two halves side by side: most of the time goes by in waiting,
# for processes to start, for a scheduler, for a compiler. Options go to both (tests/run.sh -x).
# The first half is shown as it runs, the second when both have ended; what failed comes last.
# Exits with the first exit code that is not 0, a half without any test (5) included.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

second=(tests/shards tests/slurm tests/benchmarks tests/launch)
first=(tests "${second[@]/#/--ignore=}")
options=(-m "not torture" --durations=10 -rfEs "$@")
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} # two halves, two cores
[[ -t 1 ]] && options=(--color=yes "${options[@]}")

folder=$(mktemp -d -t emo-tests.XXXXXX)
mark=EMO_TESTS=$folder # in the environment of all that the tests start, so that it can be found
halves=()

start() { # half, words of pytest
  # Its own session: Ctrl-C reaches it once, from `stop`; a second one would break its tidying up.
  # A shell starts what runs in its background deaf to Ctrl-C, hence --default-signal.
  : >"$folder/$1" # now: the shell in the background may open it after `tail` has looked for it
  setsid env --default-signal=INT "$mark" python -m pytest "${@:2}" "${options[@]}" \
    >"$folder/$1" 2>&1 &
  halves+=($!)
}

marked() { # the processes that the tests have started, and themselves
  { grep -lzxF -- "$mark" /proc/[0-9]*/environ 2>/dev/null || true; } | cut -d/ -f3
}

stop() { # as Ctrl-C does: the tests end what they have started, and get half a minute for it
  local half second
  for half in "${halves[@]}"; do kill -INT -- "-$half" 2>/dev/null || true; done
  for ((second = 0; second < 30; second++)); do
    kill -0 "${halves[@]}" 2>/dev/null || break # ends when none is left
    sleep 1
  done
  # What watches over a test's processes ends after the tests do: the SLURM cluster's keeper.
  for ((second = 0; second < 3; second++)); do
    [[ -n $(marked) ]] || break
    sleep 1
  done
}

# shellcheck disable=SC2317,SC2329 # the trap calls it
tidy() {
  local left
  # What is left now was not ended by its test: a few rounds, since it may be starting more.
  for _ in 1 2 3; do
    left=$(marked)
    # shellcheck disable=SC2086 # one word a process
    [[ -z $left ]] || kill -KILL $left 2>/dev/null || true
  done
  [[ -z ${shown-} ]] || kill "$shown" 2>/dev/null || true
  rm -rf "$folder"
}
trap tidy EXIT
trap 'trap "" INT TERM HUP; stop; echo; echo "the tests were stopped"; exit 130' INT TERM HUP

start first "${first[@]}"
start second -p no:cacheprovider "${second[@]}"
tail -n +1 -f --pid="${halves[0]}" "$folder/first" &
shown=$!

if [[ " $* " == *" -x "* ]]; then # the first failure of either half ends both
  for _ in "${halves[@]}" "$shown"; do wait -n || { stop && break; }; done
fi
codes=(0 0)
for n in 0 1; do wait "${halves[n]}" || codes[n]=$?; done
wait "$shown" || true

printf '\n== %s\n' "${second[*]}"
cat "$folder/second"
names=(first second) code=0
for n in 0 1; do
  if ((codes[n])); then
    printf '\n== the %s half failed, exit code %s\n' "${names[n]}" "${codes[n]}"
    # From pytest's summary on; where it has none, it never came to one, and its last lines say why.
    grep -A 1000 'short test summary' "$folder/${names[n]}" || tail -n 15 "$folder/${names[n]}"
    code=$((code ? code : codes[n]))
  fi
done
exit "$code"
