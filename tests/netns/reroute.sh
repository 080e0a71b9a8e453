#!/usr/bin/env bash
#      A --- B --- C --- D       lines: meta connections, and the only pairs that UDP is allowed between
#            |___________|       the redundant link, which is cut
#
# variants: path=direct    as drawn (the default); the dead link takes a confirmed UDP path between B and D with it
#           path=indirect  IndirectData everywhere: the graph alone says which way packets go
#
# A's packets for D go through B and straight to D. Then the link B-D goes dead without a word. B and D notice by their
# pings, and the traffic goes through C: within PingInterval + PingTimeout, two PingTimeouts more where a stock daemon
# has to notice.

source "$(dirname "$0")/lib.sh"

interval=3
timeout=2
make_inet
number=0
for name in A B C D; do
    number=$((number + 1))
    host "$name" "$number"
done
options=("PingInterval=$interval" "PingTimeout=$timeout")
[[ ${VARIANT[path]:-direct} == direct ]] || options+=("host.IndirectData=yes")
node A ConnectTo=B "${options[@]}"
node B ConnectTo=D "${options[@]}"
node C ConnectTo=B "${options[@]}"
node D ConnectTo=C "${options[@]}"
introduce A B
introduce B C
introduce C D
introduce B D
for pair in "1 3" "1 4"; do
    read -r one two <<<"$pair"
    block meta l4proto udp ip saddr "10.$one.0.2" ip daddr "10.$two.0.2" drop
    block meta l4proto udp ip saddr "10.$two.0.2" ip daddr "10.$one.0.2" drop
done

start D C B A
check reachable "A B C D" "A reaches D" wait_for 15 "A reaches D" reachable A D
quiet_c() { direct A D C; }
check short "A B D" "the short way is used" wait_for 20 "C carries nothing" quiet_c

ping_start A D
block ip saddr 10.2.0.2 ip daddr 10.4.0.2 drop
block ip saddr 10.4.0.2 ip daddr 10.2.0.2 drop
cut=$(now)
limit=$((interval + timeout))
ours B D || limit=$((limit + 2 * timeout))
on_time() { in_ns A ping -n -c 1 -W 0.5 "$(mesh_address D)"; }
sleep 1 # pings under way when the link was cut have arrived
check rerouted "B D" "rerouted within $limit s" wait_for "$limit" "A reaches D again" on_time
sleep 3 # long enough to see another interruption
gap=$(longest_gap "$cut")
say "  longest gap: $gap s"
check gap "B D" "no longer gap than $limit s" less "$gap" "$limit.7"
check lives "A" "A's daemon is up" alive A
check lives-B "B" "B's daemon is up" alive B
check lives-C "C" "C's daemon is up" alive C
check lives-D "D" "D's daemon is up" alive D
passed
