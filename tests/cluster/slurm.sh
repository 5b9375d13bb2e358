#!/usr/bin/env bash
# slurm.sh up|down DIR: SLURM with two nodes on this machine, as root, all of whose files lie in DIR. `up` prints the
# SLURM_CONF to export. Needs Debian's slurm-wlm, munge, slurmdbd and mariadb-server.
set -euo pipefail
dir=$(realpath -m "$2")
export SLURM_CONF="$dir/slurm.conf"

down() {
    scancel --user="$(id -un)" 2>/dev/null || true
    sleep 1
    for file in "$dir"/slurmd.*.pid "$dir/slurmctld.pid" "$dir/slurmdbd.pid" "$dir/mariadb.pid" "$dir/munge/pid"; do
        if [ -s "$file" ]; then kill "$(cat "$file")" 2>/dev/null || true; fi
    done
}

configure() {
    local host cores
    host=$(hostname -s) cores=$(nproc)
    cat > "$SLURM_CONF" <<CONF
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=26817
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$dir/munge/socket
CryptoType=crypto/munge
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool.%n
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd.%n.pid
SlurmctldLogFile=$dir/log/slurmctld.log
SlurmdLogFile=$dir/log/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort=26819
AccountingStoragePass=$dir/munge/socket
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=2
ReturnToService=2
MpiDefault=none
SwitchType=switch/none
JobRequeue=1
KillWait=5
NodeName=n1 NodeHostname=$host NodeAddr=127.0.0.1 Port=26821 CPUs=$cores RealMemory=2000 State=UNKNOWN
NodeName=n2 NodeHostname=$host NodeAddr=127.0.0.1 Port=26822 CPUs=$cores RealMemory=2000 State=UNKNOWN
PartitionName=main Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
PartitionName=short Nodes=n1,n2 MaxTime=1 State=UP
CONF
    cat > "$dir/slurmdbd.conf" <<CONF
AuthType=auth/munge
AuthInfo=socket=$dir/munge/socket
DbdHost=$host
DbdAddr=127.0.0.1
DbdPort=26819
SlurmUser=root
LogFile=$dir/log/slurmdbd.log
PidFile=$dir/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageUser=root
StorageLoc=slurm_acct
CONF
    chmod 600 "$dir/slurmdbd.conf"
}

database() {
    mariadb-install-db --no-defaults --datadir="$dir/sql" --user=root --skip-test-db \
        --auth-root-authentication-method=normal > "$dir/log/sql_install.log" 2>&1
    setsid mariadbd --no-defaults --datadir="$dir/sql" --socket="$dir/sql.socket" --pid-file="$dir/mariadb.pid" \
        --skip-networking --user=root --innodb-buffer-pool-size=32M --innodb-lock-wait-timeout=900 \
        > "$dir/log/sql.log" 2>&1 &
    until_it_works mariadb --no-defaults -uroot -S "$dir/sql.socket" -e 'select 1'
}

until_it_works() {
    for _ in $(seq 60); do
        if "$@" > /dev/null 2>&1; then return; fi
        sleep 0.5
    done
    echo "does not answer: $*" >&2
    exit 1
}

both_idle() { [ "$(sinfo -h -o %D -t idle -p main)" = 2 ]; }

up() {
    mkdir -p "$dir"/{state,spool.n1,spool.n2,log,munge,sql}
    chmod 0711 "$dir" "$dir/munge"
    head -c 1024 /dev/urandom > "$dir/munge/key"
    chmod 0400 "$dir/munge/key"
    munged --key-file="$dir/munge/key" --socket="$dir/munge/socket" --pid-file="$dir/munge/pid" \
        --log-file="$dir/munge/log" --seed-file="$dir/munge/seed" --force
    configure
    database
    MYSQL_UNIX_PORT="$dir/sql.socket" slurmdbd
    until_it_works sacctmgr -n show cluster
    sacctmgr -i add cluster test > /dev/null 2>&1 || true
    slurmctld -c
    slurmd -N n1
    slurmd -N n2
    until_it_works both_idle
    echo "$SLURM_CONF"
}

"$1"
