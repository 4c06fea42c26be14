//! Draws the convergence curves of `reference_logs/`: `cargo run --example curves
//! reference_logs/*.csv` writes an SVG and a PNG beside each table.

fn main() -> std::process::ExitCode {
    for table in std::env::args_os().skip(1) {
        if let Err(e) = dlrm_bench::report::curves::write(table.as_ref()) {
            eprintln!("error: {e}");
            return std::process::ExitCode::FAILURE;
        }
    }
    std::process::ExitCode::SUCCESS
}
