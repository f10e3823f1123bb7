//! The end of a process that leaves a thread behind inside libtorch: a regular exit would crash there, or wait for a device
//! that never answers.

use std::ffi::{c_int, c_void};
use std::ptr;

unsafe extern "C" {
    /// glibc's, which hands over the status that `atexit` does not know.
    fn on_exit(handler: extern "C" fn(c_int, *mut c_void), argument: *mut c_void) -> c_int;
}

extern "C" fn end(status: c_int, _argument: *mut c_void) {
    // SAFETY: ends the process; nothing runs after it.
    unsafe { libc::_exit(status) }
}

/// From now on the process ends without the destructors of its libraries, with the status that it would have had: what is registered last
/// runs first.
pub(super) fn without_destructors() {
    // SAFETY: the handler lives as long as the process, and takes nothing from the argument.
    if unsafe { on_exit(end, ptr::null_mut()) } != 0 {
        tracing::warn!("the process may crash as it ends");
    }
}
