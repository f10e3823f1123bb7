//! The libtorch calls that tch does not bind, through `native/shim.cpp`.

use std::ffi::{CStr, c_char, c_void};

use tch::Tensor;

use super::NnError;

unsafe extern "C" {
    fn mixmatch_leaky_relu(input: *const c_void, slope: f64, error: *mut c_char, room: usize) -> *mut c_void;
}

/// Calls `call` with room for an error message and takes the tensor it makes.
fn tensor_from(call: impl FnOnce(*mut c_char, usize) -> *mut c_void) -> Result<Tensor, NnError> {
    let mut message: [c_char; 512] = [0; 512];
    let made = call(message.as_mut_ptr(), message.len());
    if made.is_null() {
        // SAFETY: the shim writes a terminated string of at most `room` bytes, and the buffer starts zeroed.
        let text = unsafe { CStr::from_ptr(message.as_ptr()) }.to_string_lossy().into_owned();
        return Err(NnError::Shim(text.lines().next().unwrap_or("unknown error").to_owned()));
    }
    // SAFETY: the shim made this tensor with `new at::Tensor`, exactly as torch-sys does, and gave it away.
    Ok(unsafe { Tensor::from_ptr(made.cast()) })
}

/// max(x, slope·x), differentiable.
pub fn leaky_relu(input: &Tensor, slope: f64) -> Result<Tensor, NnError> {
    // SAFETY: `as_ptr` is a valid at::Tensor for as long as `input` is borrowed.
    tensor_from(|error, room| unsafe { mixmatch_leaky_relu(input.as_ptr().cast(), slope, error, room) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaky_relu_takes_its_slope() {
        let x = Tensor::from_slice(&[-2.0f32, 0.0, 3.0]);
        let y: Vec<f32> = leaky_relu(&x, 0.1).unwrap().try_into().unwrap();
        assert_eq!(y, [-0.2, 0.0, 3.0]);
    }
}
