//! Slots: how many runs go at once, and on what. One slot holds one child process.

use std::fmt;
use std::str::FromStr;

/// What a slot computes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Device {
    /// The processor.
    Cpu,
    /// The GPU with this index on the machine.
    Cuda(u32),
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Cpu => f.write_str("cpu"),
            Device::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

impl FromStr for Device {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "cpu" => Ok(Self::Cpu),
            None if text == "cuda" => Ok(Self::Cuda(0)),
            Some(("cuda", index)) => {
                index.parse().map(Self::Cuda).map_err(|_| format!("{index:?} is no GPU index; write cuda:0"))
            }
            _ => Err(format!("no device {text:?}; write cpu or cuda:0")),
        }
    }
}

impl Device {
    /// This device, where it is here.
    ///
    /// # Errors
    /// A sentence that says how many of the `gpus` are.
    pub fn among(self, gpus: u32) -> Result<Self, String> {
        match self {
            Self::Cuda(index) if index >= gpus => {
                Err(format!("{self} is asked for, and the number of usable GPUs here is {gpus}"))
            }
            there => Ok(there),
        }
    }
}

/// What `--devices` asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// Every GPU; without one, a single CPU slot.
    #[default]
    Auto,
    /// One slot for each, in this order; `cpu,cpu` is two slots that share the processor, `cuda:0,cuda:0` two that share a GPU.
    List(Vec<Device>),
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.trim() == "auto" {
            return Ok(Self::Auto);
        }
        let devices = text.split(',').map(|word| word.trim().parse()).collect::<Result<_, String>>();
        devices.map(Self::List).map_err(|error| format!("{error}; or auto, cpu,cpu, cuda:0,cuda:1, cuda:0,cuda:0"))
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::List(devices) => {
                let words: Vec<String> = devices.iter().map(Device::to_string).collect();
                f.write_str(&words.join(","))
            }
        }
    }
}

/// One place where a run can go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// Counts from 0.
    pub index: usize,
    /// What it computes on.
    pub device: Device,
    /// Compute threads for a run here.
    pub threads: u32,
}

impl Slot {
    /// The device as the child sees it: it is shown its own GPU only, which is then its first.
    pub fn device_in_child(&self) -> &'static str {
        match self.device {
            Device::Cpu => "cpu",
            Device::Cuda(_) => "cuda:0",
        }
    }
}

/// The slots of this machine with `gpus` usable GPUs and `cores` processor cores.
///
/// # Errors
/// A GPU that is asked for and not there: a sentence that says which there are.
pub fn slots(choice: &DeviceChoice, gpus: u32, cores: u32) -> Result<Vec<Slot>, String> {
    let devices = match choice {
        DeviceChoice::Auto if gpus > 0 => (0..gpus).map(Device::Cuda).collect(),
        DeviceChoice::Auto => vec![Device::Cpu],
        DeviceChoice::List(devices) => devices.clone(),
    };
    for device in &devices {
        device.among(gpus)?;
    }
    let on_cpu = devices.iter().filter(|device| **device == Device::Cpu).count() as u32;
    let on_gpus = devices.len() as u32 - on_cpu;
    // Each CPU slot gets its share of the cores; a GPU run needs a few threads, to unpack images and to feed the card.
    let (share, feeding) = ((cores / on_cpu.max(1)).max(1), (cores / on_gpus.max(1)).clamp(1, 4));
    Ok(devices
        .into_iter()
        .enumerate()
        .map(|(index, device)| {
            let threads = if device == Device::Cpu { share } else { feeding };
            Slot { index, device, threads }
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_devices_understands() {
        assert_eq!("auto".parse(), Ok(DeviceChoice::Auto));
        assert_eq!("cpu,cpu".parse(), Ok(DeviceChoice::List(vec![Device::Cpu; 2])));
        assert_eq!("cuda:0, cuda:1".parse(), Ok(DeviceChoice::List(vec![Device::Cuda(0), Device::Cuda(1)])));
        assert!("gpu".parse::<DeviceChoice>().unwrap_err().contains("cuda:0"));
        assert_eq!("cuda:0,cuda:0".parse(), Ok(DeviceChoice::List(vec![Device::Cuda(0); 2])));
        assert!("cuda:x".parse::<DeviceChoice>().is_err());
    }

    #[test]
    fn auto_takes_every_gpu_else_one_cpu_slot() {
        assert_eq!(slots(&DeviceChoice::Auto, 2, 16).unwrap().len(), 2);
        let cpu = slots(&DeviceChoice::Auto, 0, 16).unwrap();
        assert_eq!(cpu, [Slot { index: 0, device: Device::Cpu, threads: 16 }]);
    }

    #[test]
    fn cpu_slots_share_the_cores_and_keep_at_least_one() {
        let two = slots(&"cpu,cpu".parse().unwrap(), 0, 5).unwrap();
        assert_eq!(two.iter().map(|slot| slot.threads).collect::<Vec<_>>(), [2, 2]);
        let many = slots(&"cpu,cpu,cpu".parse().unwrap(), 0, 2).unwrap();
        assert!(many.iter().all(|slot| slot.threads == 1));
    }

    #[test]
    fn gpu_slots_share_the_cores_and_take_four_at_most() {
        let threads = |choice: &str, cores| -> Vec<u32> {
            slots(&choice.parse().unwrap(), 2, cores).unwrap().iter().map(|slot| slot.threads).collect()
        };
        assert_eq!(threads("cuda:0", 16), [4]);
        assert_eq!(threads("cuda:0,cuda:0,cuda:1", 6), [2, 2, 2]);
        assert_eq!(threads("cuda:0,cuda:0", 1), [1, 1]);
    }

    #[test]
    fn a_gpu_that_is_not_there_is_an_error() {
        assert!(slots(&"cuda:1".parse().unwrap(), 1, 4).unwrap_err().contains("cuda:1"));
    }
}
