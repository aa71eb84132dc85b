#!/bin/bash
#SBATCH --job-name=assay
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
#SBATCH --gpus-per-node=8
#SBATCH --mem=0
#SBATCH --time=04:00:00
#SBATCH --signal=B:USR1@180
#SBATCH --output=assay-%j.log

# The suite over the nodes of a Slurm allocation; its results folder is left where this was submitted.
#
#   sbatch --nodes=4 bench/cloud/slurm.sh -m agents --profile node
#   sbatch --gpus-per-node=0 bench/cloud/slurm.sh -m cascade --profile replay
#
# What follows the script's name goes to pytest. Options of sbatch come before it and win over the lines above.
#
#   ASSAY_VENV      an environment that every node sees, with this project's extras (default: .venv, if there)
#   ASSAY_RESULTS   where runs go (default: results), on a disk that this node sees
#   ASSAY_PORT      of Ray's head (default: drawn from the job's id, so that two jobs may share a node)
#   ASSAY_WAIT_S    for each node to come up (default: 300)
#   ASSAY_HEAD_IP   of the first node, where the one that is found is not the one that the others reach
#   ASSAY_NODE      if set, `python -m bench.node`, which chooses models and weights, runs in pytest's place
#
# One `srun` per node starts Ray in the foreground, so that Slurm ends it with the job whatever happens; the
# suite runs on the first node, and brings home what every node finds. A node that is lost costs what it ran.
# Three minutes before the time limit the suite is interrupted: what was measured is judged, and has its page.

set -euo pipefail

cd "${SLURM_SUBMIT_DIR:-.}"
if [[ ! -f pyproject.toml || ! -d bench ]]; then
    echo "slurm.sh: $PWD is not the project's folder; submit from there" >&2
    exit 2
fi
if [[ -z "${SLURM_JOB_NODELIST:-}" ]]; then
    echo "slurm.sh: no Slurm job; submit it: sbatch bench/cloud/slurm.sh" >&2
    exit 2
fi

venv="${ASSAY_VENV:-.venv}"
if [[ -f "$venv/bin/activate" ]]; then
    # shellcheck disable=SC1091
    source "$venv/bin/activate"
elif [[ -n "${ASSAY_VENV:-}" ]]; then
    echo "slurm.sh: ASSAY_VENV=$ASSAY_VENV holds no bin/activate" >&2
    exit 2
fi
if ! python -c 'import ray' 2>/dev/null; then
    echo "slurm.sh: ray is missing in $(command -v python); run: pip install -e '.[all]'" >&2
    exit 2
fi

wait_s="${ASSAY_WAIT_S:-300}"
port="${ASSAY_PORT:-$((20000 + SLURM_JOB_ID % 20000))}"
results="${ASSAY_RESULTS:-results}"
export RAY_USAGE_STATS_ENABLED=0

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
head="${nodes[0]}"
# The first IPv4 address that others reach: Debian gives a machine's own name a loopback address, which is left
# to a job of one node without another.
head_ip="${ASSAY_HEAD_IP:-}"
if [[ -z "$head_ip" ]]; then
    read -ra found < <(srun --overlap --nodes=1 --ntasks=1 --nodelist="$head" \
        bash -c 'echo $(hostname --ip-address) $(hostname --all-ip-addresses)') || true
    for ip in ${found[@]+"${found[@]}"}; do
        if [[ "$ip" =~ ^[0-9]+(\.[0-9]+){3}$ && "$ip" != 127.* ]]; then
            head_ip="$ip"
            break
        fi
    done
fi
if [[ -z "$head_ip" ]] && ((${#nodes[@]} > 1)); then
    echo "slurm.sh: $head has no address that others reach (${found[*]-none}); see: hostname -I, and give ASSAY_HEAD_IP" >&2
    exit 1
fi
address="${head_ip:=127.0.0.1}:$port"

# Sockets need a short path, and nodes that share /tmp a folder each.
folder() { echo "/tmp/assay-$SLURM_JOB_ID-$1"; }

steps=()
suite=""
is_interrupted=""
is_woken=yes
start() {
    local node="$1" place="$2"
    shift 2
    # Without --cpu-bind=none a task of one is bound to one core, and all that Ray starts with it.
    srun --overlap --nodes=1 --ntasks=1 --nodelist="$node" --cpu-bind=none \
        ray start --block --disable-usage-stats --temp-dir="$(folder "$place")" \
        --num-cpus="${SLURM_CPUS_ON_NODE:-$(nproc)}" "$@" &
    steps+=("$!")
}

finish() {
    local status=$?
    trap - EXIT
    # Heard, so that none of them ends this too early, and not ignored, which a child would inherit.
    trap : INT TERM USR1
    if [[ -n "$suite" ]]; then
        [[ -n "$is_interrupted" ]] || kill -INT -- "-$suite" 2>/dev/null || true
        while kill -0 "$suite" 2>/dev/null; do
            wait "$suite" || true
        done
    fi
    for step in ${steps[@]+"${steps[@]}"}; do
        kill "$step" 2>/dev/null || true
    done
    wait || true
    for place in "${!nodes[@]}"; do
        srun --overlap --nodes=1 --ntasks=1 --nodelist="${nodes[$place]}" \
            rm -rf "$(folder "$place")" 2>/dev/null || true
    done
    exit "$status"
}
trap finish EXIT
trap 'exit 143' INT TERM
# Once: a second interrupt would end the judging.
interrupt() {
    is_woken=yes
    [[ -n "$suite" ]] || exit 143
    [[ -z "$is_interrupted" ]] || return 0
    is_interrupted=yes
    echo "slurm.sh: the time limit is near; what was measured is judged. Continue with --resume"
    kill -INT -- "-$suite" 2>/dev/null || true
}
trap interrupt USR1

start "$head" 0 --head --node-ip-address="$head_ip" --port="$port" --include-dashboard=false
for place in "${!nodes[@]}"; do
    if ((place > 0)); then
        start "${nodes[$place]}" "$place" --address="$address"
    fi
done

# A worker that comes before the head tries again by itself; the suite has to see all of them.
if ! python -m harness.clusters.wait "$address" "${#nodes[@]}" "$wait_s"; then
    exit 1
fi

command=(pytest bench/)
if [[ -n "${ASSAY_NODE:-}" ]]; then
    command=(bench.node)
fi
# Beside this shell, which hears of no signal while it runs a program, and in a group of its own, since what a
# script starts in the background is otherwise deaf to interrupts.
set -m
python -m "${command[@]}" --ray-address "$address" --results-dir "$results" "$@" &
suite=$!
set +m
while [[ -n "$is_woken" ]]; do # by a signal, which ends a wait before the suite does
    is_woken=""
    status=0
    wait "$suite" || status=$?
done
suite=""
echo "slurm.sh: ${command[0]} ended with status $status; results in $results"
exit "$status"
