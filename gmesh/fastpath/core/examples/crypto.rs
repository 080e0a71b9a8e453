//! How long sealing and opening take per packet: `cargo run --release --example crypto`.

use std::time::{Duration, Instant};

use gmesh_core::crypto::{record_ciphers, Job, RecordKey, TAG};

const RUN: Duration = Duration::from_micros(500);

/// The best of many short runs, in nanoseconds per packet: the least disturbed one.
fn per_packet(count: usize, mut work: impl FnMut()) -> f64 {
    let mut best = f64::INFINITY;
    for _ in 0..200 {
        let start = Instant::now();
        let mut calls = 0u32;
        while start.elapsed() < RUN {
            work();
            calls += 1;
        }
        best = best.min(start.elapsed().as_nanos() as f64 / f64::from(calls) / count as f64);
    }
    best
}

fn main() {
    let key = RecordKey::new(&[7; 32]);
    println!(
        "{:10} {:>6} {:>8} {:>10} {:>10} {:>14}",
        "cipher", "bytes", "packets", "seal ns", "open ns", "of it ChaCha20"
    );
    for len in [1401, 93] {
        for count in [1, 4, 16, 44] {
            for cipher in record_ciphers() {
                let mut jobs: Vec<Job> = (0..count).map(|i| Job::new(i as u32, i * (len + TAG + 16), len)).collect();
                let mut buffer = vec![0; count * (len + TAG + 16)];
                let seal = per_packet(count, || cipher.seal(&key, &mut buffer, &mut jobs));
                // Opening makes plain what was sealed, so it has to be sealed again, which is taken off.
                let both = per_packet(count, || {
                    cipher.seal(&key, &mut buffer, &mut jobs);
                    cipher.open(&key, &mut buffer, &mut jobs);
                });
                let stream = per_packet(count, || cipher.apply(&key, &mut buffer, &jobs));
                assert!(jobs.iter().all(|job| job.ok));
                println!("{:10} {len:6} {count:8} {seal:10.0} {:10.0} {stream:14.0}", cipher.name(), both - seal);
            }
        }
    }
}
