//! How much memory this process may use: what its control group allows, or what the machine has.

use std::fs;

/// Bytes; `None` where nothing says.
pub fn limit() -> Option<usize> {
    let group = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    let allowed = group.iter().filter_map(|path| fs::read_to_string(path).ok()?.trim().parse::<usize>().ok());
    allowed.chain(machine()).min()
}

fn machine() -> Option<usize> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: usize = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    #[test]
    #[cfg(target_os = "linux")]
    fn some_limit_is_known_on_linux() {
        assert!(super::limit().is_some_and(|bytes| bytes > 1 << 20));
    }
}
