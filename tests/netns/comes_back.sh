#!/usr/bin/env bash
#      A --- [inet] --- B        A: ConnectTo = B, PingInterval = 5
#
# B goes without a word and comes back; a gmesh connector is back within a second of that (requirement 17):
#
#     killed     B's daemon is killed with kill -9, five times, and stays away for 0, 1, 3, 10 and 70 s: the last is
#                longer than the first minute of quick attempts
#     frozen     B's daemon is stopped for 12 s, longer than A's patience, and goes on
#     network    B's network is gone for 12 s: nobody answers
#
# Meanwhile A leaves B in peace: it does not dial more than three times a second.

source "$(dirname "$0")/lib.sh"

make_inet
host A 1
host B 2
node A ConnectTo=B PingInterval=5 PingTimeout=3
node B PingInterval=5 PingTimeout=3
introduce A B

start B A
need 10 "A reaches B" reachable A B
count A syn tcp flags '&' '(syn|ack)' == syn tcp dport 655

in_ns_background A "$LAB_WORK/pings" ping -n -D -i 0.05 -W 1 "$(mesh_address B)"
# back WHAT...: B is there again from now on; WHAT is said of how long A needs to reach it.
back() {
    local since first
    since=$(now)
    first_answer() { awk -v since="$since" '/bytes from/ && substr($1, 2) + 0 > since { print substr($1, 2); exit }' "$LAB_WORK/pings"; }
    answered() { [[ -n $(first_answer) ]]; }
    need 90 "A reaches B" answered
    first=$(awk -v a="$since" -v b="$(first_answer)" 'BEGIN { printf "%.2f", b - a }')
    say "  the first answer came after $first s"
    check "$1" "A" "$2" less "$first" 1.0
}

for pause in 0 1 3 10 70; do
    kill9 B
    before=$(counted A syn)
    sleep "$pause" # how long it stays away
    attempts=$(($(counted A syn) - before))
    say "  $attempts attempts in $pause s"
    check "peace-$pause" "A" "at most three attempts a second" test "$attempts" -le $((3 * pause + 2))
    start B
    back "killed-$pause" "back within a second after $pause s"
done

kill -STOP "${PID[B]}"
sleep 12 # A has given it up: PingInterval + PingTimeout, and its attempts meet silence
kill -CONT "${PID[B]}"
back frozen "back within a second after 12 s in the ice"

block ip daddr 10.2.0.2 drop
block ip saddr 10.2.0.2 drop
sleep 12 # as long
unblock
back network "back within a second after 12 s without a network"
check survives "A" "A's daemon stayed up" alive A
passed
