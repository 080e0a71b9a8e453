#!/usr/bin/env bash
#      A --- [inet] --- B        A: ConnectTo = B
#
# Two neighbours of any kind. While no UDP passes, pings go both ways by the meta connection. Once it passes, they go by
# UDP both ways, and both daemons say so. Then B is killed and comes back.

source "$(dirname "$0")/lib.sh"

make_inet
host A 1
host B 2
node A ConnectTo=B PingInterval=10
node B PingInterval=10
introduce A B

# says_udp NAME OTHER: what the control tool says of the way there.
says_udp() { control "$1" info "$2" | grep -q '^Reachability: *directly with UDP'; }

block meta l4proto udp drop
start B A
check packet "A B" "A reaches B by TCP" wait_for 10 "A reaches B" reachable A B
check packet6 "A B" "the same with IPv6 inside" wait_for 5 "A reaches B by IPv6" reachable A B 6
check packet-back "A B" "and B reaches A" wait_for 5 "B reaches A" reachable B A
whole() { [[ $(burst A B 50) -eq 50 ]]; }
check whole "A B" "a burst by TCP arrives whole" wait_for 5 "50 of 50" whole

unblock
check udp "A B" "packets go by UDP" wait_for 30 "a burst by UDP" by_udp A B
check udp-back "A B" "from B too" wait_for 10 "a burst by UDP" by_udp B A
for pair in "A B" "B A"; do
    read -r name other <<<"$pair"
    [[ ${KIND[$name]} == tinc10 ]] || check "says-$name" "$name" "$name says so" wait_for 5 "directly with UDP" says_udp "$name" "$other"
done
check stream "A B" "a stream arrives whole" transfer A B 3 40
check stream-back "A B" "and back" transfer B A 3 40

kill9 B
start B
check returns "A B" "B returns" wait_for 16 "A reaches B" reachable A B
check udp-again "A B" "packets go by UDP again" wait_for 30 "a burst by UDP" by_udp A B
for name in A B; do check "lives-$name" "$name" "$name's daemon is up" alive "$name"; done
passed
