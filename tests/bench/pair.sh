#!/usr/bin/env bash
#      A --- B        one veth pair, and a tunnel between two daemons; A is the one under test
#
# Measures the tunnel and prints lines "result NAME VALUE".
#
# usage: pair.sh measures=LIST [seconds=N] [pings=N] [rates=LIST] [subnets=N] KIND KIND
#
#   rtt    pings that find the daemons idle, each on a core of its own: rtt (median) and rtt99 (99th percentile), us
#   out    UDP packets of 1380 bytes from A to B: out (packets/s that arrived) and out_cpu (us of A's core a packet)
#   in     the same from B to A: in, in_cpu
#   tcp    one TCP stream from A to B, every process wherever it likes: tcp (Mbit/s)
#
# For "out" and "in" A has a core to itself; B and both ends of the traffic share the other. The rates (packets/s) are
# tried one after the other and the best result counts, since a source that is far too fast starves everyone else.
# With subnets=N, B owns so many more subnets.

source "$(dirname "$0")/../netns/lib.sh"

SECONDS_EACH=${VARIANT[seconds]:-5}
PINGS=${VARIANT[pings]:-300}
RATES=${VARIANT[rates]:-20000,40000,60000}
PAYLOAD=1380 # with this a packet of either protocol fits into 1500 bytes
CORE_OF_A=1
CORE_OF_B=0
PORT=5200

result() { say "result $1 $2"; }
cpu_ticks() { awk '{ print $14 + $15 }' "/proc/${PID[$1]}/stat"; }
arrived() { in_ns "$1" cat /sys/class/net/vpn0/statistics/rx_packets; }
pin() { taskset -a -p -c "$2" "${PID[$1]}" >/dev/null; }
listening() { [[ -n $(in_ns "$1" ss -Hltn "sport = :$PORT") ]]; }

# sink NAME [COMMAND...]: a new iperf3 server, since one whose test broke off may still wait for its client.
sink() {
    local name=$1
    shift
    PORT=$((PORT + 1))
    in_ns_background "$name" "$LAB_WORK/iperf3-server.log" "$@" iperf3 -s -1 -p "$PORT"
    need 20 "a sink at $name" listening "$name" >/dev/null
}

# stream FROM TO RATE: a UDP stream; prints what arrived a second and us of A's processor for each, in its middle.
stream() {
    local from=$1 to=$2 source begin packets ticks passed
    sink "$to" taskset -c "$CORE_OF_B"
    in_ns_background "$from" "$LAB_WORK/iperf3-client.log" timeout "$((SECONDS_EACH + 20))" taskset -c "$CORE_OF_B" \
        iperf3 -u -l "$PAYLOAD" -b "$(($3 * PAYLOAD * 8))" -t "$((SECONDS_EACH + 3))" -p "$PORT" -c "$(mesh_address "$to")"
    source=$!
    begin=$(arrived "$to")
    need 20 "the stream has begun" flowing "$to" "$begin" >/dev/null
    sleep 1
    begin=$(now)
    packets=$(arrived "$to")
    ticks=$(cpu_ticks A)
    sleep "$SECONDS_EACH"
    packets=$(($(arrived "$to") - packets))
    ticks=$(($(cpu_ticks A) - ticks))
    passed=$(awk -v a="$begin" -v b="$(now)" 'BEGIN { print b - a }')
    # What iperf3 thinks of it does not matter: its own connection may have been starved.
    wait "$source" || true
    awk -v packets="$packets" -v ticks="$ticks" -v passed="$passed" -v hertz="$(getconf CLK_TCK)" \
        'BEGIN { printf "%.0f %.2f\n", packets / passed, packets ? ticks / hertz * 1e6 / packets : 0 }'
}
flowing() { [[ $(($(arrived "$1") - $2)) -gt 1000 ]]; }

one_way() {
    local label=$1 from=$2 to=$3 rate best=0 cpu=0 now_rate now_cpu
    pin A "$CORE_OF_A"
    pin B "$CORE_OF_B"
    for rate in ${RATES//,/ }; do
        read -r now_rate now_cpu < <(stream "$from" "$to" "$rate")
        say "  $label at $rate/s: $now_rate/s arrived, $now_cpu us of A each"
        if [[ $now_rate -gt $best ]]; then best=$now_rate cpu=$now_cpu; fi
    done
    result "$label" "$best"
    result "${label}_cpu" "$cpu"
}

round_trips() {
    pin A "$CORE_OF_A"
    pin B "$CORE_OF_B"
    in_ns A ping -n -i 0.01 -c "$PINGS" -W 1 "$(mesh_address B)" >"$LAB_WORK/pings" || true
    sed -n 's/.*time=\([0-9.]*\) ms.*/\1/p' "$LAB_WORK/pings" | sort -n >"$LAB_WORK/times"
    [[ $(wc -l <"$LAB_WORK/times") -ge $((PINGS * 9 / 10)) ]] || fail "too many pings were lost"
    result rtt "$(percentile 50)"
    result rtt99 "$(percentile 99)"
}
percentile() { awk -v p="$1" '{ t[NR] = $1 } END { printf "%.0f", 1000 * t[int((NR - 1) * p / 100) + 1] }' "$LAB_WORK/times"; }

one_stream() {
    taskset -a -p -c "0-$(($(nproc) - 1))" "${PID[A]}" >/dev/null
    taskset -a -p -c "0-$(($(nproc) - 1))" "${PID[B]}" >/dev/null
    sink B
    in_ns A timeout "$((SECONDS_EACH + 30))" iperf3 -J -t "$SECONDS_EACH" -O 1 -p "$PORT" -c "$(mesh_address B)" \
        >"$LAB_WORK/tcp.json" || true
    result tcp "$("$GMESH_BIN/python" -c 'import json, sys
print(round(json.load(sys.stdin)["end"]["sum_received"]["bits_per_second"] / 1e6))' <"$LAB_WORK/tcp.json")"
}

add_space A
add_space B
ip link add eth0 netns "$(space A)" type veth peer name eth0 netns "$(space B)"
for number in 1 2; do
    name=$(cut -c "$number" <<<AB)
    in_ns "$name" ip addr add "10.1.0.$number/24" dev eth0
    in_ns "$name" ip link set eth0 up
    ADDRESS[$name]=10.1.0.$number
done
# What the machine prefers may be a congestion control that paces, and that is not the daemons' doing.
for name in A B; do in_ns "$name" sysctl -qw net.ipv4.tcp_congestion_control=reno; done
algorithms=(host.Cipher=aes-256-cbc host.Digest=sha256)
strict=()
# Files are the one source of subnets without a bound: what a member says is limited (requirement 12).
[[ -z ${VARIANT[subnets]:-} ]] || strict=(StrictSubnets=yes)
node A "${algorithms[@]}" "${strict[@]}" ConnectTo=B
node B "${algorithms[@]}" "${strict[@]}"
for ((number = 0; number < ${VARIANT[subnets]:-0}; number++)); do
    echo "Subnet = 10.$((100 + number / 65536)).$((number / 256 % 256)).$((number % 256))/32"
done >>"$LAB_WORK/B/hosts/B"
introduce A B
# Nobody benchmarks a log.
GMESH_DEBUG=0
start B A
need 40 "the tunnel is there" reachable A B
# The path's MTU has been found when a packet of full size goes by UDP: both originals take a few seconds for it.
quiet() { in_ns A ping -n -c 2 -i 0.2 -W 1 -s "$PAYLOAD" -M "do" "$(mesh_address B)"; }
need 20 "packets of full size arrive" quiet
sleep 4

for measure in ${VARIANT[measures]//,/ }; do
    case $measure in
        rtt) round_trips ;;
        out) one_way out A B ;;
        in) one_way in B A ;;
        tcp) one_stream ;;
        *) fail "unknown measure $measure" ;;
    esac
done
passed
