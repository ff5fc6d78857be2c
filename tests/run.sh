#!/usr/bin/env bash
# Every test but the long sweeps, in two halves side by side: most of the time goes by in waiting,
# for processes to start, for a scheduler, for a compiler. Options go to both (tests/run.sh -x).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

other_half=(tests/shards tests/slurm tests/benchmarks)
options=(-m "not torture" --durations=10 "$@")
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} # two halves, two cores

said=$(mktemp -t emo-tests.XXXXXX)
python -m pytest -p no:cacheprovider "${options[@]}" "${other_half[@]}" >"$said" 2>&1 &
other=$!
trap 'kill "$other" 2>/dev/null || true; rm -f "$said"' EXIT

code=0 other_code=0
python -m pytest "${options[@]}" tests "${other_half[@]/#/--ignore=}" || code=$?
wait "$other" || other_code=$?
printf '\n== %s\n' "${other_half[*]}"
cat "$said"
exit $((code ? code : other_code))
