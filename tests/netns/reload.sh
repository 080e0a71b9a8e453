#!/usr/bin/env bash
#      A --- [inet] --- B        A: ConnectTo = B
#               |
#               C                after the reload A also: ConnectTo = C, Subnet = 10.201.0.0/24
#
# A HUP adds a connection and a subnet without dropping the link to B: no ping is lost and the TCP connection is the
# same. B and C learn the subnet (requirement 21).

source "$(dirname "$0")/lib.sh"

make_inet
host A 1
host B 2
host C 3
node A ConnectTo=B
node B
node C
introduce A B
introduce A C

start B C A
need 10 "A reaches B" reachable A B
before=$(meta_connections A B)
ip -n "$(space A)" addr add 10.201.0.1/32 dev vpn0
for name in B C; do ip -n "$(space "$name")" route add 10.201.0.0/24 dev vpn0; done
ping_start A B
new_subnet() { in_ns "$1" ping -n -c 1 -W 1 10.201.0.1; }
if new_subnet B >/dev/null; then fail "the subnet is reachable before it was added"; fi

echo "ConnectTo = C" >>"$LAB_WORK/A/tinc.conf"
echo "Subnet = 10.201.0.0/24" >>"$LAB_WORK/A/hosts/A"
hup A
check connects "A" "the new connection is made" wait_for 3 "A reaches C" reachable A C
check subnet "A" "B knows the new subnet" wait_for 3 "B reaches the subnet" new_subnet B
check subnet-C "A" "C knows it too" wait_for 3 "C reaches the subnet" new_subnet C
ping_stop
check same "A" "the link to B is the same" same "$before" "$(meta_connections A B)"
check lossless "A" "no ping to B was lost" same "$(lost_pings)" 0
check lives "A" "A's daemon is up" alive A
passed
