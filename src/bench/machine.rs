//! What a figure was measured on.

use serde::Serialize;

use crate::nn::device::gpu_memory;

/// The machine, as far as it decides a figure.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// The processor's name.
    pub cpu: String,
    /// Cores that this process may use.
    pub cores: usize,
    /// Processes that wanted to run in the last minute, on average; beside a busy neighbour no figure means much.
    pub load_before: f64,
}

/// Looks at the machine; call it before the measurement.
pub fn look() -> Machine {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let info = read("/proc/cpuinfo");
    let name = info.lines().find_map(|line| line.strip_prefix("model name")).and_then(|rest| rest.split_once(':'));
    Machine {
        cpu: name.map_or_else(|| "unknown".to_owned(), |(_, name)| name.trim().to_owned()),
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        load_before: read("/proc/loadavg").split(' ').next().and_then(|load| load.parse().ok()).unwrap_or(f64::NAN),
    }
}

/// The most memory that this process ever held, MiB; 0 where the system does not say.
pub fn peak_resident_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next()).and_then(|kib| kib.parse::<f64>().ok());
    kib.unwrap_or(0.0) / 1024.0
}

/// What is taken of the memory of the GPU that this thread computes on, by all that use it, MiB; 0 without one.
pub fn device_mib() -> f64 {
    let taken = gpu_memory().map_or(0, |memory| memory.total.saturating_sub(memory.free));
    taken as f64 / 1024.0 / 1024.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_is_known() {
        let machine = look();
        assert!(machine.cores >= 1 && !machine.cpu.is_empty(), "{machine:?}");
        assert!(peak_resident_mib() > 1.0, "a test process holds more than a MiB");
    }
}
