#!/bin/bash
# Pretrain until SECONDS_PER_ATTEMPT have passed. Exit 0: finished; 85: checkpoint saved, start again.

timeout --preserve-status --signal=USR1 "${SECONDS_PER_ATTEMPT:-3000}" \
    ssl-jets pretrain --method mae --out runs/mae --resume "$@"
code=$?
# 138 = 128 + SIGUSR1: the checkpoint is saved.
[ "$code" -eq 138 ] && exit 85
exit "$code"
