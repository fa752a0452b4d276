#!/bin/bash
# A Ray cluster in a Slurm allocation, and a suite on it: sbatch --nodes 4 --ntasks-per-node 1 --gpus-per-node 8 docs/slurm-ray.sh SUITE STORE
# The store is a folder that all nodes see. If the allocation ends first, submit it again: the run continues.
set -euo pipefail
suite=$1 store=$2
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
srun --nodes=1 --ntasks=1 -w "$head" ray start --head --port=6379 --block &
sleep 15
if [ "$SLURM_NNODES" -gt 1 ]; then
    others=$((SLURM_NNODES - 1))
    srun --nodes="$others" --ntasks="$others" -x "$head" ray start --address="$head:6379" --block &
    sleep 15
fi
RAY_ADDRESS="$head:6379" harness run --suite "$suite" --store "$store" --executor ray --device cuda --gpus-per-unit 0.25
