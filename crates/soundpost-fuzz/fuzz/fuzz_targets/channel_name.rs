#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    soundpost_fuzz::channel_name(data);
});
