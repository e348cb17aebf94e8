"""A Slurm of two nodes on this machine, in one directory, isolated by namespaces."""

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

START = r"""
cd "$1" && D=$PWD HOST=$(hostname -s) && chmod 755 . && mkdir -p state spool.n1 spool.n2
(umask 077; head -c 1024 /dev/urandom >munge.key)
printf '127.0.0.1 localhost %s n1 n2\n' "$HOST" >hosts
for i in 0 1 2 3; do mknod gpu$i c 1 3; done  # copies of /dev/null
printf 'NodeName=n%s Name=gpu File=%s/gpu[%s]\n' 1 "$D" 0-1 2 "$D" 2-3 >gres.conf
cat >slurm.conf <<CONF
ClusterName=test
SlurmctldHost=$HOST(127.0.0.1)
SlurmctldPort=$2
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$D/munge.socket,cred_expire=5
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
StateSaveLocation=$D/state
SlurmctldPidFile=$D/slurmctld.pid
SlurmctldLogFile=$D/slurmctld.log
SlurmdSpoolDir=$D/spool.%n
SlurmdPidFile=$D/slurmd.%n.pid
SlurmdLogFile=$D/slurmd.%n.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=bf_interval=1,sched_interval=1,batch_sched_delay=0
SlurmdTimeout=10
KillWait=10
GresTypes=gpu
NodeName=n[1-2] NodeHostname=$HOST NodeAddr=127.0.0.1 Port=$(($2 + 1))-$(($2 + 2)) CPUs=4 RealMemory=8000 Gres=gpu:2
PartitionName=main Nodes=n[1-2] Default=YES MaxTime=INFINITE
CONF
exec unshare --mount --pid --fork --kill-child --mount-proc bash -c '
mount --bind hosts /etc/hosts
munged --foreground --key-file=$0/munge.key --socket=$0/munge.socket --pid-file=$0/munged.pid \
  --log-file=$0/munged.log --seed-file=$0/munge.seed &
until [ -S munge.socket ]; do sleep 0.02; done
slurmctld -D -c -f $0/slurm.conf & slurmd -D -f $0/slurm.conf -N n1 & slurmd -D -f $0/slurm.conf -N n2 & wait' "$D"
"""
STARTS_WITHIN_SECONDS = 60


def why_not():
    """Why no cluster can be started here; empty if one can."""
    if missing := [name for name in ("sbatch", "slurmctld", "slurmd", "munged") if not shutil.which(name)]:
        return f"{', '.join(missing)} missing (apt-get install --no-install-recommends slurm-wlm munge)"
    if os.getuid() != 0:
        return "Slurm's daemons need root here"
    isolated = ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "true"]
    if subprocess.run(isolated, capture_output=True).returncode:
        return "namespaces are not permitted here (unshare --mount --pid)"
    return ""


def free_ports(count):
    """The first of so many neighbouring ports that nothing uses."""
    for first in range(20_000 + os.getpid() % 5_000, 60_000, count):
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            for port in range(first, first + count):
                stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
            return first
    raise OSError("no neighbouring free ports")


class Cluster:
    """A running Slurm; `environment` makes its commands reach it."""

    def __init__(self, folder: Path, process: subprocess.Popen) -> None:
        self.folder, self.process = folder, process
        self.environment = {"SLURM_CONF": str(folder / "slurm.conf")}

    def output(self, *command: str) -> str:
        """What one of Slurm's commands prints."""
        environment = os.environ | self.environment
        return subprocess.run(command, env=environment, capture_output=True, text=True).stdout

    def wait_for(self, condition, what, seconds=180):
        """Until the condition holds, and its value."""
        end = time.monotonic() + seconds
        while not (value := condition()):
            assert self.process.poll() is None, f"Slurm has ended: {(self.folder / 'daemons.log').read_text()[-2000:]}"
            assert time.monotonic() < end, f"{what} did not come within {seconds} seconds"
            time.sleep(0.2)
        return value

    def processes(self, program: str, *arguments: str) -> list[int]:
        """Returns the ids of this cluster's processes of a program with these arguments."""
        found = []
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):  # no process, or an ended one
                line = (entry / "cmdline").read_text(errors="replace").rstrip("\0").split("\0")
                ours = str(self.folder) in (entry / "environ").read_text(errors="replace") + " ".join(line)
                if Path(line[0].rstrip(":")).name == program and {*arguments} <= {*line} and ours:
                    found.append(int(entry.name))
        return found


@contextlib.contextmanager
def running():
    """A cluster in a new folder; the test is skipped where none can be started."""
    if reason := why_not():
        pytest.skip(reason)
    # Not in pytest's folders: munged wants to be reached by everyone.
    with tempfile.TemporaryDirectory(prefix="deepconv-slurm-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        command = ["bash", "-c", START, "bash", name, str(free_ports(3))]
        with (folder / "daemons.log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
            try:
                cluster = Cluster(folder, process)
                cluster.wait_for(lambda: (folder / "slurmctld.pid").exists(), "slurmctld", STARTS_WITHIN_SECONDS)
                idle = ["timeout", "5", "sinfo", "-h", "-N", "-t", "idle"]
                cluster.wait_for(lambda: len(cluster.output(*idle).splitlines()) == 2, "nodes", STARTS_WITHIN_SECONDS)
                yield cluster
            finally:
                process.kill()  # and with it all daemons, steps and jobs
