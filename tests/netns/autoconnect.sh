#!/usr/bin/env bash
#      A --- B        C --- D        A: ConnectTo = B, D: ConnectTo = C; all four with AutoConnect and everybody's
#       \     \      /     /         host file
#        +---- [inet] ----+
#
# Nobody has asked for a connection between the two pairs: AutoConnect makes one. The network between them is cut, until
# both sides have given each other up, and comes back: the halves find each other again. The connection that A was told to
# keep is the same all the time; and when A is told to do without AutoConnect, it keeps that one and no other of its own.

source "$(dirname "$0")/lib.sh"

make_inet
host A 1
host B 2
host C 3
host D 4
times=(PingInterval=3 PingTimeout=2 AutoConnect=yes)
node A ConnectTo=B "${times[@]}"
node B "${times[@]}"
node C "${times[@]}"
node D ConnectTo=C "${times[@]}"
for pair in "A B" "A C" "A D" "B C" "B D" "C D"; do
    read -r one two <<<"$pair"
    introduce "$one" "$two"
done

all_reach_all() {
    local from to
    for from in A B C D; do
        for to in A B C D; do [[ $from == "$to" ]] || reachable "$from" "$to" || return 1; done
    done
}
no_way() { ! reachable A C && ! reachable A D && ! reachable B C && ! reachable B D; }

start B C
start A D
check joins "A B C D" "the pairs find each other" wait_for 30 "all reach all" all_reach_all
need 60 "all reach all" all_reach_all
kept=$(meta_connections A B)

for one in 10.1.0.2 10.2.0.2; do
    for two in 10.3.0.2 10.4.0.2; do
        block ip saddr "$one" ip daddr "$two" drop
        block ip saddr "$two" ip daddr "$one" drop
    done
done
check notices "A B C D" "the halves notice" wait_for 30 "nobody reaches the other half" no_way
sleep 20 # how long they are apart, attempts in vain included
check halves "A B" "a half holds together" wait_for 1 "A reaches B" reachable A B
unblock
check heals "A B C D" "the halves find each other again" wait_for 60 "all reach all" all_reach_all
check kept "A B" "A's connection with B is still the same" same "$kept" "$(meta_connections A B)"

# What A may do without goes, what it was told to keep stays, and what others have made is theirs.
own() { in_ns A ss -Htn state established dport = :655 | wc -l; }
sed -i 's/^AutoConnect.*/AutoConnect = no/' "$LAB_WORK/A/tinc.conf"
hup A
only_one() { [[ $(own) -le 1 ]]; }
check obeys "A" "A keeps no connection of its own but that" wait_for 5 "one outgoing connection" only_one
check kept-still "A B" "which is still the same" same "$kept" "$(meta_connections A B)"
check reaches "A B C D" "all reach all nevertheless" wait_for 10 "all reach all" all_reach_all
for name in A B C D; do check "lives-$name" "$name" "$name's daemon is up" alive "$name"; done
passed
