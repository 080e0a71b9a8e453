#!/usr/bin/env bash
#      A --- [inet] --- B        A and C: ConnectTo = B; all: Mode = hub, with tap devices
#               |
#               C
#
# Every frame reaches everyone once, also those for a single node.

source "$(dirname "$0")/lib.sh"

make_inet
host A 1
host B 2
host C 3
node A Mode=hub ConnectTo=B
node B Mode=hub
node C Mode=hub ConnectTo=B
introduce A B
introduce B C

address_of() { in_ns "$1" cat /sys/class/net/vpn0/address; }
seen_by() { grep -vc listening "$LAB_WORK/watch.$1" || true; }

start B A C
check arp "A B C" "A finds C by ARP" wait_for 10 "A reaches C" reachable A C
check nd "A B C" "A finds C by neighbour discovery" wait_for 5 "A reaches C by IPv6" reachable A C 6

for name in B C; do
    in_ns_background $name "$LAB_WORK/watch.$name" python3 "$LAB_DIR/frames.py" watch vpn0 "$(address_of C)" 20
done
for name in B C; do need 5 "$name watches for frames to C" grep -q listening "$LAB_WORK/watch.$name"; done
check pings "A B C" "pings from A to C come back" same 50 "$(burst A C 50)"
sleep 0.3
say "  frames for C: $(seen_by B) at B, $(seen_by C) at C"
check everyone "A B" "B gets what is for C" test "$(seen_by B)" -ge 50
check once "A B C" "nobody gets more than C does" same "$(seen_by B)" "$(seen_by C)"
passed
