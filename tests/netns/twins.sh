#!/usr/bin/env bash
#      A --- [inet] --- B        A, X and Y: ConnectTo = B
#             /    \
#            X      Y            Y is a copy of X, name and keys included
#
# Two nodes of one name replace each other's connection at B. Whoever is gmesh slows down: B lets each newcomer wait, X
# and Y dial more and more rarely; and the log says at debug level 0 what is wrong. The tunnel from A to B goes on.

source "$(dirname "$0")/lib.sh"

GMESH_DEBUG=1
make_inet
host A 1
host B 2
host X 3
host Y 4
node A ConnectTo=B
node B
node X ConnectTo=B
introduce A B
introduce X B
cp -r "$LAB_WORK/X" "$LAB_WORK/Y"
KIND[Y]=${KINDS[3]:-gmesh}

start B A
need 10 "A reaches B" reachable A B
ping_start A B
start X Y
replaced() { last_life B | grep -c "Connection with X .* activated" || true; }
sleep 10 # the worst of it
early=$(replaced)
sleep 20 # and what is left of it
late=$(($(replaced) - early))
say "  $early connections in the first 10 s, $late in the 20 s after that"
check damped-by-B "B" "not more than one connection a second in the end" test "$late" -le 24
check damped-by-X "B X Y" "and hardly any where all three slow down" test "$late" -le 10
# Two stock nodes give each other more time by themselves.
if ours X Y; then check named-by-B "B" "B says what is wrong" logged B "two nodes seem to use that name"; fi
either_says() { logged X "perhaps another node uses our name" || logged Y "perhaps another node uses our name"; }
check named-by-X "X Y" "so does one of the two" either_says
ping_stop
check lossless "A B" "no ping from A to B was lost" same "$(lost_pings)" 0
for name in A B X Y; do check "lives-$name" "$name" "$name's daemon is up" alive "$name"; done
passed
