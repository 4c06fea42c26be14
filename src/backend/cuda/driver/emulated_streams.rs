//! Streams, events and captures of the emulated device.
//!
//! Work waits in its stream's queue. One stream is eager: it goes on as far as its events let it
//! whenever something is asked of it. The other does nothing before somebody waits for it. So
//! kernels whose copies nobody waited for find old numbers, copies that did not wait for the
//! kernels before them destroy what those read, and staging memory that is written too early
//! arrives as it then is.

use super::{link::Exchange, modules::Kernel, products::product, rules::broken};
use crate::backend::{
    BackendError, Result,
    cuda::driver::{Address, Launch, gemm::Gemm, stream::Stream},
};
use std::{
    collections::{HashMap, VecDeque},
    thread::sleep,
    time::{Duration, Instant},
};

/// How long a stream that somebody waits for waits for other ranks.
const PATIENCE: Duration = Duration::from_secs(60);

/// A piece of work.
#[derive(Debug, Clone)]
pub(super) enum Task {
    Zero {
        at: Address,
        bytes: usize,
    },
    Write {
        at: Address,
        bytes: Vec<u8>,
    },
    Copy {
        to: Address,
        from: Address,
        bytes: usize,
    },
    Launch {
        kernel: Kernel,
        launch: Launch,
        args: Vec<Vec<u128>>,
    },
    Product(Gemm),
    Exchange(Exchange),
    /// The event has passed for the so manieth time.
    Pass(u64, u64),
    /// Nothing goes on before that.
    Await(u64, u64),
}

/// How often an event was recorded, and has passed.
#[derive(Debug, Clone, Copy, Default)]
struct Times {
    recorded: u64,
    passed: u64,
    /// Given back; who waits for it still may.
    gone: bool,
}

/// What is being noted down.
#[derive(Debug, Default)]
struct Capture {
    tasks: Vec<Task>,
    /// What it has come to nothing by.
    spoilt: Option<String>,
}

/// What was noted down, and how often memory had been given back by then.
#[derive(Debug)]
struct Noted {
    tasks: Vec<Task>,
    freed: u64,
}

#[derive(Debug)]
pub(super) struct Streams {
    eager: Stream,
    queues: [VecDeque<Task>; 2],
    events: Vec<Times>,
    captured: Option<Capture>,
    graphs: HashMap<u64, Noted>,
    next_graph: u64,
    launches: u64,
    /// What kernels have done that they may not.
    found: Vec<String>,
}

impl Streams {
    pub(super) fn new(eager: Stream) -> Self {
        Streams {
            eager,
            queues: Default::default(),
            events: Vec::new(),
            captured: None,
            graphs: HashMap::new(),
            next_graph: 0,
            launches: 0,
            found: Vec::new(),
        }
    }

    /// Refuses what a graph cannot hold, and what may not be asked for while one is captured. As on
    /// a real device the capture comes to nothing, whatever becomes of the error.
    pub(super) fn not_captured(&mut self, what: &str) -> Result<()> {
        let Some(capture) = &mut self.captured else { return Ok(()) };
        let refused = format!("{what} is asked for during a capture");
        capture.spoilt.get_or_insert_with(|| refused.clone());
        Err(BackendError::Device(refused))
    }

    /// An event that is there.
    fn known(&mut self, event: u64) -> Result<&mut Times> {
        let known = self.events.get_mut(event as usize).filter(|times| !times.gone);
        known.ok_or_else(|| broken("an event that was given back, or never made".into()))
    }

    /// What kernels have done so far that they may not. As a real device does, it says so from then
    /// on.
    pub(super) fn found(&self) -> Result<()> {
        match self.found.first() {
            Some(found) => Err(BackendError::Device(found.clone())),
            None => Ok(()),
        }
    }

    pub(super) fn ask(&mut self, stream: Stream, task: Task) -> Result<()> {
        if let Some(captured) = self.captured.as_mut().filter(|_| stream == Stream::Compute) {
            captured.tasks.push(task);
            return Ok(());
        }
        self.queues[stream as usize].push_back(task);
        self.go_on(self.eager);
        Ok(())
    }

    /// Does what the stream may do.
    fn go_on(&mut self, stream: Stream) {
        while let Some(mut task) = self.queues[stream as usize].pop_front() {
            if let Task::Exchange(exchange) = &mut task {
                match exchange.poll() {
                    Ok(true) => {}
                    Ok(false) => {
                        self.queues[stream as usize].push_front(task);
                        return;
                    }
                    Err(what) => self.found.push(what),
                }
                continue;
            }
            if let Task::Await(event, time) = task
                && self.events[event as usize].passed < time
            {
                self.queues[stream as usize].push_front(task);
                return;
            }
            self.work(task);
        }
    }

    fn work(&mut self, task: Task) {
        match task {
            // SAFETY: the bytes lie in memory of the device.
            Task::Zero { at, bytes } => unsafe { std::ptr::write_bytes(at as *mut u8, 0, bytes) },
            // SAFETY: as many bytes lie in memory of the device.
            Task::Write { at, bytes } => unsafe {
                std::ptr::copy_nonoverlapping(bytes.as_ptr(), at as *mut u8, bytes.len());
            },
            // SAFETY: the driver's caller has promised so many bytes on either side.
            Task::Copy { to, from, bytes } => unsafe {
                std::ptr::copy_nonoverlapping(from as *const u8, to as *mut u8, bytes);
            },
            Task::Launch { kernel, launch, args } => {
                self.launches += 1;
                // SAFETY: the driver's caller has promised that the arguments are the kernel's.
                let found = unsafe { kernel.run(&launch, &args, self.launches) };
                self.found.extend(found);
            }
            // SAFETY: the driver's caller has promised the memory of the matrices.
            Task::Product(gemm) => unsafe { product(&gemm) },
            Task::Exchange(mut exchange) => {
                let began = Instant::now();
                let done = loop {
                    match exchange.poll() {
                        Ok(false) if began.elapsed() < PATIENCE => sleep(Duration::from_millis(1)),
                        Ok(false) => break Err("what a rank was to send never came".to_owned()),
                        Ok(true) => break Ok(()),
                        Err(what) => break Err(what),
                    }
                };
                self.found.extend(done.err());
            }
            Task::Pass(event, time) => self.events[event as usize].passed = time,
            Task::Await(..) => {}
        }
    }

    /// Does what the stream may do, and what it waits for, without waiting for other ranks.
    pub(super) fn look(&mut self, stream: Stream) {
        let left = |streams: &Self| streams.queues.iter().map(VecDeque::len).sum::<usize>();
        let mut before = usize::MAX;
        while left(self) < before {
            before = left(self);
            self.go_on(Stream::Copy);
            self.go_on(stream);
        }
    }

    /// Does all that a stream was asked for, and of the other what that waits for.
    pub(super) fn finish_stream(&mut self, stream: Stream) {
        while !self.queues[stream as usize].is_empty() {
            self.one(stream);
        }
    }

    pub(super) fn finish(&mut self) {
        self.finish_stream(Stream::Copy);
        self.finish_stream(Stream::Compute);
    }

    pub(super) fn event(&mut self) -> u64 {
        self.events.push(Times::default());
        self.events.len() as u64 - 1
    }

    pub(super) fn free_event(&mut self, event: u64) {
        self.known(event).expect("an event is given back once").gone = true;
    }

    pub(super) fn record(&mut self, event: u64, stream: Stream) -> Result<()> {
        self.not_captured("an event")?;
        let times = self.known(event)?;
        times.recorded += 1;
        let time = times.recorded;
        self.ask(stream, Task::Pass(event, time))
    }

    pub(super) fn wait(&mut self, stream: Stream, event: u64) -> Result<()> {
        self.not_captured("an event")?;
        let time = self.known(event)?.recorded;
        self.ask(stream, Task::Await(event, time))
    }

    pub(super) fn wait_here(&mut self, event: u64) -> Result<()> {
        self.not_captured("waiting for an event")?;
        let recorded = self.known(event)?.recorded;
        for stream in [Stream::Compute, Stream::Copy] {
            let is_here =
                |task: &Task| matches!(task, Task::Pass(e, t) if (*e, *t) == (event, recorded));
            // Up to the event and no further.
            while self.queues[stream as usize].iter().any(is_here) {
                self.one(stream);
            }
        }
        Ok(())
    }

    /// Does the next piece of work of a stream, and of the other what that waits for.
    fn one(&mut self, stream: Stream) {
        let Some(task) = self.queues[stream as usize].pop_front() else { return };
        if let Task::Await(event, time) = task {
            let other = if stream == Stream::Compute { Stream::Copy } else { Stream::Compute };
            while self.events[event as usize].passed < time {
                assert!(
                    !self.queues[other as usize].is_empty(),
                    "a stream waits for what nobody asked for"
                );
                self.one(other);
            }
        }
        self.work(task);
    }

    pub(super) fn is_done(&mut self, event: u64) -> Result<bool> {
        self.not_captured("whether an event has passed")?;
        let times = self.known(event)?;
        Ok(times.passed == times.recorded)
    }

    pub(super) fn begin_capture(&mut self) -> Result<()> {
        self.not_captured("a capture")?;
        self.captured = Some(Capture::default());
        Ok(())
    }

    /// `freed` is how often memory has been given back so far.
    pub(super) fn end_capture(&mut self, freed: u64) -> Result<u64> {
        let capture = self
            .captured
            .take()
            .ok_or_else(|| BackendError::Device("nothing is captured".into()))?;
        if let Some(what) = capture.spoilt {
            return Err(broken(format!("a capture that has come to nothing: {what}")));
        }
        self.next_graph += 1;
        self.graphs.insert(self.next_graph, Noted { tasks: capture.tasks, freed });
        Ok(self.next_graph)
    }

    pub(super) fn replay(&mut self, graph: u64, freed: u64) -> Result<()> {
        self.not_captured("a graph")?;
        let noted = self.graphs.get(&graph);
        let noted = noted.ok_or_else(|| broken("a graph that was given back".into()))?;
        if noted.freed != freed {
            return Err(broken("a graph whose memory may have been given back".into()));
        }
        let tasks = noted.tasks.clone();
        tasks.into_iter().try_for_each(|task| self.ask(Stream::Compute, task))
    }

    pub(super) fn free_graph(&mut self, graph: u64) {
        self.finish();
        self.graphs.remove(&graph);
    }
}
