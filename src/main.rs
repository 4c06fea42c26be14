//! `dlrm-bench`: parse, dispatch, exit code; nothing else.

fn main() -> std::process::ExitCode {
    dlrm_bench::cli::main()
}
