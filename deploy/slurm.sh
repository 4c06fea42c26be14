#!/bin/bash
# 16 ranks on two nodes, 8 processors each: sbatch deploy/slurm.sh WORKLOAD
#SBATCH --job-name=dlrm-bench
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --signal=TERM@120
set -euo pipefail
workload=${1:?name a workload file, or one that dlrm-bench workloads lists}
# Ranks bind their threads themselves. --mpi is the one that the cluster's MPI was built for: pmix or pmi2.
exec srun --mpi=pmix --cpu-bind=none dlrm-bench run "$workload" --ranks "$SLURM_NTASKS" --threads "$SLURM_CPUS_PER_TASK"
