//! Runs the tasks of one schedule on one thread, in virtual time: when all tasks wait, the clock jumps to the next
//! timer.
//!
//! *Invariant:* The order in which tasks run depends on the schedule alone, so that a seed can be replayed.

use std::{
    cell::RefCell,
    collections::{BTreeMap, VecDeque},
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

/// A future that an effect can own.
pub(crate) type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A task of a schedule. It stays on the thread of its schedule.
type Task = Pin<Box<dyn Future<Output = ()>>>;

thread_local! {
    /// The tasks that this thread's schedule has spawned but not run yet.
    static SPAWNED: RefCell<VecDeque<Task>> = const { RefCell::new(VecDeque::new()) };
}

/// The start of the virtual clock: 2026-11-20T22:21:00Z, in milliseconds.
pub(crate) const EPOCH_MS: i64 = 1_795_213_260_000;

/// The tasks and the clock of one schedule.
#[derive(Clone)]
pub(crate) struct Scheduler(Arc<Shared>);

struct Shared {
    now_ms: AtomicI64,
    queues: Mutex<Queues>,
}

#[derive(Default)]
struct Queues {
    ready: VecDeque<usize>,
    timers: BTreeMap<(i64, u64), Waker>,
    sequence: u64,
}

struct TaskWaker {
    task: usize,
    is_queued: AtomicBool,
    shared: Arc<Shared>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        if !self.is_queued.swap(true, Ordering::Relaxed) {
            self.shared.queues().ready.push_back(self.task);
        }
    }
}

impl Shared {
    fn queues(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Scheduler {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Shared { now_ms: AtomicI64::new(EPOCH_MS), queues: Mutex::default() }))
    }

    /// Returns the virtual time, in milliseconds since the Unix epoch.
    pub(crate) fn now_ms(&self) -> i64 {
        self.0.now_ms.load(Ordering::Relaxed)
    }

    /// Runs a future concurrently with the other tasks of this thread's schedule.
    #[expect(clippy::unused_self, reason = "a caller with a scheduler spawns on that scheduler's thread")]
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        SPAWNED.with_borrow_mut(|spawned| spawned.push_back(Box::pin(task)));
    }

    /// Runs a future concurrently with the other tasks, to its end, whether or not somebody still waits for its
    /// outcome.
    pub(crate) fn spawn_joined<T: 'static>(&self, task: impl Future<Output = T> + 'static) -> JoinHandle<T> {
        let joined = JoinHandle(Arc::new(Mutex::new((None, None))));
        let slot = Arc::clone(&joined.0);
        self.spawn(async move {
            let outcome = task.await;
            let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
            slot.0 = Some(outcome);
            if let Some(waker) = slot.1.take() {
                waker.wake();
            }
        });
        joined
    }

    /// Waits for this much virtual time.
    pub(crate) fn sleep(&self, duration: Duration) -> Sleep {
        let ms = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / 2);
        Sleep { scheduler: self.clone(), until_ms: self.now_ms() + ms, set: None }
    }

    /// Runs `root` to its end, with every task that is spawned meanwhile. Then drops the tasks that have not ended.
    pub(crate) fn run(&self, root: impl Future<Output = ()> + 'static) {
        let mut tasks: Vec<Option<(Task, Arc<TaskWaker>)>> = Vec::new();
        let mut free = Vec::new();
        self.spawn(root);
        loop {
            let next = {
                let mut queues = self.0.queues();
                while let Some(task) = SPAWNED.with_borrow_mut(VecDeque::pop_front) {
                    let number = free.pop().unwrap_or(tasks.len());
                    let waker = TaskWaker {
                        task: number,
                        is_queued: AtomicBool::new(true),
                        shared: Arc::clone(&self.0),
                    };
                    if number == tasks.len() {
                        tasks.push(None);
                    }
                    tasks[number] = Some((task, Arc::new(waker)));
                    queues.ready.push_back(number);
                }
                queues.ready.pop_front()
            };
            let Some(number) = next else {
                self.advance_clock();
                continue;
            };
            let Some((task, waker)) = &mut tasks[number] else { continue };
            waker.is_queued.store(false, Ordering::Relaxed);
            let waker = Waker::from(Arc::clone(waker));
            if task.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
                tasks[number] = None;
                // The root is the first task, and no other task gets its number.
                if number == 0 {
                    break;
                }
                free.push(number);
            }
        }
        // Unfinished tasks hold the scheduler, and the scheduler holds them and their wakers: dropping both breaks the
        // cycle.
        let left = std::mem::take(&mut *self.0.queues());
        drop(tasks);
        drop(left);
        drop(SPAWNED.take());
    }

    /// Moves the clock to the next timer.
    fn advance_clock(&self) {
        let ((at_ms, _), waker) =
            self.0.queues().timers.pop_first().expect("the root waits for time or for a task that does");
        self.0.now_ms.fetch_max(at_ms, Ordering::Relaxed);
        waker.wake();
    }
}

/// A wait for virtual time.
pub(crate) struct Sleep {
    scheduler: Scheduler,
    until_ms: i64,
    set: Option<((i64, u64), Waker)>,
}

impl Sleep {
    fn unset(&mut self) {
        if let Some((key, _)) = self.set.take() {
            self.scheduler.0.queues().timers.remove(&key);
        }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let waker = context.waker();
        match &self.set {
            Some(_) if self.scheduler.now_ms() >= self.until_ms => return Poll::Ready(()),
            Some((_, known)) if known.will_wake(waker) => return Poll::Pending,
            _ => {}
        }
        self.unset();
        let mut queues = self.scheduler.0.queues();
        queues.sequence += 1;
        let key = (self.until_ms, queues.sequence);
        queues.timers.insert(key, waker.clone());
        drop(queues);
        self.set = Some((key, waker.clone()));
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.unset();
    }
}

/// The outcome of a spawned task, to be awaited.
pub(crate) struct JoinHandle<T>(Arc<Mutex<(Option<T>, Option<Waker>)>>);

impl<T> Future for JoinHandle<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(outcome) = slot.0.take() {
            Poll::Ready(outcome)
        } else {
            slot.1 = Some(context.waker().clone());
            Poll::Pending
        }
    }
}
