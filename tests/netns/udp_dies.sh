#!/usr/bin/env bash
#      A --- [inet] --- B        A and C: ConnectTo = B; A and C talk directly
#               |
#               C
#
# variants: dies=ends        the UDP path between A and C dies (the default): A's packets are on their way through B
#           dies=everywhere  all UDP dies: A's packets are on TCP
#
# In both cases within 3 s, and directly by UDP again within 3 s of the return; within 1 s where A and C are both gmesh
# (requirement 13). What A sends is A's behaviour alone, so it is watched one way, at C's tunnel device; the answers need
# C to do the same.

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
allowed=3
! ours A C || allowed=1
need 10 "A reaches C" reachable A C
need 30 "they talk directly" direct A C B
flow A sent out
flow C received in
count inet ac meta l4proto udp ip saddr 10.1.0.2 ip daddr 10.3.0.2 meta length 100-300

ping_start A C
steady A C 2 || fail "pings do not arrive before anything was blocked"
if [[ ${VARIANT[dies]:-ends} == ends ]]; then
    block meta l4proto udp ip saddr 10.1.0.2 ip daddr 10.3.0.2 drop
    block meta l4proto udp ip saddr 10.3.0.2 ip daddr 10.1.0.2 drop
else
    block meta l4proto udp drop
fi
cut=$(now)
sleep "$allowed"
check rerouted "A" "after $allowed s A's packets arrive by another way" steady A C 3
gap=$(longest_gap "$cut")
say "  longest gap: $gap s"
# The time allowed, a ping's interval, and what the answer takes.
check round-trip "A C" "no gap in the answers was longer than $allowed.3 s" less "$gap" "$allowed.3"

unblock
sleep "$allowed"
direct_again() {
    local before
    before=$(counted inet ac)
    sleep 2 # ten pings
    before=$(($(counted inet ac) - before))
    say "  $before packets of a ping's size went from A to C by UDP in 2 s"
    [[ $before -ge 9 ]]
}
check back "A" "$allowed s after the return A's packets go directly by UDP" direct_again
returned=$(now)
check clean "A C" "no ping is lost after that" steady A C 3
check clean-back "A C" "no answer is missing after that" less "$(longest_gap "$returned")" 0.5
passed
