#!/usr/bin/env bash
#      A --- [inet] --- B        A and C: ConnectTo = B, and no host file for each other
#               |
#               C                 variant outside=6: the hosts know each other by IPv6 addresses
#
# A learns C through B, and the packets between A and C do not pass B, with IPv4 and IPv6 inside.

source "$(dirname "$0")/lib.sh"

make_inet
host A 1
host B 2
host C 3
node A ConnectTo=B
node B
node C ConnectTo=B
introduce A B
introduce B C

start B A C
check learns "A B C" "A learns C and reaches it" wait_for 10 "A reaches C" reachable A C
check learns6 "A B C" "the same with IPv6 inside" wait_for 5 "A reaches C by IPv6" reachable A C 6
check direct "A B C" "packets go directly" wait_for 15 "B carries nothing" direct A C B
check direct6 "A B C" "the same with IPv6 inside" wait_for 5 "B carries nothing" direct A C B 6
check back "A B C" "the same from C to A" wait_for 5 "B carries nothing" direct C A B
passed
