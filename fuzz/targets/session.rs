#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pgstream_fuzz::session(data));
