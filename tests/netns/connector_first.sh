#!/usr/bin/env bash
#      A --- [inet] --- B
#
# A connects to B, but was started 10 s earlier. It connects by itself within its back-off (5 s after the first failure,
# 10 s after the next). Then B is killed without a chance to say goodbye, and comes back: A connects again, and A's
# daemon is still the same. A gmesh connector is back within a second of the return (requirement 17).

source "$(dirname "$0")/lib.sh"

make_inet
host A 1
host B 2
node A ConnectTo=B
node B
introduce A B

start A
sleep 10 # the head start is the test
start B
check connects "A B" "A connects by itself within its back-off" wait_for 16 "A reaches B" reachable A B

for pause in 0 3; do
    kill9 B
    sleep "$pause" # how long the target stays away
    start B
    if ours A; then
        check "back-$pause" "A" "back within a second after $pause s of absence" wait_for 1 "A reaches B" reachable A B
    fi
    check "reconnects-$pause" "A B" "A connects again after $pause s of absence" wait_for 26 "A reaches B" reachable A B
done
check survives "A" "A's daemon stayed up" alive A
passed
