#!/usr/bin/env bash
#      A --- [inet] --- B        A and C: ConnectTo = B, and no host file for each other
#               |
#               C                 variant known=yes: A and C have each other's host files
#
# Two ends of any kind and a relay of any kind. While no UDP passes at all, B relays by TCP. Then only A and C are cut
# off from each other: B relays by UDP if it can. Then nothing is blocked: B carries nothing.

source "$(dirname "$0")/lib.sh"

make_inet
host A 1
host B 2
host C 3
node A ConnectTo=B PingInterval=10
node B PingInterval=10
node C ConnectTo=B PingInterval=10
introduce A B
introduce B C
[[ ${VARIANT[known]:-no} == no ]] || introduce A C

block meta l4proto udp drop
start B A C
check tcp "A B C" "they reach each other by TCP" wait_for 20 "A reaches C" reachable A C
check tcp-back "A B C" "also the other way" wait_for 10 "C reaches A" reachable C A
check tcp-whole "A B C" "a burst arrives whole" wait_for 15 "through B" relayed A C B
check relay-end "A B" "A reaches B" wait_for 10 "A reaches B" reachable A B

unblock
block ip saddr 10.1.0.2 ip daddr 10.3.0.2 drop
block ip saddr 10.3.0.2 ip daddr 10.1.0.2 drop
# What two ends have sealed with SPTPS is nothing that a relay of the first generation could pass on as a datagram.
if second B || ! second A C; then
    check udp "A B C" "B relays by UDP" wait_for 20 "a burst by UDP" by_udp A C B
    check udp-back "A B C" "also the other way" wait_for 10 "a burst by UDP" by_udp C A B
else
    check cut-off "A B C" "B relays by TCP" wait_for 10 "through B" relayed A C B
fi
check cut-off-stream "A B C" "a stream arrives whole" transfer A C 2 40

unblock
check direct "A B C" "nothing blocked: packets go directly" wait_for 40 "B carries nothing" direct A C B
check direct-back "A B C" "also the other way" wait_for 10 "B carries nothing" direct C A B
check direct6 "A B C" "with IPv6 inside too" wait_for 5 "B carries nothing" direct A C B 6
ping_start A C
sleep 4 # how long it has to last
ping_stop
check lossless "A B C" "no ping was lost in 4 s" same "$(lost_pings)" 0
for name in A B C; do check "lives-$name" "$name" "$name's daemon is up" alive "$name"; done
passed
