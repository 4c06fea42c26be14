//! Every kernel for GPUs, compiled by NVRTC for each generation: needs no GPU. Skips with a word
//! where NVRTC is not found; the folder that holds it may be named by `DLRM_BENCH_CUDA_LIB`.

use dlrm_bench::backend::cuda::{
    SOURCES,
    driver::nvrtc::{CompileError, compile, version},
};

/// Ampere, Hopper, Blackwell.
const ARCHITECTURES: [&str; 3] = ["sm_80", "sm_90", "sm_100"];

/// Registers of a multiprocessor, and threads of the largest block of these kernels but those of
/// one block alone.
const REGISTERS: usize = 65_536;
const THREADS: usize = 256;

/// Kernels that are started as one block (`Launch::one`), and its threads.
const ONE_BLOCK: [&str; 4] = ["add_sum", "loss_join", "radix_scan", "score_join"];
const THREADS_OF_ONE: usize = 1024;

#[test]
fn every_kernel_compiles_for_every_generation_without_spills() {
    if let Err(CompileError::Missing(missing)) = version() {
        eprintln!("skipped: {missing}");
        return;
    }
    let (mut kernels, mut of_one_block) = (0, 0);
    for source in SOURCES {
        for architecture in ARCHITECTURES {
            let compiled = compile(source, architecture).unwrap_or_else(|e| panic!("{e}"));
            assert!(compiled.code.starts_with(b"\x7fELF"));
            let name = format!("{}.cu for {architecture}", source.name);
            for line in compiled.log.lines().filter(|l| l.contains("spill stores")) {
                assert!(
                    line.contains("0 bytes spill stores, 0 bytes spill loads"),
                    "{name}: {line}"
                );
                kernels += 1;
            }
            let mut kernel = "";
            for line in compiled.log.lines() {
                kernel = line
                    .split("entry function '")
                    .nth(1)
                    .and_then(|l| l.split('\'').next())
                    .unwrap_or(kernel);
                let Some(said) = line.split("Used ").nth(1) else { continue };
                let used = said.split(' ').next().and_then(|n| n.parse::<usize>().ok());
                let one = ONE_BLOCK.contains(&kernel);
                of_one_block += usize::from(one);
                let threads = if one { THREADS_OF_ONE } else { THREADS };
                assert!(
                    used.is_some_and(|n| n * threads <= REGISTERS),
                    "{name}, {kernel} with {threads} threads: {line}"
                );
            }
        }
    }
    let declared: usize = SOURCES.iter().map(|s| s.text().matches("\nKERNEL ").count()).sum();
    assert_eq!(kernels, declared * ARCHITECTURES.len(), "the compiler has spoken of every kernel");
    // radix_scan is in two files.
    assert_eq!(
        of_one_block,
        (ONE_BLOCK.len() + 1) * ARCHITECTURES.len(),
        "and of those of one block by their names"
    );
}
