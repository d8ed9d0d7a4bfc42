//! How much memory this process may use: what its control groups allow, or what the machine has.

use std::{fs, path::Path};

/// Bytes; `None` where nothing says.
pub fn limit() -> Option<usize> {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let allowed = groups.lines().flat_map(|line| of_group(Path::new("/sys/fs/cgroup"), line));
    allowed.chain(machine()).min()
}

/// What a line of `/proc/self/cgroup` and the groups above it allow: `0::/a/b`, or `4:memory:/a/b` of version 1.
fn of_group(root: &Path, line: &str) -> Vec<usize> {
    let mut fields = line.splitn(3, ':').skip(1);
    let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { return Vec::new() };
    let (root, file) = match controllers {
        "" => (root.to_owned(), "memory.max"),
        "memory" => (root.join("memory"), "memory.limit_in_bytes"),
        _ => return Vec::new(),
    };
    let group = root.join(path.trim_start_matches('/'));
    let own_and_above = group.ancestors().take_while(|group| group.starts_with(&root));
    own_and_above.filter_map(|group| fs::read_to_string(group.join(file)).ok()?.trim().parse().ok()).collect()
}

fn machine() -> Option<usize> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: usize = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn some_limit_is_known_on_linux() {
        assert!(limit().is_some_and(|bytes| bytes > 1 << 20));
    }

    #[test]
    fn a_group_is_bound_by_those_above_it() {
        let root = std::env::temp_dir().join(format!("soundpost-memory-{}", std::process::id()));
        let group = root.join("system.slice/soundpost.service");
        fs::create_dir_all(&group).unwrap();
        fs::write(group.join("memory.max"), "1000\n").unwrap();
        fs::write(root.join("system.slice/memory.max"), "max\n").unwrap();
        fs::write(root.join("memory.max"), "5000\n").unwrap();
        let allowed = of_group(&root, "0::/system.slice/soundpost.service");
        let other = of_group(&root, "2:cpu:/");
        fs::remove_dir_all(&root).unwrap();
        assert_eq!((allowed, other), (vec![1000, 5000], vec![]));
    }
}
