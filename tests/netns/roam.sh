#!/usr/bin/env bash
#      A --- [inet] --- B        A moves from network 1 to network 3 under a running ping
#
# A's address vanishes and another one appears, as when a laptop changes networks: A notices by itself, dials anew, and
# the tunnel is back within seconds, long before any ping between the daemons times out (requirement 17).

source "$(dirname "$0")/lib.sh"

make_inet
host A 1
host B 2
node A ConnectTo=B
node B
introduce A B

start B A
need 10 "A reaches B" reachable A B
need 20 "the path has settled" test "$(burst A B 20)" -ge 19
ping_start A B
it=$(space A)
inet=$(space inet)
moved=$(now)
ip -n "$it" addr del 10.1.0.2/24 dev eth0
ip -n "$inet" addr add 10.3.0.1/24 dev net1
ip -n "$it" addr add 10.3.0.2/24 dev eth0
ip -n "$it" route replace default via 10.3.0.1
check notices "A" "A closes the connection from the address that is gone" wait_for 2 "A has noticed" logged A "our address 10.1.0.2 is gone"
check back "A" "A reaches B from its new address" wait_for 5 "A reaches B" reachable A B
sleep_until_quiet() { less 3 "$(elapsed "$moved")"; }
need 5 "some time has passed since" sleep_until_quiet
ping_stop
gap=$(longest_gap "$moved")
say "  the longest time without an answer was $gap s"
check gap "A" "the tunnel was back within 2.5 s" less "$gap" 2.5
passed
