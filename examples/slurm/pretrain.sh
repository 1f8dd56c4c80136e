#!/bin/bash
#SBATCH --job-name=mae
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --gpus-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --time=04:00:00
#SBATCH --signal=USR1@300
#SBATCH --open-mode=append
# Pretrain for as many jobs as it takes: the job requeues itself until the run is finished.

srun ssl-jets pretrain --method mae --data @files.txt --size base --epochs 20 --out runs/mae --resume
code=$?
# 138 = 128 + SIGUSR1: the time is nearly over and the checkpoint is saved.
[ "$code" -eq 138 ] && scontrol requeue "$SLURM_JOB_ID"
exit "$code"
