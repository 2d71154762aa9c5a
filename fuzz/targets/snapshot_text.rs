#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pgstream_fuzz::snapshot_text(data));
