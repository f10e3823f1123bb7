//! Results that many tasks bring, one each, and that one caller waits for.

use std::sync::{Mutex, PoisonError};

use tokio::sync::oneshot;

/// Whose last result sends them all. Dropped before, it sends nothing: a task has panicked, or nobody waits.
#[derive(Debug)]
pub struct Together<T, H> {
    state: Mutex<State<T>>,
    _held: H,
}

#[derive(Debug)]
struct State<T> {
    results: Vec<Option<T>>,
    missing: usize,
    reply: Option<oneshot::Sender<Vec<T>>>,
}

impl<T, H> Together<T, H> {
    /// For so many results; `held` is dropped with the last task. None at all are there at once.
    pub fn new(number: usize, held: H) -> (Self, oneshot::Receiver<Vec<T>>) {
        let (reply, answer) = oneshot::channel();
        let mut reply = Some(reply);
        if number == 0
            && let Some(reply) = reply.take()
        {
            let _waiting = reply.send(Vec::new());
        }
        let results = (0..number).map(|_| None).collect();
        let state = Mutex::new(State { results, missing: number, reply });
        (Self { state, _held: held }, answer)
    }

    /// Whether nobody waits for the answer any more.
    pub fn is_given_up(&self) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.reply.as_ref().is_none_or(oneshot::Sender::is_closed)
    }

    /// Tells whoever waits, by an answer without results, that they will not all come.
    pub fn give_up(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(reply) = state.reply.take() {
            let _gone = reply.send(Vec::new());
        }
    }

    /// Puts a result in its place, once for each.
    pub fn put(&self, place: usize, result: T) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.results[place] = Some(result);
        state.missing -= 1;
        if state.missing == 0
            && let Some(reply) = state.reply.take()
        {
            let all = std::mem::take(&mut state.results).into_iter().flatten().collect();
            let _gone = reply.send(all);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn results_come_in_their_places_with_the_last_one() {
        let (together, mut answer) = Together::new(3, ());
        for place in [2, 0] {
            together.put(place, place * 10);
            assert!(answer.try_recv().is_err());
        }
        assert!(!together.is_given_up());
        together.put(1, 10);
        assert_eq!(answer.await.unwrap(), [0, 10, 20]);
        let (none, answer) = Together::<i32, ()>::new(0, ());
        drop(none);
        assert!(answer.await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn without_the_last_one_nothing_comes_and_who_goes_is_not_waited_for() {
        let (together, answer) = Together::new(2, ());
        together.put(0, 1);
        drop(together);
        assert!(answer.await.is_err());
        let (together, answer) = Together::<i32, ()>::new(1, ());
        drop(answer);
        assert!(together.is_given_up());
    }

    #[tokio::test]
    async fn who_is_given_up_is_told_at_once_and_by_nothing() {
        let (together, answer) = Together::new(2, ());
        together.put(0, 1);
        together.give_up();
        assert!(together.is_given_up());
        together.put(1, 2);
        assert!(answer.await.unwrap().is_empty());
    }
}
