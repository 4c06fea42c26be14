//! Every kernel for GPUs, compiled by NVRTC for each generation: needs no GPU. Skips with a word where NVRTC is not found; the folder that
//! holds it may be named by `DLRM_BENCH_CUDA_LIB`.

use dlrm_bench::backend::cuda::{
    SOURCES,
    driver::nvrtc::{CompileError, compile, version},
};

/// Ampere, Hopper, Blackwell.
const ARCHITECTURES: [&str; 3] = ["sm_80", "sm_90", "sm_100"];

/// Registers of a multiprocessor, and threads of the largest block of these kernels but the scans.
const REGISTERS: usize = 65_536;
const THREADS: usize = 256;

#[test]
fn every_kernel_compiles_for_every_generation_without_spills() {
    if let Err(CompileError::Missing(missing)) = version() {
        eprintln!("skipped: {missing}");
        return;
    }
    let mut kernels = 0;
    for source in SOURCES {
        for architecture in ARCHITECTURES {
            let compiled = compile(source, architecture).unwrap_or_else(|e| panic!("{e}"));
            assert!(compiled.code.starts_with(b"\x7fELF"));
            let name = format!("{}.cu for {architecture}", source.name);
            for line in compiled.log.lines().filter(|l| l.contains("spill stores")) {
                assert!(line.contains("0 bytes spill stores, 0 bytes spill loads"), "{name}: {line}");
                kernels += 1;
            }
            for line in compiled.log.lines().filter(|l| l.contains("registers")) {
                let used = line.split("Used ").nth(1).and_then(|l| l.split(' ').next()).and_then(|n| n.parse::<usize>().ok());
                assert!(used.is_some_and(|n| n * THREADS <= REGISTERS), "{name}: {line}");
            }
        }
    }
    let declared: usize = SOURCES.iter().map(|s| s.text().matches("\nKERNEL ").count()).sum();
    assert_eq!(kernels, declared * ARCHITECTURES.len(), "the compiler has spoken of every kernel");
}
