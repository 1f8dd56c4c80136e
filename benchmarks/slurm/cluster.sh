#!/bin/bash
# A SLURM of one machine for tests: `cluster.sh up DIR` starts munged, slurmctld and two slurmd (nodes n1, n2) with all
# state under DIR, `cluster.sh down DIR` stops them by their process ids. Needs root, slurm-wlm and munge (Debian).
set -euo pipefail

action=$1
dir=$(realpath -m "$2")

up() {
    mkdir -p "$dir"/{state,spool1,spool2,munge}
    chmod 755 "$dir"
    cores=$(nproc)
    [ "$cores" -ge 2 ] || cores=2
    cat > "$dir/slurm.conf" <<CONF
ClusterName=loopback
SlurmctldHost=$(hostname)(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$dir/munge/munge.socket
CryptoType=crypto/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
ReturnToService=2
SlurmdParameters=config_overrides
JobRequeue=1
KillWait=30
MinJobAge=86400
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool%n
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd.%n.pid
SlurmctldLogFile=$dir/slurmctld.log
SlurmdLogFile=$dir/slurmd.%n.log
SlurmctldPort=16817
NodeName=n1 NodeAddr=127.0.0.1 NodeHostname=$(hostname) Port=16818 Sockets=1 CoresPerSocket=$cores ThreadsPerCore=1 State=UNKNOWN
NodeName=n2 NodeAddr=127.0.0.1 NodeHostname=$(hostname) Port=16819 Sockets=1 CoresPerSocket=$cores ThreadsPerCore=1 State=UNKNOWN
PartitionName=all Nodes=n1,n2 Default=YES MaxTime=UNLIMITED OverSubscribe=FORCE:4 State=UP
CONF
    mkdir -p "$dir/spooln1" "$dir/spooln2"
    [ -f "$dir/munge/key" ] || dd if=/dev/urandom of="$dir/munge/key" bs=64 count=1 status=none
    chmod 600 "$dir/munge/key"
    munged --force --key-file="$dir/munge/key" --socket="$dir/munge/munge.socket" --pid-file="$dir/munge/pid" \
        --log-file="$dir/munge/log" --seed-file="$dir/munge/seed"
    slurmctld -c -f "$dir/slurm.conf"
    slurmd -c -N n1 -f "$dir/slurm.conf"
    slurmd -c -N n2 -f "$dir/slurm.conf"
    for _ in $(seq 30); do
        if SLURM_CONF="$dir/slurm.conf" sinfo -h -o '%T' 2> /dev/null | grep -q idle; then
            echo "export SLURM_CONF=$dir/slurm.conf"
            return
        fi
        sleep 1
    done
    echo "the nodes did not come up: see $dir/*.log" >&2
    return 1
}

down() {
    for file in "$dir"/slurmd.n*.pid "$dir/slurmctld.pid" "$dir/munge/pid"; do
        [ -f "$file" ] && kill "$(cat "$file")" 2> /dev/null || true
    done
}

"$action"
