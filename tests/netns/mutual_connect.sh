#!/usr/bin/env bash
#      A <--> [inet] <--> B        both: ConnectTo the other
#
# Both start at once and connect to each other. One usable connection is left, and it stays the same for 30 s in which
# no ping is lost.

source "$(dirname "$0")/lib.sh"

make_inet
host A 1
host B 2
node A ConnectTo=B
node B ConnectTo=A
introduce A B

launch A
launch B
for name in A B; do need 60 "$name is ready" logged "$name" "Ready"; done
check reachable "A B" "they reach each other" wait_for 10 "A reaches B" reachable A B
one_connection() { [[ $(meta_connections A B | wc -l) -eq 1 ]]; }
check one "A B" "one connection is left" wait_for 10 "one connection" one_connection
before=$(meta_connections A B)
ping_start A B
sleep 30 # how long it has to be stable
ping_stop
check same "A B" "the connection is the same after 30 s" same "$before" "$(meta_connections A B)"
check lossless "A B" "no ping was lost in 30 s" same "$(lost_pings)" 0
passed
