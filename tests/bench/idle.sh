#!/usr/bin/env bash
#      A --- crowd        A is the daemon under test; the crowd is three neighbours that tell of many nodes (crowd.py)
#
# Measures a daemon that has nothing to do and prints lines "result NAME VALUE".
#
# usage: idle.sh [seconds=N] [nodes=N] KIND
#
#   rss_start, rss    resident memory (MB) of A alone, and when it knows all nodes
#   cpu               per cent of a core that A uses while nothing happens
#   wakeups           how often A's threads were put on a processor, per second

source "$(dirname "$0")/../netns/lib.sh"

SECONDS_IDLE=${VARIANT[seconds]:-20}
NODES=${VARIANT[nodes]:-100}

result() { say "result $1 $2"; }
cpu_ticks() { awk '{ print $14 + $15 }' "/proc/${PID[A]}/stat"; }
switches() { cat /proc/"${PID[A]}"/task/*/status | awk '/ctxt_switches/ { sum += $2 } END { print sum }'; }
megabytes() { awk -v kb="$(resident A)" 'BEGIN { printf "%.1f", kb / 1024 }'; }

add_space A
add_space crowd
ip link add eth0 netns "$(space A)" type veth peer name eth0 netns "$(space crowd)"
in_ns A ip addr add 10.1.0.1/24 dev eth0
in_ns A ip link set eth0 up
in_ns crowd ip addr add 10.1.0.2/24 dev eth0
in_ns crowd ip link set eth0 up
ADDRESS[A]=10.1.0.1
node A
crowd=gmesh # whose keys the crowd uses, and nothing else
[[ ${KIND[A]} != *11 ]] || crowd=gmesh11
KINDS+=("$crowd" "$crowd" "$crowd")
directories=()
for name in m1 m2 m3; do
    node "$name"
    introduce A "$name"
    directories+=("$LAB_WORK/$name")
done
GMESH_DEBUG=0
start A
# Without a neighbour nothing is going on.
result rss_start "$(megabytes)"
in_ns_background crowd "$LAB_WORK/crowd.log" env PYTHONPATH="$LAB_DIR" "$GMESH_BIN/python" \
    "$(dirname "$0")/crowd.py" 10.1.0.1 A "$NODES" "${directories[@]}"
need 60 "A knows $NODES nodes" grep -q Ready "$LAB_WORK/crowd.log"
# The first seconds of a connection are no idleness: keys, probes.
sleep 5
ticks=$(cpu_ticks)
wakeups=$(switches)
begin=$(now)
sleep "$SECONDS_IDLE"
ticks=$(($(cpu_ticks) - ticks))
wakeups=$(($(switches) - wakeups))
passed=$(awk -v a="$begin" -v b="$(now)" 'BEGIN { print b - a }')
result rss "$(megabytes)"
result cpu "$(awk -v t="$ticks" -v s="$passed" -v hz="$(getconf CLK_TCK)" 'BEGIN { printf "%.2f", 100 * t / hz / s }')"
result wakeups "$(awk -v w="$wakeups" -v s="$passed" 'BEGIN { printf "%.1f", w / s }')"
passed
