//! The usual `process_*` metrics, read from `/proc`. Where there is none, they are left out.

use std::{fmt, fs};

use prometheus_client::{
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};

/// Clock ticks a second and bytes a page, as Linux shows them to programs on every platform we build for.
const TICKS_PER_SECOND: f64 = 100.0;
const PAGE_BYTES: u64 = 4096;

/// Writes them.
pub(crate) fn encode(encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
    if let Some(stat) = fs::read_to_string("/proc/self/stat").ok().as_deref().and_then(Stat::parse) {
        let help = "Processor time used, in seconds";
        let metric = encoder.encode_descriptor("process_cpu_seconds", help, None, MetricType::Counter)?;
        ConstCounter::new(stat.cpu_seconds).encode(metric)?;
        gauge(encoder, "process_resident_memory_bytes", "Resident memory", stat.resident_bytes)?;
        gauge(encoder, "process_virtual_memory_bytes", "Virtual memory", stat.virtual_bytes)?;
        gauge(encoder, "process_threads", "Threads", stat.threads)?;
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

#[derive(Debug, PartialEq)]
struct Stat {
    cpu_seconds: f64,
    threads: u64,
    virtual_bytes: u64,
    resident_bytes: u64,
}

impl Stat {
    /// Reads `/proc/self/stat`; the fields count from behind the name, which may hold anything.
    fn parse(text: &str) -> Option<Self> {
        let (_, fields) = text.rsplit_once(')')?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
        // proc(5) counts from 1 and these from the state, its third: 14 utime, 15 stime, 20 threads, 23 vsize, 24 rss.
        #[expect(clippy::cast_precision_loss, reason = "ticks of a century fit a double")]
        let ticks = (number(11)? + number(12)?) as f64;
        Some(Self {
            cpu_seconds: ticks / TICKS_PER_SECOND,
            threads: number(17)?,
            virtual_bytes: number(20)?,
            resident_bytes: number(21)? * PAGE_BYTES,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_proc_is_read_behind_the_name() {
        let line = "12 (a) b) S 1 1 1 0 -1 4 1 0 0 0 150 50 0 0 20 0 5 0 99 8192 3 18446744073709551615 1";
        let expected = Stat { cpu_seconds: 2.0, threads: 5, virtual_bytes: 8192, resident_bytes: 12_288 };
        assert_eq!(Stat::parse(line), Some(expected));
        assert_eq!(Stat::parse("12 (a) S 1"), None);
    }
}
