#!/usr/bin/env bash
# Two "hosts" on one machine: ranks in two network namespaces that a link of a chosen speed joins, started by Open MPI without ssh.
# Wants root, iproute2, and Open MPI's mpirun in PATH. Leaves nothing behind.
#
#   scripts/two-hosts.sh [--rate 1gbit] RANKS_A RANKS_B PROGRAM [ARGUMENT...]
#   scripts/two-hosts.sh --rate 1gbit 1 1 target/release/dlrm-bench run quickstart --steps 50
set -euo pipefail

rate=
if [ "${1:-}" = --rate ]; then rate=$2; shift 2; fi
[ $# -ge 3 ] || { sed -n '2,6s/^# \{0,1\}//p' "$0" >&2; exit 64; }
ranks_a=$1 ranks_b=$2; shift 2
for tool in ip mpirun unshare; do command -v $tool >/dev/null || { echo "$tool is missing" >&2; exit 69; }; done

a=dbra$$ b=dbrb$$ work=$(mktemp -d)
trap 'ip netns del $a 2>/dev/null || true; ip netns del $b 2>/dev/null || true; rm -rf "$work"' EXIT
ip netns add $a
ip netns add $b
ip link add dbva$$ netns $a type veth peer name dbvb$$ netns $b
ip -n $a addr add 10.77.0.1/24 dev dbva$$
ip -n $b addr add 10.77.0.2/24 dev dbvb$$
for end in "$a dbva$$" "$b dbvb$$"; do
    # shellcheck disable=SC2086 # two words
    set -- $end "$@"
    ip -n "$1" link set lo up
    ip -n "$1" link set "$2" up
    # netem is not in every kernel; a token bucket holds the rate.
    [ -z "$rate" ] || tc -n "$1" qdisc add dev "$2" root tbf rate "$rate" burst 256kb latency 50ms
    shift 2
done

# What mpirun calls in place of ssh: HOST COMMAND...
cat > "$work/enter" <<EOF
#!/bin/bash
host=\$1; shift
case \$host in 10.77.0.1) space=$a ;; 10.77.0.2) space=$b ;; *) echo "no host \$host" >&2; exit 1 ;; esac
exec ip netns exec \$space unshare -u bash -c "hostname host-\${space:3:1}; \$*"
EOF
chmod +x "$work/enter"

export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 PRTE_ALLOW_RUN_AS_ROOT=1 PRTE_ALLOW_RUN_AS_ROOT_CONFIRM=1
# With a list of hosts Open MPI does not see that there are more ranks than cores.
export OMPI_MCA_mpi_yield_when_idle=1
hosts="10.77.0.1:$ranks_a,10.77.0.2:$ranks_b"
all=$((ranks_a + ranks_b))
case $(mpirun --version | head -1) in
    *' 4.'*) agent=(--mca plm_rsh_agent "$work/enter" --mca oob_tcp_if_include 10.77.0.0/24) ;;
    *) agent=(--prtemca plm_ssh_agent "$work/enter" --prtemca prte_if_include 10.77.0.0/24) ;;
esac
ip netns exec $a unshare -u bash -c 'hostname host-a; exec "$@"' - \
    mpirun "${agent[@]}" --host "$hosts" --bind-to none -n "$all" \
    --mca btl_tcp_if_include 10.77.0.0/24 --mca pml ob1 --mca btl tcp,self -x OMPI_MCA_mpi_yield_when_idle "$@"
