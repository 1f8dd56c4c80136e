#!/bin/bash
#SBATCH --job-name=embed
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=4
#SBATCH --time=01:00:00
# Embed line number SLURM_ARRAY_TASK_ID of files.txt. Usage: sbatch --array=1-N embed_array.sh RUN [OPTIONS OF EMBED]
# A task that is submitted again continues; a finished one returns at once.
set -euo pipefail

run=$1
file=$(sed -n "${SLURM_ARRAY_TASK_ID}p" files.txt)
: "${file:?files.txt has no line $SLURM_ARRAY_TASK_ID}"
mkdir -p z
ssl-jets embed --model "$run" --data "$file" --out "z/$(basename "${file%.*}").root" --resume "${@:2}"
