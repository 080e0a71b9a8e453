#!/usr/bin/env bash
#      A --- natA --- [inet] --- natC --- C
#                        |
#                        B                 A and C: ConnectTo = B
#
# variants: nat=drop    NATs that drop what nobody asked for (the default)
#           nat=reject  NATs with a rule that rejects it
#           nat=open    NATs without any filter, whose kernel answers "port unreachable" and remembers the flow
#           nat=random  NATs that give every flow a random port: no hole can be punched
#
# With B's help A and C find each other's addresses and open both NATs; B carries nothing after that. Behind random NATs
# B forwards all the time.

source "$(dirname "$0")/lib.sh"

flavour=${VARIANT[nat]:-drop}
make_inet
nat natA 1 "$flavour"
nat natC 3 "$flavour"
host B 2
behind A natA 1
behind C natC 3
node A ConnectTo=B
node B
node C ConnectTo=B
introduce A B
introduce B C

start B A C
check reachable "A B C" "they reach each other" wait_for 10 "A reaches C" reachable A C
if [[ $flavour == random ]]; then
    check forwards "A B C" "B forwards" wait_for 10 "a burst arrives through B" relayed A C B
    check lasts "A B C" "B forwards in the other direction" wait_for 10 "a burst arrives through B" relayed C A B
else
    check punched "A B C" "both NATs are open" wait_for 40 "B carries nothing" direct A C B
    ping_start A C
    sleep 8 # how long it has to last
    ping_stop
    check lossless "A B C" "no ping was lost in 8 s" same "$(lost_pings)" 0
    check lasts "A B C" "B still carries nothing" direct C A B
fi
passed
