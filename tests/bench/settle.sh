#!/usr/bin/env bash
#      A --- teller       A is the daemon under test; the teller is a neighbour that knows a large mesh (tell.py)
#
# Measures what a daemon pays for learning a mesh of 1000 nodes and prints lines "result NAME VALUE".
#
# usage: settle.sh [nodes=N] [edges=N] [subnets=N] KIND
#
#   settle       seconds of A's processor from the first line of the database until all results are there
#   settle_wall  seconds that this took
#   settle_rss   how much resident memory it took, MB

source "$(dirname "$0")/../netns/lib.sh"

NODES=${VARIANT[nodes]:-1000}
EDGES=${VARIANT[edges]:-3000}
SUBNETS=${VARIANT[subnets]:-2000}

add_space A
add_space teller
ip link add eth0 netns "$(space A)" type veth peer name eth0 netns "$(space teller)"
in_ns A ip addr add 10.1.0.1/24 dev eth0
in_ns A ip link set eth0 up
in_ns teller ip addr add 10.1.0.2/24 dev eth0
in_ns teller ip link set eth0 up
ADDRESS[A]=10.1.0.1
node A
KINDS+=("${KINDS[0]:-gmesh}") # whose keys the teller uses, and nothing else
node teller
introduce A teller
GMESH_DEBUG=0
start A
before=$(resident A)
in_ns_background teller "$LAB_WORK/teller.log" env PYTHONPATH="$LAB_DIR" "$GMESH_BIN/python" \
    "$(dirname "$0")/tell.py" 10.1.0.1 "$LAB_WORK/teller" A "${PID[A]}" "$NODES" "$EDGES" "$SUBNETS"
need 120 "A has come to rest" grep -q Ready "$LAB_WORK/teller.log"
all_reached() { [[ $(control A dump reachable nodes | wc -l) -ge $NODES ]]; }
if [[ ${KIND[A]} != tinc10 ]]; then need 10 "A reaches all of them" all_reached; fi
grep '^result' "$LAB_WORK/teller.log"
say "result settle_rss $(awk -v a="$before" -v b="$(resident A)" 'BEGIN { printf "%.1f", (b - a) / 1024 }')"
passed
