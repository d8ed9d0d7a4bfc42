//! The usual `process_*` metrics, read from `/proc`. Where there is none, they are left out.

use std::{fmt, fs};

use prometheus_client::{
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};

/// Clock ticks a second, as Linux shows them to programs on every platform.
const TICKS_PER_SECOND: f64 = 100.0;

/// Writes them.
pub(crate) fn encode(encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
    let own = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    if let Some(seconds) = cpu_seconds(&own) {
        let help = "Processor time used, in seconds";
        let metric = encoder.encode_descriptor("process_cpu_seconds", help, None, MetricType::Counter)?;
        ConstCounter::new(seconds).encode(metric)?;
    }
    let machine = fs::read_to_string("/proc/stat").unwrap_or_default();
    if let Some(seconds) = start_seconds(&own, &machine) {
        let help = "When the process started, in seconds since 1970";
        let metric =
            encoder.encode_descriptor("process_start_time_seconds", help, None, MetricType::Gauge)?;
        ConstGauge::new(seconds).encode(metric)?;
    }
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    for (field, unit, name, help) in [
        ("VmRSS:", 1024, "process_resident_memory_bytes", "Resident memory"),
        ("VmSize:", 1024, "process_virtual_memory_bytes", "Virtual memory"),
        ("Threads:", 1, "process_threads", "Threads"),
    ] {
        if let Some(value) = field_of(&status, field) {
            gauge(encoder, name, help, value * unit)?;
        }
    }
    if let Ok(files) = fs::read_dir("/proc/self/fd") {
        gauge(encoder, "process_open_fds", "Open file descriptors", files.count() as u64)?;
    }
    if let Ok(files) = rlimit::Resource::NOFILE.get_soft() {
        gauge(encoder, "process_max_fds", "File descriptors allowed", files)?;
    }
    Ok(())
}

fn gauge(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> Result<(), fmt::Error> {
    let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    ConstGauge::new(value).encode(metric)
}

/// The processor time in `/proc/self/stat`: `utime` and `stime`. The name before the fields may hold anything.
fn cpu_seconds(stat: &str) -> Option<f64> {
    Some(seconds(stat_field(stat, 14)? + stat_field(stat, 15)?))
}

/// When the process started: `starttime` ticks after the machine did, which is `btime` in `/proc/stat`.
fn start_seconds(stat: &str, machine: &str) -> Option<f64> {
    let booted = machine.lines().find_map(|line| line.strip_prefix("btime "))?;
    let booted: f64 = booted.trim().parse().ok()?;
    Some(booted + seconds(stat_field(stat, 22)?))
}

/// A field of `/proc/self/stat`, in the numbers of proc(5), which count from 1; those behind the name begin with 3.
fn stat_field(stat: &str, number: usize) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(number.checked_sub(3)?)?.parse().ok()
}

#[expect(clippy::cast_precision_loss, reason = "ticks of a century fit a double")]
fn seconds(ticks: u64) -> f64 {
    ticks as f64 / TICKS_PER_SECOND
}

/// The number behind a field's name in `/proc/self/status`, without its unit.
fn field_of(status: &str, name: &str) -> Option<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix(name))?;
    value.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_proc_says_is_read() {
        let line = "12 (a) b) S 1 1 1 0 -1 4 1 0 0 0 150 50 0 0 20 0 5 0 99 8192 3 18446744073709551615 1";
        assert_eq!(cpu_seconds(line), Some(2.0));
        assert_eq!(cpu_seconds("12 (a) S 1"), None);
        assert_eq!(start_seconds(line, "cpu 1\nbtime 1700000000\n"), Some(1_700_000_000.99));
        assert_eq!(start_seconds(line, ""), None);
        let status = "Name:\tsoundpost\nVmRSS:\t    5640 kB\nThreads:\t5\n";
        assert_eq!((field_of(status, "VmRSS:"), field_of(status, "Threads:")), (Some(5640), Some(5)));
        assert_eq!(field_of(status, "VmSize:"), None);
    }
}
