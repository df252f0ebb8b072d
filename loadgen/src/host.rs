//! The machine, as `/proc` tells it. Where there is no `/proc`, the answers are zero or empty.

use std::fs;
use std::time::Duration;

use serde::Serialize;

/// The machine of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Host {
    pub os: &'static str,
    pub kernel: String,
    pub cpu: String,
    pub cores: usize,
    pub mem_bytes: u64,
    /// The largest receive buffer that a socket is granted.
    pub rmem_max: u64,
    /// CPUs that the control group allows; `null`: all.
    pub cgroup_cpu: Option<f64>,
}

impl Host {
    pub fn read() -> Self {
        let info = text("/proc/cpuinfo");
        Self {
            os: std::env::consts::OS,
            kernel: text("/proc/sys/kernel/osrelease").trim().to_owned(),
            cpu: field(&info, "model name").unwrap_or_default().trim_start_matches(": ").to_owned(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            mem_bytes: kilobytes(&text("/proc/meminfo"), "MemTotal:"),
            rmem_max: text("/proc/sys/net/core/rmem_max").trim().parse().unwrap_or(0),
            cgroup_cpu: cgroup_cpu(&text("/sys/fs/cgroup/cpu.max")),
        }
    }
}

/// CPU time of all live threads of this process.
pub fn cpu_time() -> Duration {
    let tasks = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    tasks.map(|task| run_time(&fs::read_to_string(task.path().join("schedstat")).unwrap_or_default())).sum()
}

/// CPU time of this thread.
pub fn thread_cpu_time() -> Duration {
    run_time(&text("/proc/thread-self/schedstat"))
}

/// Memory in use by this process.
pub fn rss_bytes() -> u64 {
    kilobytes(&text("/proc/self/status"), "VmRSS:")
}

/// UDP datagrams that the kernel dropped for want of socket buffer, in this network namespace.
pub fn udp_rcvbuf_errors() -> u64 {
    udp_counter(&text("/proc/net/snmp"), "RcvbufErrors")
        + udp_counter(&text("/proc/net/snmp6"), "Udp6RcvbufErrors")
}

fn text(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The first number of a schedstat line: nanoseconds on a CPU.
fn run_time(schedstat: &str) -> Duration {
    let first = schedstat.split_whitespace().next();
    Duration::from_nanos(first.and_then(|ns| ns.parse().ok()).unwrap_or(0))
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

fn kilobytes(text: &str, name: &str) -> u64 {
    let value = field(text, name).and_then(|rest| rest.split_whitespace().next());
    value.and_then(|kb| kb.parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// A counter of `/proc/net/snmp` (a line of names above a line of numbers) or snmp6 (one pair a line).
fn udp_counter(text: &str, name: &str) -> u64 {
    let mut udp = text.lines().filter_map(|line| line.strip_prefix("Udp:"));
    if let (Some(names), Some(values)) = (udp.next(), udp.next()) {
        let place = names.split_whitespace().position(|known| known == name);
        let value = place.and_then(|place| values.split_whitespace().nth(place));
        return value.and_then(|value| value.parse().ok()).unwrap_or(0);
    }
    field(text, name).and_then(|value| value.parse().ok()).unwrap_or(0)
}

fn cgroup_cpu(text: &str) -> Option<f64> {
    let (quota, period) = text.trim().split_once(' ')?;
    Some(quota.parse::<f64>().ok()? / period.parse::<f64>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_found_by_name() {
        let snmp = "Tcp: A\nTcp: 1\nUdp: InDatagrams NoPorts RcvbufErrors\nUdp: 33 0 7\n";
        assert_eq!(udp_counter(snmp, "RcvbufErrors"), 7);
        assert_eq!(udp_counter("Udp6InErrors \t3\nUdp6RcvbufErrors \t5\n", "Udp6RcvbufErrors"), 5);
        assert_eq!(udp_counter("", "RcvbufErrors"), 0);
        assert_eq!(kilobytes("VmPeak: 1 kB\nVmRSS:\t  12 kB\n", "VmRSS:"), 12 * 1024);
        assert_eq!(run_time("2017736 12 1\n"), Duration::from_nanos(2_017_736));
        assert_eq!(cgroup_cpu("150000 100000\n"), Some(1.5));
        assert_eq!(cgroup_cpu("max 100000\n"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn cpu_time_grows_with_work() {
        let before = thread_cpu_time();
        let start = std::time::Instant::now();
        while start.elapsed() < Duration::from_millis(30) {
            std::hint::black_box(start);
        }
        assert!(thread_cpu_time() > before);
        assert!(rss_bytes() > 0 && cpu_time() > Duration::ZERO);
    }
}
