//! Which device the arithmetic runs on, and in which number format.

use std::ffi::{c_int, c_uint};
use std::fmt;
use std::path::PathBuf;
use std::sync::OnceLock;

use libloading::os::unix::Library;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, TchError, Tensor};
use utoipa::ToSchema;

use super::{NnError, shim};

/// Whether CUDA can be used by this process, and if not, why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CudaStatus {
    /// libtorch_cuda is loaded and sees this many devices.
    Ready(usize),
    /// No NVIDIA driver on this machine.
    NoDriver,
    /// The driver is there, but libtorch's CUDA half is not or cannot be loaded.
    NoLibrary(String),
}

impl CudaStatus {
    /// Whether somebody who has a GPU would not expect that it is not used.
    pub fn is_surprising(&self) -> bool {
        matches!(self, Self::Ready(0) | Self::NoLibrary(_))
    }
}

impl fmt::Display for CudaStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready(0) => write!(
                f,
                "an NVIDIA driver and libtorch's CUDA half are here, but no device can be used: is the driver one for CUDA 13 (580 or \
                 newer), is a device passed to the container, does CUDA_VISIBLE_DEVICES hide it?"
            ),
            Self::Ready(devices) => write!(f, "CUDA ready, {devices} device(s)"),
            Self::NoDriver => write!(f, "no NVIDIA driver (libcuda.so.1) on this machine"),
            Self::NoLibrary(reason) => write!(
                f,
                "an NVIDIA driver is here, but libtorch_cuda.so cannot be loaded ({reason}); \
                 GPU=1 scripts/libtorch.sh installs it"
            ),
        }
    }
}

/// Loads libtorch's CUDA half where there is a driver for it.
///
/// Must run before anything asks libtorch about CUDA: asked earlier, libtorch remembers "none" for good.
/// The binary is linked against the CPU half alone, so that one build serves both kinds of machine.
pub fn preload_cuda() -> CudaStatus {
    use libloading::os::unix::{RTLD_GLOBAL, RTLD_NOW};
    // SAFETY: the driver's and libtorch's initialisers are meant to run at load time; the handles are
    // forgotten on purpose, so that their code stays mapped as long as the process lives.
    if let Err(_missing) = unsafe { Library::open(Some("libcuda.so.1"), RTLD_NOW).map(std::mem::forget) } {
        return CudaStatus::NoDriver;
    }
    let path = libtorch_directory().map_or_else(|| "libtorch_cuda.so".into(), |dir| dir.join("libtorch_cuda.so"));
    // SAFETY: as above.
    match unsafe { Library::open(Some(&path), RTLD_NOW | RTLD_GLOBAL).map(std::mem::forget) } {
        Ok(()) => CudaStatus::Ready(tch::Cuda::device_count().max(0) as usize),
        Err(error) => CudaStatus::NoLibrary(error.to_string().lines().next().unwrap_or_default().to_owned()),
    }
}

/// Where the libtorch of this process was loaded from.
fn libtorch_directory() -> Option<PathBuf> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let path =
        maps.lines().find_map(|line| line.split_whitespace().nth(5).filter(|p| p.ends_with("libtorch_cpu.so")))?;
    PathBuf::from(path).parent().map(PathBuf::from)
}

/// `tensor` on `device`, without waiting for what the device still has to do.
///
/// libtorch's plain copy waits for the whole queue: ten times in a step, that leaves a GPU idle for half of it. A copy from
/// the memory that [`Tensor::from_slice`] makes (pageable, in CUDA's words) has left it when this returns, so that the source may be dropped at once.
///
/// # Errors
/// libtorch's: no memory on the device.
pub fn send(tensor: &Tensor, device: Device) -> Result<Tensor, TchError> {
    if device == Device::Cpu {
        Ok(tensor.shallow_clone())
    } else {
        tensor.f_to_device_(device, tensor.kind(), true, false)
    }
}

/// A GPU's memory, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GpuMemory {
    /// What nobody has taken, of this process or another.
    pub free: usize,
    /// All of it.
    pub total: usize,
}

/// The memory of the GPU that this thread computes on; none where it does not.
///
/// By the driver's own `cuMemGetInfo`, since libtorch tells its GPU memory to Python alone.
pub fn gpu_memory() -> Option<GpuMemory> {
    type MemGetInfo = unsafe extern "C" fn(*mut usize, *mut usize) -> c_int;
    let mut memory = GpuMemory { free: 0, total: 0 };
    // SAFETY: this is its documented signature, and what is pointed to lives until it returns.
    let answer =
        unsafe { driver()?.get::<MemGetInfo>(b"cuMemGetInfo_v2").ok()?(&raw mut memory.free, &raw mut memory.total) };
    (answer == 0).then_some(memory)
}

/// NVIDIA's driver, which is loaded already wherever there is a GPU to ask for; its code stays mapped as long as the process lives.
fn driver() -> Option<&'static Library> {
    static DRIVER: OnceLock<Option<Library>> = OnceLock::new();
    // SAFETY: its initialiser is meant to run at load time.
    DRIVER.get_or_init(|| unsafe { Library::new("libcuda.so.1") }.ok()).as_ref()
}

/// A GPU's compute capability, major and minor; none where the driver does not tell.
fn compute_capability(index: usize) -> Option<(i32, i32)> {
    // CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and …_MINOR of cuda.h.
    const MAJOR: c_int = 75;
    const MINOR: c_int = 76;
    type Init = unsafe extern "C" fn(c_uint) -> c_int;
    type Get = unsafe extern "C" fn(*mut c_int, c_int) -> c_int;
    type Attribute = unsafe extern "C" fn(*mut c_int, c_int, c_int) -> c_int;
    let (mut device, mut major, mut minor) = (0, 0, 0);
    // SAFETY: these are their documented signatures; `cuInit` may be repeated, and what is pointed to lives until they return.
    let answers = unsafe {
        let driver = driver()?;
        let init = driver.get::<Init>(b"cuInit").ok()?(0);
        let get = driver.get::<Get>(b"cuDeviceGet").ok()?(&raw mut device, c_int::try_from(index).ok()?);
        let attribute = driver.get::<Attribute>(b"cuDeviceGetAttribute").ok()?;
        [init, get, attribute(&raw mut major, MAJOR, device), attribute(&raw mut minor, MINOR, device)]
    };
    (answers == [0; 4]).then_some((major, minor))
}

/// Lets cuDNN try its ways to convolve on the first batch of each size and keep the fastest: for runs, whose batches all
/// have a few sizes. Without effect on a CPU.
pub fn search_convolutions(device: Device) {
    if device.is_cuda() {
        tch::Cuda::cudnn_set_benchmark(true);
    }
}

/// Reads `cpu` or `cuda:<index>`.
///
/// # Errors
/// When the word is neither, or the device is not there.
pub fn parse(name: &str) -> Result<Device, NnError> {
    let refuse = |reason: String| NnError::Device { wanted: name.to_owned(), reason };
    if name == "cpu" {
        return Ok(Device::Cpu);
    }
    let index = name
        .strip_prefix("cuda:")
        .and_then(|index| index.parse::<usize>().ok())
        .ok_or_else(|| refuse("devices are cpu and cuda:<index>".to_owned()))?;
    let devices = tch::Cuda::device_count().max(0) as usize;
    if index >= devices {
        return Err(refuse(format!("{devices} CUDA device(s) can be seen")));
    }
    Ok(Device::Cuda(index))
}

/// A device's name, as [`parse`] reads it.
pub fn name(device: Device) -> String {
    match device {
        Device::Cuda(index) => format!("cuda:{index}"),
        Device::Cpu => "cpu".to_owned(),
        other => format!("{other:?}").to_lowercase(),
    }
}

/// The number format of activations and convolutions: `auto`, `bf16` where the device is fast at it, else `float32`. Master weights are always
/// float32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PrecisionWish {
    /// bf16 where the device is fast at it, else float32.
    Auto,
    /// bfloat16, whatever the device.
    Bf16,
    /// float32.
    Float32,
}

/// The number format of activations and convolutions, and why it was chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Precision {
    /// `Float` or `BFloat16`.
    pub kind: Kind,
    /// One line for logs and `/readyz`.
    pub reason: String,
}

impl Precision {
    /// The format's usual name.
    pub fn name(&self) -> &'static str {
        if self.kind == Kind::BFloat16 { "bf16" } else { "float32" }
    }
}

/// Settles the number format for `device`.
pub fn precision(wish: PrecisionWish, device: Device) -> Precision {
    let capability = match (wish, device) {
        (PrecisionWish::Auto, Device::Cuda(index)) => compute_capability(index),
        _ => None,
    };
    precision_of(wish, device, capability)
}

/// From this major compute capability on, cuDNN convolves bf16; before it, libtorch has a slow way of its own alone.
const BF16_SINCE: i32 = 8;

fn precision_of(wish: PrecisionWish, device: Device, capability: Option<(i32, i32)>) -> Precision {
    if let Some((major, minor)) = capability.filter(|(major, _)| *major < BF16_SINCE) {
        let reason = format!("this GPU (compute capability {major}.{minor}) has no convolutions in bf16");
        return Precision { kind: Kind::Float, reason };
    }
    let (kind, reason) = match (wish, device) {
        (PrecisionWish::Float32, _) => (Kind::Float, "float32 was asked for"),
        (PrecisionWish::Bf16, Device::Cpu) if !shim::onednn_has_bf16() => {
            (Kind::BFloat16, "bf16 was asked for, but this CPU has none and is several times slower than in float32")
        }
        (PrecisionWish::Bf16, Device::Cpu) if !cpu_has_bf16() => {
            (Kind::BFloat16, "bf16 was asked for, but this CPU has no AVX512-bf16 and is slower than in float32")
        }
        (PrecisionWish::Bf16, _) => (Kind::BFloat16, "bf16 was asked for"),
        (PrecisionWish::Auto, Device::Cuda(_)) => (Kind::BFloat16, "CUDA devices are fast at bf16"),
        (PrecisionWish::Auto, _) if cpu_has_bf16() => (Kind::BFloat16, "this CPU has AVX512-bf16"),
        (PrecisionWish::Auto, _) => (Kind::Float, "this CPU has no AVX512-bf16, bf16 would be slower than float32"),
    };
    Precision { kind, reason: reason.to_owned() }
}

/// Whether the processor is fast at bf16. oneDNN alone does not know: with AVX-512 it emulates, slower than float32.
fn cpu_has_bf16() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        std::arch::is_x86_feature_detected!("avx512bf16") && shim::onednn_has_bf16()
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_is_not_there_is_refused_with_the_reason() {
        assert_eq!(parse("cpu").unwrap(), Device::Cpu);
        assert_eq!((name(Device::Cpu), name(Device::Cuda(2))), ("cpu".to_owned(), "cuda:2".to_owned()));
        // Counted from 0: the first that is not there has their number.
        let devices = tch::Cuda::device_count().max(0);
        for name in ["gpu", "cuda", "cuda:x", "cuda:-1", &format!("cuda:{devices}")] {
            assert!(parse(name).unwrap_err().to_string().contains(name), "{name}");
        }
    }

    #[test]
    fn an_explicit_number_format_is_obeyed_everywhere() {
        assert_eq!(precision(PrecisionWish::Float32, Device::Cuda(0)).kind, Kind::Float);
        assert_eq!(precision(PrecisionWish::Bf16, Device::Cpu).kind, Kind::BFloat16);
    }

    #[test]
    fn bf16_where_it_is_slow_is_obeyed_and_said() {
        let (auto, asked) = (precision(PrecisionWish::Auto, Device::Cpu), precision(PrecisionWish::Bf16, Device::Cpu));
        assert_eq!(asked.kind, Kind::BFloat16);
        assert_eq!(asked.reason.contains("slower"), auto.kind == Kind::Float, "{asked:?}, {auto:?}");
        assert_eq!(asked.reason.contains("several times"), !shim::onednn_has_bf16(), "{asked:?}");
        if cfg!(target_arch = "x86_64") && std::env::var_os("ONEDNN_MAX_CPU_ISA").is_some_and(|most| most == "AVX2") {
            assert!(asked.reason.contains("several times"), "{asked:?}");
        }
    }

    /// What oneDNN may use is settled once in a process: with AVX2 at most, it is as on a processor without AVX-512.
    #[test]
    fn bf16_is_slow_without_avx_512() {
        let name = "nn::device::tests::bf16_where_it_is_slow_is_obeyed_and_said";
        crate::own_process::run(name, &[("ONEDNN_MAX_CPU_ISA", "AVX2")]);
    }

    #[test]
    fn a_gpu_computes_in_bf16_where_it_can_convolve_in_it() {
        let of = |wish, capability| precision_of(wish, Device::Cuda(0), capability);
        for capability in [None, Some((8, 0)), Some((8, 9)), Some((9, 0)), Some((12, 0))] {
            assert_eq!(of(PrecisionWish::Auto, capability).name(), "bf16", "{capability:?}");
        }
        let turing = of(PrecisionWish::Auto, Some((7, 5)));
        assert_eq!(turing.name(), "float32");
        assert!(turing.reason.contains("7.5"), "{turing:?}");
        // What was asked for is obeyed by `precision`, which asks no GPU then.
        assert_eq!(of(PrecisionWish::Bf16, None).name(), "bf16");
    }
}
