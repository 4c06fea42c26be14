//! Calls that a real device would refuse, one for each rule of docs/cuda.md, and what the emulated
//! one says to them.

use crate::backend::{
    Result,
    cuda::driver::{
        Driver, HostAddress, Launch, Memory, Source, arg,
        emulated::Emulated,
        gemm::{BitMask, Compute, Epilogue, Gemm, Number, Operand},
        stream::{Event, Graph, Stream},
    },
};
use std::rc::Rc;

static SOURCE: Source = Source {
    name: "refusals",
    parts: &[
        include_str!("../common/common.cuh"),
        "KERNEL nothing(u32 x) {}\nstruct Many { unsigned char bytes[32800]; };\n",
        "KERNEL much(Many many) {}\n",
    ],
};

/// The rule's words are in what is said, and the device says that it is the GPU's.
fn refused<T>(said: Result<T>, rule: &str) {
    let said = said.err().unwrap_or_else(|| panic!("{rule:?} was let pass")).to_string();
    assert!(said.contains(rule), "{said:?} instead of {rule:?}");
}

fn start(driver: &Rc<dyn Driver>, launch: Launch) -> Result<()> {
    // SAFETY: the kernel takes a number and touches nothing.
    unsafe { driver.launch(&SOURCE, "nothing", launch, &[arg(&1u32)]) }
}

#[test]
fn launches() {
    for bare in [false, true] {
        let Some(driver) = Emulated::open(bare) else { return };
        let fine = Launch { grid: [1; 3], block: [32, 1, 1], shared: 0 };
        start(&driver, fine).unwrap();
        start(&driver, Launch { grid: [1, 65_535, 1], block: [1; 3], shared: 0 }).unwrap();
        start(&driver, Launch { block: [16, 1, 64], ..fine }).unwrap();
        let most = driver.shared_memory() as u32;
        start(&driver, Launch { shared: most, ..fine }).unwrap();
        for (launch, rule) in [
            (Launch { grid: [0, 1, 1], ..fine }, "0 blocks along x"),
            (Launch { grid: [1 << 31, 1, 1], ..fine }, "2147483648 blocks along x"),
            (Launch { grid: [1, 65_536, 1], ..fine }, "65536 blocks along y; 1 to 65535"),
            (Launch { grid: [1, 1, 65_536], ..fine }, "65536 blocks along z"),
            (Launch { block: [0, 1, 1], ..fine }, "0 threads along x"),
            (Launch { block: [1025, 1, 1], ..fine }, "1025 threads along x"),
            (Launch { block: [1, 1, 65], ..fine }, "65 threads along z"),
            (Launch { block: [64, 32, 1], ..fine }, "2048 threads a block"),
            (Launch { shared: most + 1, ..fine }, "bytes of shared memory"),
        ] {
            refused(start(&driver, launch), rule);
        }
        let many = [0u8; 32_800];
        // SAFETY: the kernel takes so many bytes and touches nothing.
        refused(unsafe { driver.launch(&SOURCE, "much", fine, &[&many]) }, "bytes of arguments");
    }
}

const F32: Number = Number::F32;

/// Room for products, and one that is fine: 200 by 3, with 5 between, in bf16 with results in f32.
struct Room {
    driver: Rc<dyn Driver>,
    memory: Memory,
    fine: Gemm,
}

const A: u64 = 0;
const B: u64 = 1 << 12;
const D: u64 = 2 << 12;
const VECTOR: u64 = 3 << 12;
const MASK: u64 = 4 << 12;

fn room() -> Option<Room> {
    let driver = Emulated::open(false)?;
    let memory = Memory::zeros(&driver, 5 << 12, "a test").unwrap();
    let place = |at, stride| Operand { at: memory.at() + at, stride, transposed: false };
    let fine = Gemm {
        m: 200,
        n: 3,
        k: 5,
        a: place(A, 208),
        b: place(B, 8),
        number: Number::Bf16,
        d: place(D, 200),
        result: F32,
        compute: Compute::Plain,
        epilogue: Epilogue::None,
        add: false,
    };
    Some(Room { driver, memory, fine })
}

#[test]
fn products() {
    let Some(Room { driver, memory, fine }) = room() else { return };
    let at = memory.at();
    // SAFETY: what is no place of this memory is refused.
    let multiply = |gemm: Gemm| unsafe { driver.gemm(&gemm) };
    let moved = |o: Operand, by: u64| Operand { at: o.at + by, ..o };
    let strided = |o: Operand, stride| Operand { stride, ..o };
    let mask = |by, stride| BitMask { at: at + MASK + by, stride };
    let vector = at + VECTOR;
    let ends = [
        Epilogue::Bias(vector),
        Epilogue::BiasRelu(vector),
        Epilogue::BiasReluMask(vector, mask(0, 256)),
        Epilogue::ReluGradient(mask(16, 256)),
        Epilogue::SumsOfB(vector),
    ];
    for epilogue in ends.into_iter().chain([Epilogue::None]) {
        assert!(multiply(Gemm { epilogue, ..fine }).unwrap(), "{epilogue:?}");
    }
    let with = |epilogue| Gemm { epilogue, ..fine };
    let mixed = Gemm { result: Number::F16, ..fine };
    let tf32 = Gemm { compute: Compute::Tf32, ..fine };
    let sixteen = Gemm { result: Number::Bf16, ..with(Epilogue::SumsOfB(vector)) };
    for (gemm, rule) in [
        (mixed, "D is in f32 or in the numbers"),
        (tf32, "TF32 computes with operands in f32"),
        (sixteen, "sums of B have D's numbers"),
        (Gemm { d: Operand { transposed: true, ..fine.d }, ..fine }, "D is never transposed"),
        (Gemm { a: strided(fine.a, 199), ..fine }, "leading dimension 199 of A, of 200 rows"),
        (Gemm { b: strided(fine.b, 4), ..fine }, "leading dimension 4 of B, of 5 rows"),
        (Gemm { d: strided(fine.d, 199), ..fine }, "leading dimension 199 of D"),
        (
            Gemm { b: Operand { transposed: true, stride: 2, ..fine.b }, ..fine },
            "leading dimension 2 of B, of 3 rows",
        ),
        (Gemm { a: moved(fine.a, 1), ..fine }, "A is at no multiple of 2 bytes"),
        (Gemm { d: moved(fine.d, 2), ..fine }, "D is at no multiple of 4 bytes"),
        (with(Epilogue::Bias(vector + 2)), "the vector of the end is at no multiple of 4 bytes"),
        (with(Epilogue::BiasReluMask(vector, mask(0, 208))), "leading dimension 208 of the mask"),
        (with(Epilogue::ReluGradient(mask(0, 128))), "leading dimension 128 of the mask"),
        (with(Epilogue::ReluGradient(mask(8, 256))), "the mask is at no multiple of 16 bytes"),
        (Gemm { a: Operand { at: at + (5 << 12) - 16, ..fine.a }, ..fine }, "A: "),
        (with(Epilogue::BiasRelu(at + (5 << 12))), "are no memory of the device in use"),
        (Gemm { d: moved(fine.a, 0), ..fine }, "D and A overlap"),
        (with(Epilogue::SumsOfB(fine.b.at + 4)), "the vector of the end and B overlap"),
    ] {
        refused(multiply(gemm), rule);
    }
    // Columns of one buffer side by side are apart; one row more and they are not.
    let beside = Gemm { m: 4, n: 3, k: 4, number: F32, ..fine };
    let side = |by, stride| Operand { at: at + A + by, stride, transposed: false };
    let narrow = Gemm { a: side(0, 8), d: side(16, 8), ..beside };
    assert!(multiply(narrow).unwrap());
    refused(multiply(Gemm { m: 5, ..narrow }), "D and A overlap");
}

#[test]
fn memory() {
    let Some(driver) = Emulated::open(false) else { return };
    let at = driver.alloc(100).unwrap().unwrap();
    let staging = driver.staging(100).unwrap().unwrap();
    driver.zero(at, 100).unwrap();
    refused(driver.zero(at, 101), "zeroing: 101 bytes");
    refused(driver.to_device(at + 40, &[0; 61]), "a copy: 61 bytes");
    refused(driver.to_host(at + 40, &mut [0; 61]), "a copy: 61 bytes");
    // SAFETY: what is no such memory is refused.
    unsafe {
        driver.send_staging(at, staging, 100).unwrap();
        driver.fetch_staging(staging, at, 100).unwrap();
        refused(driver.send_staging(at, staging + 1, 100), "no staging memory in use");
        refused(driver.send_staging(at, at as HostAddress, 8), "no staging memory in use");
        refused(driver.fetch_staging(at as HostAddress, at, 8), "no staging memory in use");
        refused(driver.send_staging(staging as u64, staging, 8), "no memory of the device in use");
    }
    driver.synchronize().unwrap();
    driver.free_staging(staging);
    // SAFETY: as above.
    refused(unsafe { driver.send_staging(at, staging, 8) }, "no staging memory in use");
    driver.free(at);
    refused(driver.zero(at, 1), "no memory of the device in use");
}

#[test]
fn events_and_graphs() {
    let Some(driver) = Emulated::open(false) else { return };
    let event = driver.event().unwrap();
    driver.record(event, Stream::Compute).unwrap();
    driver.free_event(event);
    for gone in [event, event + 7] {
        refused(driver.record(gone, Stream::Copy), "an event that was given back");
        refused(driver.wait(Stream::Copy, gone), "an event that was given back");
        refused(driver.wait_here(gone), "an event that was given back");
        refused(driver.is_done(gone), "an event that was given back");
    }
    let memory = Memory::zeros(&driver, 64, "a test").unwrap();
    let other = Memory::zeros(&driver, 64, "a test").unwrap();
    let graph = Graph::capture(&driver, || driver.zero(memory.at(), 64)).unwrap();
    // SAFETY: the memory is there, or the graph is refused.
    unsafe { graph.replay() }.unwrap();
    drop(other);
    // SAFETY: as above.
    refused(unsafe { graph.replay() }, "a graph whose memory may have been given back");
    driver.begin_capture().unwrap();
    let id = driver.end_capture().unwrap();
    driver.free_graph(id);
    // SAFETY: as above.
    refused(unsafe { driver.replay(id) }, "a graph that was given back");
    refused(driver.end_capture(), "nothing is captured");
}

/// What may not be asked for during a capture is refused, and brings it to nothing even if nobody
/// looks at the refusal.
#[test]
fn captures() {
    let Some(Room { driver, memory, fine }) = room() else { return };
    let event = Event::new(&driver).unwrap();
    event.record(Stream::Compute).unwrap();
    let graph = Graph::capture(&driver, || driver.zero(memory.at(), 64)).unwrap();
    let piece = std::cell::Cell::new(driver.alloc(16).unwrap());
    let launch = Launch { grid: [1; 3], block: [32, 1, 1], shared: 0 };
    let staging = driver.staging(64).unwrap().unwrap();
    let give_back = || -> Result<()> {
        driver.free(piece.take().unwrap());
        Ok(())
    };
    // SAFETY: as many bytes are there.
    let fetch = || unsafe { driver.fetch_staging(staging, memory.at(), 4) };
    // SAFETY: its memory is there.
    let multiply = || unsafe { driver.gemm(&fine) };
    let calls: [(&dyn Fn() -> Result<()>, &str); 13] = [
        (&|| driver.alloc(16).map(drop), "memory is asked for"),
        (&|| driver.staging(16).map(drop), "memory is asked for"),
        (&give_back, "to give memory back is asked for"),
        (&|| driver.to_device(memory.at(), &[0; 4]), "a copy is asked for"),
        (&|| driver.to_host(memory.at(), &mut [0; 4]), "a copy is asked for"),
        (&fetch, "a copy is asked for"),
        (&|| driver.synchronize(), "waiting is asked for"),
        (&|| event.record(Stream::Compute), "an event is asked for"),
        (&|| event.hold(Stream::Compute), "an event is asked for"),
        (&|| event.wait(), "waiting for an event is asked for"),
        (&|| event.is_done().map(drop), "whether an event has passed is asked for"),
        (&|| start(&driver, launch), "loading kernels is asked for"),
        (&|| multiply().map(drop), "the first product is asked for"),
    ];
    for (call, rule) in calls {
        let nobody_looks = Graph::capture(&driver, || {
            let _ = call();
            Ok(())
        });
        refused(nobody_looks.map(drop), rule);
    }
    refused(Graph::capture(&driver, || driver.begin_capture()).map(drop), "a capture is asked for");
    // SAFETY: its memory is there.
    let replay = || Graph::capture(&driver, || unsafe { graph.replay() });
    refused(replay().map(drop), "a graph is asked for");
    // What has been done once is fine, and so is the other stream's own work.
    start(&driver, launch).unwrap();
    assert!(multiply().unwrap());
    // SAFETY: memory and bytes are there.
    let whole = Graph::capture(&driver, || unsafe {
        start(&driver, launch)?;
        driver.send_staging(memory.at() + MASK, staging, 4)?;
        multiply().map(drop)
    });
    whole.unwrap();
    driver.free_staging(staging);
}
