#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| moteway_fuzz::bounded(moteway_fuzz::targets::gateway::run, data));
