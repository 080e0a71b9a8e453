#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| gmesh_core::engine::testing::fuzz::legacy(data));
