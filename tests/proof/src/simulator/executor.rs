//! Runs tasks on one thread in virtual time: whatever is due next runs next, and nothing ever waits for a real clock.
//!
//! A task is a future; each place where it awaits is a point at which the world may change, or the worker that it belongs
//! to may die. A killed task is dropped where it stands.

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

/// Microseconds since the world began.
pub(super) type Micros = u64;
/// A second.
pub(super) const SECOND: Micros = 1_000_000;
/// A millisecond.
pub(super) const MILLI: Micros = 1_000;

pub(super) type TaskId = u64;
type Task = Pin<Box<dyn Future<Output = ()>>>;

#[derive(Default)]
pub(super) struct Executor {
    now: Cell<Micros>,
    current: Cell<TaskId>,
    next_task: Cell<TaskId>,
    next_wake: Cell<u64>,
    is_current_killed: Cell<bool>,
    wakes: RefCell<BinaryHeap<Reverse<(Micros, u64, TaskId)>>>,
    tasks: RefCell<HashMap<TaskId, Task>>,
}

impl Executor {
    pub(super) fn now(&self) -> Micros {
        self.now.get()
    }

    /// The task that runs.
    pub(super) fn current(&self) -> TaskId {
        self.current.get()
    }

    /// An id for a task that is begun with [`Executor::start`], so that others may know it before.
    pub(super) fn reserve(&self) -> TaskId {
        self.next_task.set(self.next_task.get() + 1);
        self.next_task.get()
    }

    pub(super) fn start(&self, id: TaskId, task: impl Future<Output = ()> + 'static) {
        self.tasks.borrow_mut().insert(id, Box::pin(task));
        self.wake_at(id, self.now());
    }

    pub(super) fn spawn(&self, task: impl Future<Output = ()> + 'static) -> TaskId {
        let id = self.reserve();
        self.start(id, task);
        id
    }

    /// Drops a task; the running one as soon as it awaits.
    pub(super) fn kill(&self, id: TaskId) {
        if id == self.current.get() {
            self.is_current_killed.set(true);
        } else {
            let killed = self.tasks.borrow_mut().remove(&id);
            // Dropped here, where nothing is borrowed: what it holds may want to tell the world.
            drop(killed);
        }
    }

    pub(super) fn wake_at(&self, id: TaskId, at: Micros) {
        self.next_wake.set(self.next_wake.get() + 1);
        self.wakes.borrow_mut().push(Reverse((at.max(self.now()), self.next_wake.get(), id)));
    }

    /// Goes on to the next moment at which a task has something to do. False where there is none.
    pub(super) fn turn(&self) -> bool {
        let Some(Reverse((at, _, id))) = self.wakes.borrow_mut().pop() else { return false };
        self.now.set(at);
        // It may have ended, or been killed, since it asked to be woken.
        let Some(mut task) = self.tasks.borrow_mut().remove(&id) else { return true };
        self.current.set(id);
        let poll = task.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        self.current.set(0);
        if poll.is_pending() && !self.is_current_killed.take() {
            self.tasks.borrow_mut().insert(id, task);
        } else {
            drop(task);
            self.is_current_killed.set(false);
        }
        true
    }

    /// Drops every task: they hold the world that holds them.
    pub(super) fn clear(&self) {
        let tasks = std::mem::take(&mut *self.tasks.borrow_mut());
        drop(tasks);
    }

    /// Waits until a moment.
    pub(super) fn until(&self, at: Micros) -> Until<'_> {
        Until { executor: self, at, asked: false }
    }

    /// Waits until a moment, or until something wakes the task earlier.
    pub(super) fn until_woken(&self, at: Micros) -> UntilWoken<'_> {
        UntilWoken { executor: self, at, asked: false }
    }
}

pub(super) struct Until<'a> {
    executor: &'a Executor,
    at: Micros,
    asked: bool,
}

impl Future for Until<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        if self.executor.now() >= self.at {
            return Poll::Ready(());
        }
        if !self.asked {
            self.asked = true;
            self.executor.wake_at(self.executor.current(), self.at);
        }
        Poll::Pending
    }
}

pub(super) struct UntilWoken<'a> {
    executor: &'a Executor,
    at: Micros,
    asked: bool,
}

impl Future for UntilWoken<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        if self.asked {
            return Poll::Ready(());
        }
        self.asked = true;
        self.executor.wake_at(self.executor.current(), self.at);
        Poll::Pending
    }
}

/// A future of a task, whatever it is.
pub(super) type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// Runs futures of one task side by side, at most `width` at a time, and gives their outputs in order.
pub(super) async fn join_bounded<T>(futures: Vec<Boxed<'_, T>>, width: usize) -> Vec<T> {
    let mut outputs: Vec<Option<T>> = futures.iter().map(|_| None).collect();
    let mut waiting = futures.into_iter().enumerate();
    let mut running: Vec<(usize, Boxed<'_, T>)> = waiting.by_ref().take(width).collect();
    std::future::poll_fn(|context| {
        let mut place = 0;
        while place < running.len() {
            match running[place].1.as_mut().poll(context) {
                Poll::Pending => place += 1,
                Poll::Ready(output) => {
                    let (index, _) = running.remove(place);
                    outputs[index] = Some(output);
                    running.extend(waiting.next());
                }
            }
        }
        if running.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    outputs.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::rc::Rc;

    #[test]
    fn tasks_run_in_the_order_of_their_times_and_a_killed_one_stops_where_it_stands() {
        let executor = Rc::new(Executor::default());
        let seen = Rc::new(RefCell::new(Vec::new()));
        let say = |name: &'static str, times: [Micros; 2]| {
            let (executor, seen) = (Rc::clone(&executor), Rc::clone(&seen));
            async move {
                for at in times {
                    executor.until(at).await;
                    seen.borrow_mut().push((name, executor.now()));
                }
            }
        };
        executor.spawn(say("a", [5, 20]));
        let killed = executor.spawn(say("b", [3, 30]));
        while executor.now() < 10 && executor.turn() {}
        executor.kill(killed);
        while executor.turn() {}
        assert_eq!(*seen.borrow(), [("b", 3), ("a", 5), ("a", 20)]);
    }

    #[test]
    fn what_is_joined_runs_side_by_side_within_its_width() {
        let executor = Rc::new(Executor::default());
        let ended = Rc::new(Cell::new(0));
        let (inner, at) = (Rc::clone(&executor), Rc::clone(&ended));
        executor.spawn(async move {
            let wait = |n: u64| {
                let executor = &inner;
                let wait: Pin<Box<dyn Future<Output = u64>>> = Box::pin(async move {
                    executor.until(executor.now() + 10).await;
                    n
                });
                wait
            };
            assert_eq!(join_bounded((0..4).map(wait).collect(), 2).await, [0, 1, 2, 3]);
            at.set(inner.now());
        });
        while executor.turn() {}
        assert_eq!(ended.get(), 20);
    }
}
