//! Device operations recorded once and replayed as one CUDA graph, through `native/graph.cpp`.

use std::ffi::{c_char, c_int, c_void};

use super::NnError;
use super::shim::message;

unsafe extern "C" {
    fn mixmatch_graph_enter(device: c_int, capture: c_int, error: *mut c_char, room: usize) -> c_int;
    fn mixmatch_graph_leave(
        capture: c_int,
        graph: *mut *mut c_void,
        again: *mut c_int,
        error: *mut c_char,
        room: usize,
    ) -> c_int;
    fn mixmatch_graph_launch(graph: *mut c_void, error: *mut c_char, room: usize) -> c_int;
    fn mixmatch_graph_free(graph: *mut c_void);
}

/// How often a recording is tried at most.
const TRIALS: u32 = 3;

/// Recorded operations: they read and write the very memory that they had when they were recorded.
#[derive(Debug)]
pub struct Graph(*mut c_void);

// SAFETY: a handle of the driver, which may be used from any thread, by one at a time.
unsafe impl Send for Graph {}

impl Graph {
    /// Runs `work` in the recordings' own stream without recording it: whatever is prepared on first use is then there.
    ///
    /// # Errors
    /// libtorch's.
    pub fn rehearse<T>(device: usize, work: impl FnOnce() -> Result<T, NnError>) -> Result<T, NnError> {
        inside(device, false, &mut false, work).map(|(_, made)| made)
    }

    /// Records the operations of `work`, which are not run, and gives the tensors that they will write to.
    ///
    /// `work` must be of operations on the device alone, on tensors that live as long as the graph. It is called again where
    /// more memory was needed than had been set aside.
    ///
    /// # Errors
    /// What cannot be recorded: an operation that waits for the device, a copy from the host.
    pub fn record<T>(device: usize, mut work: impl FnMut() -> Result<T, NnError>) -> Result<(Self, T), NnError> {
        for _ in 1..TRIALS {
            let mut again = false;
            match inside(device, true, &mut again, &mut work) {
                Err(_) if again => {}
                recorded => return recorded,
            }
        }
        inside(device, true, &mut false, work)
    }

    /// Puts the operations behind what the device has to do already, and does not wait.
    ///
    /// # Errors
    /// The driver's.
    pub fn launch(&self) -> Result<(), NnError> {
        // SAFETY: the handle is one that `record` got and that is given back on drop alone.
        told(|error, room| unsafe { mixmatch_graph_launch(self.0, error, room) })
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        // SAFETY: as in `launch`; nobody uses it after this.
        unsafe { mixmatch_graph_free(self.0) }
    }
}

/// `again` becomes true where a recording failed for memory of which more is set aside the next time.
fn inside<T>(
    device: usize,
    capture: bool,
    again: &mut bool,
    work: impl FnOnce() -> Result<T, NnError>,
) -> Result<(Graph, T), NnError> {
    let capture = c_int::from(capture);
    // SAFETY: plain numbers and room for a message; `leave` follows below, whatever `work` does.
    told(|error, room| unsafe { mixmatch_graph_enter(device as c_int, capture, error, room) })?;
    let made = work();
    let (mut graph, mut short) = (std::ptr::null_mut(), 0);
    // SAFETY: as above; what is pointed to lives until the call has returned.
    let left =
        told(|error, room| unsafe { mixmatch_graph_leave(capture, &raw mut graph, &raw mut short, error, room) });
    // What was recorded until `work` failed holds memory: it goes with this.
    let graph = Graph(graph);
    *again = short != 0 && made.is_ok();
    let made = made?;
    left?;
    Ok((graph, made))
}

fn told(call: impl FnOnce(*mut c_char, usize) -> c_int) -> Result<(), NnError> {
    let mut text: [c_char; 512] = [0; 512];
    if call(text.as_mut_ptr(), text.len()) == 0 { Ok(()) } else { Err(NnError::Shim(message(&text))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_cannot_record() {
        // No machine has so many GPUs; most of those that run this test have none.
        let refused = Graph::record(99, || Ok(())).unwrap_err().to_string();
        assert!(refused.to_lowercase().contains("cuda"), "{refused}");
        // Nothing is left half entered.
        assert_eq!(Graph::rehearse(99, || Ok(())).unwrap_err().to_string(), refused);
    }
}
