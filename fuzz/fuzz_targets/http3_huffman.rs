//! Hands what libFuzzer invents to `quiclane_http3::fuzz::huffman`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| quiclane_http3::fuzz::huffman(data));
