use super::*;
use proptest::prelude::*;
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Condvar, Mutex,
        atomic::AtomicUsize,
        mpsc::{Receiver, Sender, channel},
    },
    time::Duration,
};

/// What a panic says.
fn message(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or(panic.downcast_ref::<&str>().copied())
        .unwrap_or("")
}

/// Holds workers up between their look at what is left and their claim.
fn hold_up(pool: &Pool, hook: impl Fn(usize) + Send + Sync + 'static) {
    *pool.region.before_claim.lock().unwrap() = Some(Arc::new(hook));
}

/// Workers announce themselves to the receiver, and wait until the gate is opened.
fn gated(pool: &Pool) -> (Receiver<usize>, Arc<(Mutex<bool>, Condvar)>) {
    let gate = Arc::new((Mutex::new(false), Condvar::new()));
    let (tell, told): (Sender<usize>, _) = channel();
    let (inner, tell) = (Arc::clone(&gate), Mutex::new(tell));
    hold_up(pool, move |worker| {
        let _ = tell.lock().unwrap().send(worker);
        let mut open = inner.0.lock().unwrap();
        while !*open {
            open = inner.1.wait(open).unwrap();
        }
    });
    (told, gate)
}

fn open(gate: &(Mutex<bool>, Condvar)) {
    *gate.0.lock().unwrap() = true;
    gate.1.notify_all();
}

/// Each of `chunks` once, by threads that are there.
fn visit(pool: &Pool, chunks: usize) {
    let mut hits = vec![0u8; chunks];
    let shared = SharedMut::new(&mut hits);
    pool.run(chunks, |c, t| {
        assert!(t < pool.threads());
        // SAFETY: each chunk writes its own element.
        unsafe { shared.slice(c, 1)[0] += 1 }
    });
    assert!(hits.iter().all(|&h| h == 1), "{hits:?}");
}

#[test]
fn every_chunk_runs_once_on_any_number_of_threads() {
    for threads in [1, 2, 3, 8] {
        let pool = Pool::new(threads);
        for chunks in [0, 1, 2, 7, 1000] {
            (0..20).for_each(|_| visit(&pool, chunks));
        }
    }
}

/// However many there are, and whether they are woken or not.
#[test]
fn many_more_threads_than_processors_do_every_chunk_once() {
    for useful in [1, 64] {
        let pool = Pool::of(64, false, useful);
        let mut sums = vec![0u32; 64];
        for _ in 0..500 {
            pool.for_each_chunk(&mut sums, 1, |_, _, part| part[0] += 1);
        }
        assert!(sums.iter().all(|&n| n == 500));
    }
}

#[test]
fn chunks_of_a_slice_cover_it_once() {
    for (n, len) in [(0, 3), (1, 3), (9, 3), (10, 3), (1000, 7)] {
        let mut x = vec![0usize; n];
        Pool::new(2).for_each_chunk(&mut x, len, |c, _, part| {
            part.iter_mut().enumerate().for_each(|(i, v)| *v += c * len + i + 1)
        });
        assert!(x.iter().enumerate().all(|(i, &v)| v == i + 1));
    }
}

/// Workers that are held up before they claim are not waited for. The regions that they have missed
/// are gone with their closures; what they do at last is of the region that is under way.
#[test]
fn a_worker_that_wakes_late_misses_the_region_and_joins_the_next() {
    let pool = Pool::of(3, false, 2);
    let (told, gate) = gated(&pool);
    // Until both have seen chunks of a region that is over by now, and would next claim one.
    let mut late = Vec::new();
    while late.len() < 2 {
        visit(&pool, 50);
        late.extend(told.try_recv());
    }
    late.sort_unstable();
    assert_eq!(late, [1, 2]);
    for chunks in [2, 50, 1000] {
        visit(&pool, chunks);
    }
    // As many chunks as there were when they looked (ABA): they do some, of this region.
    let threads = Mutex::new(std::collections::BTreeSet::new());
    let hits: Vec<AtomicUsize> = (0..50).map(|_| AtomicUsize::new(0)).collect();
    pool.run(50, |c, t| {
        open(&gate);
        hits[c].fetch_add(1, Ordering::Relaxed);
        threads.lock().unwrap().insert(t);
        while threads.lock().unwrap().len() < 2 {
            std::thread::yield_now();
        }
    });
    assert!(hits.iter().all(|h| h.load(Ordering::Relaxed) == 1));
    assert!(threads.into_inner().unwrap().len() >= 2, "a late worker joined");
}

/// A thread that waits for a long chunk of another sleeps, and is woken.
#[test]
fn the_caller_sleeps_through_a_long_chunk_of_a_worker() {
    let pool = Pool::of(2, false, 1);
    for _ in 0..5 {
        let by_worker = AtomicUsize::new(0);
        pool.run(2, |_, thread| {
            // Each thread takes one: the caller's ends when the worker has begun.
            if thread == 1 {
                by_worker.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(20));
            } else {
                while by_worker.load(Ordering::Relaxed) == 0 {
                    std::thread::yield_now();
                }
            }
        });
        assert_eq!(by_worker.into_inner(), 1);
        // Long enough for the worker to sleep, too.
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_panic_in_a_chunk_reaches_the_caller_and_the_pool_lives_on() {
    let pool = Pool::of(2, false, 1);
    for threads_panic in [[true, true], [true, false], [false, true]] {
        let seen = Mutex::new([false; 2]);
        let panic = catch_unwind(AssertUnwindSafe(|| {
            pool.run(100, |_, thread| {
                seen.lock().unwrap()[thread] = true;
                // Until both are in.
                while *seen.lock().unwrap() != [true; 2] {
                    std::thread::yield_now();
                }
                assert!(!threads_panic[thread], "thread {thread} says so");
            });
        }))
        .unwrap_err();
        let said = message(&*panic);
        assert!(
            (0..2).any(|t| threads_panic[t] && said == format!("thread {t} says so")),
            "{said:?} of {threads_panic:?}"
        );
        visit(&pool, 10);
    }
}

#[test]
fn a_region_inside_a_region_of_the_same_pool_is_refused() {
    let (outer, other) = (Pool::new(2), Pool::new(2));
    let panic = catch_unwind(AssertUnwindSafe(|| outer.run(4, |_, _| outer.run(4, |_, _| {}))))
        .unwrap_err();
    assert!(message(&*panic).contains("one region at a time"));
    visit(&outer, 4);
    // That of another pool is none of its business, whoever calls it.
    let sum = AtomicUsize::new(0);
    outer.run(4, |c, t| {
        if t == 0 {
            other.run(4, |_, _| {
                sum.fetch_add(1, Ordering::Relaxed);
            });
        } else {
            sum.fetch_add(4, Ordering::Relaxed);
        }
        assert!(c < 4);
    });
    assert_eq!(sum.into_inner(), 16);
}

/// Several threads may use a pool, one after another: who calls is woken, not who called before.
#[test]
fn callers_may_take_turns() {
    let pool = Pool::of(3, false, 2);
    let turn = Mutex::new(());
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for n in 0..50 {
                    let _mine = turn.lock().unwrap();
                    pool.run(4, |_, thread| {
                        if thread > 0 {
                            std::thread::sleep(Duration::from_micros(10 * n));
                        }
                    });
                }
            });
        }
    });
}

/// What happens in one region.
#[derive(Debug, Clone)]
struct Plan {
    chunks: usize,
    /// Of the chunk with this number (if there is one), in microseconds.
    sleep: (usize, u64),
    panics: Option<usize>,
    /// Before the region, in microseconds: workers may fall asleep.
    pause: u64,
}

fn plan() -> impl Strategy<Value = Plan> {
    (0usize..200, (0usize..200, 0u64..400), prop::option::weighted(0.1, 0usize..200), 0u64..300)
        .prop_map(|(chunks, sleep, panics, pause)| Plan { chunks, sleep, panics, pause })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    /// Any regions after each other, with workers that are held up now and then wherever that could
    /// do harm: each chunk is done once before its region ends, with no thread twice at once, or
    /// the panic arrives. Closures and results are freed between regions.
    #[test]
    fn regions_of_any_size_survive_workers_that_are_held_up(
        threads in prop::sample::select(vec![2usize, 3, 5, 64]),
        useful in 1usize..6,
        seed in any::<usize>(),
        plans in prop::collection::vec(plan(), 1..40),
    ) {
        let pool = Pool::of(threads, false, useful);
        let drawn = AtomicUsize::new(seed);
        hold_up(&pool, move |_| {
            let n = drawn.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
            match (n ^ n >> 29).wrapping_mul(0x94d0_49bb_1331_11eb) >> 60 {
                0 => std::thread::sleep(Duration::from_micros(500)),
                1..4 => std::thread::yield_now(),
                _ => {}
            }
        });
        for plan in plans {
            std::thread::sleep(Duration::from_micros(plan.pause));
            let panics = plan.panics.filter(|&p| p < plan.chunks);
            let mut hits = vec![0usize; plan.chunks];
            let shared = SharedMut::new(&mut hits);
            let inside: Vec<AtomicBool> = (0..threads).map(|_| AtomicBool::new(false)).collect();
            let done = catch_unwind(AssertUnwindSafe(|| pool.run(plan.chunks, |c, t| {
                assert!(!inside[t].swap(true, Ordering::Relaxed), "thread {t} is there twice");
                if c == plan.sleep.0 {
                    std::thread::sleep(Duration::from_micros(plan.sleep.1));
                }
                // SAFETY: each chunk writes its own element.
                unsafe { shared.slice(c, 1)[0] += c + 1 }
                inside[t].store(false, Ordering::Relaxed);
                if Some(c) == panics {
                    std::panic::resume_unwind(Box::new("planned"));
                }
            })));
            prop_assert!(inside.iter().all(|i| !i.load(Ordering::Relaxed)), "somebody is still in");
            match done {
                Ok(()) => {
                    prop_assert!(panics.is_none());
                    prop_assert!(hits.iter().enumerate().all(|(c, &h)| h == c + 1), "{hits:?}");
                }
                Err(panic) => {
                    prop_assert!(panics.is_some() && message(&*panic) == "planned", "{}", message(&*panic));
                    prop_assert!(hits.iter().enumerate().all(|(c, &h)| h == 0 || h == c + 1), "{hits:?}");
                }
            }
        }
    }
}
