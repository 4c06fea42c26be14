//! Which device computes.

use super::{
    BackendError,
    cuda::driver::{Driver, real},
};
use std::{fmt, rc::Rc, str::FromStr};

/// A device, by the word of workload files and of `--device`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Device {
    /// The host's processors.
    #[default]
    Cpu,
    /// An NVIDIA GPU, counted from 0.
    Cuda(u32),
    /// A Huawei Ascend NPU, counted from 0: known by its name, and not built ([`Device::open`]).
    Npu(u32),
    /// The first GPU where everything that it needs is there, else the CPU ([`Device::choose`]).
    Auto,
}

impl Device {
    /// What may be written.
    pub const WORDS: &str = "\"cpu\", \"cuda:N\" (GPU number N, as in \"cuda:0\") or \"auto\"";

    /// Replaces [`Device::Auto`] by a device, with a sentence about which and why.
    pub fn choose(self) -> (Device, Option<String>) {
        if self != Device::Auto {
            return (self, None);
        }
        match real::Gpu::open(0) {
            Ok(gpu) => (
                Device::Cuda(0),
                Some(format!("device auto: computing on cuda:0, {}", gpu.device().name)),
            ),
            Err(e) => (Device::Cpu, Some(format!("device auto: computing on the CPU, since {e}"))),
        }
    }

    /// The GPU's driver, if it is a GPU.
    ///
    /// # Errors
    /// What is missing.
    pub fn open(self) -> super::Result<Option<Rc<dyn Driver>>> {
        match self {
            Device::Cuda(n) => real::Gpu::open(n).map(Some),
            Device::Npu(_) => Err(BackendError::Device(format!(
                "{self}: not built: this program has no backend for NPUs; use \"cpu\" or \"cuda:N\" (docs/cuda.md says how a device is added)"
            ))),
            Device::Cpu | Device::Auto => Ok(None),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Cpu => f.write_str("cpu"),
            Device::Cuda(n) => write!(f, "cuda:{n}"),
            Device::Npu(n) => write!(f, "npu:{n}"),
            Device::Auto => f.write_str("auto"),
        }
    }
}

impl FromStr for Device {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let number = |kind: &str| -> Option<u32> {
            word.strip_prefix(kind).filter(|n| n.bytes().all(|b| b.is_ascii_digit()))?.parse().ok()
        };
        match word {
            "cpu" => Ok(Device::Cpu),
            "cuda" => Ok(Device::Cuda(0)),
            "npu" => Ok(Device::Npu(0)),
            "auto" => Ok(Device::Auto),
            _ => number("cuda:")
                .map(Device::Cuda)
                .or_else(|| number("npu:").map(Device::Npu))
                .ok_or_else(|| format!("must be {}", Device::WORDS)),
        }
    }
}

impl serde::Serialize for Device {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Device {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let word = String::deserialize(deserializer)?;
        word.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_read_as_they_are_written() {
        for (word, device) in [
            ("cpu", Device::Cpu),
            ("cuda:0", Device::Cuda(0)),
            ("cuda:17", Device::Cuda(17)),
            ("npu:3", Device::Npu(3)),
            ("auto", Device::Auto),
        ] {
            assert_eq!((word.parse(), device.to_string().as_str()), (Ok(device), word));
        }
        assert_eq!("cuda".parse(), Ok(Device::Cuda(0)));
        assert_eq!("npu".parse(), Ok(Device::Npu(0)));
        for word in ["", "gpu", "cuda:", "cuda:-1", "cuda:+1", "cuda:99999999999", "CPU"] {
            assert!(word.parse::<Device>().is_err_and(|e| e.contains("cuda:N")), "{word}");
        }
    }

    #[test]
    fn auto_comes_to_something_and_says_why() {
        let (device, why) = Device::Auto.choose();
        assert!(device != Device::Auto && why.is_some_and(|w| w.contains("device auto")));
        assert_eq!(Device::Cuda(3).choose(), (Device::Cuda(3), None));
        assert!(
            Device::Cuda(4_000_000_000)
                .open()
                .unwrap_err()
                .to_string()
                .starts_with("cuda:4000000000: ")
        );
    }
}
