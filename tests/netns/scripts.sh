#!/usr/bin/env bash
#      C ---> B <--- G        G is gmesh, T is tinc 1.0.36: the same place in two meshes of their own
#      c ---> b <--- T        the kind of the others is the test's argument; if it is of the second generation, so is G
#
# The same things happen to G and to T, and their scripts record the order and the environment of each run (spec:
# scripts). Start; B joins with several subnets; C joins behind B; C comes back with other subnets; C leaves; B leaves
# with C behind it; B and C return; the daemon stops with both reachable. The records are the same except for what
# script_records.py lists. Then what only gmesh can do: subnets that come and go with a reload, and what 1.0 shares:
# scripts that cannot be executed, that fail, and that hang.
#
# variant: net=NAME runs both with a netname.

source "$(dirname "$0")/lib.sh"

cd "$LAB_WORK" || exit # where scripts of tinc 1.0 in the foreground find themselves
OTHERS=${KINDS[0]:-tinc10}
ours=gmesh
[[ $OTHERS != *11 ]] || ours=gmesh11
KINDS=("$ours" tinc10 "$OTHERS" "$OTHERS" "$OTHERS" "$OTHERS")
[[ -z ${VARIANT[net]:-} ]] || DAEMON_OPTIONS=(-n "${VARIANT[net]}")

make_inet
host G 1
host T 2
host B 3
host b 4
host C 5
host c 6
OWN=(host.Subnet=10.50.0.0/16 host.Subnet=10.50.1.0/24#7 host.Subnet=fd50:0:0:1::/64 host.Subnet=2:0:0:0:0:a)
node G ConnectTo=B "${OWN[@]}"
node T ConnectTo=b "${OWN[@]}"
for name in B b; do node "$name" host.Subnet=10.60.0.0/16#20 host.Subnet=10.60.0.0/24 host.Subnet=fd60::/48#3 host.Subnet=10.60.0.1; done
for name in C c; do node "$name" "ConnectTo=$([[ $name == C ]] && echo B || echo b)" host.Subnet=10.70.0.0/24 host.Subnet=10.71.0.0/24; done
# The pairs have to have the same subnets, also the first two that the lab gives every node.
for name in G T B b C c; do
    number=$(case $name in G | T) echo 1 ;; B | b) echo 2 ;; *) echo 3 ;; esac)
    sed -i "s/^Subnet = 10.200.0.*/Subnet = 10.200.0.$number/; s/^Subnet = fd77::.*/Subnet = fd77::$number/" "$LAB_WORK/$name/hosts/$name"
done
for pair in "G B" "T b" "C B" "c b"; do
    # shellcheck disable=SC2086 # two names
    introduce $pair
done

# record NAME: scripts that write down their runs.
record() {
    local dir="$LAB_WORK/$1" script peer
    cat >"$LAB_WORK/$1.recorder" <<RECORD
#!/bin/sh
{ echo "== \${0#$dir/} \$#"; env | sort; } >>"$LAB_WORK/$1.record"
RECORD
    : >"$LAB_WORK/$1.record"
    for script in tinc-up tinc-down host-up host-down subnet-up subnet-down; do
        cp "$LAB_WORK/$1.recorder" "$dir/$script"
    done
    for peer in "$1" B b C c; do
        for script in up down; do cp "$LAB_WORK/$1.recorder" "$dir/hosts/$peer-$script"; done
    done
    chmod 755 "$dir"/*-up "$dir"/*-down "$dir"/hosts/*-up "$dir"/hosts/*-down
}
record G
record T
sed -i "2i ip link set \"\$INTERFACE\" up" "$LAB_WORK/G/tinc-up" "$LAB_WORK/T/tinc-up"

runs() { grep -c "^== $2 " "$LAB_WORK/$1.record"; }
ran() { [[ $(runs "$1" "$2") -ge $3 ]]; }
# both RUNS-OF-SUBNET SCRIPT SECONDS WHAT: until both have run SCRIPT that often in all.
both() {
    need 20 "$3: G" ran G "$2" "$1"
    need 20 "$3: T" ran T "$2" "$1"
}
compare() {
    python3 "$LAB_DIR/script_records.py" "$LAB_WORK/G.record" "$LAB_WORK/T.record" \
        "$LAB_WORK/G=DIR" "$LAB_WORK/T=DIR" 10.3.0.2=B-ADDRESS 10.4.0.2=B-ADDRESS 10.5.0.2=C-ADDRESS 10.6.0.2=C-ADDRESS \
        hosts/b=hosts/B hosts/c=hosts/C >"$LAB_WORK/compared"
}

start B b G T
both 6 subnet-up "own subnets are up"
both 12 subnet-up "B's subnets are up"
start C c
both 16 subnet-up "C's subnets are up"
# The others change their subnets: gmesh by a reload, tinc 1.0 by coming back.
change() { sed -i 's/^Subnet = 10.71.*/Subnet = 10.72.0.0\/25/' "$LAB_WORK/C/hosts/C" "$LAB_WORK/c/hosts/c"; }
if [[ $OTHERS == gmesh* ]]; then
    change
    hup C
    hup c
    both 17 subnet-up "C's new subnet is up"
    both 1 subnet-down "C's old subnet is down"
    stop C
    stop c
    both 5 subnet-down "C's subnets are down"
    start C c
    both 21 subnet-up "C's subnets are up again"
else
    stop C
    stop c
    both 4 subnet-down "C's subnets are down"
    change
    start C c
    both 20 subnet-up "C's new subnets are up"
fi
stop B
stop b
both 14 subnet-down "B and C are down"
start B b
# No reload to hurry them: where it met a connection that is just being made, there would be two in turn.
both 30 subnet-up "B and C are up again"
stop G
stop T
sed -i "s/^NODE=b\$/NODE=B/; s/^NODE=c\$/NODE=C/" "$LAB_WORK/T.record"
sed -Ei "s/^(NAME|NODE)=[GT]\$/\\1=US/" "$LAB_WORK/G.record" "$LAB_WORK/T.record"
if ! compare; then
    cat "$LAB_WORK/compared"
    fail "scripts run otherwise than those of tinc"
fi
say "  $(cat "$LAB_WORK/compared")"
[[ $(runs G tinc-down) == 1 && $(runs G subnet-up) -ge 30 ]] || fail "the scenario did not happen"

# A reload of gmesh runs the scripts of its own subnets, and of nothing else (tinc 1.0 does not read them again).
stop C
: >"$LAB_WORK/G.record"
start G
need 15 "B's subnets are up again" ran G subnet-up 12
: >"$LAB_WORK/G.record"
sed -i 's/^Subnet = 10.50.1.*/Subnet = 10.51.0.0\/24#3/' "$LAB_WORK/G/hosts/G"
hup G
need 5 "subnet-down after the reload" ran G subnet-down 1
need 5 "subnet-up after the reload" ran G subnet-up 1
[[ $(grep -E '^(==|SUBNET|WEIGHT)' "$LAB_WORK/G.record" | paste -sd' ') == \
    "== subnet-down 0 SUBNET=10.50.1.0/24 WEIGHT=7 == subnet-up 0 SUBNET=10.51.0.0/24 WEIGHT=3" ]] || {
    cat "$LAB_WORK/G.record"
    fail "other scripts ran after the reload"
}
stop G

# Scripts that go wrong do not stop the daemon, and are reported in the same words. The host scripts are all left to the
# interpreter, for which they need not be executable.
for name in G T; do
    dir="$LAB_WORK/$name"
    rm -f "$dir"/*-up "$dir"/*-down "$dir"/hosts/*-up "$dir"/hosts/*-down
    # shellcheck disable=SC2016 # for the script's own shell
    printf '#!/bin/sh\nip link set "$INTERFACE" up\nexit 3\n' >"$dir/tinc-up"
    printf '#!/bin/sh\nkill -KILL $$\n' >"$dir/host-up"
    printf '#!/nowhere/sh\n' >"$dir/hosts/B-up"
    printf '#!/nowhere/sh\n' >"$dir/hosts/b-up"
    printf '#!/bin/sh\n' >"$dir/subnet-up"
    chmod 755 "$dir/tinc-up" "$dir/host-up" "$dir/hosts/B-up" "$dir/hosts/b-up"
    chmod 644 "$dir/subnet-up"
done
# complaints NAME: once each (repeated lines are counted by gmesh and not written).
complaints() { last_life "$1" | grep -o 'Script .* exited.*\|Script .* was killed.*' | sed 's/hosts.b-/hosts\/B-/' | sort -u; }
complained() { [[ $(complaints "$1" | wc -l) -ge $2 ]]; }
expected=4 # with the interpreter host-up and tinc-up fail as before, hosts/B-up is fine and subnet-up fails otherwise
for interpreter in "" "/bin/sh -e"; do
    if [[ -n $interpreter ]]; then
        for name in G T; do
            echo "ScriptsInterpreter = $interpreter" >>"$LAB_WORK/$name/tinc.conf"
            expected=3
            printf 'env | grep ^NODE= >>here; false; echo not reached >>here' >"$LAB_WORK/$name/subnet-up"
        done
    fi
    start G T
    for name in G T; do need 15 "$name has complained" complained "$name" "$expected"; done
    alive G || fail "G died of a script"
    stop G
    stop T
    say "$(complaints G | sed 's/^/    /')"
    diff <(complaints G) <(complaints T) || fail "complaints differ with the interpreter '$interpreter'"
done
[[ -s $LAB_WORK/G/here ]] || fail "a script that is not executable did not run in CONFBASE by its interpreter"
if grep -q not "$LAB_WORK/G/here"; then fail "the interpreter's arguments were lost"; fi

# ScriptsExtension (tinc 1.1) goes for host scripts too. A script that hangs holds up the scripts, but neither the
# mesh nor the end.
dir="$LAB_WORK/G"
rm -f "$dir"/*-up "$dir/hosts/B-up" "$dir/here"
sed -i '/^ScriptsInterpreter/d' "$dir/tinc.conf"
echo "ScriptsExtension = .sh" >>"$dir/tinc.conf"
# shellcheck disable=SC2016 # for the script's own shell
printf '#!/bin/sh\nip addr add 10.200.0.1/24 dev "$INTERFACE"\nip link set "$INTERFACE" up\n' >"$dir/tinc-up.sh"
printf '#!/bin/sh\necho without >>here\n' >"$dir/hosts/B-up"
printf '#!/bin/sh\necho with >>here\necho $$ >hanging\nexec sleep 300\n' >"$dir/hosts/B-up.sh"
chmod 755 "$dir"/*.sh "$dir"/hosts/B-up*
start G
need 10 "the script runs" test -s "$dir/here"
reaches() { in_ns G ping -n -c 1 -W 0.5 10.200.0.2; }
ip -n "$(space B)" addr add 10.200.0.2/24 dev vpn0
need 5 "packets pass although a script hangs" reaches
[[ $(cat "$dir/here") == with ]] || fail "the wrong script ran: $(cat "$dir/here")"
began=$(now)
kill "$(cat "$dir/hanging")" || fail "the script did not hang"
stop G
less "$(elapsed "$began")" 5 || fail "the stop took $(elapsed "$began") s"
need 1 "its end by a signal is reported" logged G "Script hosts/B-up .*\\(143\\|signal 15\\)"
passed
