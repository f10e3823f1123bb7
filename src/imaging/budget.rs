//! The memory that pictures take while they are decoded, counted over all threads of the process: each has limits of its own, but as
//! many as there are cores are decoded at once, and a file of some kilobytes may hold the largest.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::allocator;

/// What all pictures that this process decodes may take together: about four of the usual largest.
pub static DECODING: Budget = Budget::new(2 << 30);

/// A share from which on what was freed goes back to the system at once. The allocator keeps it for a minute, for the thread that
/// freed it alone: every thread in its turn would keep as much as the largest picture that it decoded.
const LARGE: u64 = 64 << 20;

/// So many bytes, of which everybody takes a share, at once and in the order of coming, so that none is overtaken for ever.
#[derive(Debug)]
pub struct Budget {
    all: u64,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    taken: u64,
    /// How many have come.
    came: u64,
    /// How many of them have got their share.
    served: u64,
}

impl Budget {
    /// One that nobody has taken of.
    pub const fn new(all: u64) -> Self {
        Self { all, state: Mutex::new(State { taken: 0, came: 0, served: 0 }), changed: Condvar::new() }
    }

    /// Waits until there is room for so many bytes. What is more than the whole budget takes all of it.
    ///
    /// Whoever holds a share must not ask for another: both could wait for each other.
    pub fn take(&self, bytes: u64) -> Share<'_> {
        let bytes = bytes.min(self.all);
        let mut state = self.state();
        let before = state.came;
        state.came += 1;
        let must_wait = |state: &mut State| state.served < before || state.taken + bytes > self.all;
        let waited = self.changed.wait_while(state, must_wait);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner);
        state.served += 1;
        state.taken += bytes;
        // There may be room for the next one, too.
        self.tell(state);
        Share { budget: self, bytes }
    }

    /// Wakes those that wait, where any do: each time the system is called for it, which takes longer than the rest of a share.
    fn tell(&self, state: MutexGuard<'_, State>) {
        let waiting = state.came > state.served;
        drop(state);
        if waiting {
            self.changed.notify_all();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is taken now.
    #[cfg(test)]
    pub fn taken(&self) -> u64 {
        self.state().taken
    }
}

/// Bytes of a [`Budget`], which has them back when this is dropped.
#[derive(Debug)]
pub struct Share<'a> {
    budget: &'a Budget,
    bytes: u64,
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        if self.bytes >= LARGE {
            allocator::give_back_what_this_thread_freed();
        }
        let mut state = self.budget.state();
        state.taken -= self.bytes;
        self.budget.tell(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::own_process;
    use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
    use std::time::Duration;

    #[test]
    fn no_more_are_inside_than_there_is_room_for_and_all_get_in() {
        let budget = Budget::new(700);
        let (inside, most, ended) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
        let pool = rayon::ThreadPoolBuilder::new().num_threads(8).build().unwrap();
        pool.scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|_| {
                    let share = budget.take(300);
                    most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    std::thread::sleep(Duration::from_millis(10));
                    inside.fetch_sub(1, Ordering::SeqCst);
                    drop(share);
                    ended.fetch_add(1, Ordering::SeqCst);
                });
            }
        });
        assert!(most.load(Ordering::SeqCst) <= 2, "{most:?} at a time");
        assert_eq!((ended.load(Ordering::SeqCst), budget.taken()), (8, 0));
    }

    #[test]
    fn what_is_larger_than_the_budget_gets_in_alone() {
        let budget = Budget::new(700);
        let most = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for bytes in [u64::MAX, 300, 701, 300, 0, u64::MAX, 700, 1] {
                let (budget, most) = (&budget, &most);
                scope.spawn(move || {
                    let _share = budget.take(bytes);
                    most.fetch_max(budget.taken(), Ordering::SeqCst);
                });
            }
        });
        assert_eq!((most.load(Ordering::SeqCst), budget.taken()), (700, 0));
    }

    #[test]
    fn a_large_picture_is_not_overtaken_by_a_small_one_that_came_later() {
        let budget = Budget::new(100);
        let wait_for = |count: u64| {
            while budget.state().came < count {
                std::thread::yield_now();
            }
        };
        std::thread::scope(|scope| {
            let first = budget.take(60);
            let large = scope.spawn(|| drop(budget.take(80)));
            wait_for(2);
            // There is room for it; but who came before waits for that, and then for more.
            let small = scope.spawn(|| drop(budget.take(30)));
            wait_for(3);
            let served = budget.state().served;
            let taken = budget.taken();
            drop(first);
            large.join().unwrap();
            small.join().unwrap();
            assert_eq!((served, taken, budget.taken()), (1, 60, 0));
        });
    }

    /// Bytes of this process in memory.
    fn resident() -> u64 {
        let text = std::fs::read_to_string("/proc/self/statm").unwrap();
        4096 * text.split(' ').nth(1).unwrap().parse::<u64>().unwrap()
    }

    #[test]
    fn what_a_large_picture_took_goes_back_to_the_system_at_once() {
        // In a process of its own: other tests take and give back memory, too.
        const ALONE: &str = "MIXMATCH_TEST_ALONE";
        if std::env::var_os(ALONE).is_none() {
            let name = "imaging::budget::tests::what_a_large_picture_took_goes_back_to_the_system_at_once";
            own_process::run(name, &[(ALONE, "1")]);
            return;
        }
        const BYTES: u64 = 256 << 20;
        let (before, budget) = (resident(), Budget::new(BYTES));
        let share = budget.take(BYTES);
        drop(std::hint::black_box(vec![1u8; BYTES as usize]));
        drop(share);
        let after = resident();
        assert!(after < before + BYTES / 2, "{before} bytes before, {after} after the picture was dropped");
    }
}
