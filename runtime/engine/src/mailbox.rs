//! A way from one thread to another with room for one thing, which allocates nothing once it is made.
//!
//! The channels of std allocate when a side waits for the first time, and that may be in any step.

use crate::sync::{Condvar, Mutex, MutexGuard};
use std::sync::{Arc, PoisonError};

/// The side that puts things in. What is in when it is dropped can still be taken.
pub struct Sender<T>(Arc<Mailbox<T>>);

/// The side that takes things out. What is in when it goes is dropped with it: it may hold the way on which
/// somebody waits for an answer.
pub struct Receiver<T>(Arc<Mailbox<T>>);

struct Mailbox<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

struct State<T> {
    thing: Option<T>,
    /// Whether both sides are there.
    open: bool,
}

/// Makes both sides.
pub fn mailbox<T>() -> (Sender<T>, Receiver<T>) {
    let state = Mutex::new(State { thing: None, open: true });
    let both = Arc::new(Mailbox { state, changed: Condvar::new() });
    (Sender(both.clone()), Receiver(both))
}

impl<T> Sender<T> {
    /// Puts a thing in, once there is room.
    ///
    /// # Errors
    /// Fails, with the thing, when the other side has gone.
    pub fn send(&self, thing: T) -> Result<(), T> {
        let mut state = self.0.when(|state| !state.open || state.thing.is_none());
        if !state.open {
            return Err(thing);
        }
        state.thing = Some(thing);
        self.0.changed.notify_all();
        Ok(())
    }
}

impl<T> Receiver<T> {
    /// Takes a thing out, once there is one; `None` when there is none and the other side has gone.
    pub fn recv(&self) -> Option<T> {
        let thing = self.0.when(|state| !state.open || state.thing.is_some()).thing.take();
        self.0.changed.notify_all();
        thing
    }
}

impl<T> Mailbox<T> {
    fn locked(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until that holds.
    fn when(&self, holds: impl Fn(&State<T>) -> bool) -> MutexGuard<'_, State<T>> {
        let mut state = self.locked();
        while !holds(&state) {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state
    }

    /// Says that one side has gone.
    fn close(&self) -> MutexGuard<'_, State<T>> {
        let mut state = self.locked();
        state.open = false;
        self.changed.notify_all();
        state
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        drop(self.0.close());
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        // Not under the lock, since dropping the thing may do anything.
        let left = self.0.close().thing.take();
        drop(left);
    }
}

impl<T> std::fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sender").finish_non_exhaustive()
    }
}

impl<T> std::fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Receiver").finish_non_exhaustive()
    }
}

#[cfg(all(loom, test))]
mod models {
    //! Two sides in every order; run by `.ci/sanitize loom`.

    use super::*;

    /// Runs a model in all orders with three switches of threads at most that no wait asks for.
    fn check(model: impl Fn() + Sync + Send + 'static) {
        let mut all = loom::model::Builder::new();
        all.preemption_bound = Some(3);
        all.check(model);
    }

    #[test]
    fn things_arrive_in_order_and_end() {
        check(|| {
            let (sender, receiver) = mailbox();
            let send =
                move || (0..3).for_each(|number| sender.send(number).expect("the other side is there"));
            let sending = loom::thread::spawn(send);
            (0..3).for_each(|number| assert_eq!(receiver.recv(), Some(number)));
            assert_eq!(receiver.recv(), None);
            sending.join().expect("no panic");
        });
    }

    #[test]
    fn who_waits_learns_that_the_other_side_has_gone() {
        check(|| {
            let (sender, receiver) = mailbox();
            let taking = loom::thread::spawn(move || receiver.recv());
            // There is room for the second before the other side goes, or after; the third waits until then.
            let sent = [1, 2, 3].map(|number| sender.send(number));
            assert_eq!(taking.join().expect("no panic"), Some(1));
            assert_eq!([sent[0], sent[2]], [Ok(()), Err(3)]);
        });
        check(|| {
            let (sender, receiver) = mailbox();
            let leaving = loom::thread::spawn(move || drop(receiver));
            let (answer, answered) = mailbox::<()>();
            drop(sender.send(answer));
            assert_eq!(answered.recv(), None);
            leaving.join().expect("no panic");
        });
        check(|| {
            let (sender, receiver) = mailbox::<()>();
            let taking = loom::thread::spawn(move || receiver.recv());
            drop(sender);
            assert_eq!(taking.join().expect("no panic"), None);
        });
    }
}

#[cfg(all(not(loom), test))]
mod tests {
    use super::*;

    #[test]
    fn what_was_sent_before_the_end_arrives() {
        let (sender, receiver) = mailbox();
        assert_eq!(sender.send(1), Ok(()));
        drop(sender);
        assert_eq!((receiver.recv(), receiver.recv()), (Some(1), None));
    }

    #[test]
    fn nothing_is_sent_to_nobody() {
        let (sender, receiver) = mailbox();
        drop(receiver);
        assert_eq!(sender.send(1), Err(1));
    }

    /// What nobody takes may hold the way on which somebody waits for an answer.
    #[test]
    fn what_nobody_takes_is_dropped() {
        let (sender, receiver) = mailbox();
        let (answer, answered) = mailbox::<()>();
        assert!(sender.send(answer).is_ok());
        drop(receiver);
        assert_eq!(answered.recv(), None);
    }

    #[test]
    fn who_is_faster_waits() {
        let (sender, receiver) = mailbox();
        let numbers = if cfg!(miri) { 20 } else { 20_000 };
        let sending = std::thread::spawn(move || (0..numbers).all(|number| sender.send(number).is_ok()));
        assert!((0..numbers).all(|number| receiver.recv() == Some(number)));
        assert_eq!(receiver.recv(), None);
        assert!(sending.join().expect("no panic"));
    }
}
