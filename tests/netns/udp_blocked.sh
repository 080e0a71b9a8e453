#!/usr/bin/env bash
#      A --- [inet] --- B        A and C: ConnectTo = B
#               |
#               C
#
# variants: where=ends        no UDP between A and C: B forwards by UDP (the default)
#           where=everywhere  no UDP at all: everything goes through the meta connections by TCP
#
# In both a transfer of 5 MB arrives whole, in both directions.

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
if [[ ${VARIANT[where]:-ends} == ends ]]; then
    block ip saddr 10.1.0.2 ip daddr 10.3.0.2 meta l4proto udp drop
    block ip saddr 10.3.0.2 ip daddr 10.1.0.2 meta l4proto udp drop
    carrier=udp
else
    block meta l4proto udp drop
    carrier=tcp
fi
count B carrier meta l4proto "$carrier" meta length "400-900"

start B A C
check reachable "A B C" "they reach each other" wait_for 10 "A reaches C" reachable A C
check forwards "A B C" "B forwards" wait_for 10 "a burst arrives through B" relayed A C B
by_carrier() {
    local before
    before=$(counted B carrier)
    burst A C 50 >/dev/null
    [[ $(($(counted B carrier) - before)) -ge 100 ]]
}
check carrier "A B C" "B forwards by $carrier" wait_for 15 "a burst passes B by $carrier" by_carrier
check transfer "A B C" "5 MB from A to C arrive whole" transfer A C 5 60
check answer "A B C" "5 MB from C to A arrive whole" transfer C A 5 60
check lives "A" "A's daemon is up" alive A
check lives-B "B" "B's daemon is up" alive B
check lives-C "C" "C's daemon is up" alive C
passed
