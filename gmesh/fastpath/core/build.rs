//! Finds out whether this compiler has the AVX-512 intrinsics, which are stable from Rust 1.89 on.

use std::env;
use std::process::Command;

const AVX512_SINCE: u32 = 89;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-check-cfg=cfg(has_avx512)");
    println!("cargo:rustc-check-cfg=cfg(fuzzing)");
    let rustc = env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
    let text = Command::new(rustc)
        .arg("--version")
        .output()
        .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
        .unwrap_or_default();
    if minor(&text).is_some_and(|minor| minor >= AVX512_SINCE) {
        println!("cargo:rustc-cfg=has_avx512");
    }
}

/// The 95 of `rustc 1.95.0 (...)`.
fn minor(version: &str) -> Option<u32> {
    let number = version.split_whitespace().nth(1)?;
    let mut parts = number.split('.');
    (parts.next()? == "1").then_some(())?;
    parts.next()?.parse().ok()
}
