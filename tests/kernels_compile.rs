//! Every kernel for GPUs, compiled by NVRTC: needs no GPU. Skips with a word
//! where NVRTC is not found; the folder that holds it may be named by `DLRM_BENCH_CUDA_LIB`.

use dlrm_bench::backend::cuda::{
    SOURCES,
    driver::{
        Source,
        nvrtc::{CompileError, compile, version},
    },
};
use std::sync::atomic::{AtomicUsize, Ordering};

/// The generation that the kernels were written for, Hopper.
const HOPPER: &str = "sm_90";

/// Ampere and Blackwell.
const OTHERS: [&str; 2] = ["sm_80", "sm_100"];

/// Registers of a multiprocessor, and threads of the largest block of these kernels but those of
/// one block alone.
const REGISTERS: usize = 65_536;
const THREADS: usize = 256;

/// Kernels that are started as one block (`Launch::one`), and its threads.
const ONE_BLOCK: [&str; 4] = ["add_sum", "loss_join", "radix_scan", "score_join"];
const THREADS_OF_ONE: usize = 1024;

/// What NVRTC's log of one source says.
struct Said {
    kernels: usize,
    of_one_block: usize,
}

#[test]
fn every_kernel_compiles_without_spills() {
    compile_for(&[HOPPER]);
}

#[test]
#[ignore = "minutes of work for each core"]
fn every_kernel_compiles_for_every_other_generation_without_spills() {
    compile_for(&OTHERS);
}

fn compile_for(architectures: &[&str]) {
    if let Err(CompileError::Missing(missing)) = version() {
        eprintln!("skipped: {missing}");
        return;
    }
    let jobs: Vec<_> =
        SOURCES.iter().flat_map(|source| architectures.iter().map(move |a| (source, *a))).collect();
    let next = AtomicUsize::new(0);
    let work = || {
        let mut said = Vec::new();
        while let Some((source, architecture)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            said.push(check(source, architecture));
        }
        said
    };
    // Minutes of work for one core: all cores share it.
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    let said: Vec<Said> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers
            .into_iter()
            .flat_map(|w| w.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    let declared: usize = SOURCES.iter().map(|s| s.text().matches("\nKERNEL ").count()).sum();
    assert_eq!(
        said.iter().map(|s| s.kernels).sum::<usize>(),
        declared * architectures.len(),
        "the compiler has spoken of every kernel"
    );
    // radix_scan is in two files.
    assert_eq!(
        said.iter().map(|s| s.of_one_block).sum::<usize>(),
        (ONE_BLOCK.len() + 1) * architectures.len(),
        "and of those of one block by their names"
    );
}

/// Compiles a source; fails if a kernel spills or takes more registers than its block has.
fn check(source: &Source, architecture: &str) -> Said {
    let compiled = compile(source, architecture).unwrap_or_else(|e| panic!("{e}"));
    assert!(compiled.code.starts_with(b"\x7fELF"));
    let name = format!("{}.cu for {architecture}", source.name);
    let mut said = Said { kernels: 0, of_one_block: 0 };
    for line in compiled.log.lines().filter(|l| l.contains("spill stores")) {
        assert!(line.contains("0 bytes spill stores, 0 bytes spill loads"), "{name}: {line}");
        said.kernels += 1;
    }
    let mut kernel = "";
    for line in compiled.log.lines() {
        kernel = line
            .split("entry function '")
            .nth(1)
            .and_then(|l| l.split('\'').next())
            .unwrap_or(kernel);
        let Some(used) = line.split("Used ").nth(1) else { continue };
        let registers = used.split(' ').next().and_then(|n| n.parse::<usize>().ok());
        let one = ONE_BLOCK.contains(&kernel);
        said.of_one_block += usize::from(one);
        let threads = if one { THREADS_OF_ONE } else { THREADS };
        assert!(
            registers.is_some_and(|n| n * threads <= REGISTERS),
            "{name}, {kernel} with {threads} threads: {line}"
        );
    }
    said
}
