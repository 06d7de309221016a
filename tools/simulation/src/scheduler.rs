//! Virtual time: runs the tasks of one schedule on one thread, and jumps from one timer to the next when all of them wait.
//!
//! *Invariant:* the order in which tasks run is a function of the schedule alone, so that a seed is a replay.

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
    /// The tasks that this thread's schedule has spawned and not taken up.
    static SPAWNED: RefCell<VecDeque<Task>> = const { RefCell::new(VecDeque::new()) };
}

/// When the virtual clock starts: 2026-11-20T22:21:00Z, in milliseconds.
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

    /// The virtual time, in milliseconds since the Unix epoch.
    pub(crate) fn now_ms(&self) -> i64 {
        self.0.now_ms.load(Ordering::Relaxed)
    }

    /// Runs a future beside the others of this thread's schedule.
    #[expect(clippy::unused_self, reason = "whoever spawns has the scheduler that runs it")]
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        SPAWNED.with_borrow_mut(|spawned| spawned.push_back(Box::pin(task)));
    }

    /// Runs a future beside the others, whether or not somebody still waits for its outcome.
    pub(crate) fn spawn_joined<T: 'static>(&self, task: impl Future<Output = T> + 'static) -> Joined<T> {
        let joined = Joined(Arc::new(Mutex::new((None, None))));
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

    /// Runs `root` to its end, with every task that is spawned meanwhile; those that have not ended then are dropped.
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
                self.jump();
                continue;
            };
            let Some((task, waker)) = &mut tasks[number] else { continue };
            waker.is_queued.store(false, Ordering::Relaxed);
            let waker = Waker::from(Arc::clone(waker));
            if task.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
                tasks[number] = None;
                // The root is the first task, and its number is not used again.
                if number == 0 {
                    break;
                }
                free.push(number);
            }
        }
        // Tasks that have not ended hold the scheduler, which holds them and their wakers.
        let left = std::mem::take(&mut *self.0.queues());
        drop(tasks);
        drop(left);
        drop(SPAWNED.take());
    }

    /// Moves the clock to the next timer.
    fn jump(&self) {
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
pub(crate) struct Joined<T>(Arc<Mutex<(Option<T>, Option<Waker>)>>);

impl<T> Future for Joined<T> {
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
