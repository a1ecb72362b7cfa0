set -euo pipefail
NODES=${NODES:-1}
GPUS=8
export OMP_NUM_THREADS=4
export NCCL_DEBUG=WARN

accelerate launch \
    --num_machines "$NODES" \
    --num_processes "$((NODES * GPUS))" \
    --machine_rank "${RANK:-0}" \
    train.py \
    --precision bf16 \
    "$@"
