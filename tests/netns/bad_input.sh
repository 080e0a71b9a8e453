#!/usr/bin/env bash
#      A --- [inet] --- B        a tunnel in use: A pings B every 0.2 s
#             |    |
#        L ---+    +--- X        L: a legitimate peer that comes while things happen
#                                X: a stranger, and M, a member whose manners are bad
#
# B (always gmesh) is what is attacked: random bytes, over-long lines, bogus METAKEYs and challenges, 200 idle connections, floods of
# garbage datagrams, a member's absurd gossip, and a reload of a broken configuration. No ping is lost, B needs at most
# 10 MB more, writes less than 100 kB of log, and admits L within a second in the middle of each (requirements 12, 18,
# 23 and 27).

source "$(dirname "$0")/lib.sh"

[[ ${KINDS[1]:-gmesh} == gmesh ]] || fail "B is what is attacked: it has to be gmesh"
GMESH_DEBUG=${GMESH_DEBUG:-2} # what an administrator who wants to see something runs
make_inet
host A 1
host B 2
host L 3
host X 4
node A ConnectTo=B
node B
node L ConnectTo=B
introduce A B
introduce L B
# M has a directory as the others have, but no daemon.
M="$LAB_WORK/M"
mkdir -p "$M/hosts"
python="$GMESH_BIN/python"
member_keys() {
    "$python" - "$M" <<'KEYS'
import sys
from pathlib import Path

from gmesh.crypto.rsa import RsaPrivateKey

key = RsaPrivateKey.generate(2048)
directory = Path(sys.argv[1])
(directory / "rsa_key.priv").write_text(key.to_pem())
(directory / "hosts" / "M").write_text(key.public.to_pem())
KEYS
}
member_keys
cp "$M/hosts/M" "$LAB_WORK/B/hosts/M"
cp "$LAB_WORK/B/hosts/B" "$M/hosts/B"

start B A
need 10 "A reaches B" reachable A B
need 20 "the path has settled" test "$(burst A B 100)" -ge 98
ping_start A B
memory=$(resident B)
log_before=$(stat -c %s "$LAB_WORK/B.log")

hostile() { in_ns X "$python" "$LAB_DIR/hostile.py" "$@"; }
admitted() {
    local since
    start L
    since=$(now)
    need 15 "B has admitted L" logged L "Connection with B .* activated"
    since=$(elapsed "$since")
    stop L
    less "$since" 1.1
}

hostile stranger 10.2.0.2 A
check stranger "B" "B survives strangers" alive B

mkfifo "$LAB_WORK/hold"
in_ns_background X "$LAB_WORK/idle.log" sh -c "exec '$python' '$LAB_DIR/hostile.py' idle 10.2.0.2 200 <'$LAB_WORK/hold'"
exec 9>"$LAB_WORK/hold"
need 15 "200 idle connections" grep -q held "$LAB_WORK/idle.log"
check admits-idle "B" "L is admitted within a second beside 200 idle connections" admitted

in_ns_background X "$LAB_WORK/datagrams.log" "$python" "$LAB_DIR/hostile.py" datagrams 10.2.0.2 10000
flood=$!
check admits-flood "B" "the same in a flood of datagrams" admitted
wait "$flood" || fail "the flood broke off"
cat "$LAB_WORK/datagrams.log"

in_ns_background X "$LAB_WORK/member.log" "$python" "$LAB_DIR/hostile.py" member 10.2.0.2 "$M" B A
flood=$!
check admits-member "B" "the same while a member talks nonsense" admitted
wait "$flood" || { cat "$LAB_WORK/member.log" && fail "the member broke off"; }
cat "$LAB_WORK/member.log"
exec 9>&-

cp "$LAB_WORK/B/tinc.conf" "$LAB_WORK/tinc.conf.good"
for mistake in "Mode = sideways" "PingInterval = soon" "Subnet = 300.1.1.1" "ConnectTo = ../etc/passwd" "Prot = 1" "=" "AddressFamily"; do
    { cat "$LAB_WORK/tinc.conf.good" && echo "$mistake"; } >"$LAB_WORK/B/tinc.conf"
    hup B
    check "reload" "B" "B survives a reload with: $mistake" wait_for 2 "A still reaches B" reachable A B
done
cp "$LAB_WORK/tinc.conf.good" "$LAB_WORK/B/tinc.conf"
hup B
need 5 "A reaches B after all that" reachable A B

ping_stop
check lives "B" "B's daemon is up" alive B
check lives-A "B" "A's daemon is up" alive A
check lossless "B" "no ping was lost" same "$(lost_pings)" 0
grown=$(($(resident B) - memory))
written=$(($(stat -c %s "$LAB_WORK/B.log") - log_before))
say "  B's memory grew by $grown kB, from $memory kB; it wrote $written bytes of log"
check memory "B" "at most 10 MB more memory" test "$grown" -le 10240
check log "B" "less than 100 kB of log" test "$written" -lt 100000
passed
