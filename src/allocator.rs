//! The memory allocator of the whole process, libtorch's included: jemalloc.
//!
//! A step of training allocates and frees the same hundreds of megabytes again and again. glibc gives large blocks back
//! to the system each time and gets them back as fresh pages to be zeroed: a fifth of a training step, a third of a
//! batch of predictions (docs/experiments.md). jemalloc keeps them, and asks for huge pages.

use std::ffi::{CStr, CString, c_char};
use std::ptr;

use tikv_jemalloc_sys as jemalloc;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Read by jemalloc as it starts. Blocks beyond 8 MiB are kept like all others, huge pages are asked for, and memory
/// that was not used again for a minute goes back to the system, which a thread of jemalloc's own sees to: without it a server that
/// nobody asks anything keeps what its last requests took. `MALLOC_CONF` in the environment has the last word.
// SAFETY: the name is jemalloc's, which reads a pointer to a terminated string there.
#[unsafe(export_name = "malloc_conf")]
static CONFIGURATION: Terminated =
    Terminated(c"oversize_threshold:0,thp:always,dirty_decay_ms:60000,muzzy_decay_ms:0,background_thread:true,max_background_threads:1".as_ptr());

#[repr(transparent)]
struct Terminated(*const c_char);

// SAFETY: it points to a constant.
unsafe impl Sync for Terminated {}

/// After how many milliseconds memory that was not used again goes back to the system: never.
const NEVER: isize = -1;

/// Keeps freed memory for good: for a process that does one thing and ends, such as a training run. With memory going
/// back in between, a step of WRN-28-2 takes nearly twice as long.
pub fn keep_freed_memory() {
    let arenas = read(c"arenas.narenas", 0u32).unwrap_or(0);
    let there = (0..arenas).filter_map(|arena| CString::new(format!("arena.{arena}.dirty_decay_ms")).ok());
    // Those to come, then those that are there; an arena that nobody has used yet refuses, and takes what is to come.
    for name in std::iter::once(c"arenas.dirty_decay_ms".to_owned()).chain(there) {
        write(&name, NEVER);
    }
}

/// Gives the calling thread an arena of its own that keeps what is freed in it: for a thread that needs the same blocks
/// again and again in a process whose other threads give theirs back. A batch of 32 images of 64 × 64 through WRN-28-2 takes two
/// thirds of the time. What it may keep at most is what it once needed at once. A refusal changes nothing.
pub fn keep_what_this_thread_frees() {
    let Some(arena) = read(c"arenas.create", 0u32) else { return };
    let Ok(decay) = CString::new(format!("arena.{arena}.dirty_decay_ms")) else { return };
    write(&decay, NEVER);
    write(c"thread.arena", arena);
}

/// Gives the system back what is kept of what the calling thread has freed. A refusal changes nothing.
pub fn give_back_what_this_thread_freed() {
    let Some(arena) = read(c"thread.arena", 0u32) else { return };
    let Ok(purge) = CString::new(format!("arena.{arena}.purge")) else { return };
    // SAFETY: it neither reads nor writes a value.
    unsafe {
        jemalloc::mallctl(purge.as_ptr(), ptr::null_mut(), ptr::null_mut(), ptr::null_mut(), 0);
    }
}

/// Bytes that the calling thread has asked for in its life.
#[cfg(test)]
pub fn asked_for_by_this_thread() -> Option<u64> {
    read(c"thread.allocated", 0)
}

/// Changes a setting of jemalloc; `value` is of its type.
fn write<T: Copy>(name: &CStr, mut value: T) {
    let value = ptr::from_mut(&mut value).cast();
    // SAFETY: the size of `T` is read there, and jemalloc refuses a size that is not the setting's.
    unsafe {
        jemalloc::mallctl(name.as_ptr(), ptr::null_mut(), ptr::null_mut(), value, size_of::<T>());
    }
}

/// A number that jemalloc keeps; `value` is of its type.
fn read<T: Copy>(name: &CStr, mut value: T) -> Option<T> {
    let mut size = size_of::<T>();
    // SAFETY: no more than `size` bytes are written, and jemalloc refuses a size that is not the number's.
    let refused = unsafe {
        jemalloc::mallctl(name.as_ptr(), ptr::from_mut(&mut value).cast(), &raw mut size, ptr::null_mut(), 0)
    };
    (refused == 0).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::own_process;

    #[test]
    fn the_configuration_is_the_one_that_jemalloc_reads() {
        assert_eq!(read(c"opt.oversize_threshold", usize::MAX), Some(0));
        assert_eq!(read(c"opt.dirty_decay_ms", 0isize), Some(60_000));
    }

    /// Pages of this process in memory. Allocates nothing: an arena that is used looks what it may give back.
    fn resident() -> usize {
        use std::io::Read;
        let mut text = [0; 128];
        let read = std::fs::File::open("/proc/self/statm").unwrap().read(&mut text).unwrap();
        let text = std::str::from_utf8(&text[..read]).unwrap();
        text.split(' ').nth(1).unwrap().parse().unwrap()
    }

    #[test]
    fn an_idle_process_gives_memory_back() {
        // In a process of its own: beside other tests nothing is idle, and one of them has all memory kept.
        const ALONE: &str = "MIXMATCH_TEST_ALONE";
        if std::env::var_os(ALONE).is_none() {
            let name = "allocator::tests::an_idle_process_gives_memory_back";
            // A tenth of a second instead of a minute.
            own_process::run(name, &[(ALONE, "1"), ("MALLOC_CONF", "dirty_decay_ms:100")]);
            return;
        }
        let before = resident();
        drop(std::hint::black_box(vec![1u8; 256 << 20]));
        let half = before + (128 << 20) / 4096;
        let given_back = (0..200).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(100));
            resident() < half
        });
        assert!(given_back, "{before} pages before, never fewer than {half} after the block was freed");
    }

    #[test]
    fn libtorchs_memory_is_jemallocs() {
        let before = read(c"thread.allocated", 0u64).unwrap();
        let tensor = tch::Tensor::zeros([32 << 20], (tch::Kind::Uint8, tch::Device::Cpu));
        let grown = read(c"thread.allocated", 0u64).unwrap() - before;
        assert!(grown >= tensor.numel() as u64, "a tensor of 32 MiB moved jemalloc's counter by {grown}");
    }

    #[test]
    fn freed_memory_can_be_kept() {
        let arena = read(c"thread.arena", 0u32).unwrap();
        let decay = || read(&CString::new(format!("arena.{arena}.dirty_decay_ms")).unwrap(), 0isize);
        assert_eq!(decay(), Some(60_000));
        keep_freed_memory();
        assert_eq!((decay(), read(c"arenas.dirty_decay_ms", 0isize)), (Some(-1), Some(-1)));
    }

    #[test]
    fn one_thread_can_keep_what_it_frees() {
        let decay = |arena: u32| read(&CString::new(format!("arena.{arena}.dirty_decay_ms")).unwrap(), 0isize);
        let elsewhere = std::thread::spawn(move || {
            keep_what_this_thread_frees();
            let arena = read(c"thread.arena", 0u32).unwrap();
            (arena, decay(arena))
        });
        let (arena, kept) = elsewhere.join().unwrap();
        assert_eq!(kept, Some(-1));
        assert_ne!(Some(arena), read(c"thread.arena", 0u32), "another thread is in it too");
    }
}
