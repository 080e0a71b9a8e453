#!/usr/bin/env bash
#      A --- [inet] --- B        A: ConnectTo = B
#
# A remembers where it found B: after a restart, with no Address for B in any file, A connects all the same. What is
# wrong in the cache, or in its directory, only costs the cache.

source "$(dirname "$0")/lib.sh"

make_inet
host A 1
host B 2
node A ConnectTo=B PingInterval=2
node B PingInterval=2
introduce A B
[[ ${KIND[A]} != tinc11 ]] || mkdir "$LAB_WORK/A/cache" # 1.1pre18 does not make it

start B A
need 10 "A reaches B" reachable A B
remembered() { [[ -s $LAB_WORK/A/cache/B ]]; }
check remembers "A" "A remembers B's address" wait_for 15 "it is in the cache" remembered
stop A
sed -i '/^Address/d' "$LAB_WORK/A/hosts/B"
start A
check found "A" "A finds B with no Address in its files" wait_for 5 "A reaches B" reachable A B

# The place where B was is tried first, what the file says now comes next.
stop A
stop B
inet=$(space inet)
ip -n "$(space B)" addr del 10.2.0.2/24 dev eth0
ip -n "$inet" addr add 10.4.0.1/24 dev net2
ip -n "$(space B)" addr add 10.4.0.2/24 dev eth0
ip -n "$(space B)" route replace default via 10.4.0.1
echo "Address = 10.4.0.2" | cat - "$LAB_WORK/A/hosts/B" >"$LAB_WORK/hosts.B"
cp "$LAB_WORK/hosts.B" "$LAB_WORK/A/hosts/B"
start B A
check moved "A" "B has moved, and its file says where" wait_for 10 "A reaches B" reachable A B

stop A
head -c 264 /dev/urandom >"$LAB_WORK/A/cache/B"
start A
check garbage "A" "garbage in the cache costs nothing" wait_for 5 "A reaches B" reachable A B
check lives "A" "A's daemon is up" alive A
passed
