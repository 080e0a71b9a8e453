#!/usr/bin/env bash
#      A ---+
#           LAN --- natA --- [inet] --- B        A and C: ConnectTo = B
#      C ---+
#
# variants: discovery=yes  LocalDiscovery finds the way within the LAN (the default): neither B nor the NAT carries it
#           discovery=no   without it B carries everything: the NAT lets nothing back in

source "$(dirname "$0")/lib.sh"

discovery=${VARIANT[discovery]:-yes}
make_inet
host B 2
nat natA 1 drop
lan natA 1 A C
node A ConnectTo=B "LocalDiscovery=$discovery"
node B
node C ConnectTo=B "LocalDiscovery=$discovery" host.Port=6656
introduce A B
introduce B C

start B A C
check reachable "A B C" "they reach each other" wait_for 10 "A reaches C" reachable A C
if [[ $discovery == yes ]]; then
    check near "A C" "they find each other in the LAN" wait_for 20 "B carries nothing" direct A C B
    check straight "A C" "nor does the NAT" direct C A natA
    ping_start A C
    sleep 6 # how long it has to last
    ping_stop
    check lossless "A C" "no ping was lost in 6 s" same "$(lost_pings)" 0
    check lasts "A C" "the NAT still carries nothing" direct A C natA
else
    check forwards "A B C" "B forwards" wait_for 10 "a burst arrives through B" relayed A C B
    sleep 8 # some rounds of discovery, were there any
    check lasts "A B C" "B still forwards" relayed C A B
fi
for name in A B C; do check "lives-$name" "$name" "$name's daemon is up" alive "$name"; done
passed
