# shellcheck shell=bash disable=SC2034  # the variables are read by the scripts that source this
# The only file a site edits. Empty means: the cluster's own default.
# Another file can stand in for it, and change a few lines only: let it begin with
# `source slurm/site.sh`, and run EMO_SITE=/path/to/mine.sh slurm/submit.sh ...

# --- where jobs go
SITE_PARTITION=""                   # sbatch --partition; `sinfo` lists them
SITE_ACCOUNT=""                     # sbatch --account, where the cluster bills projects
SITE_SBATCH=()                      # any other sbatch options, e.g. (--qos=long --constraint=a100)
SITE_SRUN=()                        # any other srun options, e.g. (--container-image=emo.sqsh)

# --- what a node of a training job gets
SITE_GPUS_PER_NODE=0                # how many; 0 trains on the CPU
SITE_GPU_OPTION=""                  # how sbatch is asked, e.g. --gres=gpu:a100:4; empty: --gpus-per-node
SITE_PROCESSES_PER_NODE=""          # ranks a node; empty: one a GPU, or one where there is none
SITE_CPUS_TRAIN=""                  # cores a node for training; empty: 8 a GPU, or 4 where there is none
SITE_CPUS_PREPROCESS=4              # cores an array task for preprocessing
SITE_MEMORY=""                      # sbatch --mem, memory a node, e.g. 64G

# --- how long, and what happens at the end of it
SITE_TIME_PREPROCESS=""             # sbatch --time for an array task, e.g. 02:00:00
SITE_TIME_TRAIN=""                  # for a training; one that needs longer saves, requeues, goes on
SITE_TIME_EVALUATE=""               # for merge and evaluation
SITE_SIGNAL="USR1@120"              # warn this many seconds before the limit: longer than one save
SITE_MAX_RESTARTS=50                # a job that was started this often again gives up
SITE_MAX_STALLS=3                   # so does one after this many starts without a new checkpoint

# --- where files go
SITE_RUNS="runs"                    # run folders, logs, job records: on a filesystem all nodes share
SITE_SCRATCH=""                     # TMPDIR of every process: fast and local, e.g. "/local/$USER"

# --- what runs before our programs, on every node; a failing line ends the job
site_activate() {
    # module load gcc cuda          # modules: a C++ compiler is needed for some DeepSpeed settings
    # source ~/miniforge3/bin/activate emo                       # conda, instead of the next line
    # shellcheck source=/dev/null # it need not be there
    if [[ -f .venv/bin/activate ]]; then source .venv/bin/activate; fi # what `make venv` has built
    # export NCCL_SOCKET_IFNAME=ib0 # the network between nodes, if NCCL picks the wrong one
    # export NCCL_IB_HCA=mlx5       # the InfiniBand cards it may use
    # export NCCL_DEBUG=INFO        # what NCCL decides, for the first run on a new cluster
    # export GLOO_SOCKET_IFNAME=ib0 # the same for the messages between the ranks' CPUs
    # export HF_HUB_OFFLINE=1       # nodes without internet: encoders from the cache or a folder
}
SITE_RUN_IN=()                      # a container, e.g. (apptainer exec --nv --bind /data emo.sif)
